//! What callers ask of schedules.

use crate::delivery::hub::{Core, Hub};
use crate::domain::schedule::AHEAD_MS_MAX;
use crate::domain::{App, AppId, Invalid, ScheduleId, TraceId, Trigger, WallMs};
use crate::store::pace::{Changed, SCHEDULES_MAX, Schedule, ScheduleChange, SchedulePage, Standing};
use crate::store::port::StoreError;
use bytes::Bytes;

/// So long a schedule that has fired for the last time can be asked for, milliseconds: as long as its message by default.
pub(super) const FINISHED_KEPT_MS: u64 = 7 * 86_400_000;
/// Times that a change is tried again because the schedule fired meanwhile.
const TRIES: usize = 16;

/// A schedule to be made.
#[derive(Clone, Debug)]
pub struct NewSchedule {
    /// What people call it.
    pub name: Box<str>,
    /// When it fires.
    pub trigger: Trigger,
    /// The push, JSON that its reader has read.
    pub push: Bytes,
    /// The trace of the request.
    pub trace: TraceId,
}

/// What of a schedule is to be changed; `None` stays.
#[derive(Clone, Debug, Default)]
pub struct ScheduleEdit {
    /// Whether it fires.
    pub enabled: Option<bool>,
    /// What people call it.
    pub name: Option<Box<str>>,
    /// When it fires.
    pub trigger: Option<Trigger>,
    /// The push, JSON that its reader has read.
    pub push: Option<Bytes>,
}

/// Why a schedule was not made or changed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ScheduleError {
    /// Its trigger does not fire any more, or reaches too far.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The app has too many.
    #[error("an app may have {SCHEDULES_MAX} schedules that have not fired for the last time")]
    TooMany,
    /// It fires again and again, faster than it could be changed.
    #[error("the schedule is firing; try again")]
    Busy,
    /// The store's.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Hub {
    /// Makes a schedule.
    ///
    /// # Errors
    /// See [`ScheduleError`].
    pub async fn add_schedule(&self, app: &App, new: NewSchedule) -> Result<Schedule, ScheduleError> {
        let now = self.now();
        let schedule = Schedule {
            id: ScheduleId(self.core.ids.next(now).0),
            app: app.id,
            revision: 0,
            name: new.name,
            standing: waiting(&new.trigger, now)?,
            trigger: new.trigger,
            made_at: now,
            trace: new.trace,
            runs: Vec::new(),
            push: new.push,
        };
        match self.core.change_schedule(app.id, schedule.id, None, Some(schedule.clone())).await? {
            Changed::Done => Ok(schedule),
            Changed::TooMany => Err(ScheduleError::TooMany),
            Changed::Stale => Err(ScheduleError::Busy),
        }
    }

    /// A schedule of this app.
    ///
    /// # Errors
    /// The store's.
    pub async fn schedule(&self, app: &App, id: ScheduleId) -> Result<Option<Schedule>, StoreError> {
        self.core.store.schedule(app.id, id).await
    }

    /// The app's schedules after one, without their runs.
    ///
    /// # Errors
    /// The store's.
    pub async fn schedules(
        &self,
        app: &App,
        after: Option<ScheduleId>,
        max: usize,
    ) -> Result<SchedulePage, StoreError> {
        self.core.store.schedules(app.id, after, max).await
    }

    /// Changes a schedule; `None`: there is none. When this returns, it fires as changed or not at all.
    ///
    /// # Errors
    /// See [`ScheduleError`].
    pub async fn edit_schedule(
        &self,
        app: &App,
        id: ScheduleId,
        edit: ScheduleEdit,
    ) -> Result<Option<Schedule>, ScheduleError> {
        for _ in 0..TRIES {
            let Some(before) = self.schedule(app, id).await? else { return Ok(None) };
            let after = edited(&before, &edit, self.now())?;
            match self.core.change_schedule(app.id, id, Some(before.revision), Some(after.clone())).await? {
                Changed::Done => return Ok(Some(after)),
                Changed::TooMany => return Err(ScheduleError::TooMany),
                Changed::Stale => {}
            }
        }
        Err(ScheduleError::Busy)
    }

    /// Removes a schedule, which never fires again. False: there is none.
    ///
    /// # Errors
    /// See [`ScheduleError`].
    pub async fn remove_schedule(&self, app: &App, id: ScheduleId) -> Result<bool, ScheduleError> {
        for _ in 0..TRIES {
            let Some(before) = self.schedule(app, id).await? else { return Ok(false) };
            if self.core.change_schedule(app.id, id, Some(before.revision), None).await? == Changed::Done {
                return Ok(true);
            }
        }
        Err(ScheduleError::Busy)
    }
}

impl Core {
    pub(super) async fn change_schedule(
        &self,
        app: AppId,
        id: ScheduleId,
        read: Option<u32>,
        after: Option<Schedule>,
    ) -> Result<Changed, StoreError> {
        let _under_way = self.under_way.read().await;
        if self.posts.stopping() {
            return Err(StoreError::Unavailable("the node is draining".to_owned()));
        }
        let due = after.as_ref().and_then(|after| after.standing.due());
        let after = after.map(Box::new);
        let changed = self.store.change_schedule(ScheduleChange { app, id, read, after }).await;
        // Also when the outcome is not known: a look too many does no harm.
        if let Some(due) = due {
            self.paced.added(due);
        }
        changed
    }
}

/// Where a trigger stands now.
fn waiting(trigger: &Trigger, now: WallMs) -> Result<Standing, Invalid> {
    let field = match trigger {
        Trigger::Single(_) => "trigger.single.at",
        Trigger::Periodical(_) => "trigger.periodical.end",
    };
    let next = trigger.next_after(now).ok_or_else(|| Invalid::new(field, "has passed"))?;
    if next.0 - now.0 > AHEAD_MS_MAX {
        return Err(Invalid::new(field, "is more than ten years ahead"));
    }
    Ok(Standing::Waiting(next))
}

fn edited(before: &Schedule, edit: &ScheduleEdit, now: WallMs) -> Result<Schedule, Invalid> {
    let mut after = Schedule { revision: before.revision.wrapping_add(1), ..before.clone() };
    if let Some(name) = &edit.name {
        after.name.clone_from(name);
    }
    if let Some(push) = &edit.push {
        after.push = push.clone();
    }
    if let Some(trigger) = &edit.trigger {
        after.trigger = trigger.clone();
    }
    let enabled = edit.enabled.unwrap_or(before.standing != Standing::Disabled);
    let same_time = edit.trigger.is_none() && matches!(before.standing, Standing::Waiting(_));
    after.standing = match (enabled, before.standing) {
        // A name alone does not move it, nor bring back what has fired.
        (true, Standing::Waiting(_)) if same_time => before.standing,
        (true, Standing::Finished(_)) if edit.trigger.is_none() && edit.enabled.is_none() => before.standing,
        (false, Standing::Finished(_)) if edit.trigger.is_none() => before.standing,
        (true, _) => waiting(&after.trigger, now)?,
        (false, _) => {
            if edit.trigger.is_some() {
                waiting(&after.trigger, now)?;
            }
            Standing::Disabled
        }
    };
    Ok(after)
}
