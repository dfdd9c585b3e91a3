//! When in its interval a device first beats, so that a fleet that logged in at one moment does not beat at one moment (004-07).
//!
//! A counter stepped by the golden ratio: any run of logins in a row, of whatever devices, lies almost evenly over the
//! interval. A phase made from the client id would need no counter, but says nothing of the devices that happen to
//! come back together, and random numbers leave gaps and heaps. Each shard begins elsewhere, so shards do not agree either.

/// 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// The phases of one shard.
#[derive(Debug)]
pub(super) struct Phases(u64);

impl Phases {
    /// For the n-th shard.
    pub(super) fn of_shard(number: u64) -> Phases {
        // Another irrational step (the plastic number) sets shards apart without falling into each other's steps.
        Phases(number.wrapping_mul(0xC13F_A9A9_02A6_328F))
    }

    /// In 1/65536 of the interval.
    pub(super) fn draw(&mut self) -> u16 {
        self.0 = self.0.wrapping_add(GOLDEN);
        (self.0 >> 48) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beats in each sixtieth of the interval.
    fn sixtieths(phases: impl Iterator<Item = u16>) -> [u32; 60] {
        let mut counts = [0; 60];
        phases.for_each(|phase| counts[(usize::from(phase) * 60) >> 16] += 1);
        counts
    }

    #[test]
    fn a_fleet_of_fifteen_thousand_beats_evenly_over_the_interval() {
        // P12: peak to mean at most 1.5.
        let mut shards: Vec<Phases> = (0..4).map(Phases::of_shard).collect();
        let counts = sixtieths((0..15_000).map(|login| shards[login % 4].draw()));
        assert!(counts.iter().all(|count| (235..=265).contains(count)), "{counts:?}");
    }

    #[test]
    fn any_few_hundred_in_a_row_do_too() {
        let mut phases = Phases::of_shard(1);
        for run in 0..100 {
            let counts = sixtieths((0..600).map(|_| phases.draw()));
            assert!(counts.iter().all(|count| (7..=13).contains(count)), "run {run}: {counts:?}");
        }
    }
}
