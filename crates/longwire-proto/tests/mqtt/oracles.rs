//! The same packets through two other codecs. What they say differently is listed with the statement that settles it.

use super::decode_within;
use super::generate::{Dice, mutated, packet};
use super::oracle::{Oracle, core, rmqtt};
use longwire_proto::wire::mqtt::{Limits, Packet, Properties, Property, Reason, Side, Version};
use std::collections::BTreeMap;

/// What a packet says, in words that two encodings of it share: properties by key, those left out that say
/// what their absence says.
pub(crate) fn said(packet: &Packet<'_>) -> String {
    let properties = |with: &Properties<'_>| {
        let mut all: Vec<Property<'_>> = with.iter().filter(|one| !says_nothing(one)).collect();
        all.sort_by_key(|property| property.key() as u8);
        format!("{all:?}")
    };
    match packet {
        Packet::Connect(c) => {
            let will = c.will.map(|w| (w.qos, w.retain, w.topic, w.payload, properties(&w.properties)));
            let plain = (c.version, c.clean_start, c.keep_alive_s, c.client_id, c.user_name, c.password);
            format!("connect {plain:?} {will:?} {}", properties(&c.properties))
        }
        Packet::ConnAck(c) => format!("{:?} {:?} {}", c.session_present, c.reason, properties(&c.properties)),
        Packet::Publish(p) => {
            let plain = (p.dup, p.qos, p.retain, p.topic, p.packet_id, p.payload);
            format!("{plain:?} {}", properties(&p.properties))
        }
        Packet::PubAck(a) | Packet::PubRec(a) | Packet::PubRel(a) | Packet::PubComp(a) => {
            format!("{:?} {} {:?} {}", packet.kind(), a.packet_id, a.reason, properties(&a.properties))
        }
        Packet::Subscribe(s) => {
            let filters: Vec<_> = s.filters.iter().collect();
            format!("{} {filters:?} {}", s.packet_id, properties(&s.properties))
        }
        Packet::Unsubscribe(u) => {
            let filters: Vec<_> = u.filters.iter().collect();
            format!("{} {filters:?} {}", u.packet_id, properties(&u.properties))
        }
        Packet::SubAck(s) | Packet::UnsubAck(s) => {
            let reasons: Vec<_> = s.reasons.iter().collect();
            format!("{:?} {} {reasons:?} {}", packet.kind(), s.packet_id, properties(&s.properties))
        }
        Packet::Disconnect(d) => format!("disconnect {:?} {}", d.reason, properties(&d.properties)),
        Packet::Auth(a) => format!("auth {:?} {}", a.reason, properties(&a.properties)),
        Packet::PingReq | Packet::PingResp => format!("{:?}", packet.kind()),
    }
}

/// A value that is the default of the specification.
fn says_nothing(property: &Property<'_>) -> bool {
    matches!(
        property,
        Property::PayloadIsUtf8(false)
            | Property::SessionExpiry(0)
            | Property::RequestProblemInformation(true)
            | Property::RequestResponseInformation(false)
            | Property::ReceiveMaximum(u16::MAX)
            | Property::TopicAliasMaximum(0)
            | Property::RetainAvailable(true)
            | Property::WildcardAvailable(true)
            | Property::SubscriptionIdsAvailable(true)
            | Property::SharedAvailable(true)
    )
}

const SIDES: [(Version, Side); 4] = [
    (Version::V311, Side::Client),
    (Version::V311, Side::Server),
    (Version::V5, Side::Client),
    (Version::V5, Side::Server),
];

/// Faults for which we refuse and the other accepts, each settled by `Fault::statement`; what it stands for here.
#[rustfmt::skip]
const CORE_IS_MILDER: &[(&str, &str)] = &[
    ("BodyLength", "3.1.1 3.4.1: an acknowledgement is two bytes long; MQTT-2.2.2-1: no property length in a PUBLISH"),
    ("ConnAckFlags", "MQTT-3.2.2-1, MQTT-3.2.2-6, 3.1.1 MQTT-3.2.2-4: reserved flags, a session beside a refusal"),
    ("ConnectFlags", "MQTT-3.1.2-3"),
    ("Control", "1.5.4 lets the receiver choose; LIMITS chooses"),
    ("NoAuthMethod", "3.1.2.11.10, 3.15.2.2.2"),
    ("NoTopic", "3.3.2.1"),
    ("Null", "MQTT-1.5.4-2"),
    ("ReasonCode", "MQTT-3.14.2-1, MQTT-3.15.2-1: codes of the other side"),
    ("SubscriptionOptions", "3.1.1 MQTT-3.8.3-4"),
    ("TopicFilter", "MQTT-4.7.1-1, -2, MQTT-4.7.3-1"),
    ("TopicName", "MQTT-3.3.2-2, MQTT-4.7.3-1"),
    ("VariableInteger", "MQTT-1.5.5-1"),
    ("WillFlags", "MQTT-3.1.2-11, -13"),
];

#[rustfmt::skip]
const RMQTT_IS_MILDER: &[(&str, &str)] = &[
    ("BodyLength", "2.1.4: bytes behind the last field"),
    ("ConnAckFlags", "MQTT-3.2.2-1, MQTT-3.2.2-6, 3.1.1 MQTT-3.2.2-4"),
    ("Control", "1.5.4 lets the receiver choose; LIMITS chooses"),
    ("NoAuthMethod", "3.1.2.11.10, 3.15.2.2.2"),
    ("NoPayload", "MQTT-3.9.3-1, MQTT-3.11.3-1: one code for each filter, and there is at least one filter"),
    ("NoTopic", "3.3.2.1"),
    ("Null", "MQTT-1.5.4-2"),
    ("PasswordAlone", "3.1.1 MQTT-3.1.2-22"),
    ("PropertyValue", "3.2.2.3: a switch is 0 or 1"),
    ("ReasonCode", "3.1.1 3.2.2.3, MQTT-3.14.2-1, MQTT-3.15.2-1"),
    ("SubscriptionOptions", "3.1.1 MQTT-3.8.3-4"),
    ("TopicFilter", "MQTT-4.7.1-1, -2, MQTT-4.7.3-1"),
    ("TopicName", "MQTT-3.3.2-2, MQTT-4.7.3-1"),
    ("VariableInteger", "MQTT-1.5.5-1"),
    ("WillFlags", "MQTT-3.1.2-11, -13"),
];

/// What `mqtt-protocol-core` refuses and we accept: DISCONNECT with 0x8C, which the table of 2.4 gives to DISCONNECT.
fn core_is_stricter(packet: &Packet<'_>) -> bool {
    matches!(packet, Packet::Disconnect(disconnect) if disconnect.reason == Reason::BadAuthenticationMethod)
}

/// Packets per version and side; the same in every run.
const PACKETS: u64 = 20_000;

fn each(mut visit: impl FnMut(Version, Side, &mut Dice)) {
    for seed in 0..PACKETS {
        for (at, (version, from)) in SIDES.into_iter().enumerate() {
            visit(version, from, &mut Dice(seed << 2 | at as u64));
        }
    }
}

fn valid_packets_agree(oracle: Oracle, stricter: fn(&Packet<'_>) -> bool) {
    each(|version, from, dice| {
        let bytes = packet(version, from, dice);
        let limits = Limits::SPECIFICATION;
        let ours = decode_within(&limits, version, from, &bytes).unwrap().unwrap();
        // They decode what we encode, and we decode what they encode.
        let Some(again) = oracle(version, &bytes) else {
            assert!(stricter(&ours), "refused by the other: {bytes:02x?}");
            return;
        };
        let theirs = decode_within(&limits, version, from, &again).unwrap().unwrap();
        assert_eq!(said(&theirs), said(&ours), "{bytes:02x?}");
    });
}

fn changed_packets_agree(oracle: Oracle, stricter: fn(&Packet<'_>) -> bool, milder: &[(&str, &str)]) {
    let mut met = BTreeMap::new();
    each(|version, from, dice| {
        let whole = packet(version, from, dice);
        let bytes = mutated(&whole, dice);
        let limits = Limits::SPECIFICATION;
        match (decode_within(&limits, version, from, &bytes), oracle(version, &bytes)) {
            (Err(fault), Some(_)) => {
                let text = format!("{fault:?}");
                let name = text.split(['(', ' ']).next().unwrap_or_default().to_owned();
                assert!(milder.iter().any(|(listed, _)| *listed == name), "{fault:?}: {bytes:02x?}");
                *met.entry(name).or_insert(0) += 1;
            }
            (Ok(packet), None) => assert!(packet.is_some_and(|packet| stricter(&packet)), "{bytes:02x?}"),
            (Ok(packet), Some(again)) => {
                // Both accept: then both read the same, unless what they encode is itself refused.
                if let Ok(Some(theirs)) = decode_within(&limits, version, from, &again) {
                    assert_eq!(said(&theirs), said(&packet.unwrap()), "{bytes:02x?}");
                }
            }
            (Err(_), None) => {}
        }
    });
    let listed: Vec<&str> = milder.iter().map(|(name, _)| *name).collect();
    assert_eq!(met.keys().map(String::as_str).collect::<Vec<_>>(), listed, "differences met, and listed");
}

#[test]
fn valid_packets_agree_with_mqtt_protocol_core() {
    valid_packets_agree(core, core_is_stricter);
}

#[test]
fn valid_packets_agree_with_rmqtt_codec() {
    valid_packets_agree(rmqtt, |_| false);
}

#[test]
fn changed_packets_differ_from_mqtt_protocol_core_only_where_listed() {
    changed_packets_agree(core, core_is_stricter, CORE_IS_MILDER);
}

#[test]
fn changed_packets_differ_from_rmqtt_codec_only_where_listed() {
    changed_packets_agree(rmqtt, |_| false, RMQTT_IS_MILDER);
}
