//! Floods: of messages, of bytes, of pings, of logins.

use crate::kit::{Honest, Peer, await_ends, ends};
use crate::packets::{PUBLISH_QOS_1, bytes, packet, publish, publish_id, text};
use crate::support::{PATIENCE, TestServer, until};

/// Sends until the peer has closed, at most so much.
fn pour(peer: &mut Peer, bytes: &[u8], times: usize) {
    use std::io::Write;
    peer.stream.set_write_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    for _ in 0..times {
        if peer.stream.write_all(bytes).is_err() {
            return;
        }
    }
}

/// Beyond its burst it is not read; far beyond it is ended with 0x96. Nobody else is slower for it.
#[test]
fn a_flood_of_messages_is_braked_and_ended() {
    const FLOODERS: u64 = 10;
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let small = publish("flood", b"x").repeat(1000);
    for number in 0..FLOODERS {
        let mut flooder = Peer::login(server.device, &format!("flooder{number}"));
        pour(&mut flooder, &small, 20);
        honest.still_talk();
        flooder.is_ended_with(0x96);
    }
    await_ends(&server, "inbound_rate", FLOODERS);
    honest.are_alone(&server);
}

#[test]
fn a_flood_of_bytes_is_braked() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let mut flooder = Peer::login(server.device, "flooder");
    // 2 MiB may come at once; then it is read as fast as it may send.
    pour(&mut flooder, &publish("flood", &vec![b'x'; 60 * 1024]), 60);
    honest.still_talk();
    assert!(until(PATIENCE, || server.metric("longwire_inbound_pauses_total", &[]) > 0.0));
    honest.still_talk();
    drop(flooder);
    honest.are_alone(&server);
}

/// Subscribing and unsubscribing is work as well.
#[test]
fn a_flood_of_subscriptions_is_braked_and_ended() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let mut flooder = Peer::login(server.device, "flooder");
    let pair = [
        crate::packets::subscribe_bytes(&["a/b".to_owned()], 0),
        packet(0xA2, &[&[0, 2, 0][..], &text("a/b")].concat()),
    ]
    .concat();
    pour(&mut flooder, &pair.repeat(500), 10);
    flooder.rest();
    assert_eq!(ends(&server, "inbound_rate"), 1);
    honest.are_alone(&server);
}

#[test]
fn a_flood_of_pings_is_ended() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let mut flooder = Peer::login(server.device, "flooder");
    flooder.send(&[0xC0, 0].repeat(100));
    flooder.is_ended_with(0x96);
    assert_eq!(ends(&server, "ping_rate"), 1);
    honest.are_alone(&server);
}

/// Bad logins are answered all the same, beyond twenty a minute with a time to wait; good ones from the same address get in.
#[test]
fn a_flood_of_bad_logins_keeps_no_good_one_out() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let body = [b"\0\x04MQTT\x05\xc2\0\x3c\0", &text("guess")[..], &text(&server.app_key), &bytes(&[7; 40])];
    let guess = packet(0x10, &body.concat());
    for number in 0..60 {
        let mut guesser = Peer::open(server.device);
        guesser.send(&guess);
        assert_eq!(guesser.next_of(0x20)[3], 0x86);
        if number % 20 == 0 {
            honest.still_talk();
            drop(Peer::login(server.device, "newcomer"));
        }
    }
    assert_eq!(server.metric("longwire_logins_refused_total", &["reason=\"bad_token\""]), 60.0);
    assert!(server.metric("longwire_logins_slowed_total", &[]) >= 39.0);
    honest.are_alone(&server);
}

/// Two clones of one device displace each other: after five times in a minute the newer one is told to stay away.
#[test]
fn clones_of_one_device_are_slowed_down() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let mut connected = Vec::new();
    let mut refused = 0;
    for _ in 0..20 {
        let mut clone = Peer::open(server.device);
        clone.send(&crate::packets::connect_bytes("clone"));
        match clone.next_of(0x20)[3] {
            0 => connected.push(clone),
            code => {
                assert_eq!(code, 0x9F, "connection rate exceeded");
                refused += 1;
            }
        }
    }
    assert!(refused >= 10, "{refused} were refused");
    assert_eq!(ends(&server, "taken_over") as usize, connected.len() - 1);
    assert!(server.metric("longwire_device_id_conflicts_total", &[]) >= 1.0);
    drop(connected);
    honest.are_alone(&server);
}

/// Messages without room for their answers: the window of a publisher is the server's, not its own.
#[test]
fn a_publisher_that_overruns_its_window_is_ended() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    // For the business, so that each waits for the store.
    let mut hasty = Peer::login(server.device, "hasty");
    let out: Vec<u8> = (1..=100).flat_map(|id| publish_id(PUBLISH_QOS_1, "$up/x", id, b"x")).collect();
    hasty.send(&out);
    hasty.is_ended_with(0x93);
    honest.are_alone(&server);
}
