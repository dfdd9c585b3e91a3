//! Recording the end of a delivery, exactly once.
//!
//! A mailbox delivery has a row until it is settled, so a second end finds nothing. A log delivery has none: it is
//! settled when its position is at or below the device's cursor, or in its list `beyond`. The cursor moves to a settled
//! position when no index of the device's tags (as they are now) holds an unsettled entry before it.

use super::turn::Turn;
use crate::domain::{ClientId, Counts, MessageId, Position, Tag};
use crate::store::messages::engine::Fault;
use crate::store::messages::layout::keys;
use crate::store::messages::layout::rows::{BEYOND_MAX, Reference, State};
use crate::store::messages::layout::space::Space;
use crate::store::messages::stats::{StoreStats, add};
use crate::store::port::{End, Settle};
use longwire_proto::id::Source;

/// Adds an end to the turn.
pub(crate) fn settle(turn: &mut Turn<'_>, settle: &Settle, stats: &StoreStats) -> Result<(), Fault> {
    match settle.source {
        Source::Mailbox => settle_mailbox(turn, settle, stats),
        Source::AppLog => settle_log(turn, settle, stats),
    }
}

fn settle_mailbox(turn: &mut Turn<'_>, settle: &Settle, stats: &StoreStats) -> Result<(), Fault> {
    let Some(reference) = reference(turn, settle.client, settle.position)? else { return Ok(()) };
    if reference.message != settle.message {
        return Ok(());
    }
    if reference.state == State::Waiting {
        count_end(turn, settle.message, settle.end, stats)?;
    }
    if settle.end == End::Received {
        return release(turn, settle, reference);
    }
    remove_reference(turn, settle.client, settle.position, &reference)?;
    let row = turn.device(settle.client)?;
    // The device has seen a position after what retention took, so it knows of the hole.
    if row.swept != Position::START && settle.position > row.swept {
        row.swept = Position::START;
        row.swept_from = Position::START;
    }
    Ok(())
}

/// Leaves a marker in place of a reference: the device has the message, PUBREL may leave.
fn release(turn: &mut Turn<'_>, settle: &Settle, mut reference: Reference) -> Result<(), Fault> {
    if reference.state == State::Waiting {
        let row = turn.device(settle.client)?;
        row.waiting = row.waiting.saturating_sub(1);
        row.waiting_bytes = row.waiting_bytes.saturating_sub(u64::from(reference.bytes));
        row.markers += 1;
    }
    reference.state = State::Released;
    turn.put(Space::Mailbox, keys::mailbox(settle.client, settle.position), reference.encode());
    Ok(())
}

/// A row of a mailbox.
pub(crate) fn reference(
    turn: &Turn<'_>,
    client: ClientId,
    position: Position,
) -> Result<Option<Reference>, Fault> {
    match turn.get(Space::Mailbox, &keys::mailbox(client, position))? {
        Some(row) => Reference::decode(&row).map(Some).ok_or_else(|| Fault::damaged(Space::Mailbox)),
        None => Ok(None),
    }
}

/// Takes a row out of a mailbox, and the device's floor up to the next row.
pub(crate) fn remove_reference(
    turn: &mut Turn<'_>,
    client: ClientId,
    position: Position,
    reference: &Reference,
) -> Result<(), Fault> {
    turn.remove(Space::Mailbox, keys::mailbox(client, position));
    let incarnation = turn.engine.incarnation;
    let row = turn.device(client)?;
    if reference.state != State::Waiting {
        row.markers = row.markers.saturating_sub(1);
    } else {
        row.waiting = row.waiting.saturating_sub(1);
        row.waiting_bytes = row.waiting_bytes.saturating_sub(u64::from(reference.bytes));
    }
    let last = row.last(incarnation);
    if row.waiting == 0 && row.markers == 0 {
        row.floor = last;
        return Ok(());
    }
    // In a mailbox that goes on in a restored store, the last place of the older incarnation is not known: its floor stays
    // until it is empty.
    if position != row.floor.next() || position.incarnation() != last.incarnation() {
        return Ok(());
    }
    let mut floor = position;
    while floor < last && turn.get(Space::Mailbox, &keys::mailbox(client, floor.next()))?.is_none() {
        floor = floor.next();
    }
    turn.device(client)?.floor = floor;
    Ok(())
}

/// Raises the count of an end of an addressed message; the body goes with the last one.
fn count_end(turn: &mut Turn<'_>, message: MessageId, end: End, stats: &StoreStats) -> Result<(), Fault> {
    let Some(counts) = turn.counts(message)? else { return Ok(()) };
    count(counts, end, stats);
    if counts.pending() == 0 {
        turn.remove(Space::Bodies, keys::message(message));
    }
    Ok(())
}

fn count(counts: &mut Counts, end: End, stats: &StoreStats) {
    match end {
        End::Delivered | End::Received => {
            counts.delivered += 1;
            add(&stats.settled, 1);
        }
        End::TooLarge => {
            counts.dropped += 1;
            add(&stats.dropped_too_large, 1);
        }
        End::GapNoted => {
            counts.expired += 1;
            add(&stats.expired, 1);
        }
    }
}

/// Takes a reference out because its session is over: what had no end is dropped.
pub(crate) fn drop_reference(
    turn: &mut Turn<'_>,
    client: ClientId,
    position: Position,
    reference: &Reference,
    stats: &StoreStats,
) -> Result<(), Fault> {
    if reference.state == State::Waiting
        && let Some(counts) = turn.counts(reference.message)?
    {
        counts.dropped += 1;
        add(&stats.dropped_with_session, 1);
        if counts.pending() == 0 {
            turn.remove(Space::Bodies, keys::message(reference.message));
        }
    }
    remove_reference(turn, client, position, reference)
}

fn settle_log(turn: &mut Turn<'_>, settle: &Settle, stats: &StoreStats) -> Result<(), Fault> {
    let position = settle.position;
    let head = turn.head(settle.app)?;
    let row = turn.device(settle.client)?;
    let Some(cursor) = row.cursor else { return Ok(()) };
    if position <= cursor || position > head || row.beyond.binary_search(&position).is_ok() {
        return Ok(());
    }
    let mut settled = row.beyond.clone();
    let place = settled.partition_point(|&other| other < position);
    settled.insert(place, position);
    let tags = turn.tags(settle.client)?;
    let unsettled = first_unsettled(turn, settle, &tags, cursor, &settled)?;
    // Everything before the first unsettled entry is done, so the cursor is the last settled position below it.
    let done = settled.partition_point(|&other| unsettled.is_none_or(|first| other < first));
    let cursor = done.checked_sub(1).map_or(cursor, |last| settled[last]);
    settled.drain(..done);
    if settled.len() > BEYOND_MAX {
        add(&stats.settles_deferred, 1);
        return Ok(());
    }
    let row = turn.device(settle.client)?;
    row.cursor = Some(cursor);
    row.beyond = settled;
    // Retention may have taken the message and its counts meanwhile.
    let Some(counts) = turn.counts(settle.message)? else { return Ok(()) };
    counts.created += 1;
    count(counts, settle.end, stats);
    Ok(())
}

fn first_unsettled(
    turn: &mut Turn<'_>,
    settle: &Settle,
    tags: &[Tag],
    cursor: Position,
    settled: &[Position],
) -> Result<Option<Position>, Fault> {
    let mut first: Option<Position> = None;
    // The very next position needs no look when nothing else is settled beyond it.
    if let [only] = settled
        && *only == cursor.next()
    {
        return Ok(None);
    }
    for tag in std::iter::once("").chain(tags.iter().map(Tag::as_str)) {
        let found = turn.memory.tails.first_after(turn.engine, settle.app, tag, cursor, settled)?;
        first = match (first, found) {
            (Some(first), Some(found)) => Some(first.min(found)),
            (first, found) => first.or(found),
        };
    }
    Ok(first)
}
