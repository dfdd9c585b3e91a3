//! The checker is checked: clean histories are accepted, and each altered one is rejected for the right reason.

use crate::checker::check;
use crate::history::{Asked, Audience, Counts, DeviceNo, Event, Fleet, Line, Place, Why, hash};
use crate::story::{Story, tell};
use longwire_proto::id::{MessageId, Position, Source};

#[test]
fn clean_histories_are_accepted() {
    let mut kinds = [0; 9];
    for seed in 1..=60 {
        let Story { fleet, lines } = tell(seed);
        assert_eq!(check(&fleet, &lines), [], "seed {seed}");
        for line in &lines {
            match line.event {
                Event::Gap { why: Why::Expired, .. } => kinds[0] += 1,
                Event::Gap { why: Why::Collapsed, .. } => kinds[4] += 1,
                Event::Gap { why: Why::Recalled, .. } => kinds[5] += 1,
                Event::Told { .. } => kinds[6] += 1,
                Event::Invoked { asked: Asked { once: Some(_), .. }, .. } => kinds[7] += 1,
                Event::Fired { .. } => kinds[8] += 1,
                Event::Unknown { .. } => kinds[1] += 1,
                Event::Refused { .. } => kinds[2] += 1,
                Event::Counted { counts, .. } if counts.pending > 0 => kinds[3] += 1,
                _ => {}
            }
        }
    }
    assert!(kinds.iter().all(|count| *count > 5), "the stories hold too little: {kinds:?}");
}

/// What happens to a history, and the invariant that must then be named.
type Alteration = (&'static str, &'static str, fn(&mut Base));

/// Two devices with tag 0, one without. A session of each; device 0 reconnects once.
#[derive(Clone)]
struct Base {
    fleet: Fleet,
    events: Vec<Event>,
}

const HOUR: u64 = 3_600_000_000;
const A: MessageId = MessageId(0xA);
const B: MessageId = MessageId(0xB);
const C: MessageId = MessageId(0xC);
const D: MessageId = MessageId(0xD);

fn place(source: Source, previous: u64, position: u64) -> Place {
    Place { source, position: Position::new(1, position), previous: Position::new(1, previous) }
}

fn invoked(push: u64, audience: Audience) -> Event {
    let asked = Asked::default();
    Event::Invoked { push, audience, ttl_us: HOUR, hash: hash(&push.to_be_bytes()), asked }
}

fn received(device: DeviceNo, session: u64, message: MessageId, place: Place) -> Event {
    // Messages 0xA, 0xB, … are those of pushes 1, 2, ….
    let push = message.0 as u64 - 9;
    Event::Received { device, session, message, place, hash: hash(&push.to_be_bytes()) }
}

fn acked(device: DeviceNo, session: u64, message: MessageId) -> Event {
    Event::Acked { device, session, message }
}

fn counted(message: MessageId, created: u64, delivered: u64) -> Event {
    let counts = Counts { created, delivered, pending: created - delivered, ..Counts::default() };
    Event::Counted { message, counts }
}

/// A and B go to device 0's mailbox, C to tag 0, D to all, push 5 is refused, push 6 has an unknown outcome.
fn base() -> Base {
    use Source::{AppLog, Mailbox};
    let mut events = vec![
        Event::Login { device: 0, session: 100 },
        Event::Login { device: 1, session: 200 },
        Event::Login { device: 2, session: 300 },
    ];
    let audiences = [Audience::Device(0), Audience::Device(0), Audience::Tag(0), Audience::All];
    for (push, (audience, message)) in (1..).zip(audiences.into_iter().zip([A, B, C, D])) {
        events.extend([invoked(push, audience), Event::Accepted { push, message }]);
    }
    events.extend([invoked(5, Audience::All), Event::Refused { push: 5, status: 429 }]);
    events.extend([invoked(6, Audience::All), Event::Unknown { push: 6 }]);
    events.extend([
        received(0, 100, A, place(Mailbox, 0, 1)),
        acked(0, 100, A),
        received(0, 100, B, place(Mailbox, 1, 2)),
        Event::Closed { device: 0, session: 100 },
        Event::Login { device: 0, session: 101 },
        received(0, 101, B, place(Mailbox, 1, 2)),
        acked(0, 101, B),
        received(0, 101, C, place(AppLog, 0, 1)),
        acked(0, 101, C),
        received(0, 101, D, place(AppLog, 1, 2)),
        acked(0, 101, D),
        received(1, 200, C, place(AppLog, 0, 1)),
        acked(1, 200, C),
        received(1, 200, D, place(AppLog, 1, 2)),
        acked(1, 200, D),
        received(2, 300, D, place(AppLog, 0, 2)),
        acked(2, 300, D),
        counted(A, 1, 1),
        counted(B, 1, 1),
        counted(C, 2, 2),
        counted(D, 3, 3),
        Event::Books { counts: Counts { created: 7, delivered: 7, ..Counts::default() }, gap: 0 },
    ]);
    Base { fleet: Fleet { tags: vec![vec![0], vec![0], vec![]] }, events }
}

impl Base {
    fn lines(&self) -> Vec<Line> {
        (1..).zip(&self.events).map(|(at, event)| Line { at_us: at * 1000, event: *event }).collect()
    }
    fn at(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.events.iter().position(wanted).expect("the event to alter")
    }
    fn receipt(&self, device: DeviceNo, message: MessageId) -> usize {
        self.at(
            |e| matches!(e, Event::Received { device: d, message: m, .. } if *d == device && *m == message),
        )
    }
    fn ack(&self, device: DeviceNo, message: MessageId) -> usize {
        self.at(|e| matches!(e, Event::Acked { device: d, message: m, .. } if *d == device && *m == message))
    }
    /// Takes receipt and ack of a message out.
    fn lose(&mut self, device: DeviceNo, message: MessageId) {
        self.events.remove(self.receipt(device, message));
        self.events.remove(self.ack(device, message));
    }
    fn change(&mut self, at: usize, change: impl FnOnce(&mut MessageId, &mut Place, &mut u64)) {
        if let Event::Received { message, place, hash, .. } = &mut self.events[at] {
            change(message, place, hash);
        }
    }
    fn count(&mut self, message: MessageId, change: impl FnOnce(&mut Counts)) {
        let at = self.at(|e| matches!(e, Event::Counted { message: m, .. } if *m == message));
        if let Event::Counted { counts, .. } = &mut self.events[at] {
            change(counts);
        }
    }
    /// A receipt before the last count, in the newest session of device 0.
    fn also(&mut self, message: MessageId, push: u64, source: Source, previous: u64, position: u64) {
        let at = self.at(|e| matches!(e, Event::Counted { .. }));
        let hash = hash(&push.to_be_bytes());
        let place = place(source, previous, position);
        self.events.insert(at, Event::Received { device: 0, session: 101, message, place, hash });
    }
}

const LOSSES: &[Alteration] = &[
    ("an addressed message is lost", "I1", |b| b.lose(0, A)),
    ("the last of a device is lost", "I1", |b| b.lose(2, D)),
    ("a tag member is left out", "I1", |b| b.lose(1, C)),
    ("the server has no record", "I1", |b| {
        let at = b.at(|e| matches!(e, Event::Counted { message, .. } if *message == C));
        b.events.remove(at);
    }),
    ("a receipt in the middle is missing", "I7", |b| b.lose(1, C)),
    ("a session begins after a message that was owed", "I7", |b| {
        b.lose(0, C);
        let at = b.receipt(0, D);
        b.change(at, |_, place, _| place.previous = Position::new(1, 1));
    }),
    ("the chain names another predecessor", "I7", |b| {
        let at = b.receipt(0, D);
        b.change(at, |_, place, _| place.previous = Position::new(1, 0));
    }),
];

const FABRICATIONS: &[Alteration] = &[
    ("a message nobody sent", "I2", |b| b.also(MessageId(0xF), 99, Source::Mailbox, 2, 3)),
    ("the payload is altered", "I2", |b| {
        let at = b.receipt(0, A);
        b.change(at, |_, _, hash| *hash ^= 1);
    }),
    ("two payloads are swapped", "I2", |b| {
        let at = b.receipt(0, C);
        b.change(at, |_, _, hash| *hash = crate::history::hash(&4_u64.to_be_bytes()));
    }),
    ("a device gets another's message", "I2", |b| {
        let at = b.receipt(2, D);
        let stray = received(2, 300, A, place(Source::Mailbox, 0, 1));
        b.events.insert(at, stray);
    }),
    ("a device without the tag gets it", "I2", |b| {
        let at = b.receipt(2, D);
        b.events.insert(at, received(2, 300, C, place(Source::AppLog, 0, 1)));
        b.change(at + 1, |_, place, _| place.previous = Position::new(1, 1));
    }),
    ("an addressed message comes from the log", "I2", |b| {
        let at = b.receipt(0, A);
        b.change(at, |_, place, _| place.source = Source::AppLog);
    }),
    ("it arrives before it was asked for", "I2", |b| {
        let event = b.events.remove(b.receipt(0, A));
        b.events.insert(1, event);
    }),
    ("a refused push arrives", "I3", |b| b.also(MessageId(0xE), 5, Source::AppLog, 2, 3)),
    ("an unknown push becomes two messages", "I4", |b| {
        b.also(MessageId(0xE0), 6, Source::AppLog, 2, 3);
        b.also(MessageId(0xE1), 6, Source::AppLog, 3, 4);
    }),
    ("two pushes get one message id", "I4", |b| {
        let at = b.at(|e| matches!(e, Event::Accepted { push: 2, .. }));
        b.events[at] = Event::Accepted { push: 2, message: A };
    }),
];

const REPEATS_AND_ORDER: &[Alteration] = &[
    ("a message comes twice in a session", "I5", |b| b.also(D, 4, Source::AppLog, 2, 3)),
    ("a repeat right behind", "I5", |b| {
        let at = b.receipt(1, D);
        let again = b.events[at];
        b.events.insert(at + 1, again);
    }),
    ("two receipts change places", "I6", |b| {
        let (first, second) = (b.receipt(1, C), b.receipt(1, D));
        b.events.swap(first, second);
    }),
    ("a message changes its position", "I6", |b| {
        let at = b.at(|e| matches!(e, Event::Received { session: 101, message, .. } if *message == B));
        b.change(at, |_, place, _| place.position = Position::new(1, 3));
    }),
    ("positions go back in a session", "I6", |b| {
        let at = b.receipt(0, D);
        b.change(at, |_, place, _| place.position = Position::new(1, 1));
    }),
    ("the later accepted comes first", "I6", |b| {
        for (device, session) in [(0, 101), (1, 200)] {
            let (first, second) = (b.receipt(device, C), b.receipt(device, D));
            b.events[first] = received(device, session, D, place(Source::AppLog, 0, 1));
            b.events[second] = received(device, session, C, place(Source::AppLog, 1, 2));
        }
        let at = b.receipt(2, D);
        b.change(at, |_, place, _| place.position = Position::new(1, 1));
    }),
    ("a delivery in a session that is over", "I10", |b| {
        let at = b.at(|e| matches!(e, Event::Received { session: 101, message, .. } if *message == B));
        let late = received(0, 100, D, place(Source::AppLog, 0, 2));
        b.events.insert(at, late);
    }),
];

const BOOKS: &[Alteration] = &[
    ("delivered without an ack", "I8", |b| {
        b.events.remove(b.ack(2, D));
    }),
    ("an ack of another message counts", "I8", |b| {
        let at = b.ack(0, A);
        b.events[at] = acked(0, 100, C);
    }),
    ("one delivery too many is counted", "I8", |b| {
        b.count(C, |counts| (counts.created, counts.delivered) = (3, 3));
    }),
    ("an ack is not counted", "I12", |b| b.count(D, |counts| (counts.created, counts.delivered) = (2, 2))),
    ("it waits for a device that is there", "I13", |b| {
        b.lose(0, A);
        b.count(A, |counts| (counts.delivered, counts.pending) = (0, 1));
    }),
    ("the sum does not hold", "I12", |b| b.count(A, |counts| counts.pending = 1)),
    ("an addressed delivery was never created", "I12", |b| b.count(A, |counts| *counts = Counts::default())),
    ("more deliveries than devices", "I12", |b| {
        b.count(C, |counts| (counts.created, counts.pending) = (9, 7));
    }),
    ("expired before the deadline", "I9", |b| {
        b.count(C, |counts| (counts.delivered, counts.expired) = (1, 1));
    }),
    ("announced as expired before the deadline", "I9", |b| {
        let at = b.receipt(2, D);
        let place = place(Source::AppLog, 0, 2);
        b.events[at] = Event::Gap { device: 2, session: 300, message: D, place, count: 1, why: Why::Expired };
    }),
    ("delivered long after the deadline", "I9", |b| {
        let at = b.at(|e| matches!(e, Event::Invoked { push: 4, .. }));
        if let Event::Invoked { ttl_us, .. } = &mut b.events[at] {
            *ttl_us = 1_000;
        }
        // Time passes in thousandths: fill in what makes it late.
        let before = b.receipt(1, D);
        let idle = Event::Unknown { push: 6 };
        b.events.splice(before..before, std::iter::repeat_n(idle, 13_000));
    }),
];

/// Push 2, to the same device as push 1, has its key and was asked for when 1 had been accepted.
fn replaced(b: &mut Base) {
    for wanted in [1, 2] {
        let at = b.at(|e| matches!(e, Event::Invoked { push, .. } if *push == wanted));
        if let Event::Invoked { asked, .. } = &mut b.events[at] {
            asked.key = Some(1);
        }
    }
}

/// A message is recalled right after it was accepted; nobody is told.
fn recalled(b: &mut Base, wanted: MessageId) {
    let at = b.at(|e| matches!(e, Event::Accepted { message, .. } if *message == wanted)) + 1;
    b.events.insert(at, Event::Recalled { message: wanted });
    b.events.insert(at, Event::Recalling { message: wanted });
}

fn books(b: &mut Base, change: impl FnOnce(&mut Counts, &mut u64)) {
    let at = b.at(|e| matches!(e, Event::Books { .. }));
    if let Event::Books { counts, gap } = &mut b.events[at] {
        change(counts, gap);
    }
}

/// Push 3 was for later, and became these.
fn planned(b: &mut Base, made: &[MessageId]) {
    let at = b.at(|e| matches!(e, Event::Accepted { push: 3, .. }));
    b.events[at] = Event::Planned { push: 3 };
    let at = b.at(|e| matches!(e, Event::Counted { .. }));
    for &message in made {
        b.events.insert(at, Event::Fired { push: 3, message });
    }
}

const LIFE: &[Alteration] = &[
    ("what is for later never becomes a message", "I1", |b| {
        planned(b, &[]);
        b.lose(0, C);
        b.lose(1, C);
    }),
    ("what is for later becomes two messages", "I4", |b| planned(b, &[C, MessageId(0xC1)])),
    ("what is for later arrives under another id too", "I4", |b| {
        planned(b, &[C]);
        b.also(MessageId(0xC1), 3, Source::AppLog, 2, 3);
    }),
    ("what failed when it was due arrives", "I3", |b| {
        planned(b, &[]);
        let at = b.at(|e| matches!(e, Event::Counted { .. }));
        b.events.insert(at, Event::Refused { push: 3, status: 0 });
    }),
    ("one key of the caller makes two messages", "I4", |b| {
        for wanted in [1, 2] {
            let at = b.at(|e| matches!(e, Event::Invoked { push, .. } if *push == wanted));
            if let Event::Invoked { asked, .. } = &mut b.events[at] {
                asked.once = Some(7);
            }
        }
    }),
    ("a replaced message comes in a later session", "collapse", |b| {
        replaced(b);
        let login = b.at(|e| matches!(e, Event::Login { session: 101, .. }));
        b.events.insert(login + 1, received(0, 101, A, place(Source::Mailbox, 0, 1)));
    }),
    ("a message ends as replaced, and there is no newer one", "collapse", |b| {
        b.count(C, |counts| (counts.delivered, counts.collapsed) = (1, 1));
    }),
    ("a replacement is announced, and there is no newer one", "collapse", |b| {
        let at = b.receipt(2, D);
        let place = place(Source::AppLog, 0, 2);
        b.events[at] =
            Event::Gap { device: 2, session: 300, message: D, place, count: 1, why: Why::Collapsed };
    }),
    ("one that was replaced is counted as replaced twice", "I12", |b| {
        replaced(b);
        b.count(A, |counts| (counts.created, counts.collapsed) = (2, 1));
    }),
    ("a recalled message comes in a later session", "recall", |b| recalled(b, B)),
    ("a message ends as recalled, and nobody recalled it", "recall", |b| {
        b.count(C, |counts| (counts.delivered, counts.recalled) = (1, 1));
    }),
    ("a recall is announced, and nobody asked for it", "recall", |b| {
        let at = b.receipt(2, D);
        let place = place(Source::AppLog, 0, 2);
        b.events[at] =
            Event::Gap { device: 2, session: 300, message: D, place, count: 1, why: Why::Recalled };
    }),
    ("a device is told of a recall that nobody asked for", "I2", |b| {
        let at = b.at(|e| matches!(e, Event::Counted { .. }));
        let (message, place) = (MessageId(0xF0), place(Source::Mailbox, 2, 3));
        b.events.insert(at, Event::Told { device: 0, session: 101, message, place, of: A });
    }),
    ("a device is told of a recall of what was never for it", "I2", |b| {
        recalled(b, A);
        let at = b.at(|e| matches!(e, Event::Counted { .. }));
        let (message, place) = (MessageId(0xF0), place(Source::Mailbox, 0, 1));
        b.events.insert(at, Event::Told { device: 2, session: 300, message, place, of: A });
    }),
    ("an older connection stays beside the newer one", "I11", |b| {
        let at = b.at(|e| matches!(e, Event::Counted { .. }));
        b.events.insert(at, Event::Displaced { device: 0, session: 100, ended: false });
    }),
    ("an ack of a session that was displaced counts", "I8", |b| {
        let at = b.ack(0, B);
        b.events[at] = acked(0, 100, B);
    }),
    ("the app's books have a gap of one", "I12", |b| books(b, |_, gap| *gap = 1)),
    ("the app's books do not add up", "I12", |b| books(b, |counts, _| counts.created += 1)),
    ("the app's books forget a message", "I12", |b| {
        books(b, |counts, _| (counts.created, counts.delivered) = (6, 6));
    }),
];

#[test]
fn histories_with_broken_replacement_recall_and_books_are_rejected() {
    rejects(LIFE);
}

#[test]
fn at_least_forty_alterations_are_known() {
    let all = [LOSSES, FABRICATIONS, REPEATS_AND_ORDER, BOOKS, LIFE];
    assert!(all.iter().map(|part| part.len()).sum::<usize>() >= 40);
}

fn rejects(alterations: &[Alteration]) {
    assert_eq!(check(&base().fleet, &base().lines()), []);
    for (name, invariant, alter) in alterations {
        let mut altered = base();
        alter(&mut altered);
        let breaches = check(&altered.fleet, &altered.lines());
        let named = breaches.iter().any(|breach| breach.invariant == *invariant);
        assert!(named, "`{name}` must break {invariant}, found {breaches:?}");
    }
}

#[test]
fn histories_with_losses_and_holes_are_rejected() {
    rejects(LOSSES);
}

#[test]
fn histories_with_fabrications_are_rejected() {
    rejects(FABRICATIONS);
}

#[test]
fn histories_with_repeats_and_wrong_order_are_rejected() {
    rejects(REPEATS_AND_ORDER);
}

#[test]
fn histories_whose_books_are_wrong_are_rejected() {
    rejects(BOOKS);
}

#[test]
fn a_clean_history_with_one_receipt_taken_out_is_rejected_wherever_it_stood() {
    for seed in 1..=20 {
        let Story { fleet, lines } = tell(seed);
        let firsts = first_and_only_receipts(&lines);
        assert!(!firsts.is_empty(), "seed {seed} delivers nothing");
        for at in firsts {
            let mut altered = lines.clone();
            altered.remove(at);
            assert_ne!(check(&fleet, &altered), [], "seed {seed}, line {at}");
        }
    }
}

/// Lines of accepted messages that their device got exactly once, and acked.
fn first_and_only_receipts(lines: &[Line]) -> Vec<usize> {
    let accepted = |wanted: MessageId| {
        lines.iter().any(|line| matches!(line.event, Event::Accepted { message, .. } if message == wanted))
    };
    let acked = |wanted: (DeviceNo, MessageId)| {
        lines.iter().any(
            |line| matches!(line.event, Event::Acked { device, message, .. } if (device, message) == wanted),
        )
    };
    let who = |line: &Line| match line.event {
        Event::Received { device, message, .. } => Some((device, message)),
        _ => None,
    };
    let times = |pair| lines.iter().filter(|line| who(line) == Some(pair)).count();
    let single = |(at, line): (usize, &Line)| {
        let pair = who(line)?;
        (times(pair) == 1 && accepted(pair.1) && acked(pair)).then_some(at)
    };
    lines.iter().enumerate().filter_map(single).collect()
}
