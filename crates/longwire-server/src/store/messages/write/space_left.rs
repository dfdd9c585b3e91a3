//! Whether the disk has room for pushes.

use crate::store::messages::stats::StoreStats;
use crate::store::port::StoreError;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long a look at the file system holds.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Watches the free space of the data directory.
pub(crate) struct SpaceLeft {
    folder: PathBuf,
    reserve_bytes: u64,
    looked: Option<Instant>,
    free_bytes: u64,
}

impl SpaceLeft {
    pub(crate) fn new(folder: PathBuf, reserve_bytes: u64) -> SpaceLeft {
        SpaceLeft { folder, reserve_bytes, looked: None, free_bytes: u64::MAX }
    }

    /// Looks, if the last look is old. The error is what an accept gets.
    pub(crate) fn check(&mut self, stats: &StoreStats) -> Result<(), StoreError> {
        let now = Instant::now();
        if self.looked.is_none_or(|looked| now.duration_since(looked) >= LOOK_EVERY) {
            self.looked = Some(now);
            // A look that fails leaves the last one; the commit itself will tell.
            if let Ok(system) = rustix::fs::statvfs(&self.folder) {
                self.free_bytes = system.f_bavail.saturating_mul(system.f_frsize);
                stats.free_bytes.store(self.free_bytes, Ordering::Relaxed);
            }
        }
        if self.free_bytes < self.reserve_bytes {
            return Err(StoreError::Full { free_bytes: self.free_bytes, reserve_bytes: self.reserve_bytes });
        }
        Ok(())
    }
}
