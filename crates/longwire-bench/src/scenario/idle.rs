//! `bench idle`: what an idle, logged-in connection costs in the server's own memory.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::online::Online;
use crate::args::IdleArgs;
use crate::error::BenchError;
use crate::machine::{KernelMemory, Memory};
use crate::metrics::{LoopLag, report_loop};
use crate::progress::bar;
use crate::report::{Figures, grouped};
use crate::slope::{Line, line};

/// Memory is settled when it moves less than this within [`LOOK`].
const SETTLED_KIB: u64 = 64;
/// How many looks in a row must agree.
const SETTLED_LOOKS: u32 = 3;
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
    let rising = args.levels.windows(2).all(|pair| pair[0] < pair[1]);
    let Some(&most) = args.levels.last().filter(|&&most| rising && args.levels.len() > 1 && most <= 18_000)
    else {
        return Err(BenchError::Options("--levels needs at least two rising counts up to 18000".into()));
    };
    let mut online = Online::begin(&args.server, most as usize)?;
    let Some(pid) = online.server.pid else {
        return Err(BenchError::Options("memory of a server that runs already needs its --pid".into()));
    };
    let longest = Duration::from_secs(args.settle_s);
    // What registration left behind; shown, but no point of the line.
    let empty = settle(pid, 0, longest)?;
    let progress = bar("filling", u64::from(most));
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
    let mut figures = Figures::new("idle");
    let rss = slope(&levels, |level| level.memory.rss_kib)?;
    let pss = slope(&levels, |level| level.memory.pss_kib)?;
    let anonymous = slope(&levels, |level| level.memory.anonymous_kib)?;
    let slab = slope(&levels, |level| level.kernel.slab_kib)?;
    figures.bytes_per_connection = Some(rss.slope);
    figures.lost = Some(0);
    figures.row("connections", "server RSS / PSS / anonymous KiB, kernel slab KiB");
    for level in std::iter::once(&empty).chain(&levels) {
        let Memory { rss_kib, pss_kib, anonymous_kib } = level.memory;
        let mark = match (level.connections, level.settled) {
            (0, _) => "  (all registered; not in the slope)",
            (_, true) => "",
            (_, false) => "  (still moving)",
        };
        let slab_kib = level.kernel.slab_kib;
        figures.row(
            grouped(level.connections as f64),
            format!("{rss_kib} / {pss_kib} / {anonymous_kib}, {slab_kib}{mark}"),
        );
    }
    for (name, line) in [("RSS", rss), ("PSS", pss), ("anonymous", anonymous)] {
        figures.row(
            format!("{name} per connection"),
            format!(
                "{:.0} bytes (r2 {:.4}, empty server {:.1} MiB)",
                line.slope,
                line.r_squared,
                line.intercept / 1048576.0
            ),
        );
    }
    figures.row("kernel slab per connection", format!("{:.0} bytes, both ends of the loopback", slab.slope));
    figures.extra("empty", empty);
    figures.extra("levels", &levels);
    figures.extra("pss_bytes_per_connection", pss.slope);
    figures.extra("anonymous_bytes_per_connection", anonymous.slope);
    figures.extra("kernel_slab_bytes_per_connection", slab.slope);
    figures.extra("r_squared", rss.r_squared);
    figures.extra("empty_bytes", rss.intercept);
    report_loop(&mut figures, &online.lag, &LoopLag::read(&online.api)?);
    figures.print(args.output.json);
    Ok(())
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
