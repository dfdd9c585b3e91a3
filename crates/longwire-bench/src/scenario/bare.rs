//! The bare writer process and its readers: the same turn without a server.

use std::path::Path;
use std::time::Duration;

use super::team::{Haul, Team};
use crate::child::Child;
use crate::error::BenchError;
use crate::latency::Latencies;
use crate::order::{Order, Part, Report};
use crate::writer;

/// Time for one turn; a machine that needs longer is not measured but stuck.
pub(crate) const TURN_TIME: Duration = Duration::from_secs(60);

/// Pause between turns, so that one turn's last work (acks) is not another's first.
pub(crate) const PAUSE: Duration = Duration::from_millis(30);

/// A bare writer with its readers.
#[derive(Debug)]
pub(crate) struct Bare {
    writer: Child,
    /// `None`: it writes to the server's connections, and the devices read.
    team: Option<Team>,
    connections: usize,
    threads: usize,
}

/// One turn of the bare loop.
#[derive(Debug)]
pub(crate) struct BareTurn {
    pub(crate) messages: u64,
    /// From the first write to the readers' last byte, seconds.
    pub(crate) span_s: f64,
    /// From the first write to the last write, seconds.
    pub(crate) writing_s: f64,
    /// Processor time of the writer process, seconds.
    pub(crate) cpu_s: f64,
    /// How often a socket was full.
    pub(crate) full: u64,
    pub(crate) latencies: Latencies,
}

impl Bare {
    /// Starts the processes and opens the connections. `net` as in [`Team::start`].
    pub(crate) fn start(
        program: &Path,
        connections: usize,
        threads: usize,
        sweep_ms: u64,
        net: u8,
    ) -> Result<Bare, BenchError> {
        let mut writer = Child::start(program, "writer")?;
        let listening = writer.report(TURN_TIME)?;
        let Some(target) = writer::address(&listening) else {
            return Err(writer.fault(format!("unexpected report: {listening:?}")));
        };
        let mut team = Team::start(program, connections, net)?;
        let within = TURN_TIME + Duration::from_millis(connections as u64);
        writer.order(&Order::Accept { count: connections, within_ms: within.as_millis() as u64 })?;
        team.open(target, connections)?;
        match writer.report(within + TURN_TIME)? {
            Report::Opened { failed: 0, .. } => {}
            other => return Err(writer.fault(format!("did not get all connections: {other:?}"))),
        }
        team.arm(&Order::Sweep { interval_ms: sweep_ms })?;
        Ok(Bare { writer, team: Some(team), connections, threads })
    }

    /// A writer to the very connections that the server `pid` has at `port`; `Err` with the reason if the system does not allow it or
    /// they are not so many.
    pub(crate) fn share(
        program: &Path,
        (pid, port): (u32, u16),
        connections: usize,
        threads: usize,
    ) -> Result<Bare, BenchError> {
        let mut writer = Child::start(program, "writer")?;
        writer.report(TURN_TIME)?;
        match writer.ask(&Order::Borrow { pid, port }, TURN_TIME)? {
            Report::Opened { connections: got, .. } if got == connections => {}
            other => return Err(writer.fault(format!("borrowed not all sockets: {other:?}"))),
        }
        Ok(Bare { writer, team: None, connections, threads })
    }

    /// Whether its connections are the server's.
    pub(crate) fn is_shared(&self) -> bool {
        self.team.is_none()
    }

    /// Writes `batch` frames of `frame_bytes` in one call to every connection, `rounds` times.
    pub(crate) fn write(
        &mut self,
        frame_bytes: usize,
        rounds: u32,
        batch: usize,
    ) -> Result<BareTurn, BenchError> {
        let order = Order::Write { frame_bytes, rounds, batch, threads: self.threads, part: Part::WHOLE };
        let team = self.team.as_mut().ok_or_else(|| self.writer.fault("has no readers of its own"))?;
        team.expect_each(u64::from(rounds) * batch as u64, TURN_TIME)?;
        self.writer.order(&order)?;
        let wrote = self.writer.report(TURN_TIME)?;
        let haul = team.held(TURN_TIME)?;
        self.turn(&wrote, &haul)
    }

    /// Writes once to every connection of one of `slices` parts; `devices` read when the connections are theirs.
    pub(crate) fn write_slice(
        &mut self,
        devices: &mut Team,
        (frame_bytes, batch): (usize, usize),
        (slice, slices): (usize, usize),
    ) -> Result<BareTurn, BenchError> {
        let readers = self.team.as_mut().unwrap_or(devices);
        let part = Part { slice, slices, fleets: readers.fleets() };
        readers.expect_slice(batch as u64, (slice, slices), TURN_TIME)?;
        self.writer.order(&Order::Write { frame_bytes, rounds: 1, batch, threads: self.threads, part })?;
        let wrote = self.writer.report(TURN_TIME)?;
        let haul = readers.held(TURN_TIME)?;
        self.turn(&wrote, &haul)
    }

    /// Every reader sends a 16-byte heartbeat and waits for its echo, `rounds` times.
    pub(crate) fn echo(&mut self, rounds: u32) -> Result<BareTurn, BenchError> {
        self.echo_at(rounds, 0)
    }

    /// The same at so many heartbeats per second in all; 0 = each after the answer to the one before.
    pub(crate) fn echo_at(&mut self, rounds: u32, rate: u32) -> Result<BareTurn, BenchError> {
        let frames = self.connections as u64 * u64::from(rounds);
        let within_ms = TURN_TIME.as_millis() as u64;
        match self.writer.ask(&Order::Echo { frames, threads: self.threads, within_ms }, TURN_TIME)? {
            Report::Armed => {}
            other => return Err(self.writer.fault(format!("unexpected report: {other:?}"))),
        }
        let team = self.team.as_mut().ok_or_else(|| self.writer.fault("has no readers of its own"))?;
        team.ping(rounds, rate, TURN_TIME)?;
        let wrote = self.writer.report(TURN_TIME)?;
        let haul = team.held(TURN_TIME)?;
        self.turn(&wrote, &haul)
    }

    fn turn(&self, wrote: &Report, haul: &Haul) -> Result<BareTurn, BenchError> {
        let Report::Wrote { start_ns, end_ns, cpu_ns, messages, full } = *wrote else {
            return Err(self.writer.fault(format!("unexpected report: {wrote:?}")));
        };
        if haul.messages < messages {
            let text = format!("{} of {messages} bare messages arrived", haul.messages);
            return Err(self.writer.fault(text));
        }
        Ok(BareTurn {
            messages,
            span_s: seconds(start_ns, haul.at_ns),
            writing_s: seconds(start_ns, end_ns),
            cpu_s: cpu_ns as f64 / 1e9,
            full,
            latencies: haul.latencies.clone(),
        })
    }

    /// Process ids, for processor time.
    pub(crate) fn pids(&self) -> impl Iterator<Item = u32> + '_ {
        std::iter::once(self.writer.pid()).chain(self.team.iter().flat_map(Team::pids))
    }
}

/// Seconds between two readings of the monotonic clock.
pub(crate) fn seconds(from_ns: u64, to_ns: u64) -> f64 {
    to_ns.saturating_sub(from_ns) as f64 / 1e9
}
