//! High messages go ahead of their turn: both ends, a store, and connections that break, under every interleaving that
//! chance finds.

#![allow(clippy::unwrap_used)]

use longwire_proto::id::{ClientId, Kind, MessageId, Position, Source, TraceId};
use longwire_proto::limit::{AHEAD_MESSAGES_MAX, WINDOW_MESSAGES_MAX};
use longwire_proto::session::{
    AwaitingConnect, ClientSession, Credentials, Established, FeedStart, FromDevice, FromServer, Memory,
    Millis, Offer, PageEntry, Pull,
};
use longwire_proto::wire::{AckKind, BackOff, Class, Network, Push, ServerFrame, Welcome, push_flags};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const DEVICE: ClientId = ClientId(42);
const SOURCES: [Source; 2] = [Source::Mailbox, Source::AppLog];

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// So many messages are committed, each high or not, to a source.
    Commit(bool, Vec<bool>),
    /// The shard takes a command of the hub.
    Command,
    /// The store reads a page that was asked for.
    Read,
    /// The shard takes a page.
    Page,
    /// So many bytes reach the device.
    ToDevice(usize),
    /// The device acks one of what it has, by this number.
    Ack(usize),
    /// All acks reach the server.
    ToServer,
    /// The store records ends.
    Settle,
    /// The connection breaks, and the device logs in again.
    Break,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (any::<bool>(), prop::collection::vec(prop::bool::weighted(0.2), 1..40)).prop_map(|(log, high)| Step::Commit(log, high)),
        8 => Just(Step::Command),
        6 => Just(Step::Read),
        6 => Just(Step::Page),
        6 => (1_usize..2000).prop_map(Step::ToDevice),
        8 => any::<usize>().prop_map(Step::Ack),
        6 => Just(Step::ToServer),
        4 => Just(Step::Settle),
        1 => Just(Step::Break),
    ]
}

/// A message of the store.
#[derive(Clone, Copy, Debug)]
struct Item {
    message: MessageId,
    high: bool,
}

type Place = (Source, Position);

/// A page as the store read it.
struct Page {
    pull: Pull,
    ahead: Vec<(Position, Item)>,
    more_ahead: bool,
    entries: Vec<(Position, Item)>,
    end: bool,
}

/// One connection.
struct Live {
    server: Established,
    device: ClientSession,
    commands: VecDeque<(Place, Item)>,
    asked: VecDeque<(Pull, Vec<Position>)>,
    pages: VecDeque<Page>,
    to_device: VecDeque<u8>,
    to_server: Vec<u8>,
    unacked: Vec<MessageId>,
    /// What was sent in this session, in turn or ahead.
    sent: BTreeSet<MessageId>,
    ahead: BTreeSet<Place>,
    reached: [Position; 2],
}

struct World {
    /// What has no end.
    waiting: [BTreeMap<Position, Item>; 2],
    next: [u64; 2],
    ends: VecDeque<Place>,
    places: BTreeMap<MessageId, Place>,
    own: [BTreeSet<Position>; 2],
    live: Live,
    /// What the device showed.
    shown: BTreeMap<MessageId, u32>,
    went_ahead: u32,
}

fn place(sequence: u64) -> Position {
    Position::new(1, sequence)
}

fn index(source: Source) -> usize {
    usize::from(source == Source::AppLog)
}

/// Where a feed begins: a mailbox behind the last place that has nothing unsettled before it, a log behind the last of the
/// device's own.
fn start(
    source: Source,
    waiting: &BTreeMap<Position, Item>,
    own: &BTreeSet<Position>,
    next: u64,
) -> FeedStart {
    match (waiting.keys().next(), source) {
        (Some(first), Source::Mailbox) => FeedStart { last: place(first.sequence() - 1), waiting: true },
        (Some(first), Source::AppLog) => {
            FeedStart { last: own.range(..first).next_back().copied().unwrap_or(place(0)), waiting: true }
        }
        (None, Source::Mailbox) => FeedStart { last: place(next - 1), waiting: false },
        (None, Source::AppLog) => FeedStart { last: own.last().copied().unwrap_or(place(0)), waiting: false },
    }
}

impl Live {
    fn login(memory: Memory, starts: [FeedStart; 2]) -> Live {
        let credentials = Credentials {
            app_key: "app".into(),
            token: "token".into(),
            client: DEVICE,
            network: Network::Wifi,
            class: Class::Phone,
            heartbeat_s: 60,
        };
        let mut hello = Vec::new();
        let device = ClientSession::begin(&credentials, memory, Millis(0), &mut hello);
        let mut awaiting = AwaitingConnect::default();
        awaiting.receive(&mut &hello[..]).unwrap().unwrap();
        let server = awaiting.decide(60).accept(DEVICE, starts[0], starts[1]);
        let mut welcome = Vec::new();
        let answer = Welcome {
            node: "n".into(),
            heartbeat_s: 60,
            phase: 0,
            padding_max: 0,
            heartbeat_min_s: 5,
            heartbeat_max_s: 600,
            window: 36,
            server_time_ms: 0,
            back_off: BackOff::default(),
        };
        ServerFrame::Welcome(answer).encode(DEVICE, &mut welcome);
        Live {
            server,
            device,
            commands: VecDeque::new(),
            asked: VecDeque::new(),
            pages: VecDeque::new(),
            to_device: welcome.into(),
            to_server: Vec::new(),
            unacked: Vec::new(),
            sent: BTreeSet::new(),
            ahead: BTreeSet::new(),
            reached: starts.map(|start| start.last),
        }
    }
}

impl World {
    fn new() -> World {
        let starts = [FeedStart { last: place(0), waiting: false }; 2];
        World {
            waiting: Default::default(),
            next: [1; 2],
            ends: VecDeque::new(),
            places: BTreeMap::new(),
            own: Default::default(),
            live: Live::login(Memory::default(), starts),
            shown: BTreeMap::new(),
            went_ahead: 0,
        }
    }

    fn commit(&mut self, source: Source, high: bool) {
        let at = index(source);
        // The log has places of others between.
        self.next[at] += if source == Source::AppLog { self.next[at] % 3 } else { 0 };
        let position = place(self.next[at]);
        self.next[at] += 1;
        let message = MessageId(((at as u128 + 1) << 64) | u128::from(position.sequence()));
        let item = Item { message, high };
        self.waiting[at].insert(position, item);
        self.places.insert(message, (source, position));
        self.own[at].insert(position);
        self.live.commands.push_back(((source, position), item));
    }

    fn pull(&mut self) {
        while let Some(pull) = self.live.server.deliveries().pull() {
            let ahead = self.live.server.deliveries().ahead(pull.source).collect();
            self.live.asked.push_back((pull, ahead));
        }
    }

    fn read(&mut self) {
        let Some((pull, known)) = self.live.asked.pop_front() else { return };
        let rest = self.waiting[index(pull.source)].range(pull.after.next()..);
        let rest: Vec<(Position, Item)> =
            rest.filter(|(position, _)| !known.contains(position)).map(|(p, i)| (*p, *i)).collect();
        let high: Vec<_> = rest.iter().filter(|(_, item)| item.high).copied().collect();
        let most = usize::from(pull.ahead_max);
        let ahead = high[..high.len().min(most)].to_vec();
        let most_in_turn = usize::from(pull.messages_max);
        let entries = rest[..rest.len().min(most_in_turn)].to_vec();
        let end = rest.len() <= most_in_turn;
        self.live.pages.push_back(Page {
            pull,
            more_ahead: high.len() > most && most > 0,
            ahead,
            entries,
            end,
        });
    }

    fn page(&mut self) {
        let Some(Page { pull, ahead, more_ahead, entries, mut end }) = self.live.pages.pop_front() else {
            return;
        };
        let source = pull.source;
        let mut any = false;
        for (position, item) in ahead {
            // What is next anyway comes in its turn.
            if entries.first().is_some_and(|(first, _)| *first == position) {
                continue;
            }
            match self.live.server.deliveries().page_ahead(source, position, item.message, 100) {
                PageEntry::Ahead => {
                    any = true;
                    self.send((source, position), position, item, push_flags::AHEAD);
                }
                PageEntry::Repeated => {}
                other => panic!("{other:?}"),
            }
        }
        for (position, item) in entries {
            match self.live.server.deliveries().page_entry(source, position, item.message, 100, None) {
                PageEntry::Send { previous } => self.send((source, position), previous, item, 0),
                PageEntry::Repeated => {}
                PageEntry::Full => {
                    end = false;
                    break;
                }
                PageEntry::Ahead => panic!("out of its turn"),
            }
        }
        self.live.server.deliveries().page_ends(source, end);
        if more_ahead && any {
            self.live.server.deliveries().high_waits(source);
        }
        self.pull();
    }

    fn command(&mut self) {
        let Some(((source, position), item)) = self.live.commands.pop_front() else { return };
        let deliveries = self.live.server.deliveries();
        let offer = match item.high {
            true => deliveries.offer_high(source, position, item.message, 100),
            false => deliveries.offer(source, position, item.message, 100),
        };
        match offer {
            Offer::Send { previous } => self.send((source, position), previous, item, 0),
            Offer::Ahead => self.send((source, position), position, item, push_flags::AHEAD),
            Offer::Later => self.pull(),
            Offer::Skip => {}
        }
    }

    /// The server's claims hold: nothing is sent twice, and between two places of the chain lies only what has an end or went ahead.
    fn send(&mut self, (source, position): Place, previous: Position, item: Item, flags: u8) {
        assert!(self.live.sent.insert(item.message), "{position:?} was sent twice in a session");
        let at = index(source);
        if flags & push_flags::AHEAD != 0 {
            assert!(item.high && previous == position);
            self.live.ahead.insert((source, position));
            self.went_ahead += 1;
        } else {
            assert_eq!(previous, self.live.reached[at]);
            assert!(position > previous);
            for between in self.waiting[at].range(previous.next()..position).map(|(place, _)| *place) {
                assert!(self.live.ahead.contains(&(source, between)), "{between:?} was passed over");
            }
            self.live.reached[at] = position;
        }
        let push = Push {
            source: Some(source),
            position,
            previous,
            ttl_s: 60,
            flags,
            message: item.message,
            kind: Kind::Text,
            trace: TraceId(0),
            collapse_key: "",
            replaces: None,
            payload: b"x",
        };
        let mut frame = Vec::new();
        ServerFrame::Push(push).encode(DEVICE, &mut frame);
        self.live.to_device.extend(frame);
        let ahead = &self.live.ahead;
        let unacked: Vec<Place> =
            self.live.server.deliveries().unacked().map(|one| (one.source, one.position)).collect();
        let out_of_turn = unacked.iter().filter(|place| ahead.contains(place)).count();
        assert!(out_of_turn <= AHEAD_MESSAGES_MAX && unacked.len() - out_of_turn <= WINDOW_MESSAGES_MAX);
    }

    fn device_reads(&mut self, count: usize) {
        let count = count.min(self.live.to_device.len());
        let bytes: Vec<u8> = self.live.to_device.drain(..count).collect();
        let mut input = &bytes[..];
        let mut out = Vec::new();
        loop {
            match self.live.device.receive(&mut input, Millis(0), &mut out).unwrap() {
                None => break,
                Some(FromServer::Push { push, repeated, hole }) => {
                    assert!(!hole, "a hole before {:?}", push.position);
                    self.live.unacked.push(push.message);
                    if !repeated {
                        *self.shown.entry(push.message).or_default() += 1;
                    }
                }
                Some(_) => {}
            }
        }
        self.live.to_server.extend(out);
    }

    fn ack(&mut self, which: usize) {
        if self.live.unacked.is_empty() {
            return;
        }
        let which = which % self.live.unacked.len();
        let message = self.live.unacked.swap_remove(which);
        let Live { device, to_server, .. } = &mut self.live;
        device.ack(AckKind::Received, &[message], to_server);
    }

    fn server_reads(&mut self) {
        let bytes = std::mem::take(&mut self.live.to_server);
        let mut input = &bytes[..];
        let mut out = Vec::new();
        let mut acked = Vec::new();
        while let Some(from) = self.live.server.receive(&mut input, 1 << 16, &mut out).unwrap() {
            if let FromDevice::Acked(ack) = from {
                acked.extend(ack.ids());
            }
        }
        for message in acked {
            let settled = self.live.server.deliveries().settle(message).expect("acked once");
            self.ends.push_back((settled.source, settled.position));
        }
        self.pull();
    }

    fn settle(&mut self) {
        while let Some((source, position)) = self.ends.pop_front() {
            self.waiting[index(source)].remove(&position);
        }
    }

    fn login_again(&mut self) {
        let starts = SOURCES.map(|source| {
            let at = index(source);
            start(source, &self.waiting[at], &self.own[at], self.next[at])
        });
        let idle = Live::login(Memory::default(), starts);
        let memory = std::mem::replace(&mut self.live, idle).device.into_memory();
        self.live = Live::login(memory, starts);
        self.pull();
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Commit(log, high) => {
                let source = SOURCES[usize::from(log)];
                high.into_iter().for_each(|high| self.commit(source, high));
            }
            Step::Command => self.command(),
            Step::Read => self.read(),
            Step::Page => self.page(),
            Step::ToDevice(count) => self.device_reads(count),
            Step::Ack(which) => self.ack(which),
            Step::ToServer => self.server_reads(),
            Step::Settle => self.settle(),
            Step::Break => self.login_again(),
        }
    }

    /// Everything comes to rest.
    fn rest(&mut self) {
        for _ in 0..10_000 {
            let live = &self.live;
            let quiet = live.commands.is_empty()
                && live.asked.is_empty()
                && live.pages.is_empty()
                && live.to_device.is_empty()
                && live.to_server.is_empty()
                && live.unacked.is_empty()
                && self.ends.is_empty();
            if quiet {
                return;
            }
            self.command();
            self.read();
            self.page();
            self.device_reads(usize::MAX);
            self.ack(0);
            self.server_reads();
            self.settle();
        }
        panic!("it does not come to rest");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn every_message_is_shown_once_and_no_device_misses_one_unannounced(
        steps in prop::collection::vec(step(), 1..400)
    ) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        world.rest();
        for (message, place) in &world.places {
            prop_assert_eq!(world.shown.get(message), Some(&1), "{:?}", place);
        }
        prop_assert!(world.waiting.iter().all(BTreeMap::is_empty));
    }
}

#[test]
fn a_high_message_overtakes_a_full_window_and_the_chain_steps_over_it() {
    let mut world = World::new();
    for _ in 0..40 {
        world.commit(Source::Mailbox, false);
    }
    for _ in 0..6 {
        world.commit(Source::Mailbox, true);
    }
    for _ in 0..2 {
        world.commit(Source::Mailbox, false);
    }
    while !world.live.commands.is_empty() {
        world.command();
    }
    assert_eq!(world.went_ahead, 4, "as many as there are places");
    world.device_reads(usize::MAX);
    // The first of the high ones is acked: the next is asked for although the window is full.
    let first = *world.live.unacked.iter().find(|message| message.0 as u64 == 41).unwrap();
    world.live.unacked.retain(|message| *message != first);
    let Live { device, to_server, .. } = &mut world.live;
    device.ack(AckKind::Received, &[first], to_server);
    world.server_reads();
    world.read();
    world.page();
    assert_eq!(world.went_ahead, 5);
    world.rest();
    assert!(world.shown.len() == 48 && world.shown.values().all(|times| *times == 1));
}

#[test]
fn a_high_message_with_nothing_before_it_comes_in_its_turn() {
    let mut world = World::new();
    for high in [true, false, true] {
        world.commit(Source::AppLog, high);
        world.command();
    }
    assert_eq!(world.went_ahead, 0);
    world.rest();
    assert_eq!(world.shown.len(), 3);
}
