//! `bench mixed`: heartbeats, durable pushes, broadcasts and churn at stated rates, all at once.

use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::churn::Churners;
use crate::args::{OutputArgs, ServerArgs};
use crate::clock;
use crate::devices::Device;
use crate::error::BenchError;
use crate::latency::{Latencies, STAMP_BYTES, stamp};
use crate::machine::{Memory, cpu_ns};
use crate::metrics::{LoopLag, counter, report_loop};
use crate::order::{Churned, Login};
use crate::progress::bar;
use crate::pump::{Pump, Request};
use crate::random::Random;
use crate::report::{Figures, grouped};
use crate::scenario::online::Online;
use crate::scenario::team::Haul;

/// Pushes are made in slices of this length.
const SLICE: Duration = Duration::from_millis(20);
/// Pushes under way at once.
const LANES: usize = 64;
/// Devices that receive nothing more for so long have received all that comes.
const QUIET: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(200);
const TTL_S: u32 = 3600;
/// Number of a broadcast among requests.
const BROADCAST: u64 = u64::MAX;

#[derive(Clone, Debug, Args)]
pub(crate) struct MixedArgs {
    /// Devices that stay.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=18_000))]
    devices: u32,
    /// Their heartbeat, seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(5..=1200))]
    heartbeat_s: u16,
    /// Durable pushes per second, each to one device.
    #[arg(long, default_value_t = 500)]
    unicast: u32,
    /// Online-only pushes to all, per minute.
    #[arg(long, default_value_t = 30)]
    broadcast_per_minute: u32,
    /// Connections that come and go, per second.
    #[arg(long, default_value_t = 100)]
    churn: u32,
    /// How long.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Bytes of the payload.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(16..=4_096))]
    bytes: u32,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What was pushed, and what came of it.
#[derive(Debug, Default)]
struct Outcome {
    unicasts: u64,
    broadcasts: u64,
    refused: u64,
    /// Requests sent again because the API's connection had ended.
    resent: u64,
    accepting: Latencies,
    haul: Haul,
    churned: Churned,
    heartbeats: f64,
    cpu_s: Option<f64>,
    span_s: f64,
    memory: Option<Memory>,
}

/// Runs the scenario.
pub(crate) fn run(args: &MixedArgs) -> Result<(), BenchError> {
    let mut online = Online::begin(&args.server, args.devices as usize)?;
    let logins: Vec<Login> = online.devices.iter().map(|device| device.login.clone()).collect();
    let server = &online.server;
    online.team.log_in(server.device, &server.app_key, &logins, args.heartbeat_s)?;
    let mut churners = if args.churn > 0 {
        Some(Churners::start(&online.api, 1, u64::from(args.churn) * args.seconds)?)
    } else {
        None
    };
    online.team.tally()?;
    let beats = counter(&online.api, "longwire_heartbeats_total")?;
    let cpu = online.server.pid.map(cpu_ns);
    let within = Duration::from_secs(args.seconds);
    if let Some(churners) = churners.as_mut() {
        churners.begin(&online.server, u64::from(args.churn) * args.seconds, args.churn, within, false)?;
    }
    let start = Instant::now();
    let mut outcome = Outcome::default();
    push(args, &mut online, &mut outcome)?;
    collect(&mut online, &mut outcome)?;
    if let Some(churners) = churners.as_mut() {
        outcome.churned = churners.end(within)?;
    }
    outcome.span_s = start.elapsed().as_secs_f64();
    outcome.heartbeats = counter(&online.api, "longwire_heartbeats_total")? - beats;
    outcome.cpu_s =
        cpu.zip(online.server.pid).map(|(before, pid)| cpu_ns(pid).saturating_sub(before) as f64 / 1e9);
    outcome.memory = online.server.pid.and_then(Memory::read);
    publish(args, &online, &outcome)
}

/// Pushes at the stated rates until the time is over.
fn push(args: &MixedArgs, online: &mut Online, outcome: &mut Outcome) -> Result<(), BenchError> {
    let mut pump = Pump::open(&online.api, LANES)?;
    let mut random = Random::seeded()?;
    let progress = bar("mixed", args.seconds);
    let (start, mut slices) = (Instant::now(), 0);
    let (mut unicasts, mut broadcasts) = (0_u64, 0_u64);
    while start.elapsed().as_secs() < args.seconds {
        slices += 1;
        std::thread::sleep((SLICE * slices).saturating_sub(start.elapsed()));
        let elapsed = start.elapsed().as_secs_f64();
        let unicasts_due = (elapsed * f64::from(args.unicast)) as u64;
        let broadcasts_due = (elapsed * f64::from(args.broadcast_per_minute) / 60.0) as u64;
        let (devices, api) = (&online.devices, &online.api);
        let next = || {
            let (number, device) = if broadcasts < broadcasts_due {
                broadcasts += 1;
                (BROADCAST, None)
            } else if unicasts < unicasts_due {
                unicasts += 1;
                (unicasts, Some(&devices[random.below(devices.len() as u64) as usize]))
            } else {
                return None;
            };
            let body = body(args.bytes as usize, device);
            Some(Request { number, bytes: api.request("POST", "/v1/push", &body) })
        };
        pump.run(next, |answer| {
            match (answer.reply.status, answer.number) {
                (202, BROADCAST) => outcome.broadcasts += 1,
                (202, _) => {
                    outcome.unicasts += 1;
                    outcome.accepting.record_ns(answer.took_ns);
                }
                _ => outcome.refused += 1,
            }
            Ok(())
        })?;
        progress.set_position(start.elapsed().as_secs());
    }
    progress.finish_and_clear();
    outcome.resent = pump.resent;
    Ok(())
}

fn body(bytes: usize, device: Option<&Device>) -> String {
    let payload = format!("{}{}", "x".repeat(bytes - STAMP_BYTES), stamp(clock::now_ns()));
    let audience = device.map_or_else(|| json!("all"), |device| json!({"registration_id": [device.name]}));
    json!({
        "audience": audience,
        "message": {"content_type": "text", "msg_content": payload},
        "options": {"time_to_live": if device.is_some() { TTL_S } else { 0 }},
    })
    .to_string()
}

/// Waits until the devices have everything, or until nothing more comes.
fn collect(online: &mut Online, outcome: &mut Outcome) -> Result<(), BenchError> {
    let expected = outcome.unicasts + outcome.broadcasts * online.devices.len() as u64;
    let mut moved = Instant::now();
    outcome.haul = online.team.tally()?;
    while outcome.haul.messages - outcome.haul.repeated < expected && moved.elapsed() < QUIET {
        std::thread::sleep(LOOK);
        let more = online.team.tally()?;
        if more.messages > 0 {
            moved = Instant::now();
        }
        outcome.haul.merge(&more);
    }
    Ok(())
}

fn publish(args: &MixedArgs, online: &Online, outcome: &Outcome) -> Result<(), BenchError> {
    let Outcome { haul, churned, .. } = outcome;
    let mut figures = Figures::new("mixed");
    let stored = haul.stored.saturating_sub(haul.repeated);
    let broadcast = haul.messages - haul.stored;
    let expected = outcome.broadcasts * u64::from(args.devices);
    let lost_stored = outcome.unicasts.saturating_sub(stored);
    figures.lost = Some(lost_stored);
    figures.latency_ms = haul.latencies.percentiles();
    figures.deliveries_per_s = Some(haul.messages as f64 / args.seconds as f64);
    let deliveries = haul.messages.max(1) as f64;
    figures.cpu_s_per_million = outcome.cpu_s.map(|seconds| seconds * 1e6 / deliveries);
    figures.row("devices, seconds", format!("{}, {}", grouped(args.devices.into()), args.seconds));
    let each = |count: u64| grouped(count as f64 / args.seconds as f64);
    figures.row("durable pushes accepted", format!("{} ({}/s)", outcome.unicasts, each(outcome.unicasts)));
    figures.row("pushes refused", outcome.refused.to_string());
    figures.row("requests sent again", format!("{} (each may have been taken twice)", outcome.resent));
    figures.row("broadcasts", outcome.broadcasts.to_string());
    figures.row("durable lost, repeated, holes", format!("{lost_stored}, {}, {}", haul.repeated, haul.holes));
    figures.row("broadcast deliveries of expected", format!("{broadcast} of {expected}"));
    let words =
        |latencies: &Latencies| latencies.percentiles().map_or_else(|| "none".into(), |at| at.to_string());
    figures.row("push to 202, ms", words(&outcome.accepting));
    figures.row("push to device, ms", words(&haul.latencies));
    figures.row("heartbeats answered", grouped(outcome.heartbeats));
    let (ended, failed) = churned.totals();
    figures.row("connections that came and went", format!("{ended} as meant, {failed} otherwise"));
    figures.row("staying devices closed", haul.closed.to_string());
    if let Some(cpu_s) = outcome.cpu_s {
        let cores = cpu_s / outcome.span_s;
        figures.row("server CPU", format!("{cpu_s:.1} s, {cores:.2} cores"));
        figures.extra("cpu_cores", cores);
    }
    if let Some(memory) = outcome.memory {
        figures.row("server RSS KiB at the end", memory.rss_kib.to_string());
    }
    figures.extra("accept_latency_ms", outcome.accepting.percentiles());
    figures.extra("unicasts", outcome.unicasts);
    figures.extra("refused", outcome.refused);
    figures.extra("resent", outcome.resent);
    figures.extra("repeated", haul.repeated);
    figures.extra("holes", haul.holes);
    figures.extra("closed", haul.closed);
    figures.extra("broadcast_missing", expected.saturating_sub(broadcast));
    figures.extra("heartbeats", outcome.heartbeats);
    figures.extra("churn", churned);
    figures.extra("memory", outcome.memory);
    report_loop(&mut figures, &online.lag, &LoopLag::read(&online.api)?);
    figures.print(args.output.json);
    Ok(())
}
