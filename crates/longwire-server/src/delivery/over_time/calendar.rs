//! The task that looks what is due. It keeps so many firings in work, so that they share commits, and holds a bounded number of
//! places; what the store does not take is tried again.

use super::ReadPush;
use super::firing::{Fired, fire};
use crate::delivery::hub::Core;
use crate::domain::{AppId, ScheduleId, WallMs};
use crate::store::pace::DueAt;
use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;

/// How often it compares the time with what is next; it asks the store only when that has come.
const TICK: Duration = Duration::from_millis(20);
/// Firings in work at once.
const IN_WORK_MAX: usize = 256;
/// Places read at one look.
const LOOK_MAX: usize = 1024;
/// Places held in memory: read, in work, and waiting to be tried again. No look is made beyond.
const HELD_MAX: usize = 16 * LOOK_MAX;
/// Before the first new try, milliseconds; doubled each time up to the last.
const AGAIN_FIRST_MS: u64 = 250;
const AGAIN_LAST_MS: u64 = 30_000;

/// Runs until the hub is gone or closes. Nothing that it holds is only here: the calendar in the store is the truth.
pub(super) async fn run(core: Weak<Core>, read: ReadPush, began: WallMs) {
    let mut calendar = Calendar::default();
    let mut in_work = JoinSet::new();
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        // Both are cancel-safe: a tick or a result that is not taken now is taken next.
        let done = tokio::select! {
            Some(done) = in_work.join_next() => Some(done),
            _ = ticks.tick() => None,
        };
        let Some(core) = core.upgrade() else { return };
        if core.posts.stopping() {
            drop(core);
            // What is in work ends as it began; the store closes after it.
            while in_work.join_next().await.is_some() {}
            return;
        }
        if let Some(Ok((place, fired))) = done {
            calendar.fired(place, fired, (core.clock)());
        }
        calendar.look(&core).await;
        core.stats.schedules_held.store(calendar.later.len() as u64, Ordering::Relaxed);
        while in_work.len() < IN_WORK_MAX
            && let Some(place) = calendar.ready.pop_front()
        {
            let (core, read) = (core.clone(), read.clone());
            in_work.spawn(async move { (place, fire(&core, place, &read, began).await) });
        }
    }
}

/// What is known of the calendar.
#[derive(Default)]
struct Calendar {
    /// To be fired, in order.
    ready: VecDeque<DueAt>,
    /// To be tried again at a time.
    later: BTreeSet<(WallMs, DueAt)>,
    /// All that is held, with the number of tries that failed.
    held: HashMap<DueAt, u32>,
    /// What is before this was read.
    read_to: Option<DueAt>,
    /// The first time after it, as far as it is known.
    next: Option<WallMs>,
    /// It was read once.
    known: bool,
}

impl Calendar {
    fn fired(&mut self, place: DueAt, fired: Fired, now: WallMs) {
        match fired {
            Fired::Over => {
                self.held.remove(&place);
            }
            Fired::Again => self.ready.push_back(place),
            Fired::Later => {
                let tries = self.held.entry(place).or_default();
                let wait = (AGAIN_FIRST_MS << (*tries).min(7)).min(AGAIN_LAST_MS);
                *tries += 1;
                self.later.insert((WallMs(now.0 + wait), place));
            }
        }
    }

    /// Takes what is to be tried again, and reads what is due if there may be something and there is room for it.
    async fn look(&mut self, core: &Core) {
        let now = (core.clock)();
        while self.later.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, place)) = self.later.pop_first()
        {
            self.ready.push_back(place);
        }
        let new = core.paced.earliest_new.swap(u64::MAX, Ordering::SeqCst);
        if new != u64::MAX {
            self.go_back(WallMs(new));
        }
        let due = !self.known || self.next.is_some_and(|next| next <= now);
        if !due || self.ready.len() >= IN_WORK_MAX || self.held.len() >= HELD_MAX {
            return;
        }
        let Ok(page) = core.store.due(self.read_to, now, LOOK_MAX).await else {
            // Nothing was read: the next tick asks again.
            return;
        };
        (self.known, self.next) = (true, page.next);
        let all_read = page.next.is_none_or(|next| next > now);
        let last = DueAt { at: now, app: AppId(u32::MAX), id: ScheduleId(u128::MAX) };
        self.read_to = if all_read { Some(last).max(self.read_to) } else { page.due.last().copied() };
        for place in page.due {
            if let Entry::Vacant(entry) = self.held.entry(place) {
                entry.insert(0);
                self.ready.push_back(place);
            }
        }
    }

    /// Something is in the calendar at `at`: what was read up to now is read again from there.
    fn go_back(&mut self, at: WallMs) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
        if self.read_to.is_some_and(|read| read.at >= at) {
            let before = WallMs(at.0.saturating_sub(1));
            self.read_to = Some(DueAt { at: before, app: AppId(u32::MAX), id: ScheduleId(u128::MAX) });
        }
    }
}
