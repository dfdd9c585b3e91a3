//! What time ends: deliveries at the deadline, and what is left of a message when its retention is over. Bounded work per
//! turn, in the order of the calendar.

use super::accept::Indexes;
use super::bodies;
use super::collapse;
use super::ends::{self, Ended, Ending};
use super::leave_out::{leave_out, take_marker};
use super::once;
use super::settle::{reference, remove_reference};
use super::turn::Turn;
use crate::domain::{AppId, Kind, MessageId, MessageRecord, Position, Priority, WallMs};
use crate::store::messages::engine::Fault;
use crate::store::messages::layout::filters;
use crate::store::messages::layout::keys::{self, Stage};
use crate::store::messages::layout::rows::{self, State};
use crate::store::messages::layout::space::Space;
use crate::store::messages::pace::spreads;
use crate::store::messages::stats::StoreStats;
use crate::store::messages::truth::stories;
use crate::store::pace::Phase;
use longwire_proto::id::Source;

/// Deliveries and places that one turn looks at; a message is never split, so the last one may add its targets (≤ 1000) or slices
/// (≤ 4096).
const DELIVERIES_PER_TURN: usize = 2048;

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
        if matches!(stage, Stage::Stories | Stage::Last) {
            let budget = DELIVERIES_PER_TURN - seen;
            if stories::forget(turn, message, budget)? {
                turn.memory.calendar_from = at;
                return Ok(true);
            }
            turn.remove(Space::Expiry, key.to_vec());
            if stage == Stage::Last
                && let Some(row) = turn.get(Space::Messages, &keys::message(message))?
            {
                let record = rows::decode_record(&row).ok_or_else(|| Fault::damaged(Space::Messages))?;
                ends::forget(turn, record.app, message)?;
                turn.remove(Space::Messages, keys::message(message));
            }
            seen += 1;
            continue;
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
                let story_ms = turn.memory.truth.story_ms;
                if (1..retention_ms).contains(&story_ms) {
                    turn.schedule(at.saturating_add(story_ms), Stage::Stories, message);
                }
            }
            Stage::Forget => {
                seen += forget(turn, message, &record)?;
                forget_record(turn, message, &record, at)?;
            }
            // Taken above.
            Stage::Key | Stage::Stories | Stage::Last => {}
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
        let (app, client, source, ended) = (record.app, target.client, Source::Mailbox, Ended::Expired);
        leave_out(turn, Ending { app, client, message, source, ended }, target.position, stats)?;
    }
    if record.targets.is_empty() {
        spreads::stop(turn, message, Phase::Expired)?;
    }
    if record.priority == Priority::High && record.log_position != Position::START {
        turn.remove(Space::Urgent, keys::high_in_log(record.app, record.log_position));
    }
    bodies::gone(turn, record.app, message)?;
    Ok(())
}

/// The end of retention: markers, and the places in log and indexes go; how many places.
fn forget(turn: &mut Turn<'_>, message: MessageId, record: &MessageRecord) -> Result<usize, Fault> {
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
    collapse::forget(turn, message, record)?;
    let places = spreads::places(turn, message, record)?;
    if record.targets.is_empty() {
        spreads::forget(turn, message, &places);
    }
    for &position in &places {
        let key = keys::log(record.app, position);
        if let Some(row) = turn.get(Space::Log, &key)? {
            let filter = filters::decode(&row).ok_or_else(|| Fault::damaged(Space::Log))?;
            for tag in Indexes::of(&filter).names() {
                turn.remove(Space::Index, keys::index(record.app, tag.as_bytes(), position));
                turn.memory.tails.remove(record.app, tag, position);
                raise_floor(turn, record.app, position, tag)?;
            }
            turn.remove(Space::Log, key);
        }
    }
    bodies::gone(turn, record.app, message)?;
    Ok(places.len())
}

/// Record and counts go too, or with the last of the stories.
fn forget_record(
    turn: &mut Turn<'_>,
    message: MessageId,
    record: &MessageRecord,
    at: u64,
) -> Result<(), Fault> {
    let story_ms = turn.memory.truth.story_ms;
    let last = record.deadline.0.saturating_add(story_ms);
    if record.kind != Kind::Topic && story_ms > 0 && last > at {
        turn.schedule(last, Stage::Last, message);
        return Ok(());
    }
    ends::forget(turn, record.app, message)?;
    turn.remove(Space::Messages, keys::message(message));
    // Left from when stories were kept longer.
    if stories::any(turn, message)? {
        turn.schedule(at, Stage::Stories, message);
    }
    Ok(())
}

/// Notes that an index lost its entry, so that a device that never read that far is told.
fn raise_floor(turn: &mut Turn<'_>, app: AppId, position: Position, tag: &str) -> Result<(), Fault> {
    let key = keys::floor(app, tag.as_bytes());
    let before = match turn.get(Space::Floors, &key)? {
        Some(row) => rows::decode_position(&row).ok_or_else(|| Fault::damaged(Space::Floors))?,
        None => Position::START,
    };
    if position > before {
        turn.put(Space::Floors, key, position.0.to_be_bytes());
    }
    Ok(())
}
