//! `bench limit`: what this machine can write and echo with nothing in between.

use serde::Serialize;

use super::bare::{Bare, BareTurn, PAUSE};
use crate::args::LimitArgs;
use crate::error::BenchError;
use crate::machine::{Busy, cores};
use crate::progress::bar;
use crate::report::{Figures, grouped};
use crate::series::{Spread, spread};
use crate::server;

/// The figures of one kind of turn.
#[derive(Clone, Copy, Debug, Serialize)]
struct Kind {
    /// Messages per second over the writing, over all threads.
    per_s: Spread,
    /// The same until the readers hold all bytes.
    until_read_per_s: Spread,
    /// Processor microseconds of the writing process per message.
    cpu_us: Spread,
}

/// Runs the scenario.
pub(crate) fn run(args: &LimitArgs) -> Result<(), BenchError> {
    let threads = if args.threads == 0 { cores() } else { args.threads };
    let connections = args.connections as usize;
    let batch = args.batch as usize;
    let mut bare = Bare::start(&server::program()?, connections, threads, args.sweep_ms, 1)?;
    let progress = bar("bare loops", u64::from(args.turns) * 3);
    // One turn of each kind to warm caches and socket memory; it is not counted.
    bare.write(args.bytes as usize, 1, 1)?;
    bare.echo(1)?;
    let (mut single, mut vectored, mut echo) = (Vec::new(), Vec::new(), Vec::new());
    let before = Busy::read();
    let begin = std::time::Instant::now();
    for _ in 0..args.turns {
        single.push(bare.write(args.bytes as usize, args.rounds, 1)?);
        progress.inc(1);
        std::thread::sleep(PAUSE);
        vectored.push(bare.write(args.bytes as usize, args.rounds, batch)?);
        progress.inc(1);
        std::thread::sleep(PAUSE);
        echo.push(bare.echo(args.rounds)?);
        progress.inc(1);
        std::thread::sleep(PAUSE);
    }
    progress.finish_and_clear();
    let (after, elapsed) = (Busy::read(), begin.elapsed().as_secs_f64());
    let full: u64 = single.iter().chain(&vectored).map(|turn| turn.full).sum();
    let (single, vectored, echo) = (kind(&single)?, kind(&vectored)?, kind(&echo)?);
    let mut figures = Figures::new("limit");
    figures.deliveries_per_s = Some(single.per_s.median);
    figures.cpu_s_per_million = Some(single.cpu_us.median);
    figures.ratio_to_limit = Some(1.0);
    figures.lost = Some(0);
    figures.row("connections", grouped(connections as f64));
    figures.row("writing threads", threads.to_string());
    figures.row("turns of each kind", args.turns.to_string());
    rows(&mut figures, &format!("write {} bytes", args.bytes), &single);
    rows(&mut figures, &format!("write {batch} x {} bytes at once", args.bytes), &vectored);
    let gain = vectored.per_s.median / single.per_s.median;
    figures.row("  of single writes", format!("{gain:.2} times the messages"));
    rows(&mut figures, "echo 16 bytes", &echo);
    figures.row(
        "fraction of the limit",
        "1 (this is the limit; `bench fanout` and `bench heartbeat` measure against it)",
    );
    figures.row("sockets found full", full.to_string());
    let softirq = (after.softirq_s - before.softirq_s) / elapsed;
    let stolen = (after.stolen_s - before.stolen_s) / elapsed;
    figures.row("cores in soft interrupts", format!("{softirq:.2} (sampled; part of the figures above)"));
    figures.row("cores stolen by the host", format!("{stolen:.2}"));
    figures.row("note", "loopback: about half of a send is the receiver's work, done by the sender");
    figures.extra("connections", connections);
    figures.extra("threads", threads);
    figures.extra("bytes", args.bytes);
    figures.extra("batch", batch);
    figures.extra("single", single);
    figures.extra("vectored", vectored);
    figures.extra("vectored_to_single", gain);
    figures.extra("echo", echo);
    figures.extra("softirq_cores", softirq);
    figures.extra("stolen_cores", stolen);
    figures.print(args.output.json);
    Ok(())
}

fn kind(turns: &[BareTurn]) -> Result<Kind, BenchError> {
    let of = |figure: fn(&BareTurn) -> f64| {
        spread(turns.iter().map(figure))
            .ok_or_else(|| BenchError::Options("a turn took no time; raise --rounds".into()))
    };
    Ok(Kind {
        per_s: of(|turn| turn.messages as f64 / turn.writing_s)?,
        until_read_per_s: of(|turn| turn.messages as f64 / turn.span_s)?,
        cpu_us: of(|turn| turn.cpu_s * 1e6 / turn.messages as f64)?,
    })
}

fn rows(figures: &mut Figures, name: &str, kind: &Kind) {
    let rate = |spread: &Spread| {
        format!("{}/s (min {}, max {})", grouped(spread.median), grouped(spread.min), grouped(spread.max))
    };
    figures.row(name, rate(&kind.per_s));
    figures.row("  until all is read", rate(&kind.until_read_per_s));
    let cpu = &kind.cpu_us;
    figures
        .row("  CPU per message", format!("{:.2} us (min {:.2}, max {:.2})", cpu.median, cpu.min, cpu.max));
}
