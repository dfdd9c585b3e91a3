//! `bench idle`: what an idle, logged-in connection costs in the server's own memory.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::online::{HEARTBEAT_S, Online};
use super::team::Team;
use crate::args::{IdleArgs, ServerArgs};
use crate::error::BenchError;
use crate::folder::Folder;
use crate::http::Api;
use crate::machine::{KernelMemory, Memory, cores};
use crate::metrics::{Balance, LoopLag, gauges, report_loop};
use crate::order::Login;
use crate::progress::bar;
use crate::pump::{Pump, Request};
use crate::report::{Figures, grouped};
use crate::server;
use crate::slope::{Line, line};
use crate::transport::Transport;

/// Memory is settled when it moves less than this within [`LOOK`].
const SETTLED_KIB: u64 = 64;
/// How many looks in a row must agree.
const SETTLED_LOOKS: u32 = 3;
/// Devices of the warm-up for each core, thus for each shard of a server with the default of them.
const WARM_UP_EACH: usize = 300;
/// The server counts nobody of the warm-up after this.
const GONE_TIME: Duration = Duration::from_secs(30);
const READS_IN_FLIGHT: usize = 16;
/// A fit that explains less is marked.
const R_SQUARED_MIN: f64 = 0.95;
const LOOK: Duration = Duration::from_secs(1);

/// What was read at one fill level.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Level {
    connections: usize,
    pub(crate) memory: Memory,
    kernel: KernelMemory,
    pub(crate) settled: bool,
}

/// Runs the scenario.
pub(crate) fn run(args: &IdleArgs) -> Result<(), BenchError> {
    let most = levels_of(args)?;
    let mut server_args = args.server.clone();
    let _certificate = args.through.certify(&mut server_args)?;
    let transport = args.through.transport;
    let Settled { mut online, pid, how, _folder } = Settled::begin(server_args, transport, most)?;
    let longest = Duration::from_secs(args.settle_s);
    // Shown, but no point of the line.
    let empty = settle(pid, 0, longest)?;
    let progress = bar("filling", most as u64);
    let mut levels = Vec::new();
    for &level in &args.levels {
        let connections = online.log_in_up_to(level as usize)?;
        progress.set_position(connections as u64);
        levels.push(settle(pid, connections, longest)?);
    }
    progress.finish_and_clear();
    let closed = online.team.tally()?.closed;
    if closed > 0 {
        return Err(BenchError::Server(format!("{closed} idle connections were closed; no level counts")));
    }
    let balance = Balance::read(&online.api)?;
    let mut figures = Figures::new("idle");
    figures.row("settled before", how);
    report_memory(&mut figures, &empty, &levels)?;
    figures.lost = Some(0);
    figures.row("transport", transport.name());
    figures.extra("transport", transport.name());
    figures.row("connections of each shard", Balance::words(balance.as_ref()));
    figures.extra("balance", balance);
    report_loop(&mut figures, &online.lag, &LoopLag::read(&online.api)?);
    figures.print(args.output.json);
    Ok(())
}

/// The most connections of the levels.
pub(crate) fn levels_of(args: &IdleArgs) -> Result<usize, BenchError> {
    let rising = args.levels.windows(2).all(|pair| pair[0] < pair[1]);
    match args.levels.last() {
        Some(&most) if rising && args.levels.len() > 1 && most <= 18_000 => Ok(most as usize),
        _ => Err(BenchError::Options("--levels needs at least two rising counts up to 18000".into())),
    }
}

/// The slopes of a server's memory through its levels; the figure is that of its RSS.
pub(crate) fn report_memory(
    figures: &mut Figures,
    empty: &Level,
    levels: &[Level],
) -> Result<(), BenchError> {
    let rss = slope(levels, |level| level.memory.rss_kib)?;
    let pss = slope(levels, |level| level.memory.pss_kib)?;
    let anonymous = slope(levels, |level| level.memory.anonymous_kib)?;
    let slab = slope(levels, |level| level.kernel.slab_kib)?;
    figures.bytes_per_connection = Some(rss.slope);
    figures.row("connections", "server RSS / PSS / anonymous KiB, kernel slab KiB");
    report_levels(figures, empty, levels);
    for (name, line) in [("RSS", rss), ("PSS", pss), ("anonymous", anonymous)] {
        figures.row(
            format!("{name} per connection"),
            format!(
                "{:.0} bytes (r2 {:.4}{}, empty server {:.1} MiB)",
                line.slope,
                line.r_squared,
                if line.r_squared < R_SQUARED_MIN { ", NO STRAIGHT LINE: not to be published" } else { "" },
                line.intercept / 1048576.0
            ),
        );
    }
    figures.row("kernel slab per connection", format!("{:.0} bytes, both ends of the loopback", slab.slope));
    figures.extra("straight", rss.r_squared >= R_SQUARED_MIN);
    figures.extra("empty", empty);
    figures.extra("levels", levels);
    figures.extra("pss_bytes_per_connection", pss.slope);
    figures.extra("anonymous_bytes_per_connection", anonymous.slope);
    figures.extra("kernel_slab_bytes_per_connection", slab.slope);
    figures.extra("r_squared", rss.r_squared);
    figures.extra("empty_bytes", rss.intercept);
    Ok(())
}

fn report_levels(figures: &mut Figures, empty: &Level, levels: &[Level]) {
    for level in std::iter::once(empty).chain(levels) {
        let Memory { rss_kib, pss_kib, anonymous_kib } = level.memory;
        let mark = match (level.connections, level.settled) {
            (0, _) => "  (settled; not in the slope)",
            (_, true) => "",
            (_, false) => "  (still moving)",
        };
        let slab_kib = level.kernel.slab_kib;
        figures.row(
            grouped(level.connections as f64),
            format!("{rss_kib} / {pss_kib} / {anonymous_kib}, {slab_kib}{mark}"),
        );
    }
}

/// A server with all devices registered, none connected, and nothing left of the registering in its memory.
struct Settled {
    online: Online,
    pid: u32,
    /// What was done, in words.
    how: String,
    _folder: Option<Folder>,
}

impl Settled {
    /// Registers, starts the server again on the same data, lets a fleet come and go, and has every device read once. So what a
    /// first connection on each shard makes once, and what the store keeps of devices that were asked for, is there before the first
    /// level, and no level fills pages that the registering left free.
    fn begin(mut server_args: ServerArgs, transport: Transport, most: usize) -> Result<Settled, BenchError> {
        let warm = cores() * WARM_UP_EACH;
        let program = server_args.server_program.clone().map_or_else(server::program, Ok)?;
        let folder = if server_args.target.is_none() { Some(Folder::name("idle")?) } else { None };
        if let Some(Folder(path)) = &folder {
            server_args.serve_arg.extend(["--data-dir".to_owned(), path.display().to_string()]);
        }
        let mut online = Online::begin(&server_args, most + warm)?;
        online.team = online.team.through(transport);
        if folder.is_some() {
            online.server.start_again(&program, &server_args.serve_arg)?;
            online.api = Api::new(online.server.api, &online.server.app_key, &online.server.app_secret);
            online.lag = LoopLag::read(&online.api)?;
        }
        let Some(pid) = online.server.pid else {
            return Err(BenchError::Options("memory of a server that runs already needs its --pid".into()));
        };
        let before = connections(&online.api)?;
        let mut team = Team::start(&server::program()?, warm, 5)?.through(transport);
        let logins: Vec<Login> = online.devices[most..].iter().map(|device| device.login.clone()).collect();
        team.log_in(online.server.device, &online.server.app_key, &logins, HEARTBEAT_S)?;
        drop(team);
        let begin = Instant::now();
        while connections(&online.api)? > before {
            if begin.elapsed() > GONE_TIME {
                return Err(BenchError::Server("still counts the connections of the warm-up".into()));
            }
            std::thread::sleep(LOOK / 10);
        }
        read_all(&online)?;
        let again = if folder.is_some() { "started again after registering, " } else { "" };
        let how = format!("{again}{warm} other devices came and went, every device read once");
        Ok(Settled { online, pid, how, _folder: folder })
    }
}

fn connections(api: &Api) -> Result<f64, BenchError> {
    Ok(gauges(api)?.get("longwire_connections").copied().unwrap_or_default())
}

/// Asks for every device once.
fn read_all(online: &Online) -> Result<(), BenchError> {
    let mut names = online.devices.iter().map(|device| &device.name);
    let next = || {
        let path = format!("/v1/devices/{}", names.next()?);
        Some(Request { number: 0, bytes: online.api.request("GET", &path, "") })
    };
    Pump::open(&online.api, READS_IN_FLIGHT)?.run(next, |answer| match answer.reply.status {
        200 => Ok(()),
        _ => Err(answer.reply.fault("GET /v1/devices")),
    })
}

/// Looks until the server's memory stands still.
pub(crate) fn settle(pid: u32, connections: usize, longest: Duration) -> Result<Level, BenchError> {
    let gone = || BenchError::Server(format!("memory of process {pid} cannot be read"));
    let begin = Instant::now();
    let mut memory = Memory::read(pid).ok_or_else(gone)?;
    let mut agreed = 0;
    while agreed < SETTLED_LOOKS && begin.elapsed() < longest {
        std::thread::sleep(LOOK);
        let now = Memory::read(pid).ok_or_else(gone)?;
        agreed = if now.rss_kib.abs_diff(memory.rss_kib) <= SETTLED_KIB { agreed + 1 } else { 0 };
        memory = now;
    }
    Ok(Level { connections, memory, kernel: KernelMemory::read(), settled: agreed == SETTLED_LOOKS })
}

/// Bytes per connection.
fn slope(levels: &[Level], kib: impl Fn(&Level) -> u64) -> Result<Line, BenchError> {
    let points: Vec<_> =
        levels.iter().map(|level| (level.connections as f64, kib(level) as f64 * 1024.0)).collect();
    line(&points).ok_or_else(|| BenchError::Options("--levels are too few for a slope".into()))
}
