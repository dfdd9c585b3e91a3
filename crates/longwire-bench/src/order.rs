//! The words between the process that measures and its children. One JSON object a line, both ways.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::transport::Transport;

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
    LogIn {
        target: SocketAddr,
        source: Ipv4Addr,
        app_key: String,
        devices: Vec<Login>,
        heartbeat_s: u16,
        transport: Transport,
    },
    /// Fleet: connect MQTT clients. Answer: `Opened`, when all are welcomed and subscribed, or the time is over.
    Clients(Clients),
    /// Fleet: its publishers publish from now on. Answer: `Armed`.
    Publish(Publish),
    /// Fleet: its publishers stop. Answer: `Armed`.
    Silence,
    /// Fleet: read every so many milliseconds instead of sleeping in epoll; 0 sleeps in epoll. Answer: `Armed`.
    Sweep { interval_ms: u64 },
    /// Fleet: whether stored deliveries are acked. Answer: `Armed`.
    Ack { on: bool },
    /// Fleet: forget the tally and report `Held` when so many messages have come, or when the time is over. Answer
    /// at once: `Armed`.
    Expect { messages: u64, within_ms: u64 },
    /// Fleet: send so many 16-byte heartbeats on every connection. With a rate (per second, all connections of the
    /// fleet) by the clock; with rate 0 each after the answer to the one before. Answer: `Armed`, then `Held`.
    Ping { rounds: u32, rate: u32, within_ms: u64 },
    /// Fleet: read nothing any more, so that the peers' buffers fill. Answer: `Armed`.
    Deaf,
    /// Swarm: play more devices. Answer: `Opened`, when all are in or the time is over.
    Gather(Gather),
    /// Swarm: devices that lose their connection wait until this is taken back, then all try at once. Answer: `Armed`.
    Hold { on: bool },
    /// Swarm: what became of its logins since this was last asked. Answer: `Logins`.
    Logins,
    /// Churner: connect, log in and end in every way, so often. Answer: `Churned`.
    Churn(Churn),
    /// Fleet: the tally since it was last reported. Answer: `Held`.
    Tally,
    /// Writer: take so many connections. Answer: `Opened`.
    Accept { count: usize, within_ms: u64 },
    /// Writer: use duplicates of the sockets that this process has at this port. Answer: `Opened`.
    Borrow { pid: u32, port: u16 },
    /// Writer: `rounds` times, write `batch` frames in one call to every connection of a part. Answer: `Wrote`.
    Write { frame_bytes: usize, rounds: u32, batch: usize, threads: usize, part: Part },
    /// Writer: echo 16-byte frames until so many went back. Answer: `Armed`, then `Wrote`.
    Echo { frames: u64, threads: usize, within_ms: u64 },
}

/// One of `slices` equal parts of the connections of a team of `fleets` processes.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) slice: usize,
    pub(crate) slices: usize,
    pub(crate) fleets: usize,
}

impl Part {
    /// All connections.
    pub(crate) const WHOLE: Part = Part { slice: 0, slices: 1, fleets: 1 };
}

/// MQTT clients of one fleet. Their ids are `prefix`, a hyphen and a number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Clients {
    pub(crate) target: SocketAddr,
    pub(crate) source: Ipv4Addr,
    pub(crate) prefix: String,
    /// The number of the first.
    pub(crate) first: usize,
    pub(crate) count: usize,
    /// MQTT 5.0, not 3.1.1.
    pub(crate) v5: bool,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    /// Tokens, of the first client and on; a client that has one presents it instead of `password` and names itself by nothing else.
    pub(crate) devices: Vec<Login>,
    pub(crate) transport: Transport,
    pub(crate) keep_alive_s: u16,
    /// Messages of QoS 1 and 2 that each may have unfinished.
    pub(crate) in_flight_max: u16,
    /// Connections being opened at once.
    pub(crate) under_way_max: usize,
    pub(crate) part: Play,
    /// Each welcome counts as a message; its latency is the time since the connection was begun.
    pub(crate) count_welcomes: bool,
}

/// What an MQTT client is there for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Play {
    /// It connects.
    Idle,
    /// It subscribes to one topic, the same for all or (`each`) its own: the topic, a slash and its number.
    Subscriber { topic: String, each: bool, qos: u8 },
    /// It publishes when told to.
    Publisher,
}

/// What the publishers of one fleet do, by turns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Publish {
    pub(crate) topic: String,
    /// 0: to that topic; else to so many, by turns: the topic, a slash and a number.
    pub(crate) topics: usize,
    /// The number of the first of them.
    pub(crate) first: usize,
    /// Bytes of a message, at least those of a stamp.
    pub(crate) bytes: usize,
    pub(crate) qos: u8,
    /// Messages per second by the clock; 0 = flat out.
    pub(crate) per_s: f64,
    /// Messages that may be published and not received by this fleet; 0 = any number.
    pub(crate) window: u64,
    /// How often this fleet receives each.
    pub(crate) fan: u64,
    pub(crate) messages_max: u64,
    pub(crate) within_ms: u64,
}

/// More devices for a swarm.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Gather {
    pub(crate) target: SocketAddr,
    pub(crate) source: Ipv4Addr,
    pub(crate) app_key: String,
    pub(crate) devices: Vec<Login>,
    pub(crate) heartbeat_s: u16,
    /// Logins under way at once.
    pub(crate) under_way_max: usize,
    pub(crate) back: Back,
}

/// What a device of a swarm does when its connection is lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Back {
    /// Nothing; it counts as closed.
    Stay,
    /// It tries at once, and again after 50 to 100 ms.
    AtOnce,
    /// It waits as the SDK does by default.
    Spaced,
}

/// How connections are opened and ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Churn {
    pub(crate) target: SocketAddr,
    /// First of 64 source addresses.
    pub(crate) source: Ipv4Addr,
    pub(crate) app_key: String,
    /// Where an operator disconnects devices, with the secret of the app.
    pub(crate) api: SocketAddr,
    pub(crate) app_secret: String,
    pub(crate) devices: Vec<Login>,
    /// Registration ids of `devices`.
    pub(crate) names: Vec<String>,
    /// How many of `devices`, at the end, are for takeovers alone.
    pub(crate) takeovers: usize,
    pub(crate) cycles: u64,
    /// Cycles begun per second; 0 = as fast as they end.
    pub(crate) rate: u32,
    /// No cycle begins after so long.
    pub(crate) within_ms: u64,
    /// Whether some cycles end by the server's deadlines, which take ten seconds and more.
    pub(crate) timeouts: bool,
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
    /// Swarm: how logins went.
    Logins(Logins),
    /// Churner: how cycles ended.
    Churned(Churned),
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
    /// Those of them that were stored, not online-only.
    pub(crate) stored: u64,
    /// Bytes of the frames counted.
    pub(crate) bytes: u64,
    /// Messages that this session had been given before.
    pub(crate) repeated: u64,
    /// Deliveries whose predecessor is missing.
    pub(crate) holes: u64,
    /// Messages that this fleet published.
    #[serde(default)]
    pub(crate) published: u64,
    /// Connections that ended since the start.
    pub(crate) closed: u64,
    /// Why the last of them ended.
    pub(crate) why: String,
    /// From the stamp in the payload to the reading of the message: (microseconds, how often).
    pub(crate) latency_us: Vec<(u64, u64)>,
}

/// How a swarm's logins went since it was last asked.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Logins {
    /// Devices that are welcomed and connected now.
    pub(crate) live: usize,
    /// Welcomes by tenth of a second of the monotonic clock.
    pub(crate) welcomed: BTreeMap<u64, u64>,
    /// Refusals by reason.
    pub(crate) refused: BTreeMap<String, Told>,
    /// Devices whose refusal said that the same login will be refused again.
    pub(crate) given_up: u64,
    /// Attempts that found nobody listening, were reset, or were closed before an answer.
    pub(crate) failed: u64,
    /// Attempts given up after the SDK's waits for the connection or the answer.
    pub(crate) late: u64,
    /// Live connections that were lost.
    pub(crate) lost: u64,
}

impl Logins {
    /// Adds what another swarm says of the same time.
    pub(crate) fn add(&mut self, other: Logins) {
        self.live += other.live;
        self.merge(other);
    }

    /// Adds what the same swarm says of a later time.
    pub(crate) fn then(&mut self, later: Logins) {
        self.live = later.live;
        self.merge(later);
    }

    fn merge(&mut self, other: Logins) {
        for (tenth, count) in other.welcomed {
            *self.welcomed.entry(tenth).or_default() += count;
        }
        for (reason, told) in other.refused {
            let sum = self.refused.entry(reason).or_insert(Told { times: 0, ..told });
            sum.times += told.times;
            sum.retry_min_s = sum.retry_min_s.min(told.retry_min_s);
            sum.retry_max_s = sum.retry_max_s.max(told.retry_max_s);
        }
        self.given_up += other.given_up;
        self.failed += other.failed;
        self.late += other.late;
        self.lost += other.lost;
    }
}

/// How often a refusal was given, and after how many seconds it said to come back.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) times: u64,
    pub(crate) retry_min_s: u16,
    pub(crate) retry_max_s: u16,
}

/// What a churner did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Churned {
    /// Cycles that ended as they were meant to, by ending.
    pub(crate) ended: BTreeMap<String, u64>,
    /// Cycles that did not, by ending and what happened instead.
    pub(crate) failed: BTreeMap<String, u64>,
    pub(crate) span_ns: u64,
}
