//! `bench churn`: connections ended in every way, and what is left of them in the server.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::args::{OutputArgs, ServerArgs};
use crate::child::Child;
use crate::devices::{Device, register};
use crate::error::BenchError;
use crate::http::Api;
use crate::machine::{Memory, open_descriptors};
use crate::metrics::{LoopLag, gauges, report_loop};
use crate::order::{Churn, Churned, Order, Report};
use crate::report::{Figures, grouped};
use crate::scenario::idle::settle;
use crate::scenario::online::Online;
use crate::server::{self, Server};

/// Devices of one churning process: two for each cycle that it may have under way.
const DEVICES_EACH: usize = 1_024;
/// Cycles before anything is read, so that what is made once is there already.
const WARM_UP: u64 = 6_000;
/// Cycles that were begun end within this.
const ENDING_TIME: Duration = Duration::from_secs(160);
/// Every gauge is back within this.
const BACK_TIME: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(500);
const SETTLE_TIME: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, Args)]
pub(crate) struct ChurnArgs {
    /// Connections in all.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    cycles: u64,
    /// No connection begins after so many seconds.
    #[arg(long, default_value_t = 300)]
    seconds: u64,
    /// Connections begun per second in all; 0 = as fast as they end.
    #[arg(long, default_value_t = 0)]
    rate: u32,
    /// Devices that stay connected meanwhile.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=9_000))]
    online: u32,
    /// Processes that churn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    processes: u32,
    /// Without endings by the server's own deadlines, which take 10 seconds and up to two minutes.
    #[arg(long)]
    no_timeouts: bool,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Processes that churn.
#[derive(Debug)]
pub(super) struct Churners {
    children: Vec<(Child, Ipv4Addr)>,
    devices: Vec<Device>,
}

impl Churners {
    /// Starts `count` processes with devices of their own.
    pub(super) fn start(api: &Api, count: usize) -> Result<Churners, BenchError> {
        let devices = register(api, DEVICES_EACH * count, |_| vec!["churn"])?;
        let program = server::program()?;
        let mut children = Vec::new();
        for index in 0..count {
            let source = Ipv4Addr::new(127, 0, 40 + index as u8, 1);
            children.push((Child::start(&program, "churner")?, source));
        }
        Ok(Churners { children, devices })
    }

    /// Begins `cycles` in all; [`Churners::end`] waits for them.
    pub(super) fn begin(
        &mut self,
        server: &Server,
        cycles: u64,
        rate: u32,
        within: Duration,
        timeouts: bool,
    ) -> Result<(), BenchError> {
        let count = self.children.len() as u64;
        for ((child, source), devices) in self.children.iter_mut().zip(self.devices.chunks(DEVICES_EACH)) {
            child.order(&Order::Churn(Churn {
                target: server.device,
                source: *source,
                app_key: server.app_key.clone(),
                devices: devices.iter().map(|device| device.login.clone()).collect(),
                cycles: cycles.div_ceil(count),
                rate: rate.div_ceil(count as u32),
                within_ms: within.as_millis() as u64,
                timeouts,
            }))?;
        }
        Ok(())
    }

    /// Waits for the cycles under way.
    pub(super) fn end(&mut self, within: Duration) -> Result<Churned, BenchError> {
        let mut sum = Churned::default();
        for (child, _) in &self.children {
            match child.report(within + ENDING_TIME)? {
                Report::Churned(churned) => sum.add(churned),
                other => return Err(child.fault(format!("unexpected report: {other:?}"))),
            }
        }
        Ok(sum)
    }
}

impl Churned {
    fn add(&mut self, other: Churned) {
        for (sum, more) in [(&mut self.ended, other.ended), (&mut self.failed, other.failed)] {
            for (word, count) in more {
                *sum.entry(word).or_default() += count;
            }
        }
        self.span_ns = self.span_ns.max(other.span_ns);
    }

    /// Cycles that ended as they were meant to, and those that did not.
    pub(super) fn totals(&self) -> (u64, u64) {
        (self.ended.values().sum(), self.failed.values().sum())
    }
}

/// Everything that must come back to where it was.
#[derive(Clone, Debug, Serialize)]
struct Census {
    memory: Memory,
    descriptors: usize,
    gauges: BTreeMap<String, f64>,
}

impl Census {
    fn take(online: &Online, pid: u32) -> Result<Census, BenchError> {
        let level = settle(pid, 0, SETTLE_TIME)?;
        Ok(Census {
            memory: level.memory,
            descriptors: open_descriptors(pid).unwrap_or_default(),
            gauges: connection_gauges(online)?,
        })
    }
}

/// The server's gauges, without those of the process: memory and descriptors are read from outside.
fn connection_gauges(online: &Online) -> Result<BTreeMap<String, f64>, BenchError> {
    let mut gauges = gauges(&online.api)?;
    gauges.retain(|name, _| !name.starts_with("process_"));
    Ok(gauges)
}

/// Runs the scenario.
pub(crate) fn run(args: &ChurnArgs) -> Result<(), BenchError> {
    let mut online = Online::begin(&args.server, args.online as usize)?;
    let Some(pid) = online.server.pid else {
        return Err(BenchError::Options("memory of a server that runs already needs its --pid".into()));
    };
    online.log_in_up_to(args.online as usize)?;
    let mut churners = Churners::start(&online.api, args.processes as usize)?;
    let within = Duration::from_secs(args.seconds);
    churners.begin(&online.server, WARM_UP, args.rate, within, false)?;
    churners.end(within)?;
    wait_for(&online, f64::from(args.online))?;
    let before = Census::take(&online, pid)?;
    eprintln!("churning {} connections, for {} s at most", args.cycles, args.seconds);
    churners.begin(&online.server, args.cycles, args.rate, within, !args.no_timeouts)?;
    let churned = churners.end(within)?;
    let back_s = wait_for(&online, f64::from(args.online))?;
    let after = Census::take(&online, pid)?;
    let closed = online.team.tally()?.closed;
    publish(args, &online, &churned, (&before, &after), back_s, closed)
}

/// Waits until only the devices that stay are connected; returns how long it took, `None` if they are not.
fn wait_for(online: &Online, connections: f64) -> Result<Option<f64>, BenchError> {
    let begin = Instant::now();
    while begin.elapsed() < BACK_TIME {
        let now = gauges(&online.api)?;
        let at = |name: &str| now.get(name).copied().unwrap_or(connections);
        if at("longwire_connections") <= connections && at("longwire_sessions") <= connections {
            return Ok(Some(begin.elapsed().as_secs_f64()));
        }
        std::thread::sleep(LOOK);
    }
    Ok(None)
}

fn publish(
    args: &ChurnArgs,
    online: &Online,
    churned: &Churned,
    (before, after): (&Census, &Census),
    back_s: Option<f64>,
    closed: u64,
) -> Result<(), BenchError> {
    let mut figures = Figures::new("churn");
    let (ended, failed) = churned.totals();
    let span_s = churned.span_ns as f64 / 1e9;
    let growth = after.memory.rss_kib as f64 / before.memory.rss_kib.max(1) as f64;
    figures.lost = Some(closed);
    figures.row("connections ended as meant", format!("{} in {span_s:.1} s", grouped(ended as f64)));
    for (word, count) in &churned.ended {
        figures.row(format!("  {word}"), grouped(*count as f64));
    }
    figures.row("connections that ended otherwise", grouped(failed as f64));
    for (word, count) in &churned.failed {
        figures.row(format!("  {word}"), grouped(*count as f64));
    }
    figures.row("connections/s", grouped((ended + failed) as f64 / span_s.max(0.001)));
    let (old, new) = (before.memory, after.memory);
    figures.row("server RSS KiB, before and after", format!("{} {} ({growth:.3})", old.rss_kib, new.rss_kib));
    let anonymous = format!("{} {}", old.anonymous_kib, new.anonymous_kib);
    figures.row("server anonymous KiB", anonymous);
    figures.row("descriptors", format!("{} {}", before.descriptors, after.descriptors));
    let back = back_s.map_or_else(|| "no".into(), |s| format!("after {s:.1} s"));
    figures.row("only the staying devices connected", back);
    figures.row("staying devices closed", closed.to_string());
    for (name, value) in &after.gauges {
        let was = before.gauges.get(name).copied().unwrap_or_default();
        if (was - value).abs() > f64::EPSILON {
            figures.row(format!("gauge {name}"), format!("{was} {value}"));
        }
    }
    figures.extra("ended", &churned.ended);
    figures.extra("failed", &churned.failed);
    figures.extra("connections_per_s", (ended + failed) as f64 / span_s.max(0.001));
    figures.extra("rss_growth", growth);
    figures.extra("before", before);
    figures.extra("after", after);
    figures.extra("back_s", back_s);
    figures.extra("online", args.online);
    report_loop(&mut figures, &online.lag, &LoopLag::read(&online.api)?);
    figures.print(args.output.json);
    Ok(())
}
