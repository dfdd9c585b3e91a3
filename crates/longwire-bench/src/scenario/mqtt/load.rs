//! `bench fanout` and `bench unicast` with `--protocol mqtt`: deliveries per second, their cost and their latency.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::{Broker, MqttArgs};
use crate::args::{FanoutArgs, OutputArgs, ServerArgs, UnicastArgs};
use crate::error::BenchError;
use crate::machine::{Busy, cpu_ns};
use crate::order::{Order, Play, Publish};
use crate::progress::bar;
use crate::report::{Figures, grouped, words};
use crate::scenario::bare::seconds;
use crate::scenario::team::{Haul, Team};
use crate::series::spread;
use crate::server;

/// Messages of a fan-out under way at most, whatever their length.
const FANOUT_WINDOW_MAX: u64 = 64;
/// Bytes of content under way in a fan-out, if no window is given.
const FANOUT_BYTES_UNDER_WAY: u64 = 16 * 1024 * 1024;
/// Messages of a unicast run under way, if no window is given.
const UNICAST_WINDOW: u64 = 4096;
/// Subscribers that receive nothing more for so long have received all that comes.
const QUIET: Duration = Duration::from_millis(500);
const LOOK: Duration = Duration::from_millis(100);
/// Longest wait for quiet.
const QUIET_WAIT: Duration = Duration::from_secs(20);
const TOPIC: &str = "bench/load";

/// How much is published.
#[derive(Clone, Debug, Args)]
pub(crate) struct LoadArgs {
    /// Deliveries per second by the clock; 0 = flat out.
    #[arg(long, default_value_t = 0, help_heading = "MQTT")]
    rate: u32,
    /// Length of a turn, milliseconds.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(100..=60_000), help_heading = "MQTT")]
    turn_ms: u64,
    /// Flat out: messages that may be published and not yet received; 0 = any number, so that a broker that cannot follow has to
    /// drop or stop reading. Default: 64, or fewer so that 16 MiB are under way at most (fanout); 4096 (unicast).
    #[arg(long, help_heading = "MQTT")]
    window: Option<u64>,
    /// Connections that publish (unicast; a fan-out has one).
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=64), help_heading = "MQTT")]
    publishers: u32,
    /// Messages in all at most.
    #[arg(long, default_value_t = 50_000_000, value_parser = clap::value_parser!(u64).range(1..), help_heading = "MQTT")]
    messages_max: u64,
    /// Processes that play the clients.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..=3), help_heading = "MQTT")]
    fleets: u32,
}

/// What one run does.
struct Plan<'a> {
    scenario: &'static str,
    mqtt: &'a MqttArgs,
    load: &'a LoadArgs,
    server: &'a ServerArgs,
    output: OutputArgs,
    subscribers: usize,
    publishers: usize,
    /// Each subscriber has a topic of its own.
    each: bool,
    bytes: usize,
    turns: u32,
    sweep_ms: u64,
    window: u64,
}

/// One publisher, N subscribers of one topic.
pub(crate) fn fanout(args: &FanoutArgs) -> Result<(), BenchError> {
    let under_way = u64::from(args.devices) * u64::from(args.bytes);
    let window = (FANOUT_BYTES_UNDER_WAY / under_way.max(1)).clamp(1, FANOUT_WINDOW_MAX);
    let load = &args.load;
    run(&Plan {
        scenario: "fanout",
        mqtt: &args.mqtt,
        load,
        server: &args.server,
        output: args.output,
        subscribers: args.devices as usize,
        publishers: 1,
        each: false,
        bytes: args.bytes as usize,
        turns: args.turns,
        // By the clock latency is what counts, and a sweep would be part of it.
        sweep_ms: if load.rate > 0 { 0 } else { args.sweep_ms },
        window: if load.rate > 0 { 0 } else { load.window.unwrap_or(window) },
    })
}

/// M publishers, N subscribers with a topic each.
pub(crate) fn unicast(args: &UnicastArgs) -> Result<(), BenchError> {
    let load = &args.load;
    run(&Plan {
        scenario: "unicast",
        mqtt: &args.mqtt,
        load,
        server: &args.server,
        output: args.output,
        subscribers: args.devices as usize,
        publishers: load.publishers as usize,
        each: true,
        bytes: args.bytes as usize,
        turns: u32::try_from((args.seconds * 1000 / load.turn_ms).clamp(1, 10_000)).unwrap_or(1),
        sweep_ms: 0,
        window: if load.rate > 0 { 0 } else { load.window.unwrap_or(UNICAST_WINDOW) },
    })
}

/// What was measured in one turn.
#[derive(Clone, Copy, Debug, Serialize)]
struct Turn {
    deliveries_per_s: f64,
    published_per_s: f64,
    cpu_s_per_million: Option<f64>,
    /// Cores that the server used.
    server_cores: Option<f64>,
    /// Cores used by processes that are no part of the measurement; only with the server's pid.
    foreign_cores: Option<f64>,
}

/// Counters at one moment.
struct Moment {
    at_ns: u64,
    server_ns: u64,
    fleets_ns: u64,
    busy: Busy,
}

impl Moment {
    fn read(broker: &Broker, team: &Team, at_ns: u64) -> Moment {
        let server_ns = broker.pid.map_or(0, cpu_ns);
        let fleets_ns = team.pids().chain([std::process::id()]).map(cpu_ns).sum();
        Moment { at_ns, server_ns, fleets_ns, busy: Busy::read() }
    }
}

fn run(plan: &Plan<'_>) -> Result<(), BenchError> {
    let broker = Broker::obtain(plan.server)?;
    let fleets = (plan.load.fleets as usize).max(Team::fleets_for(plan.subscribers));
    let mut team = Team::of(&server::program()?, "readers", fleets, 2)?;
    let subscriber = Play::Subscriber { topic: TOPIC.into(), each: plan.each, qos: plan.mqtt.qos };
    let shares = team.shares(plan.subscribers);
    team.clients(&plan.mqtt.clients(broker.target, subscriber), plan.subscribers)?;
    let publishers = if plan.publishers == 1 { vec![1] } else { team.shares(plan.publishers) };
    team.clients_by(&plan.mqtt.clients(broker.target, Play::Publisher), &publishers)?;
    team.arm(&Order::Sweep { interval_ms: plan.sweep_ms })?;
    begin_publishing(plan, &mut team, &shares, &publishers)?;
    // Half a turn that is not counted: queues and windows fill.
    std::thread::sleep(Duration::from_millis(plan.load.turn_ms / 2));
    let mut total = team.tally()?;
    let mut counted = Haul::default();
    let mut before = Moment::read(&broker, &team, total.at_ns);
    let progress = bar("turns", plan.turns.into());
    let mut turns = Vec::new();
    for _ in 0..plan.turns {
        std::thread::sleep(Duration::from_millis(plan.load.turn_ms));
        let haul = team.tally()?;
        let now = Moment::read(&broker, &team, haul.at_ns);
        turns.push(turn(&broker, &haul, &before, &now));
        before = now;
        total.merge(&haul);
        counted.merge(&haul);
        progress.inc(1);
    }
    progress.finish_and_clear();
    team.arm(&Order::Silence)?;
    drain(&mut team, &mut total)?;
    publish(plan, &broker, &turns, &total, &counted)
}

/// Each fleet publishes what its own subscribers can be asked about: to its own topics, or as the only one.
fn begin_publishing(
    plan: &Plan<'_>,
    team: &mut Team,
    shares: &[usize],
    publishers: &[usize],
) -> Result<(), BenchError> {
    let each = if plan.each { 1 } else { plan.subscribers };
    let messages_per_s = f64::from(plan.load.rate) / each as f64;
    let busy = publishers.iter().filter(|count| **count > 0).count().max(1);
    let span_ms = plan.load.turn_ms * (u64::from(plan.turns) + 1);
    let mut first = 0;
    let orders = shares.iter().enumerate().map(|(fleet, &share)| {
        let begins_at = first;
        first += share;
        (publishers.get(fleet).is_some_and(|count| *count > 0) && share > 0).then(|| {
            Order::Publish(Publish {
                topic: TOPIC.into(),
                topics: if plan.each { share } else { 0 },
                first: if plan.each { begins_at } else { 0 },
                bytes: plan.bytes,
                qos: plan.mqtt.qos,
                per_s: messages_per_s / busy as f64,
                window: plan.window.div_ceil(busy as u64),
                fan: if plan.each { 1 } else { share as u64 },
                messages_max: plan.load.messages_max.div_ceil(busy as u64),
                // The scenario ends it; this is the bound if the scenario does not.
                within_ms: span_ms * 2 + QUIET_WAIT.as_millis() as u64,
            })
        })
    });
    team.order_some(orders)
}

fn turn(broker: &Broker, haul: &Haul, before: &Moment, now: &Moment) -> Turn {
    let span_s = seconds(before.at_ns, now.at_ns).max(1e-9);
    let server_s = now.server_ns.saturating_sub(before.server_ns) as f64 / 1e9;
    let fleets_s = now.fleets_ns.saturating_sub(before.fleets_ns) as f64 / 1e9;
    let busy_s = now.busy.busy_s - before.busy.busy_s;
    Turn {
        deliveries_per_s: haul.messages as f64 / span_s,
        published_per_s: haul.published as f64 / span_s,
        cpu_s_per_million: broker.pid.map(|_| server_s * 1e6 / haul.messages.max(1) as f64),
        server_cores: broker.pid.map(|_| server_s / span_s),
        foreign_cores: broker.pid.map(|_| ((busy_s - server_s - fleets_s) / span_s).max(0.0)),
    }
}

/// Waits until nothing more arrives.
fn drain(team: &mut Team, total: &mut Haul) -> Result<(), BenchError> {
    let begin = Instant::now();
    let mut last = Instant::now();
    while last.elapsed() < QUIET && begin.elapsed() < QUIET_WAIT {
        std::thread::sleep(LOOK);
        let haul = team.tally()?;
        if haul.messages > 0 {
            last = Instant::now();
        }
        total.merge(&haul);
    }
    Ok(())
}

fn publish(
    plan: &Plan<'_>,
    broker: &Broker,
    turns: &[Turn],
    total: &Haul,
    counted: &Haul,
) -> Result<(), BenchError> {
    if total.closed > 0 {
        let text = format!("{} connections were closed: {}; no turn counts", total.closed, total.why);
        return Err(BenchError::Server(text));
    }
    let rate = spread(turns.iter().map(|turn| turn.deliveries_per_s));
    let cpu = spread(turns.iter().filter_map(|turn| turn.cpu_s_per_million));
    let cores = spread(turns.iter().filter_map(|turn| turn.server_cores));
    let foreign = spread(turns.iter().filter_map(|turn| turn.foreign_cores));
    let each = if plan.each { 1 } else { plan.subscribers as u64 };
    let expected = total.published * each;
    let mut figures = Figures::new(plan.scenario);
    figures.row("broker", format!("{}, MQTT {}", broker.words(), plan.mqtt.version()));
    let (subscribers, publishers) = (grouped(plan.subscribers as f64), plan.publishers);
    figures
        .row("clients", format!("{publishers} publishing, {subscribers} subscribed, QoS {}", plan.mqtt.qos));
    let how = match (plan.load.rate, plan.window) {
        (0, 0) => "flat out, any number under way".into(),
        (0, window) => format!("flat out, {window} messages under way at most"),
        (rate, _) => format!("{} deliveries/s by the clock", grouped(rate.into())),
    };
    figures.row("load", format!("{} bytes each, {how}", plan.bytes));
    figures.row("deliveries/s", words(rate, 0));
    figures.row("published/s", words(spread(turns.iter().map(|turn| turn.published_per_s)), 0));
    figures.row("server CPU-s per million", words(cpu, 2));
    figures.row("server cores", words(cores, 2));
    figures.row("foreign cores", words(foreign, 2));
    figures.latency_ms = counted.latencies.percentiles();
    if let Some(percentiles) = &figures.latency_ms {
        figures.row("publish to read", format!("{percentiles} ms"));
    }
    let lost = expected.saturating_sub(total.messages);
    figures.row("lost", format!("{} of {}", grouped(lost as f64), grouped(expected as f64)));
    let extra = total.messages.saturating_sub(expected);
    if extra > 0 {
        figures.row("more than published", grouped(extra as f64));
    }
    figures.deliveries_per_s = rate.map(|rate| rate.median);
    figures.cpu_s_per_million = cpu.map(|cpu| cpu.median);
    figures.lost = Some(lost);
    figures.extra("protocol", "mqtt");
    figures.extra("qos", plan.mqtt.qos);
    figures.extra("subscribers", plan.subscribers);
    figures.extra("publishers", plan.publishers);
    figures.extra("bytes", plan.bytes);
    figures.extra("window", plan.window);
    figures.extra("rate", plan.load.rate);
    figures.extra("deliveries_per_s_spread", rate);
    figures.extra("cpu_s_per_million_spread", cpu);
    figures.extra("server_cores", cores);
    figures.extra("foreign_cores", foreign);
    figures.extra("turns", turns);
    figures.print(plan.output.json);
    Ok(())
}
