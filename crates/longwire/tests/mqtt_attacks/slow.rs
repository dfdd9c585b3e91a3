//! Peers that stop half way, or go on byte by byte, in every phase of a connection.

use crate::kit::{Honest, Peer, await_ends, drops, ends, server_with};
use crate::packets::{PUBLISH, connect_bytes, packet, publish, text};
use crate::support::{PATIENCE, TestServer, certify, framed, secure, until};
use std::io::Write;
use std::time::Duration;

/// Slow peers of one test.
const PEERS: u64 = 60;
const SLOW: [u8; 4] = [127, 0, 0, 7];
const UPGRADE: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

/// Peers that send `opening` and then bytes of `trickle` one by one are ended with `login_timeout`, and an honest login beside them
/// is not.
#[track_caller]
fn is_cut_at_the_login_deadline(server: &TestServer, opening: &[u8], trickle: &[u8]) {
    let mut honest = Honest::meet(server);
    let mut slow: Vec<Peer> = (0..PEERS).map(|_| Peer::open_from(SLOW, server.device)).collect();
    for peer in &mut slow {
        peer.send(opening);
    }
    let mut trickle = trickle.iter();
    let all_gone = || ends(server, "login_timeout") >= PEERS;
    let gone = until(PATIENCE, || {
        if let Some(byte) = trickle.next() {
            slow.iter_mut().for_each(|peer| peer.send(&[*byte]));
        }
        honest.still_talk();
        drop(Peer::login(server.device, "newcomer"));
        // Slower than the bytes of an honest peer, and several of them within the deadline.
        std::thread::sleep(Duration::from_millis(150));
        all_gone()
    });
    assert!(gone, "{} of {PEERS} have ended with login_timeout", ends(server, "login_timeout"));
    drop(slow);
    honest.are_alone(server);
}

fn impatient() -> TestServer {
    server_with(&["limits.login_s=2"])
}

#[test]
fn before_the_first_byte() {
    is_cut_at_the_login_deadline(&impatient(), b"", b"");
}

#[test]
fn in_the_first_bytes_that_tell_what_is_spoken() {
    is_cut_at_the_login_deadline(&impatient(), b"\r\n\r\n", b"\0\r\nQUIT");
}

#[test]
fn in_a_connect() {
    let whole = connect_bytes("slow");
    is_cut_at_the_login_deadline(&impatient(), &whole[..1], &whole[1..whole.len() - 1]);
}

#[test]
fn in_a_native_login() {
    is_cut_at_the_login_deadline(&impatient(), b"\xca\xfe\xba\xbe\x10", b"\0\0\x40\0\0\0\0\0");
}

#[test]
fn in_a_websocket_upgrade() {
    is_cut_at_the_login_deadline(&impatient(), &UPGRADE[..30], &UPGRADE[30..60]);
}

#[test]
fn behind_a_websocket_upgrade() {
    is_cut_at_the_login_deadline(&impatient(), UPGRADE, b"\x82\x90\0\0\0");
}

#[test]
fn in_a_proxy_header() {
    let server = server_with(&["limits.login_s=2", "listener.device.proxy_from=127.0.0.7"]);
    is_cut_at_the_login_deadline(&server, b"PROXY TCP4 ", b"192.0.2.1 192.0.2.2 ");
}

#[test]
fn behind_a_proxy_header() {
    let server = server_with(&["limits.login_s=2", "listener.device.proxy_from=127.0.0.7"]);
    is_cut_at_the_login_deadline(
        &server,
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        &connect_bytes("slow")[..12],
    );
}

#[test]
fn in_a_tls_hello() {
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let server = tls_server(folder.path(), "limits.login_s=2");
    // A handshake record of 512 bytes, of which a few come.
    is_cut_at_the_login_deadline(&server, b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", &[7; 20]);
}

#[test]
fn behind_a_tls_handshake() {
    let folder = tempfile::tempdir().unwrap();
    let trusting = certify(folder.path());
    let server = tls_server(folder.path(), "limits.login_s=2");
    let mut honest = Honest::meet(&server);
    let slow: Vec<_> = (0..20)
        .map(|_| {
            let mut pipe = secure(Peer::open_from(SLOW, server.device).stream, &trusting).unwrap();
            pipe.write_all(&connect_bytes("slow")[..9]).unwrap();
            pipe.flush().unwrap();
            pipe
        })
        .collect();
    honest.still_talk();
    await_ends(&server, "login_timeout", 20);
    drop(slow);
    honest.are_alone(&server);
}

fn tls_server(folder: &std::path::Path, setting: &str) -> TestServer {
    let file = |name: &str| folder.join(name).display().to_string();
    server_with(&[
        setting,
        &format!("listener.device.tls.certificate={}", file("cert.pem")),
        &format!("listener.device.tls.key={}", file("key.pem")),
    ])
}

/// What is begun after the login must be whole in time, whoever sends the next byte.
#[test]
fn in_a_packet_after_the_login() {
    let server = server_with(&["limits.frame_s=2"]);
    let mut honest = Honest::meet(&server);
    let whole = packet(PUBLISH, &[&text("slow")[..], b"\0", &[b'x'; 1000]].concat());
    let mut slow: Vec<Peer> = (0..PEERS)
        .map(|number| {
            let mut peer = Peer::login(server.device, &format!("slow{number}"));
            peer.send(&whole[..1 + number as usize % 500]);
            peer
        })
        .collect();
    let gone = until(PATIENCE, || {
        slow.iter_mut().for_each(|peer| peer.send(b"x"));
        honest.still_talk();
        std::thread::sleep(Duration::from_millis(100));
        ends(&server, "frame_timeout") >= PEERS
    });
    assert!(gone, "{} ended with frame_timeout", ends(&server, "frame_timeout"));
    drop(slow);
    honest.are_alone(&server);
}

/// Half a frame header, half a frame, a message whose last fragment never comes, and half a record of TLS.
#[test]
fn in_a_frame_or_record_after_the_login() {
    let folder = tempfile::tempdir().unwrap();
    let trusting = certify(folder.path());
    let server = tls_server(folder.path(), "limits.frame_s=2");
    let mut honest = Honest::meet(&server);
    let mut slow = Vec::new();
    for (number, begun) in
        [&b"\x82"[..], b"\x82\xfe\x01", b"\x82\x84\0\0\0\0\xc0", b"\x02\x82\0\0\0\0\xc0\0", b"\x89\x84\0\0\0"]
            .iter()
            .enumerate()
    {
        let stream = Peer::open(server.device).stream;
        let mut below = stream.try_clone().unwrap();
        let mut pipe = framed(stream, "mqtt");
        login(&mut pipe, &format!("web{number}"));
        below.write_all(begun).unwrap();
        slow.push(below);
    }
    let stream = Peer::open(server.device).stream;
    let mut below = stream.try_clone().unwrap();
    let mut pipe = secure(stream, &trusting).unwrap();
    login(&mut pipe, "tls");
    below.write_all(b"\x17\x03\x03\x01\0abc").unwrap();
    honest.still_talk();
    await_ends(&server, "frame_timeout", slow.len() as u64 + 1);
    drop((slow, below, pipe));
    honest.are_alone(&server);
}

#[track_caller]
fn login(pipe: &mut impl crate::support::Pipe, client_id: &str) {
    pipe.write_all(&connect_bytes(client_id)).unwrap();
    pipe.flush().unwrap();
    let mut connack = [0; 4];
    pipe.read_exact(&mut connack).unwrap();
    assert_eq!((connack[0], connack[3]), (0x20, 0));
}

/// Subscribers that never read: what waits for each is bounded, and after the deadline they are gone.
#[test]
fn never_reading() {
    const READERS: u64 = 5;
    const OUTBOX_HIGH: usize = 64 * 1024;
    let payload = vec![b'x'; 60 * 1024];
    let server = server_with(&[
        "limits.write_stall_s=2",
        "limits.inbound_bytes_per_s=0",
        "limits.inbound_messages_per_s=0",
        "listener.device.socket_buffer_bytes=32768",
    ]);
    let mut honest = Honest::meet(&server);
    let deaf: Vec<Peer> = (0..READERS)
        .map(|number| {
            let mut peer = Peer::login(server.device, &format!("deaf{number}"));
            assert_eq!(peer.subscribe(&["flood".to_owned()], 0), [0]);
            peer
        })
        .collect();
    let mut writer = Peer::login(server.device, "writer");
    for _ in 0..200 {
        writer.send(&publish("flood", &payload));
    }
    honest.still_talk();
    let waiting = server.metric("longwire_outbound_queue_bytes", &[]) as usize;
    assert!(waiting <= READERS as usize * (OUTBOX_HIGH + 2 * payload.len()), "{waiting} bytes wait");
    assert!(until(PATIENCE, || drops(&server, "outbox") > 0), "what had no room was not counted");
    await_ends(&server, "write_stall", READERS);
    drop((deaf, writer));
    honest.are_alone(&server);
}
