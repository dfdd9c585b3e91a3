//! A load balancer in front, which names the peer.

use super::client::{Framed, Talker, connect_frame, socket};
use crate::rig::{Rig, options, welcome};
use longwire_proto::close::CloseReason;
use longwire_server::delivery::border::Event;
use longwire_server::gate::GateOptions;
use longwire_server::gate::transport::ListenerTerms;
use std::io::Write;
use std::sync::Arc;

const V1: &[u8] = b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 7800\r\n";

fn v2() -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
    header.extend([203, 0, 113, 9, 10, 0, 0, 1, 0xdc, 4, 0x1e, 0x78]);
    header
}

fn behind(proxies: &[&str]) -> GateOptions {
    let proxies = proxies.iter().map(|ip| ip.parse().unwrap()).collect();
    GateOptions { listeners: Arc::new([ListenerTerms { proxies, ..ListenerTerms::default() }]), ..options() }
}

fn peer_of(rig: &Rig, client: u64) -> String {
    let handle = rig.handle(client);
    let events = rig.events.lock().unwrap();
    let peer = events.iter().find_map(|event| match event {
        Event::Login(login) if login.from == handle => Some(login.peer),
        _ => None,
    });
    peer.unwrap().to_string()
}

#[test]
fn the_header_says_who_is_connected() {
    let rig = Rig::new(behind(&["127.0.0.1"]), welcome);
    for (client, header, peer) in [(1, V1.to_vec(), "203.0.113.7:56324"), (2, v2(), "203.0.113.9:56324")] {
        // In one write with the login, and byte by byte.
        let mut stream = socket(&rig);
        stream.write_all(&[&header[..], &connect_frame(client)].concat()).unwrap();
        let mut device = Talker::new(stream, client);
        assert!(device.next().is_some());
        assert_eq!(peer_of(&rig, client), peer);
        device.beat();
        let mut stream = socket(&rig);
        header.iter().for_each(|byte| stream.write_all(&[*byte]).unwrap());
        let mut device = Talker::login(Framed::open(stream, "longwire.v1").unwrap(), client + 10);
        device.beat();
        assert_eq!(peer_of(&rig, client + 10), peer);
    }
    // A probe of the load balancer itself, and one that says nothing.
    for (client, header) in [(3, &b"PROXY UNKNOWN\r\n"[..]), (4, b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00")] {
        let mut stream = socket(&rig);
        stream.write_all(header).unwrap();
        let own = stream.local_addr().unwrap().to_string();
        Talker::login(stream, client).beat();
        assert_eq!(peer_of(&rig, client), own);
    }
}

#[test]
fn a_header_is_required_from_a_load_balancer_and_refused_from_others() {
    let ended = |rig: &Rig, count: u64| {
        let seen = rig.until(|rig| (rig.closed(CloseReason::BadProxyHeader) == count).then_some(()));
        assert!(seen.is_some(), "{}", rig.closed(CloseReason::BadProxyHeader));
        assert!(rig.until(|rig| (rig.sum(|stats| &stats.connections) == 0).then_some(())).is_some());
        assert_eq!(rig.sum(|stats| &stats.awaiting), 0);
    };
    let rig = Rig::new(behind(&["127.0.0.1"]), welcome);
    let twice = [V1, V1].concat();
    let starts: [&[u8]; 5] = [
        &connect_frame(1),
        b"PROXY TCP4 here there 1 2\r\n",
        &[b'P'; 200],
        &twice,
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
    ];
    for (count, start) in starts.iter().enumerate() {
        let mut stream = socket(&rig);
        stream.write_all(start).unwrap();
        ended(&rig, count as u64 + 1);
    }
    // An address that is not a load balancer's may not say who it is.
    for proxies in [&["192.0.2.1"][..], &[]] {
        let rig = Rig::new(behind(proxies), welcome);
        let mut stream = socket(&rig);
        stream.write_all(V1).unwrap();
        ended(&rig, 1);
        rig.login(1).nothing_before_pong();
    }
}

/// The bound on connections of an address holds for whom the load balancer names, not for itself.
#[test]
fn limits_of_an_address_hold_for_the_named_one() {
    let rig = Rig::new(GateOptions { address_connections_max: 2, ..behind(&["127.0.0.1"]) }, welcome);
    let login = |client: u64, host: u8| {
        let mut stream = socket(&rig);
        stream.write_all(format!("PROXY TCP4 203.0.113.{host} 10.0.0.1 5 6\r\n").as_bytes()).unwrap();
        stream.write_all(&connect_frame(client)).unwrap();
        Talker::new(stream, client)
    };
    let mut devices: Vec<_> = (1..=6).map(|client| login(client, client as u8 / 2)).collect();
    for device in &mut devices {
        assert!(device.next().is_some());
        device.beat();
    }
    let mut third = login(7, 1);
    third.next();
    assert!(rig.until(|rig| (rig.closed(CloseReason::Full) == 1).then_some(())).is_some());
    // A place that is given back is theirs again.
    drop(devices);
    assert!(rig.until(|rig| (rig.sum(|stats| &stats.connections) == 0).then_some(())).is_some());
    let mut again = login(8, 1);
    assert!(again.next().is_some());
    again.beat();
}
