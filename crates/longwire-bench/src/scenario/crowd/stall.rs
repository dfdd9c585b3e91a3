//! `bench stall`: devices that do not read, beside devices that do.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::args::{OutputArgs, ServerArgs};
use crate::clock;
use crate::error::BenchError;
use crate::latency::{Percentiles, STAMP_BYTES, stamp};
use crate::machine::{Memory, open_descriptors};
use crate::metrics::{LoopLag, counter, gauges, report_loop};
use crate::order::{Login, Order};
use crate::progress::bar;
use crate::pump::{Pump, Request};
use crate::report::{Figures, grouped};
use crate::scenario::online::{HEARTBEAT_S, Online};
use crate::scenario::team::{Haul, Team};
use crate::server;

/// Devices that receive nothing more for so long have received all that comes.
const QUIET: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(200);
/// Life of a stored message, seconds.
const TTL_S: u32 = 600;
/// How long the server gets to close who does not read, after the last push.
const CLOSING_TIME: Duration = Duration::from_secs(45);
/// Each shard looks at all its connections within this, so the ratio of zombies is of after the closing.
const SCAN_TIME: Duration = Duration::from_secs(10);
const ZOMBIES: &str = "longwire_connections_zombie_ratio";
/// More of them after the end are a fault: a thousandth.
const ZOMBIE_RATIO_MAX: f64 = 0.001;

#[derive(Clone, Debug, Args)]
pub(crate) struct StallArgs {
    /// Devices.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(2..=18_000))]
    devices: u32,
    /// How many of them stop reading.
    #[arg(long, default_value_t = 500)]
    stuck: u32,
    /// Pushes to all, per second.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Seconds of pushing in each part.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Bytes of the payload.
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(16..=4_096))]
    bytes: u32,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// One part: pushes of one kind, with all reading or with some stuck.
#[derive(Clone, Debug, Serialize)]
struct Part {
    name: &'static str,
    sends: u64,
    latency_ms: Option<Percentiles>,
    lost: u64,
    memory_max: Memory,
    outbox_bytes_max: f64,
    /// Online-only deliveries that the server dropped because an outbox was full.
    dropped: f64,
    /// Devices that were stuck and are closed by now.
    stuck_closed: u64,
}

/// Everything of one run.
struct Run<'a> {
    args: &'a StallArgs,
    stuck: Team,
    online: Online,
    pid: u32,
    /// The server's descriptors when only those that read were logged in.
    descriptors: usize,
}

/// What is left when the server has closed who did not read.
#[derive(Clone, Copy, Debug)]
struct Remains {
    /// Seconds from the last read until all were closed; `None` if they were not.
    closed_s: Option<f64>,
    zombie_ratio: Option<f64>,
    descriptors: usize,
}

/// Runs the scenario.
pub(crate) fn run(args: &StallArgs) -> Result<(), BenchError> {
    if args.stuck >= args.devices {
        return Err(BenchError::Options("--stuck must be less than --devices".into()));
    }
    let online = Online::begin(&args.server, args.devices as usize)?;
    let Some(pid) = online.server.pid else {
        return Err(BenchError::Options("memory of a server that runs already needs its --pid".into()));
    };
    let stuck = Team::start(&server::program()?, args.stuck as usize, 3)?;
    let mut run = Run { args, stuck, online, pid, descriptors: 0 };
    run.log_in()?;
    let mut parts = Vec::new();
    parts.push(run.part("online-only, all reading", false)?);
    parts.push(run.part("stored, all reading", true)?);
    run.stuck.arm(&Order::Deaf)?;
    let deaf = Instant::now();
    parts.push(run.part("online-only, some stuck", false)?);
    parts.push(run.part("stored, some stuck", true)?);
    let remains = run.wait_for_closing(deaf)?;
    run.publish(&parts, remains)
}

impl Run<'_> {
    fn log_in(&mut self) -> Result<(), BenchError> {
        let healthy = (self.args.devices - self.args.stuck) as usize;
        self.online.log_in_up_to(healthy)?;
        self.descriptors = open_descriptors(self.pid).unwrap_or_default();
        let logins: Vec<Login> =
            self.online.devices[healthy..].iter().map(|device| device.login.clone()).collect();
        let server = &self.online.server;
        self.stuck.log_in(server.device, &server.app_key, &logins, HEARTBEAT_S)?;
        Ok(())
    }

    /// Pushes to all at the rate; what is counted is what the healthy ones get.
    fn part(&mut self, name: &'static str, stored: bool) -> Result<Part, BenchError> {
        let args = self.args;
        self.online.team.tally()?;
        let mut pump = Pump::open(&self.online.api, 1)?;
        let total = u64::from(args.rate) * args.seconds;
        let progress = bar(name, total);
        let dropped = counter(&self.online.api, "longwire_messages_dropped_total")?;
        let (mut memory_max, mut outbox_bytes_max) = (Memory::default(), 0.0_f64);
        let begin = Instant::now();
        let mut looked = Instant::now();
        for sent in 0..total {
            let due = Duration::from_secs_f64(sent as f64 / f64::from(args.rate));
            std::thread::sleep(due.saturating_sub(begin.elapsed()));
            let request = self.online.api.request("POST", "/v1/push", &body(args, stored));
            let mut once = Some(Request { number: sent, bytes: request });
            pump.run(
                || once.take(),
                |answer| match answer.reply.status {
                    202 => Ok(()),
                    _ => Err(answer.reply.fault("POST /v1/push")),
                },
            )?;
            if looked.elapsed() > LOOK {
                looked = Instant::now();
                let memory = Memory::read(self.pid).unwrap_or_default();
                if memory.rss_kib > memory_max.rss_kib {
                    memory_max = memory;
                }
                let bytes = counter(&self.online.api, "longwire_outbound_queue_bytes")?;
                outbox_bytes_max = outbox_bytes_max.max(bytes);
            }
            progress.inc(1);
        }
        progress.finish_and_clear();
        let healthy = u64::from(args.devices - args.stuck);
        let haul = self.collect(total * healthy)?;
        Ok(Part {
            name,
            sends: total * u64::from(args.devices),
            latency_ms: haul.latencies.percentiles(),
            lost: (total * healthy).saturating_sub(haul.messages - haul.repeated),
            memory_max,
            outbox_bytes_max,
            dropped: counter(&self.online.api, "longwire_messages_dropped_total")? - dropped,
            stuck_closed: self.stuck_closed()?,
        })
    }

    fn collect(&mut self, expected: u64) -> Result<Haul, BenchError> {
        let mut all = self.online.team.tally()?;
        let mut moved = Instant::now();
        while all.messages - all.repeated < expected && moved.elapsed() < QUIET {
            std::thread::sleep(LOOK);
            let more = self.online.team.tally()?;
            if more.messages > 0 {
                moved = Instant::now();
            }
            all.merge(&more);
        }
        if all.closed > 0 {
            return Err(BenchError::Server(format!("{} devices that read were closed", all.closed)));
        }
        Ok(all)
    }

    /// How many of the stuck the server has given up. It is asked, because a FIN waits behind what its peer does not read.
    fn stuck_closed(&self) -> Result<u64, BenchError> {
        let sessions = gauges(&self.online.api)?.get("longwire_sessions").copied().unwrap_or_default();
        Ok(u64::from(self.args.devices).saturating_sub(sessions as u64))
    }

    /// Waits until the server has closed all who were stuck, and then until it has looked for zombies again.
    fn wait_for_closing(&mut self, deaf: Instant) -> Result<Remains, BenchError> {
        let begin = Instant::now();
        let mut closed_s = None;
        while closed_s.is_none() && begin.elapsed() < CLOSING_TIME {
            if self.stuck_closed()? >= u64::from(self.args.stuck) {
                closed_s = Some(deaf.elapsed().as_secs_f64());
            }
            std::thread::sleep(LOOK);
        }
        let descriptors = open_descriptors(self.pid).unwrap_or_default();
        let begin = Instant::now();
        let mut zombie_ratio = gauges(&self.online.api)?.get(ZOMBIES).copied();
        while zombie_ratio.is_some_and(|ratio| ratio >= ZOMBIE_RATIO_MAX) && begin.elapsed() < SCAN_TIME {
            std::thread::sleep(LOOK);
            zombie_ratio = gauges(&self.online.api)?.get(ZOMBIES).copied();
        }
        Ok(Remains { closed_s, zombie_ratio, descriptors })
    }

    fn publish(self, parts: &[Part], remains: Remains) -> Result<(), BenchError> {
        let args = self.args;
        let mut figures = Figures::new("stall");
        figures.latency_ms = parts.last().and_then(|part| part.latency_ms);
        figures.lost = Some(parts.iter().map(|part| part.lost).sum());
        figures.row("devices, stuck", format!("{}, {}", grouped(args.devices.into()), args.stuck));
        figures.row("pushes", format!("{}/s of {} bytes to all", args.rate, args.bytes));
        for part in parts {
            let latency = part.latency_ms.map_or_else(|| "none".into(), |at| at.to_string());
            figures
                .row(part.name, format!("{} deliveries, healthy ms {latency}", grouped(part.sends as f64)));
            let (rss, outbox) = (part.memory_max.rss_kib, part.outbox_bytes_max);
            let text = format!("{rss} KiB, outboxes {} bytes", grouped(outbox));
            figures.row("  server RSS at most", text);
            let text = format!("{}, {}, {}", part.lost, part.dropped, part.stuck_closed);
            figures.row("  healthy lost, dropped by the server, stuck closed", text);
        }
        let p99 = |index: usize| parts[index].latency_ms.map(|at| at.p99);
        let ratio = |with: usize, without: usize| Some(p99(with)? / p99(without)?);
        let (online, stored) = (ratio(2, 0), ratio(3, 1));
        for (name, ratio) in [("online-only", online), ("stored", stored)] {
            let text = ratio.map_or_else(|| "not measured".into(), |ratio| format!("{ratio:.2}"));
            figures.row(format!("healthy p99 with / without stuck, {name}"), text);
        }
        let closed =
            remains.closed_s.map_or_else(|| "no".into(), |s| format!("{s:.0} s after their last read"));
        figures.row("all stuck devices closed", closed);
        figures.extra("parts", parts);
        figures.extra("p99_ratio_online_only", online);
        figures.extra("p99_ratio_stored", stored);
        figures.extra("stuck_closed_s", remains.closed_s);
        self.report_remains(remains, &mut figures);
        report_loop(&mut figures, &self.online.lag, &LoopLag::read(&self.online.api)?);
        figures.print(args.output.json);
        Ok(())
    }

    fn report_remains(&self, remains: Remains, figures: &mut Figures) {
        let text = remains.zombie_ratio.map_or_else(
            || "not exported".into(),
            |ratio| {
                let verdict = if ratio < ZOMBIE_RATIO_MAX { "well" } else { "too many" };
                format!("{:.3} %, {verdict}", ratio * 100.0)
            },
        );
        figures.row("zombie ratio after it", text);
        let (before, after) = (self.descriptors, remains.descriptors);
        figures.row(
            "server's descriptors",
            format!("{before} without the stuck, {after} after they were closed"),
        );
        figures.extra("zombie_ratio", remains.zombie_ratio);
        figures.extra("descriptors_left_over", after as i64 - before as i64);
    }
}

fn body(args: &StallArgs, stored: bool) -> String {
    let payload = format!("{}{}", "x".repeat(args.bytes as usize - STAMP_BYTES), stamp(clock::now_ns()));
    json!({
        "audience": "all",
        "message": {"content_type": "text", "msg_content": payload},
        "options": {"time_to_live": if stored { TTL_S } else { 0 }},
    })
    .to_string()
}
