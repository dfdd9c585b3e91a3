//! TLS with peers that keep to it.

use crate::certificates::{Folder, Pair, unasked};
use longwire_server::gate::transport::{Clients, Subject, TlsError, TlsProgress, sealed_bytes_max};
use rustls::pki_types::{CertificateDer, UnixTime, pem::PemObject};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, Error, HandshakeKind};
use std::sync::Arc;

#[test]
fn both_versions_carry_bytes_both_ways_in_any_cut() {
    let folder = Folder::new();
    let terms = folder.terms(unasked);
    let long: Vec<u8> = (0..200_000u32).map(|at| at as u8).collect();
    for version in [&TLS12, &TLS13] {
        for cut in [1, 7, 1000, usize::MAX] {
            let mut pair = Pair::new(&terms, &folder.client(version, None));
            pair.cut = cut;
            assert_eq!(pair.run().unwrap(), TlsProgress::Open);
            assert_eq!(pair.server.version(), Some(version.version));
            assert_eq!(pair.server.held_bytes(), 0);
            assert_eq!(pair.up(b"\xca\xfe\xba\xbe"), b"\xca\xfe\xba\xbe");
            assert_eq!(pair.up(&long[..50_000]), &long[..50_000]);
            assert_eq!(pair.server.held_bytes(), 0);
            let (read, sent) = pair.down(&[&long]);
            assert_eq!(read, long);
            assert!(sent <= sealed_bytes_max(long.len()));
        }
    }
}

#[test]
fn pieces_of_one_call_share_a_record() {
    let folder = Folder::new();
    for version in [&TLS12, &TLS13] {
        let mut pair = Pair::open(&folder.terms(unasked), &folder.client(version, None));
        let (read, sent) = pair.down(&[b"\x82\x0a", b"push ", b"", b"bytes"]);
        assert_eq!(read, b"\x82\x0apush bytes");
        assert!(
            sent <= sealed_bytes_max(12) && sent < 12 + 2 * 22,
            "{sent} bytes on the wire are one record"
        );
        assert_eq!(pair.down(&[]).0, b"");
    }
}

#[test]
fn bytes_that_come_with_the_end_of_the_handshake_are_not_lost() {
    let folder = Folder::new();
    for version in [&TLS12, &TLS13] {
        let mut pair = Pair::new(&folder.terms(unasked), &folder.client(version, None));
        // The client has written before it connects; rustls sends it right behind its Finished.
        std::io::Write::write_all(&mut pair.client.writer(), b"\x10 CONNECT").unwrap();
        assert_eq!(pair.run().unwrap(), TlsProgress::Open);
        assert_eq!(pair.plaintext, b"\x10 CONNECT");
    }
}

#[test]
fn an_application_protocol_is_agreed_or_refused() {
    let folder = Folder::new();
    let terms = folder.terms(unasked);
    for protocol in [&b"mqtt"[..], b"longwire.v1", b"http/1.1"] {
        let mut client = (*folder.client(&TLS13, None)).clone();
        client.alpn_protocols = vec![b"h2".to_vec(), protocol.to_vec()];
        let pair = Pair::open(&terms, &Arc::new(client));
        assert_eq!(pair.server.protocol(), Some(protocol));
    }
    assert_eq!(Pair::open(&terms, &folder.client(&TLS13, None)).server.protocol(), None);
    let mut client = (*folder.client(&TLS13, None)).clone();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let mut pair = Pair::new(&terms, &Arc::new(client));
    assert!(matches!(pair.run(), Err(TlsError::Peer(Error::NoApplicationProtocol))));
}

#[test]
fn a_ticket_resumes_also_after_a_reload() {
    let folder = Folder::new();
    let terms = folder.terms(unasked);
    for version in [&TLS12, &TLS13] {
        let client = folder.client(version, None);
        assert!(!Pair::open(&terms, &client).server.is_resumed());
        let mut second = Pair::open(&terms, &client);
        assert!(second.server.is_resumed());
        assert_eq!(second.client.handshake_kind(), Some(HandshakeKind::Resumed));
        assert_eq!(second.up(b"again"), b"again");
        terms.reload(UnixTime::now()).unwrap();
        assert!(Pair::open(&terms, &client).server.is_resumed());
    }
}

#[test]
fn a_client_certificate_names_the_device() {
    let folder = Folder::new();
    let device = folder.authority.identity("device-7", |_| {});
    let expected = Subject {
        common_name: Some("device-7".to_owned()),
        dns_names: vec!["localhost".to_owned()],
        uris: vec!["urn:device:7".to_owned()],
    };
    for version in [&TLS12, &TLS13] {
        for clients in [Clients::Asked, Clients::Required] {
            let terms = folder.terms(clients);
            let client = folder.client(version, Some(&device));
            let pair = Pair::open(&terms, &client);
            let subject = pair.server.subject().unwrap();
            assert_eq!(subject, expected);
            assert_eq!(subject.name(), Some("device-7"));
            let resumed = Pair::open(&terms, &client);
            assert!(resumed.server.is_resumed());
            assert_eq!(
                resumed.server.subject(),
                Some(expected.clone()),
                "a ticket carries the certificate over"
            );
            // New authorities may stand in the file, so after a reload the certificate is shown anew.
            terms.reload(UnixTime::now()).unwrap();
            assert!(!Pair::open(&terms, &client).server.is_resumed());
        }
        // Without being asked a client shows nothing.
        let pair = Pair::open(&folder.terms(unasked), &folder.client(version, Some(&device)));
        assert_eq!(pair.server.subject(), None);
    }
}

#[test]
fn a_certificate_is_missed_only_where_it_is_required() {
    let folder = Folder::new();
    for version in [&TLS12, &TLS13] {
        let client = folder.client(version, None);
        let pair = Pair::open(&folder.terms(Clients::Asked), &client);
        assert_eq!(pair.server.subject(), None);
        let mut pair = Pair::new(&folder.terms(Clients::Required), &client);
        assert!(matches!(pair.run(), Err(TlsError::Peer(Error::NoCertificatesPresented))));
        assert!(matches!(pair.server.send(&[b"x"], &mut vec![], &mut vec![]), Err(TlsError::NotOpen)));
        assert!(matches!(pair.server.receive(&mut [1], &mut vec![], &mut vec![]), Err(TlsError::NotOpen)));
    }
}

#[test]
fn a_certificate_of_a_stranger_or_past_its_end_is_refused_with_an_alert() {
    let folder = Folder::new();
    let stranger = crate::certificates::Authority::new("Other CA").identity("device-7", |_| {});
    let old = folder.authority.identity("device-7", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    for version in [&TLS12, &TLS13] {
        for (identity, expected) in
            [(&stranger, AlertDescription::UnknownCA), (&old, AlertDescription::CertificateExpired)]
        {
            for clients in [Clients::Asked, Clients::Required] {
                let mut pair = Pair::new(&folder.terms(clients), &folder.client(version, Some(identity)));
                // The first flights, then the one with the certificate.
                let alert = loop {
                    let mut outgoing = Vec::new();
                    let mut said = pair.said();
                    let result = pair.server.receive(&mut said, &mut vec![], &mut outgoing);
                    let told = pair.tell(&outgoing);
                    match result {
                        Ok(progress) => assert_eq!(progress, TlsProgress::Handshaking),
                        Err(TlsError::Peer(Error::InvalidCertificate(_))) => break told.unwrap_err(),
                        Err(other) => panic!("{other:?}"),
                    }
                };
                assert_eq!(alert, Error::AlertReceived(expected));
                assert_eq!(pair.server.subject(), None);
            }
        }
    }
}

#[test]
fn an_end_is_said_by_both_sides() {
    let folder = Folder::new();
    for version in [&TLS12, &TLS13] {
        let mut pair = Pair::open(&folder.terms(unasked), &folder.client(version, None));
        std::io::Write::write_all(&mut pair.client.writer(), b"last").unwrap();
        pair.client.send_close_notify();
        assert_eq!(pair.run().unwrap(), TlsProgress::PeerClosed);
        assert_eq!(pair.plaintext, b"last");
        // More from the peer is dropped; we may still send, then close.
        let mut outgoing = Vec::new();
        assert_eq!(
            pair.server.receive(&mut [7; 100], &mut vec![], &mut outgoing).unwrap(),
            TlsProgress::PeerClosed
        );
        assert_eq!(pair.server.held_bytes(), 0);
        assert_eq!(pair.down(&[b"bye"]).0, b"bye");
        pair.server.close(&mut outgoing).unwrap();
        let mut rest = &outgoing[..];
        pair.client.read_tls(&mut rest).unwrap();
        assert!(pair.client.process_new_packets().unwrap().peer_has_closed());
        assert!(matches!(pair.server.close(&mut outgoing), Err(TlsError::NotOpen)));
        assert!(matches!(pair.server.send(&[b"x"], &mut vec![], &mut outgoing), Err(TlsError::NotOpen)));
    }
}

#[test]
fn keys_are_renewed_on_request() {
    let folder = Folder::new();
    let mut pair = Pair::open(&folder.terms(unasked), &folder.client(&TLS13, None));
    for round in 0..5u8 {
        pair.client.refresh_traffic_keys().unwrap();
        assert_eq!(pair.up(&[round]), [round]);
        assert_eq!(pair.down(&[&[round, round]]).0, [round, round]);
    }
}

#[test]
fn a_reload_is_met_by_new_connections_and_not_noticed_by_old_ones() {
    let folder = Folder::new();
    let terms = folder.terms(unasked);
    let client = folder.client(&TLS13, None);
    let mut old = Pair::open(&terms, &client);
    let before = old.client.peer_certificates().unwrap()[0].clone();
    let renewed = folder.authority.identity("server two", |_| {});
    folder.write("cert.pem", &renewed.certificate);
    folder.write("key.pem", &renewed.key);
    terms.reload(UnixTime::now()).unwrap();
    // A client of its own has no ticket.
    let new = Pair::open(&terms, &folder.client(&TLS13, None));
    let after = new.client.peer_certificates().unwrap()[0].clone();
    assert_eq!(after, CertificateDer::from_pem_slice(renewed.certificate.as_bytes()).unwrap());
    assert_ne!(before, after);
    assert_eq!(old.up(b"still here"), b"still here");
    assert_eq!(old.down(&[b"so am I"]).0, b"so am I");
    // What cannot be loaded changes nothing.
    folder.write("key.pem", "");
    terms.reload(UnixTime::now()).unwrap_err();
    let newest = Pair::open(&terms, &folder.client(&TLS13, None));
    assert_eq!(newest.client.peer_certificates().unwrap()[0], after);
}
