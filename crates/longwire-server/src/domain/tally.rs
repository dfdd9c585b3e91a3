//! A counter for each close reason.

use longwire_proto::close::CloseReason;
use std::ops::Index;
use std::sync::atomic::AtomicU64;

/// Counters by reason.
#[derive(Debug)]
pub struct Tally([AtomicU64; CloseReason::ALL.len()]);

impl Default for Tally {
    fn default() -> Tally {
        Tally(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Index<CloseReason> for Tally {
    type Output = AtomicU64;
    fn index(&self, reason: CloseReason) -> &AtomicU64 {
        &self.0[reason.index()]
    }
}
