//! Lengths that are announced, and what must be held of a client.

use crate::kit::{Honest, Peer, await_ends};
use crate::packets::{PUBLISH, bytes, connect_bytes, packet, text, will_bytes};
use crate::support::TestServer;

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
    await_ends(&server, "frame_too_long", PEERS);
    honest.are_alone(&server);
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
    // Longer than what may come before the login, though a packet may be longer after it.
    let mut peer = Peer::open(server.device);
    let password = [connect_bytes("long"), vec![0; 17 * 1024]].concat();
    peer.send(&packet(0x10, &password[2..]));
    assert_ne!(peer.packet().map(|connack| connack[3]), Some(0));
    await_ends(&server, "frame_too_long", 101);
    honest.are_alone(&server);
}

/// A length that never ends, a length in more bytes than needed, and lengths within that lie.
#[test]
fn lengths_that_lie_end_the_connection() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let lies: [&[u8]; 5] = [
        &[PUBLISH, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F],
        &[PUBLISH, 0x83, 0x00, 0, 0, 0],
        // A topic longer than its packet, properties longer than theirs, a filter longer than the rest.
        &[PUBLISH, 4, 0xFF, 0xFF, b'a', 0],
        &[PUBLISH, 5, 0, 1, b'a', 0x7F, 0],
        &[0x82, 7, 0, 1, 0, 0xFF, 0xFF, b'a', 0],
    ];
    for (number, lie) in lies.iter().enumerate() {
        let mut peer = Peer::login(server.device, &format!("liar{number}"));
        peer.send(lie);
        peer.is_ended_with(0x81);
    }
    honest.are_alone(&server);
}

#[test]
fn a_will_beyond_a_kibibyte_is_refused() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    for (length, reason) in [(1_024, 0), (1_025, 0x95)] {
        let mut peer = Peer::open(server.device);
        peer.send(&will_bytes("willful", "will", 0, &vec![b'w'; length]));
        assert_eq!(peer.next_of(0x20)[3], reason, "a will of {length} bytes");
        peer.send(&[0xE0, 0]);
    }
    honest.are_alone(&server);
}

/// User properties of a packet: at most eight, at most a kibibyte.
#[test]
fn more_user_properties_than_eight_or_a_kibibyte_end_the_connection() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let property = |value: usize| [&[0x26][..], &text("k"), &bytes(&vec![b'v'; value])].concat();
    for (number, properties) in
        [property(1).repeat(9), property(1024), property(200).repeat(8)].iter().enumerate()
    {
        let mut peer = Peer::login(server.device, &format!("wordy{number}"));
        let length = packet(0, properties);
        peer.send(&packet(PUBLISH, &[&text("t")[..], &length[1..]].concat()));
        peer.is_ended_with(0x95);
    }
    honest.are_alone(&server);
}
