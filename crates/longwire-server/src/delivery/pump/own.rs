//! What devices change of themselves, where their app lets them: judged by the pump, which waits for nothing, and made by a task
//! of its own, several in one transaction.

use super::super::border::Command;
use super::super::border::own::{OwnAnswer, OwnChange, OwnOutcome, OwnTopic, OwnWanted};
use super::super::hub::Core;
use super::super::memory::senders::Senders;
use crate::domain::device_change::{apart, attribute_names, attributes, tags};
use crate::domain::{Alias, AliasChange, AppId, ChangeRefused, DeviceChange, DeviceName, Invalid};
use crate::store::port::StoreError;
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::mpsc;

/// Changes of one shard that may wait, at most 8 KiB each; beyond it the answer is `busy`.
pub(super) const WAITING_MAX: usize = 1024;
/// Changes made in one transaction. While it commits, the next ones gather.
const TOGETHER: usize = 128;
/// One change of a device costs this long, milliseconds: two a second.
const CHANGE_MS: u64 = 500;
/// How far a device may be ahead, milliseconds: a burst of 20.
const AHEAD_MS_MAX: u64 = 20 * CHANGE_MS;

/// Judges what comes.
pub(super) struct OwnDesk {
    core: Arc<Core>,
    senders: Senders,
    waiting: mpsc::Sender<OwnChange>,
}

impl OwnDesk {
    pub(super) fn new(core: Arc<Core>, waiting: mpsc::Sender<OwnChange>) -> OwnDesk {
        OwnDesk { core, senders: Senders::with(CHANGE_MS, AHEAD_MS_MAX), waiting }
    }

    /// Queues a change, or answers why not. Never waits.
    pub(super) fn take(&mut self, asked: OwnChange) {
        let (to, request, client) = (asked.from.handle, asked.request, asked.from.client);
        let admitted = self.senders.admit(client, (self.core.clock)());
        if admitted && self.waiting.try_send(asked).is_ok() {
            return;
        }
        let answer = OwnAnswer { to, request, outcome: OwnOutcome::Busy };
        self.core.stats.own_answered(answer.outcome);
        if !self.core.posts.offer(to.shard(), Command::Own(answer)) {
            self.core.stats.own_unanswered.fetch_add(1, Relaxed);
        }
    }
}

/// Runs until the pump has ended and every change is answered.
pub(super) async fn run(core: Arc<Core>, mut waiting: mpsc::Receiver<OwnChange>) {
    let mut batch = Vec::with_capacity(TOGETHER);
    while waiting.recv_many(&mut batch, TOGETHER).await > 0 {
        let asked = std::mem::replace(&mut batch, Vec::with_capacity(TOGETHER));
        let answers: Vec<_> = asked.iter().map(|one| (one.from.handle, one.request)).collect();
        let count = asked.len();
        let outcomes = outcomes(&core, asked).await.unwrap_or_else(|error| {
            tracing::warn!(%error, count, "changes that devices asked for were not made");
            vec![OwnOutcome::Busy; count]
        });
        for ((to, request), outcome) in answers.into_iter().zip(outcomes) {
            core.stats.own_answered(outcome);
            core.posts.send(to.shard(), Command::Own(OwnAnswer { to, request, outcome })).await;
        }
    }
}

/// One for each, in order.
async fn outcomes(core: &Core, asked: Vec<OwnChange>) -> Result<Vec<OwnOutcome>, StoreError> {
    let apps: HashSet<AppId> = asked.iter().map(|one| one.from.app).collect();
    let allowing = core.self_service(&apps);
    let clients = asked.iter().map(|one| one.from.client).collect();
    let views = core.store.logins(clients).await?;
    let mut outcomes = Vec::with_capacity(asked.len());
    let (mut changes, mut places): (Vec<(AppId, DeviceName, DeviceChange)>, Vec<usize>) = Default::default();
    for (at, (one, view)) in asked.into_iter().zip(views).enumerate() {
        let change = match one.wanted {
            _ if !allowing.contains(&one.from.app) => Err(OwnOutcome::NotAllowed),
            OwnWanted::Change(change) => change.map_err(|_| OwnOutcome::Invalid),
            OwnWanted::Json(topic, json) => read(topic, &json).map_err(|_| OwnOutcome::Invalid),
        };
        match (change, view) {
            (Ok(change), Some(view)) => {
                places.push(at);
                changes.push((one.from.app, view.device.name, change));
                outcomes.push(OwnOutcome::Done);
            }
            (Err(outcome), _) => outcomes.push(outcome),
            // It was removed; its connection is about to be closed.
            (Ok(_), None) => outcomes.push(OwnOutcome::NotAllowed),
        }
    }
    if changes.is_empty() {
        return Ok(outcomes);
    }
    for (at, changed) in places.into_iter().zip(core.change_all(changes).await?) {
        outcomes[at] = match changed {
            Ok(_) => OwnOutcome::Done,
            Err(ChangeRefused::TooManyTags(_) | ChangeRefused::TooManyAttributes(_)) => OwnOutcome::Quota,
            Err(ChangeRefused::Unknown) => OwnOutcome::NotAllowed,
        };
    }
    Ok(outcomes)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TagsJson {
    #[serde(default)]
    add: Vec<String>,
    #[serde(default)]
    remove: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AliasJson {
    alias: serde_json::Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AttributesJson {
    #[serde(default)]
    set: BTreeMap<String, String>,
    #[serde(default)]
    remove: Vec<String>,
}

fn read(topic: OwnTopic, json: &[u8]) -> Result<DeviceChange, Invalid> {
    let bad = |error: serde_json::Error| Invalid::new("body", error.to_string());
    // A list of the fields in their order would be read as well, and nobody means it.
    let json = serde_json::from_slice::<serde_json::Map<_, _>>(json).map(serde_json::Value::Object);
    let json = json.map_err(bad)?;
    let nothing = DeviceChange::default;
    Ok(match topic {
        OwnTopic::Tags => {
            let TagsJson { add, remove } = serde_json::from_value(json).map_err(bad)?;
            let (tags_add, tags_remove) = (tags("add", &add)?, tags("remove", &remove)?);
            apart("add", &tags_add, &tags_remove)?;
            DeviceChange { tags_add, tags_remove, ..nothing() }
        }
        OwnTopic::Alias => {
            let alias = match serde_json::from_value::<AliasJson>(json).map_err(bad)?.alias {
                serde_json::Value::Null => AliasChange::Clear,
                serde_json::Value::String(alias) => AliasChange::Bind(Alias::parse("alias", &alias)?),
                _ => return Err(Invalid::new("alias", "must be a text or null")),
            };
            DeviceChange { alias, ..nothing() }
        }
        OwnTopic::Attributes => {
            let AttributesJson { set, remove } = serde_json::from_value(json).map_err(bad)?;
            let attributes_set = attributes("set", &set)?;
            let attributes_remove = attribute_names("remove", &remove)?;
            let names: Vec<_> = attributes_set.iter().map(|(name, _)| name.clone()).collect();
            apart("set", &names, &attributes_remove)?;
            DeviceChange { attributes_set, attributes_remove, ..nothing() }
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_not_the_documented_json_is_refused() {
        for (topic, bad) in [
            (OwnTopic::Tags, &b"{"[..]),
            (OwnTopic::Tags, b"[]"),
            (OwnTopic::Tags, br#"{"set":["a"]}"#),
            (OwnTopic::Tags, br#"{"add":["a/b"]}"#),
            (OwnTopic::Tags, br#"{"add":["a"],"remove":["a"]}"#),
            (OwnTopic::Tags, br#"{"add":[7]}"#),
            (OwnTopic::Alias, br"{}"),
            (OwnTopic::Alias, br#"{"alias":7}"#),
            (OwnTopic::Alias, br#"{"alias":""}"#),
            (OwnTopic::Attributes, br#"{"set":{"1a":"b"}}"#),
            (OwnTopic::Attributes, br#"{"set":{"a":1}}"#),
            (OwnTopic::Attributes, br#"{"set":{"a":"b"},"remove":["a"]}"#),
            (OwnTopic::Attributes, b"\xff"),
        ] {
            assert!(read(topic, bad).is_err(), "{topic:?} {}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn what_is_documented_is_read() {
        let change = read(OwnTopic::Tags, br#"{"add":["b","a"],"remove":["c"]}"#).unwrap();
        assert_eq!((change.tags_add.len(), change.tags_remove.len()), (2, 1));
        assert_eq!(read(OwnTopic::Alias, br#"{"alias":null}"#).unwrap().alias, AliasChange::Clear);
        assert!(matches!(read(OwnTopic::Alias, br#"{"alias":"ann"}"#).unwrap().alias, AliasChange::Bind(_)));
        let change = read(OwnTopic::Attributes, br#"{"set":{"v":"1"},"remove":["w"]}"#).unwrap();
        assert_eq!((change.attributes_set.len(), change.attributes_remove.len()), (1, 1));
    }
}
