//! Many connections, and more than the process has descriptors for.

use crate::CLOSED;
use crate::REJECTED;
use crate::support::{PATIENCE, RawDevice, Start, TestServer, connect_bytes, until};
use serde_json::json;
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

#[test]
fn many_devices_come_and_leave_nothing_behind() {
    const DEVICES: usize = 1000;
    let server = TestServer::start();
    let registered: Vec<_> = (0..DEVICES).map(|n| server.register(&format!("d{n}"), None, &[])).collect();
    let mut devices: Vec<RawDevice> =
        registered.iter().map(|one| RawDevice::login(server.device, &server.app_key, one)).collect();
    server.api.push_text_ttl(json!("all"), "to all", 0).message_id();
    for device in &mut devices {
        let (header, _) = device.frame().expect("a PUSH");
        assert_eq!(header[4], 0x20);
    }
    drop(devices);
    let closed = || server.metric(CLOSED, &[]) as usize;
    assert!(until(PATIENCE, || closed() >= DEVICES), "{} of {DEVICES} ends are counted", closed());
    assert!(until(PATIENCE, || server.metric("longwire_connections", &[]) == 0.0));
}

#[test]
fn accept_goes_on_after_descriptors_ran_out() {
    let mut server = Start::default().descriptors(256).start();
    let mut device = server.device("d1");
    let crowd: Vec<TcpStream> = (0..600)
        .filter_map(|_| TcpStream::connect_timeout(&server.device, Duration::from_millis(500)).ok())
        .collect();
    assert!(crowd.len() > 256, "the crowd is too small to matter: {}", crowd.len());
    drop(crowd);
    // The API has sockets of its own; both must answer again.
    assert!(until(PATIENCE, || server
        .api
        .request("GET", "/healthz", None)
        .is_ok_and(|answer| answer.status == 200)));
    assert!(until(PATIENCE, || device.try_connect().is_ok()
        && matches!(device.next(Duration::from_secs(2)), Some(crate::support::Seen::Welcome(_)))));
    server.api.push_text(json!({ "registration_id": ["d1"] }), "after the crowd").message_id();
    device.expect_text("after the crowd");
    assert!(server.lives());
}

/// Issue 3, row 9; THREATS, descriptor exhaustion. 2,048 descriptors stand for 20,000: every share of them is taken.
#[test]
fn idle_sockets_that_take_every_descriptor_leave_api_store_and_log_at_work() {
    const LIMIT: u32 = 2048;
    let folder = tempfile::tempdir().unwrap();
    let start = || Start::default().folder(&folder.path().join("store")).descriptors(LIMIT);
    let said = ["limits.login_s=600", "log.level=info", "log.format=json"];
    let mut server = said.iter().fold(start(), |start, word| start.arg("--set").arg(word)).start();
    let mut device = server.device("d1");
    let silent: Vec<RawDevice> = (0..LIMIT - 200).map(|_| RawDevice::connect(server.device)).collect();
    let full = |server: &TestServer| server.metric(REJECTED, &["reason=\"full\""]) as usize;
    let places = (LIMIT / 2) as usize;
    let refused = silent.len() - places;
    assert!(until(PATIENCE, || full(&server) == refused), "{} of {refused} are refused", full(&server));
    assert_eq!(server.metric("longwire_connections", &[]) as usize, places, "as the start has said");
    assert!(
        server.log().contains(&format!("\"connections\":{places},")),
        "the capacity is said at the start"
    );
    // A new device hears why, and when to come again; not all the same.
    let refusals: Vec<(u8, u16)> = (0..20).map(|_| refusal(server.device)).collect();
    assert!(refusals.iter().all(|(reason, after_s)| *reason == 0x41 && *after_s > 0), "{refusals:?}");
    assert!(refusals.iter().any(|one| *one != refusals[0]), "spread: {refusals:?}");
    // API, metrics, store and log.
    assert_eq!(server.api.get("/healthz").status, 200);
    assert_eq!(server.api.get("/readyz").status, 200);
    server.register("d2", None, &[]);
    let pushed = server.api.push_text(json!({ "registration_id": ["d1"] }), "when all is taken");
    let message = pushed.message_id();
    assert_eq!(server.api.get(&format!("/v1/messages/{message}")).status, 200);
    server.signal_terminate();
    assert!(until(PATIENCE, || server.log().contains("draining")), "the log goes on");
    // What was answered is on the disk.
    server.kill9();
    drop(silent);
    let again = start().start();
    device.to = again.device;
    device.connect();
    device.expect_text("when all is taken");
}

/// The limit of a server that runs is lowered to what it has open and a few more: more than its own count of places foresees.
#[test]
fn a_server_whose_descriptors_are_gone_says_so_from_its_reserve() {
    const MORE: u64 = 20;
    let server = Start::default().arg("--set").arg("limits.login_s=2").start();
    let pid = rustix::process::Pid::from_raw(server.pid() as i32).unwrap();
    let open_now = || std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count() as u64;
    // What the start does beside the first requests holds descriptors of its own for a moment.
    let (mut open, mut looks) = (open_now(), 0);
    let rests = until(PATIENCE, || {
        let now = open_now();
        looks = if now == open { looks + 1 } else { 0 };
        open = now;
        looks > 50
    });
    assert!(rests, "the server never comes to rest");
    let limit = |current| {
        let now = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let limit = rustix::process::Rlimit { current, maximum: now.maximum };
        rustix::process::prlimit(Some(pid), rustix::process::Resource::Nofile, limit).unwrap()
    };
    let before = limit(Some(open + MORE));
    let mut crowd: Vec<RawDevice> = (0..3 * MORE).map(|_| RawDevice::connect(server.device)).collect();
    // Those that were let in are silent and end by the deadline; the others are told at once.
    let told = crowd.iter_mut().map(|device| {
        let (header, body) = device.frame().expect("a refusal");
        assert!(header[4] == 0x11 && u16::from_be_bytes([body[1], body[2]]) > 0, "{body:02x?}");
        body[0]
    });
    let full = told.filter(|reason| *reason == 0x41).count();
    assert!(full as u64 >= MORE, "{full} were refused");
    drop(crowd);
    assert!(until(PATIENCE, || server.api.request("GET", "/healthz", None).is_ok()));
    limit(before.current);
    assert!(server.metric(REJECTED, &["reason=\"descriptors\""]) >= MORE as f64);
    server.raw_device("d1");
}

/// The reason and the seconds of a refusal; a device that has begun to speak is told at once.
fn refusal(to: std::net::SocketAddr) -> (u8, u16) {
    let mut device = RawDevice::connect(to);
    device.send(&longwire_proto::wire::MAGIC);
    let (header, body) = device.frame().expect("a refusal");
    assert_eq!(header[4], 0x11, "CONNACK");
    (body[0], u16::from_be_bytes([body[1], body[2]]))
}

/// THREATS, slow logins: many peers that send a byte now and then, and devices that log in beside them.
#[test]
fn a_crowd_of_slow_peers_costs_no_login_and_is_gone_after_the_deadline() {
    const SLOW: usize = 2000;
    let server = Start::default()
        .arg("--set")
        .arg("limits.login_s=3")
        .arg("--set")
        .arg("limits.awaiting=1024")
        .arg("--set")
        .arg("shards.count=2")
        .start();
    let registered: Vec<_> = (0..50).map(|n| server.register(&format!("d{n}"), None, &[])).collect();
    let mut slow: Vec<RawDevice> = Vec::new();
    let mut devices = Vec::new();
    for n in 0..SLOW {
        let mut peer = RawDevice::connect(server.device);
        peer.send(&[0xCA]);
        slow.push(peer);
        // 127.0.0.1 has more silent ones than it may: the devices come from an address of their own.
        if n % 40 == 0 {
            let from = Ipv4Addr::new(127, 0, 0, 9);
            devices.push(RawDevice::login_from(from, server.device, &server.app_key, &registered[n / 40]));
        }
    }
    assert!(server.metric(REJECTED, &["reason=\"address_awaiting\""]) > 0.0);
    assert!(until(PATIENCE, || server.metric("longwire_connections_awaiting", &[]) == 0.0));
    assert_eq!(server.metric("longwire_sessions", &[]) as usize, devices.len(), "nobody else was touched");
    assert!(slow.iter_mut().all(RawDevice::closes));
}

#[test]
fn a_login_after_thousands_of_bytes_of_silence_is_still_a_login() {
    // Bytes that trickle in one by one cost the server nothing and are put together in the end.
    let server = TestServer::start();
    let registered = server.register("d1", None, &[]);
    let mut device = RawDevice::connect(server.device);
    for byte in connect_bytes(&server.app_key, &registered, 60) {
        device.send(&[byte]);
    }
    let (header, body) = device.frame().expect("an answer");
    assert_eq!((header[4], body[0]), (0x11, 0));
}
