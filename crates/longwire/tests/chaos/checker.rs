//! Decides from a history whether the promises held. The letters and numbers of the invariants:
//!
//! - I1 no loss: every 202 reached every device that it was for, or the records say expired, dropped or pending.
//! - I2 no fabrication: what arrives was asked for, for this device, with these bytes.
//! - I3 refused means refused. I4 one request makes at most one message.
//! - I5 no repeat inside a session.
//! - I6 order: positions rise inside a session, first deliveries rise over a device's life, a message keeps its
//!   position, and what was accepted before another was asked for comes before it.
//! - I7 the chain of `previous` has no hole. I8 "delivered" only after an ack.
//! - I9 nothing late, nothing expired early. I10 deliveries only inside the device's newest session.
//! - I12 the books of every message balance.
//!
//! For I1 of `all` and tags every device must have read its log to the end before the counts are taken.

use crate::history::{Audience, Counts, DeviceNo, Event, Fleet, Line, Place, PushNo, SessionNo};
use longwire_proto::id::{MessageId, Position, Source};
use std::collections::{BTreeMap, HashMap, HashSet};

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
enum Outcome {
    Open,
    Accepted,
    Refused,
}

struct Attempt {
    audience: Audience,
    ttl_us: u64,
    hash: u64,
    invoked: u64,
    /// When the answer came; `MAX` when none did.
    done: u64,
    outcome: Outcome,
    message: Option<MessageId>,
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
struct Device {
    session: Option<SessionNo>,
    seen_in_session: HashSet<MessageId>,
    received: HashMap<MessageId, Position>,
    gaps: HashSet<MessageId>,
    /// Left out without an id.
    unnamed_gaps: u64,
    acked: HashSet<MessageId>,
    mailbox: Stream,
    log: Stream,
}

struct Checker<'a> {
    fleet: &'a Fleet,
    attempts: HashMap<PushNo, Attempt>,
    by_hash: HashMap<u64, PushNo>,
    by_message: HashMap<MessageId, PushNo>,
    devices: Vec<Device>,
    counted: HashMap<MessageId, Counts>,
    log_places: BTreeMap<Position, MessageId>,
    breaches: Vec<Breach>,
}

/// Every broken promise in a history whose lines are in the order of their times; none = valid.
pub fn check(fleet: &Fleet, history: &[Line]) -> Vec<Breach> {
    let mut checker = Checker {
        fleet,
        attempts: HashMap::new(),
        by_hash: HashMap::new(),
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
    checker.breaches
}

impl Checker<'_> {
    fn breach(&mut self, invariant: &'static str, what: String) {
        self.breaches.push(Breach { invariant, what });
    }

    /// First pass: what was asked and answered, and which message belongs to which request.
    fn index(&mut self, line: &Line) {
        match line.event {
            Event::Invoked { push, audience, ttl_us, hash } => {
                let attempt = Attempt {
                    audience,
                    ttl_us,
                    hash,
                    invoked: line.at_us,
                    done: u64::MAX,
                    outcome: Outcome::Open,
                    message: None,
                };
                self.attempts.insert(push, attempt);
                self.by_hash.insert(hash, push);
            }
            Event::Accepted { push, message } => {
                self.answer(push, line.at_us, Outcome::Accepted);
                self.belongs(message, push);
            }
            Event::Refused { push, .. } => self.answer(push, line.at_us, Outcome::Refused),
            _ => {}
        }
    }

    fn answer(&mut self, push: PushNo, at: u64, outcome: Outcome) {
        if let Some(attempt) = self.attempts.get_mut(&push) {
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
                self.in_session(device, session, message, place);
            }
            Event::Gap { device, session, message, place, count, expired } => {
                if message == MessageId(0) {
                    self.devices[device as usize].unnamed_gaps += u64::from(count);
                } else {
                    self.devices[device as usize].gaps.insert(message);
                    self.not_early(line.at_us, message, expired);
                }
                self.in_session(device, session, message, place);
            }
            Event::Acked { device, message, .. } => {
                self.devices[device as usize].acked.insert(message);
            }
            Event::Counted { message, counts } => {
                self.counted.insert(message, counts);
                self.not_early(line.at_us, message, counts.expired > 0);
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
        let refused = attempt.outcome == Outcome::Refused;
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

    /// What became of every accepted message.
    fn judge_ends(&mut self) {
        let accepted: Vec<(MessageId, Audience)> = self
            .attempts
            .values()
            .filter(|attempt| attempt.outcome == Outcome::Accepted)
            .filter_map(|attempt| Some((attempt.message?, attempt.audience)))
            .collect();
        for (message, audience) in accepted {
            match self.counted.get(&message).copied() {
                Some(counts) => self.judge_end(message, audience, counts),
                None => {
                    self.breach("I1", format!("{message} was accepted, and the server has no record of it"))
                }
            }
        }
    }

    fn judge_end(&mut self, message: MessageId, audience: Audience, counts: Counts) {
        let (mut missing, mut gaps, mut acked, mut unnamed) = (0, 0, 0, 0);
        for device in self.fleet.members(audience) {
            let known = &self.devices[device as usize];
            acked += u64::from(known.acked.contains(&message));
            gaps += u64::from(known.gaps.contains(&message));
            if !known.received.contains_key(&message) && !known.gaps.contains(&message) {
                missing += 1;
                unnamed += known.unnamed_gaps.min(1);
            }
        }
        let Counts { created, delivered, expired, dropped, pending } = counts;
        let excused = pending + (expired + dropped).saturating_sub(gaps) + unnamed;
        if missing > excused {
            self.breach(
                "I1",
                format!("{message} is lost for {missing} devices; records excuse {excused}: {counts:?}"),
            );
        }
        if delivered > acked {
            self.breach("I8", format!("{message}: {delivered} delivered, {acked} acked"));
        }
        let unsettled = acked.saturating_sub(delivered) > pending + expired;
        let members = self.fleet.members(audience).count() as u64;
        let addressed = matches!(audience, Audience::Device(_));
        let too_many = if addressed { created != members } else { created > members };
        if created != delivered + expired + dropped + pending || unsettled || too_many {
            self.breach("I12", format!("{message}: the books do not balance: {counts:?}, {acked} acked"));
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
