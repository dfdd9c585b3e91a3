//! What is done over time, as the message store is asked and answers: schedules, and messages that are spread.

use crate::domain::audience::filter::PARTS;
use crate::domain::message::Spread;
use crate::domain::{AppId, Filter, MessageId, ScheduleId, TraceId, Trigger, WallMs};
use bytes::Bytes;
use std::sync::Arc;

/// Schedules of an app that have not fired for the last time; one more is refused until some have, or are gone.
pub const SCHEDULES_MAX: u32 = 100_000;
/// Runs that are kept of a schedule; older ones are forgotten.
pub const RUNS_KEPT_MAX: usize = 100;

/// A schedule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Schedule {
    /// Its id.
    pub id: ScheduleId,
    /// Its app.
    pub app: AppId,
    /// Rises with each change: a change is made to the revision that was read, or not at all.
    pub revision: u32,
    /// What people call it.
    pub name: Box<str>,
    /// When it fires.
    pub trigger: Trigger,
    /// Where it stands.
    pub standing: Standing,
    /// When it was made.
    pub made_at: WallMs,
    /// The trace of the request that made it; its messages belong to it.
    pub trace: TraceId,
    /// What it fired, the last [`RUNS_KEPT_MAX`], oldest first.
    pub runs: Vec<Run>,
    /// The push as its caller wrote it, JSON.
    pub push: Bytes,
}

/// Where a schedule stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It fires next then.
    Waiting(WallMs),
    /// It does not fire until it is enabled.
    Disabled,
    /// It has fired for the last time, and is forgotten then.
    Finished(WallMs),
}

impl Standing {
    /// When time does something to it.
    #[must_use]
    pub fn due(self) -> Option<WallMs> {
        match self {
            Standing::Waiting(at) | Standing::Finished(at) => Some(at),
            Standing::Disabled => None,
        }
    }
}

/// One firing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// When it was due.
    pub due: WallMs,
    /// When it fired.
    pub fired_at: WallMs,
    /// It was due before the server began, or seconds before it fired.
    pub late: bool,
    /// The message that it made.
    pub message: Option<MessageId>,
    /// Why it made none, at most 64 bytes.
    pub error: Option<Box<str>>,
}

/// A change of a schedule, made only if it is still the revision that was read.
#[derive(Clone, Debug)]
pub struct ScheduleChange {
    /// Its app.
    pub app: AppId,
    /// Its id.
    pub id: ScheduleId,
    /// The revision that was read; `None`: it is new.
    pub read: Option<u32>,
    /// How it is from now on; `None`: gone.
    pub after: Option<Box<Schedule>>,
}

/// What became of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Changed {
    /// It is durable.
    Done,
    /// It had changed since it was read: nothing was done.
    Stale,
    /// The app has [`SCHEDULES_MAX`].
    TooMany,
}

/// A place in the calendar of all schedules.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DueAt {
    /// When.
    pub at: WallMs,
    /// The app.
    pub app: AppId,
    /// The schedule.
    pub id: ScheduleId,
}

/// What is due.
#[derive(Clone, Debug, Default)]
pub struct DuePage {
    /// In order, at most as many as asked for.
    pub due: Vec<DueAt>,
    /// The time of the first that was left out: due too, or later.
    pub next: Option<WallMs>,
}

/// A page of an app's schedules.
#[derive(Clone, Debug, Default)]
pub struct SchedulePage {
    /// In the order in which they were made.
    pub schedules: Vec<Schedule>,
    /// There is more.
    pub more: bool,
}

/// A message that is spread over time: it goes into its app's log in slices.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spreading {
    /// The message.
    pub message: MessageId,
    /// Its app.
    pub app: AppId,
    /// Rises with each change.
    pub revision: u32,
    /// Whom it is for, all slices together.
    pub filter: Arc<Filter>,
    /// When what is not yet in the log stays out.
    pub deadline: WallMs,
    /// Where it stands.
    pub phase: Phase,
    /// The first so many of [`PARTS`] parts are in the log.
    pub parts_done: u32,
    /// Places in the log.
    pub slices: u32,
    /// How fast, as it was asked.
    pub spread: Spread,
    /// Devices that all parts together were taken for when it was accepted, at least 1.
    pub devices: u64,
    /// Thousandths of a part that a second adds.
    pub rate_milli: u64,
    /// Thousandths of a part that seconds have added and no slice has used.
    pub credit_milli: u64,
}

/// Where the spreading of a message stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Phase {
    /// Slices follow, or will when it is its turn.
    Running = 0,
    /// No slice follows until it is resumed.
    Paused = 1,
    /// All parts are in the log.
    Done = 2,
    /// Its deadline came first.
    Expired = 3,
    /// It was recalled.
    Stopped = 4,
}

impl Phase {
    /// All, in the order of their numbers.
    pub const ALL: [Phase; 5] = [Phase::Running, Phase::Paused, Phase::Done, Phase::Expired, Phase::Stopped];

    /// Whether slices may still follow.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Phase::Running | Phase::Paused)
    }
}

impl Spreading {
    /// Parts that are not in the log.
    #[must_use]
    pub fn parts_left(&self) -> u32 {
        PARTS.saturating_sub(self.parts_done)
    }
}
