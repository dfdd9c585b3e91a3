//! Topic aliases that clients of MQTT 5.0 are given.

use crate::mqtt_rig::{Client, Hello};
use crate::rig::{Rig, options, welcome};
use bytes::Bytes;
use longwire_proto::id::{Kind, MessageId, Position, TraceId};
use longwire_proto::wire::encode_push_shared;
use longwire_proto::wire::mqtt::{Options, Packet, PropertiesBuf, Property, QoS};
use longwire_server::delivery::border::{Command, Outgoing};
use longwire_server::domain::WallMs;
use std::sync::Arc;

/// A client that takes so many aliases, subscribed to everything.
fn asking(rig: &Rig, number: u64, most: u16, qos: QoS) -> Client {
    let mut client = rig.hello(&Hello::v5(number).with(Property::TopicAliasMaximum(most)));
    assert!(!client.subscribe("#", qos).is_error());
    client
}

/// Topic and alias of the next message.
fn named(client: &mut Client) -> (String, Option<u16>) {
    let message = client.message();
    if message.qos == QoS::AtLeastOnce {
        client.ack(Packet::PubAck, message.packet_id);
    }
    (message.topic.to_owned(), message.properties.topic_alias())
}

fn said(topic: &str, alias: impl Into<Option<u16>>) -> (String, Option<u16>) {
    (topic.to_owned(), alias.into())
}

/// MQTT-3.1.2-26, MQTT-3.3.2-8, MQTT-3.3.2-11; the others get the frame that all share (MQTT-3.1.2-27).
#[test]
fn a_client_gets_the_aliases_that_it_takes_and_no_other_client_does() {
    let rig = Rig::new(options(), welcome);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let (mut two, mut none) = (asking(&rig, 1, 2, qos), asking(&rig, 2, 0, qos));
        let mut old = rig.v311(3);
        assert!(!old.subscribe("#", qos).is_error());
        let mut publisher = rig.v5(4);
        for (topic, name) in [
            ("first", said("first", 1)),
            ("first", said("", 1)),
            ("second", said("second", 2)),
            ("third", said("third", None)),
            ("first", said("", 1)),
            ("second", said("", 2)),
            ("third", said("third", None)),
            ("abc", said("abc", None)),
        ] {
            let id = publisher.publish(topic, qos, b"x");
            if qos == QoS::AtLeastOnce {
                publisher.acked(Packet::PubAck, id);
            }
            assert_eq!(named(&mut two), name);
            assert_eq!(named(&mut none), said(topic, None));
            assert_eq!(named(&mut old), said(topic, None));
        }
    }
}

/// Also where a packet has properties of its own, few or many, and for pushes.
#[test]
fn an_alias_stands_beside_other_properties() {
    let rig = Rig::new(options(), welcome);
    let mut client = rig.hello(&Hello::v5(1).with(Property::TopicAliasMaximum(100)));
    let to = rig.last_login();
    let wish = Options { retain_as_published: true, ..Options::plain(QoS::AtLeastOnce) };
    let mut identifier = PropertiesBuf::default();
    identifier.push(Property::SubscriptionIdentifier(5));
    client.subscribe_with(&[("topic/1", wish)], &identifier);
    // Identifiers of five bytes each: seven do not fit into the head that is on the stack.
    let filters = ["many/#", "many/+", "+/many", "many/many", "many/many/#", "+/many/#", "many/+/#"];
    for (number, filter) in filters.into_iter().enumerate() {
        let mut identifier = PropertiesBuf::default();
        identifier.push(Property::SubscriptionIdentifier(200_000_000 + number as u32));
        client.subscribe_with(&[(filter, wish)], &identifier);
    }
    let mut publisher = rig.v5(2);
    for round in 0..2 {
        for (topic, alias, identifiers) in [("topic/1", 1, 1), ("many/many", 2, 7)] {
            publisher.publish(topic, QoS::AtMostOnce, b"x");
            let message = client.message();
            let name = if round == 0 { topic } else { "" };
            assert_eq!((message.topic, message.properties.topic_alias()), (name, Some(alias)));
            assert_eq!(message.payload, b"x");
            assert_eq!(message.properties.subscription_identifiers().count(), identifiers, "{topic}");
        }
        let mut shared = Vec::new();
        encode_push_shared(MessageId(1), Kind::Text, TraceId(0), "", b"push", &mut shared);
        let message = Outgoing {
            message: MessageId(1),
            deadline: WallMs(65_000),
            shared: Bytes::from(shared),
            high: false,
        };
        let position = Position::new(1, round + 1);
        rig.shards.post(to.shard(), Command::Deliver { to, position, message: Arc::new(message) }).unwrap();
        let message = client.message();
        let name = if round == 0 { "$push/text" } else { "" };
        assert_eq!((message.topic, message.properties.topic_alias()), (name, Some(3)));
        assert_eq!(message.payload, b"push");
        client.ack(Packet::PubAck, message.packet_id);
    }
}

/// What was not sent told no alias (MQTT-3.1.2-25).
#[test]
fn a_packet_that_is_too_large_introduces_no_alias() {
    let rig = Rig::new(options(), welcome);
    let hello = Hello::v5(1).with(Property::TopicAliasMaximum(2)).with(Property::MaximumPacketSize(40));
    let mut client = rig.hello(&hello);
    client.subscribe("#", QoS::AtMostOnce);
    let mut publisher = rig.v5(2);
    publisher.publish("some/topic", QoS::AtMostOnce, &[0; 64]);
    publisher.publish("some/topic", QoS::AtMostOnce, b"x");
    publisher.publish("some/topic", QoS::AtMostOnce, b"y");
    assert_eq!(named(&mut client), said("some/topic", 1));
    assert_eq!(named(&mut client), said("", 1));
}
