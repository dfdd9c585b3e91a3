//! MQTT peers that mean harm: each is bounded, its connection ends with a named reason, and an honest device beside it gets its
//! messages. What single packets can do wrong is in `mqtt_conformance`.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use support::{PATIENCE, TestServer, until};

const CLOSED: &str = "longwire_connections_closed_total";
const PUBLISH: u8 = 0x30;
const PUBLISH_QOS_2: u8 = 0x34;
const SUBSCRIBE: u8 = 0x82;

/// A connection of MQTT 5 that speaks bytes.
struct Peer {
    stream: TcpStream,
    held: Vec<u8>,
}

/// A packet with a body of less than 2 MiB.
fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let (mut out, mut left) = (vec![first], body.len());
    loop {
        let low = (left & 0x7F) as u8;
        left >>= 7;
        out.push(if left == 0 { low } else { low | 0x80 });
        if left == 0 {
            return [out, body.to_vec()].concat();
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes()].concat()
}

fn connect_bytes(client_id: &str) -> Vec<u8> {
    packet(0x10, &[b"\0\x04MQTT\x05\x02\0\x3c\0", text(client_id).as_slice()].concat())
}

impl Peer {
    fn open(to: SocketAddr) -> Peer {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { stream, held: Vec::new() }
    }

    #[track_caller]
    fn login(to: SocketAddr, client_id: &str) -> Peer {
        let mut peer = Peer::open(to);
        peer.send(&connect_bytes(client_id));
        let connack = peer.packet().expect("CONNACK");
        assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:02x?}");
        peer
    }

    /// A peer that was closed is seen when its answer is read.
    fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).ok();
    }

    /// The next packet; `None` at the end of the stream. All packets here are short.
    #[track_caller]
    fn packet(&mut self) -> Option<Vec<u8>> {
        loop {
            if let [_, length, ..] = *self.held.as_slice()
                && self.held.len() >= usize::from(length) + 2
            {
                assert!(length < 0x80, "a long packet: {:02x?}", self.held);
                return Some(self.held.drain(..usize::from(length) + 2).collect());
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(count) => self.held.extend_from_slice(&bytes[..count]),
                Err(error) => {
                    assert!(
                        !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
                        "no answer"
                    );
                    return None;
                }
            }
        }
    }

    /// DISCONNECT with this reason, then the end.
    #[track_caller]
    fn is_ended_with(&mut self, reason: u8) {
        let mut last = Vec::new();
        while let Some(packet) = self.packet() {
            last = packet;
        }
        assert_eq!((last.first(), last.get(2)), (Some(&0xE0), Some(&reason)), "{last:02x?}");
    }

    /// Subscribes with QoS 0; the codes of SUBACK.
    #[track_caller]
    fn subscribe(&mut self, filters: &[String]) -> Vec<u8> {
        let list: Vec<u8> = filters.iter().flat_map(|filter| [text(filter), vec![0]].concat()).collect();
        self.send(&packet(SUBSCRIBE, &[&[0, 1, 0][..], &list].concat()));
        loop {
            let answer = self.packet().expect("SUBACK");
            if answer[0] == 0x90 {
                return answer[5..].to_vec();
            }
        }
    }
}

/// Two clients of which one hears the other.
struct Honest {
    reader: Peer,
    writer: Peer,
}

impl Honest {
    #[track_caller]
    fn meet(server: &TestServer) -> Honest {
        let mut reader = Peer::login(server.device, "honest-reader");
        assert_eq!(reader.subscribe(&["honest".to_owned()]), [0]);
        Honest { reader, writer: Peer::login(server.device, "honest-writer") }
    }

    #[track_caller]
    fn still_talk(&mut self) {
        self.writer.send(&packet(PUBLISH, &[&text("honest")[..], b"\0word"].concat()));
        let heard = self.reader.packet().expect("the message");
        assert!(heard.ends_with(b"word"), "{heard:02x?}");
    }
}

fn ends(server: &TestServer, reason: &str) -> u64 {
    server.metric(CLOSED, &[&format!("reason=\"{reason}\"")]) as u64
}

#[test]
fn giant_lengths_end_at_their_header() {
    const PEERS: u64 = 200;
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    for number in 0..PEERS {
        let mut peer = Peer::login(server.device, &format!("giant{number}"));
        // 268,435,455 bytes are announced, and none is sent.
        peer.send(&[PUBLISH, 0xFF, 0xFF, 0xFF, 0x7F]);
        peer.is_ended_with(0x95);
    }
    assert!(until(PATIENCE, || ends(&server, "frame_too_long") >= PEERS));
    honest.still_talk();
}

#[test]
fn a_giant_connect_ends_at_its_header() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    for _ in 0..100 {
        let mut peer = Peer::open(server.device);
        peer.send(&[0x10, 0xFF, 0xFF, 0xFF, 0x7F]);
        assert_eq!(peer.packet(), None);
    }
    honest.still_talk();
}

#[test]
fn half_a_connect_is_not_waited_for_longer_than_the_login_deadline() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let whole = connect_bytes("slow");
    let slow: Vec<Peer> = (0..200)
        .map(|number| {
            let mut peer = Peer::open(server.device);
            peer.send(&whole[..1 + number % (whole.len() - 1)]);
            peer
        })
        .collect();
    honest.still_talk();
    drop(Peer::login(server.device, "newcomer"));
    for mut peer in slow {
        while peer.packet().is_some() {}
    }
    honest.still_talk();
}

#[test]
fn a_session_has_a_hundred_subscriptions_and_no_more() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let mut bomber = Peer::login(server.device, "bomber");
    for round in 0..10 {
        let filters: Vec<String> = (0..10).map(|number| format!("bomb/{round}/{number}/+/#")).collect();
        assert_eq!(bomber.subscribe(&filters), [0; 10]);
    }
    let more: Vec<String> = (0..10).map(|number| format!("bomb/more/{number}")).collect();
    assert_eq!(bomber.subscribe(&more), [0x97; 10]);
    honest.still_talk();
}

#[test]
fn filters_beyond_ten_in_a_packet_are_refused() {
    let server = TestServer::start();
    let mut bomber = Peer::login(server.device, "bomber");
    let filters: Vec<String> = (0..12).map(|number| format!("a/{number}")).collect();
    let codes = bomber.subscribe(&filters);
    assert_eq!((&codes[..10], &codes[10..]), (&[0; 10][..], &[0x97; 2][..]));
}

/// The worst filters that a few sessions can hold: every `+` doubles the ways through the trie.
#[test]
fn an_explosion_of_wildcards_does_not_stop_others() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let mut bombers: Vec<Peer> = Vec::new();
    for bomber in 0..20u32 {
        let mut peer = Peer::login(server.device, &format!("wild{bomber}"));
        for round in 0..10u32 {
            // Levels of `+` and `a` as the number's bits say.
            let filter = |number: u32| {
                let bits = bomber * 100 + round * 10 + number;
                let levels: Vec<&str> =
                    (0..12).map(|at| if bits >> at & 1 == 1 { "+" } else { "a" }).collect();
                levels.join("/")
            };
            let filters: Vec<String> = (0..10).map(filter).collect();
            assert_eq!(peer.subscribe(&filters), [0; 10]);
        }
        bombers.push(peer);
    }
    let mut writer = Peer::login(server.device, "wild-writer");
    let topic = ["a"; 12].join("/");
    for _ in 0..100 {
        writer.send(&packet(PUBLISH, &[&text(&topic)[..], b"\0boom"].concat()));
    }
    for _ in 0..10 {
        honest.still_talk();
    }
}

#[test]
fn messages_of_qos_2_that_are_never_released_are_bounded() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let mut grower = Peer::login(server.device, "grower");
    for id in 1..=33u16 {
        let body = [&text("grow")[..], &id.to_be_bytes(), b"\0x"].concat();
        grower.send(&packet(PUBLISH_QOS_2, &body));
    }
    grower.is_ended_with(0x93);
    honest.still_talk();
}

#[test]
fn a_will_beyond_a_kibibyte_is_refused() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    for (bytes, reason) in [(1_024, 0), (1_025, 0x95)] {
        let mut peer = Peer::open(server.device);
        let will = [&[0u8][..], &text("will"), &text(&"w".repeat(bytes))].concat();
        let body = [b"\0\x04MQTT\x05\x06\0\x3c\0", &text("willful")[..], &will].concat();
        peer.send(&packet(0x10, &body));
        assert_eq!(peer.packet().expect("CONNACK")[3], reason, "a will of {bytes} bytes");
    }
    honest.still_talk();
}

#[test]
fn an_alias_beyond_the_greatest_ends_the_connection() {
    let server = TestServer::start();
    for alias in [0u16, 17, u16::MAX] {
        let mut peer = Peer::login(server.device, "aliaser");
        let body = [&text("a")[..], &[3, 0x23], &alias.to_be_bytes()].concat();
        peer.send(&packet(PUBLISH, &body));
        peer.is_ended_with(0x94);
    }
}
