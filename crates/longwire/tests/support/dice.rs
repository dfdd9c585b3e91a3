//! Random numbers from a seed that is printed, so that a failed run can be repeated (`LONGWIRE_TEST_SEED=n`).

use std::time::{SystemTime, UNIX_EPOCH};

/// Xorshift64*: enough for choosing moments and bytes.
pub struct Dice(u64);

impl Dice {
    /// From `LONGWIRE_TEST_SEED`, else from the clock; prints the seed with the name of the test.
    pub fn new(test: &str) -> Dice {
        let given = std::env::var("LONGWIRE_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            now.as_nanos() as u64
        });
        eprintln!("{test}: LONGWIRE_TEST_SEED={seed}");
        Dice::from_seed(seed)
    }

    /// From a seed; the same seed gives the same numbers.
    pub fn from_seed(seed: u64) -> Dice {
        Dice(seed | 1)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number from `range`, which must not be empty.
    pub fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.bits() % (range.end - range.start)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.within(0..n) == 0
    }

    /// Random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.bits() >> 32) as u8).collect()
    }
}
