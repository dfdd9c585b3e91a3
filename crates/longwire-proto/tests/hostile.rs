//! Whatever a peer sends: no panic, a named reason, and memory by what arrived.

#![allow(clippy::unwrap_used)]

use longwire_proto::close::CloseReason;
use longwire_proto::id::ClientId;
use longwire_proto::limit::BEFORE_LOGIN_BYTES_MAX;
use longwire_proto::session::{
    AwaitingConnect, ClientSession, Credentials, Deciding, Established, FeedStart, Memory, Millis,
};
use longwire_proto::wire::{Class, Command, Header, MAGIC, Network};
use proptest::prelude::*;

const DEVICE: ClientId = ClientId(42);

fn credentials() -> Credentials {
    Credentials {
        app_key: "app-1".into(),
        token: "token".into(),
        client: DEVICE,
        network: Network::Unknown,
        class: Class::Iot,
        heartbeat_s: 60,
    }
}

fn established() -> Established {
    let deciding: Deciding = AwaitingConnect::default().decide(60);
    deciding.accept(DEVICE, FeedStart::default(), FeedStart::default())
}

/// Feeds a server's session in pieces; the reason it ended for, if it did.
fn serve(bytes: &[u8], piece: usize) -> Option<CloseReason> {
    let mut session = established();
    let mut out = Vec::new();
    for mut input in bytes.chunks(piece.max(1)) {
        loop {
            match session.receive(&mut input, 65_536, &mut out) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(reason) => return Some(reason),
            }
        }
        session.release();
        assert!(session.held_bytes() <= bytes.len());
    }
    None
}

/// The same before login.
fn greet(bytes: &[u8], piece: usize) -> Option<CloseReason> {
    let mut session = AwaitingConnect::default();
    for mut input in bytes.chunks(piece.max(1)) {
        while !input.is_empty() {
            match session.receive(&mut input) {
                Ok(Some(_)) => return None,
                Ok(None) => {}
                Err(reason) => return Some(reason),
            }
        }
    }
    None
}

/// The same for a device.
fn listen(bytes: &[u8], piece: usize) -> Option<CloseReason> {
    let mut out = Vec::new();
    let mut session = ClientSession::begin(&credentials(), Memory::default(), Millis(0), &mut out);
    for mut input in bytes.chunks(piece.max(1)) {
        loop {
            match session.receive(&mut input, Millis(1), &mut out) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(reason) => return Some(reason),
            }
        }
    }
    None
}

fn frame(command: u8, body: &[u8]) -> Vec<u8> {
    let header = Header { command: Command::Ping, body_bytes: body.len(), client: DEVICE };
    let mut bytes = [&header.encode()[..], body].concat();
    bytes[4] = command;
    bytes
}

fn any_frames() -> impl Strategy<Value = Vec<u8>> {
    let commands = prop_oneof![
        prop::sample::select(vec![
            0x01_u8, 0x02, 0x03, 0x10, 0x11, 0x12, 0x13, 0x14, 0x20, 0x22, 0x30, 0x40, 0x41, 0x42, 0x50,
            0x51, 0x52, 0x53, 0x54, 0x55, 0x5F,
        ]),
        any::<u8>(),
    ];
    let body = prop::collection::vec(prop_oneof![0_u8..4, any::<u8>()], 0..200);
    let frame = (commands, body).prop_map(|(command, body)| frame(command, &body));
    prop::collection::vec(frame, 1..4).prop_map(|frames| frames.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_end_in_a_named_reason(bytes in prop::collection::vec(any::<u8>(), 4..300), piece in 1_usize..64) {
        prop_assume!(bytes[..4] != MAGIC);
        prop_assert_eq!(serve(&bytes, piece), Some(CloseReason::BadMagic));
        prop_assert_eq!(greet(&bytes, piece), Some(CloseReason::BadMagic));
        prop_assert_eq!(listen(&bytes, piece), Some(CloseReason::BadMagic));
    }

    #[test]
    fn random_frames_end_the_same_way_at_every_cut(bytes in any_frames(), piece in 1_usize..64) {
        prop_assert_eq!(serve(&bytes, piece), serve(&bytes, bytes.len()));
        prop_assert_eq!(greet(&bytes, piece), greet(&bytes, bytes.len()));
        prop_assert_eq!(listen(&bytes, piece), listen(&bytes, bytes.len()));
    }

    #[test]
    fn mutated_and_truncated_vectors_never_panic(
        pick in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        keep in any::<prop::sample::Index>(),
    ) {
        let all = vectors();
        let mut bytes = all[pick.index(all.len())].clone();
        for (at, byte) in flips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(keep.index(bytes.len()) + 1);
        let _ = (serve(&bytes, 7), greet(&bytes, 7), listen(&bytes, 7));
    }
}

fn vectors() -> Vec<Vec<u8>> {
    let texts = [
        include_str!("vectors/heartbeat.txt"),
        include_str!("vectors/session.txt"),
        include_str!("vectors/down.txt"),
        include_str!("vectors/acks.txt"),
        include_str!("vectors/up.txt"),
        include_str!("vectors/self_service.txt"),
    ];
    let lines = texts.iter().flat_map(|text| text.lines()).filter(|line| !line.starts_with('#'));
    let hex = lines.map(|line| line.split(" | ").nth(1).unwrap().replace(' ', ""));
    hex.map(|hex| {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    })
    .collect()
}

#[test]
fn more_than_the_allowance_before_login_is_refused() {
    let mut bytes = frame(0x10, &[0; 16_000]);
    bytes[5..8].copy_from_slice(&(BEFORE_LOGIN_BYTES_MAX as u32).to_be_bytes()[1..]);
    bytes.resize(BEFORE_LOGIN_BYTES_MAX + 16, 0);
    assert_eq!(greet(&bytes, 1000), Some(CloseReason::TooMuchBeforeLogin));
    bytes[5..8].copy_from_slice(&(BEFORE_LOGIN_BYTES_MAX as u32 + 1).to_be_bytes()[1..]);
    assert_eq!(greet(&bytes[..16], 16), Some(CloseReason::FrameTooLong));
}

#[test]
fn another_frame_before_login_and_a_foreign_client_id_after_it_are_refused() {
    assert_eq!(greet(&frame(0x01, &[]), 16), Some(CloseReason::OutOfOrder));
    let mut foreign = frame(0x01, &[]);
    foreign[15] = 43;
    assert_eq!(serve(&foreign, 16), Some(CloseReason::WrongClientId));
    assert_eq!(listen(&frame(0x20, &[0; 80]), 16), Some(CloseReason::BadBody));
    assert_eq!(listen(&frame(0x02, &[]), 16), Some(CloseReason::OutOfOrder));
}

#[test]
fn a_heartbeat_with_any_padding_is_answered_by_16_bytes() {
    let article = [0xCA, 0xFE, 0xBA, 0xBE, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 42];
    let pong = [0xCA, 0xFE, 0xBA, 0xBE, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 42];
    for padding in [0, 48, 77, 112] {
        let mut session = established();
        let mut out = Vec::new();
        let mut bytes = [&article[..], &vec![0xCA; padding][..]].concat();
        bytes[7] = padding as u8;
        let mut input = &bytes[..];
        session.receive(&mut input, 65_536, &mut out).unwrap().unwrap();
        assert_eq!(out, pong);
        assert!(input.is_empty());
    }
}
