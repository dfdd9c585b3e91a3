//! Many devices that only log in, stay, send heartbeats, and come back when the server is lost.
//!
//! - `logins`: connecting, being welcomed, being lost, coming back.
//! - `talk`: what the server says.
//! - `beats`: heartbeats.
//! - here: the turn of the loop, orders and reports.

mod beats;
mod logins;
mod talk;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Events, Poll, Token, Waker};

use super::Play;
use super::slot::{Slot, Step};
use crate::clock;
use crate::latency::Latencies;
use crate::order::{Gather, Logins, Order, Report, Tally};
use crate::random::Random;

const READ_BYTES: usize = 64 * 1024;
const EVENTS_MAX: usize = 4096;
/// How often devices that wait for too long are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// All devices of this process.
#[derive(Debug)]
pub(super) struct Swarm {
    poll: Poll,
    events: Option<Events>,
    slots: Vec<Slot>,
    /// By slot; empty as soon as nobody needs them any more.
    tokens: Vec<Box<str>>,
    plan: Option<Gather>,
    gathering: Option<Instant>,
    /// Who tries again when (microseconds of this swarm's life): at most one entry for each slot.
    due: BinaryHeap<Reverse<(u64, u32)>>,
    /// Devices that lose their connection wait.
    hold: bool,
    held: Vec<u32>,
    under_way: usize,
    live: usize,
    closed: u64,
    why: String,
    logins: Logins,
    pings: Option<Pings>,
    /// The slot that pings next.
    cursor: usize,
    /// Heartbeats that are due and not sent: the swarm's own, spread evenly over the interval.
    owed: f64,
    latencies: Latencies,
    answered: u64,
    random: Random,
    begin_ns: u64,
    looked: Instant,
    turned_us: u64,
    buffer: Vec<u8>,
}

/// Heartbeats that were ordered.
#[derive(Debug)]
struct Pings {
    expected: u64,
    left: u64,
    per_s: f64,
    deadline: Instant,
}

impl Swarm {
    pub(super) fn new() -> io::Result<Swarm> {
        Ok(Swarm {
            poll: Poll::new()?,
            events: Some(Events::with_capacity(EVENTS_MAX)),
            slots: Vec::new(),
            tokens: Vec::new(),
            plan: None,
            gathering: None,
            due: BinaryHeap::new(),
            hold: false,
            held: Vec::new(),
            under_way: 0,
            live: 0,
            closed: 0,
            why: String::new(),
            logins: Logins::default(),
            pings: None,
            cursor: 0,
            owed: 0.0,
            latencies: Latencies::default(),
            answered: 0,
            random: Random::from_seed(clock::now_ns()),
            begin_ns: clock::now_ns(),
            looked: Instant::now(),
            turned_us: 0,
            buffer: vec![0; READ_BYTES],
        })
    }

    fn now_us(&self) -> u64 {
        clock::now_ns().saturating_sub(self.begin_ns) / 1000
    }

    fn serve(&mut self, event: &Event) {
        let (index, readable, writable) = (event.token().0, event.is_readable(), event.is_writable());
        if writable && self.slots.get(index).is_some_and(|slot| slot.step == Step::Connecting) {
            self.connected(index);
        }
        if readable {
            self.read(index, event.is_read_closed() || event.is_error());
        }
    }

    fn tally(&mut self) -> Tally {
        let tally = Tally {
            at_ns: clock::now_ns(),
            messages: std::mem::take(&mut self.answered),
            closed: self.closed,
            why: self.why.clone(),
            latency_us: self.latencies.buckets(),
            ..Tally::default()
        };
        self.latencies.clear();
        tally
    }
}

impl Play for Swarm {
    fn waker(&self, token: Token) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), token)
    }

    fn is_hurried(&self) -> bool {
        self.under_way > 0 || !self.due.is_empty() || self.pings.is_some()
    }

    fn follow(&mut self, order: Order) -> Vec<Report> {
        match order {
            Order::Gather(gather) => {
                self.gather(gather);
                Vec::new()
            }
            Order::Ping { rounds, rate, within_ms } => {
                let expected = self.live as u64 * u64::from(rounds);
                let deadline = Instant::now() + Duration::from_millis(within_ms);
                self.answered = 0;
                self.latencies.clear();
                self.pings = Some(Pings { expected, left: expected, per_s: f64::from(rate), deadline });
                vec![Report::Armed]
            }
            Order::Hold { on } => {
                self.hold = on;
                let now = self.now_us();
                if !on {
                    self.due.extend(self.held.drain(..).map(|index| Reverse((now, index))));
                }
                vec![Report::Armed]
            }
            Order::Logins => {
                self.logins.live = self.live;
                vec![Report::Logins(std::mem::take(&mut self.logins))]
            }
            Order::Tally => vec![Report::Held(self.tally())],
            other => vec![Report::Failed { text: format!("not an order for a swarm: {other:?}") }],
        }
    }

    fn turn(&mut self, wait: Duration) -> io::Result<()> {
        self.start();
        self.beat();
        let Some(mut events) = self.events.take() else { return Ok(()) };
        match self.poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => other?,
        }
        for event in &events {
            self.serve(event);
        }
        self.events = Some(events);
        if self.looked.elapsed() > LOOK_INTERVAL && self.under_way > 0 {
            self.looked = Instant::now();
            self.look();
        }
        Ok(())
    }

    fn reports(&mut self) -> Vec<Report> {
        let mut reports = Vec::new();
        if let Some(deadline) = self.gathering
            && (self.live == self.slots.len() || Instant::now() >= deadline)
        {
            self.gathering = None;
            let failed = self.slots.len() - self.live;
            reports.push(Report::Opened { connections: self.live, failed, why: self.why.clone() });
        }
        if let Some(pings) = &self.pings
            && (self.answered >= pings.expected || Instant::now() >= pings.deadline)
        {
            reports.push(Report::Held(self.tally()));
            self.pings = None;
        }
        reports
    }
}
