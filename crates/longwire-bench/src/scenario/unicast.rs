//! `bench unicast`: durable pushes to one device each.

use std::time::{Duration, Instant};

use serde_json::json;

use super::bare::seconds;
use super::online::Online;
use crate::args::UnicastArgs;
use crate::clock;
use crate::error::BenchError;
use crate::latency::{Latencies, Percentiles, STAMP_BYTES, stamp};
use crate::machine::cpu_ns;
use crate::metrics::{LoopLag, report_loop};
use crate::order::Order;
use crate::probe::fsync;
use crate::progress::bar;
use crate::pump::{Pump, Request};
use crate::random::Random;
use crate::report::{Figures, grouped};
use crate::scenario::team::Haul;

/// Devices that receive nothing more for so long have received all that comes.
const QUIET: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(100);
/// Life of a message, seconds.
const TTL_S: u32 = 3600;

/// What the API answered.
#[derive(Debug, Default)]
struct Accepted {
    accepted: u64,
    refused: u64,
    first_refusal: String,
    latencies: Latencies,
    span_s: f64,
}

/// Runs the scenario.
pub(crate) fn run(args: &UnicastArgs) -> Result<(), BenchError> {
    if let Some(per_s) = args.during_broadcast {
        return super::beside::run(args, per_s);
    }
    let directory = args.probe_dir.clone().unwrap_or_else(std::env::temp_dir);
    let disk = fsync(&directory)?;
    let mut online = Online::begin(&args.server, args.devices as usize)?;
    online.log_in_up_to(args.devices as usize)?;
    online.team.arm(&Order::Sweep { interval_ms: 0 })?;
    online.team.tally()?;
    let cpu = online.server.pid.map(cpu_ns);
    let accepted = push(args, &online)?;
    let haul = collect(&mut online, accepted.accepted)?;
    let cpu_s = match (cpu, online.server.pid) {
        (Some(before), Some(pid)) => Some(cpu_ns(pid).saturating_sub(before) as f64 / 1e9),
        _ => None,
    };
    let mut figures = Figures::new("unicast");
    let per_s = accepted.accepted as f64 / accepted.span_s;
    figures.deliveries_per_s = Some(per_s);
    figures.cpu_s_per_million = cpu_s.map(|seconds| seconds * 1e6 / accepted.accepted.max(1) as f64);
    figures.latency_ms = haul.latencies.percentiles();
    figures.lost = Some(accepted.accepted.saturating_sub(haul.messages - haul.repeated));
    figures.row("devices", grouped(args.devices.into()));
    figures
        .row("pushes accepted", format!("{} in {:.1} s", grouped(accepted.accepted as f64), accepted.span_s));
    figures.row("accepted/s", format!("{}, {} in flight", grouped(per_s), args.in_flight));
    figures.row("refused", format!("{} {}", accepted.refused, accepted.first_refusal));
    figures.row("push to 202, ms", percentiles(accepted.latencies.percentiles()));
    figures.row("push to device, ms", percentiles(figures.latency_ms));
    if let Some(cpu) = figures.cpu_s_per_million {
        figures.row("server CPU s per million", format!("{cpu:.1}"));
    }
    figures.row("lost", figures.lost.unwrap_or_default().to_string());
    figures.row("repeated in a session, holes", format!("{}, {}", haul.repeated, haul.holes));
    figures.row(
        format!("fdatasync of 4 KiB in {}", disk.directory),
        format!("{}/s, ms {}", grouped(disk.per_s), percentiles(disk.latency_ms)),
    );
    figures.extra("accept_latency_ms", accepted.latencies.percentiles());
    figures.extra("accepted", accepted.accepted);
    figures.extra("refused", accepted.refused);
    figures.extra("repeated", haul.repeated);
    figures.extra("holes", haul.holes);
    figures.extra("in_flight", args.in_flight);
    figures.extra("fsync", disk);
    report_loop(&mut figures, &online.lag, &LoopLag::read(&online.api)?);
    figures.print(args.output.json);
    Ok(())
}

fn push(args: &UnicastArgs, online: &Online) -> Result<Accepted, BenchError> {
    let mut pump = Pump::open(&online.api, args.in_flight as usize)?;
    let filling = "x".repeat(args.bytes as usize - STAMP_BYTES);
    let progress = bar("durable pushes", args.pushes.into());
    let deadline = Instant::now() + Duration::from_secs(args.seconds);
    let mut random = Random::seeded()?;
    let mut result = Accepted::default();
    let mut begun = 0_u64;
    let (start_ns, mut end_ns) = (clock::now_ns(), 0);
    let next = || {
        if begun == u64::from(args.pushes) || Instant::now() >= deadline {
            return None;
        }
        begun += 1;
        let device = &online.devices[random.below(online.devices.len() as u64) as usize];
        let body = json!({
            "audience": {"registration_id": [device.name]},
            "message": {"content_type": "text", "msg_content": format!("{filling}{}", stamp(clock::now_ns()))},
            "options": {"time_to_live": TTL_S},
        });
        Some(Request { number: begun, bytes: online.api.request("POST", "/v1/push", &body.to_string()) })
    };
    pump.run(next, |answer| {
        if answer.reply.status == 202 {
            result.accepted += 1;
            result.latencies.record_ns(answer.took_ns);
        } else {
            result.refused += 1;
            if result.first_refusal.is_empty() {
                result.first_refusal = answer.reply.fault("the first").to_string();
            }
        }
        end_ns = clock::now_ns();
        if answer.number.is_multiple_of(256) {
            progress.set_position(answer.number);
        }
        Ok(())
    })?;
    progress.finish_and_clear();
    result.span_s = seconds(start_ns, end_ns);
    Ok(result)
}

/// Waits until the devices have `accepted` messages, or until nothing more comes.
fn collect(online: &mut Online, accepted: u64) -> Result<Haul, BenchError> {
    let mut all = online.team.tally()?;
    let mut moved = Instant::now();
    while all.messages - all.repeated < accepted && moved.elapsed() < QUIET {
        std::thread::sleep(LOOK);
        let more = online.team.tally()?;
        if more.messages > 0 {
            moved = Instant::now();
        }
        all.merge(&more);
    }
    Ok(all)
}

fn percentiles(percentiles: Option<Percentiles>) -> String {
    percentiles.map_or_else(|| "not measured".into(), |at| at.to_string())
}
