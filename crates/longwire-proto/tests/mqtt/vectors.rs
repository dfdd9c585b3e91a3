//! Every packet of both versions, byte by byte: decoded, looked at, and encoded to the same bytes.

use super::{decode, hex};
use longwire_proto::wire::mqtt::Side::{Client, Server};
use longwire_proto::wire::mqtt::Version::{V5, V311};
use longwire_proto::wire::mqtt::{
    Kind, Packet, QoS, Reason, RetainHandling, Side, Version, ack_frame, encode, encoded_bytes,
};

/// Side, version, bytes. Each is the one shortest encoding of its packet.
pub(crate) const VECTORS: &[(Side, Version, &str)] = &[
    // CONNECT: smallest, and with everything.
    (Client, V311, "10 0C 0004'MQTT'04 02 003C 0000"),
    (Client, V311, "10 23 0004'MQTT'04 EE 003C 0003'cid' 0003'w/t' 0004'bye!' 0002'me' 0003 0001FF"),
    (Client, V5, "10 0D 0004'MQTT'05 02 003C 00 0000"),
    (Client, V5, "10 0F 0004'MQTT'05 42 0000 00 0000 0000"),
    (
        Client,
        V5,
        "10 5B 0004'MQTT'05 F6 000A 1B 11 00000E10 21 0010 27 00010000 22 0005 19 01 17 00 26 0001'k' 0001'v' \
         0003'cid' 1D 18 0000000A 01 01 02 0000003C 03 0001't' 08 0001'r' 09 0001 00 26 0000 0000 \
         0003'w/t' 0004'bye!' 0002'me' 0001'p'",
    ),
    (Client, V5, "10 18 0004'MQTT'05 02 003C 0B 15 0003'met' 16 0002 0102 0000"),
    // CONNACK.
    (Server, V311, "20 02 01 00"),
    (Server, V311, "20 02 00 05"),
    (Server, V5, "20 03 01 00 00"),
    (Server, V5, "20 03 00 87 00"),
    (
        Server,
        V5,
        "20 3F 00 00 3C 11 00000001 21 0001 24 01 25 00 27 00000100 12 0001'c' 22 0001 1F 0001'r' 26 0001'k' 0001'v' \
         28 00 29 00 2A 00 13 003C 1A 0001'i' 1C 0001's' 15 0001'm' 16 0001 01",
    ),
    // PUBLISH: each QoS, DUP, retain, empty payload, alias alone, every property.
    (Client, V311, "30 05 0001'a' 'hi'"),
    (Client, V311, "31 03 0001'a'"),
    (Client, V311, "3A 07 0001'a' 0001 'hi'"),
    (Server, V311, "34 07 0001'a' FFFF 'hi'"),
    (Client, V5, "30 06 0001'a' 00 'hi'"),
    (Client, V5, "32 08 0000 0001 03 23 0001"),
    (
        Client,
        V5,
        "35 2F 0001'a' 0002 27 01 01 02 0000003C 23 0001 08 0003'r/t' 09 0002 00FF 03 0001't' 26 0001'k' 0001'v' 26 0001'k' 0001'w' 'hi'",
    ),
    (Server, V5, "30 09 0001'a' 05 0B 01 0B 80 01"),
    // Acknowledgements: short, with a code, with properties.
    (Client, V311, "40 02 0001"),
    (Client, V311, "50 02 0001"),
    (Client, V311, "62 02 0001"),
    (Server, V311, "70 02 FFFF"),
    (Server, V5, "40 02 0001"),
    (Server, V5, "40 03 0001 10"),
    (Server, V5, "40 08 0001 87 04 1F 0001'r'"),
    (Client, V5, "50 0B 0001 00 07 26 0001'k' 0001'v'"),
    (Client, V5, "62 03 0001 92"),
    (Server, V5, "70 03 0001 92"),
    // SUBSCRIBE and UNSUBSCRIBE with their answers.
    (Client, V311, "82 0C 0001 0001'a' 00 0003'b/#' 02"),
    (Client, V5, "82 13 0001 02 0B 05 0003'a/+' 2D 0001'b' 10 0001'#' 01"),
    (Client, V5, "82 10 0001 00 000A'$share/g/a' 01"),
    (Server, V311, "90 06 0001 00 01 02 80"),
    (Server, V5, "90 07 0001 00 00 01 02 8F"),
    (Client, V311, "A2 07 0001 0003'a/b'"),
    (Client, V5, "A2 0D 0001 07 26 0001'k' 0001'v' 0001'a'"),
    (Server, V311, "B0 02 0001"),
    (Server, V5, "B0 05 0001 00 00 11"),
    // PING.
    (Client, V311, "C0 00"),
    (Client, V5, "C0 00"),
    (Server, V311, "D0 00"),
    (Server, V5, "D0 00"),
    // DISCONNECT.
    (Client, V311, "E0 00"),
    (Client, V5, "E0 00"),
    (Client, V5, "E0 01 04"),
    (Client, V5, "E0 07 00 05 11 00000000"),
    (Server, V5, "E0 06 9D 04 1C 0001's'"),
    // AUTH.
    (Client, V5, "F0 0A 18 08 15 0001'm' 16 0001 07"),
    (Server, V5, "F0 00"),
];

#[test]
fn every_vector_decodes_and_encodes_to_itself() {
    for &(from, version, text) in VECTORS {
        let bytes = hex(text);
        let packet = decode(version, from, &bytes).unwrap_or_else(|fault| panic!("{text}: {fault}"));
        let packet = packet.unwrap_or_else(|| panic!("{text}: asks for more"));
        let mut again = Vec::new();
        encode(&packet, version, &mut again).unwrap();
        assert_eq!(again, bytes, "{text}");
        assert_eq!(encoded_bytes(&packet, version), Ok(bytes.len() as u32), "{text}");
    }
}

#[test]
fn there_is_a_vector_of_every_packet_in_every_version_and_direction() {
    for version in [V311, V5] {
        for first in 1..=15u8 {
            let there = VECTORS.iter().any(|&(_, v, text)| v == version && hex(text)[0] >> 4 == first);
            assert_eq!(there, first != 15 || version == V5, "type {first} of {version:?}");
        }
    }
}

#[test]
fn a_vector_cut_short_asks_for_more_and_a_byte_more_is_left() {
    for &(from, version, text) in VECTORS {
        let bytes = hex(text);
        for length in 0..bytes.len() {
            assert_eq!(decode(version, from, &bytes[..length]), Ok(None), "{text} cut to {length}");
        }
        let mut longer = bytes.clone();
        longer.push(0xC0);
        let mut input = longer.as_slice();
        let limits = longwire_proto::wire::mqtt::Limits::default();
        longwire_proto::wire::mqtt::Decoder::new(version, from, &limits).next(&mut input).unwrap().unwrap();
        assert_eq!(input, [0xC0], "{text}");
    }
}

#[test]
fn a_vector_whose_length_lies_is_refused_or_another_packet() {
    for &(from, version, text) in VECTORS {
        let bytes = hex(text);
        for body in 0..bytes.len() - 2 {
            let mut shorter = bytes[..2 + body].to_vec();
            shorter[1] = body as u8;
            // A packet whose end is optional may be whole after a cut; then it says less, but encodes to what was cut.
            if let Ok(Some(packet)) = decode(version, from, &shorter) {
                let mut again = Vec::new();
                encode(&packet, version, &mut again).unwrap();
                assert!(again.len() <= shorter.len(), "{text} cut to {body}");
            }
        }
    }
}

#[test]
fn a_connect_says_all_that_it_carries() {
    let bytes = hex(VECTORS[4].2);
    let Ok(Some(Packet::Connect(connect))) = decode(V311, Client, &bytes) else { panic!("no CONNECT") };
    assert_eq!((connect.version, connect.clean_start, connect.keep_alive_s), (V5, true, 10));
    assert_eq!(
        (connect.client_id, connect.user_name, connect.password),
        ("cid", Some("me"), Some(&b"p"[..]))
    );
    let properties = connect.properties;
    assert_eq!(properties.session_expiry(), Some(3600));
    assert_eq!(properties.receive_maximum(), Some(16));
    assert_eq!(properties.maximum_packet_size(), Some(65_536));
    assert_eq!(properties.topic_alias_maximum(), Some(5));
    assert_eq!(properties.request_response_information(), Some(true));
    assert_eq!(properties.request_problem_information(), Some(false));
    assert_eq!(properties.user_properties().collect::<Vec<_>>(), [("k", "v")]);
    assert_eq!(properties.auth_method(), None);
    let will = connect.will.unwrap();
    assert_eq!(
        (will.qos, will.retain, will.topic, will.payload),
        (QoS::ExactlyOnce, true, "w/t", &b"bye!"[..])
    );
    assert_eq!((will.properties.will_delay(), will.properties.message_expiry()), (Some(10), Some(60)));
    assert_eq!((will.properties.payload_is_utf8(), will.properties.content_type()), (Some(true), Some("t")));
    assert_eq!(
        (will.properties.response_topic(), will.properties.correlation()),
        (Some("r"), Some(&[0][..]))
    );
}

#[test]
fn a_subscribe_is_read_entry_by_entry() {
    let bytes = hex("82 13 0001 02 0B 05 0003'a/+' 2D 0001'b' 10 0001'#' 01");
    let Ok(Some(Packet::Subscribe(subscribe))) = decode(V5, Client, &bytes) else { panic!("no SUBSCRIBE") };
    assert_eq!(subscribe.properties.subscription_identifiers().collect::<Vec<_>>(), [5]);
    let entries: Vec<_> = subscribe.filters.iter().collect();
    assert_eq!(entries.iter().map(|entry| entry.filter.as_str()).collect::<Vec<_>>(), ["a/+", "b", "#"]);
    let first = entries[0].options;
    assert_eq!((first.qos, first.no_local, first.retain_as_published), (QoS::AtLeastOnce, true, true));
    assert_eq!(first.retain_handling, RetainHandling::DoNotSend);
    assert_eq!(entries[1].options.retain_handling, RetainHandling::SendIfNew);
}

#[test]
fn a_byte_order_mark_stays() {
    // MQTT-1.5.4-3
    let bytes = hex("30 06 0004 EFBBBF'a'");
    let Ok(Some(Packet::Publish(publish))) = decode(V311, Client, &bytes) else { panic!("no PUBLISH") };
    assert_eq!(publish.topic, "\u{FEFF}a");
}

#[test]
fn acknowledgements_on_the_stack_are_the_same_bytes() {
    assert_eq!(ack_frame(Kind::PubAck, V5, 1, Reason::Success).as_bytes(), hex("40 02 0001"));
    assert_eq!(
        ack_frame(Kind::PubAck, V5, 1, Reason::NoMatchingSubscribers).as_bytes(),
        hex("40 03 0001 10")
    );
    assert_eq!(ack_frame(Kind::PubRel, V5, 1, Reason::PacketIdNotFound).as_bytes(), hex("62 03 0001 92"));
    assert_eq!(ack_frame(Kind::PubRel, V311, 1, Reason::PacketIdNotFound).as_bytes(), hex("62 02 0001"));
}

#[test]
fn reasons_have_one_byte_each_and_3_1_1_knows_six() {
    for &reason in Reason::ALL {
        assert_eq!(Reason::from_byte(reason as u8), Some(reason));
        assert!(!reason.name().is_empty());
    }
    assert_eq!((0..=255).filter_map(Reason::from_byte).count(), Reason::ALL.len());
    for code in 0..=5 {
        assert_eq!(Reason::from_connect_return(code).unwrap().connect_return(), Some(code));
    }
    assert_eq!(Reason::from_connect_return(6), None);
    assert_eq!(Reason::MalformedPacket.connect_return(), None);
}
