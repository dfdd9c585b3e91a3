//! MQTT clients over real sockets, and what the test's hub says to them.

use crate::rig::{APP, PATIENCE, Rig};
use longwire_proto::id::{ClientId, Position};
use longwire_proto::session::FeedStart;
use longwire_proto::wire::mqtt::{
    Ack, Connect, Decoder, Disconnect, FiltersBuf, Limits, Options, Packet, Properties, PropertiesBuf,
    Property, Publish, QoS, Reason, Side, Subscribe, Unsubscribe, Version, encode,
};
use longwire_server::delivery::border::topics::{
    From, MqttAttach, PublishOutcome, SubscribeOutcome, TopicCommand, TopicEvent, TopicRights, TopicWish,
};
use longwire_server::delivery::border::{Attach, Command, Event, Handle, Login};
use longwire_server::domain::topic::Rules;
use longwire_server::domain::{AssignedHeartbeat, WallMs};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

/// Every client is let in: its device has the number that its client id ends with, its rules come with the user name.
pub(crate) fn attach(login: &Login) -> Command {
    let mqtt = login.mqtt.as_ref().unwrap();
    let number = mqtt.client_id.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(1);
    let rules = match mqtt.user_name.as_deref() {
        Some("demo/ruled") => Rules::parse(["allow all own/%c/#"]).unwrap(),
        _ => Rules::open(),
    };
    // One user has been here before, and one was sent the first four places of its mailbox.
    let resumed = mqtt.user_name.as_deref() == Some("demo/resumed");
    let sent = if mqtt.user_name.as_deref() == Some("demo/sent") { 4 } else { 0 };
    let wish = |filter: &str| TopicWish {
        filter: filter.into(),
        qos: 1,
        no_local: false,
        retain_as_published: false,
        identifier: 3,
    };
    let subscriptions = if resumed { vec![wish("kept/+"), wish("$share/g/work")] } else { Vec::new() };
    Command::Attach(Box::new(Attach {
        to: login.from,
        client: ClientId(number),
        app: APP,
        labels: Box::default(),
        mailbox: FeedStart { last: Position::new(1, 0), waiting: false },
        log: FeedStart { last: Position::START, waiting: false },
        log_head: Position::START,
        server_time: WallMs(1_000),
        topics: None,
        mqtt: Some(Box::new(MqttAttach {
            session_present: resumed,
            assigned: mqtt.client_id.is_empty().then(|| "assigned".into()),
            expiry_s: mqtt.expiry_s.min(86_400),
            subscriptions,
            awaiting_release: if resumed { vec![7] } else { Vec::new() },
            sent: [Position::new(1, sent), Position::START],
            rules: Arc::new(rules),
            name: mqtt.client_id.clone(),
            user: Box::default(),
        })),
        heartbeat: AssignedHeartbeat { interval_s: 60, padding_max: 0 },
        frequency: None,
    }))
}

/// Clients from this number on get no answers; the test gives them.
pub(crate) const UNANSWERED: u64 = 1_000_000;

/// Says yes to everything.
pub(crate) fn hub_answer(from: From, event: &TopicEvent) -> Option<Command> {
    if from.client.0 >= UNANSWERED {
        return None;
    }
    let to = from.handle;
    let answered = |packet_id, subscribed, count| TopicCommand::Answered {
        to,
        packet_id,
        subscribed,
        outcomes: vec![SubscribeOutcome::Done; count],
        retained: vec![],
    };
    Some(Command::Topic(match event {
        TopicEvent::Publish { packet_id, .. } => {
            TopicCommand::Published { to, packet_id: (*packet_id)?, outcome: PublishOutcome::Taken }
        }
        TopicEvent::Release { packet_id } => TopicCommand::Released { to, packet_id: *packet_id },
        TopicEvent::Subscribe { packet_id, wishes, .. } => answered(*packet_id, true, wishes.len()),
        TopicEvent::Unsubscribe { packet_id, filters, .. } => answered(*packet_id, false, filters.len()),
        TopicEvent::Received { source, position, .. } => {
            TopicCommand::Recorded { to, source: *source, position: *position }
        }
        TopicEvent::Rights => {
            let rights = TopicRights { rules: Arc::new(Rules::open()), name: "native".into() };
            TopicCommand::Rights { to, rights: Some(Box::new(rights)) }
        }
        TopicEvent::Shared { .. } | TopicEvent::Expiry { .. } | TopicEvent::Keep => return None,
    }))
}

/// What a client says in CONNECT.
pub(crate) struct Hello {
    pub(crate) version: Version,
    pub(crate) client_id: String,
    pub(crate) user: &'static str,
    pub(crate) keep_alive_s: u16,
    pub(crate) properties: PropertiesBuf,
    pub(crate) will: Option<(&'static str, &'static [u8])>,
}

impl Hello {
    pub(crate) fn v5(number: u64) -> Hello {
        Hello {
            version: Version::V5,
            client_id: format!("c{number}"),
            user: "demo/test",
            keep_alive_s: 60,
            properties: PropertiesBuf::default(),
            will: None,
        }
    }

    pub(crate) fn v311(number: u64) -> Hello {
        Hello { version: Version::V311, ..Hello::v5(number) }
    }
}

impl Hello {
    pub(crate) fn with(mut self, property: Property<'_>) -> Hello {
        self.properties.push(property);
        self
    }
}

/// A client.
pub(crate) struct Client<S = TcpStream> {
    pub(crate) socket: S,
    pub(crate) version: Version,
    waiting: Vec<u8>,
    next_id: u16,
}

impl Rig {
    /// A connection that has said nothing yet.
    pub(crate) fn mqtt(&self, version: Version) -> Client {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Client { socket, version, waiting: Vec::new(), next_id: 0 }
    }

    pub(crate) fn hello(&self, hello: &Hello) -> Client {
        let mut client = self.mqtt(hello.version);
        client.say_hello(hello);
        match client.next() {
            Some(Packet::ConnAck(answer)) => assert_eq!(answer.reason, Reason::Success),
            other => panic!("expected CONNACK, got {other:?}"),
        }
        client
    }

    /// The connection of the newest login.
    pub(crate) fn last_login(&self) -> Handle {
        let events = self.events.lock().unwrap();
        let mut logins = events.iter().rev().filter_map(|event| match event {
            Event::Login(login) => Some(login.from),
            _ => None,
        });
        logins.next().unwrap()
    }

    pub(crate) fn v5(&self, number: u64) -> Client {
        self.hello(&Hello::v5(number))
    }

    pub(crate) fn v311(&self, number: u64) -> Client {
        self.hello(&Hello::v311(number))
    }
}

impl<S: Read + Write> Client<S> {
    /// Through whatever lies between, logged in.
    pub(crate) fn over(socket: S, hello: &Hello) -> Client<S> {
        let mut client = Client { socket, version: hello.version, waiting: Vec::new(), next_id: 0 };
        client.say_hello(hello);
        match client.next() {
            Some(Packet::ConnAck(answer)) => assert_eq!(answer.reason, Reason::Success),
            other => panic!("expected CONNACK, got {other:?}"),
        }
        client
    }

    pub(crate) fn say_hello(&mut self, hello: &Hello) {
        let will = hello.will.map(|(topic, payload)| longwire_proto::wire::mqtt::Will {
            qos: QoS::AtLeastOnce,
            retain: false,
            topic,
            payload,
            properties: Properties::default(),
        });
        self.send(&Packet::Connect(Connect {
            version: hello.version,
            clean_start: true,
            keep_alive_s: hello.keep_alive_s,
            client_id: &hello.client_id,
            will,
            user_name: Some(hello.user),
            password: Some(b"token"),
            properties: hello.properties.as_properties(),
        }));
    }

    pub(crate) fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        encode(packet, self.version, &mut bytes).unwrap();
        self.socket.write_all(&bytes).unwrap();
    }

    /// The next packet; `None` at the end of the connection.
    pub(crate) fn next(&mut self) -> Option<Packet<'static>> {
        loop {
            // Tests hold packets as long as they like.
            let decoder = Decoder::new(self.version, Side::Server, &Limits::SPECIFICATION);
            let whole: &'static [u8] = self.waiting.clone().leak();
            if let Some(header) = decoder.peek(whole).unwrap()
                && whole.len() >= header.packet_bytes()
            {
                let body = &whole[usize::from(header.header_bytes)..header.packet_bytes()];
                self.waiting.drain(..header.packet_bytes());
                return Some(decoder.decode(header, body).unwrap());
            }
            let mut buffer = [0; 65_536];
            match self.socket.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.waiting.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("reading: {error}"),
            }
        }
    }

    pub(crate) fn id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }

    /// Subscribes; the reason codes.
    pub(crate) fn subscribe_with(
        &mut self,
        filters: &[(&str, Options)],
        properties: &PropertiesBuf,
    ) -> Vec<Reason> {
        let mut list = FiltersBuf::default();
        filters.iter().for_each(|(filter, options)| list.subscribe(filter, *options, self.version));
        let packet_id = self.id();
        self.send(&Packet::Subscribe(Subscribe {
            packet_id,
            properties: properties.as_properties(),
            filters: list.subscriptions(),
        }));
        match self.next() {
            Some(Packet::SubAck(answer)) if answer.packet_id == packet_id => answer.reasons.iter().collect(),
            other => panic!("expected SUBACK, got {other:?}"),
        }
    }

    pub(crate) fn subscribe(&mut self, filter: &str, qos: QoS) -> Reason {
        self.subscribe_with(&[(filter, Options::plain(qos))], &PropertiesBuf::default())[0]
    }

    pub(crate) fn unsubscribe(&mut self, filter: &str) -> Vec<Reason> {
        let mut list = FiltersBuf::default();
        list.unsubscribe(filter);
        let packet_id = self.id();
        let properties = Properties::default();
        self.send(&Packet::Unsubscribe(Unsubscribe {
            packet_id,
            properties,
            filters: list.unsubscriptions(),
        }));
        match self.next() {
            Some(Packet::UnsubAck(answer)) if answer.packet_id == packet_id => {
                answer.reasons.iter().collect()
            }
            other => panic!("expected UNSUBACK, got {other:?}"),
        }
    }

    /// Publishes; the identifier, 0 with QoS 0.
    pub(crate) fn publish(&mut self, topic: &str, qos: QoS, payload: &[u8]) -> u16 {
        self.publish_with(topic, qos, false, &PropertiesBuf::default(), payload)
    }

    pub(crate) fn publish_with(
        &mut self,
        topic: &str,
        qos: QoS,
        retain: bool,
        properties: &PropertiesBuf,
        payload: &[u8],
    ) -> u16 {
        let packet_id = if qos == QoS::AtMostOnce { 0 } else { self.id() };
        self.send(&Packet::Publish(Publish {
            dup: false,
            qos,
            retain,
            topic,
            packet_id,
            properties: properties.as_properties(),
            payload,
        }));
        packet_id
    }

    /// The next packet, which must be a PUBLISH.
    pub(crate) fn message(&mut self) -> Publish<'static> {
        match self.next() {
            Some(Packet::Publish(publish)) => publish,
            other => panic!("expected PUBLISH, got {other:?}"),
        }
    }

    /// One of the four acks.
    pub(crate) fn ack(&mut self, make: fn(Ack<'static>) -> Packet<'static>, packet_id: u16) {
        let ack = Ack { packet_id, reason: Reason::Success, properties: Properties::default() };
        self.send(&make(ack));
    }

    /// The next packet must be this ack of this identifier; its reason.
    pub(crate) fn acked(&mut self, make: fn(Ack<'static>) -> Packet<'static>, packet_id: u16) -> Reason {
        let found = self.next();
        let Some(Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack)) =
            found
        else {
            panic!("expected an ack, got {found:?}");
        };
        assert_eq!(found, Some(make(Ack { packet_id, ..ack })));
        ack.reason
    }

    /// A message of QoS 2 under an identifier that was used before.
    pub(crate) fn publish_again(&mut self, packet_id: u16) {
        self.send(&Packet::Publish(Publish {
            dup: true,
            qos: QoS::ExactlyOnce,
            retain: false,
            topic: "kept/y",
            packet_id,
            properties: Properties::default(),
            payload: b"again",
        }));
    }

    /// Ends in one of several ways.
    pub(crate) fn leave(mut self, way: usize) {
        match way % 4 {
            0 => self.send(&Packet::Disconnect(Disconnect {
                reason: Reason::Success,
                properties: Properties::default(),
            })),
            1 => drop(self),
            2 => self.socket.write_all(&[0xFF; 8]).unwrap(),
            // In the middle of a packet.
            _ => self.socket.write_all(&[0x30, 100, 0, 1, b'x']).unwrap(),
        }
    }

    /// Nothing comes before the answer to a PINGREQ.
    pub(crate) fn nothing_before_pong(&mut self) {
        self.send(&Packet::PingReq);
        assert!(matches!(self.next(), Some(Packet::PingResp)), "only the answer");
    }
}
