//! How hard the node is pressed, and what is shed for it, cheapest to retry and nearest its source first (LIMITS 7.3).
//! Accepted durable messages are never shed.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// A level of shedding; each includes those below it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(u8)]
pub enum Level {
    /// Nothing is shed.
    #[default]
    Calm = 0,
    /// Broadcasts go in smaller slices.
    Busy = 1,
    /// New connections are refused, with 30 to 120 s to wait; online-only messages are dropped and counted.
    Crowded = 2,
    /// Pushes are refused with 429; the connections that hold most outbound bytes are closed, one in a hundred a second.
    Overloaded = 3,
    /// Nothing more is shed; the name tells an operator that the limit is near all the same.
    Critical = 4,
}

impl Level {
    const ALL: [Level; 5] = [Level::Calm, Level::Busy, Level::Crowded, Level::Overloaded, Level::Critical];

    /// The level of a measure: memory in percent of the limit, and the p99 of the shards' turns in milliseconds; the worse
    /// of the two. A level is left only five points below where it is entered (a fifth below, for turns).
    #[must_use]
    pub fn next(self, memory_percent: u64, turn_p99_ms: u64) -> Level {
        let reached = |entry: Level| {
            let staying = self >= entry;
            let (memory, turn) = match entry {
                Level::Calm => return true,
                Level::Busy => (70, 50),
                Level::Crowded => (80, 100),
                Level::Overloaded => (90, 250),
                Level::Critical => (95, u64::MAX),
            };
            let (memory, turn) = if staying { (memory - 5, turn - turn / 5) } else { (memory, turn) };
            memory_percent >= memory || turn_p99_ms >= turn
        };
        Level::ALL.into_iter().rev().find(|level| reached(*level)).unwrap_or_default()
    }

    /// The word in logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Level::Calm => "calm",
            Level::Busy => "busy",
            Level::Crowded => "crowded",
            Level::Overloaded => "overloaded",
            Level::Critical => "critical",
        }
    }
}

/// The level that holds now: set by the node, read by shards and API.
#[derive(Debug, Default)]
pub struct Pressure(AtomicU8);

impl Pressure {
    /// The level that holds now.
    #[must_use]
    pub fn level(&self) -> Level {
        Level::ALL[usize::from(self.0.load(Relaxed)).min(Level::ALL.len() - 1)]
    }

    /// From now on this level holds.
    pub fn set(&self, level: Level) {
        self.0.store(level as u8, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_entered_at_their_marks_and_left_five_points_below() {
        let mut level = Level::Calm;
        let mut at = |memory, turn| {
            level = level.next(memory, turn);
            level
        };
        assert_eq!(at(69, 49), Level::Calm);
        assert_eq!(at(70, 0), Level::Busy);
        assert_eq!(at(66, 0), Level::Busy);
        assert_eq!(at(64, 0), Level::Calm);
        assert_eq!(at(0, 100), Level::Crowded);
        assert_eq!(at(0, 85), Level::Crowded);
        assert_eq!(at(0, 79), Level::Busy);
        assert_eq!(at(0, 39), Level::Calm);
        assert_eq!(at(96, 0), Level::Critical);
        assert_eq!(at(91, 0), Level::Critical);
        assert_eq!(at(89, 0), Level::Overloaded);
        assert_eq!(at(84, 260), Level::Overloaded, "the worse of the two holds");
        assert_eq!(at(10, 0), Level::Calm);
    }
}
