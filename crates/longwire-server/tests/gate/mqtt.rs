//! MQTT clients at the gate: messages between live sessions.

use crate::mqtt_rig::{Client, Hello};
use crate::rig::{Rig, options, welcome};
use longwire_proto::close::CloseReason;
use longwire_proto::wire::mqtt::{
    Options, Packet, PropertiesBuf, Property, QoS, Reason, RetainHandling, Version,
};
use longwire_server::delivery::border::Event;
use longwire_server::gate::{GateOptions, TopicDrop};
use std::io::Write;

fn rig() -> Rig {
    Rig::new(free(), welcome)
}

/// No rate limit stands in the way of what is tested.
fn free() -> GateOptions {
    let mut options = options();
    options.inbound.messages_per_s = 10_000;
    options.inbound.bytes_per_s = 64 * 1024 * 1024;
    options
}

fn nothing() -> PropertiesBuf {
    PropertiesBuf::default()
}

fn dropped(rig: &Rig, why: TopicDrop) -> u64 {
    rig.sum(|stats| &stats.topics.dropped[why as usize])
}

/// Clients of both versions on both shards get what they subscribed to, and nothing else.
#[test]
fn a_message_reaches_every_live_subscriber_of_its_topic() {
    let rig = rig();
    let mut subscribers: Vec<Client> =
        (1..=8).map(|number| if number % 2 == 0 { rig.v5(number) } else { rig.v311(number) }).collect();
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.subscribe("room/+/temp", QoS::AtMostOnce), Reason::Success);
    }
    let mut other = rig.v5(20);
    other.subscribe("room/1/light", QoS::AtMostOnce);
    let mut publisher = rig.v311(21);
    for number in 0..100_u8 {
        publisher.publish("room/1/temp", QoS::AtMostOnce, &[number]);
    }
    for subscriber in &mut subscribers {
        for number in 0..100 {
            let message = subscriber.message();
            assert_eq!((message.topic, message.payload), ("room/1/temp", &[number][..]));
            assert_eq!((message.qos, message.retain, message.dup), (QoS::AtMostOnce, false, false));
        }
        subscriber.nothing_before_pong();
    }
    other.nothing_before_pong();
    assert_eq!(subscribers[0].unsubscribe("room/+/temp").len(), 0, "3.1.1 has no codes");
    assert_eq!(subscribers[1].unsubscribe("room/#"), [Reason::NoSubscriptionExisted]);
    publisher.publish("room/1/temp", QoS::AtMostOnce, b"again");
    assert_eq!(subscribers[1].message().payload, b"again");
    subscribers[0].nothing_before_pong();
}

#[test]
fn both_ends_of_every_quality_of_service() {
    let rig = rig();
    let (mut subscriber, mut publisher) = (rig.v5(1), rig.v5(2));
    assert_eq!(subscriber.subscribe("a/b", QoS::ExactlyOnce), Reason::GrantedQoS2);

    let id = publisher.publish("a/b", QoS::AtLeastOnce, b"one");
    assert_eq!(publisher.acked(Packet::PubAck, id), Reason::Success);
    let message = subscriber.message();
    assert_eq!((message.qos, message.payload), (QoS::AtLeastOnce, &b"one"[..]));
    subscriber.ack(Packet::PubAck, message.packet_id);

    let id = publisher.publish("a/b", QoS::ExactlyOnce, b"two");
    assert_eq!(publisher.acked(Packet::PubRec, id), Reason::Success);
    publisher.ack(Packet::PubRel, id);
    assert_eq!(publisher.acked(Packet::PubComp, id), Reason::Success);
    let message = subscriber.message();
    assert_eq!((message.qos, message.payload), (QoS::ExactlyOnce, &b"two"[..]));
    subscriber.ack(Packet::PubRec, message.packet_id);
    assert_eq!(subscriber.acked(Packet::PubRel, message.packet_id), Reason::Success);
    subscriber.ack(Packet::PubComp, message.packet_id);
    subscriber.nothing_before_pong();

    // Nobody is there.
    let id = publisher.publish("nobody", QoS::AtLeastOnce, b"");
    assert_eq!(publisher.acked(Packet::PubAck, id), Reason::NoMatchingSubscribers);
    // The lower of what was published and what is wanted.
    assert_eq!(subscriber.subscribe("low", QoS::AtMostOnce), Reason::Success);
    publisher.publish("low", QoS::AtLeastOnce, b"x");
    assert_eq!(subscriber.message().qos, QoS::AtMostOnce);
    assert_eq!(rig.sum(|stats| &stats.stray_acks), 0);
}

/// MQTT-3.3.4-2: one packet with all identifiers and the highest QoS.
#[test]
fn overlapping_subscriptions_bring_one_message() {
    let rig = rig();
    let mut subscriber = rig.v5(1);
    for (id, filter, qos) in
        [(7, "a/#", QoS::AtMostOnce), (200_000, "a/+", QoS::AtLeastOnce), (1, "a/b", QoS::AtMostOnce)]
    {
        let mut properties = nothing();
        properties.push(Property::SubscriptionIdentifier(id));
        subscriber.subscribe_with(&[(filter, Options::plain(qos))], &properties);
    }
    let mut publisher = rig.v311(2);
    publisher.publish("a/b", QoS::ExactlyOnce, b"x");
    let message = subscriber.message();
    assert_eq!(message.qos, QoS::AtLeastOnce);
    let mut ids: Vec<u32> = message.properties.subscription_identifiers().collect();
    ids.sort_unstable();
    assert_eq!(ids, [1, 7, 200_000]);
    subscriber.nothing_before_pong();
}

#[test]
fn the_options_of_a_subscription_hold() {
    let rig = rig();
    let mut both = rig.v5(1);
    let options = Options {
        qos: QoS::AtMostOnce,
        no_local: true,
        retain_as_published: true,
        retain_handling: RetainHandling::DoNotSend,
    };
    both.subscribe_with(&[("t", options)], &nothing());
    both.publish("t", QoS::AtMostOnce, b"own");
    both.nothing_before_pong();
    let mut other = rig.v5(2);
    other.subscribe("t", QoS::AtMostOnce);
    let mut properties = nothing();
    properties.push(Property::ContentType("text/plain"));
    properties.push(Property::MessageExpiry(60));
    properties.push(Property::UserProperty(("k", "v")));
    other.publish_with("t", QoS::AtMostOnce, true, &properties, b"kept");
    let message = both.message();
    assert!(message.retain, "retain as published");
    assert_eq!(message.properties.content_type(), Some("text/plain"));
    assert_eq!(message.properties.message_expiry(), Some(60));
    assert_eq!(message.properties.user_properties().collect::<Vec<_>>(), [("k", "v")]);
    let message = other.message();
    assert!(!message.retain && message.payload == b"kept");
    // An alias names the topic of the next.
    let mut alias = nothing();
    alias.push(Property::TopicAlias(3));
    other.publish_with("t", QoS::AtMostOnce, false, &alias, b"1");
    other.publish_with("", QoS::AtMostOnce, false, &alias, b"2");
    for payload in [b"1", b"2"] {
        let message = both.message();
        assert_eq!((message.topic, message.payload), ("t", &payload[..]));
        assert_eq!(message.properties.topic_alias(), None);
    }
    // What expires at once reaches nobody.
    let mut expired = nothing();
    expired.push(Property::MessageExpiry(0));
    other.publish_with("t", QoS::AtMostOnce, false, &expired, b"late");
    assert!(rig.until(|rig| (dropped(rig, TopicDrop::Expired) == 2).then_some(())).is_some());
}

#[test]
fn a_packet_larger_than_the_client_takes_is_not_sent() {
    let rig = rig();
    let mut small = rig.hello(&Hello::v5(1).with(Property::MaximumPacketSize(64)));
    let mut large = rig.v5(2);
    for client in [&mut small, &mut large] {
        client.subscribe("t", QoS::AtLeastOnce);
    }
    let mut publisher = rig.v5(3);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        for payload in [&[7; 100][..], b"fits"] {
            publisher.publish("t", qos, payload);
            assert_eq!(large.message().payload, payload);
        }
        assert_eq!(small.message().payload, b"fits");
    }
    assert_eq!(dropped(&rig, TopicDrop::TooLarge), 2);
}

/// MQTT-3.3.4-7, and what waits meanwhile.
#[test]
fn a_window_of_one_holds_one_and_the_queue_the_rest() {
    let rig = rig();
    let mut slow = rig.hello(&Hello::v5(1).with(Property::ReceiveMaximum(1)));
    slow.subscribe("t", QoS::AtLeastOnce);
    let mut publisher = rig.v5(2);
    // One is under way, 1,000 wait, the rest is dropped.
    for number in 0..1_010_u32 {
        let id = publisher.publish("t", QoS::AtLeastOnce, &number.to_be_bytes());
        assert_eq!(publisher.acked(Packet::PubAck, id), Reason::Success);
    }
    assert!(rig.until(|rig| (dropped(rig, TopicDrop::Queue) == 9).then_some(())).is_some());
    for number in 0..1_001_u32 {
        let message = slow.message();
        assert_eq!(message.payload, number.to_be_bytes());
        if number < 2 {
            slow.nothing_before_pong();
        }
        slow.ack(Packet::PubAck, message.packet_id);
    }
    slow.nothing_before_pong();
    let id = publisher.publish("t", QoS::AtLeastOnce, b"last");
    publisher.acked(Packet::PubAck, id);
    assert_eq!(slow.message().payload, b"last");
}

#[test]
fn a_subscriber_that_does_not_read_hurts_nobody_else() {
    let rig = rig();
    let (mut stuck, mut healthy) = (rig.v5(1), rig.v5(2));
    stuck.subscribe("t", QoS::AtMostOnce);
    healthy.subscribe("t", QoS::AtMostOnce);
    let mut publisher = rig.v5(3);
    let payload = vec![7; 8 * 1024];
    let mut sent = 0;
    while dropped(&rig, TopicDrop::Outbox) == 0 {
        publisher.publish("t", QoS::AtMostOnce, &payload);
        assert_eq!(healthy.message().payload.len(), payload.len());
        sent += 1;
        assert!(sent < 5_000, "a socket takes without end");
    }
    assert!(rig.sum(|stats| &stats.outbox_bytes) < 128 * 1024);
    healthy.nothing_before_pong();
}

/// More than the carousel takes on at once, from one write; every subscriber gets all, in order.
#[test]
fn a_crowd_gets_every_message_in_order() {
    let rig = rig();
    let mut crowd: Vec<Client> = (1..=120).map(|number| rig.v5(number)).collect();
    for (index, subscriber) in crowd.iter_mut().enumerate() {
        subscriber.subscribe("news", QoS::AtMostOnce);
        if index % 40 == 0 {
            subscriber.subscribe("#", QoS::AtLeastOnce);
        }
    }
    let mut publisher = rig.v5(1000);
    for number in 0..300_u32 {
        publisher.publish("news", QoS::AtLeastOnce, &number.to_be_bytes());
        assert_eq!(publisher.acked(Packet::PubAck, number as u16 + 1), Reason::Success);
    }
    for (index, subscriber) in crowd.iter_mut().enumerate() {
        for number in 0..300_u32 {
            let message = subscriber.message();
            assert_eq!(message.payload, number.to_be_bytes(), "subscriber {index}");
            assert_eq!(message.qos == QoS::AtLeastOnce, index % 40 == 0);
            if message.packet_id != 0 {
                subscriber.ack(Packet::PubAck, message.packet_id);
            }
        }
        subscriber.nothing_before_pong();
    }
    // They go, and leave nothing behind.
    drop(crowd);
    assert!(rig.until(|rig| (rig.sum(|stats| &stats.topics.sessions) == 1).then_some(())).is_some());
    assert_eq!(rig.sum(|stats| &stats.topics.subscriptions), 0);
    assert!(rig.shards.interests().shards.iter().all(|interest| {
        !interest.may_match(crate::rig::APP, "news") && !interest.may_match(crate::rig::APP, "x")
    }));
}

#[test]
fn limits_and_rules_answer_with_their_codes() {
    let rig = rig();
    let mut ruled = rig.hello(&Hello { user: "demo/ruled", ..Hello::v5(1) });
    let plain = Options::plain(QoS::AtMostOnce);
    let reasons = ruled.subscribe_with(&[("own/c1/#", plain), ("own/c2/x", plain), ("#", plain)], &nothing());
    assert_eq!(reasons, [Reason::Success, Reason::NotAuthorized, Reason::NotAuthorized]);
    let id = ruled.publish("own/c2/x", QoS::AtLeastOnce, b"");
    assert_eq!(ruled.acked(Packet::PubAck, id), Reason::NotAuthorized);
    ruled.publish("own/c2/x", QoS::AtMostOnce, b"");
    ruled.nothing_before_pong();
    assert_eq!(dropped(&rig, TopicDrop::NotAllowed), 2);

    let mut many = rig.v5(2);
    for packet in 0..10 {
        let filters: Vec<String> = (0..11).map(|number| format!("f/{packet}/{number}")).collect();
        let filters: Vec<_> = filters.iter().map(|filter| (&filter[..], plain)).collect();
        let reasons = many.subscribe_with(&filters, &nothing());
        assert!(reasons[..10].iter().all(|reason| *reason == Reason::Success));
        assert_eq!(reasons[10], Reason::QuotaExceeded, "ten in one packet");
    }
    assert_eq!(many.subscribe("one/more", QoS::AtMostOnce), Reason::QuotaExceeded);
    assert_eq!(many.subscribe("f/3/3", QoS::AtLeastOnce), Reason::GrantedQoS1, "it is there already");
    assert_eq!(rig.sum(|stats| &stats.topics.subscriptions), 101);

    // 3.1.1 has no word for no.
    let mut old = rig.hello(&Hello { user: "demo/ruled", ..Hello::v311(3) });
    old.publish("own/c2/x", QoS::AtLeastOnce, b"");
    assert_eq!(old.next(), None);
}

#[test]
fn endings_are_said_in_the_words_of_the_version() {
    let rig = rig();
    let reason = |client: &mut Client| match client.next() {
        Some(Packet::Disconnect(end)) => end.reason,
        other => panic!("expected DISCONNECT, got {other:?}"),
    };
    let mut client = rig.v5(1);
    client.say_hello(&Hello::v5(1));
    assert_eq!(reason(&mut client), Reason::ProtocolError);
    assert_eq!(client.next(), None);
    let mut client = rig.v5(1);
    client.socket.write_all(&[0x00, 0x00]).unwrap();
    assert_eq!(reason(&mut client), Reason::MalformedPacket);
    let mut client = rig.v311(1);
    client.socket.write_all(&[0x00, 0x00]).unwrap();
    assert_eq!(client.next(), None);
    // A version of the future.
    let mut client = rig.mqtt(Version::V311);
    client.socket.write_all(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 9, 2, 0, 60, 0, 1, b'x']).unwrap();
    match client.next() {
        Some(Packet::ConnAck(answer)) => assert_eq!(answer.reason, Reason::UnsupportedProtocolVersion),
        other => panic!("expected CONNACK, got {other:?}"),
    }
    assert_eq!(client.next(), None);
    assert_eq!(rig.closed(CloseReason::UnsupportedVersion), 1);
    // A CONNECT of 5.0 with reserved flags, and one of 3.1.1.
    for (level, said) in [(5, Some(Reason::MalformedPacket)), (4, None)] {
        let mut client = rig.mqtt(Version::V5);
        let tail = [0, 60, 0, 0, 1, b'x'];
        let tail = if level == 5 { &tail[..] } else { &tail[1..] };
        let mut connect = vec![0x10, 8 + tail.len() as u8, 0, 4, b'M', b'Q', b'T', b'T', level, 3];
        connect.extend_from_slice(tail);
        client.socket.write_all(&connect).unwrap();
        match client.next() {
            Some(Packet::ConnAck(answer)) => assert_eq!(Some(answer.reason), said),
            other => assert!(other.is_none() && said.is_none(), "{other:?}"),
        }
    }
}

/// What the client sends behind CONNECT without waiting for its answer.
#[test]
fn packets_right_behind_connect_are_served() {
    let rig = rig();
    let mut subscriber = rig.v5(1);
    subscriber.subscribe("t", QoS::AtMostOnce);
    let mut hasty = rig.mqtt(Version::V5);
    hasty.say_hello(&Hello::v5(2));
    hasty.publish("t", QoS::AtMostOnce, b"early");
    assert!(matches!(hasty.next(), Some(Packet::ConnAck(_))));
    assert_eq!(subscriber.message().payload, b"early");
}

#[test]
fn a_will_goes_to_the_hub_unless_the_client_says_goodbye() {
    let rig = rig();
    let hello = |number| Hello { will: Some(("w", b"gone")), ..Hello::v5(number) };
    let (lost, mut polite) = (rig.hello(&hello(1)), rig.hello(&hello(2)));
    polite.send(&Packet::Disconnect(longwire_proto::wire::mqtt::Disconnect {
        reason: Reason::Success,
        properties: longwire_proto::wire::mqtt::Properties::default(),
    }));
    assert_eq!(polite.next(), None);
    drop(lost);
    let wills = rig.until(|rig| {
        let events = rig.events.lock().unwrap();
        let closed = events.iter().filter_map(|event| match event {
            Event::Closed(closed) => Some((closed.client.unwrap().0, closed.will.is_some())),
            _ => None,
        });
        let mut closed: Vec<_> = closed.collect();
        closed.sort_unstable();
        (closed.len() == 2).then_some(closed)
    });
    assert_eq!(wills, Some(vec![(1, true), (2, false)]));
}

/// MQTT-3.1.2-22.
#[test]
fn silence_beyond_one_and_a_half_keep_alives_ends_the_connection() {
    let rig = Rig::new(GateOptions { heartbeat_min_s: 1, ..free() }, welcome);
    let mut silent = rig.hello(&Hello { keep_alive_s: 1, ..Hello::v5(1) });
    let mut old = rig.hello(&Hello { keep_alive_s: 1, ..Hello::v311(2) });
    match silent.next() {
        Some(Packet::Disconnect(end)) => assert_eq!(end.reason, Reason::KeepAliveTimeout),
        other => panic!("expected DISCONNECT, got {other:?}"),
    }
    assert_eq!(old.next(), None);
    assert_eq!(rig.closed(CloseReason::Idle), 2);
}
