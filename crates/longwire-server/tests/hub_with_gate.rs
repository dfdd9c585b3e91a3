//! Gate, hub and store together: a device on a real socket.
#![allow(clippy::unwrap_used, missing_docs)]

use longwire_proto::close::CloseReason;
use longwire_proto::id::{ClientId, Kind, MessageId, Position, TraceId};
use longwire_proto::session::InboundLimits;
use longwire_proto::wire::{
    AckKind, Assembler, Class, Connect, DeviceFrame, Network, ResultCode, ServerFrame, Upstream, VERSION,
    encode_acks,
};
use longwire_server::delivery::AuthOptions;
use longwire_server::delivery::hub::{Hub, Parts, Registered};
use longwire_server::domain::{
    App, AppKey, Audience, Condition, Content, DeviceName, DuplicateLogin, HeartbeatRules, Priority, Push,
    Registration, Tag, WallMs,
};
use longwire_server::gate::{Gate, GateOptions};
use longwire_server::store::messages::MessageStore;
use longwire_server::store::port::StoreOptions;
use longwire_server::store::registry::Registry;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(20);
const NOW: WallMs = WallMs(1_800_000_000_000);

struct Node {
    hub: Hub,
    app: Arc<App>,
    address: SocketAddr,
    _gate: Gate,
    _folder: tempfile::TempDir,
}

impl Node {
    async fn start() -> Node {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Fn() -> WallMs + Send + Sync> = Arc::new(|| NOW);
        let options = StoreOptions {
            folder: folder.path().join("messages"),
            reserve_bytes: 0,
            retention_ms: 86_400_000,
            story_ms: 0,
            clock: clock.clone(),
        };
        let (sender, committed) = mpsc::channel(256);
        let store = MessageStore::open(options, sender).unwrap();
        let url = format!("sqlite:{}", folder.path().join("registry.db").display());
        let registry = Registry::open(&url).await.unwrap();
        // One test sends hundreds of heartbeats between its messages.
        let inbound = InboundLimits { ping_s: 0, ..InboundLimits::default() };
        let gate_options = GateOptions { shards: 2, inbound, ..GateOptions::default() };
        let (gate, shards, events) = Gate::prepare(gate_options, clock.clone()).unwrap();
        let parts = Parts {
            store,
            registry,
            shards,
            committed,
            clock,
            token_ttl_s: 3600,
            duplicate_login: DuplicateLogin::Takeover,
            heartbeat: HeartbeatRules::default(),
            auth: AuthOptions::default(),
            connections_per_device: 8,
            truth: Default::default(),
            limits: longwire_server::domain::Limits::NONE,
        };
        let hub = Hub::start(parts).await.unwrap();
        for events in events {
            let hub = hub.clone();
            tokio::spawn(async move { hub.serve_shard(events).await });
        }
        let (app, _) = hub.create_app(AppKey::parse("shop").unwrap(), false).await.unwrap();
        let address = gate.open(0, "127.0.0.1:0".parse().unwrap()).unwrap();
        Node { hub, app, address, _gate: gate, _folder: folder }
    }

    async fn register(&self, name: &str, tags: &[&str]) -> Registered {
        let registration = Registration {
            name: Some(DeviceName::parse("name", name).unwrap()),
            alias: None,
            tags: Some(tags.iter().map(|tag| Tag::parse("tag", tag).unwrap()).collect()),
            attributes: None,
        };
        self.hub.register(&self.app, registration, true).await.unwrap()
    }

    async fn push(&self, audience: Audience, ttl_s: u32) -> MessageId {
        let content = Content { kind: Kind::Text, payload: bytes::Bytes::from_static(b"hello") };
        let push = Push {
            audience,
            content,
            ttl_s,
            collapse_key: String::new(),
            trace: TraceId(7),
            priority: Priority::Normal,
            replaces: None,
            once: None,
            report: Default::default(),
            spread: None,
        };
        self.hub.push(&self.app, push).await.unwrap().message
    }

    async fn delivered(&self, message: MessageId, count: u64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let story = self.hub.message(&self.app, message).await.unwrap().unwrap();
            let books = story.view.counts;
            assert_eq!(books.created, books.ended() + books.pending());
            if books.delivered == count && story.in_flight == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "{story:?}");
            tokio::task::yield_now().await;
        }
    }
}

struct Device {
    socket: TcpStream,
    client: ClientId,
    assembler: Assembler,
    waiting: Vec<u8>,
}

impl Device {
    fn connect(node: &Node, client: ClientId, token: &str) -> Device {
        let socket = TcpStream::connect(node.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut device = Device { socket, client, assembler: Assembler::default(), waiting: Vec::new() };
        let connect = Connect {
            version: VERSION,
            network: Network::Wifi,
            class: Class::Phone,
            heartbeat_s: 60,
            resume_mailbox: Position::START,
            resume_log: Position::START,
            app_key: "shop",
            token: token.as_bytes(),
        };
        let mut bytes = Vec::new();
        DeviceFrame::Connect(connect).encode(client, &mut bytes);
        device.socket.write_all(&bytes).unwrap();
        device
    }

    fn login(node: &Node, registered: &Registered) -> Device {
        let mut device = Device::connect(node, registered.client, &registered.token);
        assert!(matches!(device.next(), Some(ServerFrame::Welcome(_))));
        device
    }

    fn next(&mut self) -> Option<ServerFrame<'static>> {
        loop {
            let mut input = &self.waiting[..];
            if let Some(frame) = self.assembler.next(&mut input, 1 << 20).unwrap() {
                // A test holds frames as long as it likes.
                let body: &'static [u8] = Vec::leak(frame.body.to_vec());
                let header = frame.header;
                let left = input.len();
                self.waiting.drain(..self.waiting.len() - left);
                return Some(ServerFrame::decode(&header, body).unwrap());
            }
            self.waiting.clear();
            let mut buffer = [0; 4096];
            let count = self.socket.read(&mut buffer).unwrap_or(0);
            if count == 0 {
                return None;
            }
            self.waiting.extend_from_slice(&buffer[..count]);
        }
    }

    fn receive(&mut self) -> MessageId {
        match self.next() {
            Some(ServerFrame::Push(push)) => push.message,
            other => panic!("not a push: {other:?}"),
        }
    }

    fn ack(&mut self, messages: &[MessageId]) {
        let mut bytes = Vec::new();
        encode_acks(AckKind::Received, messages, self.client, &mut bytes);
        self.socket.write_all(&bytes).unwrap();
    }
}

fn name(text: &str) -> Audience {
    Audience::devices(vec![DeviceName::parse("name", text).unwrap()])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_push_reaches_a_connected_device_and_its_ack_is_counted() {
    let node = Node::start().await;
    let registered = node.register("phone", &["red"]).await;
    let mut device = Device::login(&node, &registered);
    let red = Audience::of(Condition::any_tag([Tag::parse("tag", "red").unwrap()]));
    for audience in [name("phone"), red, Audience::all()] {
        let message = node.push(audience.clone(), 60).await;
        assert_eq!(device.receive(), message);
        device.ack(&[message]);
        node.delivered(message, 1).await;
        let message = node.push(audience, 0).await;
        assert_eq!(device.receive(), message);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_device_that_was_away_gets_everything_in_order_on_return() {
    let node = Node::start().await;
    let registered = node.register("phone", &[]).await;
    let mut own = Vec::new();
    let mut all = Vec::new();
    // More than a window, so that it is pulled in several pages.
    for _ in 0..80 {
        own.push(node.push(name("phone"), 60).await);
        all.push(node.push(Audience::all(), 60).await);
    }
    let mut device = Device::login(&node, &registered);
    let (mut got_own, mut got_all) = (Vec::new(), Vec::new());
    for _ in 0..160 {
        let message = device.receive();
        if own.contains(&message) {
            got_own.push(message)
        } else {
            got_all.push(message)
        }
        device.ack(&[message]);
    }
    assert_eq!(got_own, own);
    assert_eq!(got_all, all);
    for message in own.into_iter().chain(all) {
        node.delivered(message, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_was_not_acked_comes_again_to_the_newer_connection() {
    let node = Node::start().await;
    let registered = node.register("phone", &[]).await;
    let mut old = Device::login(&node, &registered);
    let message = node.push(name("phone"), 60).await;
    assert_eq!(old.receive(), message);
    let mut new = Device::login(&node, &registered);
    assert_eq!(new.receive(), message);
    let reason = match old.next() {
        Some(ServerFrame::Close(refusal)) => refusal.reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason, CloseReason::TakenOver);
    new.ack(&[message]);
    node.delivered(message, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_bad_token_is_told_so() {
    let node = Node::start().await;
    let registered = node.register("phone", &[]).await;
    let mut device = Device::connect(&node, ClientId(0), &registered.token[1..]);
    match device.next() {
        Some(ServerFrame::Refusal(refusal)) => assert_eq!(refusal.reason, CloseReason::BadToken),
        other => panic!("{other:?}"),
    }
    assert!(device.next().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn messages_to_the_business_are_answered_and_can_be_read_in_order() {
    let node = Node::start().await;
    let registered = node.register("phone", &[]).await;
    let mut device = Device::login(&node, &registered);
    // The clock stands still: 200 are within the burst, the last one is not.
    let mut bytes = Vec::new();
    for client_message in 0..=200 {
        let payload = &u64::to_be_bytes(client_message)[..];
        let upstream = Upstream { client_message, mode: 1, kind: "number", to: "", payload };
        DeviceFrame::Upstream(upstream).encode(device.client, &mut bytes);
    }
    DeviceFrame::Ping.encode(device.client, &mut bytes);
    device.socket.write_all(&bytes).unwrap();
    let (mut done, mut busy, mut pongs) = (Vec::new(), Vec::new(), 0);
    while done.len() + busy.len() + pongs < 202 {
        match device.next() {
            Some(ServerFrame::UpAck(answer)) if answer.outcome == ResultCode::Done => {
                done.push(answer.client_message);
            }
            Some(ServerFrame::UpAck(answer)) => {
                assert_eq!(answer.outcome, ResultCode::Busy);
                busy.push(answer.client_message);
            }
            Some(ServerFrame::Pong) => pongs += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((done, busy, pongs), ((0..200).collect(), vec![200], 1));
    let page = node.hub.upstream(&node.app, None, 1000, 1 << 20).await.unwrap().unwrap();
    let numbers: Vec<u64> = page.items.iter().map(|item| item.client_message).collect();
    assert_eq!(numbers, (0..200).collect::<Vec<_>>());
    assert!(page.items.iter().all(|item| item.payload[..] == item.client_message.to_be_bytes()));
}
