//! MQTT clients at the gate: pushes and messages out of the store, and what the hub gives to one connection.

use crate::mqtt_rig::{Client, Hello};
use crate::rig::{APP, Rig, options, welcome};
use bytes::Bytes;
use longwire_proto::id::{ClientId, Kind, MessageId, Position, Source, TraceId};
use longwire_proto::wire::mqtt::{Packet, Properties, Property, QoS, Reason, SharedPublish};
use longwire_proto::wire::{GapReason, TopicBody, encode_push_shared};
use longwire_server::delivery::border::topics::{TopicCommand, TopicEvent, TopicMessage};
use longwire_server::delivery::border::{Broadcast, Command, Event, Handle, Outgoing, Reach};
use longwire_server::domain::DropReason;
use longwire_server::domain::WallMs;
use longwire_server::gate::TopicDrop;
use longwire_server::store::port::{End, Page, PageEntry};
use std::sync::Arc;

const TRACE: u128 = 0x0123_4567_89AB_CDEF_0011_2233_4455_6677;

fn shared(number: u128, kind: Kind, payload: &[u8]) -> Bytes {
    let mut shared = Vec::new();
    encode_push_shared(MessageId(number), kind, TraceId(TRACE), "", payload, &mut shared);
    shared.into()
}

fn outgoing(number: u128, kind: Kind, payload: &[u8]) -> Arc<Outgoing> {
    let shared = shared(number, kind, payload);
    Arc::new(Outgoing { message: MessageId(number), deadline: WallMs(65_000), shared, high: false })
}

/// A message to a topic as the store has it.
fn to_topic(topic: &str, qos: u8, content: &[u8]) -> Vec<u8> {
    let mut payload = Vec::new();
    let body =
        TopicBody { topic, qos, retain: false, for_member: false, expires: false, properties: &[], content };
    body.encode(&mut payload).unwrap();
    payload
}

/// The same in a page.
fn stored(number: u64, payload: &[u8]) -> PageEntry {
    let (position, deadline) = (position(number), WallMs(65_000));
    let shared = shared(number.into(), Kind::Topic, payload);
    PageEntry::Message { position, message: MessageId(number.into()), deadline, shared, high: false }
}

fn position(number: u64) -> Position {
    Position::new(1, number)
}

fn deliver(rig: &Rig, to: Handle, number: u64, kind: Kind, payload: &[u8]) {
    let message = outgoing(number.into(), kind, payload);
    let command = Command::Deliver { to, position: position(number), message };
    rig.shards.post(to.shard(), command).unwrap();
}

/// What the hub heard of the ends of deliveries.
fn settled(rig: &Rig, count: usize) -> Vec<(u64, End)> {
    let found = rig.until(|rig| {
        let events = rig.events.lock().unwrap();
        let settled = events.iter().filter_map(|event| match event {
            Event::Settled { position, end, .. } => Some((position.sequence(), *end)),
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
    assert_eq!(settled(&rig, 3), [(1, End::Delivered), (2, End::Delivered), (3, End::Delivered)]);
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
    assert_eq!(settled(&rig, 1), [(1, End::Delivered)]);
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
    assert_eq!(settled(&rig, 2), [(1, End::Delivered), (2, End::Delivered)]);
    // A live message of QoS 1 is left to the mailbox, one of QoS 0 is not.
    let mut publisher = rig.v5(2);
    let id = publisher.publish("a/b", QoS::AtLeastOnce, b"by mailbox");
    assert_eq!(publisher.acked(Packet::PubAck, id), Reason::Success);
    publisher.publish("a/b", QoS::AtMostOnce, b"live");
    assert_eq!(client.message().payload, b"live");
    // Of a filter of QoS 0 nothing is stored, so it comes live; with a filter of QoS 1 beside it, by the mailbox alone.
    let mut send = |topic: &str, payload: &[u8]| {
        let id = publisher.publish(topic, QoS::AtLeastOnce, payload);
        assert_eq!(publisher.acked(Packet::PubAck, id), Reason::Success);
    };
    send("z", b"at once");
    let message = client.message();
    assert_eq!((message.payload, message.qos), (&b"at once"[..], QoS::AtMostOnce));
    assert_eq!(client.subscribe("a/#", QoS::AtMostOnce), Reason::Success);
    send("a/b", b"by mailbox");
    assert_eq!(client.subscribe("z", QoS::AtLeastOnce), Reason::GrantedQoS1);
    send("z", b"by mailbox now");
    // What comes after it has passed it on the way to the client's shard.
    publisher.publish("a/b", QoS::AtMostOnce, b"behind it");
    assert_eq!(client.message().payload, b"behind it");
    assert_eq!(client.subscribe("z", QoS::AtMostOnce), Reason::Success);
    let id = publisher.publish("z", QoS::AtLeastOnce, b"at once again");
    assert_eq!(publisher.acked(Packet::PubAck, id), Reason::Success);
    assert_eq!(client.message().payload, b"at once again");
}

/// PUBREL leaves when PUBREC is recorded; what was recorded before is released again.
#[test]
fn a_stored_message_of_qos_2_is_recorded_before_it_is_released() {
    let rig = Rig::new(options(), welcome);
    let hello = Hello { user: "demo/sent", ..Hello::v5(1).with(Property::SessionExpiry(3600)) };
    let mut client = rig.hello(&hello);
    assert_eq!(client.subscribe("a", QoS::ExactlyOnce), Reason::GrantedQoS2);
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
    assert_eq!(settled(&rig, 1), [(1, End::Delivered)]);

    let entries = vec![
        PageEntry::Released { position: position(2), message: MessageId(2) },
        PageEntry::Gap { position: position(3), message: MessageId(3), reason: GapReason::Expired, count: 1 },
        stored(4, &to_topic("a", 1, b"again")),
        stored(5, &to_topic("a", 1, b"new")),
    ];
    let page = Some(Box::new(Page { entries, end: true, ..Page::default() }));
    rig.shards.post(to.shard(), Command::Page { to, source: Source::Mailbox, page }).unwrap();
    assert_eq!(client.acked(Packet::PubRel, 2), Reason::Success);
    let message = client.message();
    assert!(message.dup && message.payload == b"again", "it may have come before");
    let new = client.message();
    assert!(!new.dup && new.payload == b"new", "it cannot");
    client.ack(Packet::PubComp, 2);
    client.ack(Packet::PubAck, message.packet_id);
    client.ack(Packet::PubAck, new.packet_id);
    assert_eq!(
        settled(&rig, 5)[1..],
        [
            (3, End::GapNoted(GapReason::Expired)),
            (2, End::Delivered),
            (4, End::Delivered),
            (5, End::Delivered)
        ]
    );
}

#[test]
fn broadcasts_reach_both_kinds_of_clients() {
    let rig = Rig::new(options(), welcome);
    let (mut mqtt, mut old, mut native) = (rig.v5(1), rig.v311(2), rig.login(3));
    for number in 1..=20_u64 {
        let message = outgoing(number.into(), Kind::Text, &number.to_be_bytes());
        let broadcast = Broadcast { app: APP, reach: Reach::everyone(), position: position(number), message };
        let broadcast = Arc::new(broadcast);
        rig.to_all(|| Command::Broadcast(broadcast.clone()));
    }
    let message = outgoing(99, Kind::Text, b"now");
    let now = Broadcast { app: APP, reach: Reach::everyone(), position: Position::START, message };
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
        let command = TopicCommand::Deliver { to, message, qos: 2, identifier: 5, number };
        rig.shards.post(to.shard(), Command::Topic(command)).unwrap();
    }
    let message = member.message();
    assert!(!message.retain && message.qos == QoS::AtLeastOnce);
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

/// MQTT-3.1.2-24, MQTT-3.1.2-25: it is not sent, and nobody says that it was.
#[test]
fn a_stored_message_that_is_too_large_is_dropped_and_the_next_one_comes() {
    let rig = Rig::new(options(), welcome);
    let mut small = rig.hello(&Hello::v5(1).with(Property::MaximumPacketSize(300)));
    let to = rig.last_login();
    deliver(&rig, to, 1, Kind::Text, &[7; 300]);
    deliver(&rig, to, 2, Kind::Text, b"fits");
    let message = small.message();
    assert_eq!(message.payload, b"fits");
    // What is missing can be seen.
    let previous = format!("mailbox:{}", position(1).0);
    assert!(message.properties.user_properties().any(|told| told == ("longwire-previous", &previous)));
    small.ack(Packet::PubAck, message.packet_id);
    assert_eq!(settled(&rig, 2), [(1, End::Dropped(DropReason::TooLarge)), (2, End::Delivered)]);
    let page = vec![stored(3, &to_topic("a", 1, &[7; 300])), stored(4, &to_topic("a", 1, b"fits"))];
    let page = Some(Box::new(Page { entries: page, end: true, ..Page::default() }));
    rig.shards.post(to.shard(), Command::Page { to, source: Source::Mailbox, page }).unwrap();
    let message = small.message();
    assert_eq!(message.payload, b"fits");
    small.ack(Packet::PubAck, message.packet_id);
    let shared = outgoing(5, Kind::Text, &[7; 300]);
    let broadcast = Broadcast { app: APP, reach: Reach::everyone(), position: position(1), message: shared };
    let broadcast = Arc::new(broadcast);
    rig.to_all(|| Command::Broadcast(broadcast.clone()));
    let ends = settled(&rig, 5);
    assert_eq!(
        ends[2..],
        [
            (3, End::Dropped(DropReason::TooLarge)),
            (4, End::Delivered),
            (1, End::Dropped(DropReason::TooLarge))
        ]
    );
    let sent = |rig: &Rig| -> u32 {
        let events = rig.events.lock().unwrap();
        events.iter().map(|event| if let Event::Sent { sent, .. } = event { *sent } else { 0 }).sum()
    };
    assert!(rig.until(|rig| (sent(rig) == 2).then_some(())).is_some(), "only what was sent counts as sent");
    assert_eq!(rig.sum(|stats| &stats.topics.dropped[TopicDrop::TooLarge as usize]), 3);
}
