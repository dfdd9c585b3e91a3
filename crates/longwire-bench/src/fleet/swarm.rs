//! Many devices that only log in, stay, answer for their heartbeats, and come back when the server is lost.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Read};
use std::time::{Duration, Instant};

use longwire_proto::limit::{CONNACK_WAIT_MS, FRAME_BODY_BYTES_CEILING, HEADER_BYTES};
use longwire_proto::wire::{BackOff, Command, Header, Refusal, ServerFrame};
use mio::{Events, Interest, Poll, Token, Waker};

use super::connect;
use super::slot::{Slot, Step, split_frame};
use crate::clock;
use crate::latency::Latencies;
use crate::order::{Back, Gather, Logins, Order, Report, Tally};
use crate::random::Random;

/// Time to bring everybody in, at least; and a millisecond for each.
const GATHERING_TIME: Duration = Duration::from_secs(60);
/// The SDK's patience with a connect.
const CONNECT_WAIT_US: u32 = 3_000_000;
const READ_BYTES: usize = 64 * 1024;
const EVENTS_MAX: usize = 4096;
/// How often devices that wait for too long are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Heartbeats of one turn at most, so that reading is never far away.
const PINGS_PER_TURN: u64 = 512;
/// Tries at once are this far apart, milliseconds, and as much again by chance.
const AT_ONCE_MS: u64 = 50;

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

    fn gather(&mut self, mut gather: Gather) {
        let now = self.now_us();
        self.gathering =
            Some(Instant::now() + GATHERING_TIME + Duration::from_millis(gather.devices.len() as u64));
        self.tokens.resize(self.slots.len(), "".into());
        for login in std::mem::take(&mut gather.devices) {
            self.due.push(Reverse((now, self.slots.len() as u32)));
            self.slots.push(Slot::new(login.client));
            self.tokens.push(login.token.into());
        }
        self.plan = Some(gather);
    }

    /// Starts the attempts that are due.
    fn start(&mut self) {
        let Some(most) = self.plan.as_ref().map(|plan| plan.under_way_max) else { return };
        let now = self.now_us();
        while self.under_way < most
            && let Some(Reverse((at, index))) = self.due.peek().copied()
            && at <= now
        {
            self.due.pop();
            self.attempt(index as usize, now);
        }
    }

    fn attempt(&mut self, index: usize, now: u64) {
        let Some(plan) = &self.plan else { return };
        let opened = connect(plan.source, plan.target).and_then(|mut socket| {
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut socket, Token(index), both)?;
            Ok(socket)
        });
        let slot = &mut self.slots[index];
        slot.attempts = slot.attempts.saturating_add(1);
        slot.since_us = now as u32;
        self.under_way += 1;
        slot.step = Step::Connecting;
        match opened {
            Ok(socket) => slot.socket = Some(socket),
            Err(error) => self.leave(index, &error.to_string(), None),
        }
    }

    /// The device's connection is over; it comes back when it may.
    fn leave(&mut self, index: usize, why: &str, told: Option<Refusal>) {
        let slot = &mut self.slots[index];
        let was = std::mem::replace(&mut slot.step, Step::Away);
        (slot.socket, slot.cut) = (None, None);
        why.clone_into(&mut self.why);
        let back = self.plan.as_ref().map_or(Back::Stay, |plan| plan.back);
        match was {
            Step::Away => return,
            Step::Connecting | Step::Joining => self.under_way -= 1,
            Step::Live => {
                self.live -= 1;
                self.closed += 1;
                self.logins.lost += 1;
                slot.attempts = 0;
                if back == Back::Stay {
                    return;
                }
                if self.hold {
                    self.held.push(index as u32);
                    return;
                }
            }
        }
        match told {
            Some(refusal) => {
                let told = self.logins.refused.entry(refusal.reason.label().into()).or_default();
                let first = told.times == 0;
                told.times += 1;
                told.retry_min_s =
                    if first { refusal.retry_after_s } else { told.retry_min_s.min(refusal.retry_after_s) };
                told.retry_max_s = told.retry_max_s.max(refusal.retry_after_s);
                if !refusal.reason.may_retry() {
                    self.logins.given_up += 1;
                    return;
                }
            }
            None if was != Step::Live => self.logins.failed += 1,
            None => {}
        }
        let wait = wait_us(back, was, slot.attempts, told, &mut self.random);
        self.due.push(Reverse((self.now_us() + wait, index as u32)));
    }

    fn serve(&mut self, index: usize, readable: bool, writable: bool) {
        if writable && self.slots.get(index).is_some_and(|slot| slot.step == Step::Connecting) {
            self.connected(index);
        }
        if readable {
            self.read(index);
        }
    }

    fn connected(&mut self, index: usize) {
        let now = self.now_us() as u32;
        let (slot, Some(plan)) = (&mut self.slots[index], &self.plan) else { return };
        let Some(socket) = &slot.socket else { return };
        let sent = match socket.take_error() {
            Ok(None) if socket.peer_addr().is_err() => return,
            Ok(None) => slot.join(&plan.app_key, &self.tokens[index], plan.heartbeat_s),
            Ok(Some(error)) | Err(error) => Err(error),
        };
        (slot.step, slot.since_us) = (Step::Joining, now);
        if let Err(error) = sent {
            self.leave(index, &error.to_string(), None);
        }
    }

    fn read(&mut self, index: usize) {
        let mut buffer = std::mem::take(&mut self.buffer);
        while let Some(socket) = self.slots.get_mut(index).and_then(|slot| slot.socket.as_mut()) {
            match socket.read(&mut buffer) {
                Ok(0) => self.leave(index, "closed by the server", None),
                Ok(bytes) => {
                    self.take(index, &buffer[..bytes]);
                    if bytes < buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) =>
                {
                    break;
                }
                Err(error) => self.leave(index, &error.to_string(), None),
            }
        }
        self.buffer = buffer;
    }

    fn take(&mut self, index: usize, bytes: &[u8]) {
        let whole = self.slots[index].cut.take().map(|cut| [&cut[..], bytes].concat());
        let mut rest = whole.as_deref().unwrap_or(bytes);
        while let Some((frame, after)) = split_frame(rest) {
            rest = after;
            self.hear(index, frame);
            if self.slots[index].socket.is_none() {
                return;
            }
        }
        if !rest.is_empty() {
            self.slots[index].cut = Some(rest.into());
        }
    }

    fn hear(&mut self, index: usize, frame: &[u8]) {
        if frame[4] == Command::Pong as u8 {
            let took_us = (self.now_us() as u32).wrapping_sub(self.slots[index].since_us);
            if self.pings.is_some() {
                self.answered += 1;
                self.latencies.record_ns(u64::from(took_us) * 1000);
            }
            return;
        }
        let Some(head) = frame.first_chunk::<HEADER_BYTES>() else { return };
        let Ok(header) = Header::decode(head, FRAME_BODY_BYTES_CEILING) else {
            return self.leave(index, "the server broke the protocol", None);
        };
        match ServerFrame::decode(&header, &frame[HEADER_BYTES..]) {
            Ok(ServerFrame::Welcome(_)) => self.welcome(index),
            Ok(ServerFrame::Refusal(refusal) | ServerFrame::Close(refusal)) => {
                self.leave(index, refusal.reason.label(), Some(refusal));
            }
            Ok(_) => {}
            Err(_) => self.leave(index, "the server broke the protocol", None),
        }
    }

    fn welcome(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if slot.step != Step::Joining {
            return;
        }
        (slot.step, slot.attempts) = (Step::Live, 0);
        self.under_way -= 1;
        self.live += 1;
        *self.logins.welcomed.entry(clock::now_ns() / 100_000_000).or_default() += 1;
        if self.plan.as_ref().is_some_and(|plan| plan.back == Back::Stay) && self.live == self.slots.len() {
            self.tokens = Vec::new();
        }
    }

    /// Gives up on servers that do not answer.
    fn look(&mut self) {
        let now = self.now_us() as u32;
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            let most = match slot.step {
                Step::Connecting => CONNECT_WAIT_US,
                Step::Joining => CONNACK_WAIT_MS as u32 * 1000,
                Step::Away | Step::Live => continue,
            };
            if now.wrapping_sub(slot.since_us) > most {
                self.logins.late += 1;
                self.leave(index, "no answer in time", None);
            }
        }
    }

    /// Sends the heartbeats that are due: those ordered, or else the devices' own.
    fn beat(&mut self) {
        let now = self.now_us();
        let elapsed_s = now.saturating_sub(std::mem::replace(&mut self.turned_us, now)) as f64 / 1e6;
        let own_s = self.plan.as_ref().map_or(1200.0, |plan| f64::from(plan.heartbeat_s.max(1)));
        let (per_s, left) = match &self.pings {
            Some(pings) if pings.per_s > 0.0 => (pings.per_s, pings.left),
            Some(pings) => (f64::INFINITY, pings.left),
            None => (self.live as f64 / own_s, u64::MAX),
        };
        // What a turn cannot send is not saved up: a fleet that is late says so by its rate.
        self.owed = (self.owed + elapsed_s * per_s).min(PINGS_PER_TURN as f64);
        let due = (self.owed as u64).min(left);
        self.owed -= due as f64;
        for _ in 0..due {
            let Some(index) = self.next_live() else { break };
            self.slots[index].since_us = self.now_us() as u32;
            if let Err(error) = self.slots[index].ping() {
                self.leave(index, &error.to_string(), None);
            }
            if let Some(pings) = self.pings.as_mut() {
                pings.left -= 1;
            }
        }
    }

    fn next_live(&mut self) -> Option<usize> {
        let count = self.slots.len();
        let found = (0..count)
            .map(|step| (self.cursor + step) % count)
            .find(|index| self.slots[*index].step == Step::Live)?;
        self.cursor = (found + 1) % count;
        Some(found)
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

/// How long a device waits before its next attempt, microseconds.
fn wait_us(back: Back, was: Step, attempts: u8, told: Option<Refusal>, random: &mut Random) -> u64 {
    let policy = BackOff::default();
    let last = policy.steps_s.len().saturating_sub(1);
    let step_s = u64::from(policy.steps_s[last.min(usize::from(attempts))]);
    let own_ms = match (back, was) {
        (Back::Spaced, _) => step_s * 1000 + random.below(u64::from(policy.jitter_ms) + 1),
        (_, Step::Live) => 0,
        _ => AT_ONCE_MS + random.below(AT_ONCE_MS),
    };
    let told_ms = match told {
        Some(refusal) if refusal.retry_after_s > 0 => {
            u64::from(refusal.retry_after_s) * 1000 + random.below(u64::from(policy.jitter_ms) + 1)
        }
        _ => 0,
    };
    own_ms.max(told_ms) * 1000
}

impl super::Play for Swarm {
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
            self.serve(event.token().0, event.is_readable(), event.is_writable());
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
