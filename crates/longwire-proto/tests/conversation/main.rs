//! Both ends talk, under virtual time.

#![allow(clippy::unwrap_used)]

mod beats;

use std::collections::BTreeMap;

use longwire_proto::close::CloseReason;
use longwire_proto::id::{ClientId, Kind, MessageId, Position, Source, TraceId};
use longwire_proto::session::{
    AwaitingConnect, ClientSession, Credentials, Established, FeedStart, FromDevice, FromServer, Memory,
    Millis, Offer, PageEntry, Settled, Tick,
};
use longwire_proto::wire::{
    AckKind, BackOff, Class, Gap, GapReason, Network, Push, Refusal, ServerFrame, Welcome,
};

const DEVICE: ClientId = ClientId(42);
const MAILBOX: Source = Source::Mailbox;

/// What the device saw, without the borrowed parts.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Saw {
    Welcome,
    Push { sequence: u64, repeated: bool, hole: bool },
    Gap(u64),
    Pong(u64),
    Closed(CloseReason),
}

fn push(sequence: u64) -> Saw {
    Saw::Push { sequence, repeated: false, hole: false }
}

fn place(sequence: u64) -> Position {
    Position::new(1, sequence)
}

/// The message at a place of the mailbox.
fn message(sequence: u64) -> MessageId {
    MessageId(0x7000 + u128::from(sequence))
}

struct Conversation {
    server: Established,
    device: ClientSession,
    now: Millis,
    to_server: Vec<u8>,
    to_device: Vec<u8>,
    /// What the mailbox holds, and how many bytes each counts.
    store: BTreeMap<u64, u32>,
}

impl Conversation {
    fn login(memory: Memory, heartbeat_s: u16, mailbox: FeedStart) -> Conversation {
        let credentials = Credentials {
            app_key: "app-1".into(),
            token: "token".into(),
            client: DEVICE,
            network: Network::Wifi,
            class: Class::Phone,
            heartbeat_s,
        };
        let mut to_server = Vec::new();
        let device = ClientSession::begin(&credentials, memory, Millis(0), &mut to_server);
        let mut awaiting = AwaitingConnect::default();
        let mut input = &to_server[..];
        let (client, connect) = awaiting.receive(&mut input).unwrap().unwrap();
        assert_eq!(client, DEVICE);
        assert_eq!((connect.app_key, connect.token), ("app-1", &b"token"[..]));
        let heartbeat_s = connect.heartbeat_s;
        let server = awaiting.decide(heartbeat_s).accept(DEVICE, mailbox, FeedStart::default());
        let mut conversation = Conversation {
            server,
            device,
            now: Millis(0),
            to_server: Vec::new(),
            to_device: Vec::new(),
            store: BTreeMap::new(),
        };
        assert!(!conversation.device.is_live());
        conversation.say(&ServerFrame::Welcome(welcome()));
        assert_eq!(conversation.device_reads(), [Saw::Welcome]);
        assert!(conversation.device.is_live());
        conversation
    }

    fn fresh() -> Conversation {
        Conversation::login(Memory::default(), 60, FeedStart { last: place(0), waiting: false })
    }

    fn say(&mut self, frame: &ServerFrame<'_>) {
        frame.encode(DEVICE, &mut self.to_device);
    }

    fn say_push(&mut self, sequence: u64, previous: Position) {
        self.say(&ServerFrame::Push(Push {
            source: Some(MAILBOX),
            position: place(sequence),
            previous,
            ttl_s: 60,
            flags: 0,
            message: message(sequence),
            kind: Kind::Text,
            trace: TraceId(0),
            replaces: None,
            collapse_key: "",
            payload: b"hello",
        }));
    }

    /// A message is stored and offered live.
    fn offer(&mut self, sequence: u64, bytes: u32) -> Offer {
        self.store.insert(sequence, bytes);
        let offer = self.server.deliveries().offer(MAILBOX, place(sequence), message(sequence), bytes);
        if let Offer::Send { previous } = offer {
            self.say_push(sequence, previous);
        }
        offer
    }

    /// Answers the server's pulls from the store until it asks for nothing more.
    fn serve_pulls(&mut self) {
        while let Some(pull) = self.server.deliveries().pull() {
            let waiting: Vec<(u64, u32)> = self.store.iter().map(|(at, bytes)| (*at, *bytes)).collect();
            let after = waiting.into_iter().filter(|(at, _)| place(*at) > pull.after);
            let page: Vec<(u64, u32)> = after.collect();
            let part = page.len().min(usize::from(pull.messages_max));
            self.page(&page[..part], part == page.len());
        }
    }

    fn page(&mut self, entries: &[(u64, u32)], mut end: bool) {
        for (sequence, bytes) in entries {
            match self.server.deliveries().page_entry(
                MAILBOX,
                place(*sequence),
                message(*sequence),
                *bytes,
                None,
            ) {
                PageEntry::Send { previous } => self.say_push(*sequence, previous),
                PageEntry::Ahead => panic!("out of its turn"),
                PageEntry::Repeated => {}
                PageEntry::Full => {
                    end = false;
                    break;
                }
            }
        }
        self.server.deliveries().page_ends(MAILBOX, end);
    }

    fn device_reads(&mut self) -> Vec<Saw> {
        let bytes = std::mem::take(&mut self.to_device);
        let mut input = &bytes[..];
        let mut saw = Vec::new();
        while let Some(from) = self.device.receive(&mut input, self.now, &mut self.to_server).unwrap() {
            saw.push(match from {
                FromServer::Welcome(_) => Saw::Welcome,
                FromServer::Push { push, repeated, hole } => {
                    Saw::Push { sequence: push.position.sequence(), repeated, hole }
                }
                FromServer::Gap(gap) => Saw::Gap(gap.position.sequence()),
                FromServer::Pong { round_trip_ms } => Saw::Pong(round_trip_ms),
                FromServer::Closed(refusal) | FromServer::Refused(refusal) => Saw::Closed(refusal.reason),
                other => panic!("unexpected {other:?}"),
            });
        }
        saw
    }

    fn ack(&mut self, sequences: &[u64]) {
        let messages: Vec<MessageId> = sequences.iter().map(|sequence| message(*sequence)).collect();
        self.device.ack(AckKind::Received, &messages, &mut self.to_server);
    }

    /// The server takes what the device said; gives what was settled.
    fn server_reads(&mut self) -> Result<Vec<Settled>, CloseReason> {
        let bytes = std::mem::take(&mut self.to_server);
        let mut input = &bytes[..];
        let mut settled = Vec::new();
        loop {
            let acked: Vec<MessageId> = match self.server.receive(&mut input, 65_536, &mut self.to_device)? {
                None => return Ok(settled),
                Some(FromDevice::Acked(ack)) => ack.ids().collect(),
                Some(_) => continue,
            };
            for message in acked {
                if let Some(entry) = self.server.deliveries().settle(message) {
                    self.store.remove(&entry.position.sequence());
                    settled.push(entry);
                }
            }
        }
    }

    fn tick_at_deadline(&mut self) -> Tick {
        self.now = self.device.deadline();
        self.device.tick(self.now, &mut self.to_server)
    }
}

fn welcome() -> Welcome {
    Welcome {
        node: "node-a".into(),
        heartbeat_s: 60,
        phase: 0x8000,
        padding_max: 0,
        heartbeat_min_s: 30,
        heartbeat_max_s: 120,
        window: 32,
        server_time_ms: 0,
        back_off: BackOff::default(),
    }
}

#[test]
fn a_push_is_received_and_acked() {
    let mut talk = Conversation::fresh();
    assert_eq!(talk.offer(1, 100), Offer::Send { previous: place(0) });
    assert_eq!(talk.device_reads(), [push(1)]);
    talk.ack(&[1]);
    let settled = talk.server_reads().unwrap();
    assert_eq!(
        settled[0],
        Settled { source: MAILBOX, position: place(1), message: message(1), gap: None, sent_ms: 0 }
    );
    assert_eq!(talk.server.deliveries().unacked().count(), 0);
    talk.ack(&[1]);
    assert_eq!(talk.server_reads(), Ok(vec![]), "a repeated ack settles nothing");
}

#[test]
fn a_full_window_leaves_the_rest_to_be_pulled_in_order() {
    let mut talk = Conversation::fresh();
    for sequence in 1..=40 {
        let offer = talk.offer(sequence, 10);
        assert_eq!(offer == Offer::Later, sequence > 32, "{sequence}");
    }
    assert_eq!(talk.server.deliveries().pull(), None, "the window has no room");
    assert_eq!(talk.device_reads(), (1..=32).map(push).collect::<Vec<_>>());
    let half: Vec<u64> = (1..=16).collect();
    talk.ack(&half[..3]);
    assert_eq!(talk.server_reads().unwrap().len(), 3);
    assert_eq!(talk.server.deliveries().pull(), None, "the window is refilled by halves");
    talk.ack(&half[3..]);
    assert_eq!(talk.server_reads().unwrap().len(), 13);
    assert_eq!(talk.offer(41, 10), Offer::Later, "a live message does not overtake the store");
    talk.serve_pulls();
    assert_eq!(talk.device_reads(), (33..=41).map(push).collect::<Vec<_>>());
    assert_eq!(talk.offer(42, 10), Offer::Send { previous: place(41) }, "level again");
}

#[test]
fn a_window_full_of_bytes_holds_but_one_message_always_fits() {
    let mut talk = Conversation::fresh();
    assert!(matches!(talk.offer(1, 1_000_000), Offer::Send { .. }));
    assert_eq!(talk.offer(2, 1), Offer::Later);
    assert_eq!(talk.server.deliveries().pull(), None);
    talk.device_reads();
    talk.ack(&[1]);
    talk.server_reads().unwrap();
    talk.serve_pulls();
    assert_eq!(talk.device_reads(), [push(2)]);
}

#[test]
fn a_message_offered_during_a_pull_is_pulled_again() {
    let mut talk = Conversation::login(Memory::default(), 60, FeedStart { last: place(0), waiting: true });
    talk.store.insert(1, 10);
    assert_eq!(talk.server.deliveries().pull().unwrap().after, place(0));
    assert_eq!(talk.server.deliveries().pull(), None, "one pull at a time");
    assert_eq!(talk.offer(2, 10), Offer::Later);
    talk.page(&[(1, 10)], true);
    talk.serve_pulls();
    assert_eq!(talk.device_reads(), [push(1), push(2)]);
    assert_eq!(talk.offer(2, 10), Offer::Skip);
}

#[test]
fn a_message_that_overtakes_its_predecessor_waits_for_it() {
    let mut talk = Conversation::fresh();
    assert_eq!(talk.offer(2, 10), Offer::Later);
    talk.store.insert(1, 10);
    assert_eq!(talk.offer(1, 10), Offer::Later);
    talk.serve_pulls();
    assert_eq!(talk.device_reads(), [push(1), push(2)]);
}

#[test]
fn entries_of_a_page_that_no_longer_fit_come_with_the_next_pull() {
    let mut talk = Conversation::login(Memory::default(), 60, FeedStart { last: place(0), waiting: true });
    talk.store.extend((1..=3).map(|sequence| (sequence, 40_000)));
    talk.serve_pulls_once();
    assert_eq!(talk.device_reads(), [push(1)]);
    talk.ack(&[1]);
    talk.server_reads().unwrap();
    talk.serve_pulls_once();
    assert_eq!(talk.device_reads(), [push(2)]);
}

impl Conversation {
    /// One page with everything, whatever the pull asked for.
    fn serve_pulls_once(&mut self) {
        let pull = self.server.deliveries().pull().unwrap();
        let page: Vec<(u64, u32)> = self
            .store
            .iter()
            .map(|(at, bytes)| (*at, *bytes))
            .filter(|(at, _)| place(*at) > pull.after)
            .collect();
        self.page(&page, true);
    }
}

#[test]
fn a_message_that_comes_while_a_login_is_decided_is_pulled() {
    let mut deciding = AwaitingConnect::default().decide(60);
    deciding.mailbox_grew();
    let level = FeedStart { last: place(4), waiting: false };
    let mut server = deciding.accept(DEVICE, level, FeedStart::default());
    assert_eq!(server.deliveries().offer(MAILBOX, place(6), message(6), 10), Offer::Later);
    let pull = server.deliveries().pull().unwrap();
    assert_eq!((pull.source, pull.after), (MAILBOX, place(4)));
}

#[test]
fn a_broadcast_need_not_be_the_next_of_its_log_and_the_mailbox_goes_first() {
    let log = Source::AppLog;
    let behind = FeedStart { last: place(1), waiting: true };
    let mut server = AwaitingConnect::default().decide(60).accept(DEVICE, behind, FeedStart::default());
    assert_eq!(
        server.deliveries().offer(log, place(9), message(9), 10),
        Offer::Send { previous: Position::START }
    );
    server.deliveries().defer(log, place(12));
    assert_eq!(server.deliveries().pull().unwrap().source, MAILBOX);
    assert_eq!(server.deliveries().pull().unwrap().source, log);
    server.deliveries().page_ends(MAILBOX, true);
    assert_eq!(
        server.deliveries().page_entry(log, place(12), message(12), 10, None),
        PageEntry::Send { previous: place(9) }
    );
    assert_eq!(server.deliveries().page_entry(log, place(12), message(12), 10, None), PageEntry::Repeated);
    server.deliveries().page_ends(log, true);
    assert_eq!(server.deliveries().pull(), None);
    assert_eq!(
        server.deliveries().offer(log, place(20), message(20), 10),
        Offer::Send { previous: place(12) }
    );
}

#[test]
fn a_deferred_message_is_pulled() {
    let mut talk = Conversation::fresh();
    talk.store.insert(1, 10);
    talk.server.deliveries().defer(MAILBOX, place(1));
    talk.serve_pulls();
    assert_eq!(talk.device_reads(), [push(1)]);
    talk.server.deliveries().defer(MAILBOX, place(1));
    assert_eq!(talk.server.deliveries().pull(), None, "what was sent is not deferred");
}

#[test]
fn what_was_not_acked_comes_again_and_is_not_shown_twice() {
    let mut talk = Conversation::fresh();
    for sequence in 1..=3 {
        talk.offer(sequence, 10);
    }
    assert_eq!(talk.device_reads(), [push(1), push(2), push(3)]);
    talk.ack(&[1]);
    talk.server_reads().unwrap();
    let (memory, store) = (talk.device.into_memory(), talk.store);
    assert_eq!(memory.reached(MAILBOX), place(3));

    let mut talk = Conversation::login(memory, 60, FeedStart { last: place(1), waiting: true });
    talk.store = store;
    talk.store.insert(4, 10);
    talk.serve_pulls();
    let repeat = |sequence| Saw::Push { sequence, repeated: true, hole: false };
    assert_eq!(talk.device_reads(), [repeat(2), repeat(3), push(4)]);
    talk.ack(&[2, 3, 4]);
    assert_eq!(talk.server_reads().unwrap().len(), 3);
}

#[test]
fn an_older_position_is_a_repeat_only_if_its_id_is_remembered() {
    let mut talk = Conversation::fresh();
    talk.say_push(5, place(0));
    talk.say_push(3, place(0));
    assert_eq!(talk.device_reads(), [push(5), push(3)]);
    talk.say_push(3, place(0));
    assert_eq!(talk.device_reads(), [Saw::Push { sequence: 3, repeated: true, hole: false }]);
    assert_eq!(talk.device.into_memory().reached(MAILBOX), place(5));
}

#[test]
fn the_dedup_window_forgets_the_oldest_of_1024() {
    let mut talk = Conversation::fresh();
    for sequence in 1..=1025 {
        talk.say_push(sequence, place(sequence - 1));
    }
    assert_eq!(talk.device_reads().len(), 1025);
    talk.say_push(2, place(1));
    talk.say_push(1, place(0));
    let again = |sequence, repeated| Saw::Push { sequence, repeated, hole: false };
    assert_eq!(talk.device_reads(), [again(2, true), again(1, false)]);
}

#[test]
fn a_break_in_the_chain_is_told_once() {
    let mut talk = Conversation::fresh();
    talk.say_push(4, place(3));
    assert_eq!(talk.device_reads(), [push(4)], "a device without memory cannot tell");
    talk.say_push(7, place(6));
    talk.say_push(8, place(7));
    assert_eq!(talk.device_reads(), [Saw::Push { sequence: 7, repeated: false, hole: true }, push(8)]);
}

#[test]
fn a_gap_is_acked_by_the_session_and_keeps_the_chain() {
    let mut talk = Conversation::fresh();
    talk.offer(1, 10);
    let PageEntry::Send { previous } =
        talk.server.deliveries().page_entry(MAILBOX, place(2), message(2), 0, Some(GapReason::Expired))
    else {
        panic!("the gap fits")
    };
    let gap = Gap {
        source: MAILBOX,
        position: place(2),
        previous,
        reason: GapReason::Expired,
        message: message(2),
        count: 1,
    };
    talk.say(&ServerFrame::Gap(gap));
    talk.offer(3, 10);
    assert_eq!(talk.device_reads(), [push(1), Saw::Gap(2), push(3)]);
    let settled = talk.server_reads().unwrap();
    assert_eq!(
        settled,
        [Settled {
            source: MAILBOX,
            position: place(2),
            message: message(2),
            gap: Some(GapReason::Expired),
            sent_ms: 0
        }]
    );

    let many = Gap { position: place(9), previous: place(3), message: MessageId(0), count: 6, ..gap };
    talk.say(&ServerFrame::Gap(many));
    talk.say_push(10, place(9));
    assert_eq!(talk.device_reads(), [Saw::Gap(9), push(10)]);
    assert_eq!(talk.server_reads(), Ok(vec![]), "a gap without an id is not acked");
}

#[test]
fn a_hole_before_a_gap_is_told_by_the_next_push() {
    let mut talk = Conversation::fresh();
    talk.say_push(1, place(0));
    talk.say(&ServerFrame::Gap(Gap {
        source: MAILBOX,
        position: place(5),
        previous: place(4),
        reason: GapReason::Recalled,
        message: MessageId(0),
        count: 1,
    }));
    talk.say_push(6, place(5));
    assert_eq!(talk.device_reads()[2], Saw::Push { sequence: 6, repeated: false, hole: true });
}

#[test]
fn a_new_incarnation_of_the_store_is_no_hole() {
    let mut talk = Conversation::fresh();
    talk.say_push(5, place(4));
    talk.device_reads();
    let frame = Push {
        source: Some(MAILBOX),
        position: Position::new(2, 1),
        previous: Position::new(2, 0),
        ttl_s: 60,
        flags: 0,
        message: MessageId(99),
        kind: Kind::Custom,
        trace: TraceId(0),
        replaces: None,
        collapse_key: "",
        payload: b"",
    };
    talk.say(&ServerFrame::Push(frame));
    assert_eq!(talk.device_reads(), [push(1)]);
    assert_eq!(talk.device.into_memory().reached(MAILBOX), Position::new(2, 1));
}

#[test]
fn an_online_only_message_has_no_place_and_is_not_remembered() {
    let mut talk = Conversation::fresh();
    let frame = Push {
        source: None,
        position: Position::START,
        previous: Position::START,
        ttl_s: 0,
        flags: 0,
        message: MessageId(5),
        kind: Kind::Custom,
        trace: TraceId(0),
        replaces: None,
        collapse_key: "",
        payload: b"now",
    };
    ServerFrame::Push(frame).encode(ClientId(0), &mut talk.to_device);
    assert_eq!(talk.device_reads(), [push(0)]);
    assert_eq!(talk.device.into_memory().reached(MAILBOX), Position::START);
}

#[test]
fn a_takeover_closes_with_its_reason_and_ends_the_conversation() {
    let mut talk = Conversation::fresh();
    talk.say(&ServerFrame::Close(Refusal { reason: CloseReason::TakenOver, retry_after_s: 0 }));
    talk.say_push(1, place(0));
    assert_eq!(talk.device_reads(), [Saw::Closed(CloseReason::TakenOver)]);
    assert!(!talk.device.is_live());
    talk.ack(&[1]);
    talk.device.close(&mut talk.to_server);
    assert!(talk.to_server.is_empty(), "nothing is said after the end");
    assert_eq!(talk.device.deadline(), Millis(u64::MAX));
}

#[test]
fn an_orderly_close_is_read_as_one() {
    let mut talk = Conversation::fresh();
    talk.device.close(&mut talk.to_server);
    assert_eq!(talk.server_reads(), Err(CloseReason::PeerClosed));
}

#[test]
fn a_session_of_a_device_is_small() {
    assert!(size_of::<ClientSession>() <= 104, "{} bytes", size_of::<ClientSession>());
}
