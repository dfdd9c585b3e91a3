//! The fleet processes of one kind, spoken to as one.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use crate::child::Child;
use crate::error::BenchError;
use crate::latency::Latencies;
use crate::order::{Back, Clients, Gather, Login, Logins, Order, Report, Tally};
use crate::source::{first_of, slice_of, source_of};
use crate::transport::Transport;

/// Connections of one fleet process: well below the 20,000 descriptors that a process may have, and little enough
/// for one reading thread.
const CONNECTIONS_MAX: usize = 9_000;
/// Answers that need no work come within this.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// Time to open connections: a minute and a millisecond each, and a little for the report.
const OPENING_TIME: Duration = Duration::from_secs(90);

/// Several fleet processes; connections are spread over them evenly.
#[derive(Debug)]
pub(crate) struct Team {
    fleets: Vec<Fleet>,
    transport: Transport,
}

#[derive(Debug)]
struct Fleet {
    child: Child,
    source: Ipv4Addr,
    live: usize,
}

/// What a whole team received.
#[derive(Debug, Default)]
pub(crate) struct Haul {
    /// When the last fleet had all, monotonic nanoseconds.
    pub(crate) at_ns: u64,
    pub(crate) messages: u64,
    pub(crate) stored: u64,
    pub(crate) bytes: u64,
    pub(crate) repeated: u64,
    pub(crate) holes: u64,
    pub(crate) published: u64,
    pub(crate) closed: u64,
    /// Why the last of them was closed, if any was.
    pub(crate) why: String,
    pub(crate) latencies: Latencies,
}

impl Team {
    /// Processes of a team of so many connections.
    pub(crate) fn fleets_for(connections: usize) -> usize {
        connections.div_ceil(CONNECTIONS_MAX).max(1)
    }

    /// Starts as many processes as `connections` need. `net` tells teams apart: the source addresses are
    /// 127.0.`net`.x.
    pub(crate) fn start(program: &Path, connections: usize, net: u8) -> Result<Team, BenchError> {
        Team::of(program, "readers", Team::fleets_for(connections), net)
    }

    /// Starts as many swarms as `connections` need.
    pub(crate) fn swarm(program: &Path, connections: usize, net: u8) -> Result<Team, BenchError> {
        Team::of(program, "swarm", Team::fleets_for(connections), net)
    }

    /// Starts `count` processes of a role.
    pub(crate) fn of(program: &Path, role: &'static str, count: usize, net: u8) -> Result<Team, BenchError> {
        let mut fleets = Vec::new();
        for index in 0..count.max(1) {
            let source = first_of(net, index);
            fleets.push(Fleet { child: Child::start(program, role)?, source, live: 0 });
        }
        Ok(Team { fleets, transport: Transport::Tcp })
    }

    /// Devices and clients connect through this from now on.
    pub(crate) fn through(mut self, transport: Transport) -> Team {
        self.transport = transport;
        self
    }

    /// Gives a swarm more devices and waits until the server has welcomed all of them; returns how many are in.
    pub(crate) fn gather(
        &mut self,
        (target, app_key): (SocketAddr, &str),
        devices: &[Login],
        (heartbeat_s, under_way_max): (u16, usize),
        back: Back,
    ) -> Result<usize, BenchError> {
        let share = devices.len().div_ceil(self.fleets.len()).max(1);
        let before = self.live();
        let mut shares = devices.chunks(share);
        for fleet in &mut self.fleets {
            fleet.child.order(&Order::Gather(Gather {
                target,
                source: fleet.source,
                app_key: app_key.to_owned(),
                devices: shares.next().unwrap_or_default().to_vec(),
                heartbeat_s,
                under_way_max,
                back,
            }))?;
        }
        self.opened(before + devices.len())
    }

    /// How a swarm's logins went since this was last asked.
    pub(crate) fn logins(&mut self) -> Result<Logins, BenchError> {
        for fleet in &mut self.fleets {
            fleet.child.order(&Order::Logins)?;
        }
        let mut sum = Logins::default();
        for fleet in &self.fleets {
            match fleet.child.report(ANSWER_TIME)? {
                Report::Logins(logins) => sum.add(logins),
                other => return Err(fleet.child.fault(format!("unexpected report: {other:?}"))),
            }
        }
        Ok(sum)
    }

    /// Sends `rounds` heartbeats on every connection, at `rate` per second over all fleets; 0 = each after the answer to
    /// the one before. [`Team::held`] waits for the answers.
    pub(crate) fn ping(&mut self, rounds: u32, rate: u32, within: Duration) -> Result<(), BenchError> {
        let rate = rate.div_ceil(self.fleets.len() as u32);
        self.arm(&Order::Ping { rounds, rate, within_ms: within.as_millis() as u64 })
    }

    /// Opens bare connections; all of them must come up.
    pub(crate) fn open(&mut self, target: SocketAddr, connections: usize) -> Result<(), BenchError> {
        let share = connections.div_ceil(self.fleets.len());
        let mut left = connections;
        for fleet in &mut self.fleets {
            let count = share.min(left);
            left -= count;
            fleet.child.order(&Order::Open { target, source: fleet.source, count })?;
        }
        self.opened(connections).map(|_| ())
    }

    /// Logs devices in, spread evenly; returns how many connections the server has welcomed in all.
    pub(crate) fn log_in(
        &mut self,
        target: SocketAddr,
        app_key: &str,
        devices: &[Login],
        heartbeat_s: u16,
    ) -> Result<usize, BenchError> {
        let wanted = self.begin_log_in(target, app_key, devices, heartbeat_s)?;
        self.opened(wanted)
    }

    /// The same without waiting: [`Team::opened`] does, for so many as this returns.
    pub(crate) fn begin_log_in(
        &mut self,
        target: SocketAddr,
        app_key: &str,
        devices: &[Login],
        heartbeat_s: u16,
    ) -> Result<usize, BenchError> {
        let share = devices.len().div_ceil(self.fleets.len()).max(1);
        let (before, transport) = (self.live(), self.transport);
        let mut shares = devices.chunks(share);
        for fleet in &mut self.fleets {
            fleet.child.order(&Order::LogIn {
                transport,
                target,
                source: fleet.source,
                app_key: app_key.to_owned(),
                devices: shares.next().unwrap_or_default().to_vec(),
                heartbeat_s,
            })?;
        }
        Ok(before + devices.len())
    }

    /// How so many are spread over the fleets.
    pub(crate) fn shares(&self, count: usize) -> Vec<usize> {
        let (fleets, mut left) = (self.fleets.len(), count);
        (0..fleets)
            .map(|index| {
                let share = left.div_ceil(fleets - index);
                left -= share;
                share
            })
            .collect()
    }

    /// Connects `count` more MQTT clients, spread evenly and numbered through; returns how many are up in all.
    pub(crate) fn clients(&mut self, clients: &Clients, count: usize) -> Result<usize, BenchError> {
        let shares = self.shares(count);
        let first = self.live();
        self.clients_by(&Clients { first, ..clients.clone() }, &shares)
    }

    /// The same by shares: so many at each fleet.
    pub(crate) fn clients_by(&mut self, clients: &Clients, shares: &[usize]) -> Result<usize, BenchError> {
        let wanted = self.begin_clients(clients, shares)?;
        self.opened(wanted)
    }

    /// The same without waiting: [`Team::opened`] does, for so many as this returns. Clients with tokens are of the first fleet.
    pub(crate) fn begin_clients(&mut self, clients: &Clients, shares: &[usize]) -> Result<usize, BenchError> {
        let (before, mut first) = (self.live(), clients.first);
        let transport = self.transport;
        for (index, fleet) in self.fleets.iter_mut().enumerate() {
            let count = shares.get(index).copied().unwrap_or_default();
            let source = fleet.source;
            let clients = Clients { source, first, count, transport, ..clients.clone() };
            fleet.child.order(&Order::Clients(clients))?;
            first += count;
        }
        Ok(before + shares.iter().sum::<usize>())
    }

    /// Gives some fleets an order each and waits until they have taken it.
    pub(crate) fn order_some(
        &mut self,
        orders: impl IntoIterator<Item = Option<Order>>,
    ) -> Result<(), BenchError> {
        for (fleet, order) in self.fleets.iter_mut().zip(orders) {
            let Some(order) = order else { continue };
            match fleet.child.ask(&order, ANSWER_TIME)? {
                Report::Armed => {}
                other => return Err(fleet.child.fault(format!("unexpected report: {other:?}"))),
            }
        }
        Ok(())
    }

    /// Expects so many messages in all, each fleet its share.
    pub(crate) fn expect_share(&mut self, messages: usize, within: Duration) -> Result<(), BenchError> {
        let within_ms = within.as_millis() as u64;
        let orders: Vec<_> = self
            .shares(messages)
            .iter()
            .map(|share| Some(Order::Expect { messages: *share as u64, within_ms }))
            .collect();
        self.order_some(orders)
    }

    /// Waits until so many connections are up in all, and returns how many are.
    pub(crate) fn opened(&mut self, wanted: usize) -> Result<usize, BenchError> {
        for fleet in &mut self.fleets {
            let within = OPENING_TIME + Duration::from_millis(wanted as u64);
            match fleet.child.report(within)? {
                Report::Opened { connections, failed: 0, .. } => fleet.live = connections,
                Report::Opened { connections, failed, why } => {
                    let text = format!("{failed} connections failed, {connections} are up; the last: {why}");
                    return Err(BenchError::Server(text));
                }
                other => return Err(fleet.child.fault(format!("unexpected report: {other:?}"))),
            }
        }
        let live = self.live();
        if live < wanted {
            return Err(BenchError::Server(format!("{live} connections are up instead of {wanted}")));
        }
        Ok(live)
    }

    /// Connections that are up, as last reported.
    pub(crate) fn live(&self) -> usize {
        self.fleets.iter().map(|fleet| fleet.live).sum()
    }

    /// Gives every fleet the same order and waits until all have taken it.
    pub(crate) fn arm(&mut self, order: &Order) -> Result<(), BenchError> {
        self.arm_each(|_| order.clone())
    }

    /// Expects `each` messages on every connection.
    pub(crate) fn expect_each(&mut self, each: u64, within: Duration) -> Result<(), BenchError> {
        let within_ms = within.as_millis() as u64;
        self.arm_each(|live| Order::Expect { messages: live as u64 * each, within_ms })
    }

    /// Processes of this team.
    pub(crate) fn fleets(&self) -> usize {
        self.fleets.len()
    }

    /// Which of `slices` parts the connection of a number is in, when `count` of them are opened in all.
    pub(crate) fn slice_of(fleets: usize, count: usize, connection: usize, slices: usize) -> usize {
        let share = count.div_ceil(fleets).max(1);
        let source = source_of(first_of(0, connection / share), connection % share);
        slice_of(source, fleets, slices)
    }

    /// Expects `each` messages on every connection of one of `slices` parts.
    pub(crate) fn expect_slice(
        &mut self,
        each: u64,
        (slice, slices): (usize, usize),
        within: Duration,
    ) -> Result<(), BenchError> {
        let (fleets, within_ms) = (self.fleets.len(), within.as_millis() as u64);
        for fleet in &mut self.fleets {
            let sources = (0..fleet.live).map(|connection| source_of(fleet.source, connection));
            let live = sources.filter(|source| slice_of(*source, fleets, slices) == slice).count();
            fleet.child.order(&Order::Expect { messages: live as u64 * each, within_ms })?;
        }
        self.armed()
    }

    fn arm_each(&mut self, order: impl Fn(usize) -> Order) -> Result<(), BenchError> {
        for fleet in &mut self.fleets {
            fleet.child.order(&order(fleet.live))?;
        }
        self.armed()
    }

    fn armed(&self) -> Result<(), BenchError> {
        for fleet in &self.fleets {
            match fleet.child.report(ANSWER_TIME)? {
                Report::Armed => {}
                other => return Err(fleet.child.fault(format!("unexpected report: {other:?}"))),
            }
        }
        Ok(())
    }

    /// Waits until every fleet has what it expects, or has given up.
    pub(crate) fn held(&self, within: Duration) -> Result<Haul, BenchError> {
        let mut haul = Haul::default();
        for fleet in &self.fleets {
            match fleet.child.report(within + ANSWER_TIME)? {
                Report::Held(tally) => haul.add(&tally),
                other => return Err(fleet.child.fault(format!("unexpected report: {other:?}"))),
            }
        }
        Ok(haul)
    }

    /// What has come since the last tally.
    pub(crate) fn tally(&mut self) -> Result<Haul, BenchError> {
        for fleet in &mut self.fleets {
            fleet.child.order(&Order::Tally)?;
        }
        self.held(ANSWER_TIME)
    }

    /// Process ids, for processor time.
    pub(crate) fn pids(&self) -> impl Iterator<Item = u32> + '_ {
        self.fleets.iter().map(|fleet| fleet.child.pid())
    }
}

impl Haul {
    fn add(&mut self, tally: &Tally) {
        self.at_ns = self.at_ns.max(tally.at_ns);
        self.messages += tally.messages;
        self.stored += tally.stored;
        self.bytes += tally.bytes;
        self.repeated += tally.repeated;
        self.holes += tally.holes;
        self.published += tally.published;
        self.closed += tally.closed;
        if tally.closed > 0 {
            self.why.clone_from(&tally.why);
        }
        self.latencies.add(&tally.latency_us);
    }

    /// Adds a later tally of the same team.
    pub(crate) fn merge(&mut self, later: &Haul) {
        self.at_ns = self.at_ns.max(later.at_ns);
        self.messages += later.messages;
        self.stored += later.stored;
        self.bytes += later.bytes;
        self.repeated += later.repeated;
        self.holes += later.holes;
        // Closed connections are counted from the start, not from the last tally.
        self.closed = self.closed.max(later.closed);
        self.published += later.published;
        self.why.clone_from(&later.why);
        self.latencies.add(&later.latencies.buckets());
    }
}
