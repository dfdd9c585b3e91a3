//! What the message store counts.

use crate::domain::DropReason;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets of [`StoreStats::sync_us`], microseconds; one more bucket takes the rest.
pub const SYNC_BUCKETS_US: [u64; 9] = [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000];

/// Counters and gauges of the message store, read by telemetry. Each moves on its own: a reader sees no common moment.
#[derive(Debug, Default)]
pub struct StoreStats {
    /// Commits, each one sync of the journal.
    pub commits: AtomicU64,
    /// Operations in all commits.
    pub operations: AtomicU64,
    /// Commits by how long they took with their sync, see [`SYNC_BUCKETS_US`].
    pub sync_us: [AtomicU64; SYNC_BUCKETS_US.len() + 1],
    /// Time that all commits took with their sync, microseconds.
    pub sync_us_sum: AtomicU64,
    /// Longest commit, microseconds.
    pub sync_us_max: AtomicU64,
    /// Messages made durable.
    pub accepted: AtomicU64,
    /// Targets refused because their mailbox was full.
    pub refused: AtomicU64,
    /// Ends recorded as delivered.
    pub settled: AtomicU64,
    /// Ends recorded as expired.
    pub expired: AtomicU64,
    /// Ends recorded as collapsed.
    pub collapsed: AtomicU64,
    /// Ends recorded as recalled.
    pub recalled: AtomicU64,
    /// Ends recorded as dropped, by reason.
    pub dropped: [AtomicU64; DropReason::ALL.len()],
    /// Kept sessions.
    pub sessions: AtomicU64,
    /// Retained messages.
    pub retained: AtomicU64,
    /// Ends that were not recorded because the device had settled too many messages out of order.
    pub settles_deferred: AtomicU64,
    /// Messages of devices made durable.
    pub upstream_stored: AtomicU64,
    /// Messages of devices that were stored before.
    pub upstream_repeated: AtomicU64,
    /// Messages of devices refused because too much of their app waits, or the disk is full.
    pub upstream_refused: AtomicU64,
    /// Messages of devices that the business took.
    pub upstream_taken: AtomicU64,
    /// Messages of devices that retention took because the business did not.
    pub upstream_expired: AtomicU64,
    /// Messages of devices that wait for the business.
    pub upstream_waiting: AtomicU64,
    /// Their bytes.
    pub upstream_waiting_bytes: AtomicU64,
    /// Events added to streams of apps, by [`Stream`](crate::store::truth::Stream).
    pub stream_events: [AtomicU64; 2],
    /// Events that streams dropped, because there were too many or they were too old.
    pub stream_dropped: [AtomicU64; 2],
    /// Words of devices about messages that they were not known to have.
    pub feedback_ignored: AtomicU64,
    /// Words of devices that they had said before.
    pub feedback_repeated: AtomicU64,
    /// Bytes free on the file system at the last look.
    pub free_bytes: AtomicU64,
    /// Operations that wait for the writer.
    pub queue_depth: AtomicU64,
}

impl StoreStats {
    pub(crate) fn committed(&self, operations: u64, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = SYNC_BUCKETS_US.iter().position(|&bound| took_us <= bound);
        let bucket = bucket.unwrap_or(SYNC_BUCKETS_US.len());
        self.sync_us[bucket].fetch_add(1, Ordering::Relaxed);
        self.sync_us_sum.fetch_add(took_us, Ordering::Relaxed);
        self.sync_us_max.fetch_max(took_us, Ordering::Relaxed);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.operations.fetch_add(operations, Ordering::Relaxed);
    }
}

pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}
