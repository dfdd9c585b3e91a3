//! `bench fanout`: one push to many devices, in turns with a bare loop that writes the same bytes.

use serde::Serialize;
use serde_json::{Value, json};

use super::bare::{Bare, PAUSE, TURN_TIME, seconds};
use super::online::{Online, TAG};
use super::pulse::Pulse;
use crate::args::FanoutArgs;
use crate::clock;
use crate::error::BenchError;
use crate::latency::{Latencies, Percentiles, STAMP_BYTES, stamp};
use crate::machine::{Busy, cores, cpu_ns};
use crate::metrics::{LoopLag, report_loop};
use crate::order::Order;
use crate::progress::bar;
use crate::pump::{Pump, Request};
use crate::report::{Figures, grouped, words};
use crate::series::spread;
use crate::server;

/// A turn in which others used more cores than this is marked.
const FOREIGN_CORES_MAX: f64 = 0.3;
/// Life of a stored message, seconds.
const STORED_TTL_S: u32 = 3600;

/// A turn of the server with the bare turn before it.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Turn {
    server_per_s: f64,
    bare_per_s: f64,
    /// The bare loop over its writing alone, without the readers' end.
    bare_writing_per_s: f64,
    server_cpu_us: f64,
    bare_cpu_us: f64,
    /// Cores used by processes that are no part of the measurement.
    foreign_cores: f64,
    stolen_cores: f64,
}

/// Turns beside which heartbeats are measured, after those that count.
const PULSE_TURNS: u32 = 10;

/// From heartbeat to answer, without and with broadcasts.
type Heartbeats = (Option<Percentiles>, Option<Percentiles>);

/// Everything of one run.
struct Fanout<'a> {
    args: &'a FanoutArgs,
    online: Online,
    bare: Option<Bare>,
    pump: Pump,
    latencies: Latencies,
    expected: u64,
    received: u64,
    repeated: u64,
    /// Id of the last message.
    last: String,
}

/// Runs the scenario.
pub(crate) fn run(args: &FanoutArgs) -> Result<(), BenchError> {
    let mut fanout = Fanout::begin(args)?;
    // One push that is not counted: it warms both sides and shows how long a frame is.
    let (warm, _) = fanout.push_turn(1)?;
    let frame_bytes = (warm.bytes / warm.messages.max(1)) as usize;
    fanout.forget();
    let progress = bar("turns", u64::from(args.turns));
    let mut turns = Vec::new();
    for _ in 0..args.turns {
        turns.push(fanout.turn(frame_bytes)?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    let heartbeats = fanout.heartbeats()?;
    fanout.publish(frame_bytes, &turns, heartbeats)
}

impl<'a> Fanout<'a> {
    fn begin(args: &'a FanoutArgs) -> Result<Fanout<'a>, BenchError> {
        let count = args.devices as usize;
        let threads = if args.threads == 0 { cores() } else { args.threads };
        let mut online = Online::begin(&args.server, count)?;
        online.log_in_up_to(count)?;
        online.team.arm(&Order::Sweep { interval_ms: args.sweep_ms })?;
        let bare = if args.no_limit {
            None
        } else {
            let mut bare = Bare::start(&server::program()?, count, threads, args.sweep_ms, 1)?;
            bare.write(64, 1, 1)?;
            Some(bare)
        };
        let pump = Pump::open(&online.api, args.coalesce as usize)?;
        let (latencies, last) = (Latencies::default(), String::new());
        Ok(Fanout { args, online, bare, pump, latencies, expected: 0, received: 0, repeated: 0, last })
    }

    fn forget(&mut self) {
        (self.expected, self.received, self.repeated) = (0, 0, 0);
        self.latencies.clear();
    }

    fn turn(&mut self, frame_bytes: usize) -> Result<Turn, BenchError> {
        let (busy, own, begin_ns) = (Busy::read(), self.cpu_ns(), clock::now_ns());
        let mut turn = Turn::default();
        if let Some(bare) = self.bare.as_mut() {
            let wrote = bare.write(frame_bytes, 1, self.args.coalesce as usize)?;
            let messages = wrote.messages as f64;
            turn.bare_per_s = messages / wrote.span_s;
            turn.bare_writing_per_s = messages / wrote.writing_s;
            turn.bare_cpu_us = wrote.cpu_s * 1e6 / messages;
            std::thread::sleep(PAUSE);
        }
        let server_cpu = self.online.server.pid.map(cpu_ns);
        let (haul, start_ns) = self.push_turn(self.args.coalesce)?;
        std::thread::sleep(PAUSE);
        let messages = haul.messages as f64;
        turn.server_per_s = messages / seconds(start_ns, haul.at_ns);
        if let (Some(before), Some(pid)) = (server_cpu, self.online.server.pid) {
            turn.server_cpu_us = cpu_ns(pid).saturating_sub(before) as f64 / 1e3 / messages;
        }
        let (now, elapsed) = (Busy::read(), seconds(begin_ns, clock::now_ns()));
        let own_s = self.cpu_ns().saturating_sub(own) as f64 / 1e9;
        turn.foreign_cores = ((now.busy_s - busy.busy_s - own_s) / elapsed).max(0.0);
        turn.stolen_cores = (now.stolen_s - busy.stolen_s) / elapsed;
        Ok(turn)
    }

    /// Pushes `count` messages without waiting in between; returns what the devices got and when it began.
    fn push_turn(&mut self, count: u32) -> Result<(super::team::Haul, u64), BenchError> {
        self.online.team.expect_each(u64::from(count), TURN_TIME)?;
        let (mut left, args, api) = (count, self.args, &self.online.api);
        let start_ns = clock::now_ns();
        let next = || {
            left = left.checked_sub(1)?;
            let body = push_body(args, clock::now_ns());
            Some(Request { number: u64::from(left), bytes: api.request("POST", "/v1/push", &body) })
        };
        let last = &mut self.last;
        self.pump.run(next, |answer| match (answer.reply.status, &answer.reply.json()["msg_id"]) {
            (202, Value::String(id)) => {
                last.clone_from(id);
                Ok(())
            }
            _ => Err(answer.reply.fault("POST /v1/push")),
        })?;
        let haul = self.online.team.held(TURN_TIME)?;
        if haul.closed > 0 {
            return Err(BenchError::Server(format!("{} devices lost their connection", haul.closed)));
        }
        self.expected += u64::from(count) * u64::from(self.args.devices);
        self.received += haul.messages - haul.repeated;
        self.repeated += haul.repeated;
        self.latencies.add(&haul.latencies.buckets());
        Ok((haul, start_ns))
    }

    /// What a broadcast is to the heartbeats of others. These pushes count for nothing else.
    fn heartbeats(&mut self) -> Result<Heartbeats, BenchError> {
        let kept = (self.expected, self.received, self.repeated, self.latencies.clone());
        let mut pulse = Pulse::start(&self.online)?;
        let quiet = pulse.quiet()?;
        let coalesce = self.args.coalesce;
        let beside =
            pulse.beside(|| (0..PULSE_TURNS).try_for_each(|_| self.push_turn(coalesce).map(|_| ())))?;
        (self.expected, self.received, self.repeated, self.latencies) = kept;
        Ok((quiet, beside))
    }

    /// Processor time of all processes of the measurement.
    fn cpu_ns(&self) -> u64 {
        let bare = self.bare.iter().flat_map(Bare::pids);
        let others = self.online.team.pids().chain(bare).chain(self.online.server.pid);
        clock::own_cpu_ns() + others.map(cpu_ns).sum::<u64>()
    }

    fn publish(
        mut self,
        frame_bytes: usize,
        turns: &[Turn],
        heartbeats: Heartbeats,
    ) -> Result<(), BenchError> {
        let args = self.args;
        let of = |figure: fn(&Turn) -> f64| spread(turns.iter().map(figure));
        let mut figures = Figures::new("fanout");
        let server = of(|turn| turn.server_per_s);
        figures.deliveries_per_s = server.map(|spread| spread.median);
        figures.latency_ms = self.latencies.percentiles();
        figures.lost = Some(self.expected.saturating_sub(self.received));
        figures.row("devices, audience", format!("{}, {}", grouped(args.devices.into()), audience(args)));
        let kind = if args.stored { "stored, acked" } else { "online-only" };
        figures
            .row("message", format!("{} bytes of payload, frame of {frame_bytes} bytes, {kind}", args.bytes));
        figures.row("turns", format!("{}, {} push(es) each", turns.len(), args.coalesce));
        figures.row("server deliveries/s", words(server, 0));
        if self.bare.is_some() {
            let ratio = of(|turn| turn.server_per_s / turn.bare_per_s);
            figures.ratio_to_limit = ratio.map(|spread| spread.median);
            figures.row("bare loop messages/s", words(of(|turn| turn.bare_per_s), 0));
            figures.row("  its writing alone", words(of(|turn| turn.bare_writing_per_s), 0));
            let what = if args.coalesce == 1 { "write loop" } else { "vectored write loop" };
            figures.row(format!("fraction of the bare {what}"), words(ratio, 3));
            figures.row("bare loop CPU us per message", words(of(|turn| turn.bare_cpu_us), 2));
            figures.extra("ratio", ratio);
            figures.extra("bare_per_s", of(|turn| turn.bare_per_s));
            figures.extra("bare_cpu_us", of(|turn| turn.bare_cpu_us));
        }
        if self.online.server.pid.is_some() {
            let cpu = of(|turn| turn.server_cpu_us);
            figures.cpu_s_per_million = cpu.map(|spread| spread.median);
            figures.row("server CPU us per delivery", words(cpu, 2));
            figures.extra("server_cpu_us", cpu);
        }
        if let Some(latency) = figures.latency_ms {
            let words = format!("p50 {:.1}, p99 {:.1}, p999 {:.1}", latency.p50, latency.p99, latency.p999);
            figures.row("push to device, ms", words);
        }
        report_heartbeats(&mut figures, heartbeats);
        figures.row("lost, repeated", format!("{}, {}", figures.lost.unwrap_or_default(), self.repeated));
        let marked = turns.iter().filter(|turn| turn.foreign_cores > FOREIGN_CORES_MAX).count();
        figures.row("foreign cores", words(of(|turn| turn.foreign_cores), 2));
        figures.row("stolen cores", words(of(|turn| turn.stolen_cores), 2));
        figures.row("turns with over 0.3 foreign cores", marked.to_string());
        if figures.ratio_to_limit.is_some_and(|ratio| ratio > 1.0) {
            figures.row("note", over_the_limit(args.coalesce, marked));
        }
        figures.extra("server_per_s", server);
        figures.extra("repeated", self.repeated);
        figures.extra("frame_bytes", frame_bytes);
        figures.extra("devices", args.devices);
        figures.extra("coalesce", args.coalesce);
        figures.extra("stored", args.stored);
        figures.extra("marked_turns", marked);
        figures.extra("turns", turns);
        figures.extra("counts_of_last", self.counts()?);
        report_loop(&mut figures, &self.online.lag, &LoopLag::read(&self.online.api)?);
        figures.print(args.output.json);
        Ok(())
    }

    /// What the server says of the last message.
    fn counts(&mut self) -> Result<Value, BenchError> {
        let reply = self.online.api.open()?.call("GET", &format!("/v1/messages/{}", self.last), "")?;
        Ok(reply.json()["counts"].clone())
    }
}

fn report_heartbeats(figures: &mut Figures, (quiet, beside): Heartbeats) {
    let words = |at: Option<Percentiles>| at.map_or_else(|| "none".into(), |at| at.to_string());
    figures.row("heartbeat to answer, quiet, ms", words(quiet));
    figures.row("  during broadcasts", words(beside));
    let ratio = quiet.zip(beside).map(|(quiet, beside)| beside.p99 / quiet.p99);
    if let Some(ratio) = ratio {
        figures.row("  p99 during / quiet", format!("{ratio:.2}"));
    }
    figures.extra("heartbeat_quiet_ms", quiet);
    figures.extra("heartbeat_during_ms", beside);
    figures.extra("heartbeat_p99_ratio", ratio);
}

/// What a ratio over 100 % means. It never means that a server beats the machine.
fn over_the_limit(coalesce: u32, marked: usize) -> &'static str {
    match (coalesce, marked) {
        (2.., _) => {
            "over 100 %: the server put more messages into one write than the bare loop; this is the loopback"
        }
        (_, 1..) => "over 100 %: other processes took cores from the bare loop; repeat on a quiet machine",
        _ => "over 100 %: the bare loop was not at its limit; try other --threads; this is the loopback",
    }
}

fn audience(args: &FanoutArgs) -> Value {
    if args.tag { json!({"tag": [TAG]}) } else { json!("all") }
}

/// The body of a push whose payload ends with the time of its making.
fn push_body(args: &FanoutArgs, now_ns: u64) -> String {
    let payload = format!("{}{}", "x".repeat(args.bytes as usize - STAMP_BYTES), stamp(now_ns));
    let ttl = if args.stored { STORED_TTL_S } else { 0 };
    json!({
        "audience": audience(args),
        "message": {"content_type": "text", "msg_content": payload},
        "options": {"time_to_live": ttl},
    })
    .to_string()
}
