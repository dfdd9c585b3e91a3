//! MQTT clients at the gate: messages between live sessions.

use crate::mqtt_rig::Client;
use crate::rig::{Rig, options, welcome};
use longwire_proto::wire::mqtt::{Packet, QoS, Reason};

fn rig() -> Rig {
    Rig::new(options(), welcome)
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
    subscribers[0].unsubscribe("room/+/temp");
    publisher.publish("room/1/temp", QoS::AtMostOnce, b"again");
    assert_eq!(subscribers[1].message().payload, b"again");
    subscribers[0].nothing_before_pong();
}

/// QoS 1 and 2, both ways, between live sessions.
#[test]
fn both_ends_of_every_quality_of_service() {
    let rig = rig();
    let (mut subscriber, mut publisher) = (rig.v5(1), rig.v5(2));
    assert_eq!(subscriber.subscribe("a/b", QoS::ExactlyOnce), Reason::GrantedQoS2);
    let id = publisher.publish("a/b", QoS::AtLeastOnce, b"one");
    match publisher.next() {
        Some(Packet::PubAck(ack)) => assert_eq!((ack.packet_id, ack.reason), (id, Reason::Success)),
        other => panic!("expected PUBACK, got {other:?}"),
    }
    let message = subscriber.message();
    assert_eq!((message.qos, message.payload), (QoS::AtLeastOnce, &b"one"[..]));
}
