//! Wills: many at once, long delays, topics that are not the device's.

use crate::kit::{
    Honest, PUBLISH, Peer, drops, ends, server_with, set_rules, token_bytes, will_bytes,
};
use crate::support::{PATIENCE, TestServer, until};
use std::collections::HashSet;

fn published(server: &TestServer) -> u64 {
    server.metric("longwire_wills_published_total", &[]) as u64
}

/// Hundreds of connections die together: their wills go out a bounded number at a time, each once, and others are served meanwhile.
#[test]
fn wills_of_a_crowd_that_dies_together_all_go_out_and_nobody_waits_for_them() {
    const CROWD: usize = 600;
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let mut mourner = Peer::login(server.device, "mourner");
    assert_eq!(mourner.subscribe(&["died/#".to_owned()], 0), [0]);
    let crowd: Vec<Peer> = (0..CROWD)
        .map(|number| {
            let name = format!("mortal{number}");
            let will = will_bytes(&name, &format!("died/{number}"), 0, name.as_bytes());
            Peer::open(server.device).says_hello(&will)
        })
        .collect();
    assert_eq!(published(&server), 0);
    drop(crowd);
    honest.still_talk();
    let names: HashSet<Vec<u8>> = (0..CROWD)
        .map(|_| {
            let will = mourner.next_of(PUBLISH);
            will[will.windows(6).position(|window| window == b"mortal").unwrap()..].to_vec()
        })
        .collect();
    assert_eq!((names.len(), published(&server)), (CROWD, CROWD as u64), "each once");
    assert_eq!(server.metric("longwire_wills_dropped_total", &[]), 0.0);
    drop(mourner);
    honest.are_alone(&server);
}

/// A delay of ages is cut to an hour, and a device has one will that waits however often it dies.
#[test]
fn a_device_that_dies_often_has_one_will_that_waits() {
    const LIVES: u64 = 50;
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    for life in 1..=LIVES {
        // Clean start: the session before is over, and with it the delay of its will.
        let cat = Peer::open(server.device).says_hello(&will_bytes("cat", "died/cat", u32::MAX, b"meow"));
        drop(cat);
        assert!(until(PATIENCE, || ends(&server, "peer_closed") == life));
    }
    assert!(until(PATIENCE, || published(&server) == LIVES - 1), "{} were published", published(&server));
    assert_eq!(server.metric("longwire_wills_waiting", &[]), 1.0);
    // An end in order takes back what waits with the session.
    let mut cat = Peer::login(server.device, "cat");
    cat.send(&[0xE0, 0]);
    assert_eq!(cat.packet(), None);
    assert!(until(PATIENCE, || published(&server) == LIVES));
    honest.are_alone(&server);
}

/// The rule is asked when the will is to be published: it is dropped and counted, also one to a wildcard-free topic of the server.
#[test]
fn a_will_to_a_topic_that_is_not_the_devices_is_dropped() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    set_rules(&server, &["allow all own/%c/#"]);
    let mut listener = Peer::login(server.device, "listener");
    assert_eq!(listener.subscribe(&["own/#".to_owned()], 0), [0]);
    for (number, topic) in ["own/listener/x", "$push/text", "$SYS/x", "own/x", "other"].iter().enumerate() {
        let name = format!("dev{number}");
        drop(Peer::open(server.device).says_hello(&token_bytes(&server, &name, Some(topic))));
    }
    assert!(until(PATIENCE, || drops(&server, "not_allowed") == 5), "{}", drops(&server, "not_allowed"));
    drop(Peer::open(server.device).says_hello(&token_bytes(&server, "good", Some("own/good/x"))));
    let heard = listener.next_of(PUBLISH);
    assert!(heard.ends_with(b"good"), "{heard:02x?}");
    assert_eq!(published(&server), 1);
    // With a wildcard it is no topic at all.
    let mut bad = Peer::open(server.device);
    bad.send(&will_bytes("wild", "own/#", 0, b"x"));
    assert_eq!(bad.next_of(0x20)[3], 0x90);
    drop(listener);
    honest.are_alone(&server);
}

/// The rules changed while it was connected: what holds when it dies holds.
#[test]
fn a_will_is_judged_by_the_rules_of_its_hour() {
    let server = server_with(&[]);
    let mut honest = Honest::meet(&server);
    set_rules(&server, &["allow all #"]);
    let mortal = Peer::open(server.device).says_hello(&token_bytes(&server, "mortal", Some("any/where")));
    set_rules(&server, &["allow all own/%c/#"]);
    drop(mortal);
    assert!(until(PATIENCE, || drops(&server, "not_allowed") == 1));
    assert_eq!(published(&server), 0);
    honest.are_alone(&server);
}
