//! Chance: jitter, the sizes of slices, and which connections draw a toxic.

/// Spreads the bits of a number (splitmix64).
pub(super) fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A sequence of numbers.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// From the operating system; a machine without chance gives the same numbers each time.
    pub(super) fn seeded() -> Dice {
        let mut seed = [0; 8];
        let _ = getrandom::fill(&mut seed);
        Dice(u64::from_be_bytes(seed))
    }

    /// The next 64 bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed(self.0)
    }

    /// `middle` plus or minus at most `spread`, not below 0.
    pub(super) fn around(&mut self, middle: u64, spread: u64) -> u64 {
        let span = spread.saturating_mul(2).saturating_add(1);
        middle.saturating_add(self.bits() % span).saturating_sub(spread)
    }
}
