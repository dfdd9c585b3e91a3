//! A PUBLISH for many subscribers is byte for byte what the plain encoding makes.

use longwire_proto::wire::mqtt::{
    Aliasing, OWN_PROPERTY_BYTES_MAX, Packet, PropertiesBuf, Property, Publish, PublishHead, QoS,
    SharedPublish, Stamp, Version, encode, encoded_bytes,
};
use proptest::prelude::*;
use std::sync::Arc;

fn plain(packet: Publish<'_>, version: Version) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&Packet::Publish(packet), version, &mut out).unwrap();
    assert_eq!(encoded_bytes(&Packet::Publish(packet), version), Ok(out.len() as u32));
    out
}

proptest! {
    #[test]
    fn shared_pieces_join_to_the_plain_packet(
        v5: bool, dup: bool, retain: bool, qos in 0u8..3, packet_id in 1u16.., alias in 0u8..3,
        own_ids in prop::collection::vec(1u32..200, 0..6), payload_bytes in 0usize..20_000,
    ) {
        let version = if v5 { Version::V5 } else { Version::V311 };
        let qos = QoS::from_bits(qos).unwrap();
        let payload = vec![7; payload_bytes];
        let given = [Property::UserProperty(("k", "v")), Property::ContentType("t")];
        let own: PropertiesBuf = own_ids.iter().map(|&id| Property::SubscriptionIdentifier(id)).collect();
        let together: PropertiesBuf = given.iter().copied().collect();
        let shared = SharedPublish::encode("a/b", &together.as_properties(), &payload).unwrap().map(Arc::<[u8]>::from);
        let aliasing = [Aliasing::Spelled, Aliasing::Introduce(9), Aliasing::Use(9)][usize::from(alias)];
        let stamp = Stamp { version, dup, qos, retain, packet_id, aliasing };
        let head = PublishHead::new(&shared, &stamp, &own.as_properties()).unwrap();
        let sent = head.slices(&shared).concat();
        prop_assert_eq!(sent.len(), head.packet_bytes() as usize);

        let mut all = PropertiesBuf::default();
        if aliasing != Aliasing::Spelled {
            all.push(Property::TopicAlias(9));
        }
        own_ids.iter().for_each(|&id| all.push(Property::SubscriptionIdentifier(id)));
        given.iter().for_each(|&property| all.push(property));
        let topic = if v5 && aliasing == Aliasing::Use(9) { "" } else { "a/b" };
        let packet = Publish { dup, qos, retain, topic, packet_id, properties: all.as_properties(), payload: &payload };
        prop_assert_eq!(sent, plain(packet, version));

        let bare = Publish {
            dup: false, qos: QoS::AtMostOnce, retain, topic: "a/b", packet_id: 0,
            properties: together.as_properties(), payload: &payload,
        };
        prop_assert_eq!(shared.whole_at_most_once(version, retain), plain(bare, version));
    }
}

#[test]
fn own_properties_beyond_the_room_are_not_taken() {
    let shared = SharedPublish::encode("a", &PropertiesBuf::default().as_properties(), b"").unwrap();
    let stamp = Stamp {
        version: Version::V5,
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        packet_id: 0,
        aliasing: Aliasing::Introduce(1),
    };
    let own =
        |count: usize| (0..count).map(|_| Property::SubscriptionIdentifier(1)).collect::<PropertiesBuf>();
    assert!(PublishHead::new(&shared, &stamp, &own(OWN_PROPERTY_BYTES_MAX / 2).as_properties()).is_some());
    assert!(
        PublishHead::new(&shared, &stamp, &own(OWN_PROPERTY_BYTES_MAX / 2 + 1).as_properties()).is_none()
    );
}

#[test]
fn what_mqtt_cannot_carry_is_not_encoded() {
    let none = PropertiesBuf::default();
    let long = "x".repeat(65_536);
    assert!(SharedPublish::encode(&long, &none.as_properties(), b"").is_err());
    let packet = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: &long,
        packet_id: 0,
        properties: none.as_properties(),
        payload: b"",
    };
    let mut out = vec![1];
    assert!(encode(&Packet::Publish(packet), Version::V5, &mut out).is_err());
    assert_eq!(out, [1]);
}
