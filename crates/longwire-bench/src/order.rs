//! The words between the process that measures and its children. One JSON object a line, both ways.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// A registered device, as a fleet needs it to log in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Login {
    pub(crate) client: u64,
    pub(crate) token: String,
}

/// What a child is told to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Fleet: open bare connections. Answer: `Opened`.
    Open { target: SocketAddr, source: Ipv4Addr, count: usize },
    /// Fleet: connect devices and log them in. Answer: `Opened`.
    LogIn { target: SocketAddr, source: Ipv4Addr, app_key: String, devices: Vec<Login>, heartbeat_s: u16 },
    /// Fleet: read every so many milliseconds instead of sleeping in epoll; 0 sleeps in epoll. Answer: `Armed`.
    Sweep { interval_ms: u64 },
    /// Fleet: whether stored deliveries are acked. Answer: `Armed`.
    Ack { on: bool },
    /// Fleet: forget the tally and report `Held` when so many messages have come, or when the time is over. Answer
    /// at once: `Armed`.
    Expect { messages: u64, within_ms: u64 },
    /// Fleet: send so many 16-byte heartbeats on every connection, each after the answer to the one before. Answer:
    /// `Armed`, then `Held`.
    Ping { rounds: u32, within_ms: u64 },
    /// Fleet: the tally since it was last reported. Answer: `Held`.
    Tally,
    /// Writer: take so many connections. Answer: `Opened`.
    Accept { count: usize, within_ms: u64 },
    /// Writer: `rounds` times, write `batch` frames in one call to every connection. Answer: `Wrote`.
    Write { frame_bytes: usize, rounds: u32, batch: usize, threads: usize },
    /// Writer: echo 16-byte frames until so many went back. Answer: `Armed`, then `Wrote`.
    Echo { frames: u64, threads: usize, within_ms: u64 },
}

/// What a child answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// Writer: where it listens.
    Listening { address: SocketAddr },
    /// How many connections are up; for devices, those that the server welcomed.
    Opened { connections: usize, failed: usize, why: String },
    /// The order is in force.
    Armed,
    /// A tally.
    Held(Tally),
    /// The writer's own span.
    Wrote { start_ns: u64, end_ns: u64, cpu_ns: u64, messages: u64, full: u64 },
    /// The order could not be followed.
    Failed { text: String },
}

/// What a fleet received since the last tally.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    /// When the expectation was met, or given up, monotonic nanoseconds.
    pub(crate) at_ns: u64,
    pub(crate) messages: u64,
    /// Bytes of the frames counted.
    pub(crate) bytes: u64,
    /// Messages that this session had been given before.
    pub(crate) repeated: u64,
    /// Deliveries whose predecessor is missing.
    pub(crate) holes: u64,
    /// Connections that ended since the start.
    pub(crate) closed: u64,
    /// Why the last of them ended.
    pub(crate) why: String,
    /// From the stamp in the payload to the reading of the message: (microseconds, how often).
    pub(crate) latency_us: Vec<(u64, u64)>,
}
