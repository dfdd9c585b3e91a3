//! TLS with peers that break it: garbage, damage, truncation, handshakes without end.

use crate::certificates::{Folder, Pair, unasked};
use longwire_proto::close::CloseReason;
use longwire_server::gate::transport::{HANDSHAKE_BYTES_MAX, TlsConnection, TlsError, TlsProgress};
use proptest::prelude::*;
use rustls::Error;
use rustls::version::{TLS12, TLS13};
use std::io::Write;

fn feed(server: &mut TlsConnection, mut bytes: Vec<u8>) -> (Result<TlsProgress, TlsError>, Vec<u8>, Vec<u8>) {
    let (mut plaintext, mut outgoing) = (Vec::new(), Vec::new());
    let result = server.receive(&mut bytes, &mut plaintext, &mut outgoing);
    (result, plaintext, outgoing)
}

#[test]
fn garbage_is_refused_at_its_first_record() {
    let folder = Folder::new();
    let terms = folder.terms(unasked);
    // rustls says nothing to a handshake message that announces too much.
    let rows: [(&[u8], bool); 5] = [
        (b"GET / HTTP/1.1\r\n\r\n", true),
        (b"\x16\x03\x01\x00\x05hello", false),
        (b"\x17\x03\x03\x00\x01x", true),
        (b"\x16\x03\x01\xff\xff", true),
        (b"\x16\x03\x01\x00\x00", true),
    ];
    for (bytes, alert) in rows {
        let (result, plaintext, outgoing) = feed(&mut terms.accept().unwrap(), bytes.to_vec());
        let error = result.unwrap_err();
        assert_eq!(error.reason(), CloseReason::BadTls);
        assert!(plaintext.is_empty());
        assert_eq!(outgoing.first() == Some(&0x15), alert, "{error:?}");
    }
}

#[test]
fn a_damaged_record_ends_the_connection_with_an_alert_and_no_plaintext() {
    let folder = Folder::new();
    let terms = folder.terms(unasked);
    for version in [&TLS12, &TLS13] {
        let mut pair = Pair::open(&terms, &folder.client(version, None));
        pair.client.writer().write_all(b"good").unwrap();
        let good = pair.said();
        pair.client.writer().write_all(b"damaged").unwrap();
        let mut damaged = pair.said();
        *damaged.last_mut().unwrap() ^= 1;
        let (result, plaintext, outgoing) = feed(&mut pair.server, [good, damaged].concat());
        assert!(matches!(result, Err(TlsError::Peer(Error::DecryptError))), "{result:?}");
        assert_eq!(plaintext, b"good");
        let told = pair.tell(&outgoing).unwrap_err();
        assert_eq!(told, Error::AlertReceived(rustls::AlertDescription::BadRecordMac));
        // It stays at its end.
        assert!(matches!(feed(&mut pair.server, vec![0; 10]).0, Err(TlsError::NotOpen)));
    }
}

#[test]
fn a_replayed_record_is_refused() {
    let folder = Folder::new();
    for version in [&TLS12, &TLS13] {
        let mut pair = Pair::open(&folder.terms(unasked), &folder.client(version, None));
        pair.client.writer().write_all(b"once").unwrap();
        let record = pair.said();
        assert_eq!(feed(&mut pair.server, record.clone()).1, b"once");
        assert!(feed(&mut pair.server, record).0.is_err());
    }
}

#[test]
fn a_truncation_is_told_from_an_end() {
    let folder = Folder::new();
    for version in [&TLS12, &TLS13] {
        let mut pair = Pair::open(&folder.terms(unasked), &folder.client(version, None));
        pair.client.writer().write_all(&[5; 1000]).unwrap();
        let mut record = pair.said();
        record.truncate(900);
        let (result, plaintext, _) = feed(&mut pair.server, record);
        assert_eq!(result.unwrap(), TlsProgress::Open, "no close_notify came");
        assert!(plaintext.is_empty(), "half a record is not authentic");
        assert_eq!(pair.server.held_bytes(), 900);
        // Sending goes on beside the half record, which stays where it is.
        assert_eq!(pair.down(&[b"hello"]).0, b"hello");
        assert_eq!(pair.server.held_bytes(), 900);
    }
}

#[test]
fn a_handshake_without_end_is_cut_off() {
    let folder = Folder::new();
    let mut server = folder.terms(unasked).accept().unwrap();
    // A ClientHello that announces 60,000 bytes, and brings them.
    let mut body = vec![1, 0, 0xea, 0x60];
    body.resize(60_000, 0);
    let records: Vec<u8> =
        body.chunks(1000).flat_map(|piece| [&[0x16, 3, 1, 3, 0xe8], piece].concat()).collect();
    let mut fed = 0;
    let error = loop {
        let piece = &records[fed..fed + 500];
        fed += piece.len();
        match feed(&mut server, piece.to_vec()).0 {
            Ok(progress) => assert_eq!(progress, TlsProgress::Handshaking),
            Err(error) => break error,
        }
        assert!(server.held_bytes() <= HANDSHAKE_BYTES_MAX);
    };
    assert!(matches!(error, TlsError::TooLong(HANDSHAKE_BYTES_MAX)), "{error:?}");
    assert!(fed <= HANDSHAKE_BYTES_MAX + 500);
    // The same in one read.
    let (result, ..) =
        feed(&mut folder.terms(unasked).accept().unwrap(), records[..HANDSHAKE_BYTES_MAX + 1].to_vec());
    assert!(matches!(result, Err(TlsError::TooLong(HANDSHAKE_BYTES_MAX))));
}

#[test]
fn nothing_is_sent_before_the_handshake_is_complete() {
    let folder = Folder::new();
    let mut server = folder.terms(unasked).accept().unwrap();
    let mut outgoing = Vec::new();
    let error = server.send(&[b"early"], &mut Vec::new(), &mut outgoing).unwrap_err();
    assert!(matches!(error, TlsError::NotOpen));
    assert_eq!(error.reason(), CloseReason::Internal);
    assert!(matches!(server.close(&mut outgoing), Err(TlsError::NotOpen)));
    assert!(outgoing.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn random_bytes_are_survived(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        kind in 0x14u8..0x18,
        cut in 1usize..100,
    ) {
        let folder = Folder::new();
        let mut server = folder.terms(unasked).accept().unwrap();
        let length = (bytes.len() as u16).to_be_bytes();
        let framed = [&[kind, 3, 3, length[0], length[1]], &bytes[..]].concat();
        for piece in framed.chunks(cut) {
            let (result, plaintext, _) = feed(&mut server, piece.to_vec());
            prop_assert!(plaintext.is_empty());
            if result.is_err() {
                break;
            }
        }
    }

    /// Damage anywhere in the client's handshake or its first record never yields other plaintext.
    #[test]
    fn damage_never_becomes_plaintext(
        at in any::<prop::sample::Index>(),
        by in 1u8..=255,
        flight in 0usize..3,
        old in any::<bool>(),
    ) {
        let folder = Folder::new();
        let version = if old { &TLS12 } else { &TLS13 };
        let mut pair = Pair::new(&folder.terms(unasked), &folder.client(version, None));
        pair.client.writer().write_all(b"secret").unwrap();
        let mut read = Vec::new();
        for turn in 0..4 {
            let mut bytes = pair.said();
            if turn == flight && !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= by;
            }
            let (result, plaintext, outgoing) = feed(&mut pair.server, bytes);
            read.extend(plaintext);
            if pair.tell(&outgoing).is_err() || result.is_err() {
                break;
            }
        }
        prop_assert!(read.is_empty() || read == b"secret");
    }
}
