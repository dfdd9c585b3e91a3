//! Bodies of messages, each stored once, and how many bytes each app has of them: a row that changes in the batch that puts a body
//! or takes it, so that a crash leaves both or neither. Every body goes by [`gone`].

use super::turn::Turn;
use crate::domain::{AppId, Kind, MessageId};
use crate::store::messages::engine::Fault;
use crate::store::messages::layout::keys;
use crate::store::messages::layout::rows;
use crate::store::messages::layout::space::{Keyspaces, Space};
use crate::store::port::{Accept, StoreError};
use parking_lot::RwLock;
use std::collections::HashMap;

/// Bytes by app as the last batch left them, and how many each may have.
#[derive(Default)]
pub(crate) struct Stored {
    used: RwLock<HashMap<AppId, u64>>,
    most: RwLock<Most>,
}

/// 0: without a limit.
#[derive(Default)]
struct Most {
    of_any: u64,
    of: HashMap<AppId, u64>,
}

impl Stored {
    /// Reads the rows. A store from before there were any is counted, body by body.
    pub(crate) fn load(spaces: &Keyspaces) -> Result<Stored, Fault> {
        let mut used = HashMap::new();
        for entry in spaces.of(Space::Books).iter() {
            let (key, value) = entry.into_inner()?;
            if let Some(app) = keys::read_stored_bytes(&key) {
                used.insert(app, rows::decode_count(&value).ok_or_else(|| Fault::damaged(Space::Books))?);
            }
        }
        if used.is_empty() {
            used = count(spaces)?;
        }
        Ok(Stored { used: RwLock::new(used), most: RwLock::default() })
    }

    /// Bytes of an app.
    pub(crate) fn of(&self, app: AppId) -> u64 {
        self.used.read().get(&app).copied().unwrap_or(0)
    }

    /// What every app may have of which nothing else is said.
    pub(crate) fn limit_any(&self, most: u64) {
        self.most.write().of_any = most;
    }

    /// What an app may have; `None`: as every app.
    pub(crate) fn limit(&self, app: AppId, most: Option<u64>) {
        let mut all = self.most.write();
        match most {
            Some(most) => all.of.insert(app, most),
            None => all.of.remove(&app),
        };
    }

    fn most(&self, app: AppId) -> u64 {
        let most = self.most.read();
        most.of.get(&app).copied().unwrap_or(most.of_any)
    }
}

/// The bytes of all bodies that lie there.
fn count(spaces: &Keyspaces) -> Result<HashMap<AppId, u64>, Fault> {
    let mut used = HashMap::new();
    for entry in spaces.of(Space::Bodies).iter() {
        let (key, body) = entry.into_inner()?;
        if keys::read_message(&key).is_none() {
            continue;
        }
        let Some(row) = spaces.of(Space::Messages).get(&key)? else { continue };
        let record = rows::decode_record(&row).ok_or_else(|| Fault::damaged(Space::Messages))?;
        *used.entry(record.app).or_default() += body.len() as u64;
    }
    Ok(used)
}

/// Writes the rows of a store that was counted when it opened. False: they are there.
pub(crate) fn adopt(turn: &mut Turn<'_>) -> Result<bool, Fault> {
    let used: Vec<_> = turn.engine.stored.used.read().iter().map(|(app, bytes)| (*app, *bytes)).collect();
    let Some((first, _)) = used.first() else { return Ok(false) };
    if turn.get(Space::Books, &keys::stored_bytes(*first))?.is_some() {
        return Ok(false);
    }
    for (app, bytes) in used {
        set(turn, app, bytes);
    }
    Ok(true)
}

/// What speaks against one body more. A recall takes room away, so it always has some.
pub(crate) fn judge(turn: &Turn<'_>, accept: &Accept) -> Result<Result<(), StoreError>, Fault> {
    let most = turn.engine.stored.most(accept.app);
    if most == 0 || accept.kind == Kind::Recall {
        return Ok(Ok(()));
    }
    let used = of(turn, accept.app)?;
    if used.saturating_add(accept.shared.len() as u64) > most {
        return Ok(Err(StoreError::AppQuota { used, most }));
    }
    Ok(Ok(()))
}

/// A message is accepted.
pub(crate) fn put(turn: &mut Turn<'_>, app: AppId, message: MessageId, body: &[u8]) -> Result<(), Fault> {
    let bytes = of(turn, app)?.saturating_add(body.len() as u64);
    turn.put(Space::Bodies, keys::message(message), body);
    set(turn, app, bytes);
    Ok(())
}

/// Nobody needs a message's body any more. It may have gone before.
pub(crate) fn gone(turn: &mut Turn<'_>, app: AppId, message: MessageId) -> Result<(), Fault> {
    let key = keys::message(message);
    let Some(body) = turn.get(Space::Bodies, &key)? else { return Ok(()) };
    let bytes = of(turn, app)?.saturating_sub(body.len() as u64);
    turn.remove(Space::Bodies, key);
    set(turn, app, bytes);
    Ok(())
}

fn of(turn: &Turn<'_>, app: AppId) -> Result<u64, Fault> {
    match turn.get(Space::Books, &keys::stored_bytes(app))? {
        Some(row) => rows::decode_count(&row).ok_or_else(|| Fault::damaged(Space::Books)),
        None => Ok(0),
    }
}

fn set(turn: &mut Turn<'_>, app: AppId, bytes: u64) {
    turn.put(Space::Books, keys::stored_bytes(app), bytes.to_be_bytes());
    // A batch that fails ends the taking of messages, so what it left here misleads nobody.
    turn.engine.stored.used.write().insert(app, bytes);
}
