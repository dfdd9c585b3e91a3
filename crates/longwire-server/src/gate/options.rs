//! What a gate is told at its making, and why it may not open.

use longwire_proto::session::InboundLimits;
use std::net::SocketAddr;

/// What a gate is told at its making. Every limit's behaviour is said in `docs/configuration.md`.
#[derive(Clone, Debug)]
pub struct GateOptions {
    /// Shards, 1 to 64; one per core by default.
    pub shards: usize,
    /// Pin shard n to core n.
    pub pin: bool,
    /// Connections over all shards; beyond it a connection is answered with `full` and closed.
    pub connections_max: usize,
    /// Body of a frame from a device, bytes.
    pub frame_body_bytes_max: usize,
    /// From accept to complete login, seconds.
    pub login_deadline_s: u32,
    /// A started frame must be complete, seconds.
    pub frame_deadline_s: u32,
    /// A peer that takes no byte is closed, seconds; also `TCP_USER_TIMEOUT`.
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
    /// This node's name, told in WELCOME.
    pub node: String,
    /// Heartbeat asked of devices, and the range allowed, seconds.
    pub heartbeat_s: u16,
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
            node: "longwire".into(),
            heartbeat_s: 60,
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
