//! What the log keeps beside a message, and what the shards are asked: who of all devices is meant.

use super::Condition;
use crate::domain::device::Attribute;
use crate::domain::{ClientId, Tag};

/// Parts into which shares divide all devices.
pub const PARTS: u32 = 65_536;
/// What divides samples; any number will do, as long as it stays.
const SAMPLE_SALT: u64 = 0x6c6f_6e67_7769_7265;

/// A condition, and shares of whom it fits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    /// Whom it fits.
    pub condition: Condition,
    /// Of these, those in the first so many of [`PARTS`] parts: a device is always in the same part, so a greater sample
    /// contains a smaller one. [`PARTS`] = all.
    pub sample: u32,
    /// Of these, one slice of a message that is spread over time.
    pub slice: Option<Slice>,
}

/// Devices whose part, by this message, lies in `from..to`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slice {
    /// The message's own division, so that not the same devices are first each time.
    pub salt: u64,
    /// The first part.
    pub from: u32,
    /// The part after the last, at most [`PARTS`].
    pub to: u32,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter::of(Condition::Everyone)
    }
}

impl Filter {
    /// All devices that a condition fits.
    #[must_use]
    pub fn of(condition: Condition) -> Filter {
        Filter { condition, sample: PARTS, slice: None }
    }

    /// Whether every device with one of the tags of the condition's cover is meant, without a look at the condition.
    #[must_use]
    pub fn is_its_cover(&self) -> bool {
        let is_tag = |condition: &Condition| matches!(condition, Condition::Tag(_));
        let exact = match &self.condition {
            Condition::Everyone | Condition::Tag(_) => true,
            Condition::Any(any) => any.iter().all(is_tag),
            _ => false,
        };
        exact && self.sample >= PARTS && self.slice.is_none()
    }

    /// Whether it fits a device with these tags and attributes, both sorted.
    #[must_use]
    pub fn fits(&self, client: ClientId, tags: &[Tag], attributes: &[Attribute]) -> bool {
        self.shares(client) && self.condition.fits(tags, attributes)
    }

    /// Whether a device is in the shares, whatever the condition.
    #[must_use]
    pub fn shares(&self, client: ClientId) -> bool {
        (self.sample >= PARTS || part(client, SAMPLE_SALT) < self.sample)
            && self.slice.is_none_or(|slice| (slice.from..slice.to).contains(&part(client, slice.salt)))
    }
}

/// The part of a device, 0 to [`PARTS`] - 1, evenly (the finalizer of SplitMix64).
fn part(client: ClientId, salt: u64) -> u32 {
    let mut mixed = client.0 ^ salt;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((mixed ^ (mixed >> 31)) >> 48) as u32
}
