//! `bench churn`: connections ended in every way, and what is left of them in the server.

use std::net::Ipv4Addr;
use std::time::Duration;

use clap::Args;

use super::census::{Census, wait_back, wait_for};
use crate::args::{OutputArgs, ServerArgs};
use crate::child::Child;
use crate::devices::{Device, register};
use crate::error::BenchError;
use crate::fleet::QUICK;
use crate::http::Api;
use crate::metrics::{LoopLag, report_loop};
use crate::order::{Churn, Churned, Order, Report};
use crate::report::{Figures, grouped};
use crate::scenario::online::Online;
use crate::server::{self, Server};

/// Devices of one churning process: two for each cycle that it may have under way.
const DEVICES_EACH: usize = 1_024;
/// Cycles before anything is read, so that what is made once is there already.
const WARM_UP: u64 = 6_000;
/// Cycles that were begun end within this.
const ENDING_TIME: Duration = Duration::from_secs(160);
/// The server refuses a device that displaces itself more than five times a minute; one fewer, whatever the time.
const TAKEOVERS_EACH: u64 = 4;
/// More cycles than these devices carry are spread over several minutes, in which each may be taken over again.
const TAKEOVER_DEVICES: std::ops::RangeInclusive<u64> = 512..=16_384;

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
    /// Devices of each process that are for takeovers alone.
    takeovers: usize,
}

impl Churners {
    /// Starts `count` processes with devices of their own, for `cycles` in all.
    pub(super) fn start(api: &Api, count: usize, cycles: u64) -> Result<Churners, BenchError> {
        let takeovers = cycles.div_ceil(count as u64 * QUICK * TAKEOVERS_EACH);
        let takeovers = takeovers.clamp(*TAKEOVER_DEVICES.start(), *TAKEOVER_DEVICES.end()) as usize;
        let devices = register(api, (DEVICES_EACH + takeovers) * count, |_| vec!["churn"])?;
        let program = server::program()?;
        let mut children = Vec::new();
        for index in 0..count {
            let source = Ipv4Addr::new(127, 0, 40 + index as u8, 1);
            children.push((Child::start(&program, "churner")?, source));
        }
        Ok(Churners { children, devices, takeovers })
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
        for ((child, source), devices) in
            self.children.iter_mut().zip(self.devices.chunks(DEVICES_EACH + self.takeovers))
        {
            child.order(&Order::Churn(Churn {
                target: server.device,
                source: *source,
                app_key: server.app_key.clone(),
                api: server.api,
                app_secret: server.app_secret.clone(),
                names: devices.iter().map(|device| device.name.clone()).collect(),
                takeovers: self.takeovers,
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

/// Runs the scenario.
pub(crate) fn run(args: &ChurnArgs) -> Result<(), BenchError> {
    let mut online = Online::begin(&args.server, args.online as usize)?;
    let Some(pid) = online.server.pid else {
        return Err(BenchError::Options("memory of a server that runs already needs its --pid".into()));
    };
    online.log_in_up_to(args.online as usize)?;
    let mut churners = Churners::start(&online.api, args.processes as usize, WARM_UP + args.cycles)?;
    let within = Duration::from_secs(args.seconds);
    churners.begin(&online.server, WARM_UP, args.rate, within, false)?;
    churners.end(within)?;
    wait_for(&online.api, f64::from(args.online))?;
    let before = Census::take(&online.api, pid)?;
    eprintln!("churning {} connections, for {} s at most", args.cycles, args.seconds);
    churners.begin(&online.server, args.cycles, args.rate, within, !args.no_timeouts)?;
    let churned = churners.end(within)?;
    let back_s = wait_back(&online.api, &before)?;
    let after = Census::take(&online.api, pid)?;
    let closed = online.team.tally()?.closed;
    publish(args, &online, &churned, (&before, &after), back_s, closed)
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
    before.report_reasons(after, churned, &mut figures);
    let back = back_s.map_or_else(|| "no".into(), |s| format!("after {s:.1} s"));
    figures.row("every gauge as before", back);
    figures.row("staying devices closed", closed.to_string());
    before.report(after, &mut figures);
    figures.extra("ended", &churned.ended);
    figures.extra("failed", &churned.failed);
    figures.extra("connections_per_s", (ended + failed) as f64 / span_s.max(0.001));
    figures.extra("back_s", back_s);
    figures.extra("online", args.online);
    report_loop(&mut figures, &online.lag, &LoopLag::read(&online.api)?);
    let leaks = before.leaks(after);
    figures.extra("leaks", &leaks);
    figures.print(args.output.json);
    if leaks.is_empty() && closed == 0 {
        return Ok(());
    }
    Err(BenchError::Server(format!("not as before: {leaks:?}, staying devices closed: {closed}")))
}
