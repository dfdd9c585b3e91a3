//! What each toxic does to bytes and to the end of a stream.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::json;

use super::rig::{Rig, connect, echo, is_reset, is_silent, pair, pattern, there_and_back};

#[test]
fn without_toxics_every_byte_passes_in_order() {
    let rig = Rig::start();
    let mut client = connect(rig.proxy(echo()));
    let bytes = pattern(1_000_000);
    assert!(there_and_back(&mut client, &bytes) == bytes);
}

#[test]
fn latency_with_jitter_reorders_nothing() {
    let rig = Rig::start();
    let proxy = rig.proxy(echo());
    rig.toxic("latency", "downstream", json!({ "latency": 20, "jitter": 20 }));
    let mut client = connect(proxy);
    let bytes = pattern(300_000);
    assert!(there_and_back(&mut client, &bytes) == bytes);
}

#[test]
fn latency_holds_bytes_back() {
    let rig = Rig::start();
    let proxy = rig.proxy(echo());
    rig.toxic("latency", "upstream", json!({ "latency": 200 }));
    let mut client = connect(proxy);
    // A lower bound only: bytes that come early mean no latency, on any machine.
    let begin = Instant::now();
    client.write_all(b"ping").unwrap();
    client.read_exact(&mut [0; 4]).unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(200));
}

#[test]
fn bandwidth_slows_and_keeps_every_byte() {
    let rig = Rig::start();
    let proxy = rig.proxy(echo());
    rig.toxic("bandwidth", "downstream", json!({ "rate": 100 }));
    let mut client = connect(proxy);
    let (bytes, begin) = (pattern(40_000), Instant::now());
    assert!(there_and_back(&mut client, &bytes) == bytes);
    // 40 KB at 100 KB/s; the first 10 KB leave at once.
    assert!(begin.elapsed() >= Duration::from_millis(290));
}

#[test]
fn a_bandwidth_of_nothing_stops_the_sender_and_loses_nothing() {
    let rig = Rig::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = rig.proxy(listener.local_addr().unwrap());
    let (mut client, mut server) = pair(proxy, &listener);
    rig.toxic("bandwidth", "downstream", json!({ "rate": 0 }));
    assert!(is_silent(&mut client));
    server.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let bytes = pattern(64 * 1024 * 1024);
    let mut sent = 0;
    // The kernel's buffers fill up, then a write finds no room: back-pressure reached the server.
    let stuck = loop {
        match server.write(&bytes[sent..]) {
            Ok(count) => sent += count,
            Err(error) => break matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    };
    assert!(stuck && sent < bytes.len());
    drop(server);
    rig.heal();
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert!(got == bytes[..sent]);
}

#[test]
fn slow_close_passes_the_bytes_first_and_the_end_late() {
    let rig = Rig::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = rig.proxy(listener.local_addr().unwrap());
    rig.toxic("slow_close", "downstream", json!({ "delay": 400 }));
    let (mut client, mut server) = pair(proxy, &listener);
    server.write_all(b"last words").unwrap();
    let begin = Instant::now();
    drop(server);
    client.read_exact(&mut [0; 10]).unwrap();
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
    assert!(begin.elapsed() >= Duration::from_millis(400));
}

#[test]
fn a_timeout_drops_bytes_and_then_closes() {
    let rig = Rig::start();
    let proxy = rig.proxy(echo());
    rig.toxic("timeout", "upstream", json!({ "timeout": 200 }));
    let mut client = connect(proxy);
    client.write_all(b"into nothing").unwrap();
    assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn a_timeout_of_0_stops_data_until_it_is_taken_away() {
    let rig = Rig::start();
    let proxy = rig.proxy(echo());
    let (mut talks, mut waits) = (connect(proxy), connect(proxy));
    rig.toxic("timeout", "upstream", json!({ "timeout": 0 }));
    talks.write_all(b"into nothing").unwrap();
    assert!(is_silent(&mut talks) && is_silent(&mut waits));
    rig.heal();
    // The one that lost bytes cannot go on; the other one can.
    assert!(is_reset(&mut talks));
    assert_eq!(there_and_back(&mut waits, b"hello"), b"hello");
}

#[test]
fn reset_peer_ends_both_sides_with_a_rst() {
    let rig = Rig::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = rig.proxy(listener.local_addr().unwrap());
    let (mut client, mut server) = pair(proxy, &listener);
    rig.toxic("reset_peer", "downstream", json!({ "timeout": 50 }));
    assert!(is_reset(&mut client));
    assert!(is_reset(&mut server));
}

#[test]
fn slicer_cuts_and_keeps_the_order() {
    let rig = Rig::start();
    let proxy = rig.proxy(echo());
    rig.toxic("slicer", "downstream", json!({ "average_size": 10, "size_variation": 5, "delay": 20_000 }));
    let mut client = connect(proxy);
    let bytes = pattern(200);
    client.write_all(&bytes).unwrap();
    let (mut got, mut reads) = (Vec::new(), 0);
    while got.len() < bytes.len() {
        let mut buffer = [0; 256];
        let count = client.read(&mut buffer).unwrap();
        got.extend_from_slice(&buffer[..count]);
        reads += 1;
    }
    assert_eq!(got, bytes);
    assert!(reads > 1, "came in one piece");
}

#[test]
fn limit_data_closes_after_exactly_so_many_bytes() {
    let rig = Rig::start();
    let proxy = rig.proxy(echo());
    rig.toxic("limit_data", "downstream", json!({ "bytes": 1234 }));
    let mut client = connect(proxy);
    client.write_all(&pattern(5000)).unwrap();
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert!(got == pattern(1234), "{} bytes", got.len());
}

#[test]
fn behind_a_blackhole_not_even_the_end_is_seen() {
    let rig = Rig::start();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = rig.proxy(listener.local_addr().unwrap());
    let (mut client, mut server) = pair(proxy, &listener);
    rig.toxic("blackhole", "downstream", json!({}));
    client.write_all(b"up").unwrap();
    server.write_all(b"down").unwrap();
    assert!(is_silent(&mut client) && is_silent(&mut server));
    drop(server);
    assert!(is_silent(&mut client), "the server's end was seen");
    rig.heal();
    assert!(is_reset(&mut client), "a stream that lost bytes went on");
}

#[test]
fn toxics_change_under_a_living_connection() {
    let rig = Rig::start();
    let mut client = connect(rig.proxy(echo()));
    let said = |client: &mut std::net::TcpStream| {
        client.write_all(b"word").unwrap();
        let mut back = [0; 4];
        client.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"word");
    };
    said(&mut client);
    rig.toxic("latency", "downstream", json!({ "latency": 10 }));
    said(&mut client);
    rig.call("POST", "/proxies/p/toxics/t", json!({ "attributes": { "jitter": 5 } }));
    said(&mut client);
    rig.heal();
    said(&mut client);
}

#[test]
fn a_toxicity_of_0_touches_no_connection() {
    let rig = Rig::start();
    let proxy = rig.proxy(echo());
    let toxic = json!({ "type": "reset_peer", "toxicity": 0.0, "attributes": { "timeout": 0 } });
    rig.call("POST", "/proxies/p/toxics", toxic);
    assert_eq!(there_and_back(&mut connect(proxy), b"spared"), b"spared");
}

#[test]
fn one_connection_more_than_allowed_is_reset() {
    let rig = Rig::with_connections_max(1);
    let proxy = rig.proxy(echo());
    let mut first = connect(proxy);
    first.write_all(b"here").unwrap();
    first.read_exact(&mut [0; 4]).unwrap();
    assert!(is_reset(&mut connect(proxy)));
    assert_eq!(there_and_back(&mut first, b"still here"), b"still here");
}

#[test]
fn an_upstream_that_refuses_resets_the_client() {
    let rig = Rig::start();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(is_reset(&mut connect(rig.proxy(nobody))));
}
