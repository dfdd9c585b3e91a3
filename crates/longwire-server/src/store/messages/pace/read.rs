//! What the readers answer of schedules and spreadings.

use super::rows::{self, Of, Part};
use crate::domain::{AppId, MessageId, ScheduleId, WallMs};
use crate::store::messages::engine::{Engine, Fault};
use crate::store::messages::layout::space::Space;
use crate::store::messages::read::lookup::get;
use crate::store::pace::{DueAt, DuePage, Schedule, SchedulePage, Spreading};
use bytes::Bytes;
use fjall::{Readable, Snapshot};
use std::ops::Bound;

/// Pushes in one page of schedules, bytes; the first always comes.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// A schedule, with its push.
pub(crate) fn schedule(engine: &Engine, app: AppId, id: ScheduleId) -> Result<Option<Schedule>, Fault> {
    let snapshot = engine.database.snapshot();
    let head = get(engine, &snapshot, Space::Schedules, &rows::schedule(app, id, Part::Head))?;
    head.map(|head| whole(engine, &snapshot, app, id, &head)).transpose()
}

fn whole(
    engine: &Engine,
    snapshot: &Snapshot,
    app: AppId,
    id: ScheduleId,
    head: &[u8],
) -> Result<Schedule, Fault> {
    let damaged = || Fault::damaged(Space::Schedules);
    let schedule = rows::decode_head(app, id, head).ok_or_else(damaged)?;
    let push = get(engine, snapshot, Space::Schedules, &rows::schedule(app, id, Part::Push))?;
    Ok(Schedule { push: Bytes::copy_from_slice(&push.ok_or_else(damaged)?), ..schedule })
}

/// Schedules of an app after one, without their runs.
pub(crate) fn schedules(
    engine: &Engine,
    app: AppId,
    after: Option<ScheduleId>,
    max: usize,
) -> Result<SchedulePage, Fault> {
    let snapshot = engine.database.snapshot();
    let from = match after {
        Some(after) => Bound::Excluded(rows::schedule(app, after, Part::Push)),
        None => Bound::Included(rows::schedule(app, ScheduleId(0), Part::Head)),
    };
    let to = Bound::Included(rows::schedule(app, ScheduleId(u128::MAX), Part::Push));
    let (mut page, mut bytes) = (SchedulePage::default(), 0);
    for entry in snapshot.range(engine.spaces.of(Space::Schedules), (from, to)) {
        let (key, head) = entry.into_inner()?;
        let Some((app, id)) = rows::read_head_key(&key) else { continue };
        if page.schedules.len() >= max || bytes >= PAGE_BYTES_MAX {
            page.more = true;
            break;
        }
        let schedule = whole(engine, &snapshot, app, id, &head)?;
        bytes += schedule.push.len();
        page.schedules.push(Schedule { runs: Vec::new(), ..schedule });
    }
    Ok(page)
}

/// What is due up to `now`, after a place.
pub(crate) fn due(engine: &Engine, after: Option<DueAt>, now: WallMs, max: usize) -> Result<DuePage, Fault> {
    let snapshot = engine.database.snapshot();
    let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(rows::due(after)));
    let last = DueAt { at: WallMs(u64::MAX - 1), app: AppId(u32::MAX), id: ScheduleId(u128::MAX) };
    let to = Bound::Included(rows::due(last));
    let mut page = DuePage::default();
    for entry in snapshot.range(engine.spaces.of(Space::Due), (from, to)) {
        let due = rows::read_due(&entry.key()?).ok_or_else(|| Fault::damaged(Space::Due))?;
        if due.at > now || page.due.len() >= max {
            page.next = Some(due.at);
            break;
        }
        page.due.push(due);
    }
    Ok(page)
}

/// A message's spreading as a snapshot has it.
pub(crate) fn spreading_of(
    engine: &Engine,
    snapshot: &Snapshot,
    message: MessageId,
) -> Result<Option<Spreading>, Fault> {
    for of in [Of::Open, Of::Over] {
        if let Some(row) = get(engine, snapshot, Space::Spreads, &rows::spreading(of, message))? {
            let spreading = rows::decode_spreading(message, &row);
            return spreading.map(Some).ok_or_else(|| Fault::damaged(Space::Spreads));
        }
    }
    Ok(None)
}

/// A message's spreading.
pub(crate) fn spreading(engine: &Engine, message: MessageId) -> Result<Option<Spreading>, Fault> {
    spreading_of(engine, &engine.database.snapshot(), message)
}

/// Those that are not over.
pub(crate) fn open_spreadings(
    engine: &Engine,
    after: Option<MessageId>,
    max: usize,
) -> Result<Vec<Spreading>, Fault> {
    let snapshot = engine.database.snapshot();
    let from = match after {
        Some(after) => Bound::Excluded(rows::spreading(Of::Open, after)),
        None => Bound::Included(rows::spreading(Of::Open, MessageId(0))),
    };
    let to = Bound::Included(rows::spreading(Of::Open, MessageId(u128::MAX)));
    let one = |entry: fjall::Guard| {
        let damaged = || Fault::damaged(Space::Spreads);
        let (key, row) = entry.into_inner()?;
        let message = key.last_chunk::<16>().map(|bytes| MessageId(u128::from_be_bytes(*bytes)));
        message.and_then(|message| rows::decode_spreading(message, &row)).ok_or_else(damaged)
    };
    snapshot.range(engine.spaces.of(Space::Spreads), (from, to)).take(max).map(one).collect()
}
