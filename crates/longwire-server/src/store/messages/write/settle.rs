//! Recording the end of a delivery, exactly once.
//!
//! A mailbox delivery has a row until it is settled, so a second end finds nothing. A log delivery has none: it is
//! settled when its position is at or below the device's cursor, or in its list `beyond`. The cursor moves to a settled
//! position when no index of the device's tags (as they are now) holds an unsettled entry before it.

use super::ends::{Ended, Ending, end, end_sent};
use super::turn::Turn;
use crate::domain::{AppId, ClientId, Position, Tag};
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
        let ended = Ended::of(settle.end);
        let Settle { app, client, message, source, .. } = *settle;
        end_sent(turn, Ending { app, client, message, source, ended }, settle.sent, stats)?;
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
    if reference.high {
        turn.remove(Space::Urgent, keys::high_in_mailbox(client, position));
    }
    let row = turn.device(client)?;
    row.high = row.high.saturating_sub(u32::from(reference.high));
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

/// Takes a reference out because its session, or its device, is over: what had no end ends so.
pub(crate) fn drop_reference(
    turn: &mut Turn<'_>,
    app: AppId,
    (client, position): (ClientId, Position),
    reference: &Reference,
    ended: Ended,
    stats: &StoreStats,
) -> Result<(), Fault> {
    if reference.state == State::Waiting {
        let (message, source) = (reference.message, Source::Mailbox);
        end(turn, Ending { app, client, message, source, ended }, stats)?;
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
    let unsettled = first_unsettled(turn, settle, cursor, &settled)?;
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
    let ended = Ended::of(settle.end);
    let Settle { app, client, message, source, .. } = *settle;
    end_sent(turn, Ending { app, client, message, source, ended }, settle.sent, stats).map(drop)
}

/// The first entry after the cursor that is for this device and not settled. What is for others only is stepped over.
fn first_unsettled(
    turn: &mut Turn<'_>,
    settle: &Settle,
    cursor: Position,
    settled: &[Position],
) -> Result<Option<Position>, Fault> {
    // The very next position needs no look when nothing else is settled beyond it.
    if let [only] = settled
        && *only == cursor.next()
    {
        return Ok(None);
    }
    let traits = turn.traits(settle.client)?;
    let mut first: Option<Position> = None;
    // Looking for what is unsettled reads filters through the turn, so the tails are taken out meanwhile.
    let (mut tails, engine) = (std::mem::take(&mut turn.memory.tails), turn.engine);
    let mut look = || {
        for tag in std::iter::once("").chain(traits.tags.iter().map(Tag::as_str)) {
            let mut wanted = |position: Position, filtered: bool| {
                let open =
                    settled.binary_search(&position).is_err() && first.is_none_or(|first| position < first);
                Ok(open && (!filtered || turn.is_meant(settle.app, position, settle.client, &traits)?))
            };
            let found = tails.first_after(engine, settle.app, tag, cursor, &mut wanted)?;
            first = match (first, found) {
                (Some(first), Some(found)) => Some(first.min(found)),
                (first, found) => first.or(found),
            };
        }
        Ok(())
    };
    let looked = look();
    turn.memory.tails = tails;
    looked.map(|()| first)
}
