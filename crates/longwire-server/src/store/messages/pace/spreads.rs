//! Messages in slices: one body, one record, and a place in the log for each slice. All places of a message are found from it.

use super::rows::{self, Of};
use crate::domain::audience::Slice;
use crate::domain::audience::filter::PARTS;
use crate::domain::{Filter, MessageId, MessageRecord, Position};
use crate::store::messages::engine::Fault;
use crate::store::messages::layout::keys;
use crate::store::messages::layout::rows::{Reference, State, decode_record, encode_record};
use crate::store::messages::layout::space::Space;
use crate::store::messages::write::accept::append_entry;
use crate::store::messages::write::turn::Turn;
use crate::store::pace::{Phase, Spreading};
use crate::store::port::{Accepted, StoreError};
use bytes::Bytes;
use std::sync::Arc;

/// A message is accepted: nothing of it is in the log yet.
pub(crate) fn begin(turn: &mut Turn<'_>, spreading: &Spreading) {
    let key = rows::spreading(Of::Open, spreading.message);
    turn.put(Space::Spreads, key, rows::encode_spreading(spreading));
}

/// The spreading of a message that is not over.
fn open(turn: &Turn<'_>, message: MessageId) -> Result<Option<Spreading>, Fault> {
    let Some(row) = turn.get(Space::Spreads, &rows::spreading(Of::Open, message))? else { return Ok(None) };
    rows::decode_spreading(message, &row).map(Some).ok_or_else(|| Fault::damaged(Space::Spreads))
}

fn put(turn: &mut Turn<'_>, spreading: &Spreading) {
    let message = spreading.message;
    let of = if spreading.phase.is_open() { Of::Open } else { Of::Over };
    if of == Of::Over {
        turn.remove(Space::Spreads, rows::spreading(Of::Open, message));
    }
    turn.put(Space::Spreads, rows::spreading(of, message), rows::encode_spreading(spreading));
}

/// Changes where it stands. False: `after` was not made of what is there now.
pub(crate) fn change(turn: &mut Turn<'_>, after: &Spreading) -> Result<bool, Fault> {
    match open(turn, after.message)? {
        Some(before) if before.revision + 1 == after.revision && before.parts_done == after.parts_done => {
            put(turn, after);
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Puts the parts between where it stands and `after` into the log. The inner error is the caller's: nothing is in the turn then.
pub(crate) fn append(turn: &mut Turn<'_>, after: &Spreading) -> Result<Result<Accepted, StoreError>, Fault> {
    let message = after.message;
    let key = keys::message(message);
    let Some(before) = open(turn, message)? else { return Ok(Err(StoreError::Repeated)) };
    let fits = before.phase == Phase::Running
        && before.revision + 1 == after.revision
        && before.parts_done < after.parts_done
        && after.parts_done <= PARTS;
    let (Some(row), Some(body), true) =
        (turn.get(Space::Messages, &key)?, turn.get(Space::Bodies, &key)?, fits)
    else {
        return Ok(Err(StoreError::Repeated));
    };
    let mut record = decode_record(&row).ok_or_else(|| Fault::damaged(Space::Messages))?;
    let slice = Slice { salt: salt(message), from: before.parts_done, to: after.parts_done };
    let filter = Arc::new(Filter { slice: Some(slice), ..(*before.filter).clone() });
    let entry = Reference {
        message,
        deadline: record.deadline,
        bytes: body.len() as u32,
        state: State::Waiting,
        topic: false,
        filtered: true,
        // What is spread out has time.
        high: false,
    };
    let position = append_entry(turn, record.app, entry, &filter)?;
    turn.put(Space::Spreads, rows::place(message, position), []);
    if record.log_position == Position::START {
        record.log_position = position;
        turn.put(Space::Messages, key, encode_record(&record));
    }
    put(turn, after);
    // Whoever dispatches it means this place.
    record.log_position = position;
    Ok(Ok(Accepted {
        message,
        record: Arc::new(record),
        filter,
        shared: Bytes::copy_from_slice(&body),
        refused: Arc::default(),
    }))
}

/// Each message divides devices in its own way.
fn salt(message: MessageId) -> u64 {
    (message.0 as u64) ^ ((message.0 >> 64) as u64)
}

/// Ends the spreading of a message, if it is not over: no slice follows. For its deadline, and for a recall.
pub(crate) fn stop(turn: &mut Turn<'_>, message: MessageId, phase: Phase) -> Result<bool, Fault> {
    let Some(before) = open(turn, message)? else { return Ok(false) };
    put(turn, &Spreading { phase, revision: before.revision + 1, ..before });
    Ok(true)
}

/// Every place that a message has in the log, rising.
pub(crate) fn places(
    turn: &Turn<'_>,
    message: MessageId,
    record: &MessageRecord,
) -> Result<Vec<Position>, Fault> {
    if record.log_position == Position::START {
        return Ok(Vec::new());
    }
    let prefix = rows::spreading(Of::Place, message);
    let mut places = vec![record.log_position];
    let damaged = || Fault::damaged(Space::Spreads);
    for entry in turn.engine.spaces.of(Space::Spreads).prefix(prefix) {
        places.push(keys::last_position(&entry.key()?).ok_or_else(damaged)?);
    }
    for key in turn.added(Space::Spreads, &prefix) {
        places.push(keys::last_position(&key).ok_or_else(damaged)?);
    }
    places.sort_unstable();
    places.dedup();
    Ok(places)
}

/// The end of a message's retention: what is known of its spreading goes.
pub(crate) fn forget(turn: &mut Turn<'_>, message: MessageId, places: &[Position]) {
    for position in places {
        turn.remove(Space::Spreads, rows::place(message, *position));
    }
    for of in [Of::Open, Of::Over] {
        turn.remove(Space::Spreads, rows::spreading(of, message));
    }
}
