//! MQTT clients at the gate: pushes and messages out of the store, and what the hub gives to one connection.

use crate::mqtt_rig::{Client, Hello};
use crate::rig::{APP, Rig, options, welcome};
use bytes::Bytes;
use longwire_proto::id::{ClientId, Kind, MessageId, Position, Source, TraceId};
use longwire_proto::wire::mqtt::{Packet, Properties, Property, QoS, Reason, SharedPublish};
use longwire_proto::wire::{GapReason, TopicBody, encode_push_shared};
use longwire_server::delivery::border::topics::{TopicCommand, TopicEvent, TopicMessage};
use longwire_server::delivery::border::{Broadcast, Command, Event, Handle, Outgoing};
use longwire_server::domain::WallMs;
use longwire_server::store::port::{Page, PageEntry};
use std::sync::Arc;

const TRACE: u128 = 0x0123_4567_89AB_CDEF_0011_2233_4455_6677;

fn shared(number: u128, kind: Kind, payload: &[u8]) -> Bytes {
    let mut shared = Vec::new();
    encode_push_shared(MessageId(number), kind, TraceId(TRACE), "", payload, &mut shared);
    shared.into()
}

fn outgoing(number: u128, kind: Kind, payload: &[u8]) -> Arc<Outgoing> {
    let shared = shared(number, kind, payload);
    Arc::new(Outgoing { message: MessageId(number), deadline: WallMs(65_000), shared })
}

/// A message to a topic as the store has it.
fn to_topic(topic: &str, qos: u8, content: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    TopicBody { topic, qos, retain: false, expires: false, properties: &[], content }
        .encode(&mut payload)
        .unwrap();
    payload
}

fn position(number: u64) -> Position {
    Position::new(1, number)
}

fn deliver(rig: &Rig, to: Handle, number: u64, kind: Kind, payload: &[u8]) {
    let message = outgoing(number.into(), kind, payload);
    let command = Command::Deliver { to, position: position(number), message };
    rig.shards.post(to.shard(), command).unwrap();
}

/// What the hub heard of the ends of deliveries: position, and whether it was a gap.
fn settled(rig: &Rig, count: usize) -> Vec<(u64, bool)> {
    let found = rig.until(|rig| {
        let events = rig.events.lock().unwrap();
        let settled = events.iter().filter_map(|event| match event {
            Event::Settled { position, gap, .. } => Some((position.sequence(), *gap)),
            _ => None,
        });
        let settled: Vec<_> = settled.collect();
        (settled.len() >= count).then_some(settled)
    });
    found.expect("settled")
}

/// A kept session with one subscription.
fn kept(rig: &Rig, filter: &str, qos: QoS) -> Client {
    let mut client = rig.hello(&Hello::v5(1).with(Property::SessionExpiry(3600)));
    assert!(!client.subscribe(filter, qos).is_error());
    client
}

#[test]
fn a_push_comes_on_a_topic_of_its_kind_with_id_place_and_trace() {
    let rig = Rig::new(options(), welcome);
    let mut client = rig.v5(1);
    let to = rig.last_login();
    for (number, kind, topic) in [
        (1, Kind::Notification, "$push/notification"),
        (2, Kind::Text, "$push/text"),
        (3, Kind::Custom, "$push/custom"),
    ] {
        deliver(&rig, to, number, kind, b"body");
        let message = client.message();
        assert_eq!((message.topic, message.qos, message.dup), (topic, QoS::AtLeastOnce, false));
        assert_eq!((message.payload, message.packet_id), (&b"body"[..], 49_151 + number as u16));
        assert_eq!(message.properties.message_expiry(), Some(60));
        let told: Vec<_> = message.properties.user_properties().collect();
        assert_eq!(told[0], ("longwire-id", &format!("{number:032x}")[..]));
        assert_eq!(told[1], ("longwire-position", &format!("mailbox:{}", position(number).0)[..]));
        assert_eq!(told[2], ("longwire-previous", &format!("mailbox:{}", position(number - 1).0)[..]));
        assert_eq!(told[3], ("traceparent", &format!("00-{TRACE:032x}-{number:016x}-01")[..]));
        client.ack(Packet::PubAck, message.packet_id);
    }
    assert_eq!(settled(&rig, 3), [(1, false), (2, false), (3, false)]);
    // Online only: nothing is awaited.
    let message = outgoing(9, Kind::Text, b"now");
    rig.shards.post(to.shard(), Command::DeliverNow { to, message }).unwrap();
    let message = client.message();
    assert_eq!((message.topic, message.qos, message.payload), ("$push/text", QoS::AtMostOnce, &b"now"[..]));
}

#[test]
fn a_client_of_3_1_1_gets_the_body_alone() {
    let rig = Rig::new(options(), welcome);
    let mut client = rig.v311(1);
    deliver(&rig, rig.last_login(), 1, Kind::Text, b"body");
    let message = client.message();
    assert_eq!((message.topic, message.payload), ("$push/text", &b"body"[..]));
    client.ack(Packet::PubAck, message.packet_id);
    assert_eq!(settled(&rig, 1), [(1, false)]);
}

/// The QoS of a stored message is the lower of what was published and what the session was granted.
#[test]
fn a_stored_topic_message_has_the_granted_quality() {
    let rig = Rig::new(options(), welcome);
    let mut client = kept(&rig, "a/+", QoS::AtLeastOnce);
    assert_eq!(client.subscribe("z", QoS::AtMostOnce), Reason::Success);
    let to = rig.last_login();
    deliver(&rig, to, 1, Kind::Topic, &to_topic("a/b", 2, b"one"));
    let message = client.message();
    assert_eq!((message.topic, message.qos, message.payload), ("a/b", QoS::AtLeastOnce, &b"one"[..]));
    client.ack(Packet::PubAck, message.packet_id);
    // QoS 0 ends when it is sent.
    deliver(&rig, to, 2, Kind::Topic, &to_topic("z", 1, b"two"));
    assert_eq!(client.message().qos, QoS::AtMostOnce);
    assert_eq!(settled(&rig, 2), [(1, false), (2, false)]);
    // A live message of QoS 1 is left to the mailbox, one of QoS 0 is not.
    let mut publisher = rig.v5(2);
    let id = publisher.publish("a/b", QoS::AtLeastOnce, b"by mailbox");
    assert_eq!(publisher.acked(Packet::PubAck, id), Reason::Success);
    publisher.publish("a/b", QoS::AtMostOnce, b"live");
    assert_eq!(client.message().payload, b"live");
}

/// PUBREL leaves when PUBREC is recorded; what was recorded before is released again.
#[test]
fn a_stored_message_of_qos_2_is_recorded_before_it_is_released() {
    let rig = Rig::new(options(), welcome);
    let mut client = kept(&rig, "a", QoS::ExactlyOnce);
    let to = rig.last_login();
    deliver(&rig, to, 1, Kind::Topic, &to_topic("a", 2, b"x"));
    let message = client.message();
    assert_eq!((message.qos, message.packet_id), (QoS::ExactlyOnce, 1));
    client.ack(Packet::PubRec, message.packet_id);
    assert_eq!(client.acked(Packet::PubRel, message.packet_id), Reason::Success);
    let recorded = rig.events.lock().unwrap().iter().any(|event| {
        matches!(event, Event::Topic(_, event) if matches!(**event, TopicEvent::Received { position: at, .. } if at == position(1)))
    });
    assert!(recorded, "before PUBREL");
    client.ack(Packet::PubComp, message.packet_id);
    assert_eq!(settled(&rig, 1), [(1, false)]);

    let entries = vec![
        PageEntry::Released { position: position(2), message: MessageId(2) },
        PageEntry::Gap { position: position(3), message: MessageId(3), reason: GapReason::Expired, count: 1 },
        PageEntry::Message {
            position: position(4),
            message: MessageId(4),
            deadline: WallMs(65_000),
            shared: shared(4, Kind::Topic, &to_topic("a", 1, b"again")),
        },
    ];
    let page = Some(Box::new(Page { entries, end: true }));
    rig.shards.post(to.shard(), Command::Page { to, source: Source::Mailbox, page }).unwrap();
    assert_eq!(client.acked(Packet::PubRel, 2), Reason::Success);
    let message = client.message();
    assert!(message.dup && message.payload == b"again", "it may have come before");
    client.ack(Packet::PubComp, 2);
    client.ack(Packet::PubAck, message.packet_id);
    assert_eq!(settled(&rig, 4)[1..], [(3, true), (2, false), (4, false)]);
}

#[test]
fn broadcasts_reach_both_kinds_of_clients() {
    let rig = Rig::new(options(), welcome);
    let (mut mqtt, mut old, mut native) = (rig.v5(1), rig.v311(2), rig.login(3));
    for number in 1..=20_u64 {
        let message = outgoing(number.into(), Kind::Text, &number.to_be_bytes());
        let broadcast = Broadcast { app: APP, tags: Box::default(), position: position(number), message };
        let broadcast = Arc::new(broadcast);
        rig.to_all(|| Command::Broadcast(broadcast.clone()));
    }
    let message = outgoing(99, Kind::Text, b"now");
    let now = Broadcast { app: APP, tags: Box::default(), position: Position::START, message };
    let now = Arc::new(now);
    rig.to_all(|| Command::Broadcast(now.clone()));
    for client in [&mut mqtt, &mut old] {
        for number in 1..=20_u64 {
            let message = client.message();
            assert_eq!((message.qos, message.payload), (QoS::AtLeastOnce, &number.to_be_bytes()[..]));
            assert_eq!(message.packet_id, 32_767 + number as u16);
            client.ack(Packet::PubAck, message.packet_id);
        }
        assert_eq!(client.message().payload, b"now");
    }
    for number in 1..=20 {
        assert_eq!(native.push(), number);
    }
}

/// What the hub gives to one member of a shared group comes back with its end, or when the member goes.
#[test]
fn deliveries_of_a_shared_group_are_answered_by_number() {
    let rig = Rig::new(options(), welcome);
    let mut member = rig.hello(&Hello::v5(1).with(Property::ReceiveMaximum(1)));
    assert_eq!(member.subscribe("$share/g/t", QoS::AtLeastOnce), Reason::GrantedQoS1);
    let to = rig.last_login();
    for number in 1..=3 {
        let body = SharedPublish::encode("t", &Properties::default(), b"x").unwrap().map(Bytes::from);
        let message = Arc::new(TopicMessage::new(APP, ClientId(9), body, (1, true), WallMs(0)));
        let command = TopicCommand::Deliver { to, message, qos: 2, retain: true, identifier: 5, number };
        rig.shards.post(to.shard(), Command::Topic(command)).unwrap();
    }
    let message = member.message();
    assert!(message.retain && message.qos == QoS::AtLeastOnce);
    assert_eq!(message.properties.subscription_identifiers().collect::<Vec<_>>(), [5]);
    member.ack(Packet::PubAck, message.packet_id);
    member.message();
    drop(member);
    let ends = rig.until(|rig| {
        let events = rig.events.lock().unwrap();
        let ends = events.iter().filter_map(|event| match event {
            Event::Topic(_, event) => match **event {
                TopicEvent::Shared { number, acked } => Some((number, acked)),
                _ => None,
            },
            _ => None,
        });
        let ends: Vec<_> = ends.collect();
        (ends.len() == 3).then_some(ends)
    });
    assert_eq!(ends, Some(vec![(1, true), (2, false), (3, false)]));
}
