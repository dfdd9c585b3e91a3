//! `bench fanout`: one push to many devices, in turns with a bare loop that writes the same bytes.

use serde::Serialize;
use serde_json::{Value, json};

use super::bare::{Bare, PAUSE, TURN_TIME, seconds};
use super::online::{Online, TAG};
use super::pulse::Pulse;
use super::team::{Haul, Team};
use crate::args::FanoutArgs;
use crate::clock;
use crate::error::BenchError;
use crate::latency::{Latencies, Percentiles, STAMP_BYTES, stamp};
use crate::machine::{Busy, cores, cpu_ns};
use crate::metrics::{LoopLag, report_loop};
use crate::order::Order;
use crate::place::{Place, Places};
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
/// Tags of the parts of a turn that is cut.
const SLICE_TAGS: [&str; 18] = [
    "slice-0", "slice-1", "slice-2", "slice-3", "slice-4", "slice-5", "slice-6", "slice-7", "slice-8",
    "slice-9", "slice-10", "slice-11", "slice-12", "slice-13", "slice-14", "slice-15", "slice-16",
    "slice-17",
];

/// From heartbeat to answer: with nothing beside it, beside the bare loop, beside broadcasts.
#[derive(Clone, Copy, Debug)]
struct Heartbeats {
    quiet: Option<Percentiles>,
    bare: Option<Percentiles>,
    during: Option<Percentiles>,
}

/// Everything of one run.
struct Fanout<'a> {
    args: &'a FanoutArgs,
    online: Online,
    bare: Option<Bare>,
    /// Why the bare loop has connections of its own, if it has.
    apart: Option<String>,
    /// Devices of each part of a turn.
    slices: Vec<u64>,
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
    // One push to each part that is not counted: it warms both sides and shows how long a frame is.
    let (mut messages, mut bytes) = (0, 0);
    for slice in 0..fanout.slices.len() {
        let (warm, _) = fanout.push_turn(1, slice)?;
        (messages, bytes) = (messages + warm.messages, bytes + warm.bytes);
    }
    let frame_bytes = (bytes / messages.max(1)) as usize;
    fanout.forget();
    let progress = bar("turns", u64::from(args.turns));
    let mut turns = Vec::new();
    for _ in 0..args.turns {
        turns.push(fanout.turn(frame_bytes)?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    let heartbeats = fanout.heartbeats(frame_bytes)?;
    fanout.publish(frame_bytes, &turns, heartbeats)
}

impl<'a> Fanout<'a> {
    fn begin(args: &'a FanoutArgs) -> Result<Fanout<'a>, BenchError> {
        let count = args.devices as usize;
        let parts = match args.slice {
            0 => 1,
            slice => args.devices.div_ceil(slice).min(SLICE_TAGS.len() as u32) as usize,
        };
        let places = args.apart.then(Places::of_machine).transpose()?;
        let fleets = Team::fleets_for(count);
        let slice_of = |device| Team::slice_of(fleets, count, device, parts);
        let mut slices = vec![0; parts];
        (0..count).for_each(|device| slices[slice_of(device)] += 1);
        let mut online = Online::begin_with(&args.server, places, count, |device| match parts {
            1 => vec![TAG],
            _ => vec![TAG, SLICE_TAGS[slice_of(device)]],
        })?;
        online.log_in_up_to(count)?;
        online.team.arm(&Order::Sweep { interval_ms: args.sweep_ms })?;
        let (bare, apart) = if args.no_limit { (None, None) } else { bare(args, &online)? };
        let pump = Pump::open(&online.api, args.coalesce as usize)?;
        let (latencies, last) = (Latencies::default(), String::new());
        let (expected, received, repeated) = (0, 0, 0);
        Ok(Fanout { args, online, bare, apart, slices, pump, latencies, expected, received, repeated, last })
    }

    fn forget(&mut self) {
        (self.expected, self.received, self.repeated) = (0, 0, 0);
        self.latencies.clear();
    }

    fn turn(&mut self, frame_bytes: usize) -> Result<Turn, BenchError> {
        let (busy, own, begin_ns) = (Busy::read(), self.cpu_ns(), clock::now_ns());
        let batch = self.args.coalesce as usize;
        let (mut wrote, mut pushed) = (Sum::default(), Sum::default());
        for slice in 0..self.slices.len() {
            if let Some(bare) = self.bare.as_mut() {
                let part = (slice, self.slices.len());
                let turn = bare.write_slice(&mut self.online.team, (frame_bytes, batch), part)?;
                wrote.add(turn.messages, turn.span_s, turn.cpu_s);
                wrote.writing_s += turn.writing_s;
                std::thread::sleep(PAUSE);
            }
            let cpu = self.online.server.pid.map_or(0, cpu_ns);
            let (haul, start_ns) = self.push_turn(self.args.coalesce, slice)?;
            std::thread::sleep(PAUSE);
            let used_ns = self.online.server.pid.map_or(0, cpu_ns).saturating_sub(cpu);
            pushed.add(haul.messages, seconds(start_ns, haul.at_ns), used_ns as f64 / 1e9);
        }
        let (now, elapsed) = (Busy::read(), seconds(begin_ns, clock::now_ns()));
        let own_s = self.cpu_ns().saturating_sub(own) as f64 / 1e9;
        Ok(Turn {
            server_per_s: pushed.messages / pushed.span_s,
            bare_per_s: wrote.messages / wrote.span_s,
            bare_writing_per_s: wrote.messages / wrote.writing_s,
            server_cpu_us: pushed.cpu_s * 1e6 / pushed.messages,
            bare_cpu_us: wrote.cpu_s * 1e6 / wrote.messages,
            foreign_cores: ((now.busy_s - busy.busy_s - own_s) / elapsed).max(0.0),
            stolen_cores: (now.stolen_s - busy.stolen_s) / elapsed,
        })
    }

    /// Pushes `count` messages to a part without waiting in between; returns what the devices got and when it began.
    fn push_turn(&mut self, count: u32, slice: usize) -> Result<(Haul, u64), BenchError> {
        let slices = self.slices.len();
        self.online.team.expect_slice(count.into(), (slice, slices), TURN_TIME)?;
        let tag = if slices > 1 { Some(SLICE_TAGS[slice]) } else { self.args.tag.then_some(TAG) };
        let (mut left, args, api) = (count, self.args, &self.online.api);
        let start_ns = clock::now_ns();
        let next = || {
            left = left.checked_sub(1)?;
            let body = push_body(args, tag, clock::now_ns());
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
        self.expected += u64::from(count) * self.slices[slice];
        self.received += haul.messages - haul.repeated;
        self.repeated += haul.repeated;
        self.latencies.add(&haul.latencies.buckets());
        Ok((haul, start_ns))
    }

    /// What a broadcast is to the heartbeats of others, and what the bare loop is to them. These turns count for nothing else.
    fn heartbeats(&mut self, frame_bytes: usize) -> Result<Heartbeats, BenchError> {
        let kept = (self.expected, self.received, self.repeated, self.latencies.clone());
        let mut pulse = Pulse::start(&self.online)?;
        let quiet = pulse.quiet()?;
        let (coalesce, slices) = (self.args.coalesce, self.slices.len());
        let each = |work: &mut dyn FnMut(usize) -> Result<(), BenchError>| {
            (0..PULSE_TURNS as usize).try_for_each(|_| (0..slices).try_for_each(&mut *work))
        };
        let bare = match self.bare.as_mut() {
            None => None,
            Some(bare) => pulse.beside(|| {
                each(&mut |slice| {
                    let frames = (frame_bytes, coalesce as usize);
                    bare.write_slice(&mut self.online.team, frames, (slice, slices)).map(|_| ())
                })
            })?,
        };
        let during = pulse.beside(|| each(&mut |slice| self.push_turn(coalesce, slice).map(|_| ())))?;
        (self.expected, self.received, self.repeated, self.latencies) = kept;
        Ok(Heartbeats { quiet, bare, during })
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
        let text =
            format!("{}, in {} part(s), {} push(es) each", turns.len(), self.slices.len(), args.coalesce);
        figures.row("turns", text);
        figures.row("server deliveries/s", words(server, 0));
        if let Some(bare) = &self.bare {
            let whose = match &self.apart {
                None => "the server's own, duplicated".into(),
                Some(why) => format!("as many of its own: {why}"),
            };
            figures.row("connections of the bare loop", whose);
            figures.extra("same_connections", bare.is_shared());
            let ratio = of(|turn| turn.server_per_s / turn.bare_per_s);
            figures.ratio_to_limit = ratio.map(|spread| spread.median);
            figures.row("bare loop messages/s", words(of(|turn| turn.bare_per_s), 0));
            figures.row("  its writing alone", words(of(|turn| turn.bare_writing_per_s), 0));
            let what = if args.coalesce == 1 { "write loop" } else { "vectored write loop" };
            figures.row(format!("fraction of the bare {what}"), words(ratio, 3));
            figures
                .row("bare loop CPU us per message, softirq included", words(of(|turn| turn.bare_cpu_us), 2));
            figures.extra("ratio", ratio);
            figures.extra("bare_per_s", of(|turn| turn.bare_per_s));
            figures.extra("bare_cpu_us", of(|turn| turn.bare_cpu_us));
        }
        if self.online.server.pid.is_some() {
            let cpu = of(|turn| turn.server_cpu_us);
            figures.cpu_s_per_million = cpu.map(|spread| spread.median);
            figures.row("server CPU us per delivery, softirq included", words(cpu, 2));
            figures.extra("server_cpu_us", cpu);
            if self.bare.is_some() {
                let cpu_ratio = of(|turn| turn.server_cpu_us / turn.bare_cpu_us);
                figures.row("  of the bare loop's", words(cpu_ratio, 3));
                figures.extra("cpu_ratio", cpu_ratio);
            }
        }
        report_heartbeats(&mut figures, heartbeats);
        figures.row("lost, repeated", format!("{}, {}", figures.lost.unwrap_or_default(), self.repeated));
        let marked = report_others(&mut figures, turns, self.bare.is_some());
        if figures.ratio_to_limit.is_some_and(|ratio| ratio > 1.0) {
            figures.row("note", over_the_limit(args.coalesce, marked));
        }
        figures.extra("server_per_s", server);
        figures.extra("repeated", self.repeated);
        figures.extra("frame_bytes", frame_bytes);
        figures.extra("devices", args.devices);
        figures.extra("coalesce", args.coalesce);
        figures.extra("stored", args.stored);
        figures.extra("slices", self.slices.len());
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

/// The sum of a turn's parts.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    messages: f64,
    span_s: f64,
    writing_s: f64,
    cpu_s: f64,
}

impl Sum {
    fn add(&mut self, messages: u64, span_s: f64, cpu_s: f64) {
        self.messages += messages as f64;
        self.span_s += span_s;
        self.cpu_s += cpu_s;
    }
}

/// The bare loop on the server's own connections, or on its own, and then why.
fn bare(args: &FanoutArgs, online: &Online) -> Result<(Option<Bare>, Option<String>), BenchError> {
    let (program, count) = (server::program()?, args.devices as usize);
    online.go(Place::Server)?;
    let threads = if args.threads == 0 { cores() } else { args.threads };
    let shared = match online.server.pid {
        _ if args.own_connections => Err("asked for".to_owned()),
        None => Err("the server's process is not known".to_owned()),
        Some(pid) => Bare::share(&program, (pid, online.server.device.port()), count, threads)
            .map_err(|error| error.to_string()),
    };
    let started = match shared {
        Ok(bare) => (Some(bare), None),
        Err(why) => (Some(Bare::start(&program, count, threads, args.sweep_ms, 1)?), Some(why)),
    };
    online.go(Place::Devices)?;
    Ok(started)
}

/// What others took of the processor, turn by turn; returns how many turns are marked.
fn report_others(figures: &mut Figures, turns: &[Turn], with_bare: bool) -> usize {
    let of = |figure: fn(&Turn) -> f64| spread(turns.iter().map(figure));
    figures.row("foreign cores", words(of(|turn| turn.foreign_cores), 2));
    figures.row("stolen cores", words(of(|turn| turn.stolen_cores), 2));
    let taken = |turn: &Turn| turn.foreign_cores + turn.stolen_cores;
    let (noisy, calm): (Vec<&Turn>, Vec<&Turn>) =
        turns.iter().partition(|turn| taken(turn) > FOREIGN_CORES_MAX);
    figures.row("turns with over 0.3 foreign and stolen cores", noisy.len().to_string());
    if with_bare {
        let ratio = |turn: &Turn| turn.server_per_s / turn.bare_per_s;
        let each = turns.iter().map(|turn| {
            let mark = if taken(turn) > FOREIGN_CORES_MAX { "*" } else { "" };
            format!("{:.2}/{:.1}{mark}", ratio(turn), taken(turn))
        });
        for (index, row) in each.collect::<Vec<_>>().chunks(10).enumerate() {
            let name = if index == 0 { "each turn: fraction / cores of others" } else { "" };
            figures.row(name, row.join("  "));
        }
        let calm = spread(calm.into_iter().map(ratio));
        figures.row("fraction, turns without a mark", words(calm, 3));
        figures.extra("ratio_unmarked", calm);
    }
    figures.extra("marked_turns", noisy.len());
    noisy.len()
}

fn report_heartbeats(figures: &mut Figures, Heartbeats { quiet, bare, during }: Heartbeats) {
    let words = |at: Option<Percentiles>| at.map_or_else(|| "none".into(), |at| at.to_string());
    figures.row("push to device, ms", words(figures.latency_ms));
    figures.row("heartbeat to answer, quiet, ms", words(quiet));
    figures.row("  beside the bare loop", words(bare));
    figures.row("  during broadcasts", words(during));
    for (name, key, to) in [
        ("  p99 during / quiet", "heartbeat_p99_ratio", quiet),
        ("  p99 during / beside the bare loop", "heartbeat_p99_ratio_to_bare", bare),
    ] {
        let ratio = to.zip(during).map(|(to, during)| during.p99 / to.p99);
        figures.row(name, ratio.map_or_else(|| "none".into(), |ratio| format!("{ratio:.2}")));
        figures.extra(key, ratio);
    }
    figures.extra("heartbeat_quiet_ms", quiet);
    figures.extra("heartbeat_bare_ms", bare);
    figures.extra("heartbeat_during_ms", during);
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

fn audience(args: &FanoutArgs) -> &'static str {
    match (args.slice, args.tag) {
        (1.., _) => "a tag for each part",
        (0, true) => "a tag",
        (0, false) => "all",
    }
}

/// The body of a push whose payload ends with the time of its making.
fn push_body(args: &FanoutArgs, tag: Option<&str>, now_ns: u64) -> String {
    let payload = format!("{}{}", "x".repeat(args.bytes as usize - STAMP_BYTES), stamp(now_ns));
    let ttl = if args.stored { STORED_TTL_S } else { 0 };
    json!({
        "audience": tag.map_or_else(|| json!("all"), |tag| json!({"tag": [tag]})),
        "message": {"content_type": "text", "msg_content": payload},
        "options": {"time_to_live": ttl},
    })
    .to_string()
}
