//! What the hub does over time: schedules, and messages that are spread.
//!
//! - [`schedules`]: what callers ask of schedules.
//! - [`calendar`]: the task that looks what is due, and keeps so many firings in work.
//! - [`firing`]: one occurrence, from its schedule to its end.
//! - [`spreading`]: messages in slices: what callers ask, and the task that appends.

mod calendar;
mod firing;
mod schedules;
mod spreading;

pub use self::schedules::{NewSchedule, ScheduleEdit, ScheduleError};
pub use self::spreading::{SPREADS_OPEN_MAX, SPREADS_RUNNING_MAX, SpreadAsked, SpreadEdit, SpreadState};
pub use crate::store::pace::{
    RUNS_KEPT_MAX, Run, SCHEDULES_MAX, Schedule, SchedulePage, Spreading, Standing,
};

use super::hub::Hub;
use crate::domain::{Push, TraceId, WallMs};
use crate::store::port::StoreError;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Reads a stored push as it was read when it came: the JSON, its trace, and the time now. The word is what the run says of one that
/// cannot be pushed, at most 64 bytes.
pub type ReadPush = Arc<dyn Fn(&[u8], TraceId, WallMs) -> Result<Push, &'static str> + Send + Sync>;

/// What the tasks need beside the hub.
pub struct OverTime {
    /// How a stored push is read.
    pub read: ReadPush,
    /// Whether the node has too much to do for slices now.
    pub pressed: Box<dyn Fn() -> bool + Send + Sync>,
}

/// What the tasks and their callers share.
pub(super) struct Paced {
    /// The earliest time that was put into the calendar since the last look; `u64::MAX`: none was.
    earliest_new: AtomicU64,
    pub(super) spreads: spreading::Spreads,
}

impl Default for Paced {
    fn default() -> Paced {
        Paced { earliest_new: AtomicU64::new(u64::MAX), spreads: spreading::Spreads::default() }
    }
}

impl Paced {
    /// A time is in the calendar, durably.
    fn added(&self, at: WallMs) {
        self.earliest_new.fetch_min(at.0, Ordering::SeqCst);
    }
}

impl Hub {
    /// Starts what is done over time; what was due meanwhile fires now. Once, before the ports open.
    ///
    /// # Errors
    /// The store's.
    pub async fn run_over_time(&self, parts: OverTime) -> Result<(), StoreError> {
        let OverTime { read, pressed } = parts;
        spreading::load(&self.core).await?;
        let began = (self.core.clock)();
        tokio::spawn(calendar::run(Arc::downgrade(&self.core), read, began));
        tokio::spawn(spreading::run(Arc::downgrade(&self.core), pressed));
        Ok(())
    }

    /// The hub's clock.
    #[must_use]
    pub fn now(&self) -> WallMs {
        (self.core.clock)()
    }
}
