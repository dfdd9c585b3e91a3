//! A device over a blocking socket and proto's client session, which checks what it gets: dedup, holes, order.

use super::PATIENCE;
use super::raw::client_id;
use longwire_proto::close::CloseReason;
use longwire_proto::id::{Kind, MessageId, Position, Source, TraceId};
use longwire_proto::session::{ClientSession, Credentials, FromServer, Memory, Millis};
use longwire_proto::wire::mqtt::RetainHandling;
use longwire_proto::wire::{
    AckKind, Class, DeviceFrame, Gap, Network, Publish, Push, Refusal, ResultCode, SelfService, Subscribe,
    TopicBody, Upstream, Welcome,
};
use serde_json::Value;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What a device saw, in the order in which it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// Logged in.
    Welcome(Welcome),
    /// Login refused.
    Refused(Refusal),
    /// A heartbeat was answered.
    Pong,
    /// A delivery.
    Push {
        /// Where it counts; `None` = online only.
        source: Option<Source>,
        /// Its place.
        position: Position,
        /// The place of the delivery before it.
        previous: Position,
        /// Its flags.
        flags: u8,
        /// Its id.
        message: MessageId,
        /// What it is.
        kind: Kind,
        /// The message that it takes the place of.
        replaces: Option<MessageId>,
        /// Its trace.
        trace: TraceId,
        /// Remaining seconds to live.
        ttl_s: u32,
        /// Its content.
        payload: Vec<u8>,
        /// In the device's dedup window.
        repeated: bool,
        /// Something before it was missed and not announced.
        hole: bool,
    },
    /// Something was left out.
    Gap(Gap),
    /// An answer to UPSTREAM.
    UpAck {
        /// The device's id of the message.
        client_message: u64,
        /// What became of it.
        outcome: ResultCode,
    },
    /// An answer to self-service.
    Result {
        /// The device's number of the request.
        request: u32,
        /// What became of it.
        code: ResultCode,
    },
    /// The node will close.
    GoAway {
        /// Milliseconds to wait.
        after_ms: u32,
    },
    /// The server said that it ends the connection.
    Closed(Refusal),
    /// The server broke the protocol.
    Broken(CloseReason),
    /// End of the stream.
    Ended,
    /// Any other frame.
    Other,
}

impl Seen {
    /// The content of a delivery as text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Seen::Push { payload, .. } => std::str::from_utf8(payload).ok(),
            _ => None,
        }
    }
    /// The id of a delivery.
    pub fn message(&self) -> Option<MessageId> {
        match self {
            Seen::Push { message, .. } => Some(*message),
            _ => None,
        }
    }
}

/// A device.
pub struct TestDevice {
    /// Its registration id.
    pub name: String,
    /// Where it connects.
    pub to: SocketAddr,
    /// Whether it acks what it gets at once; else the test calls [`TestDevice::ack`].
    pub acks: bool,
    credentials: Credentials,
    memory: Memory,
    live: Option<Live>,
    seen: VecDeque<Seen>,
    requests: u32,
    since: Instant,
}

struct Live {
    stream: TcpStream,
    session: ClientSession,
}

impl TestDevice {
    /// From the answer to its registration.
    #[track_caller]
    pub fn new(to: SocketAddr, app_key: &str, name: &str, registered: &Value) -> TestDevice {
        TestDevice {
            name: name.to_owned(),
            to,
            acks: true,
            credentials: Credentials {
                app_key: app_key.to_owned(),
                token: registered["token"].as_str().expect("a token").to_owned(),
                client: client_id(registered),
                network: Network::Wired,
                class: Class::Iot,
                heartbeat_s: 60,
            },
            memory: Memory::default(),
            live: None,
            seen: VecDeque::new(),
            requests: 0,
            since: Instant::now(),
        }
    }

    /// Does not ack by itself.
    #[must_use]
    pub fn silent(mut self) -> TestDevice {
        self.acks = false;
        self
    }

    /// What it logs in with; a test may spoil it.
    pub fn credentials(&mut self) -> &mut Credentials {
        &mut self.credentials
    }

    /// Connects and waits for WELCOME.
    #[track_caller]
    pub fn connect(&mut self) -> Welcome {
        self.try_connect().unwrap_or_else(|error| panic!("{}: {error}", self.name));
        match self.next(PATIENCE) {
            Some(Seen::Welcome(welcome)) => welcome,
            other => panic!("{}: instead of WELCOME {other:?}", self.name),
        }
    }

    /// Connects and sends CONNECT, without waiting for the answer.
    pub fn try_connect(&mut self) -> std::io::Result<()> {
        self.drop_connection();
        self.seen.clear();
        let mut stream = TcpStream::connect_timeout(&self.to, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        let mut out = Vec::new();
        let memory = std::mem::take(&mut self.memory);
        let session = ClientSession::begin(&self.credentials, memory, self.now(), &mut out);
        let sent = stream.write_all(&out);
        self.live = Some(Live { stream, session });
        sent
    }

    /// The next thing that the server says; `None` if there is nothing within `patience`.
    pub fn next(&mut self, patience: Duration) -> Option<Seen> {
        let end = Instant::now() + patience;
        while self.seen.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.read(left) {
                break;
            }
        }
        self.seen.pop_front()
    }

    /// The next delivery, heartbeats passed over; anything else fails the test.
    #[track_caller]
    pub fn expect_push(&mut self, patience: Duration) -> Seen {
        loop {
            match self.next(patience) {
                Some(Seen::Pong) => {}
                Some(push @ Seen::Push { .. }) => return push,
                other => panic!("{}: instead of a PUSH {other:?}", self.name),
            }
        }
    }

    /// The next delivery must be this text.
    #[track_caller]
    pub fn expect_text(&mut self, text: &str) -> Seen {
        let push = self.expect_push(PATIENCE);
        assert_eq!(push.text(), Some(text), "{}: {push:?}", self.name);
        push
    }

    /// Proves that nothing is on its way: a heartbeat comes back with no delivery before it. Deliveries that the
    /// server has not handed to this connection yet are not seen by this; compare counts for those.
    #[track_caller]
    pub fn expect_nothing(&mut self) {
        self.ping();
        match self.next(PATIENCE) {
            Some(Seen::Pong) => {}
            other => panic!("{}: instead of nothing {other:?}", self.name),
        }
    }

    /// Passes over everything until the connection ends; what the server said of the reason, if anything.
    #[track_caller]
    pub fn expect_end(&mut self) -> Option<CloseReason> {
        let mut said = None;
        loop {
            match self.next(PATIENCE) {
                Some(Seen::Closed(refusal) | Seen::Refused(refusal)) => said = Some(refusal.reason),
                Some(Seen::Ended) => return said,
                Some(_) => {}
                None => panic!("{}: the connection did not end", self.name),
            }
        }
    }

    /// Acks messages.
    pub fn ack(&mut self, messages: &[MessageId]) {
        if let Some(live) = &mut self.live {
            let mut out = Vec::new();
            live.session.ack(AckKind::Received, messages, &mut out);
            live.stream.write_all(&out).ok();
        }
    }

    /// Says a word about a message.
    pub fn say(&mut self, kind: AckKind, message: MessageId) {
        if let Some(live) = &mut self.live {
            let mut out = Vec::new();
            live.session.ack(kind, &[message], &mut out);
            live.stream.write_all(&out).ok();
        }
    }

    /// Sends a bare PING.
    pub fn ping(&mut self) {
        let ping =
            longwire_proto::wire::heartbeat(longwire_proto::wire::Command::Ping, self.credentials.client);
        self.send(&ping);
    }

    /// Sends a text to the business, to be durable before its answer.
    pub fn upstream(&mut self, client_message: u64, text: &str) {
        let payload = text.as_bytes();
        let frame = Upstream { client_message, mode: 1, kind: "text", to: "", payload };
        self.send_upstream(frame);
    }

    /// Sends any UPSTREAM.
    pub fn send_upstream(&mut self, upstream: Upstream<'_>) {
        let mut bytes = Vec::new();
        DeviceFrame::Upstream(upstream).encode(self.credentials.client, &mut bytes);
        self.send(&bytes);
    }

    /// The next answer to an UPSTREAM; anything else but a heartbeat fails the test.
    #[track_caller]
    pub fn expect_upack(&mut self) -> (u64, ResultCode) {
        loop {
            match self.next(PATIENCE) {
                Some(Seen::Pong) => {}
                Some(Seen::UpAck { client_message, outcome }) => return (client_message, outcome),
                other => panic!("{}: instead of UPACK {other:?}", self.name),
            }
        }
    }

    /// Sends any frame.
    pub fn send_frame(&mut self, frame: &DeviceFrame<'_>) {
        let mut bytes = Vec::new();
        frame.encode(self.credentials.client, &mut bytes);
        self.send(&bytes);
    }

    /// Asks for a self-service and waits for the answer; messages that come meanwhile stay in their order.
    #[track_caller]
    pub fn ask(&mut self, what: SelfService<'_>) -> ResultCode {
        self.requests += 1;
        let request = self.requests;
        self.send_frame(&DeviceFrame::SelfService { request, what });
        self.await_answer(|seen| match seen {
            Seen::Result { request: answered, code } if *answered == request => Some(*code),
            _ => None,
        })
    }

    /// Waits for an answer; messages that come before it stay in their order.
    #[track_caller]
    fn await_answer<T>(&mut self, wanted: impl Fn(&Seen) -> Option<T>) -> T {
        let mut before = VecDeque::new();
        loop {
            let next = self.next(PATIENCE);
            if let Some(found) = next.as_ref().and_then(&wanted) {
                before.append(&mut self.seen);
                self.seen = before;
                return found;
            }
            match next {
                Some(push @ Seen::Push { .. }) => before.push_back(push),
                Some(Seen::Pong) => {}
                other => panic!("{}: instead of an answer {other:?}", self.name),
            }
        }
    }

    /// Subscribes with the options of a plain subscription: `kept` or not, retained messages wanted.
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, kept: bool) -> ResultCode {
        let retained = RetainHandling::Send;
        self.ask(SelfService::Subscribe(Subscribe { filter, kept, no_local: false, retained }))
    }

    /// Ends a subscription.
    #[track_caller]
    pub fn unsubscribe(&mut self, filter: &str) -> ResultCode {
        self.ask(SelfService::Unsubscribe(filter))
    }

    /// Publishes at least once, and waits for the answer.
    #[track_caller]
    pub fn publish(&mut self, topic: &str, text: &str) -> ResultCode {
        self.requests += 1;
        let client_message = u64::from(self.requests);
        self.send_frame(&DeviceFrame::Publish(Publish {
            client_message,
            at_least_once: true,
            retain: false,
            ttl_s: 0,
            topic,
            payload: text.as_bytes(),
        }));
        self.await_answer(|seen| match seen {
            Seen::UpAck { client_message: answered, outcome } if *answered == client_message => {
                Some(*outcome)
            }
            _ => None,
        })
    }

    /// The next delivery must be this text on this topic. Returns whether it came through the mailbox, and its flags.
    #[track_caller]
    pub fn expect_topic(&mut self, topic: &str, text: &str) -> (bool, u8) {
        let push = self.expect_push(PATIENCE);
        let Seen::Push { source, flags, kind: Kind::Topic, payload, .. } = &push else {
            panic!("{}: instead of a topic {push:?}", self.name)
        };
        let body = TopicBody::decode(payload).expect("a topic's body");
        assert_eq!((body.topic, std::str::from_utf8(body.content)), (topic, Ok(text)), "{}", self.name);
        (source.is_some(), *flags)
    }

    /// Writes raw bytes into the connection.
    pub fn send(&mut self, bytes: &[u8]) {
        if let Some(live) = &mut self.live {
            live.stream.write_all(bytes).ok();
        }
    }

    /// An orderly end: CLOSE, then the end of the stream.
    pub fn close(&mut self) {
        if let Some(live) = &mut self.live {
            let mut out = Vec::new();
            live.session.close(&mut out);
            live.stream.write_all(&out).ok();
        }
        self.drop_connection();
    }

    /// Lets go of the socket without a word; what was received and not looked at yet stays in the queue.
    pub fn drop_connection(&mut self) {
        if let Some(live) = self.live.take() {
            self.memory = live.session.into_memory();
        }
    }

    /// A second hold on the socket, so that the connection stays open beside the next one.
    pub fn hold(&self) -> Option<TcpStream> {
        self.live.as_ref().and_then(|live| live.stream.try_clone().ok())
    }

    /// Forgets dedup window and positions, as a device whose storage was wiped.
    pub fn forget(&mut self) {
        self.drop_connection();
        self.memory = Memory::default();
    }

    /// Whether it holds a connection.
    pub fn is_connected(&self) -> bool {
        self.live.is_some()
    }

    fn now(&self) -> Millis {
        Millis(self.since.elapsed().as_millis() as u64)
    }

    /// One read from the socket into the queue. False: nothing came, or there is no connection.
    fn read(&mut self, patience: Duration) -> bool {
        let now = self.now();
        let Some(live) = &mut self.live else { return false };
        live.stream.set_read_timeout(Some(patience.max(Duration::from_millis(1)))).unwrap();
        let mut buffer = [0; 16 * 1024];
        let count = match live.stream.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return false;
            }
            Err(_) => 0,
        };
        if count == 0 {
            self.seen.push_back(Seen::Ended);
            self.drop_connection();
            return true;
        }
        self.take_in(&buffer[..count], now);
        true
    }

    fn take_in(&mut self, bytes: &[u8], now: Millis) {
        let Some(live) = &mut self.live else { return };
        let mut rest = bytes;
        let mut out = Vec::new();
        let mut to_ack = Vec::new();
        loop {
            // A fresh slice each time: a frame borrows session and input for as long as it is looked at.
            let mut input = rest;
            // The session answers GAPs by itself, into `out`.
            match live.session.receive(&mut input, now, &mut out) {
                Ok(None) => break,
                Ok(Some(from)) => {
                    if let FromServer::Push { push, .. } = &from
                        && push.source.is_some()
                    {
                        to_ack.push(push.message);
                    }
                    self.seen.push_back(seen(&from));
                    rest = &rest[rest.len() - input.len()..];
                }
                Err(reason) => {
                    self.seen.push_back(Seen::Broken(reason));
                    break;
                }
            }
        }
        if self.acks {
            for ids in to_ack.chunks(longwire_proto::limit::ACK_IDS_MAX) {
                live.session.ack(AckKind::Received, ids, &mut out);
            }
        }
        live.stream.write_all(&out).ok();
    }
}

fn seen(from: &FromServer<'_>) -> Seen {
    match from {
        FromServer::Welcome(welcome) => Seen::Welcome(welcome.clone()),
        FromServer::Refused(refusal) => Seen::Refused(*refusal),
        FromServer::Pong { .. } => Seen::Pong,
        FromServer::Push { push, repeated, hole } => pushed(push, *repeated, *hole),
        FromServer::Gap(gap) => Seen::Gap(*gap),
        FromServer::UpAck(answer) => {
            Seen::UpAck { client_message: answer.client_message, outcome: answer.outcome }
        }
        FromServer::Result { request, code } => Seen::Result { request: *request, code: *code },
        FromServer::GoAway { after_ms, .. } => Seen::GoAway { after_ms: *after_ms },
        FromServer::Closed(refusal) => Seen::Closed(*refusal),
        _ => Seen::Other,
    }
}

fn pushed(push: &Push<'_>, repeated: bool, hole: bool) -> Seen {
    Seen::Push {
        source: push.source,
        position: push.position,
        previous: push.previous,
        flags: push.flags,
        message: push.message,
        kind: push.kind,
        replaces: push.replaces,
        trace: push.trace,
        ttl_s: push.ttl_s,
        payload: push.payload.to_vec(),
        repeated,
        hole,
    }
}
