//! The vectors of `tests/vectors/`, read by both ends and shown in `docs/protocol.md`.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use longwire_proto::close::CloseReason;
use longwire_proto::id::{ClientId, Kind, MessageId, Position, Source, TraceId};
use longwire_proto::limit::FRAME_BODY_BYTES_MAX;
use longwire_proto::wire::mqtt::RetainHandling;
use longwire_proto::wire::{
    Ack, AckKind, Assembler, BackOff, Class, Connect, DeviceFrame, Gap, GapReason, Network, Publish, Push,
    PushHead, Refusal, ResultCode, SelfService, ServerFrame, Subscribe, UpAck, Upstream, Welcome, WireError,
    encode_acks, encode_push_shared, push_flags, push_frame,
};

const FILES: [&str; 7] =
    ["heartbeat.txt", "session.txt", "down.txt", "acks.txt", "up.txt", "self_service.txt", "refused.txt"];
const MESSAGE: MessageId = MessageId(0x0198_F3A1_B2C3_7D4E_8F90_A1B2_C3D4_E5F6);
const DEVICE: ClientId = ClientId(42);

struct Vector {
    name: String,
    hex: String,
    bytes: Vec<u8>,
    says: String,
}

fn vectors(file: &str) -> Vec<Vector> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(file);
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split(" | ").collect();
            let [name, hex, says] = fields[..] else { panic!("three fields in {line}") };
            let digits: String = hex.split(' ').collect();
            let pairs = (0..digits.len()).step_by(2);
            let bytes = pairs.map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect();
            Vector { name: name.into(), hex: hex.into(), bytes, says: says.into() }
        })
        .collect()
}

fn good_vectors() -> Vec<Vector> {
    FILES.iter().filter(|file| **file != "refused.txt").flat_map(|file| vectors(file)).collect()
}

/// Feeds `pieces` one after the other; passes every frame to `meet`.
fn assemble<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    mut meet: impl FnMut(&longwire_proto::wire::RawFrame<'_>) -> Result<(), WireError>,
) -> Result<usize, WireError> {
    let mut assembler = Assembler::default();
    let mut frames = 0;
    for mut piece in pieces {
        while let Some(frame) = assembler.next(&mut piece, FRAME_BODY_BYTES_MAX)? {
            meet(&frame)?;
            frames += 1;
        }
        assembler.release();
    }
    Ok(frames)
}

fn decode(name: &str, bytes: &[u8]) -> Result<usize, WireError> {
    assemble([bytes], |frame| match name.split_once('.').unwrap().0 {
        "device" => DeviceFrame::decode(&frame.header, frame.body).map(drop),
        _ => ServerFrame::decode(&frame.header, frame.body).map(drop),
    })
}

fn connect(version: u8) -> DeviceFrame<'static> {
    DeviceFrame::Connect(Connect {
        version,
        network: Network::Wifi,
        class: Class::Phone,
        heartbeat_s: 60,
        resume_mailbox: Position::new(1, 7),
        resume_log: Position::START,
        app_key: "app-1",
        token: b"tok",
    })
}

/// A CONNECT of a version that is not spoken here: nothing behind the version is read.
fn connect_of_another_version() -> DeviceFrame<'static> {
    DeviceFrame::Connect(Connect {
        version: 9,
        network: Network::Unknown,
        class: Class::Iot,
        heartbeat_s: 0,
        resume_mailbox: Position::START,
        resume_log: Position::START,
        app_key: "",
        token: b"",
    })
}

/// What a device's vector must decode to; `None` for an ACK, whose ids are compared apart.
fn device_frame(name: &str) -> Option<DeviceFrame<'static>> {
    let self_service = |request, what| DeviceFrame::SelfService { request, what };
    Some(match name {
        "device.ping" | "device.ping_padded" => DeviceFrame::Ping,
        "device.interval" => DeviceFrame::Interval(300),
        "device.connect" | "device.connect_tail" => connect(1),
        "device.connect_version_9" => connect_of_another_version(),
        "device.close" => DeviceFrame::Close(CloseReason::PeerClosed),
        "device.upstream" => DeviceFrame::Upstream(Upstream {
            client_message: 9,
            mode: 1,
            kind: "text",
            to: "",
            payload: b"hello",
        }),
        "device.publish" => DeviceFrame::Publish(publish()),
        "device.publish_once" => DeviceFrame::Publish(Publish {
            client_message: 0,
            at_least_once: false,
            retain: false,
            ttl_s: 0,
            ..publish()
        }),
        "device.bind" => self_service(1, SelfService::Bind("alice")),
        "device.unbind" => self_service(2, SelfService::Unbind("alice")),
        "device.tag_add" => self_service(3, SelfService::TagAdd("news")),
        "device.tag_remove" => self_service(4, SelfService::TagRemove("news")),
        "device.attribute_set" => self_service(7, SelfService::AttributeSet { name: "v", value: "3.2" }),
        "device.attribute_remove" => self_service(8, SelfService::AttributeRemove("v")),
        "device.subscribe" => {
            let options =
                Subscribe { filter: "a/+/b", kept: true, no_local: true, retained: RetainHandling::Send };
            self_service(5, SelfService::Subscribe(options))
        }
        "device.subscribe_group" => {
            let retained = RetainHandling::DoNotSend;
            let options = Subscribe { filter: "$share/g/a", kept: false, no_local: false, retained };
            self_service(7, SelfService::Subscribe(options))
        }
        "device.unsubscribe" => self_service(6, SelfService::Unsubscribe("a/+/b")),
        _ => return None,
    })
}

fn publish() -> Publish<'static> {
    Publish {
        client_message: 10,
        at_least_once: true,
        retain: true,
        ttl_s: 3600,
        topic: "a/b",
        payload: b"21.5",
    }
}

fn push() -> Push<'static> {
    Push {
        source: Some(Source::Mailbox),
        position: Position::new(1, 7),
        previous: Position::new(1, 5),
        ttl_s: 3600,
        flags: push_flags::MAY_REPEAT,
        message: MESSAGE,
        kind: Kind::Text,
        trace: TraceId(0x4BF9_2F35_77B3_4DA6_A3CE_929D_0E0E_4736),
        replaces: None,
        collapse_key: "weather",
        payload: b"rain",
    }
}

fn online_push() -> Push<'static> {
    Push {
        source: None,
        position: Position::START,
        previous: Position::START,
        ttl_s: 0,
        flags: 0,
        kind: Kind::Custom,
        trace: TraceId(0),
        replaces: None,
        collapse_key: "",
        payload: &[0x00, 0xFF],
        ..push()
    }
}

fn gap() -> Gap {
    Gap {
        source: Source::AppLog,
        position: Position::new(1, 7),
        previous: Position::new(1, 5),
        reason: GapReason::Expired,
        message: MESSAGE,
        count: 1,
    }
}

const RECALLED: [u8; 16] = MESSAGE.0.to_be_bytes();

fn server_frame(name: &str) -> ServerFrame<'static> {
    let refusal = |reason, retry_after_s| Refusal { reason, retry_after_s };
    match name {
        "server.pong" => ServerFrame::Pong,
        "server.welcome" | "server.welcome_tail" => ServerFrame::Welcome(Welcome {
            node: "node-a".into(),
            heartbeat_s: 60,
            phase: 0x8000,
            padding_max: 48,
            heartbeat_min_s: 30,
            heartbeat_max_s: 1200,
            window: 32,
            server_time_ms: 1_700_000_000_000,
            back_off: BackOff { steps_s: vec![1, 2], jitter_ms: 1000 },
        }),
        "server.refusal" => ServerFrame::Refusal(refusal(CloseReason::Full, 30)),
        "server.redirect" => ServerFrame::Redirect("b.example:9000"),
        "server.goaway" => ServerFrame::GoAway { after_ms: 1500, to: "" },
        "server.close" => ServerFrame::Close(refusal(CloseReason::TakenOver, 0)),
        "server.push" => ServerFrame::Push(push()),
        "server.push_online" => ServerFrame::Push(online_push()),
        "server.push_topic" => ServerFrame::Push(Push {
            message: MessageId(0),
            kind: Kind::Topic,
            flags: push_flags::RETAINED,
            payload: b"\x00\x03a/b\x01\x00\x0021.5",
            ..online_push()
        }),
        "server.push_replaces" => {
            ServerFrame::Push(Push { replaces: Some(MessageId(MESSAGE.0 + 1)), ..push() })
        }
        "server.push_recall" => ServerFrame::Push(Push {
            ttl_s: 2_592_000,
            flags: 0,
            kind: Kind::Recall,
            message: MessageId(MESSAGE.0 + 1),
            trace: TraceId(0),
            collapse_key: "",
            payload: &RECALLED,
            ..push()
        }),
        "server.gap" => ServerFrame::Gap(gap()),
        "server.gap_many" => ServerFrame::Gap(Gap {
            previous: Position::START,
            reason: GapReason::Retention,
            message: MessageId(0),
            count: 0,
            ..gap()
        }),
        "server.upack" => ServerFrame::UpAck(UpAck { client_message: 9, outcome: ResultCode::Done }),
        "server.result" => ServerFrame::Result { request: 5, code: ResultCode::Unsupported },
        _ => panic!("no frame is written down for {name}"),
    }
}

/// What the vector's frame says, encoded; `None` where decoding drops something (padding, extensions).
fn encoded(name: &str, client: ClientId) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match name {
        "device.ping_padded" | "device.connect_tail" | "device.connect_version_9" | "server.welcome_tail" => {
            return None;
        }
        "device.ack" => {
            encode_acks(AckKind::Received, &[MESSAGE, MessageId(MESSAGE.0 + 1)], client, &mut out);
        }
        "device.ack_clicked" => encode_acks(AckKind::Clicked, &[MESSAGE], client, &mut out),
        _ if name.starts_with("device.") => device_frame(name).unwrap().encode(client, &mut out),
        _ => server_frame(name).encode(client, &mut out),
    }
    Some(out)
}

fn assert_ack(name: &str, ack: &Ack<'_>) {
    let ids: Vec<MessageId> = ack.ids().collect();
    match name {
        "device.ack" => {
            assert_eq!((ack.kind, ids), (AckKind::Received, vec![MESSAGE, MessageId(MESSAGE.0 + 1)]));
        }
        "device.ack_clicked" => assert_eq!((ack.kind, ids), (AckKind::Clicked, vec![MESSAGE])),
        _ => panic!("{name} is not an ack"),
    }
}

/// Decodes the pieces of one vector and compares with what is written down above.
fn assert_decodes<'a>(name: &str, pieces: impl IntoIterator<Item = &'a [u8]>) {
    let frames = assemble(pieces, |frame| {
        if name.starts_with("server.") {
            assert_eq!(ServerFrame::decode(&frame.header, frame.body)?, server_frame(name), "{name}");
            return Ok(());
        }
        match (DeviceFrame::decode(&frame.header, frame.body)?, device_frame(name)) {
            (DeviceFrame::Ack(ack), None) => assert_ack(name, &ack),
            (frame, expected) => assert_eq!(Some(frame), expected, "{name}"),
        }
        Ok(())
    });
    assert_eq!(frames, Ok(1), "{name}");
}

#[test]
fn every_vector_decodes_to_its_frame_and_back() {
    for vector in good_vectors() {
        assert_decodes(&vector.name, [&vector.bytes[..]]);
        let client = if vector.bytes[15] == 0 { ClientId(0) } else { DEVICE };
        if let Some(bytes) = encoded(&vector.name, client) {
            assert_eq!(bytes, vector.bytes, "{}", vector.name);
        }
    }
}

#[test]
fn every_vector_decodes_the_same_at_every_cut_and_byte_by_byte() {
    for vector in good_vectors() {
        for cut in 0..=vector.bytes.len() {
            let (front, rest) = vector.bytes.split_at(cut);
            assert_decodes(&vector.name, [front, rest]);
        }
        assert_decodes(&vector.name, vector.bytes.chunks(1));
    }
}

#[test]
fn every_refused_vector_names_its_reason() {
    for vector in vectors("refused.txt") {
        let refused = decode(&vector.name, &vector.bytes).unwrap_err();
        assert_eq!(refused.reason().label(), vector.says, "{}", vector.name);
    }
}

#[test]
fn a_push_in_two_parts_is_the_push_in_one() {
    let whole = vectors("down.txt").into_iter().find(|vector| vector.name == "server.push_online").unwrap();
    let Push { source, position, previous, ttl_s, flags, .. } = online_push();
    let head = PushHead { source, position, previous, ttl_s, flags };
    let mut shared = Vec::new();
    encode_push_shared(MESSAGE, Kind::Custom, TraceId(0), "", &[0x00, 0xFF], &mut shared);
    assert_eq!(push_frame(&head, &shared), whole.bytes);
}

#[test]
fn the_page_shows_every_vector_and_every_close_reason() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md");
    let page = fs::read_to_string(page).unwrap();
    for vector in FILES.iter().flat_map(|file| vectors(file)) {
        assert!(page.contains(&vector.name), "docs/protocol.md lacks {}", vector.name);
        assert!(page.contains(&vector.hex), "docs/protocol.md has other bytes for {}", vector.name);
    }
    for reason in CloseReason::ALL {
        let again = if reason.may_retry() { "yes" } else { "no" };
        let row = format!("| `0x{:02X}` | `{}` | {again} |", reason.code(), reason.label());
        assert!(page.contains(&row), "docs/protocol.md lacks {row}");
    }
}

#[test]
fn acks_are_cut_into_frames_of_64_and_65_in_one_do_not_decode() {
    let messages: Vec<MessageId> = (1..=65).map(MessageId).collect();
    let mut bytes = Vec::new();
    encode_acks(AckKind::Received, &messages, DEVICE, &mut bytes);
    assert_eq!(decode("device.acks", &bytes), Ok(2));

    bytes.clear();
    encode_acks(AckKind::Received, &messages[..64], DEVICE, &mut bytes);
    bytes.extend_from_slice(&[0; 16]);
    bytes[5..8].copy_from_slice(&(2 + 65 * 16_u32).to_be_bytes()[1..]);
    bytes[17] = 65;
    assert_eq!(decode("device.acks", &bytes), Err(WireError::BadBody(0x30)));
}

#[test]
fn a_text_beyond_its_limit_is_cut_at_a_character_so_that_the_frame_stays_whole() {
    let mut bytes = Vec::new();
    let alias = "é".repeat(40);
    DeviceFrame::SelfService { request: 1, what: SelfService::Bind(&alias) }.encode(DEVICE, &mut bytes);
    let frames = assemble([&bytes[..]], |frame| {
        let decoded = DeviceFrame::decode(&frame.header, frame.body)?;
        let what = SelfService::Bind(&alias[..64]);
        assert_eq!(decoded, DeviceFrame::SelfService { request: 1, what });
        Ok(())
    });
    assert_eq!(frames, Ok(1));
}
