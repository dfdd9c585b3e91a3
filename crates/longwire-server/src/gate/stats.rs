//! Counters of the shards: one writer each (the shard), read by whoever asks.

use super::admission::Rejection;
use super::pressure::Pressure;
use crate::domain::AppId;
use crate::domain::Tally;
use arc_swap::ArcSwap;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Upper bounds of the turn histogram, microseconds; the last bucket is everything above.
pub const TURN_BUCKETS_US: [u64; 15] = [
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    2_000_000,
];

/// Upper bounds of the heartbeat histogram, microseconds: the articles' buckets (004-27); the last is everything above.
pub const HEARTBEAT_BUCKETS_US: [u64; 7] = [5_000, 10_000, 50_000, 100_000, 200_000, 500_000, 1_000_000];

/// A turn that lasts longer than this is a stall: the shard is named and the node is not ready (P27), milliseconds.
pub const STALLED_AFTER_MS: u64 = 1_000;

/// All shards.
#[derive(Debug)]
pub struct GateStats {
    /// One entry per shard.
    pub shards: Vec<ShardStats>,
    /// What is shed now.
    pub pressure: Pressure,
    /// Logins per second that are let in now.
    pub login_rate: AtomicU32,
    /// What `ShardStats::turn_since_ms` counts from.
    began: Instant,
}

impl GateStats {
    /// Counters at zero.
    #[must_use]
    pub fn new(shards: usize) -> GateStats {
        GateStats {
            shards: (0..shards).map(|_| ShardStats::default()).collect(),
            pressure: Pressure::default(),
            login_rate: AtomicU32::new(0),
            began: Instant::now(),
        }
    }

    /// Monotonic milliseconds, at least 1.
    pub(crate) fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64 + 1
    }

    /// The first shard that has not come back from a turn for [`STALLED_AFTER_MS`], and for how many milliseconds.
    #[must_use]
    pub fn stalled(&self) -> Option<(usize, u64)> {
        let now_ms = self.now_ms();
        self.shards.iter().enumerate().find_map(|(index, shard)| {
            let since_ms = shard.turn_since_ms.load(Relaxed);
            let lasts_ms = now_ms.saturating_sub(since_ms);
            (since_ms != 0 && lasts_ms > STALLED_AFTER_MS).then_some((index, lasts_ms))
        })
    }

    /// Who holds outbound bytes, those who hold most first; at most a second old, or as many seconds as a shard has times
    /// 4,096 full sockets.
    #[must_use]
    pub fn outboxes(&self) -> Vec<AppOutboxes> {
        let mut apps: HashMap<AppId, AppOutboxes> = HashMap::new();
        for shard in &self.shards {
            for held in shard.outboxes.load().iter() {
                apps.entry(held.app).or_insert_with(|| AppOutboxes::none(held.app)).add(held);
            }
        }
        let mut apps: Vec<AppOutboxes> = apps.into_values().collect();
        apps.sort_unstable_by_key(|held| (Reverse(held.bytes), held.app.0));
        apps
    }

    /// Share of the logged-in connections that are silent beyond what their heartbeat allows but not yet closed (004-29),
    /// as the last scan of each shard found it.
    #[must_use]
    pub fn zombie_ratio(&self) -> f64 {
        let sum = |of: fn(&ShardStats) -> &AtomicU64| -> u64 {
            self.shards.iter().map(|shard| of(shard).load(Relaxed)).sum()
        };
        let sessions = sum(|shard| &shard.sessions);
        // A session may have ended since a scan counted it.
        let zombies = sum(|shard| &shard.zombies).min(sessions);
        if sessions == 0 { 0.0 } else { zombies as f64 / sessions as f64 }
    }
}

/// What the connections of one app hold whose sockets are full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AppOutboxes {
    /// The app.
    pub app: AppId,
    /// Such connections.
    pub connections: u64,
    /// Bytes in their outboxes.
    pub bytes: u64,
    /// The socket that has been full longest, seconds.
    pub oldest_s: u32,
    /// The peer that has taken nothing for longest, seconds.
    pub stalled_s: u32,
}

impl AppOutboxes {
    pub(crate) fn none(app: AppId) -> AppOutboxes {
        AppOutboxes { app, connections: 0, bytes: 0, oldest_s: 0, stalled_s: 0 }
    }

    /// Adds what others of the same app hold.
    pub(crate) fn add(&mut self, other: &AppOutboxes) {
        self.connections += other.connections;
        self.bytes += other.bytes;
        self.oldest_s = self.oldest_s.max(other.oldest_s);
        self.stalled_s = self.stalled_s.max(other.stalled_s);
    }
}

/// One shard's counters. Gauges are stored, counters only rise.
#[derive(Debug, Default)]
pub struct ShardStats {
    /// Connections now, logged in or not.
    pub connections: AtomicU64,
    /// Logged-in connections now.
    pub sessions: AtomicU64,
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Accept failures (EMFILE and the like).
    pub accept_errors: AtomicU64,
    /// Connections closed, by [`CloseReason::ALL`].
    pub closed: Tally,
    /// Heartbeats answered.
    pub heartbeats: AtomicU64,
    /// Heartbeats that came earlier than allowed, and were answered.
    pub heartbeats_early: AtomicU64,
    /// Times that a device sent too much and was not read for a while.
    pub inbound_pauses: AtomicU64,
    /// Deliveries given to sockets or outboxes.
    pub sent: AtomicU64,
    /// Of these, high messages ahead of their turn.
    pub sent_ahead: AtomicU64,
    /// Online-only deliveries dropped because the outbox was above its high mark.
    pub dropped: AtomicU64,
    /// Acks of this session's deliveries.
    pub acked: AtomicU64,
    /// Acks of nothing that is unacked here.
    pub stray_acks: AtomicU64,
    /// Publishes to `$ack/…` that say nothing of a message.
    pub feedback_bad: AtomicU64,
    /// Messages of devices answered with `busy` because the node is overloaded.
    pub upstream_shed: AtomicU64,
    /// Bytes in outboxes now.
    pub outbox_bytes: AtomicU64,
    /// Connections above the high mark now.
    pub unwritable: AtomicU64,
    /// Times that a connection rose above the high mark.
    pub slow_consumers: AtomicU64,
    /// Times that a peer whose socket was full was found to take bytes all the same.
    pub slow_progress: AtomicU64,
    /// Who held outbound bytes when the shard looked last: apps with connections whose socket is full.
    pub outboxes: ArcSwap<Vec<AppOutboxes>>,
    /// Bytes read.
    pub read_bytes: AtomicU64,
    /// Bytes written.
    pub written_bytes: AtomicU64,
    /// Turns of the loop by length (work between two waits), see [`TURN_BUCKETS_US`]; one more for everything above.
    pub turns: [AtomicU64; TURN_BUCKETS_US.len() + 1],
    /// Sum of turn lengths, microseconds.
    pub turn_us_sum: AtomicU64,
    /// The longest turn, microseconds.
    pub turn_us_max: AtomicU64,
    /// When the running turn began, milliseconds of the gate's own clock; 0 = the shard waits in epoll.
    pub turn_since_ms: AtomicU64,
    /// Heartbeats by the time from the wake of the shard to the answer, see [`HEARTBEAT_BUCKETS_US`]; one more for
    /// everything above.
    pub heartbeat_us: [AtomicU64; HEARTBEAT_BUCKETS_US.len() + 1],
    /// Sum of those times, microseconds.
    pub heartbeat_us_sum: AtomicU64,
    /// Logged-in connections that the last scan found silent for more than two heartbeats and 20 s.
    pub zombies: AtomicU64,
    /// Logins that are being decided now.
    pub deciding: AtomicU64,
    /// Logins that were decided.
    pub decided: AtomicU64,
    /// Connections now that have not said CONNECT.
    pub awaiting: AtomicU64,
    /// Connections now that are refused, and wait to be told in their own words.
    pub turned_away: AtomicU64,
    /// TLS handshakes begun.
    pub handshakes: AtomicU64,
    /// TLS handshakes that wait for their turn now.
    pub handshakes_waiting: AtomicU64,
    /// Connections refused at the door, by [`Rejection::ALL`].
    pub rejected: [AtomicU64; Rejection::ALL.len()],
    /// Turns that left connections in the backlog, because the shard was late or busy with logins, or for the pace.
    pub accepts_held_back: AtomicU64,
    /// Turns that found the event queue full and left sockets unread until there was room.
    pub events_held_back: AtomicU64,
    /// Commands that found their connection gone.
    pub commands_missed: AtomicU64,
    /// Topics.
    pub topics: TopicStats,
}

/// What one shard does with topics.
#[derive(Debug, Default)]
pub struct TopicStats {
    /// Sessions of MQTT clients now.
    pub sessions: AtomicU64,
    /// Subscriptions now, without shared groups.
    pub subscriptions: AtomicU64,
    /// Messages published by clients, by QoS.
    pub published: [AtomicU64; 3],
    /// Messages given to subscribers' sockets or outboxes without a store in between.
    pub delivered: AtomicU64,
    /// Messages that did not reach a subscriber, or all of one shard, by [`TopicDrop::ALL`].
    pub dropped: [AtomicU64; TopicDrop::ALL.len()],
}

/// Why a message to a topic was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TopicDrop {
    /// The subscriber's outbox was above its high mark, or the node is pressed.
    Outbox = 0,
    /// QoS 1 or 2: the subscriber's window and its queue were full.
    Queue = 1,
    /// Larger than the subscriber takes (MQTT-3.1.2-24).
    TooLarge = 2,
    /// Its expiry interval had run out.
    Expired = 3,
    /// The queue of a shard was full: none of its subscribers gets it.
    ShardFull = 4,
    /// The topic met too many wildcard filters of a shard: none of its subscribers gets it.
    TooWide = 5,
    /// The publisher may not publish there.
    NotAllowed = 6,
}

impl TopicDrop {
    /// Every reason, in the order of the counters.
    pub const ALL: [TopicDrop; 7] = [
        TopicDrop::Outbox,
        TopicDrop::Queue,
        TopicDrop::TooLarge,
        TopicDrop::Expired,
        TopicDrop::ShardFull,
        TopicDrop::TooWide,
        TopicDrop::NotAllowed,
    ];

    /// The word in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            TopicDrop::Outbox => "outbox",
            TopicDrop::Queue => "queue",
            TopicDrop::TooLarge => "too_large",
            TopicDrop::Expired => "expired",
            TopicDrop::ShardFull => "shard_full",
            TopicDrop::TooWide => "too_wide",
            TopicDrop::NotAllowed => "not_allowed",
        }
    }
}

impl ShardStats {
    /// Counts one.
    pub(crate) fn count(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Relaxed);
    }
}
