//! The numbers of topics in the hub.

use super::Page;
use super::hub::by_label;
use crate::delivery::PUBLISH_LABELS;
use crate::delivery::hub::Hub;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

pub(super) fn hub_topics(page: &mut Page<'_>, hub: &Hub) -> fmt::Result {
    let (stats, held) = (hub.topic_stats(), hub.topic_census());
    let text = ["longwire_topic_publishes", "publishes that came to the hub"];
    by_label(page, "result", text, &PUBLISH_LABELS, &stats.published)?;
    let counters = [
        ("longwire_topic_too_wide", "publishes that met too many filters or kept sessions", &stats.too_wide),
        ("longwire_retained_refused", "retained messages refused at a bound", &stats.retain_refused),
        ("longwire_retained_truncated", "subscriptions to more than they got", &stats.retained_truncated),
        ("longwire_topic_unanswered", "wishes of sessions without an answer", &stats.unanswered),
        ("longwire_sessions_resumed", "kept sessions resumed", &stats.sessions_resumed),
        ("longwire_sessions_ended", "kept sessions ended", &stats.sessions_ended),
        ("longwire_wills_published", "wills published", &stats.wills_published),
        ("longwire_wills_called_back", "wills not published, the session went on", &stats.wills_called_back),
        (
            "longwire_wills_dropped",
            "wills dropped: too many waited, or of an earlier process and not allowed now",
            &stats.wills_dropped,
        ),
        ("longwire_shared_sent", "deliveries of shared groups", &stats.shared_sent),
    ];
    for (name, help, counter) in counters {
        page.counter(name, help, counter.load(Relaxed))?;
    }
    page.counter("longwire_shared_dropped", "messages that shared groups dropped", held.shared_dropped)?;
    let gauges = [
        ("longwire_kept_sessions", "sessions that outlive their connections", held.sessions),
        ("longwire_kept_subscriptions", "their subscriptions", held.subscriptions),
        ("longwire_retained_topics", "topics with a retained message", held.retained),
        ("longwire_retained_bytes", "bytes of retained messages", held.retained_bytes),
        ("longwire_wills_waiting", "wills that wait", held.wills),
        ("longwire_shared_groups", "shared groups", held.groups),
        ("longwire_shared_members", "members of shared groups", held.members),
        ("longwire_shared_waiting", "messages that wait for a member", held.shared_waiting),
    ];
    for (name, help, value) in gauges {
        page.gauge(name, help, value)?;
    }
    Ok(())
}
