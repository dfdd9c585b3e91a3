//! Peers that speak bytes, two honest clients, and what a server shows of itself.

use crate::packets::{PUBLISH, PUBLISH_QOS_1, connect_bytes, packet, publish_id, subscribe_bytes};
use crate::support::{PATIENCE, Start, TestServer, until};
use serde_json::json;
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

const CLOSED: &str = "longwire_connections_closed_total";
/// What the honest clients speak of.
pub(crate) const HONEST: &str = "honest/word";

/// A server with these settings.
#[track_caller]
pub(crate) fn server_with(settings: &[&str]) -> TestServer {
    settings.iter().fold(Start::default(), |start, setting| start.arg("--set").arg(setting)).start()
}

/// A connection of MQTT 5 that speaks bytes.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    held: Vec<u8>,
}

impl Peer {
    pub(crate) fn open(to: SocketAddr) -> Peer {
        Peer::over(TcpStream::connect(to).unwrap())
    }

    /// From an address of the loopback network.
    pub(crate) fn open_from(from: [u8; 4], to: SocketAddr) -> Peer {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::from(from), 0)).into()).unwrap();
        socket.connect(&to.into()).unwrap();
        Peer::over(socket.into())
    }

    fn over(stream: TcpStream) -> Peer {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { stream, held: Vec::new() }
    }

    #[track_caller]
    pub(crate) fn login(to: SocketAddr, client_id: &str) -> Peer {
        Peer::open(to).says_hello(&connect_bytes(client_id))
    }

    /// Sends this CONNECT, which is let in.
    #[track_caller]
    pub(crate) fn says_hello(mut self, connect: &[u8]) -> Peer {
        self.send(connect);
        let connack = self.packet().expect("CONNACK");
        assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:02x?}");
        self
    }

    /// A peer that was closed is seen when its answer is read.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).ok();
    }

    /// The next packet; `None` at the end of the stream.
    #[track_caller]
    pub(crate) fn packet(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(bytes) = whole(&self.held) {
                return Some(self.held.drain(..bytes).collect());
            }
            if !self.read() {
                return None;
            }
        }
    }

    /// One read; false at the end of the stream.
    #[track_caller]
    fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                self.held.extend_from_slice(&bytes[..count]);
                true
            }
            Err(error) => {
                let waited = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(!waited, "no answer");
                false
            }
        }
    }

    /// The next packet of this type; others are passed over.
    #[track_caller]
    pub(crate) fn next_of(&mut self, first: u8) -> Vec<u8> {
        loop {
            let packet = self.packet().expect("the packet before the end");
            if packet[0] & 0xF0 == first & 0xF0 {
                return packet;
            }
        }
    }

    /// All bytes up to the end of the stream.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.read() {}
        std::mem::take(&mut self.held)
    }

    /// DISCONNECT with this reason, then the end.
    #[track_caller]
    pub(crate) fn is_ended_with(&mut self, reason: u8) {
        let mut last = Vec::new();
        while let Some(packet) = self.packet() {
            last = packet;
        }
        assert_eq!((last.first(), last.get(2)), (Some(&0xE0), Some(&reason)), "{last:02x?}");
    }

    /// Subscribes; the codes of SUBACK.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, filters: &[String], qos: u8) -> Vec<u8> {
        self.send(&subscribe_bytes(filters, qos));
        self.next_of(0x90)[5..].to_vec()
    }
}

/// The length of the packet at the front, if it is whole.
fn whole(held: &[u8]) -> Option<usize> {
    let (mut length, mut shift) = (0, 0);
    for (at, byte) in held.get(1..)?.iter().enumerate() {
        length |= usize::from(byte & 0x7F) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            let bytes = 2 + at + length;
            return (held.len() >= bytes).then_some(bytes);
        }
    }
    None
}

/// Two clients of which one hears the other.
pub(crate) struct Honest {
    reader: Peer,
    writer: Peer,
    words: u32,
}

impl Honest {
    #[track_caller]
    pub(crate) fn meet(server: &TestServer) -> Honest {
        let mut reader = Peer::login(server.device, "honest-reader");
        assert_eq!(reader.subscribe(&[HONEST.to_owned()], 1), [1]);
        Honest { reader, writer: Peer::login(server.device, "honest-writer"), words: 0 }
    }

    /// A message of QoS 1 arrives, and both ends say so.
    #[track_caller]
    pub(crate) fn still_talk(&mut self) {
        self.words += 1;
        let word = format!("word {}", self.words);
        self.writer.send(&publish_id(PUBLISH_QOS_1, HONEST, 1, word.as_bytes()));
        let heard = self.reader.next_of(PUBLISH);
        assert!(heard.ends_with(word.as_bytes()), "{heard:02x?}");
        let id = 4 + HONEST.len();
        self.reader.send(&packet(0x40, &heard[id..id + 2]));
        let acked = self.writer.next_of(0x40);
        assert!(acked.len() == 4 || acked[4] == 0, "{acked:02x?}");
    }

    /// They still talk, and the server holds nothing but them.
    #[track_caller]
    pub(crate) fn are_alone(&mut self, server: &TestServer) {
        self.still_talk();
        let gauges = [
            ("longwire_connections", 2.0),
            ("longwire_mqtt_sessions", 2.0),
            ("longwire_subscriptions", 1.0),
            ("longwire_connections_awaiting", 0.0),
            ("longwire_connections_turned_away", 0.0),
            ("longwire_connections_unwritable", 0.0),
            ("longwire_logins_deciding", 0.0),
            ("longwire_outbound_queue_bytes", 0.0),
            ("longwire_shared_members", 0.0),
            ("longwire_shared_waiting", 0.0),
            ("longwire_wills_waiting", 0.0),
        ];
        for (name, value) in gauges {
            let seen = || server.metric(name, &[]);
            assert!(until(PATIENCE, || seen() == value), "{name} is {} instead of {value}", seen());
        }
        // Who holds what is a second old at most.
        let memory = || server.operator().get("/v1/admin/memory").json;
        let held = || {
            let memory = memory();
            let apps = memory["apps"].as_array().unwrap().iter();
            let waiting = apps.map(|app| app["outbox_bytes"].as_u64().unwrap()).sum::<u64>();
            waiting + memory["hub"]["unacked"].as_u64().unwrap()
        };
        assert!(until(PATIENCE, || held() == 0), "{}", memory());
    }
}

/// How many connections have ended for this reason.
pub(crate) fn ends(server: &TestServer, reason: &str) -> u64 {
    server.metric(CLOSED, &[&format!("reason=\"{reason}\"")]) as u64
}

/// Waits until so many have.
#[track_caller]
pub(crate) fn await_ends(server: &TestServer, reason: &str, count: u64) {
    assert!(
        until(PATIENCE, || ends(server, reason) >= count),
        "{} of {count} ended with {reason}",
        ends(server, reason)
    );
}

/// How many messages did not reach a subscriber, for this reason.
pub(crate) fn drops(server: &TestServer, reason: &str) -> u64 {
    server.metric("longwire_topic_dropped_total", &[&format!("reason=\"{reason}\"")]) as u64
}

/// From now on these are the topic rules of the app; clients without credentials are not held to them.
#[track_caller]
pub(crate) fn set_rules(server: &TestServer, rules: &[&str]) {
    let path = format!("/v1/admin/apps/{}/topic_rules", server.app_key);
    let body = json!({ "topic_rules": rules }).to_string();
    let answer = server.operator().request("PUT", &path, Some(body.as_bytes())).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
}
