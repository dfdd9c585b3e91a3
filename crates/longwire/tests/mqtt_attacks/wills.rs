//! Wills: many at once, long delays, topics that are not the device's.

use crate::kit::{Honest, Peer, drops, ends, server_with, set_rules};
use crate::packets::{PUBLISH, token_bytes, will_bytes};
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

/// A server that is killed owes the wills of those who were connected, where their sessions are kept, and of those who waited: they go
/// out after the next start, once; one whose session has ended in order, or is not kept, does not.
#[test]
fn wills_of_kept_sessions_outlive_a_kill_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    let connected =
        Peer::open(server.device).says_hello(&will_bytes("connected", "died/connected", 0, b"me"));
    let patient = Peer::open(server.device).says_hello(&will_bytes("patient", "died/patient", 1, b"me"));
    let waiting = Peer::open(server.device).says_hello(&will_bytes("waiting", "died/waiting", 3, b"me"));
    let mut orderly = Peer::open(server.device).says_hello(&will_bytes("orderly", "died/orderly", 0, b"me"));
    let published_before =
        Peer::open(server.device).says_hello(&will_bytes("before", "died/before", 0, b"me"));
    let returning =
        Peer::open(server.device).says_hello(&will_bytes("returning", "died/returning", 3600, b"me"));
    orderly.send(&[0xE0, 0]);
    assert_eq!(orderly.packet(), None);
    drop(published_before);
    assert!(until(PATIENCE, || published(&server) == 1));
    drop(waiting);
    assert!(until(PATIENCE, || server.metric("longwire_wills_waiting", &[]) == 1.0));
    let_it_write(&server, "last");
    server.kill9();
    drop((connected, patient, returning));
    let mut server = TestServer::start_in(folder.path());
    let mut mourner = Peer::login(server.device, "mourner");
    assert_eq!(mourner.subscribe(&["died/#".to_owned()], 0), [0]);
    // It comes back before its will is due.
    let resumed = crate::packets::resume_bytes("returning");
    let mut back = Peer::open(server.device);
    back.send(&resumed);
    let connack = back.next_of(0x20);
    assert_eq!((connack[2], connack[3]), (1, 0), "the session is there");
    let mut honest = Honest::meet(&server);
    let mut died: Vec<String> = (0..3)
        .map(|_| {
            let will = mourner.next_of(PUBLISH);
            let length = usize::from(will[3]);
            String::from_utf8(will[4..4 + length].to_vec()).unwrap()
        })
        .collect();
    died.sort_unstable();
    assert_eq!(died, ["died/connected", "died/patient", "died/waiting"]);
    assert_eq!(server.metric("longwire_wills_called_back_total", &[]), 1.0);
    drop((mourner, back));
    honest.are_alone(&server);
    assert_eq!(published(&server), 3);
    // That they have gone out is stored as well.
    let_it_write(&server, "last");
    server.kill9();
    let server = TestServer::start_in(folder.path());
    assert_eq!(server.metric("longwire_wills_waiting", &[]), 0.0);
}

/// Ends of sessions and of wills are written before the next wills go out. So one more will, of a session that is not kept, shows that
/// they are.
#[track_caller]
fn let_it_write(server: &TestServer, name: &str) {
    let before = published(server);
    drop(Peer::open(server.device).says_hello(&token_bytes(server, name, Some(&format!("device/{name}/x")))));
    assert!(until(PATIENCE, || published(server) == before + 1));
}

/// A newer connection of the device goes on with the session, and calls the delayed will back; or begins another, and the will goes
/// out.
#[test]
fn a_will_that_a_newer_connection_meets_goes_with_its_session() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let willful = will_bytes("twice", "died/twice", 3600, b"me");
    let called_back = || server.metric("longwire_wills_called_back_total", &[]);
    let older = Peer::open(server.device).says_hello(&willful);
    let mut newer = Peer::open(server.device);
    newer.send(&crate::packets::resume_bytes("twice"));
    assert_eq!(newer.next_of(0x20)[2..4], [1, 0], "resumed");
    assert!(until(PATIENCE, || called_back() == 1.0));
    let third = Peer::open(server.device).says_hello(&willful);
    let fourth = Peer::open(server.device).says_hello(&willful);
    assert!(until(PATIENCE, || published(&server) == 1), "the third's");
    assert_eq!((called_back(), ends(&server, "taken_over")), (1.0, 3));
    let last = Peer::login(server.device, "twice");
    assert!(until(PATIENCE, || published(&server) == 2), "the fourth's");
    drop((older, newer, third, fourth, last));
    honest.are_alone(&server);
}
