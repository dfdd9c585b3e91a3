//! `bench unicast --during-broadcast`: what pushes to single devices feel of broadcasts. The same rate twice: alone, then while one
//! broadcast to all devices follows the other.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;

use super::online::Online;
use crate::args::UnicastArgs;
use crate::clock;
use crate::error::BenchError;
use crate::http::Api;
use crate::latency::{Latencies, Percentiles, STAMP_BYTES, stamp};
use crate::metrics::{LoopLag, report_loop};
use crate::order::Order;
use crate::pump::{Pump, Request};
use crate::random::Random;
use crate::report::{Figures, grouped};

/// Pushes are sent by the clock, those of one slice together.
const SLICE: Duration = Duration::from_millis(10);
/// How often it is asked whether a broadcast has reached everybody.
const LOOK: Duration = Duration::from_millis(2);
/// Rests between the end of a part and its tally.
const REST: Duration = Duration::from_secs(2);
/// Life of a message to one device, seconds.
const TTL_S: u32 = 3600;

/// One of the two parts.
#[derive(Debug, Default, Serialize)]
struct Part {
    pushes: u64,
    refused: u64,
    broadcasts: u64,
    accept_latency_ms: Option<Percentiles>,
    latency_ms: Option<Percentiles>,
}

/// Runs it; each part takes half of the seconds.
pub(crate) fn run(args: &UnicastArgs, per_s: u32) -> Result<(), BenchError> {
    let devices = args.devices as usize;
    let mut online = Online::begin(&args.server, devices)?;
    online.log_in_up_to(devices)?;
    online.team.arm(&Order::Sweep { interval_ms: 0 })?;
    let alone = part(args, per_s, &mut online)?;
    let (api, stop) = (online.api.clone(), AtomicBool::new(false));
    let beside = std::thread::scope(|scope| {
        let broadcasts = scope.spawn(|| broadcast(&api, args, &stop));
        let beside = part(args, per_s, &mut online);
        stop.store(true, Relaxed);
        let ended = broadcasts.join().map_err(|_| BenchError::Server("the broadcasts ended early".into()))?;
        Ok::<_, BenchError>(Part { broadcasts: ended?, ..beside? })
    })?;
    let ratio = |of: fn(&Part) -> Option<Percentiles>| Some(of(&beside)?.p99 / of(&alone)?.p99);
    let (accepting, arriving) = (ratio(|part| part.accept_latency_ms), ratio(|part| part.latency_ms));
    let mut figures = Figures::new("unicast-during-broadcast");
    figures.latency_ms = beside.latency_ms;
    figures.row("devices", grouped(args.devices.into()));
    figures.row("pushes a second", grouped(per_s.into()));
    for (name, part) in [("alone", &alone), ("beside broadcasts", &beside)] {
        let words = |at: Option<Percentiles>| at.map_or_else(|| "not measured".into(), |at| at.to_string());
        figures.row(
            format!("{name}: pushes, refused, broadcasts"),
            format!("{}, {}, {}", part.pushes, part.refused, part.broadcasts),
        );
        figures.row(format!("{name}: push to 202, ms"), words(part.accept_latency_ms));
        figures.row(format!("{name}: push to device, ms"), words(part.latency_ms));
    }
    let words =
        |ratio: Option<f64>| ratio.map_or_else(|| "not measured".into(), |ratio| format!("{ratio:.2}"));
    figures.row("p99 ratio, to 202, to device", format!("{}, {}", words(accepting), words(arriving)));
    figures.extra("alone", &alone);
    figures.extra("beside", &beside);
    figures.extra("p99_ratio_accept", accepting);
    figures.extra("p99_ratio", arriving);
    report_loop(&mut figures, &online.lag, &LoopLag::read(&online.api)?);
    figures.print(args.output.json);
    Ok(())
}

/// Pushes at the rate for half of the time.
fn part(args: &UnicastArgs, per_s: u32, online: &mut Online) -> Result<Part, BenchError> {
    let mut pump = Pump::open(&online.api, args.in_flight as usize)?;
    let mut random = Random::seeded()?;
    let filling = "x".repeat(args.bytes as usize - STAMP_BYTES);
    let (mut part, mut accepting) = (Part::default(), Latencies::default());
    online.team.tally()?;
    let (start, mut slices, mut begun) = (Instant::now(), 0, 0_u64);
    while start.elapsed() < Duration::from_secs(args.seconds) / 2 {
        slices += 1;
        std::thread::sleep((SLICE * slices).saturating_sub(start.elapsed()));
        let due = (start.elapsed().as_secs_f64() * f64::from(per_s)) as u64;
        let (devices, api) = (&online.devices, &online.api);
        let next = || {
            if begun >= due {
                return None;
            }
            begun += 1;
            let device = &devices[random.below(devices.len() as u64) as usize];
            let body = json!({
                "audience": {"registration_id": [device.name]},
                "message": {"content_type": "text", "msg_content": format!("{filling}{}", stamp(clock::now_ns()))},
                "options": {"time_to_live": TTL_S},
            });
            Some(Request { number: begun, bytes: api.request("POST", "/v1/push", &body.to_string()) })
        };
        pump.run(next, |answer| {
            if answer.reply.status == 202 {
                part.pushes += 1;
                accepting.record_ns(answer.took_ns);
            } else {
                part.refused += 1;
            }
            Ok(())
        })?;
    }
    std::thread::sleep(REST);
    part.accept_latency_ms = accepting.percentiles();
    // Broadcasts carry no stamp, so these are the others.
    part.latency_ms = online.team.tally()?.latencies.percentiles();
    Ok(part)
}

/// One broadcast to all devices after the other, each as soon as the one before was given to everybody; how many there were.
fn broadcast(api: &Api, args: &UnicastArgs, stop: &AtomicBool) -> Result<u64, BenchError> {
    let mut caller = api.open()?;
    let body = json!({
        "audience": "all",
        "message": {"content_type": "text", "msg_content": "x".repeat(args.bytes as usize)},
        "options": {"time_to_live": 0},
    })
    .to_string();
    let mut count = 0;
    while !stop.load(Relaxed) {
        let reply = caller.call("POST", "/v1/push", &body)?;
        if reply.status != 202 {
            return Err(reply.fault("POST /v1/push"));
        }
        let path = format!("/v1/messages/{}", reply.json()["msg_id"].as_str().unwrap_or_default());
        count += 1;
        while !stop.load(Relaxed) {
            let story = caller.call("GET", &path, "")?.json();
            let of = |name: &str| story["counts"][name].as_u64().unwrap_or(0);
            if of("sent") + of("dropped") >= u64::from(args.devices) {
                break;
            }
            std::thread::sleep(LOOK);
        }
    }
    Ok(count)
}
