//! The scenarios and their options.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::scenario::broadcast::BroadcastArgs;
use crate::scenario::crowd::churn::ChurnArgs;
use crate::scenario::crowd::heartbeat::HeartbeatArgs;
use crate::scenario::crowd::mixed::MixedArgs;
use crate::scenario::crowd::stall::StallArgs;
use crate::scenario::crowd::storm::StormArgs;
use crate::scenario::mqtt::MqttArgs;
use crate::scenario::mqtt::load::LoadArgs;
use crate::scenario::schedules::SchedulesArgs;
use crate::scenario::transports::all::AllArgs;
use crate::scenario::transports::handshake::HandshakeArgs;
use crate::scenario::transports::stalled::StalledArgs;
use crate::transport::TransportArgs;

/// `longwire bench`: measure a server, and the machine beside it.
#[derive(Clone, Debug, Args)]
#[command(arg_required_else_help = true, args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    /// Print the ratio of each common figure of two measurements, from files that end with the line of `--json`.
    #[arg(long, num_args = 2, value_names = ["A.json", "B.json"])]
    pub(crate) compare: Option<Vec<PathBuf>>,
    #[command(subcommand)]
    pub(crate) scenario: Option<Scenario>,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Scenario {
    /// What this machine can do without a server: bare write and echo loops.
    Limit(LimitArgs),
    /// Server memory per idle, logged-in connection.
    Idle(IdleArgs),
    /// One push to many devices, beside a bare write loop of the same bytes.
    Fanout(FanoutArgs),
    /// Durable pushes to one device each, through the HTTP API.
    Unicast(UnicastArgs),
    /// Stored pushes to everybody and to a condition, with most devices away.
    BroadcastRegistered(BroadcastArgs),
    /// Heartbeats, beside a bare echo loop.
    Heartbeat(HeartbeatArgs),
    /// The server is killed and started again: how all devices come back.
    Storm(StormArgs),
    /// Connections ended in every way, and what is left of them in the server.
    Churn(ChurnArgs),
    /// Devices that do not read, beside devices that do.
    Stall(StallArgs),
    /// Heartbeats, durable pushes, broadcasts and churn at stated rates.
    Mixed(MixedArgs),
    /// TLS handshakes of the server, beside those of the bare library.
    Handshake(HandshakeArgs),
    /// TLS handshakes that are begun and never go on, beside devices that log in.
    StalledHandshakes(StalledArgs),
    /// Devices of every protocol through every transport, all at one listener.
    MixedTransports(AllArgs),
    /// Schedules that are all due in the same second, with the server up and with it down.
    Schedules(SchedulesArgs),
    /// Peers whose packets are dropped while pushes to them go on (bench/article-002.sh sets the scene).
    Stuck(crate::scenario::stuck::StuckArgs),
    /// A TCP fault proxy with the HTTP API of Toxiproxy.
    Proxy(crate::proxy::ProxyArgs),
    /// A process of a measurement; the scenarios start it.
    #[command(hide = true)]
    Fleet(FleetArgs),
}

/// Which server is measured.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServerArgs {
    /// Start a server for the measurement and end it afterwards (the default without --target).
    #[arg(long, conflicts_with_all = ["target", "api", "app_key", "app_secret", "pid"])]
    pub(crate) spawn: bool,
    /// Where devices connect at a server that runs already.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) target: Option<SocketAddr>,
    /// Its HTTP API.
    #[arg(long, value_name = "HOST:PORT", requires = "target")]
    pub(crate) api: Option<SocketAddr>,
    /// Key of the app to push for.
    #[arg(long, requires = "target")]
    pub(crate) app_key: Option<String>,
    /// Secret of that app.
    #[arg(long, requires = "target")]
    pub(crate) app_secret: Option<String>,
    /// Its process id, for memory and processor time (this host only).
    #[arg(long, requires = "target")]
    pub(crate) pid: Option<u32>,
    /// Another argument for the spawned server; may be repeated.
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) serve_arg: Vec<String>,
    /// The longwire program to start the server from (default: this one).
    #[arg(long, value_name = "PATH")]
    pub(crate) server_program: Option<PathBuf>,
}

/// How figures are printed.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct OutputArgs {
    /// Also print the figures as one last line of JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct LimitArgs {
    /// Connections to write to.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=18_000))]
    pub(crate) connections: u32,
    /// Writing threads; 0 = one per core.
    #[arg(long, default_value_t = 0)]
    pub(crate) threads: usize,
    /// Bytes of one message.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(16..=65_536))]
    pub(crate) bytes: u32,
    /// Messages of one vectored write.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) batch: u32,
    /// Turns of each kind.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) turns: u32,
    /// Writes (and echoes) per connection in one turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// How often the readers look for bytes, milliseconds; 0 = sleep in epoll.
    #[arg(long, default_value_t = 10)]
    pub(crate) sweep_ms: u64,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct IdleArgs {
    /// Fill levels, connections; at least two, rising.
    #[arg(long, value_delimiter = ',', default_values_t = [2_000, 6_000, 10_000, 14_000, 18_000])]
    pub(crate) levels: Vec<u32>,
    /// Instead of levels at one server: so many connections over as many servers as they need.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=2_000_000))]
    pub(crate) total: Option<u32>,
    /// With --total: servers to start; 0 = one for every 16,000 connections.
    #[arg(long, default_value_t = 0, requires = "total")]
    pub(crate) servers: u32,
    /// With --total: opening stops when the machine has less free memory, MiB.
    #[arg(long, default_value_t = 2_048, requires = "total")]
    pub(crate) floor_mib: u64,
    /// With --total: opening stops after so many seconds.
    #[arg(long, default_value_t = 900, requires = "total")]
    pub(crate) seconds: u64,
    /// With --total: heartbeats per second in all, for ten seconds, when all are in.
    #[arg(long, default_value_t = 20_000, requires = "total")]
    pub(crate) heartbeat_rate: u32,
    /// Longest wait for memory to settle at a level, seconds.
    #[arg(long, default_value_t = 15)]
    pub(crate) settle_s: u64,
    /// MQTT: all subscribe to the same topic.
    #[arg(long, help_heading = "MQTT")]
    pub(crate) common_topic: bool,
    #[command(flatten)]
    pub(crate) through: TransportArgs,
    #[command(flatten)]
    pub(crate) mqtt: MqttArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct FanoutArgs {
    /// Push to the audience `all` (the default).
    #[arg(long, conflicts_with = "tag")]
    pub(crate) all: bool,
    /// Push to a tag that every device has.
    #[arg(long)]
    pub(crate) tag: bool,
    /// Store the messages and have them acked; without it they are online-only (ttl 0).
    #[arg(long)]
    pub(crate) stored: bool,
    /// Devices.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=18_000))]
    pub(crate) devices: u32,
    /// Bytes of the payload.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(16..=4_096))]
    pub(crate) bytes: u32,
    /// Turns of the bare loop and of the server, each.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) turns: u32,
    /// Cut each turn into parts of about so many connections, bare loop and server by turns in each; the server's pushes go to a tag
    /// of the part, because a push to all cannot be cut. 0 = a turn is not cut.
    #[arg(long, default_value_t = 0, conflicts_with = "all", value_parser = clap::value_parser!(u32).range(0..=18_000))]
    pub(crate) slice: u32,
    /// The bare loop on connections of its own, although the server's could be shared.
    #[arg(long)]
    pub(crate) own_connections: bool,
    /// Pushes of one turn, sent without waiting; the bare loop writes as many messages in one call.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) coalesce: u32,
    /// Writing threads of the bare loop; 0 = one per core, as the server has.
    #[arg(long, default_value_t = 0)]
    pub(crate) threads: usize,
    /// How often the readers look for bytes, milliseconds; 0 = sleep in epoll. A turn's end is seen so much late.
    #[arg(long, default_value_t = 2)]
    pub(crate) sweep_ms: u64,
    /// Without the bare loop: no ratio.
    #[arg(long)]
    pub(crate) no_limit: bool,
    /// Server and bare loop on the first half of the cores, devices on the others, those whose latency is watched on the last
    /// one: a figure is then the server's alone. Needs four cores, and a server that is started for the measurement.
    #[arg(long, conflicts_with = "target")]
    pub(crate) apart: bool,
    #[command(flatten)]
    pub(crate) mqtt: MqttArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct UnicastArgs {
    /// Devices online; each push goes to a random one.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=18_000))]
    pub(crate) devices: u32,
    /// Pushes in all.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) pushes: u32,
    /// Pushes under way at once, one per connection.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub(crate) in_flight: u32,
    /// Bytes of the payload.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(16..=4_096))]
    pub(crate) bytes: u32,
    /// No new push after so many seconds.
    #[arg(long, default_value_t = 60)]
    pub(crate) seconds: u64,
    /// Pushes to one device after another at this rate, first alone, then while broadcasts to all devices run one behind the other; the
    /// latency of both.
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) during_broadcast: Option<u32>,
    /// Directory for the fsync probe, on the file system of the server's data.
    #[arg(long, value_name = "DIR")]
    pub(crate) probe_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) mqtt: MqttArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct FleetArgs {
    /// What this process does.
    #[arg(long)]
    pub(crate) role: Role,
    /// The server's command line, for the role of the server.
    #[arg(last = true)]
    pub(crate) words: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Role {
    /// Devices, or bare readers.
    Readers,
    /// Devices of a few bytes each, which come back when they are lost.
    Swarm,
    /// Connections that come and go.
    Churner,
    /// The bare write and echo loops.
    Writer,
    /// Becomes a server that ends with the process that measures.
    Server,
}
