//! Changing schedules. A schedule has its head, its push and, unless it is disabled, one place in the calendar.

use super::rows::{self, Part};
use crate::domain::AppId;
use crate::store::messages::engine::Fault;
use crate::store::messages::layout::keys;
use crate::store::messages::layout::space::Space;
use crate::store::messages::write::turn::Turn;
use crate::store::pace::{Changed, DueAt, SCHEDULES_MAX, ScheduleChange, Standing};

/// Adds a change to the turn. Unless it is [`Changed::Done`], nothing of it is in the turn.
pub(crate) fn change(turn: &mut Turn<'_>, change: &ScheduleChange) -> Result<Changed, Fault> {
    let (app, id) = (change.app, change.id);
    let head = rows::schedule(app, id, Part::Head);
    let before = match turn.get(Space::Schedules, &head)? {
        Some(row) => Some(rows::decode_standing(&row).ok_or_else(|| Fault::damaged(Space::Schedules))?),
        None => None,
    };
    if before.map(|(revision, _)| revision) != change.read {
        return Ok(Changed::Stale);
    }
    let before = before.map(|(_, standing)| standing);
    let after = change.after.as_ref().map(|after| after.standing);
    let counts =
        |standing: Option<Standing>| matches!(standing, Some(Standing::Waiting(_) | Standing::Disabled));
    if counts(before) != counts(after) {
        let waiting = waiting(turn, app)?;
        if counts(after) && waiting >= SCHEDULES_MAX {
            return Ok(Changed::TooMany);
        }
        let waiting = if counts(after) { waiting + 1 } else { waiting.saturating_sub(1) };
        turn.put(Space::Schedules, keys::app(app), waiting.to_be_bytes());
    }
    if let Some(at) = before.and_then(Standing::due) {
        turn.remove(Space::Due, rows::due(DueAt { at, app, id }));
    }
    match &change.after {
        Some(after) => {
            turn.put(Space::Schedules, head, rows::encode_head(after));
            // A firing changes the head alone.
            if !after.push.is_empty() {
                turn.put(Space::Schedules, rows::schedule(app, id, Part::Push), after.push.as_ref());
            }
            if let Some(at) = after.standing.due() {
                turn.put(Space::Due, rows::due(DueAt { at, app, id }), []);
            }
        }
        None => {
            turn.remove(Space::Schedules, head);
            turn.remove(Space::Schedules, rows::schedule(app, id, Part::Push));
        }
    }
    Ok(Changed::Done)
}

/// Whether a change is of the revision that is there.
pub(crate) fn is_current(turn: &Turn<'_>, change: &ScheduleChange) -> Result<bool, Fault> {
    let head = rows::schedule(change.app, change.id, Part::Head);
    let Some(row) = turn.get(Space::Schedules, &head)? else { return Ok(change.read.is_none()) };
    let (revision, _) = rows::decode_standing(&row).ok_or_else(|| Fault::damaged(Space::Schedules))?;
    Ok(change.read == Some(revision))
}

fn waiting(turn: &Turn<'_>, app: AppId) -> Result<u32, Fault> {
    let Some(row) = turn.get(Space::Schedules, &keys::app(app))? else { return Ok(0) };
    let bytes = row.as_ref().try_into().map_err(|_| Fault::damaged(Space::Schedules))?;
    Ok(u32::from_be_bytes(bytes))
}
