//! A gate with a hub of the test's own behind it, and devices over real sockets.

use crate::mqtt_rig as mqtt;
use bytes::Bytes;
use longwire_proto::close::CloseReason;
use longwire_proto::id::{ClientId, Kind, MessageId, Position, TraceId};
use longwire_proto::session::FeedStart;
use longwire_proto::wire::{
    Assembler, Class, Command as Word, Connect, DeviceFrame, Header, Network, ServerFrame, VERSION,
    encode_push_shared,
};
use longwire_server::delivery::border::{
    Attach, Broadcast, Command, Event, Events as _, Handle, LabelId, Labelled, Outgoing, Reach, ShardId,
    Shards,
};
use longwire_server::domain::{AppId, AssignedHeartbeat, WallMs};
use longwire_server::gate::{Gate, GateOptions, GateStats};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(crate) const APP: AppId = AppId(1);
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Rig {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) gate: Arc<Gate>,
    pub(crate) shards: Arc<dyn Shards>,
    pub(crate) stats: Arc<GateStats>,
    pub(crate) address: SocketAddr,
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
}

pub(crate) fn options() -> GateOptions {
    GateOptions { shards: 2, heartbeat_min_s: 5, ..GateOptions::default() }
}

/// How a login of a client id is answered.
pub(crate) type Answer = fn(Handle, ClientId) -> Command;

pub(crate) fn welcome(to: Handle, client: ClientId) -> Command {
    attach(to, client, &[], Position::START)
}

pub(crate) fn attach(to: Handle, client: ClientId, labels: &[u32], log_head: Position) -> Command {
    Command::Attach(Box::new(Attach {
        to,
        client,
        app: APP,
        labels: labels.iter().map(|label| LabelId(*label)).collect(),
        mailbox: FeedStart { last: Position::new(1, 0), waiting: false },
        log: FeedStart { last: log_head, waiting: false },
        log_head,
        server_time: WallMs(1_000),
        mqtt: None,
        topics: None,
        heartbeat: AssignedHeartbeat { interval_s: 60, padding_max: 0 },
        frequency: None,
    }))
}

impl Rig {
    pub(crate) fn new(options: GateOptions, answer: Answer) -> Rig {
        Rig::with_clock(options, answer, Arc::new(|| WallMs(5_000)))
    }

    pub(crate) fn with_clock(
        options: GateOptions,
        answer: Answer,
        clock: Arc<dyn Fn() -> WallMs + Send + Sync>,
    ) -> Rig {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let guard = runtime.enter();
        let (gate, shards, all_events) = Gate::prepare(options, clock).unwrap();
        let events: Arc<Mutex<Vec<Event>>> = Arc::default();
        for mut shard_events in all_events {
            let (events, shards) = (events.clone(), shards.clone());
            runtime.spawn(async move {
                let mut batch = Vec::new();
                while shard_events.take(&mut batch, 256).await {
                    for event in batch.drain(..) {
                        let answer = match &event {
                            Event::Login(login) if login.mqtt.is_some() => {
                                Some((login.from, mqtt::attach(login)))
                            }
                            Event::Login(login) => Some((login.from, answer(login.from, login.client))),
                            Event::Topic(from, event) => {
                                mqtt::hub_answer(*from, event).map(|answer| (from.handle, answer))
                            }
                            _ => None,
                        };
                        events.lock().unwrap().push(event);
                        if let Some((to, answer)) = answer {
                            shards.post(to.shard(), answer).unwrap();
                        }
                    }
                }
            });
        }
        let address = gate.open(0, "127.0.0.1:0".parse().unwrap()).unwrap();
        drop(guard);
        let stats = gate.stats();
        Rig { runtime, gate: Arc::new(gate), shards, stats, address, events }
    }

    pub(crate) fn to_all(&self, make: impl Fn() -> Command) {
        for shard in 0..self.shards.count() {
            let mut command = make();
            while let Err(back) = self.shards.post(ShardId(shard as u8), command) {
                command = back;
                std::thread::yield_now();
            }
        }
    }

    /// To every connection, or to those with one of these labels.
    pub(crate) fn broadcast(&self, position: Position, labels: &[u32], number: u128, payload: &[u8]) {
        let condition = if labels.is_empty() { Labelled::Everyone } else { has(labels) };
        let reach = Reach { condition, ..Reach::everyone() };
        self.broadcast_to(reach, position, number, payload);
    }

    pub(crate) fn broadcast_to(&self, reach: Reach, position: Position, number: u128, payload: &[u8]) {
        let message = outgoing(number, payload);
        let broadcast = Arc::new(Broadcast { app: APP, reach, position, message });
        self.to_all(|| Command::Broadcast(broadcast.clone()));
    }

    /// The connection that a client logged in on.
    pub(crate) fn handle(&self, client: u64) -> Handle {
        let found = self.until(|rig| {
            let events = rig.events.lock().unwrap();
            events.iter().rev().find_map(|event| match event {
                Event::Login(login) if login.client == ClientId(client) => Some(login.from),
                _ => None,
            })
        });
        found.expect("the client logged in")
    }

    pub(crate) fn until<T>(&self, mut look: impl FnMut(&Rig) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self) {
                return Some(found);
            }
            if Instant::now() > deadline {
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn closed(&self, reason: CloseReason) -> u64 {
        self.stats.shards.iter().map(|shard| shard.closed[reason].load(Relaxed)).sum()
    }

    pub(crate) fn sum(
        &self,
        pick: impl Fn(&longwire_server::gate::ShardStats) -> &std::sync::atomic::AtomicU64,
    ) -> u64 {
        self.stats.shards.iter().map(|shard| pick(shard).load(Relaxed)).sum()
    }

    pub(crate) fn connect(&self) -> Device {
        self.connect_from([127, 0, 0, 1])
    }

    /// From an address of the loopback network.
    pub(crate) fn connect_from(&self, source: [u8; 4]) -> Device {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect(&self.address.into()).unwrap();
        self.device(socket.into())
    }

    /// A device whose kernel takes little while it does not read, logged in.
    pub(crate) fn login_with_small_buffer(&self, client: u64, receive_bytes: usize) -> Device {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(receive_bytes).unwrap();
        // As on a network: over loopback a segment would be larger than the whole window.
        socket.set_tcp_mss(1448).unwrap();
        socket.connect(&self.address.into()).unwrap();
        self.logged_in(self.device(socket.into()), client)
    }

    fn device(&self, socket: TcpStream) -> Device {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Device { socket, client: ClientId(0), assembler: Assembler::default(), waiting: Vec::new() }
    }

    pub(crate) fn login(&self, client: u64) -> Device {
        self.logged_in(self.connect(), client)
    }

    fn logged_in(&self, mut device: Device, client: u64) -> Device {
        device.send_connect(client);
        assert!(matches!(device.next(), Some(ServerFrame::Welcome(_))), "welcome");
        device
    }
}

/// Who has one of these labels.
pub(crate) fn has(labels: &[u32]) -> Labelled {
    Labelled::has(labels.iter().map(|label| LabelId(*label)).collect())
}

pub(crate) fn outgoing(number: u128, payload: &[u8]) -> Arc<Outgoing> {
    let mut shared = Vec::new();
    encode_push_shared(MessageId(number), Kind::Custom, TraceId(0), "", payload, &mut shared);
    Arc::new(Outgoing {
        message: MessageId(number),
        deadline: WallMs(65_000),
        shared: Bytes::from(shared),
        high: false,
    })
}

pub(crate) struct Device {
    pub(crate) socket: TcpStream,
    pub(crate) client: ClientId,
    assembler: Assembler,
    waiting: Vec<u8>,
}

impl Device {
    pub(crate) fn send_connect(&mut self, client: u64) {
        self.client = ClientId(client);
        let connect = Connect {
            version: VERSION,
            network: Network::Wifi,
            class: Class::Phone,
            heartbeat_s: 60,
            resume_mailbox: Position::START,
            resume_log: Position::START,
            app_key: "demo",
            token: b"token",
        };
        self.send(&DeviceFrame::Connect(connect));
    }

    pub(crate) fn send(&mut self, frame: &DeviceFrame<'_>) {
        let mut bytes = Vec::new();
        frame.encode(self.client, &mut bytes);
        self.socket.write_all(&bytes).unwrap();
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<ServerFrame<'static>> {
        let (header, body) = self.next_raw()?;
        // Tests hold frames as long as they like.
        let body: &'static [u8] = Vec::leak(body);
        Some(ServerFrame::decode(&header, body).unwrap())
    }

    pub(crate) fn next_raw(&mut self) -> Option<(Header, Vec<u8>)> {
        loop {
            let mut input = &self.waiting[..];
            if let Some(frame) = self.assembler.next(&mut input, 1 << 20).unwrap() {
                let found = (frame.header, frame.body.to_vec());
                let left = input.len();
                self.waiting.drain(..self.waiting.len() - left);
                return Some(found);
            }
            self.waiting.clear();
            let mut buffer = [0; 4096];
            match self.socket.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.waiting.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("reading: {error}"),
            }
        }
    }

    /// The number of the next PUSH.
    pub(crate) fn push(&mut self) -> u128 {
        match self.next() {
            Some(ServerFrame::Push(push)) => push.message.0,
            other => panic!("expected a push, got {other:?}"),
        }
    }

    /// The next frame must not be a delivery: a heartbeat comes back first.
    pub(crate) fn nothing_before_pong(&mut self) {
        self.send(&DeviceFrame::Ping);
        let (header, _) = self.next_raw().expect("a pong");
        assert_eq!(header.command, Word::Pong);
    }
}
