//! All layers on one connection, put together as `docs/transports.md` says: PROXY, TLS, HTTP, WebSocket, and bytes inside.

use crate::certificates::{Folder, unasked};
use longwire_proto::wire::websocket::{Decoder, Event, Mask, Peer, Rules, close, data_head, pong};
use longwire_server::gate::transport::{
    Detected, Origin, Spoken, Subprotocol, TlsConnection, TlsTerms, Upgrade, UpgradeRules, detect,
    read_proxy, read_upgrade,
};
use proptest::prelude::*;
use rustls::pki_types::ServerName;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection};
use std::io::{Read, Write};
use std::sync::Arc;

const RULES: Rules = Rules { peer: Peer::Client, message_bytes_max: 65536, controls_max: 10 };
const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: push.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

/// A connection as a shard would keep it.
struct Connection<'a> {
    terms: &'a TlsTerms,
    origin: Option<Origin>,
    tls: Option<TlsConnection>,
    inner: Inner,
    /// What the session was given.
    session: Vec<u8>,
    outgoing: Vec<u8>,
}

enum Inner {
    Undecided(Vec<u8>),
    Stream(Spoken),
    WebSocket(Subprotocol, Decoder),
}

impl<'a> Connection<'a> {
    fn new(terms: &'a TlsTerms) -> Connection<'a> {
        Connection {
            terms,
            origin: None,
            tls: None,
            inner: Inner::Undecided(Vec::new()),
            session: Vec::new(),
            outgoing: Vec::new(),
        }
    }

    fn read(&mut self, scratch: &mut [u8]) {
        let Some(tls) = &mut self.tls else { return self.pass(scratch) };
        let mut plaintext = Vec::new();
        tls.receive(scratch, &mut plaintext, &mut self.outgoing).unwrap();
        self.pass(&mut plaintext);
    }

    fn pass(&mut self, bytes: &mut [u8]) {
        let (tls, outgoing) = (&mut self.tls, &mut self.outgoing);
        match &mut self.inner {
            Inner::Undecided(held) => {
                held.extend_from_slice(bytes);
                let held = std::mem::take(held);
                self.decide(held);
            }
            Inner::Stream(_) => self.session.extend_from_slice(bytes),
            Inner::WebSocket(_, decoder) => {
                let mut input = bytes;
                while let Some(event) = decoder.next(&mut input, &RULES).unwrap() {
                    match event {
                        Event::Payload(bytes) => self.session.extend_from_slice(bytes),
                        Event::Ping(body) => write(tls, outgoing, &[pong(&body, None).bytes()]),
                        Event::Close { code } => write(tls, outgoing, &[close(code, "", None).bytes()]),
                        Event::Pong(_) => {}
                    }
                }
            }
        }
    }

    fn decide(&mut self, mut held: Vec<u8>) {
        match detect(&held) {
            Detected::NeedMore => self.inner = Inner::Undecided(held),
            Detected::Unknown => panic!("unknown: {}", held.escape_ascii()),
            Detected::Is(Spoken::Proxy) => match read_proxy(&held).unwrap() {
                None => self.inner = Inner::Undecided(held),
                Some(proxied) => {
                    assert!(self.origin.replace(proxied.origin).is_none());
                    self.pass(&mut held[proxied.header_bytes..]);
                }
            },
            Detected::Is(Spoken::Tls) => {
                assert!(self.tls.replace(self.terms.accept().unwrap()).is_none());
                self.read(&mut held);
            }
            Detected::Is(Spoken::WebSocket) => match read_upgrade(&held, &UpgradeRules::default()) {
                Upgrade::NeedMore => self.inner = Inner::Undecided(held),
                Upgrade::Accepted { request_bytes, subprotocol, answer } => {
                    write(&mut self.tls, &mut self.outgoing, &[answer.as_bytes()]);
                    self.inner = Inner::WebSocket(subprotocol, Decoder::default());
                    self.pass(&mut held[request_bytes..]);
                }
                Upgrade::Refused { answer, .. } => panic!("{answer}"),
            },
            Detected::Is(spoken) => {
                self.inner = Inner::Stream(spoken);
                self.pass(&mut held);
            }
        }
    }

    /// Pieces of the session.
    fn send(&mut self, pieces: &[&[u8]]) {
        let head = data_head(pieces.iter().map(|piece| piece.len() as u64).sum(), None);
        match self.inner {
            Inner::WebSocket(..) => {
                write(&mut self.tls, &mut self.outgoing, &[&[head.bytes()], pieces].concat())
            }
            _ => write(&mut self.tls, &mut self.outgoing, pieces),
        }
    }
}

/// Bytes of the layer below the WebSocket's frames.
fn write(tls: &mut Option<TlsConnection>, outgoing: &mut Vec<u8>, pieces: &[&[u8]]) {
    match tls {
        Some(tls) => tls.send(pieces, &mut Vec::new(), outgoing).unwrap(),
        None => pieces.iter().for_each(|piece| outgoing.extend_from_slice(piece)),
    }
}

/// What a client sends inside everything else, all at once: it does not wait for the 101.
fn inside(web: bool, packet: &[u8], frames: usize) -> Vec<u8> {
    if !web {
        return packet.to_vec();
    }
    let mut bytes = REQUEST.as_bytes().to_vec();
    for piece in packet.chunks(packet.len().div_ceil(frames)) {
        let mut mask = Mask::new([3, 1, 4, piece.len() as u8]);
        bytes.extend(data_head(piece.len() as u64, Some(mask)).bytes());
        let at = bytes.len();
        bytes.extend(piece);
        mask.apply(&mut bytes[at..]);
    }
    bytes
}

/// Plays a client through `cuts`; gives what it heard back.
fn play(
    connection: &mut Connection<'_>,
    client: Option<&Arc<ClientConfig>>,
    start: Vec<u8>,
    inside: &[u8],
    cuts: &[usize],
) -> Vec<u8> {
    let mut cuts = cuts.iter().cycle();
    let mut deliver = |connection: &mut Connection<'_>, mut bytes: &[u8]| {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at((*cuts.next().unwrap()).min(bytes.len()));
            connection.read(&mut now.to_vec());
            bytes = later;
        }
    };
    let Some(config) = client else {
        deliver(connection, &[&start, inside].concat());
        connection.send(&[b"down", b"ward"]);
        return std::mem::take(&mut connection.outgoing);
    };
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(config.clone(), name).unwrap();
    client.writer().write_all(inside).unwrap();
    let (mut said, mut heard) = (start, Vec::new());
    for turn in 0.. {
        while client.wants_write() {
            client.write_tls(&mut said).unwrap();
        }
        deliver(connection, &said);
        if said.is_empty() && turn > 0 {
            break;
        }
        said.clear();
        if !client.is_handshaking() {
            connection.send(&[b"down", b"ward"]);
        }
        let outgoing = std::mem::take(&mut connection.outgoing);
        let mut rest = &outgoing[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            let ready = client.process_new_packets().unwrap().plaintext_bytes_to_read();
            let at = heard.len();
            heard.resize(at + ready, 0);
            client.reader().read_exact(&mut heard[at..]).unwrap();
        }
    }
    heard
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    /// Every stack, in any cut: the session gets every byte once, from the first one on, and answers through all layers.
    #[test]
    fn every_stack_carries_every_byte(
        proxied in any::<bool>(),
        secure in any::<bool>(),
        web in any::<bool>(),
        native in any::<bool>(),
        length in 0usize..3000,
        frames in 1usize..5,
        cuts in prop::collection::vec(1usize..700, 1..20),
    ) {
        let folder = Folder::new();
        let terms = folder.terms(unasked);
        let config = folder.client(&TLS13, None);
        let mut packet = if native { b"\xca\xfe\xba\xbe".to_vec() } else { vec![0x10] };
        packet.extend((0..length).map(|at| at as u8));
        let start = if proxied { b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 1883\r\n".to_vec() } else { Vec::new() };
        let mut connection = Connection::new(&terms);
        let heard = play(&mut connection, secure.then_some(&config), start, &inside(web, &packet, frames), &cuts);
        prop_assert_eq!(&connection.session, &packet);
        prop_assert_eq!(connection.origin.is_some(), proxied);
        prop_assert_eq!(connection.tls.is_some(), secure);
        prop_assert!(connection.tls.is_none_or(|tls| tls.held_bytes() == 0));
        match connection.inner {
            Inner::WebSocket(Subprotocol::Mqtt, decoder) => prop_assert!(web && decoder.at_rest()),
            Inner::Stream(Spoken::Native) => prop_assert!(!web && native),
            Inner::Stream(Spoken::Mqtt) => prop_assert!(!web && !native),
            _ => prop_assert!(false, "not decided"),
        }
        let expected: &[u8] = if web { b"\x82\x08downward" } else { b"downward" };
        prop_assert!(heard.ends_with(expected), "{}", heard.escape_ascii());
        prop_assert_eq!(web, heard.starts_with(b"HTTP/1.1 101 "));
    }
}
