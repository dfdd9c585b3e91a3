//! All connections of a fleet process.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use longwire_proto::id::ClientId;
use longwire_proto::session::{ClientSession, Credentials, Memory, Millis};
use longwire_proto::wire::{Class, Network};
use mio::event::Event;
use mio::{Events, Interest, Poll, Token, Waker};

use super::connect;
use super::layers::Layers;
use super::mqtt::{MqttTalk, Publishing};
use super::peer::{Over, Peer, Standing, Talk};
use crate::clock;
use crate::latency::Latencies;
use crate::order::{Clients, Login, Order, Publish, Report, Tally};
use crate::source::source_of;
use crate::transport::Transport;

/// Connections under way at once: well below any listener's backlog.
const OPENING_MAX: usize = 128;
/// Connections begun in one turn: accepting and answering go on between.
const OPENING_PER_TURN_MAX: usize = 256;
/// A connection that is not up after this counts as failed.
const OPENING_TIME: Duration = Duration::from_secs(60);
/// Bytes read at once.
const READ_BYTES: usize = 256 * 1024;
/// Sockets taken from epoll at once.
const EVENTS_MAX: usize = 4096;
/// How often the clocks of all sessions are looked at.
const TICK_INTERVAL: Duration = Duration::from_secs(1);

/// What was received since the last tally.
#[derive(Debug, Default)]
pub(super) struct Count {
    pub(super) messages: u64,
    pub(super) stored: u64,
    pub(super) bytes: u64,
    pub(super) repeated: u64,
    pub(super) holes: u64,
    /// Messages since the start.
    pub(super) received: u64,
    published: u64,
    latencies: Latencies,
}

impl Count {
    /// One message, read at `read_ns`, sent at `stamp_ns` if it says so.
    pub(super) fn message(&mut self, bytes: u64, stamp_ns: Option<u64>, read_ns: u64) {
        self.messages += 1;
        self.received += 1;
        self.bytes += bytes;
        if let Some(sent) = stamp_ns {
            self.latencies.record_ns(read_ns.saturating_sub(sent));
        }
    }

    /// A heartbeat that was counted as a message already came back.
    pub(super) fn answered(&mut self, sent_ns: u64, read_ns: u64) {
        self.latencies.record_ns(read_ns.saturating_sub(sent_ns));
    }

    fn clear(&mut self) {
        (self.messages, self.stored, self.bytes, self.repeated, self.holes) = (0, 0, 0, 0, 0);
        self.published = 0;
        self.latencies.clear();
    }
}

/// Heartbeats by the clock.
#[derive(Debug)]
struct Pings {
    left: u64,
    per_s: f64,
    since: Instant,
    /// Due and not sent.
    owed: f64,
    /// The peer that pings next.
    cursor: usize,
}

/// What is to be opened still.
#[derive(Debug)]
struct Opening {
    target: SocketAddr,
    source: Ipv4Addr,
    who: Who,
    left: usize,
    under_way_max: usize,
    under_way: usize,
    failed: usize,
    deadline: Instant,
}

/// Who connects.
#[derive(Debug)]
enum Who {
    /// Bare connections.
    Nobody,
    Devices(Credentials, VecDeque<Login>, Transport),
    Clients(Clients),
}

/// All connections of this process.
#[derive(Debug)]
pub(super) struct Crew {
    poll: Poll,
    events: Option<Events>,
    peers: Vec<Option<Peer>>,
    live: usize,
    closed: u64,
    why: String,
    opening: Option<Opening>,
    count: Count,
    expected: Option<(u64, Instant)>,
    pings: Option<Pings>,
    publishing: Option<Publishing>,
    /// Nothing is read any more.
    deaf: bool,
    ack: bool,
    begin: Instant,
    next_tick: Instant,
    buffer: Vec<u8>,
}

impl Crew {
    pub(super) fn new() -> io::Result<Crew> {
        Ok(Crew {
            poll: Poll::new()?,
            events: Some(Events::with_capacity(EVENTS_MAX)),
            peers: Vec::new(),
            live: 0,
            closed: 0,
            why: String::new(),
            opening: None,
            count: Count::default(),
            expected: None,
            pings: None,
            publishing: None,
            deaf: false,
            ack: true,
            begin: Instant::now(),
            next_tick: Instant::now() + TICK_INTERVAL,
            buffer: vec![0; READ_BYTES],
        })
    }

    fn expect(&mut self, messages: u64, within_ms: u64) {
        self.count.clear();
        self.expected = Some((messages, Instant::now() + Duration::from_millis(within_ms)));
    }

    fn open(&mut self, target: SocketAddr, source: Ipv4Addr, who: Who, count: usize) -> Vec<Report> {
        let deadline = Instant::now() + OPENING_TIME + Duration::from_millis(count as u64);
        let under_way_max = match &who {
            Who::Clients(clients) => clients.under_way_max,
            _ => OPENING_MAX,
        };
        self.why.clear();
        self.opening = Some(Opening {
            target,
            source,
            who,
            left: count,
            under_way_max,
            under_way: 0,
            failed: 0,
            deadline,
        });
        Vec::new()
    }

    fn serve(&mut self, event: &Event, now: Millis) {
        let (index, readable, writable) = (event.token().0, event.is_readable(), event.is_writable());
        let gone = event.is_error() || event.is_read_closed() || event.is_write_closed();
        let Some(Some(peer)) = self.peers.get_mut(index) else { return };
        let before = peer.standing;
        let mut result = if writable { peer.writable() } else { Ok(()) };
        if self.deaf && gone {
            result = Err(Over("closed by the server".into()));
        }
        if result.is_ok() && readable && !self.deaf {
            result = peer.readable((&mut self.buffer, gone), now, self.ack, &mut self.count);
        }
        if before == Standing::Opening && peer.standing == Standing::Live {
            self.live += 1;
            if let Some(opening) = self.opening.as_mut() {
                opening.under_way -= 1;
            }
        }
        self.end_if(index, result);
    }

    fn end_if(&mut self, index: usize, result: Result<(), Over>) {
        let Err(Over(why)) = result else { return };
        let Some(peer) = self.peers[index].take() else { return };
        self.why = why;
        match (peer.standing, self.opening.as_mut()) {
            (Standing::Opening, Some(opening)) => {
                opening.under_way -= 1;
                opening.failed += 1;
            }
            (Standing::Opening, None) => {}
            (Standing::Live, _) => {
                self.live -= 1;
                self.closed += 1;
            }
        }
    }

    /// Sends the heartbeats that are due by the clock.
    fn beat(&mut self) {
        let Some(pings) = self.pings.as_mut() else { return };
        let count = self.peers.len();
        pings.owed += pings.since.elapsed().as_secs_f64() * pings.per_s;
        pings.since = Instant::now();
        let due = (pings.owed as u64).min(pings.left);
        pings.owed -= due as f64;
        pings.left -= due;
        for _ in 0..due {
            let next = (0..count).map(|step| (pings.cursor + step) % count);
            let Some(found) = next.into_iter().find(|index| self.peers[*index].is_some()) else { break };
            pings.cursor = (found + 1) % count;
            if let Some(peer) = self.peers[found].as_mut() {
                peer.ping_round(1);
            }
        }
        if pings.left == 0 {
            self.pings = None;
        }
    }

    fn open_more(&mut self) {
        let now = self.now();
        let Some(opening) = self.opening.as_mut() else { return };
        let mut room = OPENING_PER_TURN_MAX;
        while opening.left > 0 && opening.under_way < opening.under_way_max && room > 0 {
            room -= 1;
            let mut first = Vec::new();
            let next = opening.who.next(opening.left, now, &mut first);
            let (talk, client) =
                match next.and_then(|(talk, client)| Ok((opening.who.through(talk)?, client))) {
                    Ok(next) => next,
                    Err(Over(why)) => {
                        opening.left -= 1;
                        opening.failed += 1;
                        self.why = why;
                        continue;
                    }
                };
            opening.left -= 1;
            let index = self.peers.len();
            let opened = connect(source_of(opening.source, index), opening.target).and_then(|mut socket| {
                let interest = Interest::READABLE | Interest::WRITABLE;
                self.poll.registry().register(&mut socket, Token(index), interest)?;
                Ok(socket)
            });
            match opened {
                Ok(socket) => {
                    opening.under_way += 1;
                    self.peers.push(Some(Peer::new(socket, client, talk, first)));
                }
                Err(error) => {
                    opening.failed += 1;
                    self.why = error.to_string();
                }
            }
        }
    }

    fn begin_publishing(&mut self, order: Publish) -> Report {
        let publishers: Vec<usize> = (0..self.peers.len())
            .filter(|index| self.peers[*index].as_ref().is_some_and(Peer::is_publisher))
            .collect();
        if publishers.is_empty() {
            return Report::Failed { text: "no client of this fleet publishes".into() };
        }
        self.publishing = Some(Publishing::begin(order, publishers, self.count.received));
        Report::Armed
    }

    /// Publishes what is due, as far as windows and sockets have room.
    fn publish(&mut self) {
        let (now, instant) = (self.now(), Instant::now());
        let Some(mut publishing) = self.publishing.take_if(|publishing| !publishing.is_over(instant)) else {
            self.publishing = None;
            return;
        };
        let mut due = publishing.due(self.count.received, instant);
        let mut full = 0;
        while due > 0 && full < publishing.publishers.len() {
            let index = publishing.publishers[publishing.cursor];
            publishing.cursor = (publishing.cursor + 1) % publishing.publishers.len();
            let sent = self.peers[index].as_mut().map(|peer| peer.publish(publishing.next(), now));
            match sent {
                Some(Ok(true)) => {
                    publishing.went();
                    self.count.published += 1;
                    (due, full) = (due - 1, 0);
                }
                Some(Ok(false)) | None => full += 1,
                Some(Err(over)) => {
                    full += 1;
                    self.end_if(index, Err(over));
                }
            }
        }
        for &index in &publishing.publishers {
            let flushed = self.peers[index].as_mut().map_or(Ok(()), Peer::flush);
            self.end_if(index, flushed);
        }
        self.publishing = Some(publishing);
    }

    fn tally(&mut self) -> Tally {
        let tally = Tally {
            at_ns: clock::now_ns(),
            messages: self.count.messages,
            stored: self.count.stored,
            bytes: self.count.bytes,
            repeated: self.count.repeated,
            holes: self.count.holes,
            published: self.count.published,
            closed: self.closed,
            why: self.why.clone(),
            latency_us: self.count.latencies.buckets(),
        };
        self.count.clear();
        tally
    }

    fn now(&self) -> Millis {
        Millis(self.begin.elapsed().as_millis() as u64)
    }
}

impl Who {
    /// The conversation of the next connection, when `left` are to be opened, and the device's number.
    fn next(&mut self, left: usize, now: Millis, first: &mut Vec<u8>) -> Result<(Talk, ClientId), Over> {
        match self {
            Who::Nobody => Ok((Talk::Bare, ClientId(1))),
            Who::Devices(credentials, logins, _) => {
                let Some(login) = logins.pop_front() else { return Ok((Talk::Bare, ClientId(1))) };
                credentials.client = ClientId(login.client);
                credentials.token = login.token;
                let session = ClientSession::begin(credentials, Memory::default(), now, first);
                Ok((Talk::Native(Box::new(session)), credentials.client))
            }
            Who::Clients(clients) => {
                let number = clients.first + clients.count - left;
                let talk = MqttTalk::begin(clients, number, now, first)?;
                Ok((Talk::Mqtt(Box::new(talk)), ClientId(1)))
            }
        }
    }

    /// A conversation, and what lies below it.
    fn through(&self, talk: Talk) -> Result<(Talk, Option<Box<Layers>>), Over> {
        let layers = match self {
            Who::Nobody => None,
            Who::Devices(_, _, transport) => Layers::begin(*transport, "longwire.v1")?,
            Who::Clients(clients) => Layers::begin(clients.transport, "mqtt")?,
        };
        Ok((talk, layers))
    }
}

impl super::Play for Crew {
    fn waker(&self, token: Token) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), token)
    }

    fn is_hurried(&self) -> bool {
        self.opening.is_some() || self.pings.is_some() || self.publishing.is_some()
    }

    fn follow(&mut self, order: Order) -> Vec<Report> {
        match order {
            Order::Open { target, source, count } => self.open(target, source, Who::Nobody, count),
            Order::LogIn { target, source, app_key, devices, heartbeat_s, transport } => {
                let credentials = Credentials {
                    app_key,
                    token: String::new(),
                    client: ClientId(0),
                    network: Network::Wired,
                    class: Class::Iot,
                    heartbeat_s,
                };
                let count = devices.len();
                self.open(target, source, Who::Devices(credentials, devices.into(), transport), count)
            }
            Order::Clients(clients) => {
                let (target, source, count) = (clients.target, clients.source, clients.count);
                self.open(target, source, Who::Clients(clients), count)
            }
            Order::Publish(order) => vec![self.begin_publishing(order)],
            Order::Silence => {
                self.publishing = None;
                vec![Report::Armed]
            }
            Order::Ack { on } => {
                self.ack = on;
                vec![Report::Armed]
            }
            Order::Expect { messages, within_ms } => {
                self.expect(messages, within_ms);
                vec![Report::Armed]
            }
            Order::Ping { rounds, rate, within_ms } => {
                self.expect(self.live as u64 * u64::from(rounds), within_ms);
                if rate == 0 {
                    self.peers.iter_mut().flatten().for_each(|peer| peer.ping_round(rounds));
                } else {
                    let left = self.live as u64 * u64::from(rounds);
                    let (per_s, since) = (f64::from(rate), Instant::now());
                    self.pings = Some(Pings { left, per_s, since, owed: 0.0, cursor: 0 });
                }
                vec![Report::Armed]
            }
            Order::Deaf => {
                self.deaf = true;
                self.peers.iter().flatten().for_each(Peer::narrow);
                vec![Report::Armed]
            }
            Order::Tally => vec![Report::Held(self.tally())],
            other => vec![Report::Failed { text: format!("not an order for a fleet: {other:?}") }],
        }
    }

    fn turn(&mut self, wait: Duration) -> io::Result<()> {
        self.open_more();
        self.beat();
        self.publish();
        let Some(mut events) = self.events.take() else { return Ok(()) };
        let mut wait = wait;
        loop {
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(()) => {}
            }
            let now = self.now();
            for event in &events {
                self.serve(event, now);
            }
            // A sweep takes all that is ready, not one epoll answer of it.
            if events.iter().count() < EVENTS_MAX {
                break;
            }
            wait = Duration::ZERO;
        }
        self.events = Some(events);
        if Instant::now() >= self.next_tick {
            self.next_tick = Instant::now() + TICK_INTERVAL;
            let now = self.now();
            for index in 0..self.peers.len() {
                let ticked = self.peers[index].as_mut().map_or(Ok(()), |peer| peer.tick(now));
                self.end_if(index, ticked);
            }
        }
        Ok(())
    }

    fn reports(&mut self) -> Vec<Report> {
        let mut reports = Vec::new();
        if let Some(opening) = &self.opening {
            let late = Instant::now() >= opening.deadline;
            if late || (opening.left == 0 && opening.under_way == 0) {
                let failed = opening.failed + opening.left + opening.under_way;
                let why =
                    if late && self.why.is_empty() { "no answer in time".into() } else { self.why.clone() };
                reports.push(Report::Opened { connections: self.live, failed, why });
                self.opening = None;
            }
        }
        if let Some((messages, deadline)) = self.expected
            && (self.count.messages >= messages || Instant::now() >= deadline)
        {
            self.expected = None;
            reports.push(Report::Held(self.tally()));
        }
        reports
    }
}
