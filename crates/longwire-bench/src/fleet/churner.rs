//! Connections that come and go: each cycle connects, logs in and ends in one of the ways that connections end.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown};
use std::time::{Duration, Instant};

use longwire_proto::close::CloseReason;
use longwire_proto::limit::{FRAME_BODY_BYTES_CEILING, HEADER_BYTES, HEARTBEAT_S_RANGE};
use longwire_proto::wire::{Header, ServerFrame};
use mio::{Events, Interest, Poll, Token, Waker};
use socket2::SockRef;

use super::connect;
use super::ending::Ending;
use super::kicker::Kicker;
use super::slot::{Slot, Step, split_frame};
use crate::clock;
use crate::http::Api;
use crate::order::{Churn, Churned, Order, Report};

/// Cycles under way at once.
const LANES_MAX: usize = 512;
/// Source addresses used in turn: ports of ended connections rest for a minute.
const SOURCES: u64 = 64;
/// A cycle that ends by itself takes no longer; those that wait for the server's deadlines take up to three of the shortest
/// heartbeats that it allows (15 s by default) and twenty seconds.
const CYCLE_TIME: Duration = Duration::from_secs(130);
/// A lane whose cycle failed rests, so that a server in trouble is not hammered.
const REST: Duration = Duration::from_millis(100);
const HEARTBEAT_S: u16 = 1200;
const READ_BYTES: usize = 16 * 1024;
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// One cycle after the other.
#[derive(Debug)]
struct Lane {
    first: Slot,
    /// The one that takes over.
    second: Slot,
    ending: Ending,
    /// Its place in the order's devices.
    device: usize,
    /// `None` between cycles.
    begun: Option<Instant>,
    /// Not before.
    next: Instant,
    cycles: u64,
}

/// All cycles of this process.
#[derive(Debug)]
pub(super) struct Churner {
    poll: Poll,
    events: Option<Events>,
    lanes: Vec<Lane>,
    work: Option<Work>,
    buffer: Vec<u8>,
    /// Takeovers begun in all orders: the devices for them are used in turn.
    takeovers: usize,
    looked: Instant,
}

#[derive(Debug)]
struct Work {
    order: Churn,
    kicker: Kicker,
    begun: u64,
    since: Instant,
    deadline: Instant,
    start_ns: u64,
    churned: Churned,
}

impl Churner {
    pub(super) fn new() -> io::Result<Churner> {
        let events = Some(Events::with_capacity(LANES_MAX * 2));
        let (poll, buffer, looked) = (Poll::new()?, vec![0; READ_BYTES], Instant::now());
        Ok(Churner { poll, events, lanes: Vec::new(), work: None, buffer, takeovers: 0, looked })
    }

    fn begin(&mut self, order: Churn) {
        let now = Instant::now();
        let lane = || Lane {
            first: Slot::new(0),
            second: Slot::new(0),
            ending: Ending::Fin,
            device: 0,
            begun: None,
            next: now,
            cycles: 0,
        };
        self.lanes = (0..(order.devices.len() - order.takeovers).min(LANES_MAX)).map(|_| lane()).collect();
        let deadline = now + Duration::from_millis(order.within_ms);
        let start_ns = clock::now_ns();
        let churned = Churned::default();
        let kicker = Kicker::start(Api::new(order.api, &order.app_key, &order.app_secret), LANES_MAX);
        self.work = Some(Work { order, kicker, begun: 0, since: now, deadline, start_ns, churned });
    }

    /// Begins cycles in the lanes that are free.
    fn start(&mut self) {
        let now = Instant::now();
        for index in 0..self.lanes.len() {
            let Some(work) = self.work.as_mut() else { return };
            let rate = f64::from(work.order.rate);
            let early = rate > 0.0 && work.begun as f64 >= work.since.elapsed().as_secs_f64() * rate;
            if early || work.begun >= work.order.cycles || now >= work.deadline {
                return;
            }
            let count = self.lanes.len() as u64;
            let lane = &mut self.lanes[index];
            if lane.begun.is_some() || lane.next > now {
                continue;
            }
            lane.ending = Ending::of(work.begun, work.order.timeouts);
            lane.begun = Some(now);
            work.begun += 1;
            let own = work.order.devices.len() - work.order.takeovers;
            lane.device = if lane.ending == Ending::Takeover && work.order.takeovers > 0 {
                // Devices that displace each other too often are refused, so each has its turn.
                self.takeovers += 1;
                own + self.takeovers % work.order.takeovers
            } else {
                // A device of the lane's own, another one each time as far as there are more.
                let each = own as u64 / count;
                (index as u64 + count * (lane.cycles % each)) as usize
            };
            lane.cycles += 1;
            let client = work.order.devices[lane.device].client;
            (lane.first, lane.second) = (Slot::new(client), Slot::new(client));
            self.open(index, false);
        }
    }

    fn open(&mut self, index: usize, second: bool) {
        let Some(work) = self.work.as_ref() else { return };
        let [a, b, c, d] = work.order.source.octets();
        let source = Ipv4Addr::new(a, b, c, d.saturating_add((work.begun % SOURCES) as u8));
        let opened = connect(source, work.order.target).and_then(|mut socket| {
            let token = Token(index * 2 + usize::from(second));
            self.poll.registry().register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
            Ok(socket)
        });
        match opened {
            Ok(socket) => {
                let lane = &mut self.lanes[index];
                let slot = if second { &mut lane.second } else { &mut lane.first };
                (slot.socket, slot.step) = (Some(socket), Step::Connecting);
            }
            Err(error) => self.done(index, Err(format!("connect: {error}"))),
        }
    }

    /// The lane's cycle is over.
    fn done(&mut self, index: usize, result: Result<(), String>) {
        let lane = &mut self.lanes[index];
        if lane.begun.take().is_none() {
            return;
        }
        (lane.first, lane.second) = (Slot::new(0), Slot::new(0));
        let Some(work) = self.work.as_mut() else { return };
        let word = lane.ending.word();
        match result {
            Ok(()) => *work.churned.ended.entry(word.into()).or_default() += 1,
            Err(why) => {
                lane.next = Instant::now() + REST;
                *work.churned.failed.entry(format!("{word}: {why}")).or_default() += 1;
            }
        }
    }

    fn serve(&mut self, token: usize, readable: bool, writable: bool) {
        let (index, second) = (token / 2, token % 2 == 1);
        if index >= self.lanes.len() {
            return;
        }
        if writable {
            let joined = self.connected(index, second);
            if let Err(error) = joined {
                return self.done(index, Err(format!("connect: {error}")));
            }
        }
        if readable {
            self.read(index, second);
        }
    }

    fn connected(&mut self, index: usize, second: bool) -> io::Result<()> {
        let (lane, Some(work)) = (&mut self.lanes[index], &self.work) else { return Ok(()) };
        let (ending, slot) = (lane.ending, if second { &mut lane.second } else { &mut lane.first });
        let Some(socket) = slot.socket.as_ref().filter(|_| slot.step == Step::Connecting) else {
            return Ok(());
        };
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        if socket.peer_addr().is_err() {
            return Ok(());
        }
        slot.step = Step::Joining;
        let device = work.order.devices.get(lane.device);
        match (ending, device) {
            (Ending::Early, _) => self.done(index, Ok(())),
            (Ending::LoginTimeout, _) | (_, None) => {}
            (Ending::Idle, Some(login)) => {
                slot.join(&work.order.app_key, &login.token, *HEARTBEAT_S_RANGE.start())?;
            }
            (_, Some(login)) => slot.join(&work.order.app_key, &login.token, HEARTBEAT_S)?,
        }
        Ok(())
    }

    fn read(&mut self, index: usize, second: bool) {
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            let lane = &mut self.lanes[index];
            let slot = if second { &mut lane.second } else { &mut lane.first };
            let Some(socket) = slot.socket.as_mut() else { break };
            match socket.read(&mut buffer) {
                Ok(0) => {
                    self.closed(index, second);
                    break;
                }
                Ok(bytes) => self.hear(index, second, &buffer[..bytes]),
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) =>
                {
                    break;
                }
                Err(_) => {
                    self.closed(index, second);
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    /// The server has closed a connection: right if the ending says so.
    fn closed(&mut self, index: usize, second: bool) {
        let lane = &mut self.lanes[index];
        let waited = match lane.ending {
            Ending::HalfClose | Ending::BadFrame | Ending::Kick | Ending::Idle => {
                lane.first.step == Step::Live
            }
            Ending::LoginTimeout => lane.first.step == Step::Joining,
            Ending::Takeover => !second && lane.second.step != Step::Away,
            Ending::Fin | Ending::Reset | Ending::Early => false,
        };
        if waited && lane.ending == Ending::Takeover && lane.second.step != Step::Live {
            // The welcome of the other is under way.
            lane.first.socket = None;
            return;
        }
        self.done(index, if waited { Ok(()) } else { Err("closed by the server".into()) });
    }

    fn hear(&mut self, index: usize, second: bool, bytes: &[u8]) {
        let lane = &mut self.lanes[index];
        let slot = if second { &mut lane.second } else { &mut lane.first };
        let whole = slot.cut.take().map(|cut| [&cut[..], bytes].concat());
        let mut rest = whole.as_deref().unwrap_or(bytes);
        let mut said = None;
        while let Some((frame, after)) = split_frame(rest) {
            rest = after;
            let Some(head) = frame.first_chunk::<HEADER_BYTES>() else { break };
            if let Ok(header) = Header::decode(head, FRAME_BODY_BYTES_CEILING) {
                match ServerFrame::decode(&header, &frame[HEADER_BYTES..]) {
                    Ok(ServerFrame::Welcome(_)) => slot.step = Step::Live,
                    Ok(ServerFrame::Refusal(refusal)) => said = Some(refusal),
                    _ => {}
                }
            }
        }
        slot.cut = (!rest.is_empty()).then(|| rest.into());
        let live = slot.step == Step::Live;
        if let Some(refusal) = said {
            let wanted = match lane.ending {
                Ending::LoginTimeout => Some(CloseReason::LoginTimeout),
                Ending::Kick => Some(CloseReason::Kicked),
                _ => None,
            };
            if wanted == Some(refusal.reason) {
                return self.done(index, Ok(()));
            }
            lane.next = Instant::now() + Duration::from_secs(refusal.retry_after_s.into());
            return self.done(index, Err(format!("refused: {}", refusal.reason.label())));
        }
        if live {
            self.end(index, second);
        }
    }

    /// Logged in: what the ending asks for.
    fn end(&mut self, index: usize, second: bool) {
        let lane = &mut self.lanes[index];
        let Some(socket) = (if second { &mut lane.second } else { &mut lane.first }).socket.as_mut() else {
            return;
        };
        let result = match lane.ending {
            Ending::Fin => return self.done(index, Ok(())),
            Ending::Reset => {
                let reset = SockRef::from(&*socket).set_linger(Some(Duration::ZERO));
                return self.done(index, reset.map_err(|error| error.to_string()));
            }
            Ending::HalfClose => socket.shutdown(Shutdown::Write),
            Ending::BadFrame => socket.write(&[0x5A; HEADER_BYTES]).map(|_| ()),
            Ending::Kick => {
                let asked = self.work.as_ref().is_some_and(|work| {
                    let name = work.order.names.get(lane.device);
                    name.is_some_and(|name| work.kicker.kick(index, name))
                });
                if asked { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
            }
            Ending::Takeover if second && lane.first.socket.is_none() => return self.done(index, Ok(())),
            Ending::Takeover if !second && lane.second.step == Step::Away => return self.open(index, true),
            _ => Ok(()),
        };
        if let Err(error) = result {
            self.done(index, Err(error.to_string()));
        }
    }

    fn look(&mut self) {
        self.looked = Instant::now();
        for index in 0..self.lanes.len() {
            if self.lanes[index].begun.is_some_and(|begun| begun.elapsed() > CYCLE_TIME) {
                self.done(index, Err("no end in time".into()));
            }
        }
    }
}

impl super::Play for Churner {
    fn waker(&self, token: Token) -> io::Result<Waker> {
        Waker::new(self.poll.registry(), token)
    }

    fn is_hurried(&self) -> bool {
        self.work.is_some()
    }

    fn follow(&mut self, order: Order) -> Vec<Report> {
        match order {
            Order::Churn(churn) if churn.devices.len() > churn.takeovers => {
                self.begin(churn);
                Vec::new()
            }
            other => vec![Report::Failed { text: format!("not an order for a churner: {other:?}") }],
        }
    }

    fn turn(&mut self, wait: Duration) -> io::Result<()> {
        self.start();
        let Some(mut events) = self.events.take() else { return Ok(()) };
        match self.poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => other?,
        }
        for event in &events {
            self.serve(event.token().0, event.is_readable(), event.is_writable());
        }
        self.events = Some(events);
        while let Some((index, why)) = self.work.as_ref().and_then(|work| work.kicker.failure()) {
            self.done(index, Err(why));
        }
        if self.looked.elapsed() > LOOK_INTERVAL {
            self.look();
        }
        Ok(())
    }

    fn reports(&mut self) -> Vec<Report> {
        let over = self.work.as_ref().is_some_and(|work| {
            (work.begun >= work.order.cycles || Instant::now() >= work.deadline)
                && self.lanes.iter().all(|lane| lane.begun.is_none())
        });
        let Some(work) = self.work.take_if(|_| over) else { return Vec::new() };
        let mut churned = work.churned;
        churned.span_ns = clock::now_ns().saturating_sub(work.start_ns);
        vec![Report::Churned(churned)]
    }
}
