//! Sessions and retained messages from a snapshot.

use super::rows::{self, SessionRow};
use crate::domain::{AppId, ClientId};
use crate::store::messages::engine::{Engine, Fault};
use crate::store::messages::layout::keys;
use crate::store::messages::layout::space::Space;
use crate::store::messages::read::lookup::row;
use crate::store::sessions::{KeptSession, Retained, SessionView, UNRELEASED_MAX};
use fjall::{Readable, Snapshot};
use std::ops::Bound;

/// The sessions of devices.
pub(crate) fn of(engine: &Engine, clients: &[ClientId]) -> Result<Vec<Option<SessionView>>, Fault> {
    let snapshot = engine.database.snapshot();
    clients.iter().map(|client| session(engine, &snapshot, *client)).collect()
}

fn session(engine: &Engine, snapshot: &Snapshot, client: ClientId) -> Result<Option<SessionView>, Fault> {
    let found = row(engine, snapshot, Space::Sessions, &keys::client(client), SessionRow::decode)?;
    let Some(found) = found else { return Ok(None) };
    let session = whole(engine, snapshot, client, found)?;
    let mut unreleased = Vec::new();
    let range = keys::unreleased(client, 0)..=keys::unreleased(client, u16::MAX);
    for entry in snapshot.range(engine.spaces.of(Space::Unreleased), range).take(UNRELEASED_MAX) {
        let key = entry.key()?;
        let number = key.last_chunk::<2>().ok_or_else(|| Fault::damaged(Space::Unreleased))?;
        unreleased.push(u16::from_be_bytes(*number));
    }
    Ok(Some(SessionView { session, unreleased }))
}

fn whole(
    engine: &Engine,
    snapshot: &Snapshot,
    client: ClientId,
    found: SessionRow,
) -> Result<KeptSession, Fault> {
    let wishes = row(engine, snapshot, Space::Wishes, &keys::client(client), rows::decode_wishes)?;
    let SessionRow { app, expiry_s, ended_at, sent, will } = found;
    let wishes = wishes.unwrap_or_default();
    Ok(KeptSession { client, app, expiry_s, ended_at, sent, will, wishes })
}

/// The sessions after a device, in order.
pub(crate) fn sessions(
    engine: &Engine,
    after: Option<ClientId>,
    max: usize,
) -> Result<Vec<KeptSession>, Fault> {
    let snapshot = engine.database.snapshot();
    let from = after.map_or(Bound::Unbounded, |client| Bound::Excluded(keys::client(client).to_vec()));
    let mut found = Vec::new();
    let range = (from, Bound::<Vec<u8>>::Unbounded);
    for entry in snapshot.range(engine.spaces.of(Space::Sessions), range) {
        if found.len() >= max {
            break;
        }
        let (key, value) = entry.into_inner()?;
        // The space's mark is no session.
        let Some(client) = keys::read_client(&key) else { continue };
        let row = SessionRow::decode(&value).ok_or_else(|| Fault::damaged(Space::Sessions))?;
        found.push(whole(engine, &snapshot, client, row)?);
    }
    Ok(found)
}

/// The retained messages after one, in order.
pub(crate) fn retained(
    engine: &Engine,
    after: Option<&(AppId, Box<str>)>,
    max: usize,
) -> Result<Vec<Retained>, Fault> {
    let snapshot = engine.database.snapshot();
    let from = after.map_or(Bound::Unbounded, |(app, topic)| Bound::Excluded(keys::name(*app, topic)));
    let mut found = Vec::new();
    let range = (from, Bound::<Vec<u8>>::Unbounded);
    for entry in snapshot.range(engine.spaces.of(Space::Retained), range) {
        if found.len() >= max {
            break;
        }
        let (key, value) = entry.into_inner()?;
        let Some((app, topic)) = keys::read_retained(&key) else { continue };
        let one = rows::decode_retained(app, topic, &value);
        found.push(one.ok_or_else(|| Fault::damaged(Space::Retained))?);
    }
    Ok(found)
}
