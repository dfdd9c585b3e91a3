//! The message store's numbers.

use super::{Page, Scale};
use crate::store::messages::stats::{SYNC_BUCKETS_US, StoreStats};
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

pub(super) fn store(page: &mut Page<'_>, store: &StoreStats) -> fmt::Result {
    let scale = Scale { bounds_us: &SYNC_BUCKETS_US, turns: &store.sync_us, sum_us: &store.sync_us_sum };
    page.histogram("longwire_store_commit_seconds", "commits with their sync", &scale)?;
    page.gauge_f64(
        "longwire_store_commit_max_seconds",
        "longest commit",
        store.sync_us_max.load(Relaxed) as f64 / 1e6,
    )?;
    page.counter("longwire_store_operations", "operations in all commits", store.operations.load(Relaxed))?;
    page.counter("longwire_messages_stored", "messages made durable", store.accepted.load(Relaxed))?;
    page.counter("longwire_mailbox_refused", "targets whose mailbox was full", store.refused.load(Relaxed))?;
    page.counter(
        "longwire_messages_delivered",
        "deliveries recorded as delivered",
        store.settled.load(Relaxed),
    )?;
    page.counter("longwire_messages_expired", "deliveries recorded as expired", store.expired.load(Relaxed))?;
    page.counter(
        "longwire_settles_deferred",
        "ends not recorded because too many were out of order",
        store.settles_deferred.load(Relaxed),
    )?;
    page.gauge("longwire_store_free_bytes", "bytes free on the file system", store.free_bytes.load(Relaxed))?;
    page.gauge("longwire_store_queue", "operations that wait for the writer", store.queue_depth.load(Relaxed))
}
