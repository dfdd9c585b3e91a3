//! The message store's numbers.

use super::hub::by_label;
use super::{Page, Scale};
use crate::domain::DropReason;
use crate::store::messages::stats::{SYNC_BUCKETS_US, StoreStats};
use crate::store::registry::RegistryHealth;
use crate::store::truth::Stream;
use prometheus_client::metrics::MetricType;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

/// The engines that we build on.
pub(super) fn engines(page: &mut Page<'_>, registry: &RegistryHealth) -> fmt::Result {
    let label = [("engine", "registry")];
    let mut up = page.0.encode_descriptor(
        "longwire_engine_up",
        "1: it answers, 0: it is away",
        None,
        MetricType::Gauge,
    )?;
    up.encode_family(&label)?.encode_gauge(&u64::from(registry.is_up()))?;
    page.counters("longwire_engine_errors", "questions that were not answered", &[(label, registry.errors())])
}

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
        "longwire_messages_collapsed",
        "deliveries replaced by newer ones",
        store.collapsed.load(Relaxed),
    )?;
    page.counter(
        "longwire_messages_recalled",
        "deliveries recorded as recalled",
        store.recalled.load(Relaxed),
    )?;
    let labels = DropReason::ALL.map(DropReason::label);
    let text = ["longwire_deliveries_dropped", "deliveries recorded as dropped"];
    by_label(page, "reason", text, &labels, &store.dropped)?;
    page.counter(
        "longwire_settles_deferred",
        "ends not recorded because too many were out of order",
        store.settles_deferred.load(Relaxed),
    )?;
    upstream(page, store)?;
    let labels = Stream::ALL.map(Stream::label);
    let text = ["longwire_stream_events", "events added to streams of apps"];
    by_label(page, "stream", text, &labels, &store.stream_events)?;
    let text = ["longwire_stream_dropped", "events that streams dropped for number or age"];
    by_label(page, "stream", text, &labels, &store.stream_dropped)?;
    let help = "words of devices about messages that they were not known to have";
    page.counter("longwire_feedback_ignored", help, store.feedback_ignored.load(Relaxed))?;
    let help = "words of devices said before";
    page.counter("longwire_feedback_repeated", help, store.feedback_repeated.load(Relaxed))?;
    page.gauge("longwire_store_free_bytes", "bytes free on the file system", store.free_bytes.load(Relaxed))?;
    page.gauge("longwire_store_queue", "operations that wait for the writer", store.queue_depth.load(Relaxed))
}

fn upstream(page: &mut Page<'_>, store: &StoreStats) -> fmt::Result {
    let counters = [
        ("longwire_upstream_stored", "messages of devices made durable", &store.upstream_stored),
        ("longwire_upstream_repeated", "messages of devices stored before", &store.upstream_repeated),
        (
            "longwire_upstream_refused",
            "messages of devices that the store had no room for",
            &store.upstream_refused,
        ),
        ("longwire_upstream_taken", "messages of devices that the business took", &store.upstream_taken),
        ("longwire_upstream_expired", "messages of devices that retention took", &store.upstream_expired),
    ];
    for (name, help, counter) in counters {
        page.counter(name, help, counter.load(Relaxed))?;
    }
    let messages = store.upstream_waiting.load(Relaxed);
    page.gauge("longwire_upstream_waiting", "messages of devices waiting for the business", messages)?;
    let bytes = store.upstream_waiting_bytes.load(Relaxed);
    page.gauge("longwire_upstream_waiting_bytes", "bytes of devices waiting for the business", bytes)
}
