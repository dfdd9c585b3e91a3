//! What a gate is told at its making, and why it may not open.

use super::transport::ListenerTerms;
use longwire_proto::session::InboundLimits;
use longwire_proto::wire::BackOff;
use std::net::SocketAddr;
use std::sync::Arc;

/// Listeners of a gate.
pub const LISTENERS_MAX: usize = 8;

/// What a gate is told at its making. Every limit's behaviour is said in `docs/configuration.md`.
#[derive(Clone, Debug)]
pub struct GateOptions {
    /// Shards, 1 to 64; one per core by default.
    pub shards: usize,
    /// Pin shard n to core n.
    pub pin: bool,
    /// Connections over all shards; beyond it a connection is answered with `full` and closed.
    pub connections_max: usize,
    /// New connections per second from one address (IPv6: one /64), after a burst of two seconds of it; binds only while
    /// the node has no headroom.
    pub address_rate: u32,
    /// Connections of one address.
    pub address_connections_max: u32,
    /// Connections of one address that have not said CONNECT; binds only while half of `awaiting_max` is
    /// taken by connections older than a second.
    pub address_awaiting_max: u32,
    /// Connections that have not said CONNECT, over all shards, each its share; beyond it the oldest makes room.
    pub awaiting_max: usize,
    /// Logins per second that are let in however hard the node is pressed.
    pub login_rate_min: u32,
    /// Logins per second that are let in at most.
    pub login_rate_max: u32,
    /// Body of a frame from a device, bytes.
    pub frame_body_bytes_max: usize,
    /// From accept to complete login, seconds.
    pub login_deadline_s: u32,
    /// A started frame must be complete, seconds.
    pub frame_deadline_s: u32,
    /// A peer that takes no byte is closed, seconds; `TCP_USER_TIMEOUT` is 2 s more, and ten times this while the shard judges.
    pub write_stall_s: u32,
    /// A delivery must be acked, seconds.
    pub ack_deadline_s: u32,
    /// What a device may send, by rate.
    pub inbound: InboundLimits,
    /// Outbox bytes above which a connection is not read and online-only messages are dropped.
    pub outbox_high_bytes: usize,
    /// Outbox bytes below which it is read again.
    pub outbox_low_bytes: usize,
    /// Commands that may wait per shard.
    pub command_queue: usize,
    /// Events that may wait per shard.
    pub event_queue: usize,
    /// `SO_SNDBUF`/`SO_RCVBUF`, bytes; 0 = the kernel's autotuning.
    pub socket_buffer_bytes: usize,
    /// What devices may speak at each listener, and what lies below it; at least one, [`LISTENERS_MAX`] at most.
    pub listeners: Arc<[ListenerTerms]>,
    /// This node's name, told in WELCOME.
    pub node: String,
    /// Back-off told to devices in WELCOME.
    pub back_off: BackOff,
    /// Shortest heartbeat, seconds.
    pub heartbeat_min_s: u16,
    /// Longest heartbeat, seconds.
    pub heartbeat_max_s: u16,
}

impl Default for GateOptions {
    fn default() -> Self {
        GateOptions {
            shards: std::thread::available_parallelism().map_or(1, |cores| cores.get().min(64)),
            pin: false,
            connections_max: 1_000_000,
            address_rate: 200,
            address_connections_max: 10_000,
            address_awaiting_max: 100,
            awaiting_max: 16_384,
            login_rate_min: 1000,
            login_rate_max: 100_000,
            frame_body_bytes_max: longwire_proto::limit::FRAME_BODY_BYTES_MAX,
            login_deadline_s: 10,
            frame_deadline_s: 30,
            write_stall_s: 30,
            ack_deadline_s: 30,
            inbound: InboundLimits::default(),
            outbox_high_bytes: 64 * 1024,
            outbox_low_bytes: 16 * 1024,
            command_queue: 16 * 1024,
            event_queue: 16 * 1024,
            socket_buffer_bytes: 0,
            listeners: Arc::new([ListenerTerms::default()]),
            node: "longwire".into(),
            back_off: BackOff::default(),
            heartbeat_min_s: 15,
            heartbeat_max_s: 1200,
        }
    }
}

/// Why the gate did not open.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The address cannot be bound.
    #[error("cannot listen for devices on {address}: {cause}; choose another address or stop what holds it")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A shard's epoll or thread could not be made.
    #[error("cannot start a shard: {0}")]
    Shard(std::io::Error),
}
