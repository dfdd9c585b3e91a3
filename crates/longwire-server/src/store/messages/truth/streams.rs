//! Events in order, at most [`STREAM_EVENTS_MAX`] of an app and none older than [`STREAM_KEEP_MS`]: what comes beyond drops
//! the oldest.

use super::rows::{self, StreamRow};
use crate::domain::{AppId, Position, ReceiptMode, WallMs};
use crate::store::messages::engine::Fault;
use crate::store::messages::layout::keys;
use crate::store::messages::layout::space::Space;
use crate::store::messages::stats::{StoreStats, add};
use crate::store::messages::write::turn::Turn;
use crate::store::truth::{STREAM_EVENTS_MAX, STREAM_KEEP_MS, Stream, StreamTerms};

/// Events that one turn drops for their age; the rest waits for the next.
const GOING_PER_TURN: usize = 1000;
/// How often the oldest events are compared with the time that they are kept, milliseconds of the wall clock.
const LOOK_EVERY_MS: u64 = 1000;

/// Where a stream's events are.
pub(crate) const fn space(stream: Stream) -> Space {
    match stream {
        Stream::Receipts => Space::Receipts,
        Stream::Presence => Space::Presence,
    }
}

pub(crate) fn row(turn: &Turn<'_>, app: AppId, stream: Stream) -> Result<StreamRow, Fault> {
    match turn.get(Space::Streams, &rows::stream(app, stream))? {
        Some(row) => StreamRow::decode(&row).ok_or_else(|| Fault::damaged(Space::Streams)),
        None => Ok(StreamRow::new(turn.engine.incarnation)),
    }
}

fn put(turn: &mut Turn<'_>, app: AppId, stream: Stream, row: &StreamRow) {
    turn.put(Space::Streams, rows::stream(app, stream), row.encode());
}

/// What an app's streams take, from memory after the first look.
pub(crate) fn terms(turn: &mut Turn<'_>, app: AppId) -> Result<(ReceiptMode, Option<u64>), Fault> {
    if let Some(terms) = turn.memory.truth.terms.get(&app) {
        return Ok(*terms);
    }
    let mode = row(turn, app, Stream::Receipts)?.mode;
    let presence = row(turn, app, Stream::Presence)?;
    let terms = (mode, presence.on.then_some(presence.era));
    turn.memory.truth.terms.insert(app, terms);
    Ok(terms)
}

/// What an app's streams take from now on. The sessions that were noted are over when the app begins anew, or begins to have
/// them noted.
pub(crate) fn set_terms(
    turn: &mut Turn<'_>,
    app: AppId,
    terms: StreamTerms,
    begins: bool,
) -> Result<(), Fault> {
    let mut receipts = row(turn, app, Stream::Receipts)?;
    if receipts.mode != terms.receipts {
        receipts.mode = terms.receipts;
        put(turn, app, Stream::Receipts, &receipts);
    }
    let mut presence = row(turn, app, Stream::Presence)?;
    let before = presence;
    if terms.presence && (begins || !presence.on) {
        presence.era += 1;
    }
    presence.on = terms.presence;
    if presence != before {
        put(turn, app, Stream::Presence, &presence);
    }
    turn.memory.truth.terms.remove(&app);
    Ok(())
}

/// Notes where a reader stands.
pub(crate) fn set_cursor(
    turn: &mut Turn<'_>,
    app: AppId,
    stream: Stream,
    reader: &str,
    cursor: Option<Position>,
) {
    let key = rows::cursor(app, stream, reader);
    match cursor {
        Some(cursor) => turn.put(Space::Streams, key, cursor.0.to_be_bytes()),
        None => turn.remove(Space::Streams, key),
    }
}

/// Adds an event.
pub(crate) fn append(
    turn: &mut Turn<'_>,
    app: AppId,
    stream: Stream,
    event: Vec<u8>,
    stats: &StoreStats,
) -> Result<(), Fault> {
    let mut row = row(turn, app, stream)?;
    // A store that was restored has a younger incarnation than its rows.
    let position = row.last.max(Position::new(turn.engine.incarnation, 0)).next();
    row.last = position;
    row.events += 1;
    turn.put(space(stream), keys::log(app, position), event);
    add(&stats.stream_events[stream as usize], 1);
    if row.events > STREAM_EVENTS_MAX {
        let mut budget = 1;
        drop_oldest(turn, app, stream, &mut row, &mut budget, |_| true, stats)?;
    }
    put(turn, app, stream, &row);
    turn.memory.truth.risen.insert((app, stream), position);
    Ok(())
}

/// Drops events from the front while they are `due`. True: the budget ended it.
fn drop_oldest(
    turn: &mut Turn<'_>,
    app: AppId,
    stream: Stream,
    row: &mut StreamRow,
    budget: &mut usize,
    due: impl Fn(WallMs) -> bool,
    stats: &StoreStats,
) -> Result<bool, Fault> {
    let space = space(stream);
    while row.events > 0 {
        let next = keys::log(app, row.gone.next());
        // Places follow each other, but for a restored store: then the engine is asked, which sees what was there before.
        let position = match turn.get(space, &next)? {
            Some(_) => row.gone.next(),
            None => {
                let range = next..=keys::log(app, row.last);
                let first = turn.engine.spaces.of(space).range(range).next();
                match first.map(|entry| entry.key()).transpose()? {
                    Some(key) => keys::last_position(&key).ok_or_else(|| Fault::damaged(space))?,
                    None => return Ok(false),
                }
            }
        };
        let key = keys::log(app, position);
        let Some(event) = turn.get(space, &key)? else { return Ok(false) };
        if !due(rows::event_time(&event).ok_or_else(|| Fault::damaged(space))?) {
            return Ok(false);
        }
        if *budget == 0 {
            return Ok(true);
        }
        *budget -= 1;
        turn.remove(space, key);
        row.gone = position;
        row.events -= 1;
        row.dropped += 1;
        add(&stats.stream_dropped[stream as usize], 1);
    }
    Ok(false)
}

/// Adds to the turn what is older than streams keep. True: more is due.
pub(crate) fn sweep(turn: &mut Turn<'_>, now: WallMs, stats: &StoreStats) -> Result<bool, Fault> {
    if now.0 < turn.memory.truth.look_at {
        return Ok(false);
    }
    turn.memory.truth.look_at = now.0.saturating_add(LOOK_EVERY_MS);
    let oldest = WallMs(now.0.saturating_sub(STREAM_KEEP_MS));
    let mut budget = GOING_PER_TURN;
    for entry in turn.engine.spaces.of(Space::Streams).prefix(rows::STREAMS) {
        let Some((app, stream)) = rows::read_stream(&entry.key()?) else { continue };
        let before = row(turn, app, stream)?;
        let mut row = before;
        let more = drop_oldest(turn, app, stream, &mut row, &mut budget, |at| at < oldest, stats)?;
        if row != before {
            put(turn, app, stream, &row);
        }
        if more {
            turn.memory.truth.look_at = 0;
            return Ok(true);
        }
    }
    Ok(false)
}
