//! Storing what devices send, taking what the business has, and what time ends.
//!
//! Dedup costs one read: an id that is remembered has a row of its own. A ring of places per device says which id goes when
//! the next one comes, and both are in the batch that stores the message, so none is remembered that is not there.

use super::rows::{self, AppRow, Stored};
use crate::domain::{AppId, ClientId, Position, WallMs};
use crate::store::messages::engine::{Engine, Fault};
use crate::store::messages::layout::keys;
use crate::store::messages::layout::space::Space;
use crate::store::messages::stats::{StoreStats, add};
use crate::store::messages::write::turn::Turn;
use crate::store::upstream::{UPSTREAM_IDS_REMEMBERED, Upstream, UpstreamOutcome, UpstreamWaiting};
use std::sync::atomic::Ordering;

/// Messages that one turn takes away; the rest waits for the next.
const GOING_PER_TURN: usize = 1000;
/// How often the oldest messages are compared with retention, milliseconds of the wall clock.
const LOOK_EVERY_MS: u64 = 1000;

/// Adds a message to the turn, unless it is there already or may not be.
pub(crate) fn store(
    turn: &mut Turn<'_>,
    message: &Upstream,
    room: bool,
    stats: &StoreStats,
) -> Result<UpstreamOutcome, Fault> {
    if turn.get(Space::UpstreamIds, &rows::id(message.client, message.client_message))?.is_some() {
        add(&stats.upstream_repeated, 1);
        return Ok(UpstreamOutcome::Repeated);
    }
    if !room {
        add(&stats.upstream_refused, 1);
        return Ok(UpstreamOutcome::StorageFull);
    }
    let mut row = app_row(turn, message.app)?;
    let cost = rows::cost(&message.kind, &message.payload);
    if !row.fits(cost) {
        add(&stats.upstream_refused, 1);
        return Ok(UpstreamOutcome::AppFull);
    }
    // A store that was restored has a younger incarnation than its rows.
    let position = row.last.max(Position::new(turn.engine.incarnation, 0)).next();
    row.last = position;
    row.waiting.messages += 1;
    row.waiting.bytes += cost;
    turn.put(Space::Upstream, keys::log(message.app, position), rows::encode(message));
    turn.put(Space::UpstreamApps, keys::app(message.app), row.encode());
    remember(turn, message.client, message.client_message)?;
    add(&stats.upstream_stored, 1);
    add(&stats.upstream_waiting, 1);
    add(&stats.upstream_waiting_bytes, cost);
    Ok(UpstreamOutcome::Stored(position))
}

fn app_row(turn: &Turn<'_>, app: AppId) -> Result<AppRow, Fault> {
    match turn.get(Space::UpstreamApps, &keys::app(app))? {
        Some(row) => AppRow::decode(&row).ok_or_else(|| Fault::damaged(Space::UpstreamApps)),
        None => Ok(AppRow::new(turn.engine.incarnation)),
    }
}

fn remember(turn: &mut Turn<'_>, client: ClientId, client_message: u64) -> Result<(), Fault> {
    let number =
        |row: &[u8]| row.try_into().map(u64::from_be_bytes).map_err(|_| Fault::damaged(Space::UpstreamIds));
    let count = match turn.get(Space::UpstreamIds, &rows::id_count(client))? {
        Some(row) => number(&row)?,
        None => 0,
    };
    let place = rows::id_place(client, count % UPSTREAM_IDS_REMEMBERED);
    if let Some(oldest) = turn.get(Space::UpstreamIds, &place)? {
        turn.remove(Space::UpstreamIds, rows::id(client, number(&oldest)?));
    }
    turn.put(Space::UpstreamIds, place, client_message.to_be_bytes());
    turn.put(Space::UpstreamIds, rows::id(client, client_message), []);
    turn.put(Space::UpstreamIds, rows::id_count(client), (count + 1).to_be_bytes());
    Ok(())
}

/// Notes that the business has everything up to `cursor`, and takes away the first of it; the rest goes with the next
/// turns. `None`: no message has this place yet.
pub(crate) fn take(
    turn: &mut Turn<'_>,
    app: AppId,
    cursor: Position,
    stats: &StoreStats,
) -> Result<Option<UpstreamWaiting>, Fault> {
    let mut row = app_row(turn, app)?;
    if cursor > row.last {
        return Ok(None);
    }
    if cursor > row.taken {
        row.taken = cursor;
        let mut budget = GOING_PER_TURN;
        if let_go(turn, app, &mut row, WallMs(0), &mut budget, stats)? {
            turn.memory.upstream_look_at = 0;
        }
        turn.put(Space::UpstreamApps, keys::app(app), row.encode());
    }
    Ok(Some(row.waiting))
}

/// Adds to the turn what has been taken, and what is older than retention. True: more is due.
pub(crate) fn sweep(
    turn: &mut Turn<'_>,
    now: WallMs,
    retention_ms: u64,
    stats: &StoreStats,
) -> Result<bool, Fault> {
    if now.0 < turn.memory.upstream_look_at {
        return Ok(false);
    }
    turn.memory.upstream_look_at = now.0.saturating_add(LOOK_EVERY_MS);
    let oldest = WallMs(now.0.saturating_sub(retention_ms));
    let mut budget = GOING_PER_TURN;
    for entry in turn.engine.spaces.of(Space::UpstreamApps).iter() {
        let Some(app) = rows::app_of(&entry.key()?) else { continue };
        let before = app_row(turn, app)?;
        let mut row = before;
        let more = let_go(turn, app, &mut row, oldest, &mut budget, stats)?;
        if row != before {
            turn.put(Space::UpstreamApps, keys::app(app), row.encode());
        }
        if more {
            turn.memory.upstream_look_at = 0;
            return Ok(true);
        }
    }
    Ok(false)
}

/// Takes away, from the front, what was taken or accepted before `oldest`. True: the budget ended it.
fn let_go(
    turn: &mut Turn<'_>,
    app: AppId,
    row: &mut AppRow,
    oldest: WallMs,
    budget: &mut usize,
    stats: &StoreStats,
) -> Result<bool, Fault> {
    if row.waiting.messages == 0 {
        return Ok(false);
    }
    let range = keys::log(app, row.gone.next())..=keys::log(app, row.last);
    // This reads the state before the turn: what the turn added is younger, what it took away is skipped.
    for entry in turn.engine.spaces.of(Space::Upstream).range(range) {
        let key = entry.key()?;
        let position = keys::last_position(&key).ok_or_else(|| Fault::damaged(Space::Upstream))?;
        let Some(value) = turn.get(Space::Upstream, &key)? else { continue };
        let stored = Stored::decode(&value).ok_or_else(|| Fault::damaged(Space::Upstream))?;
        let untaken = position > row.taken;
        if untaken && stored.accepted_at >= oldest {
            return Ok(false);
        }
        if *budget == 0 {
            return Ok(true);
        }
        *budget -= 1;
        let cost = rows::cost(stored.kind, stored.payload);
        turn.remove(Space::Upstream, key.to_vec());
        row.gone = position;
        row.taken = row.taken.max(position);
        row.waiting.messages = row.waiting.messages.saturating_sub(1);
        row.waiting.bytes = row.waiting.bytes.saturating_sub(cost);
        stats.upstream_waiting.fetch_sub(1, Ordering::Relaxed);
        stats.upstream_waiting_bytes.fetch_sub(cost, Ordering::Relaxed);
        add(if untaken { &stats.upstream_expired } else { &stats.upstream_taken }, 1);
    }
    Ok(false)
}

/// Sets the gauges when the store has just opened.
pub(crate) fn count(engine: &Engine, stats: &StoreStats) -> Result<(), Fault> {
    let mut waiting = UpstreamWaiting::default();
    for entry in engine.spaces.of(Space::UpstreamApps).iter() {
        let (key, value) = entry.into_inner()?;
        if rows::app_of(&key).is_some() {
            let row = AppRow::decode(&value).ok_or_else(|| Fault::damaged(Space::UpstreamApps))?;
            waiting.messages += row.waiting.messages;
            waiting.bytes += row.waiting.bytes;
        }
    }
    stats.upstream_waiting.store(waiting.messages, Ordering::Relaxed);
    stats.upstream_waiting_bytes.store(waiting.bytes, Ordering::Relaxed);
    Ok(())
}
