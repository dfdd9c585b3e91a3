//! WebSockets that break their framing, or keep to it and mean harm. Single frames are in proto's `websocket` tests.

use crate::kit::{Honest, Peer, await_ends, ends, server_with};
use crate::packets::{PUBLISH, connect_bytes, publish};
use crate::support::TestServer;

const UPGRADE: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

/// A masked frame; the mask is 0, so the payload stands as it is.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = match payload.len() {
        short @ ..=125 => vec![0x80 | short as u8],
        long => [&[0xFE][..], &(long as u16).to_be_bytes()].concat(),
    };
    [&[first][..], &length, &[0; 4], payload].concat()
}

/// Logged in inside a WebSocket.
#[track_caller]
fn login(server: &TestServer, name: &str) -> Peer {
    let mut peer = upgraded(server);
    peer.send(&frame(0x82, &connect_bytes(name)));
    let connack = frame_from(&mut peer);
    assert_eq!((connack[0], connack[2], connack[5]), (0x82, 0x20, 0), "{connack:02x?}");
    peer
}

#[track_caller]
fn upgraded(server: &TestServer) -> Peer {
    use std::io::Read;
    let mut peer = Peer::open(server.device);
    peer.send(UPGRADE);
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0; 1];
        peer.stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
    peer
}

/// The next short frame of the server.
#[track_caller]
fn frame_from(peer: &mut Peer) -> Vec<u8> {
    use std::io::Read;
    let mut head = [0; 2];
    peer.stream.read_exact(&mut head).unwrap();
    let mut payload = vec![0; usize::from(head[1])];
    peer.stream.read_exact(&mut payload).unwrap();
    [&head[..], &payload].concat()
}

/// The code of the Close frame before the end.
#[track_caller]
fn close_code(peer: &mut Peer) -> u16 {
    loop {
        let frame = frame_from(peer);
        if frame[0] == 0x88 {
            return u16::from_be_bytes([frame[2], frame[3]]);
        }
    }
}

#[test]
fn broken_frames_end_the_connection_with_their_code() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let cases: [(&str, &[u8], u16); 13] = [
        ("not masked", b"\x82\x02\xc0\0", 1002),
        ("a reserved bit", b"\xc2\x82\0\0\0\0\xc0\0", 1002),
        ("a reserved opcode", b"\x83\x80\0\0\0\0", 1002),
        ("a reserved control opcode", b"\x8b\x80\0\0\0\0", 1002),
        ("a control frame in parts", b"\x09\x80\0\0\0\0", 1002),
        ("a control frame of 126 bytes", b"\x89\xfe\0\x7e\0\0\0\0", 1002),
        ("a continuation of nothing", b"\x80\x80\0\0\0\0", 1002),
        ("a message within a message", b"\x02\x81\0\0\0\0\xc0\x82\x80\0\0\0\0", 1002),
        ("a length in more bytes than needed", b"\x82\xfe\0\x02\0\0\0\0\xc0\0", 1002),
        ("a length beyond 63 bits", b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 1002),
        ("a giant length", b"\x82\xff\0\0\0\xff\xff\xff\xff\xff\0\0\0\0", 1009),
        ("text", b"\x81\x82\0\0\0\0hi", 1003),
        ("a Close of one byte", b"\x88\x81\0\0\0\0\x03", 1002),
    ];
    for (number, (what, bytes, code)) in cases.iter().enumerate() {
        let mut peer = login(&server, &format!("web{number}"));
        peer.send(bytes);
        assert_eq!(close_code(&mut peer), *code, "{what}");
    }
    await_ends(&server, "bad_websocket", cases.len() as u64 - 1);
    await_ends(&server, "frame_too_long", 1);
    honest.are_alone(&server);
}

/// Fragments without an end count against the message: a byte each, and 16 for being one.
#[test]
fn a_message_of_endless_fragments_ends_at_its_bound() {
    let server = server_with(&["limits.inbound_bytes_per_s=0"]);
    let mut honest = Honest::meet(&server);
    let mut peer = login(&server, "fragments");
    peer.send(&frame(0x02, b""));
    let many = frame(0x00, b"").repeat(1000);
    for _ in 0..70 {
        peer.send(&many);
    }
    assert_eq!(close_code(&mut peer), 1009);
    await_ends(&server, "frame_too_long", 1);
    honest.are_alone(&server);
}

/// Before the login an endless message is bounded by what may come before it.
#[test]
fn fragments_before_the_login_are_bounded() {
    let server = server_with(&["limits.login_s=2"]);
    let mut honest = Honest::meet(&server);
    let mut peer = upgraded(&server);
    // A CONNECT of 200 KiB, which is cut at its header.
    peer.send(&frame(0x02, &[0x10, 0x80, 0xC0, 0x0C]));
    peer.send(&frame(0x00, &[0; 100]).repeat(100));
    assert!([1002, 1009].contains(&close_code(&mut peer)));
    await_ends(&server, "frame_too_long", 1);
    honest.are_alone(&server);
}

#[test]
fn a_flood_of_websocket_pings_is_ended() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let mut peer = login(&server, "pings");
    peer.send(&frame(0x89, b"are you there").repeat(200));
    assert_eq!(close_code(&mut peer), 1008);
    assert_eq!(ends(&server, "bad_websocket"), 1);
    honest.are_alone(&server);
}

/// Packets may span frames and share them, empty ones among them; that costs the peer, not the others.
#[test]
fn a_packet_cut_into_frames_of_a_byte_is_a_packet() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let mut peer = login(&server, "bytes");
    peer.send(&frame(0x82, &crate::packets::subscribe_bytes(&["cut".to_owned()], 0)));
    assert_eq!(frame_from(&mut peer)[2], 0x90);
    let cut: Vec<u8> = publish("cut", b"x").iter().flat_map(|byte| frame(0x82, &[*byte])).collect();
    peer.send(&cut);
    let heard = frame_from(&mut peer);
    assert_eq!((heard[2], heard.last()), (PUBLISH, Some(&b'x')));
    drop(peer);
    honest.are_alone(&server);
}

/// Requests that are no WebSocket's get an answer in HTTP, and hold nothing.
#[test]
fn requests_that_are_none_are_answered_and_closed() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let with = |from: &str, to: &str| String::from_utf8_lossy(UPGRADE).replace(from, to);
    let headers: String = (0..70).map(|number| format!("X-{number}: 1\r\n")).collect();
    let requests = [
        (with("GET /mqtt", "GET /other"), 404),
        (with("Version: 13", "Version: 8"), 426),
        (with("Protocol: mqtt", "Protocol: soap"), 400),
        (with("Key: AAAAAAAAAAAAAAAAAAAAAA==", "Key: short"), 400),
        (with("Host: localhost\r\n", &headers), 431),
        (with("Host: localhost", &format!("Host: {}", "l".repeat(9000))), 431),
    ];
    for (request, status) in &requests {
        let mut peer = Peer::open(server.device);
        peer.send(request.as_bytes());
        let answer = String::from_utf8_lossy(&peer.rest()).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(!answer.to_ascii_lowercase().contains("permessage-deflate"), "no compression");
    }
    await_ends(&server, "upgrade_refused", requests.len() as u64);
    honest.are_alone(&server);
}
