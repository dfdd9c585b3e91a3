//! `bench heartbeat`: what a heartbeat costs the server, in turns with a bare echo loop over as many connections.

use clap::Args;
use serde::Serialize;

use crate::args::{OutputArgs, ServerArgs};
use crate::clock;
use crate::error::BenchError;
use crate::latency::Latencies;
use crate::machine::{Busy, cores, cpu_ns};
use crate::metrics::{LoopLag, report_loop};
use crate::order::Order;
use crate::progress::bar;
use crate::report::{Figures, grouped, words};
use crate::scenario::bare::{Bare, PAUSE, TURN_TIME, seconds};
use crate::scenario::online::Online;
use crate::series::spread;
use crate::server;

#[derive(Clone, Debug, Args)]
pub(crate) struct HeartbeatArgs {
    /// Devices, and connections of the bare loop.
    #[arg(long, default_value_t = 9_000, value_parser = clap::value_parser!(u32).range(1..=18_000))]
    devices: u32,
    /// Heartbeats per second in all; 0 = as high as the machine allows: each after the answer to the one before.
    #[arg(long, default_value_t = 0)]
    rate: u32,
    /// Turns of the server and of the bare loop, each.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1000))]
    turns: u32,
    /// Heartbeats of every connection in one turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Threads of the bare loop; 0 = one per core, as the server has.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// How often devices look for answers, milliseconds; 0 = sleep in epoll. Latencies contain it.
    #[arg(long, default_value_t = 2)]
    sweep_ms: u64,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// A turn of the server with the bare turn before it.
#[derive(Clone, Copy, Debug, Serialize)]
struct Turn {
    server_per_s: f64,
    bare_per_s: f64,
    server_cpu_us: f64,
    bare_cpu_us: f64,
    stolen_cores: f64,
}

/// Runs the scenario.
pub(crate) fn run(args: &HeartbeatArgs) -> Result<(), BenchError> {
    let count = args.devices as usize;
    let mut online = Online::begin(&args.server, count)?;
    let Some(pid) = online.server.pid else {
        return Err(BenchError::Options("CPU of a server that runs already needs its --pid".into()));
    };
    online.log_in_up_to(count)?;
    online.team.arm(&Order::Sweep { interval_ms: args.sweep_ms })?;
    let threads = if args.threads == 0 { cores() } else { args.threads };
    let mut bare = Bare::start(&server::program()?, count, threads, args.sweep_ms, 1)?;
    let (mut answers, mut echoes) = (Latencies::default(), Latencies::default());
    // One turn of each to warm both; it is not counted.
    turn(args, &mut online, &mut bare, pid, (&mut answers, &mut echoes))?;
    answers.clear();
    echoes.clear();
    let progress = bar("turns", args.turns.into());
    let mut turns = Vec::new();
    for _ in 0..args.turns {
        turns.push(turn(args, &mut online, &mut bare, pid, (&mut answers, &mut echoes))?);
        progress.inc(1);
    }
    progress.finish_and_clear();
    publish(args, &online, &turns, &answers, &echoes)
}

fn turn(
    args: &HeartbeatArgs,
    online: &mut Online,
    bare: &mut Bare,
    pid: u32,
    (answers, echoes): (&mut Latencies, &mut Latencies),
) -> Result<Turn, BenchError> {
    let (busy, begin_ns) = (Busy::read(), clock::now_ns());
    let echo = bare.echo_at(args.rounds, args.rate)?;
    echoes.add(&echo.latencies.buckets());
    std::thread::sleep(PAUSE);
    let (cpu, start_ns) = (cpu_ns(pid), clock::now_ns());
    online.team.ping(args.rounds, args.rate, TURN_TIME)?;
    let haul = online.team.held(TURN_TIME)?;
    let server_cpu_ns = cpu_ns(pid).saturating_sub(cpu);
    let expected = u64::from(args.devices) * u64::from(args.rounds);
    if haul.messages < expected || haul.closed > 0 {
        let text = format!("{} of {expected} heartbeats answered, {} closed", haul.messages, haul.closed);
        return Err(BenchError::Server(text));
    }
    answers.add(&haul.latencies.buckets());
    std::thread::sleep(PAUSE);
    let stolen_s = Busy::read().stolen_s - busy.stolen_s;
    Ok(Turn {
        server_per_s: haul.messages as f64 / seconds(start_ns, haul.at_ns),
        bare_per_s: echo.messages as f64 / echo.span_s,
        server_cpu_us: server_cpu_ns as f64 / 1e3 / haul.messages as f64,
        bare_cpu_us: echo.cpu_s * 1e6 / echo.messages as f64,
        stolen_cores: stolen_s / seconds(begin_ns, clock::now_ns()),
    })
}

fn publish(
    args: &HeartbeatArgs,
    online: &Online,
    turns: &[Turn],
    answers: &Latencies,
    echoes: &Latencies,
) -> Result<(), BenchError> {
    let of = |figure: fn(&Turn) -> f64| spread(turns.iter().map(figure));
    let mut figures = Figures::new("heartbeat");
    let cpu = of(|turn| turn.server_cpu_us);
    let cpu_ratio = of(|turn| turn.server_cpu_us / turn.bare_cpu_us);
    let rate_ratio = of(|turn| turn.server_per_s / turn.bare_per_s);
    figures.cpu_s_per_million = cpu.map(|spread| spread.median);
    figures.ratio_to_limit = rate_ratio.map(|spread| spread.median);
    figures.latency_ms = answers.percentiles();
    figures.lost = Some(0);
    let pace = if args.rate == 0 { "as fast as answered".into() } else { format!("{}/s", args.rate) };
    figures.row("connections, pace", format!("{}, {pace}", grouped(args.devices.into())));
    figures.row("turns", format!("{} of each, {} heartbeats a connection", turns.len(), args.rounds));
    figures.row("server heartbeats/s", words(of(|turn| turn.server_per_s), 0));
    figures.row("bare echoes/s", words(of(|turn| turn.bare_per_s), 0));
    figures.row("server / bare echo, rate per turn", words(rate_ratio, 3));
    figures.row("server CPU us per heartbeat", words(cpu, 2));
    figures.row("bare echo CPU us", words(of(|turn| turn.bare_cpu_us), 2));
    figures.row("server / bare echo, CPU per turn", words(cpu_ratio, 3));
    figures.row("heartbeat to answer, ms", percentiles(answers));
    figures.row("bare echo, ms", percentiles(echoes));
    figures.row("stolen cores", words(of(|turn| turn.stolen_cores), 2));
    figures.extra("cpu_ratio", cpu_ratio);
    figures.extra("rate_ratio", rate_ratio);
    figures.extra("heartbeats_per_s", of(|turn| turn.server_per_s));
    figures.extra("bare_per_s", of(|turn| turn.bare_per_s));
    figures.extra("bare_cpu_us", of(|turn| turn.bare_cpu_us));
    figures.extra("bare_latency_ms", echoes.percentiles());
    figures.extra("devices", args.devices);
    figures.extra("rate", args.rate);
    figures.extra("turns", turns);
    report_loop(&mut figures, &online.lag, &LoopLag::read(&online.api)?);
    figures.print(args.output.json);
    Ok(())
}

fn percentiles(latencies: &Latencies) -> String {
    latencies.percentiles().map_or_else(|| "not measured".into(), |at| at.to_string())
}
