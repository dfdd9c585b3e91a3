//! Messages in slices.
//!
//! All devices are divided into 65,536 parts by a hash that is each message's own. A second adds as many parts as the speed asks:
//! devices a second, of the devices that the audience was estimated to match when the message was accepted (or, where that is not
//! known, of those that were connected). When enough have come together they go into the log as one
//! slice. Whoever is not connected finds its slice when it returns. The last slice takes the rest, so each device is in exactly one.

use crate::delivery::hub::{Core, Hub, PushError};
use crate::domain::audience::filter::PARTS;
use crate::domain::message::Spread;
use crate::domain::{App, AppId, Filter, MessageId, WallMs};
use crate::store::pace::{Phase, Spreading};
use crate::store::port::{Destination, StoreError};
use futures_util::future::join_all;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Messages of an app that are spread at the same time; the next waits for its turn (LIMITS 7.2).
pub const SPREADS_RUNNING_MAX: usize = 2;
/// Messages of an app whose spreading is not over, those that wait and are paused included; one more is refused.
pub const SPREADS_OPEN_MAX: usize = 100;
/// Parts of a slice at least, unless it is the last: a message has at most 4,096 places, which returning devices step over.
const SLICE_PARTS_MIN: u64 = 16;
/// How often it looks; each message has a step a second.
const TICK: Duration = Duration::from_millis(50);
const STEP_MS: u64 = 1000;
/// Slices of all apps in one look; the others have theirs at the next.
const SLICES_PER_LOOK: usize = 64;
/// Rows read at once when it starts.
const LOAD_MAX: usize = 256;
/// Times that a change is tried again because a slice went out meanwhile.
const TRIES: usize = 16;
const MILLI: u64 = 1000;

/// Those that are not over, oldest first.
#[derive(Default)]
pub(in crate::delivery) struct Spreads {
    open: Mutex<BTreeMap<MessageId, Open>>,
}

struct Open {
    spreading: Spreading,
    /// Its next step.
    next: WallMs,
}

/// How a spreading is to be changed; `None` stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpreadEdit {
    /// Whether it pauses.
    pub paused: Option<bool>,
    /// How fast the rest goes; a duration is that of the rest.
    pub spread: Option<Spread>,
}

/// What became of a change.
#[derive(Clone, Debug)]
pub enum SpreadAsked {
    /// It is durable; from now on it is so.
    Done(SpreadState),
    /// This app has no such message.
    Unknown,
    /// The message is not spread over time.
    NotSpread,
    /// Its spreading is over.
    Over,
}

/// Where a message's spreading stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpreadState {
    /// `running`, `queued`, `paused`, `done`, `expired` or `stopped`.
    pub word: &'static str,
    /// The first so many of all parts are in the log.
    pub parts_done: u32,
    /// All parts.
    pub parts: u32,
    /// Devices a second, about.
    pub speed: u64,
    /// Seconds until all parts are in the log, if it runs on; `None` if it does not.
    pub eta_s: Option<u64>,
}

impl Spreads {
    /// A message was accepted.
    pub(in crate::delivery) fn begin(&self, spreading: Spreading) {
        let open = Open { spreading, next: WallMs(0) };
        self.open.lock().insert(open.spreading.message, open);
    }

    /// A newer revision of what is known, or the end of it.
    fn keep(&self, message: MessageId, newer: Option<&Spreading>) {
        let mut open = self.open.lock();
        match newer.filter(|newer| newer.phase.is_open()) {
            Some(newer) => {
                if let Some(open) = open.get_mut(&message)
                    && newer.revision > open.spreading.revision
                {
                    open.spreading = newer.clone();
                }
            }
            None => drop(open.remove(&message)),
        }
    }

    fn count(&self, app: AppId) -> usize {
        self.open.lock().values().filter(|open| open.spreading.app == app).count()
    }

    /// Whether older ones of its app take all places.
    fn is_queued(&self, app: AppId, message: MessageId) -> bool {
        let open = self.open.lock();
        let older = open.range(..message).map(|(_, open)| &open.spreading);
        older.filter(|other| other.app == app && other.phase == Phase::Running).count() >= SPREADS_RUNNING_MAX
    }

    /// The steps that are due, and those whose deadline has come. Each step is of its own message.
    fn steps(&self, now: WallMs, pressed: bool) -> (Vec<Spreading>, Vec<Spreading>) {
        let mut running: HashMap<AppId, usize> = HashMap::new();
        let (mut steps, mut expired) = (Vec::new(), Vec::new());
        for open in self.open.lock().values_mut() {
            let spreading = &mut open.spreading;
            if now >= spreading.deadline {
                expired.push(next_revision(spreading));
                continue;
            }
            if spreading.phase != Phase::Running {
                continue;
            }
            let running = running.entry(spreading.app).or_default();
            *running += 1;
            if *running > SPREADS_RUNNING_MAX || now < open.next || steps.len() >= SLICES_PER_LOOK {
                continue;
            }
            // A step that was missed is not made up for: no burst after a pause of the process.
            let on_time = WallMs(open.next.0 + STEP_MS);
            open.next = if on_time > now { on_time } else { WallMs(now.0 + STEP_MS) };
            if pressed {
                continue;
            }
            match step(spreading) {
                Some(after) => steps.push(after),
                None => spreading.credit_milli += spreading.rate_milli,
            }
        }
        (steps, expired)
    }
}

/// Where it stands after one more second, if there is enough for a slice then.
fn step(before: &Spreading) -> Option<Spreading> {
    let left = u64::from(before.parts_left());
    let credit = before.credit_milli.saturating_add(before.rate_milli);
    let parts = (credit / MILLI).min(left);
    if parts < SLICE_PARTS_MIN.min(left) {
        return None;
    }
    let mut after = next_revision(before);
    after.credit_milli = credit - parts * MILLI;
    after.parts_done = before.parts_done + parts as u32;
    after.slices = before.slices + 1;
    if after.parts_done >= PARTS {
        after.phase = Phase::Done;
    }
    Some(after)
}

fn next_revision(before: &Spreading) -> Spreading {
    Spreading { revision: before.revision + 1, ..before.clone() }
}

/// Thousandths of a part that a second adds.
fn rate(spread: Spread, devices: u64, left: u32) -> u64 {
    let rate = match spread {
        Spread::Speed(speed) => u64::from(speed) * u64::from(PARTS) * MILLI / devices.max(1),
        Spread::Duration(seconds) => (u64::from(left) * MILLI).div_ceil(u64::from(seconds.max(1))),
    };
    rate.max(1)
}

impl Core {
    /// Where a message that is spread begins; nothing of it is in the log then.
    pub(in crate::delivery) async fn begin_spreading(
        &self,
        message: MessageId,
        app: AppId,
        filter: &Arc<Filter>,
        deadline: WallMs,
        spread: Spread,
    ) -> Result<Destination, PushError> {
        if self.paced.spreads.count(app) >= SPREADS_OPEN_MAX {
            return Err(PushError::TooManySpreads);
        }
        let estimate = self.estimate(app, filter).await;
        let online = || estimate.online.unwrap_or_else(|| self.sessions.of_app(app));
        let devices = estimate.matched.unwrap_or_else(online).max(1);
        Ok(Destination::Spread(Box::new(Spreading {
            message,
            app,
            revision: 0,
            filter: filter.clone(),
            deadline,
            phase: Phase::Running,
            parts_done: 0,
            slices: 0,
            spread,
            devices,
            rate_milli: rate(spread, devices, PARTS),
            credit_milli: 0,
        })))
    }
}

impl Hub {
    /// Where a message's spreading stands, as it was read with the message.
    #[must_use]
    pub fn spread_state(&self, spreading: &Spreading) -> SpreadState {
        let queued = || self.core.paced.spreads.is_queued(spreading.app, spreading.message);
        let word = match spreading.phase {
            Phase::Running if queued() => "queued",
            Phase::Running => "running",
            Phase::Paused => "paused",
            Phase::Done => "done",
            Phase::Expired => "expired",
            Phase::Stopped => "stopped",
        };
        let left = (u64::from(spreading.parts_left()) * MILLI).saturating_sub(spreading.credit_milli);
        SpreadState {
            word,
            parts_done: spreading.parts_done,
            parts: PARTS,
            speed: match spreading.spread {
                Spread::Speed(speed) => u64::from(speed),
                Spread::Duration(_) => {
                    (spreading.rate_milli * spreading.devices).div_ceil(u64::from(PARTS) * MILLI)
                }
            },
            eta_s: (word == "running").then(|| left.div_ceil(spreading.rate_milli.max(1))),
        }
    }

    /// Pauses or resumes a message that is spread, or changes its speed. When this returns paused, no slice follows; what is in
    /// the log already still reaches who reads it.
    ///
    /// # Errors
    /// The store's.
    pub async fn edit_spreading(
        &self,
        app: &App,
        message: MessageId,
        edit: SpreadEdit,
    ) -> Result<SpreadAsked, StoreError> {
        let _under_way = self.core.under_way.read().await;
        for _ in 0..TRIES {
            let Some(view) = self.core.store.message(app.id, message).await? else {
                return Ok(SpreadAsked::Unknown);
            };
            let Some(before) = view.spreading else { return Ok(SpreadAsked::NotSpread) };
            if !before.phase.is_open() {
                return Ok(SpreadAsked::Over);
            }
            let mut after = next_revision(&before);
            match edit.paused {
                Some(true) => after.phase = Phase::Paused,
                Some(false) => after.phase = Phase::Running,
                None => {}
            }
            if let Some(spread) = edit.spread {
                after.spread = spread;
                after.rate_milli = rate(spread, before.devices, before.parts_left());
            }
            if self.core.store.change_spreading(after.clone()).await? {
                self.core.paced.spreads.keep(message, Some(&after));
                return Ok(SpreadAsked::Done(self.spread_state(&after)));
            }
        }
        Err(StoreError::Unavailable("the message is changing; try again".to_owned()))
    }
}

/// Reads those that are not over.
pub(super) async fn load(core: &Core) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let rows = core.store.open_spreadings(after, LOAD_MAX).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = Some(last.message);
        rows.into_iter().for_each(|row| core.paced.spreads.begin(row));
    }
}

/// Appends slices until the hub is gone or closes.
pub(super) async fn run(core: Weak<Core>, pressed: Box<dyn Fn() -> bool + Send + Sync>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(core) = core.upgrade() else { return };
        let _under_way = core.under_way.read().await;
        if core.posts.stopping() {
            return;
        }
        let (steps, expired) = core.paced.spreads.steps((core.clock)(), pressed());
        join_all(steps.into_iter().map(|after| append(&core, after))).await;
        for after in expired {
            let (message, ended) = (after.message, Spreading { phase: Phase::Expired, ..after });
            if core.store.change_spreading(ended).await.is_ok() {
                refresh(&core, message).await;
            }
        }
        let open = core.paced.spreads.open.lock().len() as u64;
        core.stats.spreads_open.store(open, Relaxed);
    }
}

async fn append(core: &Core, after: Spreading) {
    let message = after.message;
    match core.store.append_slice(after.clone()).await {
        Ok(_) => {
            core.stats.slices_appended.fetch_add(1, Relaxed);
            core.paced.spreads.keep(message, Some(&after));
        }
        // It was changed or ended since, or the outcome is not known: what is stored holds.
        Err(StoreError::Repeated | StoreError::Unknown(_)) => refresh(core, message).await,
        // The same step is tried again a second later.
        Err(_) => {}
    }
}

async fn refresh(core: &Core, message: MessageId) {
    if let Ok(stored) = core.store.spreading(message).await {
        core.paced.spreads.keep(message, stored.as_ref());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn spreading(spread: Spread, devices: u64) -> Spreading {
        Spreading {
            message: MessageId(1),
            app: AppId(1),
            revision: 0,
            filter: Arc::default(),
            deadline: WallMs(u64::MAX),
            phase: Phase::Running,
            parts_done: 0,
            slices: 0,
            spread,
            devices,
            rate_milli: rate(spread, devices, PARTS),
            credit_milli: 0,
        }
    }

    /// Seconds and slices until it is done.
    fn whole(mut one: Spreading) -> (u64, u32) {
        for second in 0.. {
            match step(&one) {
                Some(after) => {
                    assert!(after.parts_done > one.parts_done && after.parts_done <= PARTS);
                    one = after;
                }
                None => one.credit_milli += one.rate_milli,
            }
            if one.phase == Phase::Done {
                assert_eq!(one.parts_done, PARTS);
                return (second, one.slices);
            }
        }
        unreachable!()
    }

    #[test]
    fn it_lasts_as_long_as_the_speed_or_the_duration_says_and_has_at_most_4096_slices() {
        let cases: [(Spread, u64, u64); 7] = [
            (Spread::Speed(100), 10_000, 100),
            (Spread::Speed(1), 50, 50),
            (Spread::Speed(1_000_000), 1, 1),
            (Spread::Speed(3), 100, 34),
            (Spread::Duration(60), 7, 60),
            (Spread::Duration(86_400), 1_000_000, 86_400),
            (Spread::Speed(10), 1_000_000, 100_000),
        ];
        for (spread, devices, seconds) in cases {
            let (lasted, slices) = whole(spreading(spread, devices));
            // The first step is at once, and thousandths are cut.
            let least = seconds - seconds / 20 - 1;
            let range = least..=seconds + seconds / 20;
            assert!(range.contains(&lasted), "{spread:?} {devices}: {lasted}");
            assert!(slices <= 4096, "{spread:?} {devices}: {slices}");
        }
    }
}
