//! A real server behind the fault proxy: what a bad network does to a device, and that it comes back.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod support;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use support::{Api, PATIENCE, Seen, Start, TestDevice, TestServer, until};

/// Connections that ended, by reason.
const CLOSED: &str = "longwire_connections_closed_total";

/// A `longwire bench proxy` process with one proxy, `wire`, before a server.
struct Proxy {
    process: Child,
    api: Api,
    /// Where devices connect.
    device: SocketAddr,
}

impl Proxy {
    #[track_caller]
    fn before(server: &TestServer) -> Proxy {
        let mut process = Command::new(env!("CARGO_BIN_EXE_longwire"))
            .args(["bench", "proxy", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap();
        let api = Api::new(ready["api"].as_str().unwrap().parse().unwrap(), "", "");
        let body = json!({ "name": "wire", "listen": "127.0.0.1:0", "upstream": server.device.to_string() });
        let answer = api.post("/proxies", &body);
        assert_eq!(answer.status, 201, "{}", answer.text);
        let device = answer.json["listen"].as_str().unwrap().parse().unwrap();
        Proxy { process, api, device }
    }

    #[track_caller]
    fn toxic(&self, kind: &str, attributes: Value) {
        let body = json!({ "name": "fault", "type": kind, "attributes": attributes });
        assert_eq!(self.api.post("/proxies/wire/toxics", &body).status, 200);
    }

    #[track_caller]
    fn heal(&self) {
        assert_eq!(self.api.request("DELETE", "/proxies/wire/toxics/fault", None).unwrap().status, 204);
    }

    /// A registered device that connects through the proxy.
    #[track_caller]
    fn device(&self, server: &TestServer, name: &str) -> TestDevice {
        TestDevice::new(self.device, &server.app_key, name, &server.register(name, None, &[]))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Whether the server has ended a connection for this reason.
fn has_ended(server: &TestServer, reason: &str) -> bool {
    server.metric(CLOSED, &[&format!("reason=\"{reason}\"")]) >= 1.0
}

/// Waits for that.
#[track_caller]
fn await_end(server: &TestServer, reason: &str) {
    let ended = until(PATIENCE, || has_ended(server, reason));
    assert!(ended, "no connection ended with {reason}:\n{}", server.api.get("/metrics").text);
}

#[test]
fn a_device_behind_a_blackhole_is_closed_and_comes_back_when_it_is_healed() {
    let server = Start::default().arg("--set").arg("limits.ack_s=1").start();
    let proxy = Proxy::before(&server);
    let mut device = proxy.device(&server, "d1");
    let mut other = server.device("d2");
    device.connect();
    other.connect();
    proxy.toxic("blackhole", json!({}));
    server.api.push_text(json!({ "registration_id": ["d1"] }), "into the hole").message_id();
    await_end(&server, "ack_timeout");
    // The device has heard nothing of it, and the other one is not touched.
    server.api.push_text(json!({ "registration_id": ["d2"] }), "meanwhile").message_id();
    other.expect_text("meanwhile");
    other.expect_nothing();
    proxy.heal();
    device.expect_end();
    device.connect();
    device.expect_text("into the hole");
}

#[test]
fn a_device_that_takes_no_bytes_is_closed_for_it_and_gets_them_later() {
    let server = Start::default().arg("--set").arg("limits.write_stall_s=1").start();
    let proxy = Proxy::before(&server);
    let mut device = proxy.device(&server, "d1");
    device.connect();
    proxy.toxic("bandwidth", json!({ "rate": 0 }));
    let big = "x".repeat(8000);
    // Online-only messages fill the sockets on the way, then the outbox.
    let stalled = until(PATIENCE, || {
        server.api.push_text_ttl(json!({ "registration_id": ["d1"] }), &big, 0);
        // Our own clock and the kernel's (TCP_USER_TIMEOUT) run to the same deadline; either may be first.
        ["write_stall", "peer_lost"].iter().any(|reason| has_ended(&server, reason))
    });
    assert!(stalled, "{}", server.api.get("/metrics").text);
    server.api.push_text(json!({ "registration_id": ["d1"] }), "kept for later").message_id();
    proxy.heal();
    device.connect();
    device.expect_text("kept for later");
}

#[test]
fn a_reset_a_late_and_a_sliced_network_lose_no_durable_message() {
    let server = TestServer::start();
    let proxy = Proxy::before(&server);
    let mut device = proxy.device(&server, "d1");
    let to = || json!({ "registration_id": ["d1"] });
    for (kind, attributes) in [
        ("latency", json!({ "latency": 50, "jitter": 25 })),
        ("slicer", json!({ "average_size": 7, "size_variation": 6, "delay": 100 })),
        ("bandwidth", json!({ "rate": 50 })),
    ] {
        proxy.toxic(kind, attributes);
        device.connect();
        for number in 0..20 {
            let text = format!("{kind} {number}");
            let message = server.api.push_text(to(), &text).message_id();
            device.expect_text(&text);
            server.await_count(&message, "delivered", 1);
        }
        proxy.heal();
        device.close();
    }
    device.connect();
    proxy.toxic("reset_peer", json!({ "timeout": 0 }));
    assert!(matches!(device.next(PATIENCE), Some(Seen::Ended)));
    server.api.push_text(to(), "after the reset").message_id();
    proxy.heal();
    device.connect();
    device.expect_text("after the reset");
}
