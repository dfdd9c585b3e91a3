//! Topics at the shards.

use super::{Page, sum};
use crate::gate::{GateStats, TopicDrop};
use std::fmt;

pub(super) fn topics(page: &mut Page<'_>, gate: &GateStats) -> fmt::Result {
    page.gauge("longwire_mqtt_sessions", "logged-in MQTT clients", sum(gate, |s| &s.topics.sessions))?;
    page.gauge(
        "longwire_subscriptions",
        "subscriptions of connected clients, without shared groups",
        sum(gate, |s| &s.topics.subscriptions),
    )?;
    let published: Vec<_> = ["0", "1", "2"]
        .iter()
        .enumerate()
        .map(|(at, qos)| ([("qos", *qos)], sum(gate, |s| &s.topics.published[at])))
        .collect();
    page.counters("longwire_topic_published", "messages that clients published", &published)?;
    page.counter(
        "longwire_topic_delivered",
        "messages given to subscribers without a store in between",
        sum(gate, |s| &s.topics.delivered),
    )?;
    let dropped: Vec<_> = TopicDrop::ALL
        .iter()
        .map(|why| ([("reason", why.label())], sum(gate, |s| &s.topics.dropped[*why as usize])))
        .collect();
    page.counters(
        "longwire_topic_dropped",
        "messages that did not reach a subscriber; shard_full: all subscribers of a shard; too_wide: those of a shard with wildcards; not_allowed: anybody",
        &dropped,
    )
}
