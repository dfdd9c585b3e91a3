//! A device against a node that is played by the server's end of the protocol, over loopback.

#![allow(clippy::unwrap_used)]

use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt;
use longwire_client::{
    AckKind, BackOff, BuildError, ClientId, CloseReason, Device, DeviceBuilder, Ended, Fleet, Gap, GapReason,
    Incoming, Kind, MessageId, Position, Source, State, TraceId,
};
use longwire_proto::session::{AwaitingConnect, Established, FeedStart, FromDevice};
use longwire_proto::wire::{Push, Refusal, ServerFrame, Welcome};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const DEVICE: ClientId = ClientId(42);
/// No test waits for this long unless it fails.
const PATIENCE: Duration = Duration::from_secs(20);

struct Node {
    listener: TcpListener,
}

/// A device's connection, as the node sees it.
struct Link {
    stream: TcpStream,
    session: Established,
    resume: Position,
}

impl Node {
    async fn start() -> Node {
        Node { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// A device that comes without delay and knows this node.
    fn device(&self) -> DeviceBuilder {
        Device::builder()
            .app_key("app-1")
            .token("token")
            .client(DEVICE)
            .entry_node(self.address())
            .back_off(BackOff { steps_s: vec![0], jitter_ms: 0 })
    }

    async fn accept_and_answer(&self, answer: &ServerFrame<'_>) -> Link {
        let (mut stream, _) = timeout(PATIENCE, self.listener.accept()).await.unwrap().unwrap();
        let mut awaiting = AwaitingConnect::default();
        let mut buffer = [0; 1024];
        let (heartbeat_s, resume) = loop {
            let count = timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap();
            assert_ne!(count, 0, "the device left before CONNECT");
            let mut input = &buffer[..count];
            if let Some((_, connect)) = awaiting.receive(&mut input).unwrap() {
                assert_eq!((connect.app_key, connect.token), ("app-1", &b"token"[..]));
                break (connect.heartbeat_s, connect.resume_mailbox);
            }
        };
        let session = awaiting.decide(heartbeat_s).accept(DEVICE, FeedStart::default(), FeedStart::default());
        let mut link = Link { stream, session, resume };
        link.say(std::slice::from_ref(answer)).await;
        link
    }

    async fn accept(&self) -> Link {
        self.accept_and_answer(&ServerFrame::Welcome(Welcome {
            node: "node-a".into(),
            heartbeat_s: 60,
            phase: 0x8000,
            padding_max: 0,
            heartbeat_min_s: 5,
            heartbeat_max_s: 1200,
            window: 32,
            server_time_ms: 0,
            back_off: BackOff { steps_s: vec![0], jitter_ms: 0 },
        }))
        .await
    }
}

impl Link {
    async fn say(&mut self, frames: &[ServerFrame<'_>]) {
        let mut bytes = Vec::new();
        for frame in frames {
            frame.encode(DEVICE, &mut bytes);
        }
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// Waits for `count` acked ids.
    async fn acks(&mut self, count: usize) -> Vec<(AckKind, u128)> {
        let mut acks = Vec::new();
        while acks.len() < count {
            self.read(&mut acks).await.unwrap();
        }
        acks
    }

    async fn read(&mut self, acks: &mut Vec<(AckKind, u128)>) -> Result<(), CloseReason> {
        let (mut buffer, mut out) = ([0; 1024], Vec::new());
        let count = timeout(PATIENCE, self.stream.read(&mut buffer)).await.unwrap().unwrap();
        assert_ne!(count, 0, "the device left");
        let mut input = &buffer[..count];
        while let Some(from) = self.session.receive(&mut input, 65_536, &mut out)? {
            if let FromDevice::Acked(ack) = from {
                acks.extend(ack.ids().map(|id| (ack.kind, id.0)));
            }
        }
        Ok(())
    }
}

fn push(sequence: u64) -> ServerFrame<'static> {
    ServerFrame::Push(Push {
        source: Some(Source::Mailbox),
        position: Position::new(1, sequence),
        previous: Position::new(1, sequence - 1),
        ttl_s: 60,
        flags: 0,
        message: MessageId(u128::from(sequence)),
        kind: Kind::Text,
        trace: TraceId(0),
        replaces: None,
        collapse_key: "",
        payload: b"hello",
    })
}

async fn next(device: &mut Device) -> Option<Incoming> {
    timeout(PATIENCE, device.next()).await.unwrap()
}

/// The next thing that is not a change of state, as the message's id.
async fn next_message(device: &mut Device) -> u128 {
    loop {
        match next(device).await.unwrap() {
            Incoming::Message(message) => return message.id.0,
            Incoming::State(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
}

async fn next_state(device: &mut Device) -> State {
    match next(device).await.unwrap() {
        Incoming::State(state) => state,
        other => panic!("unexpected {other:?}"),
    }
}

#[tokio::test]
async fn a_message_is_shown_and_acked() {
    let node = Node::start().await;
    let mut device = node.device().connect().unwrap();
    let mut link = node.accept().await;
    assert!(matches!(next_state(&mut device).await, State::Connecting { attempt: 0, .. }));
    let State::Connected { node: name, heartbeat_s, .. } = next_state(&mut device).await else {
        panic!("not connected")
    };
    assert_eq!((name.as_str(), heartbeat_s), ("node-a", 60));
    link.say(&[push(1)]).await;
    let Some(Incoming::Message(message)) = next(&mut device).await else { panic!("no message") };
    assert_eq!((message.id, &message.payload[..], message.hole), (MessageId(1), &b"hello"[..], false));
    assert!(message.needs_ack());
    device.displayed(message.id).await;
    device.ack(message.id).await;
    assert_eq!(link.acks(2).await, [(AckKind::Displayed, 1), (AckKind::Received, 1)]);
}

#[tokio::test]
async fn after_a_break_a_repeat_is_acked_but_not_shown() {
    let node = Node::start().await;
    let mut device = node.device().connect().unwrap();
    let mut link = node.accept().await;
    link.say(&[push(1), push(2)]).await;
    assert_eq!(next_message(&mut device).await, 1);
    assert_eq!(next_message(&mut device).await, 2);
    device.ack(MessageId(1)).await;
    link.acks(1).await;
    drop(link);

    let mut link = node.accept().await;
    assert_eq!(link.resume, Position::new(1, 2));
    link.say(&[push(1), push(2), push(3)]).await;
    assert_eq!(next_message(&mut device).await, 3);
    assert_eq!(link.acks(1).await, [(AckKind::Received, 1)], "its ack may have been lost");
    device.ack(MessageId(2)).await;
    assert_eq!(link.acks(1).await, [(AckKind::Received, 2)], "the application still had it");
}

#[tokio::test]
async fn words_said_while_away_reach_the_next_connection() {
    let node = Node::start().await;
    let other = Node::start().await;
    let mut device = node.device().connect().unwrap();
    let mut link = node.accept().await;
    link.say(&[push(1), push(2), ServerFrame::Redirect(&other.address())]).await;
    assert_eq!(next_message(&mut device).await, 1);
    let acker = device.acker();
    loop {
        if let Incoming::State(State::Waiting { ended, .. }) = next(&mut device).await.unwrap() {
            break assert_eq!(ended, Ended::Redirected { to: other.address() });
        }
    }
    acker.say(AckKind::Clicked, MessageId(1)).await;
    acker.say(AckKind::Received, MessageId(1)).await;
    let mut link = other.accept().await;
    link.say(&[push(1)]).await;
    let mut acks = link.acks(2).await;
    acks.sort_by_key(|(kind, _)| *kind as u8);
    acks.dedup(); // an ack that crosses the repeat is said twice
    assert_eq!(acks, [(AckKind::Received, 1), (AckKind::Clicked, 1)]);
}

#[tokio::test]
async fn a_refusal_for_good_stops_the_device() {
    let node = Node::start().await;
    let mut device = node.device().connect().unwrap();
    let refusal = Refusal { reason: CloseReason::BadToken, retry_after_s: 0 };
    let _link = node.accept_and_answer(&ServerFrame::Refusal(refusal)).await;
    assert!(matches!(next_state(&mut device).await, State::Connecting { .. }));
    assert!(matches!(next_state(&mut device).await, State::Stopped(CloseReason::BadToken)));
    assert!(next(&mut device).await.is_none());
    device.ack(MessageId(1)).await;
    device.close().await;
}

#[tokio::test]
async fn a_takeover_stops_the_device_and_a_full_node_does_not() {
    let node = Node::start().await;
    let mut device = node.device().connect().unwrap();
    let full = Refusal { reason: CloseReason::Full, retry_after_s: 0 };
    let _first = node.accept_and_answer(&ServerFrame::Refusal(full)).await;
    let mut link = node.accept().await;
    let over = Refusal { reason: CloseReason::TakenOver, retry_after_s: 0 };
    link.say(&[ServerFrame::Close(over)]).await;
    let mut states = Vec::new();
    while let Some(incoming) = next(&mut device).await {
        let Incoming::State(state) = incoming else { panic!("unexpected {incoming:?}") };
        states.push(state);
    }
    assert!(matches!(&states[1], State::Waiting { ended: Ended::Refused(refusal), .. } if *refusal == full));
    assert!(matches!(states[2], State::Connecting { attempt: 1, .. }));
    assert!(matches!(states.last(), Some(State::Stopped(CloseReason::TakenOver))));
}

#[tokio::test]
async fn a_goaway_moves_the_device_to_the_named_node() {
    let (node, other) = (Node::start().await, Node::start().await);
    let mut device = node.device().connect().unwrap();
    let mut link = node.accept().await;
    link.say(&[ServerFrame::GoAway { after_ms: 1, to: &other.address() }, push(1)]).await;
    let mut link = {
        let mut acks = Vec::new();
        while link.read(&mut acks).await != Err(CloseReason::PeerClosed) {}
        other.accept().await
    };
    link.say(&[push(2)]).await;
    assert_eq!(next_message(&mut device).await, 1);
    loop {
        match next(&mut device).await.unwrap() {
            Incoming::State(State::Connecting { address, attempt }) if address == other.address() => {
                break assert_eq!(attempt, 0, "to be moved is no failure");
            }
            Incoming::State(_) => {}
            unexpected => panic!("unexpected {unexpected:?}"),
        }
    }
    assert_eq!(next_message(&mut device).await, 2);
}

#[tokio::test]
async fn a_broken_protocol_ends_the_connection_and_the_device_comes_back() {
    let node = Node::start().await;
    let mut device = node.device().connect().unwrap();
    let mut link = node.accept().await;
    link.stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let _link = node.accept().await;
    let mut ends = Vec::new();
    while ends.is_empty() {
        if let State::Waiting { ended, .. } = next_state(&mut device).await {
            ends.push(ended);
        }
    }
    assert_eq!(ends, [Ended::Protocol(CloseReason::BadMagic)]);
}

#[tokio::test]
async fn an_application_that_takes_nothing_loses_nothing() {
    let node = Node::start().await;
    let mut device = node.device().queue(1).connect().unwrap();
    let mut link = node.accept().await;
    let frames: Vec<_> = (1..=500).map(push).collect();
    link.say(&frames).await;
    for expected in 1..=500 {
        assert_eq!(next_message(&mut device).await, expected);
    }
}

#[tokio::test]
async fn a_message_that_expires_while_it_waits_is_acked_and_not_shown() {
    let node = Node::start().await;
    let mut device = node.device().connect().unwrap();
    let mut link = node.accept().await;
    let gap = ServerFrame::Gap(Gap {
        source: Source::Mailbox,
        position: Position::new(1, 2),
        previous: Position::new(1, 1),
        reason: GapReason::Dropped,
        message: MessageId(2),
        count: 1,
    });
    link.say(&[push(1), gap]).await;
    // The device itself acks the gap, so it has read the message before it.
    assert_eq!(link.acks(1).await, [(AckKind::Received, 2)]);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(61)).await;
    tokio::time::resume();
    loop {
        match next(&mut device).await.unwrap() {
            Incoming::Gap(gap) => break assert_eq!(gap.message, MessageId(2)),
            Incoming::State(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(link.acks(1).await, [(AckKind::Received, 1)]);
}

#[tokio::test]
async fn three_unanswered_heartbeats_bring_the_device_back() {
    let node = Node::start().await;
    let mut device = node.device().connect().unwrap();
    let _silent = node.accept().await;
    while !matches!(next_state(&mut device).await, State::Connected { .. }) {}
    // From here the clock jumps to the next deadline whenever nothing else is to be done.
    tokio::time::pause();
    let came = device.next().await;
    tokio::time::resume();
    assert!(matches!(came, Some(Incoming::State(State::Waiting { ended: Ended::Lost, .. }))), "{came:?}");
    node.accept().await;
}

#[tokio::test]
async fn on_another_network_a_dead_connection_is_found_out_within_ten_seconds() {
    let node = Node::start().await;
    let mut device = node.device().connect().unwrap();
    let _silent = node.accept().await;
    while !matches!(next_state(&mut device).await, State::Connected { .. }) {}
    tokio::time::pause();
    let begun = tokio::time::Instant::now();
    device.network_changed().await;
    let came = device.next().await;
    let waited = begun.elapsed(); // of the test's own clock, which jumps from deadline to deadline
    tokio::time::resume();
    assert!(matches!(came, Some(Incoming::State(State::Waiting { ended: Ended::Lost, .. }))), "{came:?}");
    assert!(waited < Duration::from_secs(11), "{waited:?}");
    node.accept().await;
}

#[tokio::test]
async fn a_device_is_a_stream_and_a_fleet_shares_a_brake() {
    let node = Node::start().await;
    let fleet = Fleet::new(1);
    let mut links = Vec::new();
    for _ in 0..2 {
        // The second finds no token and comes a second later.
        let device = node.device().fleet(&fleet).connect().unwrap();
        let acker = device.acker();
        let mut stream = pin!(device.into_stream());
        let mut link = {
            // The device works while nobody asks the stream.
            let mut link = node.accept().await;
            link.say(&[push(1)]).await;
            link
        };
        let message = loop {
            match timeout(PATIENCE, stream.next()).await.unwrap().unwrap() {
                Incoming::Message(message) => break message.id,
                Incoming::State(_) => {}
                other => panic!("unexpected {other:?}"),
            }
        };
        acker.say(AckKind::Received, message).await;
        assert_eq!(link.acks(1).await, [(AckKind::Received, 1)]);
        links.push(link);
    }
}

#[tokio::test]
async fn a_close_is_orderly_and_says_the_last_acks_first() {
    let node = Node::start().await;
    let mut device = node.device().connect().unwrap();
    let mut link = node.accept().await;
    link.say(&[push(1)]).await;
    assert_eq!(next_message(&mut device).await, 1);
    device.ack(MessageId(1)).await;
    device.close().await;
    let mut acks = Vec::new();
    let reason = loop {
        if let Err(reason) = link.read(&mut acks).await {
            break reason;
        }
    };
    assert_eq!((reason, acks), (CloseReason::PeerClosed, vec![(AckKind::Received, 1)]));
}

#[tokio::test]
async fn a_device_that_is_not_one_is_not_built() {
    let good = || Device::builder().app_key("app-1").token("token").entry_node("127.0.0.1:1");
    let refusal = |builder: DeviceBuilder| builder.connect().unwrap_err();
    assert!(matches!(refusal(good().app_key("")), BuildError::AppKey));
    assert!(matches!(refusal(good().app_key("a\nb")), BuildError::AppKey));
    assert!(matches!(refusal(good().app_key("a".repeat(129))), BuildError::AppKey));
    assert!(matches!(refusal(good().token("")), BuildError::Token));
    assert!(matches!(refusal(good().token("t".repeat(513))), BuildError::Token));
    assert!(matches!(refusal(good().entry_node("")), BuildError::EntryNodes));
    assert!(matches!(refusal(Device::builder().app_key("a").token("t")), BuildError::EntryNodes));
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(refusal(good().state(file.path())), BuildError::State(_)));
}
