//! What `/metrics` shows: atomics of the rooms, read when asked.

mod apps;
mod books;
mod hub;
mod hub_topics;
mod sockets;
mod store;
mod topics;

use crate::api::ApiStats;
use crate::delivery::HubStats;
use crate::delivery::hub::Hub;
use crate::gate::{GateStats, HEARTBEAT_BUCKETS_US, Rejection, ShardStats, TURN_BUCKETS_US};
use crate::node::telemetry::DroppedLines;
use crate::store::messages::stats::StoreStats;
use longwire_proto::close::CloseReason;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Apps that have a series of their own; the others are one.
const APPS_NAMED_MAX: usize = 200;
/// The label of that one; an app of this name is in it too.
const OTHER_APPS: &str = "other";

/// Where the numbers are.
#[derive(Clone)]
pub(super) struct Sources {
    /// The shards'.
    pub(super) gate: Arc<GateStats>,
    /// The hub's.
    pub(super) hub: Arc<HubStats>,
    /// The hub, for the names of apps.
    pub(super) names: Hub,
    /// Apps with series of their own.
    pub(super) apps_named: usize,
    /// The message store's.
    pub(super) store: Arc<StoreStats>,
    /// The API's.
    pub(super) api: Arc<ApiStats>,
    /// Where devices connect.
    pub(super) device_port: u16,
    /// Lines that the log dropped.
    pub(super) log_dropped: Option<DroppedLines>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}

/// The OpenMetrics text of now.
pub(super) fn render(sources: &Sources) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(sources.clone()));
    let mut text = String::with_capacity(16 * 1024);
    match prometheus_client::encoding::text::encode(&mut text, &registry) {
        Ok(()) => text,
        Err(_) => "# EOF\n".into(),
    }
}

impl Collector for Sources {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        connections(&mut page, &self.gate)?;
        outboxes(&mut page, &self.gate, &self.names)?;
        deliveries(&mut page, &self.gate)?;
        topics::topics(&mut page, &self.gate)?;
        loops(&mut page, &self.gate)?;
        hub::hub(&mut page, &self.hub)?;
        let (reconnects, last_minute) = self.names.reconnects();
        page.counter(
            "longwire_reconnects",
            "logins of devices that were here before since the start",
            reconnects,
        )?;
        page.gauge("longwire_reconnects_last_minute", "such logins in the last 60 seconds", last_minute)?;
        store::store(&mut page, &self.store)?;
        books::books(&mut page, &self.names)?;
        store::engines(&mut page, &self.names.registry_health())?;
        hub_topics::hub_topics(&mut page, &self.names)?;
        apps::apps(&mut page, &self.names, self.apps_named)?;
        api(&mut page, &self.api)?;
        let dropped = self.log_dropped.as_ref().map_or(0, DroppedLines::count);
        page.counter("longwire_log_lines_dropped", "log lines dropped because the reader was slow", dropped)?;
        sockets::sockets(&mut page, self.device_port)?;
        process(&mut page)?;
        let build = [
            ("version", env!("CARGO_PKG_VERSION")),
            ("commit", option_env!("LONGWIRE_COMMIT").unwrap_or("")),
        ];
        page.0
            .encode_descriptor("longwire_build", "what runs here", None, MetricType::Info)?
            .encode_info(&build)
    }
}

/// A histogram kept in atomics: bounds in microseconds, one more count for everything above, and the sum.
struct Scale<'a> {
    bounds_us: &'a [u64],
    turns: &'a [AtomicU64],
    sum_us: &'a AtomicU64,
}

impl Scale<'_> {
    /// Sum in seconds, count, and buckets with their bounds in seconds.
    fn read(&self) -> (f64, u64, Vec<(f64, u64)>) {
        let bounds = self.bounds_us.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.turns.iter().map(|n| n.load(Relaxed))).collect();
        let count = buckets.iter().map(|(_, n)| n).sum();
        (self.sum_us.load(Relaxed) as f64 / 1e6, count, buckets)
    }
}

/// A page of metrics being written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0
            .encode_descriptor(name, help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, f64>(&value, None)
    }
    fn counter_f64(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.0
            .encode_descriptor(name, help, None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, _, f64>(&value, None)
    }
    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }
    fn gauge_f64(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }
    fn histogram(&mut self, name: &str, help: &str, scale: &Scale<'_>) -> fmt::Result {
        let (seconds, count, buckets) = scale.read();
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        metric.encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)
    }
    fn counters<S: EncodeLabelSet>(&mut self, name: &str, help: &str, values: &[(S, u64)]) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            family.encode_family(labels)?.encode_counter::<NoLabelSet, _, f64>(value, None)?;
        }
        Ok(())
    }
}

fn sum(gate: &GateStats, of: impl Fn(&ShardStats) -> &AtomicU64) -> u64 {
    gate.shards.iter().map(|shard| of(shard).load(Relaxed)).sum()
}

fn connections(page: &mut Page<'_>, gate: &GateStats) -> fmt::Result {
    page.gauge(
        "longwire_connections",
        "device connections, logged in or not",
        sum(gate, |s| &s.connections),
    )?;
    page.gauge("longwire_sessions", "logged-in device connections", sum(gate, |s| &s.sessions))?;
    page.counter("longwire_connections_opened", "device connections accepted", sum(gate, |s| &s.accepted))?;
    page.counter("longwire_accept_errors", "failures of accept", sum(gate, |s| &s.accept_errors))?;
    let closed: Vec<_> = CloseReason::ALL
        .iter()
        .map(|reason| ([("reason", reason.label())], sum(gate, |s| &s.closed[*reason])))
        .collect();
    page.counters("longwire_connections_closed", "device connections closed", &closed)?;
    page.gauge(
        "longwire_connections_unwritable",
        "connections above the high mark",
        sum(gate, |s| &s.unwritable),
    )?;
    page.counter(
        "longwire_slow_consumers",
        "times that a connection rose above the high mark",
        sum(gate, |s| &s.slow_consumers),
    )?;
    page.counter(
        "longwire_slow_progress",
        "readings that found a peer taking bytes although its socket was full",
        sum(gate, |s| &s.slow_progress),
    )?;
    page.counter("longwire_heartbeats", "heartbeats answered", sum(gate, |s| &s.heartbeats))?;
    per_shard(page, gate)?;
    page.counter(
        "longwire_heartbeats_early",
        "heartbeats that came sooner than limits.ping_s allows, and were answered",
        sum(gate, |s| &s.heartbeats_early),
    )?;
    page.counter(
        "longwire_inbound_pauses",
        "times that a device sent too much and was not read for a while",
        sum(gate, |s| &s.inbound_pauses),
    )?;
    heartbeats(page, gate)?;
    page.gauge_f64(
        "longwire_connections_zombie_ratio",
        "share of the sessions that are silent beyond two heartbeats and 20 s",
        gate.zombie_ratio(),
    )?;
    page.gauge("longwire_shedding_level", "0 calm to 4 critical", gate.pressure.level() as u64)?;
    page.gauge("longwire_logins_deciding", "logins being decided", sum(gate, |s| &s.deciding))?;
    admission(page, gate)?;
    page.counter("longwire_device_read_bytes", "bytes read from devices", sum(gate, |s| &s.read_bytes))?;
    page.counter("longwire_device_written_bytes", "bytes written to devices", sum(gate, |s| &s.written_bytes))
}

/// Who is let in, and who is not.
fn admission(page: &mut Page<'_>, gate: &GateStats) -> fmt::Result {
    page.counter(
        "longwire_accepts_held_back",
        "turns that left connections in the backlog: the shard was late or busy with logins, or the pace",
        sum(gate, |s| &s.accepts_held_back),
    )?;
    page.gauge(
        "longwire_login_rate_allowed",
        "logins per second that are let in now",
        gate.login_rate.load(Relaxed).into(),
    )?;
    page.gauge(
        "longwire_connections_awaiting",
        "connections that have not said CONNECT",
        sum(gate, |s| &s.awaiting),
    )?;
    page.gauge(
        "longwire_connections_turned_away",
        "connections that are refused, and wait for their first bytes to be told in their own words, 256 at most",
        sum(gate, |s| &s.turned_away),
    )?;
    page.counter("longwire_logins_decided", "logins decided", sum(gate, |s| &s.decided))?;
    page.counter("longwire_tls_handshakes", "TLS handshakes begun", sum(gate, |s| &s.handshakes))?;
    page.gauge(
        "longwire_tls_handshakes_waiting",
        "TLS handshakes that wait for their turn, 1,024 at most",
        sum(gate, |s| &s.handshakes_waiting),
    )?;
    let rejected: Vec<_> = Rejection::ALL
        .iter()
        .map(|reason| ([("reason", reason.label())], sum(gate, |s| &s.rejected[*reason as usize])))
        .collect();
    page.counters("longwire_accept_rejected", "connections refused at the door, by limit", &rejected)
}

/// Bytes in outboxes by app: those who hold most by name, all others as `other`, so that the sum is what all hold.
fn outboxes(page: &mut Page<'_>, gate: &GateStats, names: &Hub) -> fmt::Result {
    let mut held = gate.outboxes();
    held.truncate(APPS_NAMED_MAX);
    let ids: Vec<_> = held.iter().map(|held| held.app).collect();
    let keys = names.app_keys(&ids);
    let help = "bytes waiting in outboxes";
    let mut family =
        page.0.encode_descriptor("longwire_outbound_queue_bytes", help, None, MetricType::Gauge)?;
    let mut others = sum(gate, |s| &s.outbox_bytes);
    for (held, key) in held.iter().zip(&keys) {
        // The apps were counted a little earlier than the sum.
        let bytes = held.bytes.min(others);
        if let Some(key) = key.as_ref().filter(|key| key.as_str() != OTHER_APPS) {
            others -= bytes;
            family.encode_family(&[("app", key.as_str())])?.encode_gauge(&bytes)?;
        }
    }
    family.encode_family(&[("app", OTHER_APPS)])?.encode_gauge(&others)
}

/// The articles' histogram (004-27), over all shards: in seconds, as Prometheus wants it, and under the articles' own name in
/// milliseconds.
fn heartbeats(page: &mut Page<'_>, gate: &GateStats) -> fmt::Result {
    let buckets: Vec<AtomicU64> = (0..=HEARTBEAT_BUCKETS_US.len())
        .map(|at| AtomicU64::new(sum(gate, |s| &s.heartbeat_us[at])))
        .collect();
    let sum_us = AtomicU64::new(sum(gate, |s| &s.heartbeat_us_sum));
    let scale = Scale { bounds_us: &HEARTBEAT_BUCKETS_US, turns: &buckets, sum_us: &sum_us };
    page.histogram(
        "longwire_heartbeat_latency_seconds",
        "from the shard's wake to the answer of a heartbeat",
        &scale,
    )?;
    let (seconds, count, buckets) = scale.read();
    // Their first bucket is 0: a time that rounds to nothing does not occur.
    let in_ms: Vec<(f64, u64)> =
        std::iter::once((0.0, 0)).chain(buckets.into_iter().map(|(s, n)| (s * 1e3, n))).collect();
    let help = "longwire_heartbeat_latency_seconds in milliseconds";
    let mut metric = page.0.encode_descriptor("im_heartbeat_latency", help, None, MetricType::Histogram)?;
    metric.encode_histogram::<NoLabelSet>(seconds * 1e3, count, &in_ms, None)
}

/// Connections of each shard: how evenly the kernel deals them out.
fn per_shard(page: &mut Page<'_>, gate: &GateStats) -> fmt::Result {
    let help = "device connections of a shard";
    let mut family = page.0.encode_descriptor("longwire_shard_connections", help, None, MetricType::Gauge)?;
    for (at, shard) in gate.shards.iter().enumerate() {
        family.encode_family(&[("shard", at)])?.encode_gauge(&shard.connections.load(Relaxed))?;
    }
    Ok(())
}

fn deliveries(page: &mut Page<'_>, gate: &GateStats) -> fmt::Result {
    page.counter("longwire_messages_sent", "deliveries given to connections", sum(gate, |s| &s.sent))?;
    let ahead = sum(gate, |s| &s.sent_ahead);
    page.counter("longwire_messages_sent_ahead", "high messages sent ahead of their turn", ahead)?;
    page.counter("longwire_messages_acked", "deliveries acked", sum(gate, |s| &s.acked))?;
    let dropped = [([("reason", "outbox_full")], sum(gate, |s| &s.dropped))];
    page.counters("longwire_messages_dropped", "online-only deliveries dropped", &dropped)?;
    page.counter(
        "longwire_upstream_shed",
        "messages of devices refused because the node is overloaded",
        sum(gate, |s| &s.upstream_shed),
    )?;
    page.counter("longwire_stray_acks", "acks of nothing unacked", sum(gate, |s| &s.stray_acks))?;
    let help = "MQTT publishes to $ack that say nothing of a message";
    page.counter("longwire_feedback_bad", help, sum(gate, |s| &s.feedback_bad))?;
    page.counter(
        "longwire_commands_missed",
        "commands that found their connection gone",
        sum(gate, |s| &s.commands_missed),
    )
}

/// Turns of each shard's loop: the lag that a delivery can meet.
fn loops(page: &mut Page<'_>, gate: &GateStats) -> fmt::Result {
    let help = "work of a shard between two waits";
    let mut family =
        page.0.encode_descriptor("longwire_reactor_loop_seconds", help, None, MetricType::Histogram)?;
    for (at, shard) in gate.shards.iter().enumerate() {
        let scale = Scale { bounds_us: &TURN_BUCKETS_US, turns: &shard.turns, sum_us: &shard.turn_us_sum };
        let (seconds, count, buckets) = scale.read();
        let labels = [("shard", at)];
        family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)?;
    }
    let mut family = page.0.encode_descriptor(
        "longwire_reactor_loop_max_seconds",
        "longest turn",
        None,
        MetricType::Gauge,
    )?;
    for (at, shard) in gate.shards.iter().enumerate() {
        family
            .encode_family(&[("shard", at)])?
            .encode_gauge(&(shard.turn_us_max.load(Relaxed) as f64 / 1e6))?;
    }
    page.counter(
        "longwire_events_held_back",
        "turns that waited for room for events",
        sum(gate, |s| &s.events_held_back),
    )
}

fn api(page: &mut Page<'_>, api: &ApiStats) -> fmt::Result {
    page.gauge("longwire_api_connections", "API connections", api.connections.load(Relaxed))?;
    page.gauge("longwire_api_requests_in_flight", "API requests in work", api.in_flight.load(Relaxed))?;
    page.counter(
        "longwire_api_connections_refused",
        "API connections beyond the limit",
        api.refused.load(Relaxed),
    )?;
    page.counter("longwire_api_accept_errors", "failures of accept", api.accept_errors.load(Relaxed))?;
    let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"];
    let answered: Vec<_> = classes
        .iter()
        .zip(&api.answered[1..])
        .map(|(class, count)| ([("status", *class)], count.load(Relaxed)))
        .collect();
    page.counters("longwire_api_requests", "API requests answered", &answered)?;
    page.counter(
        "longwire_audit_lines_failed",
        "lines that could not be written into the audit log",
        api.audit_failed.load(Relaxed),
    )?;
    page.gauge(
        "longwire_audit_broken",
        "1: the check at the start found a line of the audit log that does not follow the one before",
        api.audit_broken.load(Relaxed),
    )?;
    page.counter(
        "longwire_api_pushes_accepted",
        "pushes answered with 202",
        api.pushes_accepted.load(Relaxed),
    )
}

/// Memory of this process in RAM, bytes.
pub(super) fn resident_bytes() -> u64 {
    memory_pages()[1] * rustix::param::page_size() as u64
}

/// Pages of address space, and of it in RAM, from `/proc/self/statm`.
fn memory_pages() -> [u64; 2] {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = statm.split(' ').map(|n| n.trim().parse::<u64>().unwrap_or(0));
    [pages.next().unwrap_or(0), pages.next().unwrap_or(0)]
}

fn process(page: &mut Page<'_>) -> fmt::Result {
    let page_bytes = rustix::param::page_size() as u64;
    page.gauge("process_resident_memory_bytes", "memory in RAM", resident_bytes())?;
    page.gauge("process_virtual_memory_bytes", "address space", memory_pages()[0] * page_bytes)?;
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    page.gauge("process_open_fds", "open descriptors", open)?;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    page.gauge("process_max_fds", "descriptors allowed", limit)?;
    page.counter_f64("process_cpu_seconds", "time on a core", cpu_seconds())
}

/// User and system time of this process, from `/proc/self/stat`.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in parentheses, may hold anything; what follows is numbers, the 12th and 13th of them the times.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}
