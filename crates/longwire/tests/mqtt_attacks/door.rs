//! Refusals before the login: each is told in the words of what it speaks, and when it may come again where there is a word for it.

use crate::kit::{Honest, Peer, server_with};
use crate::packets::{connect_bytes, packet, text};
use crate::support::{PATIENCE, Start, TestServer, until};
use serde_json::json;

const REJECTED: &str = "longwire_accept_rejected_total";
const UPGRADE: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\n";
const TLS_HELLO: &[u8] = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03";

fn older_connect(name: &str) -> Vec<u8> {
    packet(0x10, &[b"\0\x04MQTT\x04\x02\0\x3c", &text(name)[..]].concat())
}

fn rejected(server: &TestServer, reason: &str) -> u64 {
    server.metric(REJECTED, &[&format!("reason=\"{reason}\"")]) as u64
}

/// What each kind of peer hears that comes when there is no place; `code`: what MQTT 5 says. A device that comes first and speaks
/// later hears the same.
#[track_caller]
fn is_told(server: &TestServer, limit: &str, code: u8) {
    let mut before = rejected(server, limit);
    for late in [false, true] {
        let mut hears = |said: &[u8]| {
            let mut peer = Peer::open(server.device);
            before += 1;
            if late {
                assert!(until(PATIENCE, || rejected(server, limit) == before), "refused when it came");
            }
            peer.send(said);
            peer.rest()
        };
        assert_eq!(hears(&connect_bytes("five")), [0x20, 3, 0, code, 0], "MQTT 5");
        assert_eq!(hears(&older_connect("three")), [0x20, 2, 0, 3], "MQTT 3.1.1");
        let answer = String::from_utf8(hears(UPGRADE)).unwrap();
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\r\nRetry-After: "), "{answer}");
        assert_eq!(hears(TLS_HELLO), [0x15, 3, 3, 0, 2, 2, 80], "a fatal alert");
        let native = hears(b"\xca\xfe\xba\xbe");
        assert_eq!((native[4], native[16]), (0x11, 0x41), "CONNACK of the native protocol: full");
        assert_eq!(hears(b"SSH-2.0"), b"", "a stranger hears nothing");
    }
    // One that says nothing is taken for a native device in the end: it needs the time to wait.
    let silent = Peer::open(server.device).rest();
    assert_eq!((silent[4], silent[16]), (0x11, 0x41));
    assert!(u16::from_be_bytes([silent[17], silent[18]]) > 0);
}

#[test]
fn an_address_with_all_its_connections() {
    let server = server_with(&["limits.address_connections=2"]);
    let mut honest = Honest::meet(&server);
    is_told(&server, "address_connections", 0x97);
    honest.are_alone(&server);
}

#[test]
fn a_node_with_all_its_connections() {
    let server = Start::default().descriptors(256).start();
    let mut honest = Honest::meet(&server);
    let crowd: Vec<Peer> = (0..126).map(|_| Peer::open_from([127, 0, 0, 9], server.device)).collect();
    assert!(until(PATIENCE, || server.metric("longwire_connections", &[]) == 128.0));
    is_told(&server, "full", 0x89);
    drop(crowd);
    honest.are_alone(&server);
}

#[test]
fn an_address_behind_a_load_balancer() {
    let server = server_with(&["limits.address_connections=2", "listener.device.proxy_from=127.0.0.7"]);
    let mut honest = Honest::meet(&server);
    // The balancer may open more; whom it brings from 127.0.0.1 has no place left.
    let header = b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n";
    for (connect, answer) in
        [(connect_bytes("five"), &[0x20, 3, 0, 0x97, 0][..]), (older_connect("three"), &[0x20, 2, 0, 3])]
    {
        let mut peer = Peer::open_from([127, 0, 0, 7], server.device);
        peer.send(&[&header[..], &connect].concat());
        assert_eq!(peer.rest(), answer);
    }
    assert_eq!(rejected(&server, "address_connections"), 2);
    honest.are_alone(&server);
}

/// Far more than may wait to be told in their own words: the oldest are told at once, and the door goes on.
#[test]
fn a_crowd_that_is_refused_and_silent_is_bounded() {
    const CROWD: u64 = 1500;
    const WAITING_MAX: f64 = 256.0;
    let server = server_with(&["limits.address_connections=2"]);
    let mut honest = Honest::meet(&server);
    let crowd: Vec<Peer> = (0..CROWD).map(|_| Peer::open(server.device)).collect();
    assert!(until(PATIENCE, || rejected(&server, "address_connections") == CROWD));
    assert!(server.metric("longwire_connections_turned_away", &[]) <= WAITING_MAX);
    honest.still_talk();
    for mut peer in crowd {
        assert_eq!(peer.rest()[16], 0x41);
    }
    honest.are_alone(&server);
}

/// A node that drains tells those who are logged in, those who are about to, and takes nobody else.
#[test]
fn a_node_that_drains() {
    let mut server = Start::default().arg("--set").arg("node.drain_s=5").start();
    let mut live = Peer::login(server.device, "live");
    let mut half = Peer::open(server.device);
    let whole = connect_bytes("half");
    half.send(&whole[..12]);
    let mut older = Peer::open(server.device);
    older.send(&older_connect("older")[..12]);
    assert!(until(PATIENCE, || server.metric("longwire_connections", &[]) == 3.0));
    assert_eq!(server.operator().post("/v1/admin/drain", &json!({ "window_s": 1 })).status, 202);
    live.is_ended_with(0x8B);
    assert_eq!(half.rest(), [0x20, 3, 0, 0x88, 0]);
    assert_eq!(older.rest(), [0x20, 2, 0, 3]);
    assert!(server.await_exit().success());
}
