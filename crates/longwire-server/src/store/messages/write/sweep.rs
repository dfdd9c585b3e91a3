//! What time ends: deliveries at the deadline, and what is left of a message when its retention is over. Bounded work per
//! turn, in the order of the calendar.

use super::accept::Indexes;
use super::ends::{Ended, Ending, end};
use super::once;
use super::settle::{reference, remove_reference};
use super::turn::Turn;
use crate::domain::{AppId, ClientId, MessageId, MessageRecord, Position, WallMs};
use crate::store::messages::engine::Fault;
use crate::store::messages::layout::filters;
use crate::store::messages::layout::keys::{self, Stage};
use crate::store::messages::layout::rows::{self, State};
use crate::store::messages::layout::space::Space;
use crate::store::messages::stats::StoreStats;
use longwire_proto::id::Source;

/// Deliveries that one turn looks at; a message is never split, so the last one may add its targets (≤ 1000).
const DELIVERIES_PER_TURN: usize = 2048;
/// Expired markers that a mailbox keeps. Beyond it the oldest become one gap without ids (reason retention).
const MARKERS_MAX: u32 = 1000;

/// Adds what is due at `now` to the turn. True: more is due.
pub(crate) fn sweep(
    turn: &mut Turn<'_>,
    now: WallMs,
    retention_ms: u64,
    stats: &StoreStats,
) -> Result<bool, Fault> {
    let mut seen = 0;
    let until = keys::expiry(now.0.saturating_add(1), Stage::Expire, MessageId(0));
    // The iterator reads the state before this turn; what the turn adds is due later or found by the next one.
    let memory = &mut turn.memory;
    memory.calendar_from = memory.calendar_from.min(std::mem::replace(&mut memory.scheduled_from, u64::MAX));
    let from = keys::expiry(memory.calendar_from, Stage::Expire, MessageId(0));
    if from >= until {
        return Ok(false);
    }
    let due = turn.engine.spaces.of(Space::Expiry).range(from..until);
    for entry in due {
        let (key, value) = entry.into_inner()?;
        let (at, stage, message) = keys::read_expiry(&key).ok_or_else(|| Fault::damaged(Space::Expiry))?;
        if seen >= DELIVERIES_PER_TURN {
            turn.memory.calendar_from = at;
            return Ok(true);
        }
        turn.remove(Space::Expiry, key.to_vec());
        if stage == Stage::Key {
            seen += 1;
            let app = value.as_ref().try_into().map_err(|_| Fault::damaged(Space::Expiry))?;
            once::forget(turn, AppId(u32::from_be_bytes(app)), message.0.to_be_bytes(), at)?;
            continue;
        }
        let Some(row) = turn.get(Space::Messages, &keys::message(message))? else { continue };
        let record = rows::decode_record(&row).ok_or_else(|| Fault::damaged(Space::Messages))?;
        seen += 1 + record.targets.len();
        match stage {
            Stage::Expire => {
                expire(turn, message, &record, stats)?;
                turn.schedule(at.saturating_add(retention_ms), Stage::Forget, message);
            }
            Stage::Forget => forget(turn, message, &record)?,
            Stage::Key => {}
        }
    }
    turn.memory.calendar_from = now.0.saturating_add(1);
    Ok(false)
}

/// The deadline: unsettled mailbox deliveries end as expired and leave a marker; the body goes.
fn expire(
    turn: &mut Turn<'_>,
    message: MessageId,
    record: &MessageRecord,
    stats: &StoreStats,
) -> Result<(), Fault> {
    for target in &record.targets {
        let Some(mut row) = reference(turn, target.client, target.position)? else { continue };
        if row.message != message || row.state != State::Waiting {
            continue;
        }
        let ended = Ended::Expired;
        let (app, client, source) = (record.app, target.client, Source::Mailbox);
        end(turn, Ending { app, client, message, source, ended }, stats)?;
        row.state = ended.marker();
        turn.put(Space::Mailbox, keys::mailbox(target.client, target.position), row.encode());
        let device = turn.device(target.client)?;
        device.waiting = device.waiting.saturating_sub(1);
        device.waiting_bytes = device.waiting_bytes.saturating_sub(u64::from(row.bytes));
        device.markers += 1;
        if device.markers > MARKERS_MAX {
            drop_oldest_marker(turn, target.client)?;
        }
    }
    turn.remove(Space::Bodies, keys::message(message));
    Ok(())
}

/// The first marker of a mailbox goes; usually it is the first row after the floor.
fn drop_oldest_marker(turn: &mut Turn<'_>, client: ClientId) -> Result<(), Fault> {
    let incarnation = turn.engine.incarnation;
    let row = turn.device(client)?;
    let range = keys::mailbox(client, row.floor.next())..=keys::mailbox(client, row.last(incarnation));
    // What the turn changed is seen through `reference`; it added no place that was not there before.
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
fn take_marker(turn: &mut Turn<'_>, client: ClientId, position: Position) -> Result<(), Fault> {
    let Some(row) = reference(turn, client, position)? else { return Ok(()) };
    let device = turn.device(client)?;
    if device.swept == Position::START {
        device.swept_from = device.floor;
    }
    device.swept = device.swept.max(position);
    remove_reference(turn, client, position, &row)
}

/// The end of retention: record, counts, markers, and the places in log and indexes go.
fn forget(turn: &mut Turn<'_>, message: MessageId, record: &MessageRecord) -> Result<(), Fault> {
    for target in &record.targets {
        match reference(turn, target.client, target.position)? {
            // The device has it, so there is no hole to be told of.
            Some(row) if row.message == message && row.state == State::Released => {
                remove_reference(turn, target.client, target.position, &row)?;
            }
            Some(row) if row.message == message => take_marker(turn, target.client, target.position)?,
            _ => {}
        }
    }
    let position = record.log_position;
    if position != Position::START {
        let key = keys::log(record.app, position);
        if let Some(row) = turn.get(Space::Log, &key)? {
            let filter = filters::decode(&row).ok_or_else(|| Fault::damaged(Space::Log))?;
            for tag in Indexes::of(&filter).names() {
                turn.remove(Space::Index, keys::index(record.app, tag.as_bytes(), position));
                turn.memory.tails.remove(record.app, tag, position);
                raise_floor(turn, record, tag)?;
            }
            turn.remove(Space::Log, key);
        }
    }
    turn.forget_counts(message);
    turn.remove(Space::Messages, keys::message(message));
    turn.remove(Space::Bodies, keys::message(message));
    Ok(())
}

/// Notes that an index lost its entry, so that a device that never read that far is told.
fn raise_floor(turn: &mut Turn<'_>, record: &MessageRecord, tag: &str) -> Result<(), Fault> {
    let key = keys::floor(record.app, tag.as_bytes());
    let before = match turn.get(Space::Floors, &key)? {
        Some(row) => rows::decode_position(&row).ok_or_else(|| Fault::damaged(Space::Floors))?,
        None => Position::START,
    };
    if record.log_position > before {
        turn.put(Space::Floors, key, record.log_position.0.to_be_bytes());
    }
    Ok(())
}
