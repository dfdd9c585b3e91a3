//! `bench idle --total`: as many idle connections as the memory holds, over as many servers as they need.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::args::{IdleArgs, ServerArgs};
use crate::devices::register;
use crate::error::BenchError;
use crate::http::Api;
use crate::latency::Latencies;
use crate::machine::{KernelMemory, Memory, available_mib, cores, cpu_ns};
use crate::order::{Back, Login};
use crate::report::{Figures, grouped};
use crate::scenario::online::HEARTBEAT_S;
use crate::scenario::team::Team;
use crate::server::{self, Server};
use crate::transport::Transport;

/// Connections of one server: below the 20,000 descriptors that a process may have, with room for its own.
const CONNECTIONS_EACH: usize = 16_000;
/// Connections opened before the machine's memory is looked at.
const CHUNK: usize = 2_000;
/// Logins under way at once at one server.
const UNDER_WAY_MAX: usize = 128;
/// How long heartbeats are measured, and idleness before them.
const BEATING_TIME: Duration = Duration::from_secs(10);
const IDLE_TIME: Duration = Duration::from_secs(5);
/// The first of the third numbers of source addresses.
const NET: u8 = 100;

/// One server with its devices. Fields end in this order.
struct Node {
    team: Team,
    logins: Vec<Login>,
    server: Server,
    pid: u32,
    /// Before anything was registered.
    fresh: Memory,
    /// With all registered and none connected.
    empty: Memory,
    connected: usize,
}

/// The machine at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
struct Machine {
    connections: usize,
    available_mib: u64,
    kernel: KernelMemory,
}

/// Everything of one run.
#[derive(Default)]
struct Crowd {
    nodes: Vec<Node>,
    opening_s: f64,
    /// Kernel memory that came while connections were opened, KiB.
    slab_kib: u64,
    tcp_kib: u64,
    points: Vec<Machine>,
    stopped: Option<String>,
}

/// Runs the scenario.
pub(crate) fn run(args: &IdleArgs) -> Result<(), BenchError> {
    if args.server.target.is_some() {
        return Err(BenchError::Options("--total starts servers of its own; leave --target out".into()));
    }
    if args.through.transport != Transport::Tcp {
        return Err(BenchError::Options("--total opens bare connections; leave --transport out".into()));
    }
    let total = args.total.unwrap_or_default() as usize;
    let servers = match args.servers as usize {
        0 => total.div_ceil(CONNECTIONS_EACH),
        given => given,
    };
    let each = total.div_ceil(servers);
    if each > 18_000 || servers > 150 {
        return Err(BenchError::Options("18000 connections a server and 150 servers at most".into()));
    }
    let deadline = Instant::now() + Duration::from_secs(args.seconds);
    let mut crowd = Crowd::default();
    let mut left = total;
    while left > 0 && crowd.stopped.is_none() {
        let batch: Vec<usize> = (0..cores())
            .map(|index| left.saturating_sub(index * each).min(each))
            .filter(|count| *count > 0)
            .collect();
        left -= batch.iter().sum::<usize>();
        crowd.grow(args, &batch, deadline)?;
        eprintln!("{} of {total} connections, {} MiB free", crowd.connected(), available_mib());
    }
    crowd.publish(args, total)
}

impl Crowd {
    fn connected(&self) -> usize {
        self.nodes.iter().map(|node| node.connected).sum()
    }

    /// Starts servers, registers their devices, and opens their connections, all servers at the same time.
    fn grow(&mut self, args: &IdleArgs, batch: &[usize], deadline: Instant) -> Result<(), BenchError> {
        let first = self.nodes.len();
        // A server ends with the thread that started it, so this one starts them, one after the other.
        let servers =
            batch.iter().map(|_| spawn(&args.server)).collect::<Result<Vec<Server>, BenchError>>()?;
        let started: Vec<Result<Node, BenchError>> = std::thread::scope(|scope| {
            let starts: Vec<_> = servers
                .into_iter()
                .zip(batch)
                .enumerate()
                .map(|(index, (server, count))| scope.spawn(move || fill(server, *count, first + index)))
                .collect();
            let failed = |_| Err(BenchError::Server("starting it failed".into()));
            starts.into_iter().map(|start| start.join().unwrap_or_else(failed)).collect()
        });
        let mut nodes = started.into_iter().collect::<Result<Vec<Node>, BenchError>>()?;
        let (kernel, begin, full) = (KernelMemory::read(), Instant::now(), AtomicBool::new(false));
        let opened: Vec<Result<(), BenchError>> = std::thread::scope(|scope| {
            let full = &full;
            let opens: Vec<_> = nodes
                .iter_mut()
                .map(|node| scope.spawn(move || open(node, args.floor_mib, deadline, full)))
                .collect();
            let failed = |_| Err(BenchError::Server("opening connections failed".into()));
            opens.into_iter().map(|open| open.join().unwrap_or_else(failed)).collect()
        });
        self.opening_s += begin.elapsed().as_secs_f64();
        let now = KernelMemory::read();
        self.slab_kib += now.slab_kib.saturating_sub(kernel.slab_kib);
        self.tcp_kib += now.tcp_buffers_kib.saturating_sub(kernel.tcp_buffers_kib);
        self.nodes.append(&mut nodes);
        let why = if Instant::now() >= deadline { "the time is over" } else { "free memory is at the floor" };
        self.stopped = full.into_inner().then(|| why.to_owned());
        if let Some(error) = opened.into_iter().find_map(Result::err) {
            // What is open stays and is measured; the report says why there is no more.
            self.stopped = Some(error.to_string());
        }
        let connections = self.connected();
        self.points.push(Machine { connections, available_mib: available_mib(), kernel: now });
        Ok(())
    }

    fn cpu_s(&self) -> f64 {
        self.nodes.iter().map(|node| cpu_ns(node.pid) as f64 / 1e9).sum()
    }

    /// Heartbeats on all connections by the clock: answered, their processor time, their latencies.
    fn beat(&mut self, rate: u32) -> Result<(u64, f64, Latencies), BenchError> {
        let connected = self.connected().max(1) as u64;
        let rounds = (u64::from(rate) * BEATING_TIME.as_secs()).div_ceil(connected).max(1) as u32;
        let share = (u64::from(rate) / self.nodes.len().max(1) as u64).max(1) as u32;
        let before = self.cpu_s();
        for node in &mut self.nodes {
            node.team.ping(rounds, share, BEATING_TIME)?;
        }
        let (mut answered, mut latencies) = (0, Latencies::default());
        for node in &self.nodes {
            let haul = node.team.held(BEATING_TIME)?;
            answered += haul.messages;
            latencies.add(&haul.latencies.buckets());
        }
        Ok((answered, self.cpu_s() - before, latencies))
    }

    fn publish(mut self, args: &IdleArgs, total: usize) -> Result<(), BenchError> {
        let connected = self.connected();
        if connected == 0 {
            let why = self.stopped.unwrap_or_else(|| "no connection came up".into());
            return Err(BenchError::Server(why));
        }
        let mut figures = Figures::new("idle");
        self.memory(&mut figures, connected, total);
        let (answered, cpu_s, latencies) = self.beat(args.heartbeat_rate)?;
        let mut closed = 0;
        for node in &mut self.nodes {
            closed += node.team.tally()?.closed;
        }
        figures.latency_ms = latencies.percentiles();
        figures.lost = Some(closed);
        let cpu_us = cpu_s * 1e6 / answered.max(1) as f64;
        figures.row("free memory now", format!("{} MiB", available_mib()));
        let beats = answered as f64 / BEATING_TIME.as_secs_f64();
        figures.row("heartbeats answered", format!("{}/s", grouped(beats)));
        figures.row("  servers' CPU us each", format!("{cpu_us:.1}"));
        let text = latencies.percentiles().map_or_else(|| "none".into(), |at| at.to_string());
        figures.row("  answered after, ms", text);
        figures.row("connections closed", closed.to_string());
        figures.extra("heartbeats_per_s", beats);
        figures.extra("heartbeat_cpu_us", cpu_us);
        figures.extra("points", &self.points);
        figures.print(args.output.json);
        Ok(())
    }

    /// What was reached, and what a connection costs in memory.
    fn memory(&self, figures: &mut Figures, connected: usize, total: usize) {
        let per = |kib: u64| kib as f64 * 1024.0 / connected as f64;
        let idle = (self.cpu_s(), Instant::now());
        std::thread::sleep(IDLE_TIME);
        let idle_cores = (self.cpu_s() - idle.0).max(0.0) / idle.1.elapsed().as_secs_f64();
        let grown = |from: fn(&Node) -> Memory| {
            let each = self.nodes.iter().map(|node| {
                Memory::read(node.pid).map_or(0, |now| now.rss_kib.saturating_sub(from(node).rss_kib))
            });
            each.sum::<u64>()
        };
        let (rss, whole) = (per(grown(|node| node.empty)), per(grown(|node| node.fresh)));
        let fresh_kib: u64 = self.nodes.iter().map(|node| node.fresh.rss_kib).sum();
        let fleets = self.nodes.iter().flat_map(|node| node.team.pids()).filter_map(Memory::read);
        let fleet_kib: u64 = fleets.map(|memory| memory.anonymous_kib).sum();
        figures.bytes_per_connection = Some(rss);
        figures.row(
            "connections, servers",
            format!("{} of {}, {}", grouped(connected as f64), grouped(total as f64), self.nodes.len()),
        );
        figures.row("stopped early", self.stopped.clone().unwrap_or_else(|| "no".into()));
        let rate = connected as f64 / self.opening_s;
        figures.row("opened and logged in", format!("{}/s ({:.1} s)", grouped(rate), self.opening_s));
        figures.row("servers' RSS per connection", format!("{rss:.0} bytes"));
        figures.row("  with the registration of its device", format!("{whole:.0} bytes"));
        figures.row("a fresh server's RSS", format!("{} KiB", fresh_kib / self.nodes.len() as u64));
        let (slab, tcp) = (per(self.slab_kib), per(self.tcp_kib));
        figures.row("kernel per connection, both ends", format!("slab {slab:.0}, buffers {tcp:.0} bytes"));
        figures.row("fleets' own memory per connection", format!("{:.0} bytes", per(fleet_kib)));
        figures.row("servers' CPU while idle", format!("{idle_cores:.2} cores"));
        figures.extra("connections", connected);
        figures.extra("total", total);
        figures.extra("servers", self.nodes.len());
        figures.extra("stopped", &self.stopped);
        figures.extra("opened_per_s", rate);
        figures.extra("bytes_per_registered_connection", whole);
        figures.extra("fresh_kib", fresh_kib);
        figures.extra("kernel_slab_bytes_per_connection", slab);
        figures.extra("kernel_tcp_bytes_per_connection", tcp);
        figures.extra("idle_cores", idle_cores);
    }
}

/// A server of one shard: the servers share the cores already.
fn spawn(args: &ServerArgs) -> Result<Server, BenchError> {
    let program = args.server_program.clone().map_or_else(server::program, Ok)?;
    let mut arguments = vec!["--set".to_owned(), "shards.count=1".to_owned()];
    arguments.extend(args.serve_arg.iter().cloned());
    Server::spawn(&program, &arguments)
}

/// Registers `count` devices; nobody is connected yet.
fn fill(server: Server, count: usize, index: usize) -> Result<Node, BenchError> {
    let memory = |server: &Server| {
        let read = server.pid.and_then(|pid| Some((pid, Memory::read(pid)?)));
        read.ok_or_else(|| BenchError::Server("its memory cannot be read".into()))
    };
    let (pid, fresh) = memory(&server)?;
    let api = Api::new(server.api, &server.app_key, &server.app_secret);
    let logins = register(&api, count, |_| Vec::new())?.into_iter().map(|device| device.login).collect();
    let team = Team::of(&server::program()?, "swarm", 1, NET + index as u8)?;
    let (_, empty) = memory(&server)?;
    Ok(Node { team, logins, server, pid, fresh, empty, connected: 0 })
}

/// Opens a server's connections in chunks, as long as the machine has memory and time.
fn open(node: &mut Node, floor_mib: u64, deadline: Instant, full: &AtomicBool) -> Result<(), BenchError> {
    let logins = std::mem::take(&mut node.logins);
    for chunk in logins.chunks(CHUNK) {
        if available_mib() < floor_mib || Instant::now() >= deadline {
            full.store(true, Ordering::Relaxed);
        }
        if full.load(Ordering::Relaxed) {
            break;
        }
        let to = (node.server.device, node.server.app_key.as_str());
        node.connected = node.team.gather(to, chunk, (HEARTBEAT_S, UNDER_WAY_MAX), Back::Stay)?;
    }
    Ok(())
}
