//! `bench stalled-handshakes`: many peers send half a ClientHello and stop; what the server holds for them, when and why it ends them,
//! and how devices log in meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;

use super::honest::{Honest, Logins};
use super::stalls::{Ended, Stalls};
use crate::args::{OutputArgs, ServerArgs};
use crate::devices::register;
use crate::error::BenchError;
use crate::http::Api;
use crate::machine::Memory;
use crate::metrics::{gauges, series};
use crate::progress::bar;
use crate::report::{Figures, grouped};
use crate::server::Server;
use crate::tls::{Certificate, Version, client};

/// Devices that log in by turns.
const DEVICES: usize = 256;
const LOOK: Duration = Duration::from_millis(500);
const CLOSED: &str = "longwire_connections_closed_total";
const REJECTED: &str = "longwire_accept_rejected_total";

#[derive(Clone, Debug, Args)]
pub(crate) struct StalledArgs {
    /// Handshakes that are begun and never go on, at any time.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=18_000))]
    count: u32,
    /// How long so many are kept, seconds: one that the server ends is begun again.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Stalled ones begun per second at most; 0 = all at once, and again all at once when the server has ended them.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    stalls_per_s: u32,
    /// Logins of devices per second, before and meanwhile.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    logins_per_s: u32,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What was seen while they stood.
#[derive(Debug, Default)]
struct Seen {
    before: Option<Memory>,
    up_max: usize,
    rss_kib_max: u64,
    connections_max: f64,
    waiting_max: f64,
}

/// Runs the scenario.
pub(crate) fn run(args: &StalledArgs) -> Result<(), BenchError> {
    let mut server_args = args.server.clone();
    let certificate = Certificate::make()?;
    if server_args.target.is_none() {
        server_args.serve_arg.extend(certificate.flags());
    }
    let server = Server::obtain(&server_args)?;
    let api = Api::new(server.api, &server.app_key, &server.app_secret);
    let devices = register(&api, DEVICES, |_| Vec::new())?;
    let honest = Honest::begin(server.device, &server.app_key, &devices, args.logins_per_s);
    let progress = bar("stalling", args.seconds);
    // The first ones warm everything up.
    std::thread::sleep(Duration::from_secs(2));
    honest.logins()?;
    std::thread::sleep(Duration::from_secs(args.seconds.min(10)));
    let alone = honest.logins()?;
    let closed = series(&api, CLOSED, "reason")?;
    let rejected = series(&api, REJECTED, "reason")?;
    let mut seen = Seen { before: server.pid.and_then(Memory::read), ..Seen::default() };
    let stalls = Stalls::begin(server.device, (args.count as usize, args.stalls_per_s), beginning()?);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(args.seconds) {
        std::thread::sleep(LOOK);
        progress.set_position(begin.elapsed().as_secs());
        seen.look(&stalls, &server, &api)?;
    }
    let meanwhile = honest.logins()?;
    stalls.cease();
    let ended = stalls.end()?;
    drop(honest);
    progress.finish_and_clear();
    let closed = since(&closed, &series(&api, CLOSED, "reason")?);
    let rejected = since(&rejected, &series(&api, REJECTED, "reason")?);
    publish(args, &seen, (&alone, &meanwhile), &ended, (closed, rejected));
    Ok(())
}

/// Half of what a client says first.
fn beginning() -> Result<Vec<u8>, BenchError> {
    let refused = |error: String| BenchError::Options(format!("no ClientHello: {error}"));
    let mut client = client(Version::Tls13).map_err(|error| refused(error.to_string()))?;
    let mut hello = Vec::new();
    client.write_tls(&mut hello).map_err(|error| refused(error.to_string()))?;
    hello.truncate(hello.len() / 2);
    Ok(hello)
}

impl Seen {
    fn look(&mut self, stalls: &Stalls, server: &Server, api: &Api) -> Result<(), BenchError> {
        self.up_max = self.up_max.max(stalls.up());
        let gauges = gauges(api)?;
        let gauge = |name| gauges.get(name).copied().unwrap_or_default();
        self.connections_max = self.connections_max.max(gauge("longwire_connections"));
        self.waiting_max = self.waiting_max.max(gauge("longwire_tls_handshakes_waiting"));
        let memory = server.pid.and_then(Memory::read).unwrap_or_default();
        self.rss_kib_max = self.rss_kib_max.max(memory.rss_kib);
        Ok(())
    }
}

/// How much each counter has grown, without those that have not.
fn since(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let grown = after.iter().map(|(name, count)| (name.clone(), count - before.get(name).unwrap_or(&0.0)));
    grown.filter(|(_, count)| *count > 0.0).collect()
}

type Counts = BTreeMap<String, f64>;

fn publish(
    args: &StalledArgs,
    seen: &Seen,
    (alone, meanwhile): (&Logins, &Logins),
    ended: &Ended,
    (closed, rejected): (Counts, Counts),
) {
    let mut figures = Figures::new("stalled-handshakes");
    figures.row("stalled at once", format!("{} wanted, {} seen", args.count, seen.up_max));
    figures.row("begun in all, not opened", format!("{}, {}", grouped(ended.stalled as f64), ended.failed));
    figures.row("most connections of the server", grouped(seen.connections_max));
    figures.row("most handshakes that waited for their turn", grouped(seen.waiting_max));
    let held_kib = seen.before.map(|before| seen.rss_kib_max.saturating_sub(before.rss_kib));
    let each = held_kib.map(|kib| kib as f64 * 1024.0 / seen.up_max.max(1) as f64);
    if let (Some(before), Some(held_kib), Some(each)) = (seen.before, held_kib, each) {
        let text = format!("{held_kib} KiB above the {} before, {each:.0} bytes each", before.rss_kib);
        figures.row("server RSS at most", text);
    }
    let lives = ended.lives.percentiles();
    let seconds = |ms: f64| ms / 1000.0;
    if let Some(lives) = &lives {
        let text =
            format!("p50 {:.1}, p99 {:.1} s; {} left", seconds(lives.p50), seconds(lives.p99), ended.left);
        figures.row("ended by the server after", text);
    }
    figures.row("told a refusal first", grouped(ended.told as f64));
    figures.row("closed, by reason", format!("{closed:?}"));
    figures.row("refused at the door, by limit", format!("{rejected:?}"));
    for (name, logins) in [("logins before", alone), ("logins meanwhile", meanwhile)] {
        let took = logins.latencies.percentiles().map_or_else(|| "none".into(), |at| format!("{at} ms"));
        figures.row(name, format!("{} welcomed, {took}; failed {:?}", logins.welcomed, logins.failed));
    }
    figures.latency_ms = meanwhile.latencies.percentiles();
    figures.lost = Some(meanwhile.failed.values().sum());
    figures.extra("stalls_per_s", args.stalls_per_s);
    figures.extra("stalled_at_once", seen.up_max);
    figures.extra("connections_max", seen.connections_max);
    figures.extra("handshakes_waiting_max", seen.waiting_max);
    figures.extra("held_kib", held_kib);
    figures.extra("bytes_per_stalled", each);
    figures.extra("ended_after_s", lives.map(|lives| [seconds(lives.p50), seconds(lives.p99)]));
    figures.extra("left", ended.left);
    figures.extra("closed", closed);
    figures.extra("rejected", rejected);
    figures.extra("logins_before_ms", alone.latencies.percentiles());
    figures.extra("logins_before_failed", alone.failed.values().sum::<u64>());
    figures.extra("logins_welcomed", meanwhile.welcomed);
    figures.print(args.output.json);
}
