//! Whom a push meets: devices that are looked up, or an estimate of those whom a filter fits.

use super::border::{Command, Headcount, ShardId};
use super::hub::{Core, PushError};
use crate::domain::audience::filter::PARTS;
use crate::domain::audience::{ADDRESSES_MAX, Estimate, MatchedBy, OnlineBy};
use crate::domain::{Alias, AppId, Audience, ClientId, Condition, Device, DeviceName, Filter, Tag};
use crate::store::port::{Destination, StoreError};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

/// How long an estimate may take; what is not known then is not told.
const ESTIMATE_WAIT: Duration = Duration::from_millis(20);
/// What a delivery to a connected device takes its shard, about, microseconds; of this the expected time of a message is made.
const DELIVERY_US: u64 = 15;

/// Devices of an addressed audience.
pub(super) struct Targets {
    pub(super) clients: Vec<ClientId>,
    /// Names and aliases that no device has.
    pub(super) unknown: u64,
}

/// An audience as far as it needs reading.
pub(super) enum Met {
    Addressed(Targets),
    Filtered(Arc<Filter>),
}

impl Met {
    /// Where a stored message for it goes.
    pub(super) fn destination(&self) -> Destination {
        match self {
            Met::Addressed(targets) => Destination::Mailboxes(targets.clients.clone()),
            Met::Filtered(filter) => Destination::Log(filter.clone()),
        }
    }
}

/// Between how many and how many devices a condition fits, by what is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Bounds {
    least: u64,
    most: u64,
}

impl Core {
    /// Reads whom an audience names; what goes to the log needs no reading.
    pub(super) async fn meet(&self, app: AppId, audience: &Audience) -> Result<Met, PushError> {
        let mut targets = match (&audience.names, &audience.aliases) {
            (None, None) => return Ok(Met::Filtered(Arc::new(audience.filter.clone()))),
            (Some(names), None) => {
                let found = self.store.resolve_names(app, names.clone()).await?;
                gather(found.iter().map(Option::as_slice))
            }
            (None, Some(aliases)) => {
                let found = self.store.resolve_aliases(app, aliases.clone()).await?;
                gather(found.iter().map(Vec::as_slice))
            }
            (Some(names), Some(aliases)) => self.named_and_aliased(app, names, aliases).await?,
        };
        if targets.clients.len() > ADDRESSES_MAX {
            return Err(PushError::TooManyTargets(targets.clients.len()));
        }
        if audience.filter != Filter::default() && !targets.clients.is_empty() {
            let profiles = self.store.profiles_of(targets.clients).await?;
            let fits =
                |device: &Device| audience.filter.fits(device.client, &device.tags, &device.attributes);
            targets.clients =
                profiles.iter().flatten().filter(|device| fits(device)).map(|device| device.client).collect();
        }
        if audience.online_only {
            targets.clients.retain(|client| self.sessions.is_online(*client));
        }
        if targets.clients.is_empty() { Err(PushError::NobodyMatches) } else { Ok(Met::Addressed(targets)) }
    }

    /// The devices of these names that have one of these aliases. An alias may have more devices than a push may address, so the
    /// names are asked for theirs.
    async fn named_and_aliased(
        &self,
        app: AppId,
        names: &[DeviceName],
        aliases: &[Alias],
    ) -> Result<Targets, StoreError> {
        let profiles = self.store.profiles(app, names.to_vec()).await?;
        let of_aliases = self.store.resolve_aliases(app, aliases.to_vec()).await?;
        let unknown = profiles.iter().filter(|profile| profile.is_none()).count()
            + of_aliases.iter().filter(|clients| clients.is_empty()).count();
        let aliases: HashSet<&Alias> = aliases.iter().collect();
        let meant = |device: &&Device| device.alias.as_ref().is_some_and(|alias| aliases.contains(alias));
        let clients: Vec<ClientId> =
            profiles.iter().flatten().filter(meant).map(|device| device.client).collect();
        Ok(Targets { unknown: unknown as u64, ..gather(std::iter::once(&clients[..])) })
    }

    /// How many devices are met, each looked up.
    pub(super) fn exactly(&self, targets: &Targets) -> Estimate {
        let online = targets.clients.iter().filter(|client| self.sessions.is_online(**client)).count() as u64;
        Estimate {
            matched: Some(targets.clients.len() as u64),
            matched_by: MatchedBy::Exact,
            unknown: targets.unknown,
            online: Some(online),
            online_by: OnlineBy::Sessions,
            eta_ms: Some(self.eta_ms(online)),
        }
    }

    /// How many devices a filter fits, about; takes at most [`ESTIMATE_WAIT`].
    pub(super) async fn estimate(&self, app: AppId, filter: &Arc<Filter>) -> Estimate {
        let (counted, online) = tokio::join!(
            tokio::time::timeout(ESTIMATE_WAIT, self.counted(app, &filter.condition)),
            tokio::time::timeout(ESTIMATE_WAIT, self.online(app, filter)),
        );
        let (bounds, devices) = counted.ok().and_then(Result::ok).unzip();
        let (online, members, online_by) = match online {
            Ok(Some((fitting, members, by))) => (Some(fitting), members, by),
            _ => (None, 0, OnlineBy::None),
        };
        let (matched, matched_by) = match (bounds, devices) {
            (Some(Bounds { least, most }), _) if least == most => (Some(most), MatchedBy::Counts),
            (Some(Bounds { least, most }), Some(devices)) if members > 0 => {
                let all = u128::from(devices) * u128::from(online.unwrap_or(0)) / u128::from(members);
                let all = u64::try_from(all).unwrap_or(u64::MAX);
                (Some(all.clamp(least, most)), MatchedBy::OnlineShare)
            }
            _ => (None, MatchedBy::None),
        };
        let share =
            |all: u64| (u128::from(all) * u128::from(filter.sample.min(PARTS)) / u128::from(PARTS)) as u64;
        let online = online.map(share);
        Estimate {
            matched: matched.map(share),
            matched_by,
            unknown: 0,
            online,
            online_by,
            eta_ms: online.map(|online| self.eta_ms(online)),
        }
    }

    /// Connections that a condition fits, and all of the app.
    async fn online(&self, app: AppId, filter: &Arc<Filter>) -> Option<(u64, u64, OnlineBy)> {
        if filter.condition == Condition::Everyone {
            let all = self.sessions.of_app(app);
            return Some((all, all, OnlineBy::Sessions));
        }
        let shards = self.posts.shards() as u32;
        let headcount = Arc::new(Headcount::new(app, self.labels.reach(app, filter.clone()), shards));
        for shard in 0..shards {
            // A shard whose queue is full has better things to do.
            if !self.posts.offer(ShardId(shard as u8), Command::Count(headcount.clone())) {
                return None;
            }
        }
        let (fitting, members) = headcount.counts().await;
        Some((fitting, members, OnlineBy::Bitmaps))
    }

    /// What the store's counts say of a condition, and how many devices the app has.
    async fn counted(&self, app: AppId, condition: &Condition) -> Result<(Bounds, u64), StoreError> {
        let mut tags = BTreeSet::new();
        tags_of(condition, &mut tags);
        let tags: Vec<Tag> = tags.into_iter().cloned().collect();
        let counts = self.store.tag_counts(app, tags.clone()).await?;
        let devices = self.store.device_count(app).await?;
        let counts: BTreeMap<&Tag, u64> = tags.iter().zip(counts).collect();
        Ok((bounds(condition, &counts, devices), devices))
    }

    /// Until the last of so many connected devices was served, about, if nothing else is under way.
    fn eta_ms(&self, online: u64) -> u64 {
        let each = online.div_ceil(self.posts.shards().max(1) as u64);
        (each * DELIVERY_US).div_ceil(1000)
    }
}

fn tags_of<'a>(condition: &'a Condition, into: &mut BTreeSet<&'a Tag>) {
    match condition {
        Condition::Everyone | Condition::Attribute(..) => {}
        Condition::Tag(tag) => drop(into.insert(tag)),
        Condition::Not(inner) => tags_of(inner, into),
        Condition::All(parts) | Condition::Any(parts) => {
            for part in parts {
                tags_of(part, into);
            }
        }
    }
}

/// However the tags overlap.
fn bounds(condition: &Condition, counts: &BTreeMap<&Tag, u64>, devices: u64) -> Bounds {
    match condition {
        Condition::Everyone => Bounds { least: devices, most: devices },
        Condition::Tag(tag) => {
            let count = counts.get(tag).copied().unwrap_or(0).min(devices);
            Bounds { least: count, most: count }
        }
        Condition::Attribute(..) => Bounds { least: 0, most: devices },
        Condition::Not(inner) => {
            let inner = bounds(inner, counts, devices);
            Bounds { least: devices - inner.most, most: devices - inner.least }
        }
        Condition::All(parts) => {
            let without = |all: Bounds, part: &Condition| {
                let part = bounds(part, counts, devices);
                Bounds {
                    least: (all.least + part.least).saturating_sub(devices),
                    most: all.most.min(part.most),
                }
            };
            parts.iter().fold(Bounds { least: devices, most: devices }, without)
        }
        Condition::Any(parts) => {
            let with = |any: Bounds, part: &Condition| {
                let part = bounds(part, counts, devices);
                Bounds { least: any.least.max(part.least), most: (any.most + part.most).min(devices) }
            };
            parts.iter().fold(Bounds { least: 0, most: 0 }, with)
        }
    }
}

/// Each device once, in the order of the addresses.
fn gather<'a>(found: impl Iterator<Item = &'a [ClientId]>) -> Targets {
    let mut targets = Targets { clients: Vec::new(), unknown: 0 };
    let mut seen = HashSet::new();
    for clients in found {
        targets.unknown += u64::from(clients.is_empty());
        targets.clients.extend(clients.iter().filter(|client| seen.insert(**client)));
    }
    targets
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn counts_bound_whatever_the_tags_have_in_common() {
        let [a, b, c] = ["a", "b", "c"].map(|text| Tag::parse("tag", text).unwrap());
        let counts = BTreeMap::from([(&a, 60), (&b, 50)]);
        let tag = |tag: &Tag| Condition::Tag(tag.clone());
        let not = |inner| Condition::Not(Box::new(inner));
        let bounds = |condition: Condition| {
            let Bounds { least, most } = super::bounds(&condition, &counts, 100);
            (least, most)
        };
        assert_eq!(bounds(Condition::Everyone), (100, 100));
        assert_eq!(bounds(not(tag(&a))), (40, 40));
        assert_eq!(bounds(tag(&c)), (0, 0));
        assert_eq!(bounds(Condition::All(vec![tag(&a), tag(&b)])), (10, 50));
        assert_eq!(bounds(Condition::Any(vec![tag(&a), tag(&b)])), (60, 100));
        assert_eq!(bounds(Condition::Any(vec![tag(&a), tag(&c)])), (60, 60));
        assert_eq!(bounds(Condition::All(vec![tag(&a), not(tag(&b))])), (10, 50));
        assert_eq!(bounds(Condition::All(Vec::new())), (100, 100));
        assert_eq!(bounds(Condition::Any(Vec::new())), (0, 0));
    }
}
