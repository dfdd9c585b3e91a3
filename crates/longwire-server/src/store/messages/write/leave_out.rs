//! Ends of deliveries that the device does not have: what it did not get is left out, and it is told.

use super::accept::Indexes;
use super::ends::{Ended, Ending, end};
use super::settle::{reference, remove_reference};
use super::turn::Turn;
use crate::domain::{AppId, ClientId, Filter, Position};
use crate::planted::{Fault as Planted, planted};
use crate::store::messages::engine::Fault;
use crate::store::messages::layout::keys;
use crate::store::messages::layout::rows::{Reference, State};
use crate::store::messages::layout::space::Space;
use crate::store::messages::stats::StoreStats;

/// Markers that a mailbox keeps. Beyond it the oldest become one gap without ids (reason retention).
const MARKERS_MAX: u32 = 1000;

/// Ends a delivery of a mailbox if it has no end, and leaves the marker of its end in its place. False: it has one.
pub(crate) fn leave_out(
    turn: &mut Turn<'_>,
    ending: Ending,
    position: Position,
    stats: &StoreStats,
) -> Result<bool, Fault> {
    let client = ending.client;
    let Some(mut row) = reference(turn, client, position)? else { return Ok(false) };
    if row.message != ending.message || row.state != State::Waiting || is_kept(ending.ended.marker()) {
        return Ok(false);
    }
    if !(planted(Planted::RecallsUncounted) && ending.ended == Ended::Recalled) {
        end(turn, ending, stats)?;
    }
    row.state = ending.ended.marker();
    turn.put(Space::Mailbox, keys::mailbox(client, position), row.encode());
    let device = turn.device(client)?;
    device.waiting = device.waiting.saturating_sub(1);
    device.waiting_bytes = device.waiting_bytes.saturating_sub(u64::from(row.bytes));
    device.markers += 1;
    if device.markers > MARKERS_MAX {
        drop_oldest_marker(turn, client)?;
    }
    Ok(true)
}

/// Marks a place of a log in its indexes, so that whoever has not settled it is told, and ends it by taking note.
pub(crate) fn mark_place(
    turn: &mut Turn<'_>,
    app: AppId,
    position: Position,
    filter: &Filter,
    state: State,
) -> Result<(), Fault> {
    for tag in Indexes::of(filter).names() {
        let key = keys::index(app, tag.as_bytes(), position);
        let Some(row) = turn.get(Space::Index, &key)? else { continue };
        let mut entry = Reference::decode(&row).ok_or_else(|| Fault::damaged(Space::Index))?;
        if entry.state == State::Waiting && !is_kept(state) {
            entry.state = state;
            turn.put(Space::Index, key, entry.encode());
        }
    }
    Ok(())
}

/// A planted fault sends it all the same.
pub(crate) fn is_kept(state: State) -> bool {
    (planted(Planted::SendsReplaced) && state == State::Collapsed)
        || (planted(Planted::SendsRecalled) && state == State::Recalled)
}

/// The first marker of a mailbox goes; usually it is the first row after the floor.
fn drop_oldest_marker(turn: &mut Turn<'_>, client: ClientId) -> Result<(), Fault> {
    let incarnation = turn.engine.incarnation;
    let row = turn.device(client)?;
    let range = keys::mailbox(client, row.floor.next())..=keys::mailbox(client, row.last(incarnation));
    // What the turn changed is seen through `reference`. A place that it added is not met: of those at most as many as a batch
    // has stay beyond the bound.
    for entry in turn.engine.spaces.of(Space::Mailbox).range(range) {
        let position = keys::last_position(&entry.key()?).ok_or_else(|| Fault::damaged(Space::Mailbox))?;
        match reference(turn, client, position)? {
            Some(row) if !matches!(row.state, State::Waiting | State::Released) => {
                return take_marker(turn, client, position);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Takes a marker that the device has not noted, and remembers that it has a hole to be told of.
pub(crate) fn take_marker(turn: &mut Turn<'_>, client: ClientId, position: Position) -> Result<(), Fault> {
    let Some(row) = reference(turn, client, position)? else { return Ok(()) };
    let device = turn.device(client)?;
    if device.swept == Position::START {
        device.swept_from = device.floor;
    }
    device.swept = device.swept.max(position);
    remove_reference(turn, client, position, &row)
}
