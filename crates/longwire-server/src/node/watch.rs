//! The watchdog over the shards: one that does not come back from a turn is named in the log, and the node is not ready
//! meanwhile (P27). It also measures how hard the node is pressed and says what is to be shed (LIMITS 7.3).

use super::machine::Machine;
use crate::gate::{GateStats, Level, TURN_BUCKETS_US};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How often it looks; with the bound on a turn, a stall is named after 1.25 s at the latest.
const EVERY: Duration = Duration::from_millis(250);
/// Looks between two measures of the pressure: one a second.
const LOOKS_PER_MEASURE: u32 = 4;
/// Measures in a row that must show slow turns before load is shed for them: one slow turn, or one bad second of the
/// machine, is no reason to send devices away for a minute.
const SLOW_MEASURES: usize = 3;

/// What stands still now, if anything does.
///
/// # Errors
/// Which shard, and for how long.
pub(super) fn look(stats: &GateStats) -> Result<(), String> {
    match stats.stalled() {
        None => Ok(()),
        Some((shard, ms)) => Err(format!("shard {shard} has not come back from its turn for {ms} ms")),
    }
}

/// What the process may use before load is shed, bytes: as configured, or (0) 70 % of what the machine or its control group has.
/// `None`: that is not known, and memory is no reason to shed.
pub(super) fn memory_limit(configured_bytes: u64) -> Option<u64> {
    if configured_bytes > 0 {
        return Some(configured_bytes);
    }
    Machine::here().memory_bytes().map(|bytes| bytes / 100 * 70)
}

/// Names stalls as they begin and end, and sets the level of shedding by [`memory_limit`] and the shards' turns. Runs until
/// the task is dropped.
pub(super) async fn run(stats: Arc<GateStats>, limit: Option<u64>) {
    let machine = Machine::here();
    let mut turns = Turns::of(&stats);
    let (mut stalled, mut looks) = (None, 0_u32);
    let mut p99s_ms = [0; SLOW_MEASURES];
    loop {
        tokio::time::sleep(EVERY).await;
        let now = stats.stalled().map(|(shard, _)| shard);
        match (stalled, now) {
            (None, Some(shard)) => {
                tracing::error!(
                    shard,
                    "a shard stands still: its devices are not served and the node is not ready"
                );
            }
            (Some(shard), None) => tracing::warn!(shard, "the shard goes on"),
            _ => {}
        }
        stalled = now;
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(LOOKS_PER_MEASURE) {
            let percent = limit.map_or(0, |limit| resident_bytes(&machine) * 100 / limit.max(1));
            let newest = Turns::of(&stats);
            p99s_ms.rotate_left(1);
            p99s_ms[SLOW_MEASURES - 1] = turns.p99_ms_until(&newest);
            press(&stats, percent, p99s_ms.into_iter().min().unwrap_or(0));
            turns = newest;
        }
    }
}

fn press(stats: &GateStats, memory_percent: u64, turn_p99_ms: u64) {
    let before = stats.pressure.level();
    let level = before.next(memory_percent, turn_p99_ms);
    if level == before {
        return;
    }
    stats.pressure.set(level);
    let (was, is) = (before.label(), level.label());
    if level > before && level >= Level::Crowded {
        tracing::warn!(was, is, memory_percent, turn_p99_ms, "load is shed");
    } else {
        tracing::info!(was, is, memory_percent, turn_p99_ms, "the level of shedding changed");
    }
}

/// What of this process is in memory.
fn resident_bytes(machine: &Machine) -> u64 {
    let pages = machine.numbers("proc/self/statm").get(1).copied().unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

/// The shards' turns up to a moment, by length.
struct Turns([u64; TURN_BUCKETS_US.len() + 1]);

impl Turns {
    fn of(stats: &GateStats) -> Turns {
        Turns(std::array::from_fn(|at| stats.shards.iter().map(|shard| shard.turns[at].load(Relaxed)).sum()))
    }

    /// The p99 of the turns between two moments, as the upper bound of its bucket.
    fn p99_ms_until(&self, later: &Turns) -> u64 {
        let counts = self.0.iter().zip(&later.0).map(|(before, after)| after - before);
        let total: u64 = counts.clone().sum();
        let mut beyond = total / 100;
        let bounds = TURN_BUCKETS_US.iter().copied().chain([u64::MAX]);
        for (count, bound) in counts.zip(bounds).collect::<Vec<_>>().into_iter().rev() {
            if count > beyond {
                return bound / 1000;
            }
            beyond -= count;
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_does_not_come_back_makes_the_node_not_ready_until_it_does() {
        let stats = GateStats::new(2);
        assert_eq!(look(&stats), Ok(()));
        stats.shards[1].turn_since_ms.store(1, Relaxed);
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while look(&stats).is_ok() {
            assert!(std::time::Instant::now() < deadline, "never named");
            std::thread::yield_now();
        }
        assert!(look(&stats).is_err_and(|said| said.starts_with("shard 1 ")));
        stats.shards[1].turn_since_ms.store(0, Relaxed);
        assert_eq!(look(&stats), Ok(()));
    }

    #[test]
    fn the_p99_is_that_of_the_turns_in_between() {
        let stats = GateStats::new(2);
        let none = Turns::of(&stats);
        assert_eq!(none.p99_ms_until(&Turns::of(&stats)), 0);
        stats.shards[0].turns[3].store(990, Relaxed);
        stats.shards[1].turns[9].store(10, Relaxed);
        let some = Turns::of(&stats);
        assert_eq!(none.p99_ms_until(&some), 0, "ten of a thousand are beyond the p99");
        stats.shards[1].turns[9].store(11, Relaxed);
        assert_eq!(none.p99_ms_until(&Turns::of(&stats)), 50);
        stats.shards[0].turns[3].store(2000, Relaxed);
        assert_eq!(some.p99_ms_until(&Turns::of(&stats)), 0);
    }
}
