//! Gate, hub and store together, and devices on real sockets.

use longwire_proto::id::{ClientId, Kind, MessageId, Position, Source, TraceId};
use longwire_proto::session::InboundLimits;
use longwire_proto::wire::{
    AckKind, Assembler, Class, Connect, DeviceFrame, Network, ServerFrame, VERSION, encode_acks,
};
use longwire_server::delivery::AuthOptions;
use longwire_server::delivery::hub::{Hub, Parts, PushError, Receipt, Registered};
use longwire_server::domain::{
    App, AppKey, Audience, Content, DeviceName, DuplicateLogin, HeartbeatRules, Priority, Push, Registration,
    WallMs,
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

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
const NOW: WallMs = WallMs(1_800_000_000_000);

#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) hub: Hub,
    pub(crate) app: Arc<App>,
    address: SocketAddr,
    _gate: Arc<Gate>,
    _folder: Arc<tempfile::TempDir>,
}

impl Node {
    pub(crate) async fn start() -> Node {
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
            limits: longwire_server::domain::Limits::NONE,
            truth: Default::default(),
        };
        let hub = Hub::start(parts).await.unwrap();
        for events in events {
            let hub = hub.clone();
            tokio::spawn(async move { hub.serve_shard(events).await });
        }
        let (app, _) = hub.create_app(AppKey::parse("shop").unwrap(), false).await.unwrap();
        let address = gate.open(0, "127.0.0.1:0".parse().unwrap()).unwrap();
        Node { hub, app, address, _gate: Arc::new(gate), _folder: Arc::new(folder) }
    }

    pub(crate) async fn register(&self, registration: Registration) -> Registered {
        self.hub.register(&self.app, registration, true).await.unwrap()
    }

    pub(crate) async fn push(&self, audience: Audience, ttl_s: u32) -> Result<Receipt, PushError> {
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
            spread: None,
            report: Default::default(),
        };
        self.hub.push(&self.app, push).await
    }

    /// Until the hub knows that a device has no connection.
    pub(crate) async fn gone(&self, name: &str) {
        let deadline = Instant::now() + PATIENCE;
        let name = DeviceName::parse("name", name).unwrap();
        while self.hub.device(&self.app, name.clone()).await.unwrap().unwrap().1 > 0 {
            assert!(Instant::now() < deadline, "{name:?} is still connected");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// One connection.
pub(crate) struct Device {
    socket: TcpStream,
    client: ClientId,
    assembler: Assembler,
    waiting: Vec<u8>,
    /// The last position of mailbox and log that came in this session.
    last: [Option<Position>; 2],
}

impl Device {
    pub(crate) fn login(node: &Node, registered: &Registered) -> Device {
        let socket = TcpStream::connect(node.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        let client = registered.client;
        let mut device =
            Device { socket, client, assembler: Assembler::default(), waiting: Vec::new(), last: [None; 2] };
        device.send(&DeviceFrame::Connect(Connect {
            version: VERSION,
            network: Network::Wifi,
            class: Class::Phone,
            heartbeat_s: 60,
            resume_mailbox: Position::START,
            resume_log: Position::START,
            app_key: "shop",
            token: registered.token.as_bytes(),
        }));
        let is_welcome = device.next(|frame| matches!(frame, ServerFrame::Welcome(_)));
        assert!(is_welcome, "welcome");
        device
    }

    fn send(&mut self, frame: &DeviceFrame<'_>) {
        let mut bytes = Vec::new();
        frame.encode(self.client, &mut bytes);
        self.socket.write_all(&bytes).unwrap();
    }

    pub(crate) fn ping(&mut self) {
        self.send(&DeviceFrame::Ping);
    }

    /// The next message, which is acked if it is stored; `None` is a PONG.
    pub(crate) fn receive(&mut self) -> Option<MessageId> {
        let last = self.last;
        let (message, place) = self.next(|frame| match frame {
            ServerFrame::Pong => (None, None),
            ServerFrame::Push(push) => {
                let place = push.source.map(|source| (source, push.position));
                // The chain proves that nothing is missing.
                if let Some(before) = push.source.and_then(|source| last[index(source)]) {
                    assert_eq!(push.previous, before, "{push:?}");
                }
                (Some(push.message), place)
            }
            other => panic!("not a push: {other:?}"),
        });
        let message = message?;
        if let Some((source, position)) = place {
            self.last[index(source)] = Some(position);
            let mut bytes = Vec::new();
            encode_acks(AckKind::Received, &[message], self.client, &mut bytes);
            self.socket.write_all(&bytes).unwrap();
        }
        Some(message)
    }

    fn next<T>(&mut self, mut read: impl FnMut(&ServerFrame<'_>) -> T) -> T {
        loop {
            let mut input = &self.waiting[..];
            if let Some(frame) = self.assembler.next(&mut input, 1 << 20).unwrap() {
                let found = read(&ServerFrame::decode(&frame.header, frame.body).unwrap());
                let left = input.len();
                self.waiting.drain(..self.waiting.len() - left);
                return found;
            }
            self.waiting.clear();
            let mut buffer = [0; 4096];
            let count = self.socket.read(&mut buffer).expect("nothing came in time");
            assert!(count > 0, "the connection ended");
            self.waiting.extend_from_slice(&buffer[..count]);
        }
    }
}

fn index(source: Source) -> usize {
    match source {
        Source::Mailbox => 0,
        Source::AppLog => 1,
    }
}
