//! Choices by chance (xorshift64). Which device gets a push, or waits how long, needs no better ones.

use crate::error::BenchError;

/// A source of choices.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Other choices in every run.
    pub(crate) fn seeded() -> Result<Random, BenchError> {
        let mut seed = [0; 8];
        getrandom::fill(&mut seed)
            .map_err(|error| BenchError::Options(format!("no random numbers: {error}")))?;
        Ok(Random::from_seed(u64::from_be_bytes(seed)))
    }

    /// The same choices for the same seed.
    pub(crate) fn from_seed(seed: u64) -> Random {
        Random(seed | 1)
    }

    /// A number from 0 to `bound` exclusive; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound.max(1)
    }
}
