//! Clean histories from a seed: a small model of a right server, with kills, lost answers, refusals, unacked deliveries,
//! expiry, replacement, recall, repeated requests and devices that stay away.

use crate::history::{Asked, Audience, Counts, DeviceNo, Event, Fleet, Line, Place, PushNo, SessionNo, Why};
use crate::support::Dice;
use longwire_proto::id::{MessageId, Position, Source};
use std::collections::{HashMap, HashSet};

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

/// What is to be stored.
#[derive(Clone, Copy)]
struct Wanted {
    message: MessageId,
    audience: Audience,
    ttl_us: u64,
    hash: u64,
    asked: Asked,
}

struct Stored {
    message: MessageId,
    audience: Audience,
    position: Position,
    deadline: u64,
    hash: u64,
    asked: Asked,
    accepted: bool,
    /// Replaced or recalled.
    left_out: Option<Why>,
    /// It tells of a recall.
    of: Option<MessageId>,
}

#[derive(Default)]
struct Side {
    session: Option<SessionNo>,
    /// Last position sent in this session, and last settled over the device's life: mailbox, log.
    sent: [Position; 2],
    settled: [Position; 2],
    /// What has an end for this device, and why it was left out if it was.
    ended: HashMap<MessageId, Option<Why>>,
    /// What it took note of, or acked.
    noted: HashSet<MessageId>,
}

struct Model {
    dice: Dice,
    now: u64,
    next: u64,
    positions: Vec<u64>,
    log_head: u64,
    stored: Vec<Stored>,
    /// Not due yet, and became messages.
    planned: Vec<(PushNo, Wanted)>,
    fired: Vec<(PushNo, MessageId)>,
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
        planned: Vec::new(),
        fired: Vec::new(),
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
            0..=7 => self.push(),
            8 => self.recall(),
            9..=11 => self.login(device),
            12..=17 => {
                let acks = !self.dice.one_in(5);
                self.deliver(device, acks);
            }
            18 if self.dice.one_in(2) => self.fire(),
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
            1 if self.dice.one_in(2) => Audience::Tag(self.dice.within(0..2) as u32),
            1 => Audience::TagWithout(0, 1),
            _ => Audience::Device(self.dice.within(0..4) as DeviceNo),
        };
        let ttl_us = if self.dice.one_in(6) { SHORT_US } else { LONG_US };
        let key = self.dice.one_in(4).then_some(1);
        let once = self.dice.one_in(5).then_some(push);
        let asked = Asked { key, once };
        self.add(Event::Invoked { push, audience, ttl_us, hash, asked });
        let message = MessageId(0x1000 + u128::from(push));
        let wanted = Wanted { message, audience, ttl_us, hash, asked };
        match self.dice.within(0..10) {
            _ if asked == Asked::default() && self.dice.one_in(6) => {
                self.add(Event::Planned { push });
                self.planned.push((push, wanted));
                return;
            }
            0 => self.add(Event::Refused { push, status: 503 }),
            1 => self.add(Event::Unknown { push }),
            2 => {
                self.store(&wanted, false);
                self.add(Event::Unknown { push });
            }
            _ => {
                self.store(&wanted, true);
                self.add(Event::Accepted { push, message });
            }
        }
        if once.is_some() && self.stored.iter().any(|stored| stored.message == message) {
            // The same request again: the same answer, and no second message.
            self.next += 1;
            let push = self.next;
            self.add(Event::Invoked { push, audience, ttl_us, hash, asked });
            self.add(Event::Accepted { push, message });
            self.stored
                .iter_mut()
                .filter(|stored| stored.message == message)
                .for_each(|one| one.accepted = true);
        }
    }

    /// Recalls something; whoever has it is told, by a message of its own.
    fn recall(&mut self) {
        let known: Vec<usize> = (0..self.stored.len())
            .filter(|at| self.stored[*at].accepted && self.stored[*at].of.is_none())
            .collect();
        if known.is_empty() {
            return;
        }
        let at = known[self.dice.within(0..known.len() as u64) as usize];
        let Stored { message, audience, .. } = self.stored[at];
        self.add(Event::Recalling { message });
        self.leave_out(at, Why::Recalled);
        let had = self.sides.iter().any(|side| side.ended.get(&message) == Some(&None));
        if had {
            self.next += 1;
            let telling = MessageId(0x1000 + u128::from(self.next));
            let wanted =
                Wanted { message: telling, audience, ttl_us: LONG_US, hash: 0, asked: Asked::default() };
            self.store(&wanted, true);
            self.stored
                .iter_mut()
                .filter(|stored| stored.message == telling)
                .for_each(|one| one.of = Some(message));
        }
        self.add(Event::Recalled { message });
    }

    /// Whoever has no end of it yet ends so; a mailbox delivery at once, one of the log when its device reads it.
    fn leave_out(&mut self, at: usize, why: Why) {
        let Stored { message, audience, .. } = self.stored[at];
        if self.stored[at].left_out.is_none() {
            self.stored[at].left_out = Some(why);
        }
        if let Audience::Device(device) = audience {
            self.sides[device as usize].ended.entry(message).or_insert(Some(why));
        }
    }

    fn store(&mut self, wanted: &Wanted, accepted: bool) {
        let Wanted { message, audience, ttl_us, hash, asked } = *wanted;
        if asked.key.is_some() {
            let same = |stored: &Stored| stored.audience == audience && stored.asked.key == asked.key;
            let older: Vec<usize> = (0..self.stored.len()).filter(|at| same(&self.stored[*at])).collect();
            older.into_iter().for_each(|at| self.leave_out(at, Why::Collapsed));
        }
        let position = match audience {
            Audience::Device(device) => &mut self.positions[device as usize],
            _ => &mut self.log_head,
        };
        *position += 1;
        let position = Position::new(1, *position);
        // An expiry counts from acceptance, so it is never before the deadline that the caller can work out.
        let deadline = self.now + ttl_us;
        let (left_out, of) = (None, None);
        self.stored.push(Stored {
            message,
            audience,
            position,
            deadline,
            hash,
            asked,
            accepted,
            left_out,
            of,
        });
    }

    /// What is for later becomes messages.
    fn fire(&mut self) {
        for (push, wanted) in std::mem::take(&mut self.planned) {
            self.store(&wanted, false);
            self.fired.push((push, wanted.message));
        }
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
        let Stored { message, audience, position, deadline, hash, left_out, of, .. } = self.stored[next];
        let lane = audience.source() as usize - 1;
        let place = Place { source: audience.source(), position, previous: sent[lane] };
        let side = &mut self.sides[device as usize];
        let late = (self.now >= deadline).then_some(Why::Expired);
        let why = match side.ended.get(&message) {
            Some(why) => *why,
            None => left_out.or(late),
        };
        side.sent[lane] = position;
        match (why, of) {
            (Some(why), _) => self.add(Event::Gap { device, session, message, place, count: 1, why }),
            (None, Some(of)) => self.add(Event::Told { device, session, message, place, of }),
            (None, None) => self.add(Event::Received { device, session, message, place, hash }),
        }
        if !acks && why.is_none() {
            self.close(device);
            return true;
        }
        if why.is_none() {
            self.add(Event::Acked { device, session, message });
        }
        let side = &mut self.sides[device as usize];
        side.ended.entry(message).or_insert(why);
        side.noted.insert(message);
        side.settled[lane] = position;
        true
    }

    fn drain(&mut self) {
        // Device 3 stays away now and then: what waits in its mailbox is pending.
        let away = self.dice.one_in(2);
        self.fire();
        for device in 0..4 {
            self.login(device);
            while self.deliver(device, true) {
                if away && device == 3 && self.dice.one_in(2) && self.only_mailbox_left(device) {
                    self.close(device);
                    break;
                }
            }
        }
        for (push, message) in std::mem::take(&mut self.fired) {
            self.add(Event::Fired { push, message });
        }
        let mut books = Counts::default();
        for at in 0..self.stored.len() {
            let Stored { message, audience, .. } = self.stored[at];
            let counts = self.counts(message, audience);
            books.add(&counts);
            self.add(Event::Counted { message, counts });
        }
        self.add(Event::Books { counts: books, gap: 0 });
    }

    fn counts(&self, message: MessageId, audience: Audience) -> Counts {
        let mut counts = Counts::default();
        for device in self.story.fleet.members(audience) {
            match self.sides[device as usize].ended.get(&message) {
                Some(None) => counts.delivered += 1,
                Some(Some(Why::Expired)) => counts.expired += 1,
                Some(Some(Why::Collapsed)) => counts.collapsed += 1,
                Some(Some(Why::Recalled)) => counts.recalled += 1,
                Some(Some(Why::Other)) => counts.dropped += 1,
                // A log delivery exists when it ends.
                None if matches!(audience, Audience::Device(_)) => counts.pending += 1,
                None => {}
            }
        }
        counts.created = counts.delivered + counts.ended_without() + counts.pending;
        counts
    }

    fn only_mailbox_left(&self, device: DeviceNo) -> bool {
        let sent = self.sides[device as usize].sent[1];
        let mut log = self.stored.iter().filter(|stored| stored.audience.source() == Source::AppLog);
        !log.any(|stored| self.story.fleet.is_for(stored.audience, device) && stored.position > sent)
    }
}
