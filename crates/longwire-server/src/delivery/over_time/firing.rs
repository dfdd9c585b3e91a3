//! One occurrence of a schedule, from what is stored to its end.
//!
//! The acceptance and the step of the schedule are one commit, so it fires once whatever dies between. What is not stored (ttl 0,
//! and topics, whose mailboxes are many) is pushed after the step: at most once.
//!
//! A firing is spent as a push is. Over the app's rate, or its quota of stored bytes, it waits and is tried again.

use super::ReadPush;
use super::schedules::FINISHED_KEPT_MS;
use crate::delivery::hub::{Core, PushError, Receipt};
use crate::delivery::order::Place;
use crate::delivery::push::Firing;
use crate::domain::{App, Push, WallMs};
use crate::store::pace::{Changed, DueAt, RUNS_KEPT_MAX, Run, Schedule, ScheduleChange, Standing};
use crate::store::port::StoreError;
use std::sync::atomic::Ordering::Relaxed;

/// What fires so long after its time is marked late, milliseconds.
const LATE_MS: u64 = 5_000;
/// So long a firing that is not stored waits for its app's rate; one that is stored waits for its ttl.
const RATE_WAIT_S: u32 = 60;

/// What became of a place in the calendar.
pub(super) enum Fired {
    /// It is done with, or is no more.
    Over,
    /// The schedule changed meanwhile: look again.
    Again,
    /// The store does not take it now.
    Later,
}

/// Fires what is due at a place.
pub(super) async fn fire(core: &Core, place: DueAt, read: &ReadPush, began: WallMs) -> Fired {
    let schedule = match core.store.schedule(place.app, place.id).await {
        Ok(Some(schedule)) if schedule.standing.due() == Some(place.at) => schedule,
        Ok(_) => return Fired::Over,
        Err(_) => return Fired::Later,
    };
    if matches!(schedule.standing, Standing::Finished(_)) {
        let gone = core.change_schedule(place.app, place.id, Some(schedule.revision), None).await;
        return told(gone);
    }
    let now = (core.clock)();
    let due = schedule.trigger.last_missed(place.at, now);
    let late = due < began || now.0.saturating_sub(due.0) >= LATE_MS;
    let run = Run { due, fired_at: now, late, message: None, error: None };
    let occurrence = Occurrence { core, schedule: &schedule, began, run };
    let Some(app) = core.app_of(schedule.app) else { return occurrence.fail("unknown_app").await };
    match read(&schedule.push, schedule.trace, now) {
        Err(problem) => occurrence.fail(problem).await,
        Ok(push) if push.audience.ttl_s(push.ttl_s) == 0 || push.audience.topic.is_some() => {
            occurrence.once(&app, push).await
        }
        Ok(push) => occurrence.together(&app, push).await,
    }
}

/// A firing under way.
struct Occurrence<'a> {
    core: &'a Core,
    schedule: &'a Schedule,
    /// When this process began.
    began: WallMs,
    run: Run,
}

impl Occurrence<'_> {
    /// The acceptance and the step in one commit.
    async fn together(self, app: &App, push: Push) -> Fired {
        let message = self.core.ids.next(self.run.fired_at);
        // What was due while the server was down has its life before it.
        let until = self.until(push.ttl_s);
        let after = self.after(Run { message: Some(message), ..self.run.clone() });
        let next = after.standing.due();
        let step = ScheduleChange {
            app: self.schedule.app,
            id: self.schedule.id,
            read: Some(self.schedule.revision),
            after: Some(Box::new(after)),
        };
        let firing = Firing { message, step: Some(Box::new(step)) };
        let pushed = match self.spend(app, &push) {
            Ok(()) => self.push(app, push, firing).await,
            Err(refused) => Err(refused),
        };
        if let Some(next) = next {
            self.core.paced.added(next);
        }
        match pushed {
            Ok(_) => {
                self.count(true);
                Fired::Over
            }
            Err(PushError::Store(StoreError::Repeated | StoreError::Unknown(_))) => Fired::Again,
            Err(PushError::Draining) => Fired::Later,
            Err(error) if is_for_now(&error) => {
                let over = self.run.fired_at >= until;
                if over { self.fail(too_late(&error)).await } else { Fired::Later }
            }
            Err(error) => self.fail(code(&error)).await,
        }
    }

    /// Until when it is tried again.
    fn until(&self, ttl_s: u32) -> WallMs {
        WallMs(self.run.due.max(self.began).0.saturating_add(u64::from(ttl_s) * 1000))
    }

    /// Takes it out of what the app may send, as a push that came now.
    fn spend(&self, app: &App, push: &Push) -> Result<(), PushError> {
        self.core.spend_messages(app, 1, push.audience.broadcasts())
    }

    async fn push(&self, app: &App, push: Push, firing: Firing) -> Result<Receipt, PushError> {
        let pushed = self.core.push_as(app, push, &mut Place::default(), Some(firing)).await;
        self.core.count_refused(app.id, &pushed);
        pushed
    }

    /// The step first: what is lost between is lost.
    async fn once(self, app: &App, push: Push) -> Fired {
        if self.core.posts.stopping() {
            return Fired::Later;
        }
        if let Err(refused) = self.spend(app, &push) {
            let over = self.run.fired_at >= self.until(push.ttl_s.max(RATE_WAIT_S));
            return if over { self.fail(code(&refused)).await } else { Fired::Later };
        }
        let after = self.after(self.run.clone());
        match self.step(after.clone()).await {
            Ok(Changed::Done) => {}
            stepped => return told(stepped),
        }
        let message = self.core.ids.next(self.run.fired_at);
        let pushed = self.push(app, push, Firing { message, step: None }).await;
        self.count(pushed.is_ok());
        self.note(after, pushed).await;
        Fired::Over
    }

    /// Writes what came of it into the run, if nothing else has changed the schedule.
    async fn note(&self, stepped: Schedule, pushed: Result<Receipt, PushError>) {
        let mut noted = Schedule { revision: stepped.revision.wrapping_add(1), ..stepped };
        if let Some(run) = noted.runs.last_mut() {
            match pushed {
                Ok(receipt) => run.message = Some(receipt.message),
                Err(error) => run.error = Some(code(&error).into()),
            }
        }
        let read = Some(noted.revision.wrapping_sub(1));
        let (app, id) = (noted.app, noted.id);
        let _ = self.core.change_schedule(app, id, read, Some(noted)).await;
    }

    /// Nobody gets it: the schedule goes on.
    async fn fail(self, error: &'static str) -> Fired {
        let after = self.after(Run { error: Some(error.into()), ..self.run.clone() });
        let stepped = self.step(after).await;
        if stepped == Ok(Changed::Done) {
            self.count(false);
        }
        told(stepped)
    }

    async fn step(&self, after: Schedule) -> Result<Changed, StoreError> {
        let (app, id, read) = (self.schedule.app, self.schedule.id, Some(self.schedule.revision));
        self.core.change_schedule(app, id, read, Some(after)).await
    }

    /// The schedule with one more run; its push stays as it is stored.
    fn after(&self, run: Run) -> Schedule {
        let before = self.schedule;
        let now = run.fired_at;
        let standing = match before.trigger.next_after(now.max(run.due)) {
            Some(next) => Standing::Waiting(next),
            None => Standing::Finished(WallMs(now.0.saturating_add(FINISHED_KEPT_MS))),
        };
        let mut runs = before.runs.clone();
        runs.drain(..(runs.len() + 1).saturating_sub(RUNS_KEPT_MAX));
        runs.push(run);
        let revision = before.revision.wrapping_add(1);
        Schedule { revision, standing, runs, push: bytes::Bytes::new(), ..before.clone() }
    }

    fn count(&self, made: bool) {
        let stats = &self.core.stats;
        let counter = if made { &stats.schedules_fired } else { &stats.schedules_failed };
        counter.fetch_add(1, Relaxed);
        if self.run.late {
            stats.schedules_late.fetch_add(1, Relaxed);
        }
    }
}

fn told(stepped: Result<Changed, StoreError>) -> Fired {
    match stepped {
        Ok(Changed::Done) => Fired::Over,
        Ok(Changed::Stale | Changed::TooMany) => Fired::Again,
        Err(StoreError::Unknown(_)) => Fired::Again,
        Err(_) => Fired::Later,
    }
}

/// It may be taken when it is tried again.
fn is_for_now(error: &PushError) -> bool {
    use StoreError::{AppQuota, Full, Unavailable};
    matches!(error, PushError::AppRate(..) | PushError::Store(Full { .. } | AppQuota { .. } | Unavailable(_)))
}

/// What a run says of one that waited for its whole life.
fn too_late(error: &PushError) -> &'static str {
    match error {
        PushError::Store(StoreError::Full { .. }) => "store_unavailable",
        error => code(error),
    }
}

/// What a run says of a push that was refused, at most 64 bytes.
fn code(error: &PushError) -> &'static str {
    match error {
        PushError::NobodyMatches => "nobody_matches",
        PushError::TooManyTargets(_) => "too_large",
        PushError::TooManySpreads => "too_many_spreads",
        PushError::AppRate(..) => "app_rate",
        PushError::TopicQuota => "topic_quota",
        PushError::Draining => "draining",
        PushError::Store(StoreError::MailboxFull) => "device_queue_full",
        PushError::Store(StoreError::AppQuota { .. }) => "app_quota",
        PushError::Store(StoreError::NoSuchMessage) => "not_found",
        PushError::Store(StoreError::Full { .. }) => "storage_full",
        PushError::Store(_) => "store_unavailable",
    }
}
