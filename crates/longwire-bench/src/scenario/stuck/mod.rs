//! `bench stuck`: article 002. Peers whose packets are dropped while the server goes on sending to them.
//!
//! Three phases over the same connections: nothing is sent to the peers, then everything is and they read it, then the
//! command given with `--cut` takes their network and everything is sent again. The healthy devices' latency is measured
//! in each. Memory is sampled each second from the first login to the last close.

mod memory;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::online::{HEARTBEAT_S, Online, TAG};
use super::team::Team;
use crate::args::{OutputArgs, ServerArgs};
use crate::clock;
use crate::devices::{Device, register};
use crate::error::BenchError;
use crate::http::Api;
use crate::latency::{Percentiles, STAMP_BYTES, stamp};
use crate::order::Login;
use crate::report::{Figures, grouped};
use crate::server;

/// The tag of the peers that will be stuck.
const STUCK: &str = "stuck";
/// A tag that no device has.
const NOBODY: &str = "nobody";
const OPEN_DESCRIPTORS: &str = "process_open_fds";
/// Threads that push to the stuck peers.
const CALLERS: u64 = 4;
/// Broadcasts a second to the healthy devices, for their latency.
const PROBES_PER_S: u64 = 50;
/// Stuck peers must be gone after this, counted from the cut.
const CLOSE_TIME: Duration = Duration::from_secs(90);
/// The API closes a connection that is idle for ten seconds.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// Length of the first phase, seconds, unless the others are shorter.
const ALONE_S: u64 = 15;
/// The server looks at all connections of a shard of this size within so long.
const SCAN_TIME: Duration = Duration::from_secs(10);
/// More of them after the stuck peers' time is over are a fault: a thousandth.
const ZOMBIE_RATIO_MAX: f64 = 0.001;
const LOOK: Duration = Duration::from_millis(200);
/// A socket that the peer has closed may wait so long for our own close.
const CLOSE_WAIT_MAX: Duration = Duration::from_secs(5);

/// The options of `bench stuck`.
#[derive(Clone, Debug, Args)]
pub(crate) struct StuckArgs {
    /// Peers that will be stuck.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=18_000))]
    stuck: u32,
    /// Devices that stay well.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=9_000))]
    healthy: u32,
    /// Online-only sends to the stuck peers in each phase; one push by tag is one send to each of them.
    #[arg(long, default_value_t = 1_000_000)]
    sends: u64,
    /// Bytes of a payload to the stuck peers.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u32).range(16..=8_192))]
    bytes: u32,
    /// Length of a phase, seconds; less than the time after which stuck peers are closed.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Durable pushes a second to one of the stuck peers, whose mailbox is full in the end; 0 = none.
    #[arg(long, default_value_t = 0)]
    durable_per_s: u64,
    /// Online-only pushes to nobody before the first phase: the server keeps the counts of its last 65,536, and memory is judged
    /// when that history is full.
    #[arg(long, default_value_t = 66_000)]
    warm: u64,
    /// The program that plays the peers to be stuck, if it must run elsewhere (default: this one).
    #[arg(long, value_name = "PATH")]
    stuck_program: Option<std::path::PathBuf>,
    /// Shell command that takes the network from them.
    #[arg(long, value_name = "COMMAND")]
    cut: String,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is done in a phase.
struct Plan {
    name: &'static str,
    seconds: u64,
    /// Pushes by tag to the peers.
    pushes: u64,
    durable: u64,
}

/// What one phase did.
struct Phase {
    name: &'static str,
    accepted: u64,
    refused: u64,
    durable: u64,
    durable_refused: u64,
    /// Healthy devices: push to device.
    latency: Option<Percentiles>,
    /// Online-only deliveries that the server counted as dropped.
    dropped: f64,
}

/// Runs the scenario.
pub(crate) fn run(args: &StuckArgs) -> Result<(), BenchError> {
    let mut online = Online::begin(&args.server, args.healthy as usize)?;
    let stuck = register(&online.api, args.stuck as usize, |_| vec![STUCK])?;
    online.log_in_up_to(args.healthy as usize)?;
    let descriptors = value(&page(&online.api)?, OPEN_DESCRIPTORS);
    let program = args.stuck_program.clone().map_or_else(server::program, Ok)?;
    let mut peers = Team::start(&program, stuck.len(), 3)?;
    let logins: Vec<Login> = stuck.iter().map(|device| device.login.clone()).collect();
    peers.log_in(online.server.device, &online.server.app_key, &logins, HEARTBEAT_S)?;
    let pid =
        online.server.pid.ok_or_else(|| BenchError::Options("--pid is needed: memory is measured".into()))?;
    let port = online.server.device.port();
    warm(args, &online.api)?;
    let over = AtomicBool::new(false);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let samples = scope.spawn(|| memory::sample(pid, port, begin, &over));
        let phases = phases(args, &mut online, &stuck);
        over.store(true, Relaxed);
        let samples = samples.join().map_err(|_| BenchError::Server("the sampler failed".into()))?;
        let (phases, closing) = phases?;
        let zombies = zombies_left(&online.api)?;
        let after = value(&page(&online.api)?, OPEN_DESCRIPTORS);
        let stuck_s = closing.cut.duration_since(begin).as_secs_f64();
        report(args, &phases, &closing, (&samples, stuck_s), (descriptors, after), zombies);
        Ok(())
    })
}

/// When the stuck peers were closed, seconds after the cut, and for what.
struct Closing {
    cut: Instant,
    first_s: Option<f64>,
    last_s: Option<f64>,
    left: f64,
    reasons: String,
}

fn phases(
    args: &StuckArgs,
    online: &mut Online,
    stuck: &[Device],
) -> Result<([Phase; 3], Closing), BenchError> {
    let plan = |name| Plan {
        name,
        seconds: args.seconds,
        pushes: args.sends.div_ceil(u64::from(args.stuck)),
        durable: args.durable_per_s * args.seconds,
    };
    let alone =
        Plan { pushes: 0, durable: 0, seconds: args.seconds.min(ALONE_S), ..plan("nothing for them") };
    let alone = watched(args, &alone, online, stuck)?;
    let well = watched(args, &plan("they read"), online, stuck)?;
    let cut = std::process::Command::new("sh").args(["-c", &args.cut]).status();
    if !cut.map_err(BenchError::system("run the cut"))?.success() {
        return Err(BenchError::Options(format!("the cut failed: {}", args.cut)));
    }
    let begin = Instant::now();
    let (api, healthy) = (online.api.clone(), f64::from(args.healthy));
    let all = healthy + f64::from(args.stuck);
    std::thread::scope(|scope| {
        let closing = scope.spawn(|| watch(&api, begin, healthy, all));
        let ill = phase(args, &plan("stuck"), online, stuck)?;
        let closing = closing.join().map_err(|_| BenchError::Server("the watcher failed".into()))??;
        Ok(([alone, well, ill], closing))
    })
}

/// A phase in which nobody is closed, under the same looks at the server as when somebody is: they cost it something too.
fn watched(
    args: &StuckArgs,
    plan: &Plan,
    online: &mut Online,
    stuck: &[Device],
) -> Result<Phase, BenchError> {
    let (api, over) = (online.api.clone(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            while !over.load(Relaxed) {
                page(&api)?;
                std::thread::sleep(LOOK);
            }
            Ok(())
        });
        let phase = phase(args, plan, online, stuck);
        over.store(true, Relaxed);
        looks.join().map_err(|_| BenchError::Server("the watcher failed".into()))??;
        phase
    })
}

/// Looks until only the healthy connections are left.
fn watch(api: &Api, begin: Instant, healthy: f64, all: f64) -> Result<Closing, BenchError> {
    let mut closing =
        Closing { cut: begin, first_s: None, last_s: None, left: all - healthy, reasons: String::new() };
    while begin.elapsed() < CLOSE_TIME {
        let page = page(api)?;
        let connections = value(&page, "longwire_connections");
        closing.left = connections - healthy;
        if connections < all && closing.first_s.is_none() {
            closing.first_s = Some(begin.elapsed().as_secs_f64());
        }
        if connections <= healthy {
            closing.last_s = Some(begin.elapsed().as_secs_f64());
            let closed = page.lines().filter(|line| line.starts_with("longwire_connections_closed_total"));
            let some: Vec<&str> = closed.filter(|line| !line.ends_with(" 0")).collect();
            closing.reasons = some.join(", ").replace("longwire_connections_closed_total", "");
            break;
        }
        std::thread::sleep(LOOK);
    }
    Ok(closing)
}

/// Fills the server's history of online-only messages, as fast as it takes them.
fn warm(args: &StuckArgs, api: &Api) -> Result<(), BenchError> {
    let (begin, taken, refused) = (Instant::now(), AtomicU64::new(0), AtomicU64::new(0));
    let to_nobody = |_| body(&json!({"tag": [NOBODY]}), STAMP_BYTES, 0);
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..CALLERS)
            .map(|lane| {
                let numbers = (lane..args.warm).step_by(CALLERS as usize);
                let (taken, refused) = (&taken, &refused);
                scope.spawn(move || paced(api, begin, f64::INFINITY, numbers, to_nobody, taken, refused))
            })
            .collect();
        lanes
            .into_iter()
            .try_for_each(|lane| lane.join().map_err(|_| BenchError::Server("a caller failed".into()))?)
    })
}

/// The load: broadcasts to the stuck, durable pushes to some of them, probes to the healthy.
fn phase(args: &StuckArgs, plan: &Plan, online: &mut Online, stuck: &[Device]) -> Result<Phase, BenchError> {
    eprintln!("{} peers, {}: {} s", args.stuck, plan.name, plan.seconds);
    online.team.tally()?;
    let api = &online.api;
    let before = value(&page(api)?, "longwire_messages_dropped_total");
    let pushes = plan.pushes;
    let per_s = pushes as f64 / plan.seconds as f64;
    let (accepted, refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let (durable, durable_refused) = (AtomicU64::new(0), AtomicU64::new(0));
    let bytes = args.bytes as usize;
    let begin = Instant::now();
    let to_stuck = |_| body(&json!({"tag": [STUCK]}), bytes, 0);
    let to_healthy = |_| body(&json!({"tag": [TAG]}), 64, 0);
    let one = json!({"registration_id": [stuck.first().map(|device| &device.name)]});
    let stored = |_| body(&one, bytes, 3600);
    std::thread::scope(|scope| {
        let mut callers = Vec::new();
        for lane in 0..CALLERS {
            let (accepted, refused) = (&accepted, &refused);
            let numbers = (lane..pushes).step_by(CALLERS as usize);
            callers.push(scope.spawn(move || paced(api, begin, per_s, numbers, to_stuck, accepted, refused)));
        }
        let count = plan.durable;
        let (kept, full, rate) = (&durable, &durable_refused, args.durable_per_s as f64);
        callers.push(scope.spawn(move || paced(api, begin, rate, 0..count, stored, kept, full)));
        let count = PROBES_PER_S * plan.seconds;
        callers.push(scope.spawn(move || {
            let (sent, failed) = (AtomicU64::new(0), AtomicU64::new(0));
            paced(api, begin, PROBES_PER_S as f64, 0..count, to_healthy, &sent, &failed)
        }));
        for caller in callers {
            caller.join().map_err(|_| BenchError::Server("a caller failed".into()))??;
        }
        Ok::<(), BenchError>(())
    })?;
    std::thread::sleep(Duration::from_millis(500));
    let haul = online.team.tally()?;
    Ok(Phase {
        name: plan.name,
        accepted: accepted.into_inner(),
        refused: refused.into_inner(),
        durable: durable.into_inner(),
        durable_refused: durable_refused.into_inner(),
        latency: haul.latencies.percentiles(),
        dropped: value(&page(api)?, "longwire_messages_dropped_total") - before,
    })
}

fn body(audience: &serde_json::Value, bytes: usize, ttl_s: u32) -> String {
    let filling = "x".repeat(bytes - STAMP_BYTES);
    json!({
        "audience": audience,
        "message": {"content_type": "text", "msg_content": format!("{filling}{}", stamp(clock::now_ns()))},
        "options": {"time_to_live": ttl_s},
    })
    .to_string()
}

/// Calls one after another, each at its own moment of the rate.
fn paced(
    api: &Api,
    begin: Instant,
    per_s: f64,
    numbers: impl Iterator<Item = u64>,
    body: impl Fn(u64) -> String,
    accepted: &AtomicU64,
    refused: &AtomicU64,
) -> Result<(), BenchError> {
    let (mut caller, mut used) = (api.open()?, Instant::now());
    for number in numbers {
        let at = begin + Duration::from_secs_f64(number as f64 / per_s);
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        if used.elapsed() > IDLE_MAX {
            caller = api.open()?;
        }
        used = Instant::now();
        let reply = caller.call("POST", "/v1/push", &body(number))?;
        match reply.status {
            202 => accepted.fetch_add(1, Relaxed),
            429 => refused.fetch_add(1, Relaxed),
            _ => return Err(reply.fault("POST /v1/push")),
        };
    }
    Ok(())
}

/// The zombie ratio when all should be gone: the least of a few looks, because the server scans once a second and a shard with many
/// slots in parts.
fn zombies_left(api: &Api) -> Result<f64, BenchError> {
    let (begin, mut least) = (Instant::now(), f64::INFINITY);
    while begin.elapsed() < SCAN_TIME && least > 0.0 {
        least = least.min(value(&page(api)?, "longwire_connections_zombie_ratio"));
        std::thread::sleep(LOOK);
    }
    Ok(least)
}

fn page(api: &Api) -> Result<String, BenchError> {
    let reply = api.open()?.call_well("GET", "/metrics", "")?;
    Ok(String::from_utf8_lossy(&reply.body).into_owned())
}

/// The sum of all series of a metric.
fn value(page: &str, name: &str) -> f64 {
    let series =
        page.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

fn report(
    args: &StuckArgs,
    phases: &[Phase; 3],
    closing: &Closing,
    (samples, stuck_s): (&memory::Samples, f64),
    (before, after): (f64, f64),
    zombies: f64,
) {
    let mut figures = Figures::new("stuck");
    let peers = u64::from(args.stuck);
    figures.row("peers, healthy devices", format!("{}, {}", args.stuck, args.healthy));
    for phase in phases {
        let at = phase.latency.map_or("none".into(), |at| format!("p50 {:.2}, p99 {:.2}", at.p50, at.p99));
        figures.row(format!("{}: healthy devices, ms", phase.name), at);
        if phase.accepted > 0 {
            let sends = grouped((phase.accepted * peers) as f64);
            let dropped = grouped(phase.dropped);
            let text = format!("{sends} ({dropped} dropped, {} pushes refused)", phase.refused);
            figures.row(format!("{}: sends of {} B", phase.name, args.bytes), text);
            let text = format!("{} accepted, {} answered 429", phase.durable, phase.durable_refused);
            figures.row(format!("{}: durable to one", phase.name), text);
        }
    }
    let [alone, well, ill] = phases;
    let ratio = |to: &Phase| Some(ill.latency?.p99 / to.latency?.p99);
    let text = |ratio: Option<f64>| ratio.map_or("none".into(), |ratio| format!("{ratio:.2}"));
    let (to_well, to_alone) = (text(ratio(well)), text(ratio(alone)));
    figures.row("p99 when stuck", format!("{to_well} x of when they read, {to_alone} x of nothing for them"));
    figures.extra("p99_ratio", ratio(well));
    figures.extra("p99_ratio_to_alone", ratio(alone));
    figures.extra("latency_ms_of_phases", phases.iter().map(|phase| phase.latency).collect::<Vec<_>>());
    let seconds = |at: Option<f64>| at.map_or("never".into(), |at| format!("{at:.1} s"));
    let (first, last) = (seconds(closing.first_s), seconds(closing.last_s));
    figures.row("stuck peers closed", format!("first {first}, last {last}, {} left", closing.left));
    let verdict = if zombies < ZOMBIE_RATIO_MAX { "well" } else { "too many" };
    figures.row("zombie ratio after it", format!("{:.3} %, {verdict}", zombies * 100.0));
    figures.extra("zombie_ratio", zombies);
    figures.row("closes by reason", &*closing.reasons);
    figures
        .row("server's descriptors", format!("{before} before the peers came, {after} after the last close"));
    figures.extra("descriptors_left_over", after - before);
    memory::report(&mut figures, samples, stuck_s, closing.last_s);
    let waited = samples.oldest_close_wait;
    let verdict = if waited > CLOSE_WAIT_MAX { "too old" } else { "well" };
    figures.row("oldest CLOSE_WAIT", format!("{:.0} s, {verdict}", waited.as_secs_f64()));
    figures.latency_ms = ill.latency;
    figures.extra("sends_to_stuck", ill.accepted * peers);
    figures.extra("dropped", ill.dropped);
    figures.extra("closed_last_s", closing.last_s);
    figures.print(args.output.json);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_the_sum_of_its_series() {
        let page = "# HELP a b\na_total{x=\"1\"} 2\na_total{x=\"2\"} 3\na_total_more 9\n";
        assert!((value(page, "a_total") - 5.0).abs() < f64::EPSILON);
    }
}
