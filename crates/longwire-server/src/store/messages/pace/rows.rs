//! Keys and values of schedules and of spreadings.

use crate::domain::message::Spread;
use crate::domain::schedule::{Periodical, PeriodicalParts, Unit};
use crate::domain::{AppId, MessageId, Position, ScheduleId, TraceId, Trigger, WallMs};
use crate::store::messages::layout::filters;
use crate::store::messages::layout::rows::{Fields, put_text};
use crate::store::pace::{DueAt, Phase, Run, Schedule, Spreading, Standing};
use bytes::Bytes;
use std::sync::Arc;

/// What a key of a schedule is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// All but the push: what changes when it fires.
    Head = 0,
    /// The push.
    Push = 1,
}

/// A part of a schedule. The app's count has the app alone as its key.
pub(crate) fn schedule(app: AppId, id: ScheduleId, part: Part) -> [u8; 21] {
    let mut key = [0; 21];
    key[..4].copy_from_slice(&app.0.to_be_bytes());
    key[4..20].copy_from_slice(&id.0.to_be_bytes());
    key[20] = part as u8;
    key
}

/// The schedule that a key is of, if it is of a head.
pub(crate) fn read_head_key(key: &[u8]) -> Option<(AppId, ScheduleId)> {
    let key: &[u8; 21] = key.try_into().ok()?;
    let mut fields = Fields(key);
    let (app, id) = (AppId(fields.u32()?), ScheduleId(fields.u128()?));
    (fields.byte()? == Part::Head as u8).then_some((app, id))
}

/// A place in the calendar.
pub(crate) fn due(due: DueAt) -> [u8; 28] {
    let mut key = [0; 28];
    key[..8].copy_from_slice(&due.at.0.to_be_bytes());
    key[8..12].copy_from_slice(&due.app.0.to_be_bytes());
    key[12..].copy_from_slice(&due.id.0.to_be_bytes());
    key
}

/// Reads what [`due`] wrote.
pub(crate) fn read_due(key: &[u8]) -> Option<DueAt> {
    let mut fields = Fields(key);
    let due = DueAt { at: WallMs(fields.u64()?), app: AppId(fields.u32()?), id: ScheduleId(fields.u128()?) };
    fields.end(due)
}

/// What a key of a spreading is of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Of {
    /// One that is not over.
    Open = 0,
    /// One that is.
    Over = 1,
    /// A place that it has in the log.
    Place = 2,
}

/// A spreading, or what its places begin with.
pub(crate) fn spreading(of: Of, message: MessageId) -> [u8; 17] {
    let mut key = [0; 17];
    key[0] = of as u8;
    key[1..].copy_from_slice(&message.0.to_be_bytes());
    key
}

/// A place of a spreading.
pub(crate) fn place(message: MessageId, position: Position) -> [u8; 25] {
    let mut key = [0; 25];
    key[..17].copy_from_slice(&spreading(Of::Place, message));
    key[17..].copy_from_slice(&position.0.to_be_bytes());
    key
}

/// A schedule without its key and its push.
pub(crate) fn encode_head(schedule: &Schedule) -> Vec<u8> {
    let mut row = Vec::with_capacity(160);
    row.extend_from_slice(&schedule.revision.to_be_bytes());
    let (standing, at) = match schedule.standing {
        Standing::Waiting(at) => (0, at),
        Standing::Disabled => (1, WallMs(0)),
        Standing::Finished(at) => (2, at),
    };
    row.push(standing);
    row.extend_from_slice(&at.0.to_be_bytes());
    row.extend_from_slice(&schedule.made_at.0.to_be_bytes());
    row.extend_from_slice(&schedule.trace.0.to_be_bytes());
    put_text(&mut row, &schedule.name);
    put_trigger(&mut row, &schedule.trigger);
    // At most 100.
    row.push(schedule.runs.len() as u8);
    for run in &schedule.runs {
        row.extend_from_slice(&run.due.0.to_be_bytes());
        row.extend_from_slice(&run.fired_at.0.to_be_bytes());
        row.push(u8::from(run.late));
        row.extend_from_slice(&run.message.unwrap_or(MessageId(0)).0.to_be_bytes());
        put_text(&mut row, run.error.as_deref().unwrap_or(""));
    }
    row
}

fn put_trigger(row: &mut Vec<u8>, trigger: &Trigger) {
    match trigger {
        Trigger::Single(at) => {
            row.push(0);
            row.extend_from_slice(&at.0.to_be_bytes());
        }
        Trigger::Periodical(periodical) => {
            let parts = periodical.parts();
            let (unit, days) = match parts.unit {
                Unit::Day => (1, 0),
                Unit::Week(days) => (2, u32::from(days)),
                Unit::Month(days) => (3, days),
            };
            row.push(unit);
            row.extend_from_slice(&days.to_be_bytes());
            row.extend_from_slice(&parts.start.0.to_be_bytes());
            row.extend_from_slice(&parts.end.0.to_be_bytes());
            row.extend_from_slice(&parts.second.to_be_bytes());
            row.extend_from_slice(&u32::from(parts.frequency).to_be_bytes());
            put_text(row, parts.zone);
        }
    }
}

fn read_trigger(fields: &mut Fields<'_>) -> Option<Trigger> {
    let unit = fields.byte()?;
    if unit == 0 {
        return Some(Trigger::Single(WallMs(fields.u64()?)));
    }
    let days = fields.u32()?;
    let unit = match unit {
        1 => Unit::Day,
        2 => Unit::Week(u8::try_from(days).ok()?),
        3 => Unit::Month(days),
        _ => return None,
    };
    let (start, end) = (WallMs(fields.u64()?), WallMs(fields.u64()?));
    let second = fields.u32()?;
    let frequency = u16::try_from(fields.u32()?).ok()?;
    let parts = PeriodicalParts { start, end, second, unit, frequency, zone: fields.text()? };
    Periodical::new(&parts).ok().map(|periodical| Trigger::Periodical(Box::new(periodical)))
}

/// Reads what [`encode_head`] wrote.
pub(crate) fn decode_head(app: AppId, id: ScheduleId, row: &[u8]) -> Option<Schedule> {
    let mut fields = Fields(row);
    let revision = fields.u32()?;
    let (standing, at) = (fields.byte()?, WallMs(fields.u64()?));
    let standing = match standing {
        0 => Standing::Waiting(at),
        1 => Standing::Disabled,
        2 => Standing::Finished(at),
        _ => return None,
    };
    let (made_at, trace) = (WallMs(fields.u64()?), TraceId(fields.u128()?));
    let name = fields.text()?.into();
    let trigger = read_trigger(&mut fields)?;
    let mut runs = Vec::new();
    for _ in 0..fields.byte()? {
        runs.push(Run {
            due: WallMs(fields.u64()?),
            fired_at: WallMs(fields.u64()?),
            late: fields.byte()? != 0,
            message: Some(MessageId(fields.u128()?)).filter(|message| *message != MessageId(0)),
            error: Some(fields.text()?).filter(|error| !error.is_empty()).map(Box::from),
        });
    }
    let push = Bytes::new();
    fields.end(Schedule { id, app, revision, name, trigger, standing, made_at, trace, runs, push })
}

/// The standing of a head, which is all that a change needs of it, and its revision.
pub(crate) fn decode_standing(row: &[u8]) -> Option<(u32, Standing)> {
    let mut fields = Fields(row);
    let revision = fields.u32()?;
    let (standing, at) = (fields.byte()?, WallMs(fields.u64()?));
    let standing = match standing {
        0 => Standing::Waiting(at),
        1 => Standing::Disabled,
        2 => Standing::Finished(at),
        _ => return None,
    };
    Some((revision, standing))
}

/// A spreading without its key.
pub(crate) fn encode_spreading(spreading: &Spreading) -> Vec<u8> {
    let mut row = Vec::with_capacity(96);
    row.extend_from_slice(&spreading.app.0.to_be_bytes());
    row.extend_from_slice(&spreading.revision.to_be_bytes());
    row.push(spreading.phase as u8);
    row.extend_from_slice(&spreading.deadline.0.to_be_bytes());
    row.extend_from_slice(&spreading.parts_done.to_be_bytes());
    row.extend_from_slice(&spreading.slices.to_be_bytes());
    let (kind, number) = match spreading.spread {
        Spread::Speed(speed) => (0, speed),
        Spread::Duration(seconds) => (1, seconds),
    };
    row.push(kind);
    row.extend_from_slice(&number.to_be_bytes());
    for number in [spreading.devices, spreading.rate_milli, spreading.credit_milli] {
        row.extend_from_slice(&number.to_be_bytes());
    }
    row.extend_from_slice(&filters::encode(&spreading.filter));
    row
}

/// Reads what [`encode_spreading`] wrote.
pub(crate) fn decode_spreading(message: MessageId, row: &[u8]) -> Option<Spreading> {
    let mut fields = Fields(row);
    let (app, revision) = (AppId(fields.u32()?), fields.u32()?);
    let phase = *Phase::ALL.get(usize::from(fields.byte()?))?;
    let deadline = WallMs(fields.u64()?);
    let (parts_done, slices) = (fields.u32()?, fields.u32()?);
    let spread = match (fields.byte()?, fields.u32()?) {
        (0, speed) => Spread::Speed(speed),
        (1, seconds) => Spread::Duration(seconds),
        _ => return None,
    };
    let (devices, rate_milli, credit_milli) = (fields.u64()?, fields.u64()?, fields.u64()?);
    let filter = Arc::new(filters::decode(fields.0)?);
    Some(Spreading {
        message,
        app,
        revision,
        filter,
        deadline,
        phase,
        parts_done,
        slices,
        spread,
        devices,
        rate_milli,
        credit_milli,
    })
}
