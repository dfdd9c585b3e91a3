//! The client's end of MQTT talks with the server's, in 3.1.1 and 5.0, byte by byte and in one piece.
#![allow(clippy::unwrap_used)]

use longwire_proto::id::{ClientId, Position};
use longwire_proto::session::mqtt::{Awaiting, FromClient, Granted, PacketAssembler, Session, Terms};
use longwire_proto::session::mqtt_client::{
    Broken, FromServer, IN_FLIGHT_MAX, Login, MqttClient, NotSent, Publication, RECEIVE_MAX, Tick, Wish,
};
use longwire_proto::session::{FeedStart, Millis};
use longwire_proto::wire::mqtt::{
    ConnAck, Disconnect, Kind, Limits, Options, Packet, Properties, PropertiesBuf, Property, Publish, QoS,
    Reason, Version, encode,
};

const NOW: Millis = Millis(1_000);
const VERSIONS: [Version; 2] = [Version::V311, Version::V5];
/// Bytes at once through the pipe.
const CUTS: [usize; 3] = [1, 3, usize::MAX];

/// Both ends and the pipe between them.
struct Talk {
    client: MqttClient,
    server: Session,
    assembler: PacketAssembler,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    cut: usize,
}

/// In words, so that nothing is borrowed.
type Said = Vec<String>;

impl Talk {
    fn begin(version: Version, cut: usize) -> (Talk, Said) {
        Talk::with(&Login::clean(version, "one"), cut)
    }

    fn with(login: &Login<'_>, cut: usize) -> (Talk, Said) {
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        let client = MqttClient::begin(login, NOW, &mut to_server).unwrap();
        let mut awaiting = Awaiting::default();
        let mut terms = None;
        for piece in to_server.chunks(cut.min(to_server.len())) {
            let mut input = piece;
            if let Some(connect) = awaiting.receive(&mut input, &Limits::default()).unwrap() {
                assert_eq!((connect.client_id, connect.clean_start), (login.client_id, login.clean_start));
                assert_eq!(connect.user_name, login.user_name);
                assert_eq!(connect.password, login.password);
                terms = Some(Terms::of(&connect));
            }
        }
        let start = FeedStart { last: Position::new(1, 0), waiting: false };
        let granted = Granted {
            session_present: false,
            assigned: None,
            expiry_s: None,
            keep_alive_s: None,
            packet_bytes_max: 1_000,
            response: None,
        };
        let (server, rest) =
            awaiting.decide(terms.unwrap(), &[]).accept(ClientId(7), start, start, &granted, &mut to_client);
        assert!(rest.is_empty());
        let assembler = PacketAssembler::default();
        let mut talk = Talk { client, server, assembler, to_server: Vec::new(), to_client, cut };
        let said = talk.client_reads().unwrap();
        (talk, said)
    }

    fn client_reads(&mut self) -> Result<Said, Broken> {
        let bytes = std::mem::take(&mut self.to_client);
        let mut said = Vec::new();
        for piece in bytes.chunks(self.cut.min(bytes.len().max(1))) {
            let mut input = piece;
            while let Some(from) = self.client.receive(&mut input, &mut self.to_server)? {
                said.push(match from {
                    FromServer::Message { publish, repeated } => {
                        let text = String::from_utf8_lossy(publish.payload);
                        format!("{} {text}{}", publish.topic, if repeated { " again" } else { "" })
                    }
                    FromServer::Subscribed { packet_id, reasons } => {
                        format!("subscribed {packet_id} {:?}", reasons.iter().collect::<Vec<_>>())
                    }
                    FromServer::Unsubscribed { packet_id, .. } => format!("unsubscribed {packet_id}"),
                    other => format!("{other:?}"),
                });
            }
        }
        Ok(said)
    }

    /// The server takes what came: messages and filters are answered with success.
    fn server_reads(&mut self) -> Said {
        let bytes = std::mem::take(&mut self.to_server);
        let mut said = Vec::new();
        for piece in bytes.chunks(self.cut.min(bytes.len().max(1))) {
            let mut input = piece;
            let limits = Limits::default();
            loop {
                let decoder = self.server.decoder(&limits);
                let Some(packet) = self.assembler.next(&mut input, &decoder, false).unwrap() else { break };
                let mut answer = Answer::None;
                said.push(match self.server.receive(packet, &mut self.to_client).unwrap() {
                    FromClient::Publish(incoming) => {
                        if incoming.qos != QoS::AtMostOnce {
                            answer = Answer::Published(incoming.packet_id);
                        }
                        format!("{} {}", incoming.topic, String::from_utf8_lossy(incoming.content))
                    }
                    FromClient::Subscribe(subscribe) => {
                        let granted = subscribe.filters.iter().map(|entry| entry.options.qos).collect();
                        answer = Answer::Subscribed(subscribe.packet_id, granted);
                        let names: Vec<_> =
                            subscribe.filters.iter().map(|entry| entry.filter.as_str()).collect();
                        format!("subscribe {names:?}")
                    }
                    FromClient::Unsubscribe(unsubscribe) => {
                        answer = Answer::Unsubscribed(unsubscribe.packet_id);
                        "unsubscribe".into()
                    }
                    other => format!("{other:?}"),
                });
                self.answer(answer);
            }
        }
        said
    }

    fn answer(&mut self, answer: Answer) {
        let out = &mut self.to_client;
        match answer {
            Answer::None => {}
            Answer::Published(packet_id) => self.server.published(packet_id, Reason::Success, out),
            Answer::Unsubscribed(packet_id) => {
                self.server.unsubscribed(packet_id, &[Reason::Success], out);
            }
            Answer::Subscribed(packet_id, granted) => {
                let reasons: Vec<_> = granted
                    .iter()
                    .map(|qos| match qos {
                        QoS::AtMostOnce => Reason::Success,
                        QoS::AtLeastOnce => Reason::GrantedQoS1,
                        QoS::ExactlyOnce => Reason::GrantedQoS2,
                    })
                    .collect();
                self.server.subscribed(packet_id, &reasons, out);
            }
        }
    }

    /// The server sends a message that no store holds.
    fn server_sends(&mut self, qos: QoS, text: &str) {
        let packet_id = if qos == QoS::AtMostOnce { 0 } else { self.server.send_unstored(qos, 5).unwrap() };
        self.put(&Packet::Publish(message(qos, packet_id, text)));
    }

    fn put(&mut self, packet: &Packet<'_>) {
        encode(packet, self.server.terms().version, &mut self.to_client).unwrap();
    }

    fn publish(&mut self, qos: QoS, text: &str) -> Result<u16, NotSent> {
        let publication = Publication {
            topic: "up",
            qos,
            retain: false,
            properties: Properties::default(),
            content: text.as_bytes(),
        };
        self.client.publish(&publication, NOW, &mut self.to_server)
    }
}

/// What the server has to say to a packet.
enum Answer {
    None,
    Published(u16),
    Subscribed(u16, Vec<QoS>),
    Unsubscribed(u16),
}

fn message(qos: QoS, packet_id: u16, text: &str) -> Publish<'_> {
    Publish {
        dup: false,
        qos,
        retain: false,
        topic: "down",
        packet_id,
        properties: Properties::default(),
        payload: text.as_bytes(),
    }
}

/// Every version in every cut.
fn talks() -> impl Iterator<Item = Talk> {
    VERSIONS.into_iter().flat_map(|version| CUTS.map(|cut| Talk::begin(version, cut).0))
}

#[test]
fn a_login_is_welcomed_and_agrees_on_the_smaller_window() {
    for (version, in_flight_max) in [(Version::V311, 400), (Version::V5, 32)] {
        for cut in CUTS {
            let login = Login {
                user_name: Some("app"),
                password: Some(b"secret"),
                in_flight_max: 400,
                keep_alive_s: 60,
                ..Login::clean(version, "client-1")
            };
            let (_, said) = Talk::with(&login, cut);
            let welcome = format!(
                "Welcome(Welcome {{ session_present: false, in_flight_max: {in_flight_max}, keep_alive_s: 60 }})"
            );
            assert_eq!(said, [welcome]);
        }
    }
}

#[test]
fn a_refused_login_says_why() {
    for (version, reason) in
        [(Version::V311, Reason::BadUserNameOrPassword), (Version::V5, Reason::QuotaExceeded)]
    {
        let (mut sent, mut answer) = (Vec::new(), Vec::new());
        let mut client = MqttClient::begin(&Login::clean(version, "one"), NOW, &mut sent).unwrap();
        let refusal = ConnAck { session_present: false, reason, properties: Properties::default() };
        encode(&Packet::ConnAck(refusal), version, &mut answer).unwrap();
        let from = client.receive(&mut &answer[..], &mut sent).unwrap();
        assert_eq!(from, Some(FromServer::Refused(reason)));
        let nothing = client.publish(&publication(b""), NOW, &mut sent);
        assert_eq!(nothing, Err(NotSent::NotLoggedIn));
    }
}

fn publication(content: &[u8]) -> Publication<'_> {
    Publication {
        topic: "up",
        qos: QoS::AtMostOnce,
        retain: false,
        properties: Properties::default(),
        content,
    }
}

#[test]
fn messages_of_every_qos_go_up_and_end() {
    for mut talk in talks() {
        assert_eq!(talk.publish(QoS::AtMostOnce, "zero"), Ok(0));
        assert_eq!(talk.publish(QoS::AtLeastOnce, "one"), Ok(1));
        assert_eq!(talk.publish(QoS::ExactlyOnce, "two"), Ok(2));
        assert_eq!(talk.client.in_flight(), 2);
        assert_eq!(talk.server_reads(), ["up zero", "up one", "up two"]);
        let ended = |packet_id| format!("Published {{ packet_id: {packet_id}, reason: Success }}");
        assert_eq!(talk.client_reads().unwrap(), [ended(1), "Answered".into()]);
        assert_eq!(talk.client.in_flight(), 1);
        assert_eq!(talk.server_reads(), ["Answered"]);
        assert_eq!(talk.client_reads().unwrap(), [ended(2)]);
        assert_eq!(talk.client.in_flight(), 0);
    }
}

#[test]
fn messages_of_every_qos_come_down_and_end() {
    for mut talk in talks() {
        talk.server_sends(QoS::AtMostOnce, "zero");
        talk.server_sends(QoS::AtLeastOnce, "one");
        talk.server_sends(QoS::ExactlyOnce, "two");
        assert_eq!(talk.client_reads().unwrap(), ["down zero", "down one", "down two"]);
        assert_eq!(talk.server_reads(), ["Unstored { number: 5 }", "Answered"]);
        assert_eq!(talk.client_reads().unwrap(), ["Answered"]);
        assert_eq!(talk.server_reads(), ["Unstored { number: 5 }"]);
        assert_eq!(talk.server.unstored().count(), 0);
    }
}

#[test]
fn filters_are_granted_and_taken_back() {
    for mut talk in talks() {
        let wishes = [("a/+", QoS::AtMostOnce), ("b/#", QoS::AtLeastOnce)]
            .map(|(filter, qos)| Wish { filter, options: Options::plain(qos) });
        assert_eq!(talk.client.subscribe(&wishes, NOW, &mut talk.to_server), Ok(1));
        assert_eq!(talk.client.unsubscribe(&["a/+"], NOW, &mut talk.to_server), Ok(2));
        assert_eq!(talk.client.in_flight(), 0, "filters are no messages");
        assert_eq!(talk.server_reads(), [r#"subscribe ["a/+", "b/#"]"#, "unsubscribe"]);
        assert_eq!(talk.client_reads().unwrap(), ["subscribed 1 [Success, GrantedQoS1]", "unsubscribed 2"]);
    }
}

#[test]
fn a_full_window_sends_nothing_until_a_message_ends() {
    for mut talk in talks() {
        for _ in 0..IN_FLIGHT_MAX {
            talk.publish(QoS::AtLeastOnce, "x").unwrap();
        }
        let before = talk.to_server.len();
        assert_eq!(talk.publish(QoS::ExactlyOnce, "x"), Err(NotSent::WindowFull));
        assert_eq!(talk.publish(QoS::AtMostOnce, "QoS 0 needs no place"), Ok(0));
        assert!(talk.to_server.len() > before);
        talk.server_reads();
        talk.client_reads().unwrap();
        assert_eq!(talk.publish(QoS::AtLeastOnce, "x"), Ok(IN_FLIGHT_MAX + 1));
    }
}

#[test]
fn identifiers_go_round_and_skip_those_in_use() {
    let (mut talk, _) = Talk::begin(Version::V311, usize::MAX);
    // The first stays unfinished.
    assert_eq!(talk.publish(QoS::AtLeastOnce, "first"), Ok(1));
    talk.to_server.clear();
    for turn in 2..=u32::from(u16::MAX) {
        assert_eq!(talk.publish(QoS::AtLeastOnce, "x"), Ok(turn as u16));
        talk.server_reads();
        talk.client_reads().unwrap();
    }
    assert_eq!(talk.publish(QoS::AtLeastOnce, "x"), Ok(2), "1 is in use, 0 is none");
}

#[test]
fn a_packet_above_the_servers_maximum_is_not_sent() {
    let (mut talk, _) = Talk::begin(Version::V5, usize::MAX);
    // One byte of type, two of length, four of topic, one of properties.
    let longest = vec![b'x'; 1_000 - 8];
    let text = String::from_utf8(longest).unwrap();
    assert_eq!(talk.publish(QoS::AtMostOnce, &format!("{text}x")), Err(NotSent::TooLarge));
    assert!(talk.to_server.is_empty());
    assert_eq!(talk.publish(QoS::AtMostOnce, &text), Ok(0));
    assert_eq!(talk.to_server.len(), 1_000);
}

#[test]
fn silence_is_broken_by_a_ping_and_a_server_that_does_not_answer_is_lost() {
    for version in VERSIONS {
        let (mut talk, _) = Talk::with(&Login { keep_alive_s: 60, ..Login::clean(version, "one") }, 1);
        assert_eq!(talk.client.deadline(), Some(Millis(61_000)));
        assert_eq!(talk.client.tick(Millis(60_999), &mut talk.to_server), Tick::Go);
        assert!(talk.to_server.is_empty());
        assert_eq!(talk.client.tick(Millis(61_000), &mut talk.to_server), Tick::Go);
        assert_eq!(talk.server_reads(), ["Ping"]);
        assert_eq!(talk.client_reads().unwrap(), ["Pong"]);
        assert_eq!(talk.client.deadline(), Some(Millis(121_000)));
        talk.client.tick(Millis(121_000), &mut talk.to_server);
        assert_eq!(talk.client.tick(Millis(130_999), &mut talk.to_server), Tick::Go);
        assert_eq!(talk.client.tick(Millis(131_000), &mut talk.to_server), Tick::Lost);
    }
}

#[test]
fn goodbye_reaches_the_server_and_the_servers_reaches_the_client() {
    for mut talk in talks() {
        talk.client.disconnect(NOW, &mut talk.to_server).unwrap();
        assert_eq!(talk.server_reads(), ["Disconnect { with_will: false, expiry_s: None }"]);
    }
    let (mut talk, _) = Talk::begin(Version::V5, 1);
    let goodbye = Disconnect { reason: Reason::ServerShuttingDown, properties: Properties::default() };
    talk.put(&Packet::Disconnect(goodbye));
    assert_eq!(talk.client_reads().unwrap(), ["Closed(ServerShuttingDown)"]);
}

#[test]
fn a_message_of_qos_2_that_comes_again_is_marked_until_it_is_released() {
    for mut talk in talks() {
        let packet = message(QoS::ExactlyOnce, 9, "two");
        talk.put(&Packet::Publish(packet));
        talk.put(&Packet::Publish(Publish { dup: true, ..packet }));
        talk.put(&Packet::PubRel(longwire_proto::wire::mqtt::Ack {
            packet_id: 9,
            reason: Reason::Success,
            properties: Properties::default(),
        }));
        talk.put(&Packet::Publish(packet));
        assert_eq!(talk.client_reads().unwrap(), ["down two", "down two again", "Answered", "down two"]);
    }
}

#[test]
fn a_server_that_breaks_the_protocol_is_found_out() {
    for version in VERSIONS {
        let (mut sent, mut bytes) = (Vec::new(), Vec::new());
        let mut client = MqttClient::begin(&Login::clean(version, "one"), NOW, &mut sent).unwrap();
        encode(&Packet::PingResp, version, &mut bytes).unwrap();
        let early = client.receive(&mut &bytes[..], &mut sent);
        assert_eq!(early, Err(Broken::OutOfOrder(Kind::PingResp)));
    }
    for mut talk in talks() {
        talk.put(&Packet::ConnAck(ConnAck {
            session_present: false,
            reason: Reason::Success,
            properties: Properties::default(),
        }));
        assert_eq!(talk.client_reads(), Err(Broken::OutOfOrder(Kind::ConnAck)));
    }
    for mut talk in talks() {
        // PINGREQ is the client's.
        talk.to_client.extend([0xC0, 0]);
        assert!(matches!(talk.client_reads(), Err(Broken::Fault(_))));
    }
    let (mut talk, _) = Talk::begin(Version::V5, 1);
    let mut properties = PropertiesBuf::default();
    properties.push(Property::TopicAlias(1));
    let aliased = Publish { properties: properties.as_properties(), ..message(QoS::AtMostOnce, 0, "x") };
    talk.put(&Packet::Publish(aliased));
    assert_eq!(talk.client_reads(), Err(Broken::Alias));
}

#[test]
fn more_unfinished_messages_than_were_allowed_end_the_connection() {
    let (mut talk, _) = Talk::begin(Version::V5, usize::MAX);
    for packet_id in 1..=RECEIVE_MAX + 1 {
        talk.put(&Packet::Publish(message(QoS::ExactlyOnce, packet_id, "x")));
    }
    assert_eq!(talk.client_reads(), Err(Broken::ReceiveMaximum));
}

#[test]
fn acks_that_nobody_waits_for_change_nothing() {
    for mut talk in talks() {
        let ack = longwire_proto::wire::mqtt::Ack {
            packet_id: 77,
            reason: Reason::Success,
            properties: Properties::default(),
        };
        for packet in [Packet::PubAck(ack), Packet::PubComp(ack)] {
            talk.put(&packet);
            assert_eq!(talk.client_reads().unwrap(), ["Stray"]);
        }
        assert!(talk.to_server.is_empty());
        // PUBREC and PUBREL are answered all the same, or the server would keep the identifier.
        talk.put(&Packet::PubRec(ack));
        talk.put(&Packet::PubRel(ack));
        assert_eq!(talk.client_reads().unwrap(), ["Answered", "Answered"]);
        assert!(!talk.to_server.is_empty());
    }
}
