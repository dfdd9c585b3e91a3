//! How the server's end of an MQTT conversation says no.

#![allow(clippy::unwrap_used)]

use longwire_proto::close::CloseReason;
use longwire_proto::id::{ClientId, MessageId, Position, Source};
use longwire_proto::session::FeedStart;
use longwire_proto::session::mqtt::{
    ALIASES_MAX, Awaiting, FromClient, Granted, RECEIVE_MAX, Session, Terms, UNDECIDED_MAX, reason_of,
};
use longwire_proto::wire::mqtt::{
    Aliasing, Decoder, Limits, Packet, Properties, Publish, QoS, Reason, Side, Version,
};

/// CONNECT with a will on `topic` and this client id.
fn connect(level: u8, flags: u8, client_id: &str, will: Option<&str>) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat();
    let properties = if level == 5 { &[0u8][..] } else { &[] };
    let mut body = [b"\0\x04MQTT".as_slice(), &[level, flags, 0, 60], properties, &text(client_id)].concat();
    if let Some(topic) = will {
        body.extend([properties, &text(topic), &text("gone")].concat());
    }
    [vec![0x10, body.len() as u8], body].concat()
}

/// What a CONNECT that is not taken is answered with, if it comes in pieces of this length.
fn refusal(bytes: &[u8], piece: usize) -> Vec<u8> {
    let (mut awaiting, mut out) = (Awaiting::default(), Vec::new());
    for mut input in bytes.chunks(piece) {
        match awaiting.receive(&mut input, &Limits::default()).map(|connect| connect.is_some()) {
            Ok(taken) => assert!(!taken, "{bytes:02x?} was taken"),
            Err(ending) => {
                awaiting.refuse(ending.reason, &mut out);
                return out;
            }
        }
    }
    panic!("{bytes:02x?} was not refused");
}

#[test]
fn a_connect_is_refused_in_the_version_it_asks_for() {
    for (bytes, answer) in [
        // An empty client id without clean session (3.1.1 MQTT-3.1.3-8); a will on a wildcard, for which 3.1.1 has no code.
        (connect(4, 0, "", None), &[0x20, 2, 0, 2][..]),
        (connect(4, 6, "a", Some("#")), &[]),
        (connect(5, 6, "a", Some("#")), &[0x20, 3, 0, 0x90, 0]),
        // The reserved flag (MQTT-3.1.2-3).
        (connect(4, 3, "a", None), &[]),
        (connect(5, 3, "a", None), &[0x20, 3, 0, 0x81, 0]),
        // A level that is not spoken (MQTT-3.1.2-2).
        (connect(3, 2, "a", None), &[0x20, 2, 0, 1]),
        (connect(6, 2, "a", None), &[0x20, 2, 0, 1]),
        // Not clear even in its version.
        (vec![0x10, 1, 0], &[]),
        (vec![0x30, 2, 0, 0], &[]),
    ] {
        for piece in [1, 3, bytes.len()] {
            assert_eq!(refusal(&bytes, piece), answer, "{bytes:02x?} in pieces of {piece}");
        }
    }
}

/// A DISCONNECT and a CONNACK hold only reasons of their own tables (MQTT-3.2.2-8, MQTT-3.14.2-1), which the decoder checks.
#[test]
fn whatever_ends_a_conversation_is_said_with_a_reason_that_its_packet_may_hold() {
    let limits = Limits::SPECIFICATION;
    let granted = Granted {
        session_present: false,
        assigned: None,
        expiry_s: None,
        keep_alive_s: None,
        packet_bytes_max: 65_536,
        response: None,
    };
    for version in [Version::V311, Version::V5] {
        let level = if version == Version::V5 { 5 } else { 4 };
        let bytes = connect(level, 2, "a", None);
        for close in CloseReason::ALL {
            let mut awaiting = Awaiting::default();
            let mut input = bytes.as_slice();
            let terms = Terms::of(&awaiting.receive(&mut input, &limits).unwrap().unwrap());
            let (mut refused, mut ended) = (Vec::new(), Vec::new());
            let deciding = awaiting.decide(terms, &[]);
            deciding.refuse(reason_of(close), &mut refused);
            let start = FeedStart { last: Position::START, waiting: false };
            let (session, _) = deciding.accept(ClientId(1), start, start, &granted, &mut Vec::new());
            session.close(close, &mut ended);
            let decoder = Decoder::new(version, Side::Server, &limits);
            for said in [refused, ended] {
                let mut said = said.as_slice();
                match decoder.next(&mut said) {
                    Ok(Some(Packet::ConnAck(_) | Packet::Disconnect(_))) => assert!(said.is_empty()),
                    Ok(None) => assert_eq!(version, Version::V311),
                    other => panic!("{version:?} {close:?}: {other:?}"),
                }
            }
        }
    }
}

/// A session of 5.0 with what the CONNECT's properties say, and its mailbox behind position `last`.
fn session(properties: &[u8], last: u64) -> Session {
    of_level(5, properties, last)
}

fn of_level(level: u8, properties: &[u8], last: u64) -> Session {
    let mut bytes = vec![0x10, 0];
    bytes.extend([b"\0\x04MQTT".as_slice(), &[level, 2, 0, 60]].concat());
    if level == 5 {
        bytes.push(properties.len() as u8);
    }
    bytes.extend([properties, b"\0\x01a"].concat());
    bytes[1] = bytes.len() as u8 - 2;
    let mut awaiting = Awaiting::default();
    let terms = Terms::of(&awaiting.receive(&mut bytes.as_slice(), &Limits::default()).unwrap().unwrap());
    let granted = Granted {
        session_present: true,
        assigned: None,
        expiry_s: None,
        keep_alive_s: None,
        packet_bytes_max: 65_536,
        response: None,
    };
    let mailbox = FeedStart { last: Position::new(1, last), waiting: true };
    let log = FeedStart { last: Position::new(1, 0), waiting: false };
    awaiting.decide(terms, &[]).accept(ClientId(1), mailbox, log, &granted, &mut Vec::new()).0
}

/// DUP says that a message may have been sent before, and only then (MQTT-3.3.1-1, MQTT-3.3.1-2).
#[test]
fn only_what_an_earlier_connection_may_have_sent_repeats() {
    let place = |sequence| Position::new(1, sequence);
    let mut known = session(&[], 4);
    known.restore_sent([place(6), Position::START]);
    for (sequence, repeats) in [(5, true), (6, true), (7, false)] {
        assert_eq!(known.may_repeat(Source::Mailbox, place(sequence)), repeats, "{sequence}");
        assert!(!known.may_repeat(Source::AppLog, place(sequence)));
    }
    // An idle session forgets what it does not need, and nothing else.
    for sequence in 5..=7 {
        let (mut out, message) = (Vec::new(), MessageId(u128::from(sequence)));
        known.deliveries().page_entry(Source::Mailbox, place(sequence), message, 1, None);
        known.receive(Packet::PingReq, &mut out).unwrap();
        assert_eq!(known.may_repeat(Source::Mailbox, place(6)), sequence < 6, "{sequence}");
    }
    let mut settled = session(&[], 6);
    settled.restore_sent([place(6), Position::START]);
    assert!(!settled.may_repeat(Source::Mailbox, place(7)));
}

/// A PUBLISH of `qos` under an identifier.
fn publish(packet_id: u16, qos: QoS) -> Packet<'static> {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic: "a",
        packet_id,
        properties: Properties::default(),
        payload: b"",
    })
}

/// A client of 5.0 was told how many may be unfinished (MQTT-3.3.4-9); one of 3.1.1 was not.
#[test]
fn more_unfinished_messages_than_were_granted_end_the_connection() {
    let most = |level: u8, qos: QoS, bound: u16| {
        let mut session = of_level(level, &[], 0);
        for packet_id in 1..=bound {
            let taken = session.receive(publish(packet_id, qos), &mut Vec::new());
            assert!(matches!(taken, Ok(FromClient::Publish(_))), "{level} {qos:?} {packet_id}");
            assert_eq!(session.is_full(), level == 4 && packet_id >= RECEIVE_MAX, "{packet_id}");
        }
        let mut out = Vec::new();
        assert_eq!(session.receive(publish(1, qos), &mut out), Ok(FromClient::Answered), "a repetition");
        let ending = session.receive(publish(bound + 1, qos), &mut out).unwrap_err();
        assert_eq!(ending.reason, Reason::ReceiveMaximumExceeded);
        session.published(1, Reason::Success, &mut out);
        assert_eq!(session.is_full(), bound > RECEIVE_MAX);
        // QoS 1 is finished with PUBACK, QoS 2 with PUBCOMP.
        let again = session.receive(publish(bound + 1, qos), &mut out).is_ok();
        assert_eq!(again, qos == QoS::AtLeastOnce);
    };
    most(5, QoS::AtLeastOnce, RECEIVE_MAX);
    most(5, QoS::ExactlyOnce, RECEIVE_MAX);
    most(4, QoS::AtLeastOnce, UNDECIDED_MAX as u16);
    most(4, QoS::ExactlyOnce, RECEIVE_MAX);
}

/// Aliases are given as many as the client takes and the server gives (MQTT-3.1.2-26), and none unasked (MQTT-3.1.2-27).
#[test]
fn the_first_topics_get_the_aliases_that_the_client_takes() {
    let asks = |most: u16| session(&[&[0x22][..], &most.to_be_bytes()].concat(), 0);
    for most in [1, 2, 16, 17, u16::MAX] {
        let mut known = asks(most);
        let given = most.min(ALIASES_MAX);
        for alias in 1..=given {
            let topic = format!("topic/{alias}");
            // Until it is on its way, nothing was told.
            assert_eq!(known.aliasing(&topic), Aliasing::Introduce(alias));
            assert_eq!(known.aliasing(&topic), Aliasing::Introduce(alias));
            known.introduced(&topic);
            assert_eq!(known.aliasing(&topic), Aliasing::Use(alias));
        }
        assert_eq!(known.aliasing("one/more"), Aliasing::Spelled);
        known.receive(Packet::PingReq, &mut Vec::new()).unwrap();
        assert_eq!(known.aliasing("topic/1"), Aliasing::Use(1), "also when idle");
        assert_eq!(known.aliasing("a/b"), Aliasing::Spelled, "it gains nothing");
    }
    for none in [session(&[], 0), asks(0), of_level(4, &[], 0)] {
        assert_eq!(none.aliasing("topic/1"), Aliasing::Spelled);
    }
}

/// MQTT-3.1.2-24 holds for CONNACK as well: who cannot take it is refused before anybody asks who it is.
#[test]
fn a_client_that_takes_no_connack_is_refused_with_what_it_takes() {
    let hello = |bytes_max: u32, client_id: &[u8]| {
        let mut bytes = vec![0x10, 0];
        bytes.extend([b"\0\x04MQTT\x05\x02\0\x3c\x0a\x27".as_slice(), &bytes_max.to_be_bytes()].concat());
        bytes.extend(b"\x11\0\0\0\x09"); // a session expiry, so that another one may be granted
        bytes.extend([&[0, client_id.len() as u8], client_id].concat());
        bytes[1] = bytes.len() as u8 - 2;
        bytes
    };
    for (bytes_max, client_id, answer) in [
        (23, &b"a"[..], &[0x20, 3, 0, 0x95, 0][..]),
        (5, b"a", &[0x20, 3, 0, 0x95, 0]),
        (4, b"a", &[]),
        (156, b"", &[0x20, 3, 0, 0x95, 0]),
    ] {
        assert_eq!(refusal(&hello(bytes_max, client_id), 64), answer, "{bytes_max}");
    }
    // The bounds are those of the largest CONNACK.
    for (bytes_max, client_id, assigned) in [(24, &b"a"[..], None), (157, b"", Some("0".repeat(128)))] {
        let (bytes, limits) = (hello(bytes_max, client_id), Limits::default());
        let mut awaiting = Awaiting::default();
        let terms = Terms::of(&awaiting.receive(&mut bytes.as_slice(), &limits).unwrap().unwrap());
        let granted = Granted {
            session_present: false,
            assigned: assigned.as_deref(),
            expiry_s: Some(1),
            keep_alive_s: Some(1),
            packet_bytes_max: 65_536,
            response: None,
        };
        let (start, mut out) = (FeedStart { last: Position::START, waiting: false }, Vec::new());
        let _session = awaiting.decide(terms, &[]).accept(ClientId(1), start, start, &granted, &mut out);
        assert_eq!(out.len() as u32, bytes_max);
    }
}
