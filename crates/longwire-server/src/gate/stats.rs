//! Counters of the shards: one writer each (the shard), read by whoever asks.

use longwire_proto::close::CloseReason;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Upper bounds of the turn histogram, microseconds; the last bucket is everything above.
pub const TURN_BUCKETS_US: [u64; 15] = [
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    2_000_000,
];

/// All shards.
#[derive(Debug)]
pub struct GateStats {
    /// One entry per shard.
    pub shards: Vec<ShardStats>,
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
    pub closed: [AtomicU64; CloseReason::ALL.len()],
    /// Heartbeats answered.
    pub heartbeats: AtomicU64,
    /// Deliveries given to sockets or outboxes.
    pub sent: AtomicU64,
    /// Online-only deliveries dropped because the outbox was above its high mark.
    pub dropped: AtomicU64,
    /// Acks of this session's deliveries.
    pub acked: AtomicU64,
    /// Acks of nothing that is unacked here.
    pub stray_acks: AtomicU64,
    /// Bytes in outboxes now.
    pub outbox_bytes: AtomicU64,
    /// Connections above the high mark now.
    pub unwritable: AtomicU64,
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
    /// Turns that found the event queue full and left sockets unread until there was room.
    pub events_held_back: AtomicU64,
    /// Commands that found their connection gone.
    pub commands_missed: AtomicU64,
}

impl ShardStats {
    /// Counts one.
    pub(crate) fn count(counter: &AtomicU64, by: u64) {
        counter.fetch_add(by, Relaxed);
    }
}
