//! Devices with habits: they come and go, ack at once, late or never.

use crate::history::{DeviceNo, Event, Place, SessionNo, Why, hash};
use crate::storm::{AWAY, Run};
use crate::support::{Dice, Seen, TestDevice};
use longwire_proto::id::{Kind, MessageId};
use longwire_proto::wire::GapReason;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

/// One device and its habits.
pub struct Side<'a> {
    pub run: &'a Run,
    pub number: DeviceNo,
    pub device: TestDevice,
    pub dice: Dice,
}

/// How a session treats what it gets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Habit {
    AcksAtOnce,
    AcksAtTheEnd,
    NeverAcks,
}

impl Side<'_> {
    /// Until the run has ended.
    pub fn live(mut self) {
        let mut older: Option<(SessionNo, TcpStream)> = None;
        while !self.run.ended.load(SeqCst) {
            if self.number < AWAY && !self.run.draining.load(SeqCst) {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            }
            self.device.to = self.run.current.lock().unwrap().device;
            let logged_in = self.device.try_connect().is_ok()
                && matches!(self.device.next(Duration::from_secs(2)), Some(Seen::Welcome(_)));
            if let (true, Some((session, older))) = (logged_in, older.take()) {
                let (device, ended) = (self.number, ends(&older));
                self.run.add(Event::Displaced { device, session, ended });
            }
            if logged_in {
                let session = self.session();
                // Now and then the connection stays open, and the next login must end it. A device that does so often
                // would be barred for it.
                let held = self.dice.one_in(12).then(|| self.device.hold()).flatten();
                older = held.map(|held| (session, held));
            }
            self.device.drop_connection();
            // Away for a while; a device that finds nobody backs off too.
            std::thread::sleep(Duration::from_millis(self.dice.within(5..60)));
        }
    }

    fn session(&mut self) -> SessionNo {
        let (device, session) = (self.number, self.run.sessions.fetch_add(1, SeqCst) + 1);
        self.run.add(Event::Login { device, session });
        let habit = match self.dice.within(0..8) {
            0 => Habit::NeverAcks,
            1 | 2 => Habit::AcksAtTheEnd,
            _ => Habit::AcksAtOnce,
        };
        let leaves = Instant::now() + Duration::from_millis(self.dice.within(20..2_500));
        let mut kept = Vec::new();
        loop {
            let draining = self.run.draining.load(SeqCst);
            if self.run.ended.load(SeqCst) || (!draining && Instant::now() > leaves) {
                break;
            }
            if draining && habit != Habit::AcksAtOnce {
                break;
            }
            match self.device.next(Duration::from_millis(20)) {
                Some(Seen::Ended | Seen::Closed(_) | Seen::Broken(_)) => break,
                Some(seen) => {
                    let Some(message) = self.take(session, &seen) else { continue };
                    if habit == Habit::AcksAtOnce {
                        self.ack(session, &[message]);
                    } else {
                        kept.push(message);
                    }
                }
                None => {}
            }
        }
        if habit == Habit::AcksAtTheEnd {
            // Acks need not come in the order of the deliveries, nor for all of them.
            match self.dice.within(0..3) {
                0 => kept.reverse(),
                1 if kept.len() > 1 => drop(kept.remove(0)),
                _ => {}
            }
            // No more than a window can be unacked, so they fit into one frame.
            self.ack(session, &kept);
        }
        // What was read with the last frame has come: its GAPs are acked already, and nobody will announce them again.
        while let Some(seen) = self.device.next(Duration::ZERO) {
            self.take(session, &seen);
        }
        self.run.add(Event::Closed { device, session });
        session
    }

    fn ack(&mut self, session: u64, messages: &[MessageId]) {
        for message in messages {
            self.run.add(Event::Acked { device: self.number, session, message: *message });
        }
        if !messages.is_empty() {
            self.device.ack(messages);
        }
    }

    /// Writes down what came; the id of a delivery that wants an ack.
    fn take(&mut self, session: u64, seen: &Seen) -> Option<MessageId> {
        let device = self.number;
        match seen {
            Seen::Push { source, position, previous, message, payload, hole, kind, .. } => {
                let place = Place { source: (*source)?, position: *position, previous: *previous };
                let (message, hash) = (*message, hash(payload));
                if *kind == Kind::Recall {
                    let of = MessageId(u128::from_be_bytes(payload.as_slice().try_into().unwrap()));
                    self.run.add(Event::Told { device, session, message, place, of });
                } else {
                    self.run.add(Event::Received { device, session, message, place, hash });
                }
                self.run.received.fetch_add(1, SeqCst);
                self.run.holes.fetch_add(u64::from(*hole), SeqCst);
                Some(message)
            }
            Seen::Gap(gap) => {
                let place = Place { source: gap.source, position: gap.position, previous: gap.previous };
                let (message, count) = (gap.message, gap.count);
                let why = match gap.reason {
                    GapReason::Expired => Why::Expired,
                    GapReason::Collapsed => Why::Collapsed,
                    GapReason::Recalled => Why::Recalled,
                    GapReason::Dropped | GapReason::Corrupt | GapReason::Retention => Why::Other,
                };
                self.run.add(Event::Gap { device, session, message, place, count, why });
                self.run.received.fetch_add(1, SeqCst);
                None
            }
            _ => None,
        }
    }
}

/// Whether an older connection ends within its time (I11).
fn ends(older: &TcpStream) -> bool {
    older.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let (mut older, mut bytes) = (older, [0; 4096]);
    loop {
        match older.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return false;
            }
            Err(_) => return true,
        }
    }
}
