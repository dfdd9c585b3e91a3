//! The articles' heartbeat, byte by byte (004-10, 004-13, 004-32).

use crate::support::{Dice, RawDevice, Start, TestServer};
use longwire_proto::wire::{Class, Network};
use serde_json::json;
use std::io::Read;

const PING: [u8; 8] = [0xCA, 0xFE, 0xBA, 0xBE, 0x01, 0, 0, 0];
const PONG: [u8; 8] = [0xCA, 0xFE, 0xBA, 0xBE, 0x02, 0, 0, 0];

fn expect_pong(device: &mut RawDevice) {
    let mut answer = [0; 16];
    device.stream.read_exact(&mut answer).expect("16 bytes");
    assert_eq!(answer[..8], PONG);
    assert_eq!(answer[8..], device.client.0.to_be_bytes());
}

#[test]
fn sixteen_bytes_are_answered_by_sixteen_bytes() {
    let server = TestServer::start();
    let mut device = server.raw_device("d");
    let ping = [PING, device.client.0.to_be_bytes()].concat();
    // Twice: were the first answer longer than 16 bytes, the second would begin in the wrong place.
    for _ in 0..2 {
        device.send(&ping);
        expect_pong(&mut device);
    }
}

#[test]
fn a_padded_heartbeat_is_a_heartbeat() {
    let server = Start::default().arg("--set").arg("limits.ping_s=0").start();
    let mut device = server.raw_device("d");
    let mut dice = Dice::new("padded");
    for length in 48..=112_usize {
        let mut ping = PING;
        ping[7] = length as u8;
        device.send(&[&ping[..], &device.client.0.to_be_bytes(), &dice.bytes(length)].concat());
        expect_pong(&mut device);
    }
}

#[test]
fn the_cut_of_the_bytes_does_not_matter() {
    let server = Start::default().arg("--set").arg("limits.ping_s=0").start();
    let mut device = server.raw_device("d");
    let mut dice = Dice::new("cuts");
    let mut padded = PING;
    padded[7] = 48;
    let id = device.client.0.to_be_bytes();
    let bytes = [&PING[..], &id, &padded, &id, &dice.bytes(48), &PING, &id].concat();
    for _ in 0..20 {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let length = dice.within(1..8).min(rest.len() as u64) as usize;
            device.send(&rest[..length]);
            rest = &rest[length..];
        }
        (0..3).for_each(|_| expect_pong(&mut device));
    }
}

fn set(server: &TestServer, body: &str) -> u16 {
    let path = format!("/v1/admin/apps/{}/heartbeat", server.app_key);
    server.operator().request("PUT", &path, Some(body.as_bytes())).unwrap().status
}

#[test]
fn phones_and_cellular_networks_are_assigned_three_minutes_and_others_one() {
    let server = TestServer::start();
    let mut device = server.device("d");
    for (class, network, seconds) in [
        (Class::Iot, Network::Wired, 60),
        (Class::Pc, Network::Wifi, 60),
        (Class::Phone, Network::Wifi, 180),
        (Class::Iot, Network::G2, 180),
    ] {
        device.credentials().class = class;
        device.credentials().network = network;
        assert_eq!(device.connect().heartbeat_s, seconds, "{class:?} {network:?}");
    }
}

#[test]
fn an_app_has_a_heartbeat_of_its_own_that_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    let mut device = server.device("d");
    for (body, seconds, padding) in [
        (r#"{"heartbeat":"phone"}"#, 180, 0),
        (r#"{"heartbeat":"mains","padding":48}"#, 60, 48),
        (r#"{"heartbeat":"90"}"#, 90, 0),
        (r#"{"heartbeat":5}"#, 15, 0),
        ("{}", 60, 0),
        (r#"{"heartbeat":"low_power","padding":112}"#, 300, 112),
    ] {
        assert_eq!(set(&server, body), 200, "{body}");
        let welcome = device.connect();
        assert_eq!((welcome.heartbeat_s, welcome.padding_max), (seconds, padding), "{body}");
        let registered = server.register("d", None, &[]);
        assert_eq!(registered["heartbeat"]["interval"], json!(seconds));
        assert_eq!(registered["heartbeat"]["padding"], json!(padding));
    }
    for body in
        [r#"{"heartbeat":"phones"}"#, r#"{"heartbeat":4}"#, r#"{"padding":256}"#, r#"{"interval":60}"#]
    {
        assert_eq!(set(&server, body), 400, "{body}");
    }
    assert_eq!(server.terminate().code(), Some(0));
    let server = TestServer::start_in(folder.path());
    device.to = server.device;
    let welcome = device.connect();
    assert_eq!((welcome.heartbeat_s, welcome.padding_max), (300, 112));
}

#[test]
fn a_heartbeat_of_an_unknown_app_and_of_a_stranger_is_not_set() {
    let server = TestServer::start();
    let none = server.operator().request("PUT", "/v1/admin/apps/none/heartbeat", Some(b"{}")).unwrap();
    assert_eq!(none.status, 404);
    let path = format!("/v1/admin/apps/{}/heartbeat", server.app_key);
    assert_eq!(server.api.request("PUT", &path, Some(b"{}")).unwrap().status, 401);
}

#[test]
fn devices_that_come_together_are_told_to_beat_apart() {
    let server = Start::default().arg("--set=shards.count=2").start();
    let mut devices: Vec<_> = (0..40).map(|number| server.device(&format!("d{number}"))).collect();
    let mut eighths = [0_u32; 8];
    for device in &mut devices {
        eighths[usize::from(device.connect().phase) >> 13] += 1;
    }
    assert!(eighths.iter().all(|count| (2..=8).contains(count)), "{eighths:?}");
}

#[test]
fn the_back_off_and_the_profile_are_the_nodes_configuration() {
    let server = Start::default()
        .arg("--set=backoff.steps=2 4 30")
        .arg("--set=backoff.jitter_ms=250")
        .arg("--set=heartbeat.profile=low_power")
        .arg("--set=heartbeat.padding=20")
        .start();
    let registered = server.register("d", None, &[]);
    assert_eq!(registered["backoff"], json!({ "steps": [2, 4, 30], "jitter_ms": 250 }));
    let welcome = server.device("d").connect();
    assert_eq!((welcome.back_off.steps_s, welcome.back_off.jitter_ms), (vec![2, 4, 30], 250));
    assert_eq!((welcome.heartbeat_s, welcome.padding_max), (300, 20));
    for spoilt in ["backoff.steps=", "backoff.steps=1 2 0", "backoff.steps=1,2", "heartbeat.profile=fast"] {
        let (status, said) = Start::default().arg(&format!("--set={spoilt}")).must_fail();
        assert_eq!(status.code(), Some(2), "{spoilt}: {said}");
    }
}

#[test]
fn the_articles_histogram_and_the_shards_connections_are_shown() {
    let server = Start::default().arg("--set=shards.count=2").start();
    let mut device = server.device("d");
    device.connect();
    device.expect_nothing();
    let text = server.api.get("/metrics").text;
    let bounds: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("im_heartbeat_latency_bucket{le=\"")?.split('"').next())
        .collect();
    assert_eq!(bounds, ["0.0", "5.0", "10.0", "50.0", "100.0", "200.0", "500.0", "1000.0", "+Inf"]);
    assert_eq!(server.metric("im_heartbeat_latency_count", &[]), 1.0);
    let shards = |at: usize| server.metric("longwire_shard_connections", &[&format!("shard=\"{at}\"")]);
    assert_eq!(shards(0) + shards(1), 1.0);
}
