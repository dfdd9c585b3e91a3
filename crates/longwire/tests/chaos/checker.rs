//! Decides from a history whether the promises held. The letters and numbers of the invariants:
//!
//! - I1 no loss: every 202 reached every device that it was for, or the records say expired, dropped or pending.
//! - I2 no fabrication: what arrives was asked for, for this device, with these bytes.
//! - I3 refused means refused. I4 one request makes at most one message; one for later makes one.
//! - I5 no repeat inside a session.
//! - I6 order: positions rise inside a session, first deliveries rise over a device's life, a message keeps its
//!   position, and what was accepted before another was asked for comes before it.
//! - I7 the chain of `previous` has no hole. I8 "delivered" only after an ack.
//! - I9 nothing late, nothing expired early. I10 deliveries only inside the device's newest session.
//! - I11 a newer login ends the older connection. I12 the books of every message and of the app balance.
//! - I13 when all is quiet nothing is pending that was acked, or whose device is logged in.
//! - `collapse` and `recall`: what was replaced or recalled is not sent in a session that begins afterwards, and nothing
//!   ends so without a cause.
//!
//! For I1 of `all` and tags every device must have read its log to the end before the counts are taken.

use crate::history::{Asked, Audience, Counts, DeviceNo, Event, Fleet, Line, Place, PushNo, SessionNo, Why};
use longwire_proto::id::{MessageId, Position, Source};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// How much later than its deadline a device may see a message: the sweep, and a test thread that waits for a core.
const LATE_US: u64 = 12_000_000;
/// The server counts a deadline in whole milliseconds of the wall clock.
const EARLY_US: u64 = 5_000;

/// One broken promise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Breach {
    /// Which invariant.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Open,
    Accepted,
    Refused,
}

pub(super) struct Attempt {
    pub(super) audience: Audience,
    ttl_us: u64,
    hash: u64,
    pub(super) asked: Asked,
    pub(super) invoked: u64,
    /// When the answer came; `MAX` when none did.
    pub(super) done: u64,
    pub(super) outcome: Outcome,
    /// One request of its key got no answer: a refusal of another does not say that it was refused.
    uncertain: bool,
    pub(super) message: Option<MessageId>,
}

impl Attempt {
    pub(super) fn is_addressed(&self) -> bool {
        matches!(self.audience, Audience::Device(_))
    }
    /// What is certain of its outcome.
    pub(super) fn certainly(&self) -> Outcome {
        match self.outcome {
            Outcome::Refused if self.uncertain => Outcome::Open,
            outcome => outcome,
        }
    }
}

/// One source as one device saw it.
#[derive(Default)]
struct Stream {
    /// Last position in the session that runs.
    in_session: Option<Position>,
    /// Highest position ever received or announced.
    reached: Position,
    /// The messages by position, for the order of real time and the skipped parts.
    places: BTreeMap<Position, MessageId>,
    /// Skipped intervals (after, up to and with) that must hold nothing for this device.
    skipped: Vec<(Position, Position)>,
}

#[derive(Default)]
pub(super) struct Device {
    session: Option<SessionNo>,
    /// When that session began.
    began: u64,
    seen_in_session: HashSet<MessageId>,
    pub(super) received: HashMap<MessageId, Position>,
    pub(super) gaps: HashSet<MessageId>,
    /// Left out without an id.
    pub(super) unnamed_gaps: u64,
    /// In the session that was the device's newest then.
    pub(super) acked: HashSet<MessageId>,
    mailbox: Stream,
    log: Stream,
}

pub(super) struct Checker<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) attempts: HashMap<PushNo, Attempt>,
    by_hash: HashMap<u64, PushNo>,
    /// The first request of each of the caller's keys, and who repeated it.
    once: HashMap<u64, PushNo>,
    repeats: HashMap<PushNo, PushNo>,
    /// Accepted for later, and not a message yet.
    pub(super) planned: BTreeSet<PushNo>,
    pub(super) by_message: HashMap<MessageId, PushNo>,
    pub(super) devices: Vec<Device>,
    pub(super) counted: HashMap<MessageId, Counts>,
    pub(super) books: Option<(Counts, u64)>,
    /// When a recall was asked for, and when it was answered.
    pub(super) recalling: HashMap<MessageId, u64>,
    pub(super) recalled: HashMap<MessageId, u64>,
    /// Which message tells of which recall.
    told: HashMap<MessageId, MessageId>,
    /// Each receipt of a message, with the moment at which its session began.
    pub(super) receipts: Vec<(DeviceNo, MessageId, u64)>,
    /// What was announced as left out, and why.
    pub(super) announced: Vec<(MessageId, Why)>,
    log_places: BTreeMap<Position, MessageId>,
    breaches: Vec<Breach>,
}

/// Every broken promise in a history whose lines are in the order of their times; none = valid.
pub fn check(fleet: &Fleet, history: &[Line]) -> Vec<Breach> {
    let mut checker = Checker {
        fleet,
        attempts: HashMap::new(),
        by_hash: HashMap::new(),
        once: HashMap::new(),
        repeats: HashMap::new(),
        planned: BTreeSet::new(),
        books: None,
        recalling: HashMap::new(),
        recalled: HashMap::new(),
        told: HashMap::new(),
        receipts: Vec::new(),
        announced: Vec::new(),
        by_message: HashMap::new(),
        devices: fleet.tags.iter().map(|_| Device::default()).collect(),
        counted: HashMap::new(),
        log_places: BTreeMap::new(),
        breaches: Vec::new(),
    };
    history.iter().for_each(|line| checker.index(line));
    history.iter().for_each(|line| checker.read(line));
    checker.judge_skipped();
    checker.judge_real_time();
    checker.judge_ends();
    checker.judge_books();
    checker.judge_life();
    checker.breaches
}

impl Checker<'_> {
    pub(super) fn breach(&mut self, invariant: &'static str, what: String) {
        self.breaches.push(Breach { invariant, what });
    }

    /// First pass: what was asked and answered, and which message belongs to which request.
    fn index(&mut self, line: &Line) {
        match line.event {
            Event::Invoked { push, asked: Asked { once: Some(once), .. }, .. }
                if *self.once.entry(once).or_insert(push) != push =>
            {
                self.repeats.insert(push, self.once[&once]);
            }
            Event::Invoked { push, audience, ttl_us, hash, asked } => {
                let attempt = Attempt {
                    audience,
                    ttl_us,
                    hash,
                    asked,
                    invoked: line.at_us,
                    done: u64::MAX,
                    outcome: Outcome::Open,
                    uncertain: false,
                    message: None,
                };
                self.attempts.insert(push, attempt);
                self.by_hash.insert(hash, push);
            }
            Event::Accepted { push, message } => {
                let push = self.first(push);
                self.answer(push, line.at_us, Outcome::Accepted);
                self.belongs(message, push);
            }
            Event::Planned { push } => drop(self.planned.insert(push)),
            Event::Fired { push, message } => {
                self.planned.remove(&push);
                // Until it was due it had no place: others may come before it, however late they were asked for.
                self.answer(push, u64::MAX, Outcome::Accepted);
                self.belongs(message, push);
            }
            // One refused and repeated with its key may still be accepted.
            Event::Refused { push, .. } => {
                self.planned.remove(&push);
                self.answer(self.first(push), line.at_us, Outcome::Refused);
            }
            Event::Unknown { push } => {
                let push = self.first(push);
                if let Some(attempt) = self.attempts.get_mut(&push) {
                    attempt.uncertain = true;
                }
            }
            Event::Recalling { message } => {
                self.recalling.entry(message).or_insert(line.at_us);
            }
            Event::Recalled { message } => {
                self.recalled.entry(message).or_insert(line.at_us);
            }
            _ => {}
        }
    }

    /// The first request with the same key of the caller.
    fn first(&self, push: PushNo) -> PushNo {
        self.repeats.get(&push).copied().unwrap_or(push)
    }

    fn answer(&mut self, push: PushNo, at: u64, outcome: Outcome) {
        if let Some(attempt) = self.attempts.get_mut(&push)
            && attempt.outcome != Outcome::Accepted
        {
            attempt.done = at;
            attempt.outcome = outcome;
        }
    }

    fn belongs(&mut self, message: MessageId, push: PushNo) {
        let other = self.by_message.insert(message, push).filter(|other| *other != push);
        let own = self.attempts.get_mut(&push).and_then(|attempt| attempt.message.replace(message));
        if other.is_some() || own.is_some_and(|own| own != message) {
            self.breach("I4", format!("push {push} and message {message} do not belong to each other alone"));
        }
    }

    /// Second pass: what the devices saw.
    fn read(&mut self, line: &Line) {
        match line.event {
            Event::Login { device, session } => {
                let known = &mut self.devices[device as usize];
                known.session = Some(session);
                known.began = line.at_us;
                known.seen_in_session.clear();
                known.mailbox.in_session = None;
                known.log.in_session = None;
            }
            Event::Closed { device, session } => {
                let known = &mut self.devices[device as usize];
                known.session = known.session.filter(|current| *current != session);
            }
            Event::Received { device, session, message, place, hash } => {
                self.received(line.at_us, device, message, place, hash);
                self.receipts.push((device, message, self.devices[device as usize].began));
                self.in_session(device, session, message, place);
            }
            Event::Gap { device, session, message, place, count, why } => {
                if message == MessageId(0) {
                    self.devices[device as usize].unnamed_gaps += u64::from(count);
                } else {
                    self.devices[device as usize].gaps.insert(message);
                    self.not_early(line.at_us, message, why == Why::Expired);
                    self.announced.push((message, why));
                }
                self.in_session(device, session, message, place);
            }
            Event::Acked { device, session, message } => {
                let known = &mut self.devices[device as usize];
                if known.session == Some(session) {
                    known.acked.insert(message);
                }
            }
            Event::Told { device, session, message, place, of } => {
                self.told(device, message, of);
                self.in_session(device, session, message, place);
            }
            Event::Displaced { device, ended: false, .. } => {
                self.breach("I11", format!("device {device} has an older connection that does not end"));
            }
            Event::Books { counts, gap } => self.books = Some((counts, gap)),
            Event::Counted { message, counts } => {
                self.counted.insert(message, counts);
                self.not_early(line.at_us, message, counts.expired > 0);
                self.not_kept_back(message, counts);
            }
            _ => {}
        }
    }

    fn received(&mut self, at: u64, device: DeviceNo, message: MessageId, place: Place, hash: u64) {
        if !self.by_message.contains_key(&message)
            && let Some(push) = self.by_hash.get(&hash).copied()
        {
            self.belongs(message, push);
        }
        let Some(attempt) = self.by_message.get(&message).and_then(|push| self.attempts.get(push)) else {
            return self.breach("I2", format!("device {device} got {message}, which nobody sent"));
        };
        let right = attempt.hash == hash && attempt.invoked <= at;
        let right =
            right && self.fleet.is_for(attempt.audience, device) && attempt.audience.source() == place.source;
        let refused = attempt.certainly() == Outcome::Refused;
        let late = attempt.done != u64::MAX && at > attempt.done + attempt.ttl_us + LATE_US;
        if !right {
            self.breach("I2", format!("device {device} got {message} altered, early, or for somebody else"));
        }
        if refused {
            self.breach("I3", format!("device {device} got {message}, which was refused"));
        }
        if late {
            self.breach("I9", format!("device {device} got {message} after its deadline"));
        }
        let known = &mut self.devices[device as usize];
        let earlier = known.received.insert(message, place.position);
        let stream = known.stream(place.source);
        let not_rising = earlier.is_none() && place.position <= stream.reached;
        stream.places.insert(place.position, message);
        if place.source == Source::AppLog {
            self.log_places.insert(place.position, message);
        }
        if earlier.is_some_and(|position| position != place.position) || not_rising {
            self.breach(
                "I6",
                format!("device {device} got {message} out of its place, at {:?}", place.position),
            );
        }
    }

    /// A message that tells of a recall.
    fn told(&mut self, device: DeviceNo, message: MessageId, of: MessageId) {
        let attempt = self.by_message.get(&of).and_then(|push| self.attempts.get(push));
        let owed = attempt.is_some_and(|attempt| self.fleet.is_for(attempt.audience, device));
        if !owed || !self.recalling.contains_key(&of) {
            self.breach("I2", format!("device {device} was told of a recall of {of}, which nobody recalled"));
        }
        if *self.told.entry(message).or_insert(of) != of || self.by_message.contains_key(&message) {
            self.breach("I4", format!("{message} tells of two things"));
        }
        self.devices[device as usize].received.insert(message, Position::START);
    }

    /// Repeats, order and chain inside one session.
    fn in_session(&mut self, device: DeviceNo, session: SessionNo, message: MessageId, place: Place) {
        let known = &mut self.devices[device as usize];
        let current = known.session == Some(session);
        let repeated = message != MessageId(0) && !known.seen_in_session.insert(message);
        let stream = known.stream(place.source);
        let before = stream.in_session.replace(place.position);
        let rising = before.is_none_or(|before| place.position > before) && place.previous < place.position;
        let chained = before.is_none_or(|before| place.previous == before);
        if before.is_none() && place.previous > stream.reached {
            stream.skipped.push((stream.reached, place.previous));
        }
        stream.reached = stream.reached.max(place.position);
        if !current {
            self.breach("I10", format!("device {device} got {message} outside its session"));
        }
        if repeated {
            self.breach("I5", format!("device {device} got {message} twice in session {session}"));
        }
        if !rising {
            self.breach("I6", format!("device {device}: positions do not rise at {message}"));
        }
        if !chained {
            self.breach("I7", format!("device {device}: the chain has a hole before {message}"));
        }
    }

    fn not_early(&mut self, at: u64, message: MessageId, expired: bool) {
        let attempt = self.by_message.get(&message).and_then(|push| self.attempts.get(push));
        if expired && attempt.is_some_and(|attempt| at + EARLY_US < attempt.invoked + attempt.ttl_us) {
            self.breach("I9", format!("{message} expired before its deadline"));
        }
    }

    /// When all is quiet a device that is logged in has got all that is for it alone.
    fn not_kept_back(&mut self, message: MessageId, counts: Counts) {
        let attempt = self.by_message.get(&message).and_then(|push| self.attempts.get(push));
        if let Some(Audience::Device(device)) = attempt.map(|attempt| attempt.audience)
            && counts.pending > 0
            && self.devices[device as usize].session.is_some()
        {
            self.breach("I13", format!("{message} is pending, and device {device} is there: {counts:?}"));
        }
    }

    /// What a session began after must hold nothing that this device was owed.
    fn judge_skipped(&mut self) {
        let mut found = Vec::new();
        for (device, known) in self.devices.iter().enumerate() {
            for (stream, places) in [(&known.mailbox, &known.mailbox.places), (&known.log, &self.log_places)]
            {
                for (after, with) in &stream.skipped {
                    let inside = places.range(*after..=*with).filter(|(position, _)| *position > after);
                    found.extend(inside.map(|(_, message)| (device as DeviceNo, *message)));
                }
            }
        }
        for (device, message) in found {
            let attempt = self.by_message.get(&message).and_then(|push| self.attempts.get(push));
            if attempt.is_some_and(|attempt| self.fleet.is_for(attempt.audience, device)) {
                self.breach("I7", format!("device {device} was led past {message}"));
            }
        }
    }

    /// Nothing that was accepted before another was even asked for may have a later place.
    fn judge_real_time(&mut self) {
        let mut found = Vec::new();
        let streams = self.devices.iter().map(|known| &known.mailbox.places).chain([&self.log_places]);
        for places in streams {
            let mut latest_invoked = 0;
            for message in places.values() {
                let Some(attempt) = self.by_message.get(message).and_then(|push| self.attempts.get(push))
                else {
                    continue;
                };
                if latest_invoked > attempt.done {
                    found.push(*message);
                }
                latest_invoked = latest_invoked.max(attempt.invoked);
            }
        }
        for message in found {
            self.breach(
                "I6",
                format!("{message} was accepted before another was asked for, but comes after it"),
            );
        }
    }
}

impl Device {
    fn stream(&mut self, source: Source) -> &mut Stream {
        match source {
            Source::Mailbox => &mut self.mailbox,
            Source::AppLog => &mut self.log,
        }
    }
}
