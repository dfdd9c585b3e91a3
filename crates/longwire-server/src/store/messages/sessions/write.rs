//! Keeping sessions and ending them.

use super::rows::{self, SessionRow};
use crate::domain::{AppId, ClientId, DropReason, MessageId, Position};
use crate::store::messages::engine::{Engine, Fault};
use crate::store::messages::layout::keys;
use crate::store::messages::layout::rows::{Reference, decode_record};
use crate::store::messages::layout::space::Space;
use crate::store::messages::stats::{StoreStats, add};
use crate::store::messages::upstream::write::store;
use crate::store::messages::write::ends::Ended;
use crate::store::messages::write::settle::{drop_reference, reference, settle};
use crate::store::messages::write::turn::Turn;
use crate::store::sessions::Change;
use crate::store::upstream::{Upstream, UpstreamOutcome};
use std::sync::atomic::Ordering::Relaxed;

/// Adds a change to the turn.
pub(crate) fn apply(turn: &mut Turn<'_>, change: &Change, stats: &StoreStats) -> Result<(), Fault> {
    match change {
        Change::Keep { client, app, expiry_s, ended_at, sent, will } => {
            let key = keys::client(*client);
            if turn.get(Space::Sessions, &key)?.is_none() {
                add(&stats.sessions, 1);
            }
            let (app, will) = (*app, will.clone());
            let row = SessionRow { app, expiry_s: *expiry_s, ended_at: *ended_at, sent: *sent, will };
            turn.put(Space::Sessions, key, row.encode());
        }
        Change::Wishes(client, wishes) => {
            let key = keys::client(*client);
            if turn.get(Space::Sessions, &key)?.is_some() {
                turn.put(Space::Wishes, key, rows::encode_wishes(wishes));
            }
        }
        Change::End(client) => end(turn, *client, stats)?,
        Change::Receive(client, packet_id) => receive(turn, *client, *packet_id),
        Change::Release(client, packet_id) => {
            turn.remove(Space::Unreleased, keys::unreleased(*client, *packet_id));
        }
        Change::Retain(retained) => {
            let key = keys::name(retained.app, &retained.topic);
            if turn.get(Space::Retained, &key)?.is_none() {
                add(&stats.retained, 1);
            }
            turn.put(Space::Retained, key, rows::encode_retained(retained));
        }
        Change::Clear(app, topic) => {
            let key = keys::name(*app, topic);
            if turn.get(Space::Retained, &key)?.is_some() {
                stats.retained.fetch_sub(1, Relaxed);
                turn.remove(Space::Retained, key);
            }
        }
        Change::Settle(ended) => settle(turn, ended, stats)?,
    }
    Ok(())
}

/// Whether an identifier awaits its release.
pub(crate) fn is_received(turn: &Turn<'_>, client: ClientId, packet_id: u16) -> Result<bool, Fault> {
    Ok(turn.get(Space::Unreleased, &keys::unreleased(client, packet_id))?.is_some())
}

/// Remembers an identifier until its release.
pub(crate) fn receive(turn: &mut Turn<'_>, client: ClientId, packet_id: u16) {
    turn.put(Space::Unreleased, keys::unreleased(client, packet_id), []);
}

/// Stores a message for the business that came with an identifier of QoS 2, unless that awaits its release.
pub(crate) fn upstream(
    turn: &mut Turn<'_>,
    message: &Upstream,
    received: Option<(ClientId, u16)>,
    room: bool,
    stats: &StoreStats,
) -> Result<UpstreamOutcome, Fault> {
    let Some((client, packet_id)) = received else { return store(turn, message, room, stats) };
    if is_received(turn, client, packet_id)? {
        add(&stats.upstream_repeated, 1);
        return Ok(UpstreamOutcome::Repeated);
    }
    let outcome = store(turn, message, room, stats)?;
    if matches!(outcome, UpstreamOutcome::Stored(_) | UpstreamOutcome::Repeated) {
        receive(turn, client, packet_id);
    }
    Ok(outcome)
}

/// What belongs to the session goes: topic messages of its mailbox too, which has at most
/// [`MAILBOX_MESSAGES_MAX`](crate::store::port::MAILBOX_MESSAGES_MAX) references and as many markers.
fn end(turn: &mut Turn<'_>, client: ClientId, stats: &StoreStats) -> Result<(), Fault> {
    let key = keys::client(client);
    if turn.get(Space::Sessions, &key)?.is_some() {
        stats.sessions.fetch_sub(1, Relaxed);
        turn.remove(Space::Sessions, key);
        turn.remove(Space::Wishes, key);
    }
    for key in with_prefix(turn, Space::Unreleased, client)? {
        turn.remove(Space::Unreleased, key);
    }
    let ended = Ended::Dropped(DropReason::SessionEnded);
    for (position, row) in mailbox_rows(turn, client)? {
        if row.topic
            && let Some(app) = app_of(turn, row.message)?
        {
            drop_reference(turn, app, (client, position), &row, ended, stats)?;
        }
    }
    Ok(())
}

/// What lies in a mailbox, rising.
pub(crate) fn mailbox_rows(
    turn: &mut Turn<'_>,
    client: ClientId,
) -> Result<Vec<(Position, Reference)>, Fault> {
    let mut rows = Vec::new();
    for key in with_prefix(turn, Space::Mailbox, client)? {
        let position = keys::last_position(&key).ok_or_else(|| Fault::damaged(Space::Mailbox))?;
        if let Some(row) = reference(turn, client, position)? {
            rows.push((position, row));
        }
    }
    Ok(rows)
}

/// The app of a message; `None` past its retention.
fn app_of(turn: &Turn<'_>, message: MessageId) -> Result<Option<AppId>, Fault> {
    let Some(row) = turn.get(Space::Messages, &keys::message(message))? else { return Ok(None) };
    let record = decode_record(&row).ok_or_else(|| Fault::damaged(Space::Messages))?;
    Ok(Some(record.app))
}

/// The keys of a device, rising: those that are stored and those that this turn adds.
fn with_prefix(turn: &mut Turn<'_>, space: Space, client: ClientId) -> Result<Vec<Vec<u8>>, Fault> {
    let prefix = keys::client(client);
    let mut keys = turn.added(space, &prefix);
    // A mailbox has no row up to its floor; what was there once would only be stepped over.
    let from = match space {
        Space::Mailbox => keys::mailbox(client, turn.device(client)?.floor).to_vec(),
        _ => prefix.to_vec(),
    };
    let until = [&prefix[..], &Position(u64::MAX).0.to_be_bytes()].concat();
    for entry in turn.engine.spaces.of(space).range(from..=until) {
        keys.push(entry.key()?.to_vec());
    }
    keys.sort_unstable();
    keys.dedup();
    Ok(keys)
}

/// Sets the gauges when the store has just opened.
pub(crate) fn count(engine: &Engine, stats: &StoreStats) -> Result<(), Fault> {
    let counted = |space, is_one: fn(&[u8]) -> bool| {
        let mut count = 0;
        for entry in engine.spaces.of(space).iter() {
            count += u64::from(is_one(&entry.key()?));
        }
        Ok::<_, Fault>(count)
    };
    let sessions = counted(Space::Sessions, |key| keys::read_client(key).is_some())?;
    stats.sessions.store(sessions, Relaxed);
    let retained = counted(Space::Retained, |key| keys::read_retained(key).is_some())?;
    stats.retained.store(retained, Relaxed);
    Ok(())
}
