//! Many connections, and more than the process has descriptors for.

use crate::CLOSED;
use crate::support::{PATIENCE, RawDevice, Start, TestServer, connect_bytes, until};
use serde_json::json;
use std::net::TcpStream;
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
