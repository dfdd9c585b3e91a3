//! Every rule that refuses, byte by byte: the fault, the reason code to answer, the statement that settles it.

use super::{decode, decode_within, hex};
use longwire_proto::wire::mqtt::Side::{Client, Server};
use longwire_proto::wire::mqtt::Version::{V5, V311};
use longwire_proto::wire::mqtt::{Decoder, Fault, Kind, Limits, Place, PropertyKey, Side, Version};

/// Side, version, bytes, fault, reason code, statement.
type Refusal = (Side, Version, &'static str, Fault, u8, &'static str);

#[rustfmt::skip]
pub(crate) const REFUSED: &[Refusal] = &[
    // The first byte alone.
    (Client, V5, "00", Fault::ReservedType(0), 0x81, "MQTT 2.1.2"),
    (Client, V311, "F0", Fault::ReservedType(15), 0x81, "MQTT 2.1.2"),
    (Client, V5, "11", Fault::HeaderFlags(Kind::Connect), 0x81, "MQTT-2.1.3-1"),
    (Client, V5, "41", Fault::HeaderFlags(Kind::PubAck), 0x81, "MQTT-2.1.3-1"),
    (Client, V5, "60", Fault::HeaderFlags(Kind::PubRel), 0x81, "MQTT-2.1.3-1"), // MQTT-3.6.1-1
    (Client, V5, "80", Fault::HeaderFlags(Kind::Subscribe), 0x81, "MQTT-2.1.3-1"), // MQTT-3.8.1-1
    (Client, V5, "A3", Fault::HeaderFlags(Kind::Unsubscribe), 0x81, "MQTT-2.1.3-1"), // MQTT-3.10.1-1
    (Client, V5, "C1", Fault::HeaderFlags(Kind::PingReq), 0x81, "MQTT-2.1.3-1"),
    (Client, V5, "E2", Fault::HeaderFlags(Kind::Disconnect), 0x81, "MQTT-2.1.3-1"), // MQTT-3.14.1-1
    (Client, V5, "F1", Fault::HeaderFlags(Kind::Auth), 0x81, "MQTT-2.1.3-1"), // MQTT-3.15.1-1
    (Client, V5, "36", Fault::QoS, 0x81, "MQTT-3.3.1-4"),
    (Client, V5, "38", Fault::DupAtMostOnce, 0x81, "MQTT-3.3.1-2"),
    (Client, V5, "20", Fault::Direction(Kind::ConnAck), 0x82, "MQTT 2.1.2"),
    (Client, V5, "D0", Fault::Direction(Kind::PingResp), 0x82, "MQTT 2.1.2"),
    (Server, V5, "82", Fault::Direction(Kind::Subscribe), 0x82, "MQTT 2.1.2"),
    (Server, V311, "E0", Fault::Direction(Kind::Disconnect), 0x82, "MQTT 2.1.2"),
    // The length, before the body.
    (Client, V5, "30 FFFFFFFF", Fault::VariableInteger, 0x81, "MQTT-1.5.5-1"),
    (Client, V5, "30 8000", Fault::VariableInteger, 0x81, "MQTT-1.5.5-1"),
    (Client, V5, "30 FFFFFF7F", Fault::TooLarge { announced: 268_435_460, limit: 65_536 }, 0x95, "MQTT 3.2.2.3.6"),
    (Client, V5, "C0 01", Fault::BodyLength(Kind::PingReq), 0x81, "MQTT 2.1.4"),
    (Client, V311, "E0 01", Fault::BodyLength(Kind::Disconnect), 0x81, "MQTT 2.1.4"),
    (Client, V311, "40 03", Fault::BodyLength(Kind::PubAck), 0x81, "MQTT 2.1.4"),
    (Client, V5, "40 01", Fault::BodyLength(Kind::PubAck), 0x81, "MQTT 2.1.4"),
    (Client, V5, "10 0B", Fault::BodyLength(Kind::Connect), 0x81, "MQTT 2.1.4"),
    (Client, V5, "32 04", Fault::BodyLength(Kind::Publish), 0x81, "MQTT 2.1.4"),
    // CONNECT.
    (Client, V5, "10 0D 0004'MQTX'05 02 003C 00 0000", Fault::ProtocolName, 0x84, "MQTT-3.1.2-1"),
    (Client, V5, "10 0E 0006'MQIsdp'03 02 003C 0000", Fault::ProtocolName, 0x84, "MQTT-3.1.2-1"),
    (Client, V5, "10 0D 0004'MQTT'06 02 003C 00 0000", Fault::ProtocolLevel(6), 0x84, "MQTT-3.1.2-2"),
    (Client, V5, "10 0D 0004'MQTT'05 03 003C 00 0000", Fault::ConnectFlags, 0x81, "MQTT-3.1.2-3"),
    (Client, V5, "10 0D 0004'MQTT'05 0A 003C 00 0000", Fault::WillFlags, 0x81, "MQTT-3.1.2-12"), // MQTT-3.1.2-11
    (Client, V5, "10 0D 0004'MQTT'05 22 003C 00 0000", Fault::WillFlags, 0x81, "MQTT-3.1.2-12"), // MQTT-3.1.2-13
    (Client, V5, "10 13 0004'MQTT'05 1E 003C 00 0000 00 0001't' 0000", Fault::WillFlags, 0x81, "MQTT-3.1.2-12"),
    (Client, V311, "10 0E 0004'MQTT'04 42 003C 0000 0000", Fault::PasswordAlone, 0x81, "3.1.1 MQTT-3.1.2-22"),
    (Client, V311, "10 0C 0004'MQTT'04 00 003C 0000", Fault::ClientId, 0x85, "MQTT-3.1.3-8"), // 3.1.1 MQTT-3.1.3-7
    (Client, V5, "10 0D 0004'MQTT'05 82 003C 00 0000", Fault::BodyLength(Kind::Connect), 0x81, "MQTT 2.1.4"), // MQTT-3.1.2-17
    (Client, V5, "10 0E 0004'MQTT'05 02 003C 00 0000 00", Fault::BodyLength(Kind::Connect), 0x81, "MQTT 2.1.4"),
    (Client, V5, "10 0E 0004'MQTT'05 02 003C 00 0001 C0", Fault::Utf8, 0x81, "MQTT-1.5.4-1"), // MQTT-3.1.3-4
    (Client, V5, "10 0E 0004'MQTT'05 02 003C 00 0001 00", Fault::Null, 0x81, "MQTT-1.5.4-2"),
    (Client, V5, "10 0E 0004'MQTT'05 02 003C 00 0001 1F", Fault::Control, 0x81, "MQTT 1.5.4"),
    (Client, V5, "10 13 0004'MQTT'05 06 003C 00 0000 00 0001'#' 0000", Fault::TopicName, 0x90, "MQTT-3.3.2-2"),
    (Client, V5, "10 11 0004'MQTT'05 02 003C 04 16 0001 01 0000", Fault::NoAuthMethod, 0x82, "MQTT 3.1.2.11.10"),
    // CONNACK.
    (Server, V5, "20 03 02 00 00", Fault::ConnAckFlags, 0x81, "MQTT-3.2.2-1"),
    (Server, V5, "20 03 01 87 00", Fault::ConnAckFlags, 0x81, "MQTT-3.2.2-1"), // MQTT-3.2.2-6
    (Server, V311, "20 02 00 06", Fault::ReasonCode(6), 0x82, "MQTT 2.4"),
    (Server, V5, "20 03 00 8D 00", Fault::ReasonCode(0x8D), 0x82, "MQTT 2.4"), // MQTT-3.2.2-8
    // PUBLISH.
    (Client, V5, "32 06 0001'a' 0000 00", Fault::PacketId, 0x81, "MQTT-2.2.1-3"),
    (Client, V311, "30 03 0001'+'", Fault::TopicName, 0x90, "MQTT-3.3.2-2"),
    (Client, V311, "30 05 0003'a/#'", Fault::TopicName, 0x90, "MQTT-3.3.2-2"),
    (Client, V311, "30 03 0000 00", Fault::TopicName, 0x90, "MQTT-3.3.2-2"), // MQTT-4.7.3-1
    (Client, V5, "30 03 0000 00", Fault::NoTopic, 0x82, "MQTT 3.3.2.1"),
    (Client, V311, "30 04 0002 C0AF", Fault::Utf8, 0x81, "MQTT-1.5.4-1"),
    (Client, V311, "30 05 0003 EDA080", Fault::Utf8, 0x81, "MQTT-1.5.4-1"),
    (Client, V311, "30 04 0002 'a'00", Fault::Null, 0x81, "MQTT-1.5.4-2"),
    (Client, V311, "30 03 0001 7F", Fault::Control, 0x81, "MQTT 1.5.4"),
    (Client, V311, "30 04 0002 C285", Fault::Control, 0x81, "MQTT 1.5.4"),
    (Client, V311, "30 05 0003 EFBFBF", Fault::Control, 0x81, "MQTT 1.5.4"),
    (Client, V311, "30 05 0003 EFB790", Fault::Control, 0x81, "MQTT 1.5.4"),
    (Client, V311, "30 03 0002'a'", Fault::BodyLength(Kind::Publish), 0x81, "MQTT 2.1.4"),
    (Client, V5, "30 03 0001'a'", Fault::BodyLength(Kind::Publish), 0x81, "MQTT 2.1.4"), // MQTT-2.2.2-1
    (Client, V5, "30 05 0001'a' 02 01", Fault::PropertyLength, 0x81, "MQTT 2.2.2.2"),
    (Client, V5, "30 05 0001'a' 01 01", Fault::PropertyLength, 0x81, "MQTT 2.2.2.2"),
    (Client, V5, "30 05 0001'a' 8000", Fault::VariableInteger, 0x81, "MQTT-1.5.5-1"),
    (Client, V5, "30 07 0001'a' 03 23 0000", Fault::TopicAlias, 0x94, "MQTT-3.3.2-8"),
    (Client, V5, "30 06 0001'a' 02 01 02", Fault::PropertyValue(1), 0x82, "MQTT 2.2.2.2"),
    (Client, V5, "30 08 0001'a' 04 01 01 01 01", Fault::PropertyTwice(1), 0x82, "MQTT 2.2.2.2"),
    (Client, V5, "30 06 0001'a' 02 04 00", Fault::PropertyUnknown(4), 0x81, "MQTT 2.2.2.2"),
    (Client, V5, "30 07 0001'a' 03 A3 01 00", Fault::PropertyUnknown(163), 0x81, "MQTT 2.2.2.2"),
    (Client, V5, "30 09 0001'a' 05 11 00000001", Fault::PropertyUnknown(0x11), 0x81, "MQTT 2.2.2.2"),
    (Client, V5, "30 06 0001'a' 02 0B 01", Fault::SubscriptionIdentifier, 0x82, "MQTT-3.3.4-6"),
    (Server, V5, "30 06 0001'a' 02 0B 00", Fault::PropertyValue(0x0B), 0x82, "MQTT 2.2.2.2"),
    (Client, V5, "30 08 0001'a' 04 08 0001'#'", Fault::TopicName, 0x90, "MQTT-3.3.2-2"), // MQTT-3.3.2-14
    (Client, V5, "30 08 0001'a' 04 03 0001 FF", Fault::Utf8, 0x81, "MQTT-1.5.4-1"), // MQTT-3.3.2-19
    // Acknowledgements.
    (Client, V5, "40 02 0000", Fault::PacketId, 0x81, "MQTT-2.2.1-3"),
    (Client, V5, "40 03 0001 92", Fault::ReasonCode(0x92), 0x82, "MQTT 2.4"), // MQTT-3.4.2-1
    (Client, V5, "62 03 0001 10", Fault::ReasonCode(0x10), 0x82, "MQTT 2.4"), // MQTT-3.6.2-1
    (Client, V5, "40 05 0001 00 00 00", Fault::BodyLength(Kind::PubAck), 0x81, "MQTT 2.1.4"),
    // SUBSCRIBE and UNSUBSCRIBE.
    (Client, V5, "82 03 0001 00", Fault::NoPayload(Kind::Subscribe), 0x82, "MQTT-3.8.3-2"),
    (Client, V311, "A2 02 0001", Fault::NoPayload(Kind::Unsubscribe), 0x82, "MQTT-3.10.3-2"),
    (Client, V5, "82 07 0000 00 0001'a' 00", Fault::PacketId, 0x81, "MQTT-2.2.1-3"),
    (Client, V5, "82 07 0001 00 0001'a' 03", Fault::QoS, 0x81, "MQTT-3.3.1-4"),
    (Client, V5, "82 07 0001 00 0001'a' 40", Fault::SubscriptionOptions, 0x81, "MQTT-3.8.3-5"),
    (Client, V5, "82 07 0001 00 0001'a' 30", Fault::SubscriptionOptions, 0x81, "MQTT-3.8.3-5"),
    (Client, V311, "82 06 0001 0001'a' 04", Fault::SubscriptionOptions, 0x81, "MQTT-3.8.3-5"), // 3.1.1 MQTT-3.8.3-4
    (Client, V5, "82 10 0001 00 000A'$share/g/a' 05", Fault::NoLocalShared, 0x82, "MQTT-3.8.3-4"),
    (Client, V5, "82 0F 0001 00 0009'$share//a' 00", Fault::SharedFilter, 0x8F, "MQTT-4.8.2-1"),
    (Client, V5, "82 0E 0001 00 0008'$share/g' 00", Fault::SharedFilter, 0x8F, "MQTT-4.8.2-1"), // MQTT-4.8.2-2
    (Client, V5, "82 08 0001 00 0002'a#' 00", Fault::TopicFilter, 0x8F, "MQTT-4.7.1-1"),
    (Client, V5, "82 09 0001 00 0003'#/a' 00", Fault::TopicFilter, 0x8F, "MQTT-4.7.1-1"),
    (Client, V5, "82 08 0001 00 0002'a+' 00", Fault::TopicFilter, 0x8F, "MQTT-4.7.1-1"), // MQTT-4.7.1-2
    (Client, V5, "82 06 0001 00 0000 00", Fault::TopicFilter, 0x8F, "MQTT-4.7.1-1"), // MQTT-4.7.3-1
    (Client, V5, "82 06 0001 00 0001'a'", Fault::BodyLength(Kind::Subscribe), 0x81, "MQTT 2.1.4"),
    (Client, V5, "82 09 0001 02 0B 00 0001'a' 00", Fault::PropertyValue(0x0B), 0x82, "MQTT 2.2.2.2"),
    (Client, V5, "82 0B 0001 04 0B 01 0B 02 0001'a' 00", Fault::PropertyTwice(0x0B), 0x82, "MQTT 2.2.2.2"),
    (Server, V5, "90 03 0001 00", Fault::NoPayload(Kind::SubAck), 0x82, "MQTT-3.9.3-1"),
    (Server, V5, "90 04 0001 00 03", Fault::ReasonCode(3), 0x82, "MQTT 2.4"), // MQTT-3.9.3-2
    (Server, V311, "90 03 0001 03", Fault::ReasonCode(3), 0x82, "MQTT 2.4"), // 3.1.1 MQTT-3.9.3-2 // MQTT-3.14.2-1
    (Server, V5, "B0 04 0001 00 02", Fault::ReasonCode(2), 0x82, "MQTT 2.4"), // MQTT-3.11.3-2
    // DISCONNECT and AUTH.
    (Client, V5, "E0 01 8E", Fault::ReasonCode(0x8E), 0x82, "MQTT 2.4"), // MQTT-3.14.2-1
    (Client, V5, "E0 01 03", Fault::ReasonCode(3), 0x82, "MQTT 2.4"), // MQTT-3.14.2-1
    (Server, V5, "E0 07 00 05 11 00000000", Fault::PropertyUnknown(0x11), 0x81, "MQTT 2.2.2.2"), // MQTT-3.14.2-2
    (Client, V5, "F0 02 18 00", Fault::NoAuthMethod, 0x82, "MQTT 3.1.2.11.10"), // 3.15.2.2.2
    (Client, V5, "F0 01 02", Fault::ReasonCode(2), 0x82, "MQTT 2.4"), // MQTT-3.15.2-1
];

#[test]
fn every_rule_refuses_with_its_fault_code_and_statement() {
    for &(from, version, text, fault, code, statement) in REFUSED {
        let bytes = hex(text);
        assert_eq!(decode(version, from, &bytes), Err(fault), "{text}");
        assert_eq!((fault.reason() as u8, fault.statement()), (code, statement), "{text}");
    }
}

#[test]
fn a_fault_of_the_header_is_seen_before_the_body() {
    for &(from, version, text, fault, ..) in REFUSED {
        let bytes = hex(text);
        if bytes.len() > 5 {
            continue;
        }
        let limits = Limits::default();
        let seen = (1..=bytes.len())
            .find_map(|length| Decoder::new(version, from, &limits).peek(&bytes[..length]).err());
        if bytes.len() <= 2 || matches!(fault, Fault::TooLarge { .. } | Fault::VariableInteger) {
            assert_eq!(seen, Some(fault), "{text}");
        }
    }
}

#[test]
fn the_first_packet_is_connect() {
    // MQTT-3.1.0-1
    let limits = Limits::default();
    let decoder = Decoder::new(V5, Client, &limits);
    assert_eq!(decoder.peek_first(&[0x30]), Err(Fault::NotConnect(Kind::Publish)));
    assert_eq!(decoder.peek_first(&[0xC0, 0]), Err(Fault::NotConnect(Kind::PingReq)));
    assert_eq!(decoder.peek_first(&[]), Ok(None));
    assert_eq!(decoder.peek_first(&[0x10]), Ok(None));
    assert_eq!(decoder.peek_first(&[0x10, 12]).unwrap().unwrap().packet_bytes(), 14);
}

#[test]
fn every_property_in_every_wrong_place_is_refused() {
    // Where each may stand, as table 2-4 of the specification has it: name of the key, kinds, will.
    let limits = Limits::SPECIFICATION;
    let value = |key: PropertyKey| match key as u8 {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2A => hex("01"),
        0x0B => hex("01"),
        0x13 | 0x21..=0x23 => hex("0001"),
        0x02 | 0x11 | 0x18 | 0x27 => hex("00000001"),
        0x26 => hex("0001'k' 0001'v'"),
        _ => hex("0001'x'"),
    };
    let mut refused = 0;
    for &key in PropertyKey::ALL {
        let mut property = vec![key as u8];
        property.extend(value(key));
        let length = property.len() as u8;
        let join = |before: &str, after: &str| {
            let body = [hex(before), vec![length], property.clone(), hex(after)].concat();
            [vec![body.len() as u8], body].concat()
        };
        let places = [
            (Client, 0x10, Place::In(Kind::Connect), join("0004'MQTT'05 02 003C", "0000")),
            (Client, 0x10, Place::Will, join("0004'MQTT'05 06 003C 00 0000", "0001't' 0000")),
            (Server, 0x20, Place::In(Kind::ConnAck), join("00 00", "")),
            (Server, 0x30, Place::In(Kind::Publish), join("0001't'", "")),
            (Client, 0x40, Place::In(Kind::PubAck), join("0001 00", "")),
            (Client, 0x50, Place::In(Kind::PubRec), join("0001 00", "")),
            (Client, 0x62, Place::In(Kind::PubRel), join("0001 00", "")),
            (Client, 0x70, Place::In(Kind::PubComp), join("0001 00", "")),
            (Client, 0x82, Place::In(Kind::Subscribe), join("0001", "0001't' 00")),
            (Server, 0x90, Place::In(Kind::SubAck), join("0001", "00")),
            (Client, 0xA2, Place::In(Kind::Unsubscribe), join("0001", "0001't'")),
            (Server, 0xB0, Place::In(Kind::UnsubAck), join("0001", "00")),
            (Client, 0xE0, Place::In(Kind::Disconnect), join("00", "")),
        ];
        for (from, first, place, rest) in places {
            let bytes = [vec![first], rest].concat();
            let answer = decode_within(&limits, V5, from, &bytes);
            if key.fits(place) {
                let alone = matches!(answer, Err(Fault::NoAuthMethod)) && key == PropertyKey::AuthData;
                assert!(answer.is_ok() || alone, "{key:?} in {place:?}: {answer:?}");
            } else {
                assert_eq!(answer, Err(Fault::PropertyUnknown(key as u32)), "{key:?} in {place:?}");
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 13 * 27 - 60);
}

#[test]
fn limits_refuse_with_their_codes() {
    let refuse = |limits: Limits, text: &str, fault: Fault| {
        let bytes = hex(text);
        assert_eq!(decode_within(&limits, V5, Client, &bytes), Err(fault), "{text}");
        assert!(decode_within(&Limits::SPECIFICATION, V5, Client, &bytes).is_ok(), "{text}");
    };
    let limits = Limits::default();
    refuse(Limits { topic_bytes_max: 2, ..limits }, "30 06 0003'a/b' 00", Fault::TopicName);
    refuse(Limits { topic_levels_max: 1, ..limits }, "30 06 0003'a/b' 00", Fault::TopicName);
    refuse(Limits { level_bytes_max: 2, ..limits }, "30 06 0003'abc' 00", Fault::TopicName);
    refuse(Limits { level_bytes_max: 0, ..limits }, "82 07 0001 00 0001'a' 00", Fault::TopicFilter);
    refuse(
        Limits { client_id_bytes_max: 0, ..limits },
        "10 0E 0004'MQTT'05 02 003C 00 0001'c'",
        Fault::ClientId,
    );
    let login = "10 12 0004'MQTT'05 C2 003C 00 0000 0001'u' 0000";
    refuse(Limits { user_name_bytes_max: 0, ..limits }, login, Fault::Credentials);
    let will = "10 14 0004'MQTT'05 06 003C 00 0000 00 0001't' 0001'p'";
    refuse(Limits { will_bytes_max: 0, ..limits }, will, Fault::WillTooLarge);
    let pair = "30 0B 0001'a' 07 26 0001'k' 0001'v'";
    refuse(Limits { user_properties_max: 0, ..limits }, pair, Fault::UserProperties);
    refuse(Limits { user_property_bytes_max: 1, ..limits }, pair, Fault::UserProperties);
    let large = Fault::TooLarge { announced: 13, limit: 12 };
    refuse(Limits { packet_bytes_max: 12, ..limits }, pair, large);
    assert_eq!(Fault::Credentials.reason() as u8, 0x86);
    assert_eq!(Fault::UserProperties.reason() as u8, 0x95);
    assert_eq!(Fault::ClientId.reason() as u8, 0x85);
}
