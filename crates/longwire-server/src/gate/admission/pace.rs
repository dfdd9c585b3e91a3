//! How many logins a second the node lets in: more and more while it keeps up (additive increase), a part less when a
//! turn or a decision takes long (multiplicative decrease), between a floor and a ceiling.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The rate is looked at so often, microseconds.
const WINDOW_US: u64 = 100_000;
/// Added in each window without strain, logins per second.
const STEP: u32 = 1000;
/// What is left of the rate in a window with strain, percent.
const LEFT_PERCENT: u64 = 80;
/// A turn of a shard that is longer means strain (the p99 at which load is shed, LIMITS 7.3), microseconds.
pub(in crate::gate) const STRAINED_TURN_US: u64 = 100_000;
/// A login that is decided later than this means strain; half of what a connection may wait at the door, microseconds.
const DECISION_US_MAX: u64 = 1_000_000;
/// Logins that may be let in at once after a rest, in microseconds of the rate.
const BURST_US: u64 = 50_000;
/// Tries to win a step against other shards; who loses them all waits for its next turn.
const TRIES: usize = 4;

/// What the shards measured, since the node began.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::gate) struct Load {
    /// Logins in decision now.
    pub(in crate::gate) deciding: u64,
    /// Logins decided.
    pub(in crate::gate) decided: u64,
}

/// See the module. Times are monotonic microseconds of one clock.
pub(in crate::gate) struct Pace {
    floor: u32,
    ceiling: u32,
    rate: AtomicU32,
    /// When the whole burst is there again, nanoseconds (GCRA).
    due_ns: AtomicU64,
    looked_us: AtomicU64,
    decided: AtomicU64,
    long_turns: AtomicU64,
}

impl Pace {
    pub(super) fn new(floor: u32, ceiling: u32) -> Pace {
        Pace {
            floor,
            ceiling: ceiling.max(floor),
            rate: AtomicU32::new(ceiling.max(floor)),
            due_ns: AtomicU64::new(0),
            looked_us: AtomicU64::new(0),
            decided: AtomicU64::new(0),
            long_turns: AtomicU64::new(0),
        }
    }

    /// Logins per second that are let in now.
    pub(in crate::gate) fn rate(&self) -> u32 {
        self.rate.load(Relaxed)
    }

    /// A shard's turn was longer than [`STRAINED_TURN_US`].
    pub(in crate::gate) fn turn_was_long(&self) {
        self.long_turns.fetch_add(1, Relaxed);
    }

    /// Takes at most `wanted` logins out of what the rate leaves now.
    pub(in crate::gate) fn take(&self, wanted: usize, now_us: u64) -> usize {
        let period_ns = self.period_ns();
        let (now_ns, burst_ns) = (now_us * 1000, (BURST_US * 1000).max(period_ns));
        for _ in 0..TRIES {
            let due_ns = self.due_ns.load(Relaxed);
            let from_ns = due_ns.max(now_ns);
            let room = (now_ns + burst_ns).saturating_sub(from_ns) / period_ns;
            let taken = room.min(wanted as u64);
            let next_ns = from_ns + taken * period_ns;
            if taken == 0 || self.due_ns.compare_exchange(due_ns, next_ns, Relaxed, Relaxed).is_ok() {
                return taken as usize;
            }
        }
        0
    }

    /// Gives back what was taken and not used.
    pub(in crate::gate) fn give_back(&self, unused: usize) {
        if unused > 0 {
            let ns = unused as u64 * self.period_ns();
            // A rate that has changed since, or a rest, makes this a little off; `take` never looks behind now.
            _ = self.due_ns.fetch_update(Relaxed, Relaxed, |due_ns| Some(due_ns.saturating_sub(ns)));
        }
    }

    /// Adapts the rate once a window, whichever shard comes first. `load` is asked only then.
    pub(in crate::gate) fn look(&self, now_us: u64, load: impl FnOnce() -> Load) {
        let looked_us = self.looked_us.load(Relaxed);
        let since_us = now_us.saturating_sub(looked_us);
        let won = || self.looked_us.compare_exchange(looked_us, now_us, Relaxed, Relaxed).is_ok();
        if since_us < WINDOW_US || !won() {
            return;
        }
        let Load { deciding, decided } = load();
        let newly = decided.saturating_sub(self.decided.swap(decided, Relaxed));
        let long_turns = self.long_turns.swap(0, Relaxed);
        let windows = since_us / WINDOW_US;
        // The doors had nothing to do for longer: what was measured then is over.
        let rested = windows > 2;
        // What waits, divided by how fast it goes: how long the last of it waits.
        let wait_us = deciding * since_us / newly.max(1);
        let strained = !rested && (long_turns > 0 || wait_us > DECISION_US_MAX);
        let rate = self.rate();
        let next = if strained {
            (u64::from(rate) * LEFT_PERCENT / 100) as u32
        } else {
            rate.saturating_add(STEP.saturating_mul(u32::try_from(windows).unwrap_or(u32::MAX)))
        };
        self.rate.store(next.clamp(self.floor, self.ceiling), Relaxed);
    }

    fn period_ns(&self) -> u64 {
        1_000_000_000 / u64::from(self.rate().max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_US: u64 = 1_000_000;

    /// The rate after so many windows in a row that show this.
    fn windows(pace: &Pace, from_us: u64, count: u64, mut load: impl FnMut() -> Load) -> u64 {
        for window in 0..count {
            pace.look(from_us + window * WINDOW_US, &mut load);
        }
        pace.rate().into()
    }

    #[test]
    fn strain_lowers_the_rate_to_the_floor_and_calm_brings_it_back() {
        let pace = Pace::new(1000, 50_000);
        assert_eq!(pace.rate(), 50_000);
        windows(&pace, SECOND_US, 1, Load::default);
        pace.turn_was_long();
        pace.look(SECOND_US + WINDOW_US, Load::default);
        assert_eq!(pace.rate(), 40_000);
        pace.look(SECOND_US + WINDOW_US + 1, || panic!("once a window"));
        // 5,000 in decision, 100 decided in a window: the last of them waits five seconds.
        let mut decided = 0;
        let slow = || {
            decided += 100;
            Load { deciding: 5000, decided }
        };
        assert_eq!(windows(&pace, SECOND_US + 2 * WINDOW_US, 40, slow), 1000);
        let calm = || Load { deciding: 5, decided: 9000 };
        assert_eq!(windows(&pace, SECOND_US + 42 * WINDOW_US, 10, calm), 11_000);
        pace.look(60 * SECOND_US, Load::default);
        assert_eq!(pace.rate(), 50_000, "a rest brings all of it back");
    }

    #[test]
    fn a_store_that_answers_nobody_is_strain_and_a_quick_crowd_is_not() {
        let pace = Pace::new(1000, 50_000);
        windows(&pace, SECOND_US, 1, Load::default);
        // 4,000 in decision and 5,000 decided in each window: 80 ms.
        let mut decided = 0;
        let quick = || {
            decided += 5000;
            Load { deciding: 4000, decided }
        };
        assert_eq!(windows(&pace, SECOND_US + WINDOW_US, 10, quick), 50_000);
        let still = || Load { deciding: 4000, decided: 50_000 };
        assert!(windows(&pace, SECOND_US + 11 * WINDOW_US, 10, still) < 10_000);
    }

    #[test]
    fn what_is_taken_in_a_second_is_the_rate_and_what_is_given_back_can_be_taken_again() {
        let pace = Pace::new(1000, 1000);
        let mut taken = 0;
        for ms in 0..1000 {
            taken += pace.take(128, SECOND_US + ms * 1000);
        }
        assert!((1000..=1051).contains(&taken), "{taken}");
        let now_us = 10 * SECOND_US;
        assert_eq!(pace.take(128, now_us), 50, "a burst of 50 ms");
        assert_eq!(pace.take(128, now_us), 0);
        pace.give_back(20);
        assert_eq!(pace.take(128, now_us), 20);
        let slow = Pace::new(2, 2);
        assert_eq!((slow.take(9, now_us), slow.take(9, now_us)), (1, 0), "a slow rate is a rate");
    }
}
