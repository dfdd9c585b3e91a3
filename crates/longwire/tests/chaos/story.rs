//! Clean histories from a seed: a small model of a right server, with kills, lost answers, refusals, unacked deliveries,
//! expiry and devices that stay away.

use crate::history::{Audience, Counts, DeviceNo, Event, Fleet, Line, Place, SessionNo};
use crate::support::Dice;
use longwire_proto::id::{MessageId, Position, Source};
use std::collections::HashSet;

const LONG_US: u64 = 3_600_000_000;
const SHORT_US: u64 = 50_000;

/// A fleet and what happened to it.
#[derive(Clone)]
pub struct Story {
    /// The devices.
    pub fleet: Fleet,
    /// The lines.
    pub lines: Vec<Line>,
}

struct Stored {
    message: MessageId,
    audience: Audience,
    position: Position,
    deadline: u64,
    hash: u64,
    accepted: bool,
}

#[derive(Default)]
struct Side {
    session: Option<SessionNo>,
    /// Last position sent in this session, and last settled over the device's life: mailbox, log.
    sent: [Position; 2],
    settled: [Position; 2],
    ended: HashSet<MessageId>,
    delivered: HashSet<MessageId>,
}

struct Model {
    dice: Dice,
    now: u64,
    next: u64,
    positions: Vec<u64>,
    log_head: u64,
    stored: Vec<Stored>,
    sides: Vec<Side>,
    story: Story,
}

/// The story of a seed.
pub fn tell(seed: u64) -> Story {
    let mut dice = Dice::from_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let tags = (0..4).map(|device| if device % 2 == 0 { vec![0] } else { vec![1] }).collect::<Vec<_>>();
    let steps = dice.within(60..160);
    let mut model = Model {
        dice,
        now: 0,
        next: 0,
        positions: vec![0; tags.len()],
        log_head: 0,
        stored: Vec::new(),
        sides: tags.iter().map(|_| Side::default()).collect(),
        story: Story { fleet: Fleet { tags }, lines: Vec::new() },
    };
    for _ in 0..steps {
        model.step();
    }
    model.drain();
    model.story
}

impl Model {
    fn add(&mut self, event: Event) {
        self.now += self.dice.within(10..2_000);
        self.story.lines.push(Line { at_us: self.now, event });
    }

    fn step(&mut self) {
        let device = self.dice.within(0..4) as DeviceNo;
        match self.dice.within(0..20) {
            0..=8 => self.push(),
            9..=11 => self.login(device),
            12..=17 => {
                let acks = !self.dice.one_in(5);
                self.deliver(device, acks);
            }
            18 => self.close(device),
            _ => (0..4).for_each(|device| self.close(device)),
        }
    }

    fn push(&mut self) {
        self.next += 1;
        let push = self.next;
        let hash = crate::history::hash(&push.to_be_bytes());
        let audience = match self.dice.within(0..4) {
            0 => Audience::All,
            1 => Audience::Tag(self.dice.within(0..2) as u32),
            _ => Audience::Device(self.dice.within(0..4) as DeviceNo),
        };
        let ttl_us = if self.dice.one_in(6) { SHORT_US } else { LONG_US };
        self.add(Event::Invoked { push, audience, ttl_us, hash });
        let message = MessageId(0x1000 + u128::from(push));
        match self.dice.within(0..10) {
            0 => self.add(Event::Refused { push, status: 503 }),
            1 => self.add(Event::Unknown { push }),
            2 => {
                self.store(message, audience, ttl_us, hash, false);
                self.add(Event::Unknown { push });
            }
            _ => {
                self.store(message, audience, ttl_us, hash, true);
                self.add(Event::Accepted { push, message });
            }
        }
    }

    fn store(&mut self, message: MessageId, audience: Audience, ttl_us: u64, hash: u64, accepted: bool) {
        let position = match audience {
            Audience::Device(device) => &mut self.positions[device as usize],
            _ => &mut self.log_head,
        };
        *position += 1;
        let position = Position::new(1, *position);
        // An expiry counts from acceptance, so it is never before the deadline that the caller can work out.
        let deadline = self.now + ttl_us;
        self.stored.push(Stored { message, audience, position, deadline, hash, accepted });
    }

    fn login(&mut self, device: DeviceNo) {
        self.close(device);
        self.next += 1;
        let session = self.next;
        let side = &mut self.sides[device as usize];
        side.session = Some(session);
        side.sent = side.settled;
        self.add(Event::Login { device, session });
    }

    fn close(&mut self, device: DeviceNo) {
        if let Some(session) = self.sides[device as usize].session.take() {
            self.add(Event::Closed { device, session });
        }
    }

    /// Sends the next thing of either source. What is not acked is the last thing of its session, as a device would
    /// leave it that vanishes: the settled position never passes something unsettled.
    fn deliver(&mut self, device: DeviceNo, acks: bool) -> bool {
        let Some(session) = self.sides[device as usize].session else { return false };
        let sent = self.sides[device as usize].sent;
        let next = self.stored.iter().position(|stored| {
            let lane = stored.audience.source() as usize - 1;
            self.story.fleet.is_for(stored.audience, device) && stored.position > sent[lane]
        });
        let Some(next) = next else { return false };
        let Stored { message, audience, position, deadline, hash, .. } = self.stored[next];
        let lane = audience.source() as usize - 1;
        let place = Place { source: audience.source(), position, previous: sent[lane] };
        let expired = self.now >= deadline && !self.sides[device as usize].ended.contains(&message);
        self.sides[device as usize].sent[lane] = position;
        if expired {
            self.add(Event::Gap { device, session, message, place, count: 1, expired: true });
        } else {
            self.add(Event::Received { device, session, message, place, hash });
        }
        if !acks && !expired {
            self.close(device);
            return true;
        }
        if !expired {
            self.add(Event::Acked { device, session, message });
            self.sides[device as usize].delivered.insert(message);
        }
        let side = &mut self.sides[device as usize];
        side.ended.insert(message);
        side.settled[lane] = position;
        true
    }

    fn drain(&mut self) {
        // Device 3 stays away now and then: what waits in its mailbox is pending.
        let away = self.dice.one_in(2);
        for device in 0..4 {
            self.login(device);
            while self.deliver(device, true) {
                if away && device == 3 && self.dice.one_in(2) && self.only_mailbox_left(device) {
                    break;
                }
            }
        }
        for at in 0..self.stored.len() {
            let Stored { message, audience, accepted, .. } = self.stored[at];
            let members: Vec<DeviceNo> = self.story.fleet.members(audience).collect();
            let ended = |device: &&DeviceNo| self.sides[**device as usize].ended.contains(&message);
            let got = |device: &&DeviceNo| self.sides[**device as usize].delivered.contains(&message);
            let (ended, delivered) =
                (members.iter().filter(ended).count(), members.iter().filter(got).count());
            let addressed = matches!(audience, Audience::Device(_));
            let created = if addressed { members.len() } else { ended } as u64;
            let (ended, delivered) = (ended as u64, delivered as u64);
            let counts = Counts {
                created,
                delivered,
                expired: ended - delivered,
                dropped: 0,
                pending: created - ended,
            };
            if accepted {
                self.add(Event::Counted { message, counts });
            }
        }
    }

    fn only_mailbox_left(&self, device: DeviceNo) -> bool {
        let sent = self.sides[device as usize].sent[1];
        let mut log = self.stored.iter().filter(|stored| stored.audience.source() == Source::AppLog);
        !log.any(|stored| self.story.fleet.is_for(stored.audience, device) && stored.position > sent)
    }
}
