//! Whom a message is for, as shards ask it: labels are numbers, so that a shard compares four bytes and not text.

use crate::domain::{AppId, ClientId, Filter};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed};

/// A tag, or an attribute with its value, as shards know it: interned by the hub, unique over all apps, never reused while
/// the process lives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct LabelId(pub u32);

impl LabelId {
    /// On a device that has an attribute for which there was no number: younger than any translation, so that the device is
    /// always left to the store.
    pub const UNNUMBERED: LabelId = LabelId(u32::MAX);
}

/// A condition over labels. Bounded as the condition that it was made from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Labelled {
    /// Fits every connection.
    Everyone,
    /// Fits who has one of these.
    Has {
        /// Sorted; none = nobody.
        labels: Box<[LabelId]>,
        /// Who has this one may fit; only the store knows.
        perhaps: Option<LabelId>,
    },
    /// It does not fit.
    Not(Box<Labelled>),
    /// Every one fits.
    All(Box<[Labelled]>),
    /// At least one fits.
    Any(Box<[Labelled]>),
}

impl Labelled {
    /// Who has one of these.
    #[must_use]
    pub fn has(mut labels: Vec<LabelId>) -> Labelled {
        labels.sort_unstable();
        labels.dedup();
        Labelled::Has { labels: labels.into(), perhaps: None }
    }

    /// Whether it fits who has these, sorted; `None`: only the store knows.
    #[must_use]
    pub fn fits(&self, own: &[LabelId]) -> Option<bool> {
        match self {
            Labelled::Everyone => Some(true),
            Labelled::Has { labels, perhaps } => {
                let (few, many) =
                    if own.len() < labels.len() { (own, &labels[..]) } else { (&labels[..], own) };
                if few.iter().any(|label| many.binary_search(label).is_ok()) {
                    return Some(true);
                }
                let is_open = perhaps.is_some_and(|label| own.binary_search(&label).is_ok());
                (!is_open).then_some(false)
            }
            Labelled::Not(inner) => inner.fits(own).map(|fits| !fits),
            Labelled::All(all) => settled(all, own, false),
            Labelled::Any(any) => settled(any, own, true),
        }
    }
}

/// `settling` if one of them says so; `None` if one of the others does not know.
fn settled(parts: &[Labelled], own: &[LabelId], settling: bool) -> Option<bool> {
    let mut found = Some(!settling);
    for part in parts {
        match part.fits(own) {
            Some(fits) if fits == settling => return Some(settling),
            Some(_) => {}
            None => found = None,
        }
    }
    found
}

/// Whom of an app's connections a message is for.
#[derive(Clone, Debug)]
pub struct Reach {
    /// By their labels.
    pub condition: Labelled,
    /// The number after the last that was given when the condition was translated: who has this one or a later one is left to the store.
    pub labels_known: LabelId,
    /// By their shares; its own condition is what was translated.
    pub filter: Arc<Filter>,
}

/// Whether a message is for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meant {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// Only the store knows: the connection asks it.
    AskStore,
}

impl Reach {
    /// Every connection of the app.
    #[must_use]
    pub fn everyone() -> Reach {
        Reach {
            condition: Labelled::Everyone,
            labels_known: LabelId::UNNUMBERED,
            filter: Arc::new(Filter::default()),
        }
    }

    /// Whether every connection is meant, without a look at it.
    #[must_use]
    pub fn is_everyone(&self) -> bool {
        self.condition == Labelled::Everyone && self.filter.is_its_cover()
    }

    /// Whether labels, sorted, say enough of who has them.
    #[must_use]
    pub fn knows(&self, own: &[LabelId]) -> bool {
        self.condition == Labelled::Everyone || own.last().is_none_or(|newest| *newest < self.labels_known)
    }

    /// Whether a connection with these labels, sorted, is meant.
    #[must_use]
    pub fn judge(&self, client: ClientId, own: &[LabelId]) -> Meant {
        if !self.filter.shares(client) {
            return Meant::No;
        }
        match self.condition.fits(own).filter(|_| self.knows(own)) {
            Some(true) => Meant::Yes,
            Some(false) => Meant::No,
            None => Meant::AskStore,
        }
    }
}

/// How many connections a condition fits, asked of all shards. Each adds what it has; the last one tells.
#[derive(Debug)]
pub struct Headcount {
    /// The app.
    pub app: AppId,
    /// Whom it is asked of; shares are not looked at.
    pub reach: Reach,
    fitting: AtomicU64,
    members: AtomicU64,
    shards_left: AtomicU32,
    counted: tokio::sync::Notify,
}

impl Headcount {
    /// A question to so many shards.
    #[must_use]
    pub fn new(app: AppId, reach: Reach, shards: u32) -> Headcount {
        Headcount {
            app,
            reach,
            fitting: AtomicU64::new(0),
            members: AtomicU64::new(0),
            shards_left: AtomicU32::new(shards),
            counted: tokio::sync::Notify::new(),
        }
    }

    /// A shard has so many connections that fit, of so many of the app. True: it was the last one.
    pub fn add(&self, fitting: u64, members: u64) -> bool {
        self.fitting.fetch_add(fitting, Relaxed);
        self.members.fetch_add(members, Relaxed);
        self.shards_left.fetch_sub(1, AcqRel) == 1
    }

    /// Wakes who waits; not for shards, as it may wait for a lock.
    pub(in crate::delivery) fn tell(&self) {
        self.counted.notify_one();
    }

    /// Connections that fit, and all of the app, when every shard has said so. Can be cancelled.
    pub(in crate::delivery) async fn counts(&self) -> (u64, u64) {
        while self.shards_left.load(Acquire) > 0 {
            self.counted.notified().await;
        }
        (self.fitting.load(Relaxed), self.members.load(Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(labels: &[u32]) -> Labelled {
        Labelled::has(labels.iter().map(|label| LabelId(*label)).collect())
    }

    #[test]
    fn what_is_not_known_is_left_to_the_store_only_where_it_matters() {
        let open = || Labelled::Has { labels: Box::new([LabelId(1)]), perhaps: Some(LabelId(5)) };
        let own = [LabelId(2), LabelId(5)];
        assert_eq!(open().fits(&own), None);
        assert_eq!(open().fits(&[LabelId(1), LabelId(5)]), Some(true));
        assert_eq!(Labelled::Not(Box::new(open())).fits(&own), None);
        assert_eq!(Labelled::All(Box::new([open(), has(&[3])])).fits(&own), Some(false));
        assert_eq!(Labelled::All(Box::new([open(), has(&[2])])).fits(&own), None);
        assert_eq!(Labelled::Any(Box::new([open(), has(&[2])])).fits(&own), Some(true));
        assert_eq!(Labelled::Any(Box::new([open(), has(&[3])])).fits(&own), None);
        assert_eq!(has(&[]).fits(&own), Some(false));
    }

    #[test]
    fn who_has_a_label_younger_than_the_translation_is_left_to_the_store() {
        let reach = Reach { condition: has(&[1]), labels_known: LabelId(7), ..Reach::everyone() };
        let judge = |own: &[u32]| {
            let own: Vec<LabelId> = own.iter().map(|label| LabelId(*label)).collect();
            reach.judge(ClientId(1), &own)
        };
        assert_eq!(judge(&[1, 6]), Meant::Yes);
        assert_eq!(judge(&[]), Meant::No);
        assert_eq!(judge(&[1, 7]), Meant::AskStore);
        let unnumbered = [LabelId::UNNUMBERED];
        assert_eq!(reach.judge(ClientId(1), &unnumbered), Meant::AskStore);
        assert_eq!(Reach::everyone().judge(ClientId(1), &unnumbered), Meant::Yes);
    }
}
