//! One port, many layers, through the real binary: TLS, WebSocket, PROXY; certificates changed while devices are connected.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "support/mod.rs"]
mod support;

use longwire_proto::close::CloseReason;
use longwire_proto::wire::mqtt::Version;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;
use support::{
    LayeredDevice, MqttDevice, PATIENCE, Pipe, Start, TestServer, certify, count_of, framed, mqtt_lives,
    secure, socket, until,
};

const NATIVE: &str = "longwire.v1";
const CLOSED: &str = "longwire_connections_closed_total";

fn with_certificate(folder: &Path) -> Start {
    let file = |name: &str| folder.join(name).display().to_string();
    Start::default()
        .arg("--set")
        .arg(&format!("listener.device.tls.certificate={}", file("cert.pem")))
        .arg("--set")
        .arg(&format!("listener.device.tls.key={}", file("key.pem")))
}

#[track_caller]
fn login(server: &TestServer, name: &str, pipe: Box<dyn Pipe>) -> LayeredDevice {
    LayeredDevice::login(pipe, &server.app_key, &server.register(name, None, &[]))
}

#[track_caller]
fn push_to_all(server: &TestServer, text: &str) -> String {
    server.api.push_text(json!("all"), text).message_id()
}

#[test]
fn devices_of_every_transport_get_what_is_pushed() {
    let folder = tempfile::tempdir().unwrap();
    let trusting = certify(folder.path());
    let mut server = with_certificate(folder.path()).start();
    let to = server.device;
    let mut devices = [
        login(&server, "plain", Box::new(socket(to))),
        login(&server, "web", Box::new(framed(socket(to), NATIVE))),
        login(&server, "tls", Box::new(secure(socket(to), &trusting).unwrap())),
        login(&server, "both", Box::new(framed(secure(socket(to), &trusting).unwrap(), NATIVE))),
    ];
    let message = push_to_all(&server, "to everybody");
    for device in &mut devices {
        assert!(String::from_utf8_lossy(&device.push()).contains("to everybody"));
        device.beat();
    }
    server.await_count(&message, "delivered", 4);
    assert_eq!(server.metric("longwire_tls_handshakes_total", &[]), 2.0);
    // A drain is told through all layers.
    server.signal_terminate();
    for device in &mut devices {
        let told = device.ended();
        assert_eq!(told, CloseReason::Draining);
    }
    assert!(server.await_exit().success());
}

#[test]
fn mqtt_lives_in_every_transport() {
    let folder = tempfile::tempdir().unwrap();
    let trusting = certify(folder.path());
    let server = with_certificate(folder.path()).start();
    let to = server.device;
    mqtt_lives(socket(to), "plain");
    mqtt_lives(framed(socket(to), "mqtt"), "web");
    mqtt_lives(secure(socket(to), &trusting).unwrap(), "tls");
    mqtt_lives(framed(secure(socket(to), &trusting).unwrap(), "mqtt"), "both");
    assert!(until(PATIENCE, || server.metric("longwire_sessions", &[]) == 0.0));
}

/// What a device of the crowd speaks.
enum Device {
    Native(LayeredDevice),
    Mqtt(MqttDevice),
}

/// Hundreds of devices at one listener, of every protocol through every transport, and among them peers that speak nothing that is
/// taken: all devices log in, all get a push to all without having subscribed, all acks are counted.
#[test]
fn a_mixed_crowd_at_one_port_gets_what_is_pushed_to_all() {
    const ROUNDS: usize = 30;
    let folder = tempfile::tempdir().unwrap();
    let trusting = certify(folder.path());
    let server = with_certificate(folder.path()).start();
    let to = server.device;
    let secured = || secure(socket(to), &trusting).unwrap();
    let mut crowd = Vec::new();
    for round in 0..ROUNDS {
        let ways: [(&str, Option<Version>, Box<dyn Pipe>); 10] = [
            ("native", None, Box::new(socket(to))),
            ("native-ws", None, Box::new(framed(socket(to), NATIVE))),
            ("native-tls", None, Box::new(secured())),
            ("native-wss", None, Box::new(framed(secured(), NATIVE))),
            ("mqtt3", Some(Version::V311), Box::new(socket(to))),
            ("mqtt3-tls", Some(Version::V311), Box::new(secured())),
            ("mqtt5", Some(Version::V5), Box::new(socket(to))),
            ("mqtt5-ws", Some(Version::V5), Box::new(framed(socket(to), "mqtt"))),
            ("mqtt5-tls", Some(Version::V5), Box::new(secured())),
            ("mqtt5-wss", Some(Version::V5), Box::new(framed(secured(), "mqtt"))),
        ];
        for (name, version, pipe) in ways {
            let registered = server.register(&format!("{name}-{round}"), None, &[]);
            crowd.push(match version {
                None => Device::Native(LayeredDevice::login(pipe, &server.app_key, &registered)),
                Some(version) => Device::Mqtt(MqttDevice::login(pipe, version, &server.app_key, &registered)),
            });
        }
        socket(to).write_all(b"EHLO mail.example\r\n").unwrap();
    }
    let message = push_to_all(&server, "to the whole crowd");
    for device in &mut crowd {
        let payload = match device {
            Device::Native(device) => device.push(),
            Device::Mqtt(device) => {
                let (topic, payload) = device.message();
                assert_eq!(topic, "$push/text");
                payload
            }
        };
        assert!(String::from_utf8_lossy(&payload).contains("to the whole crowd"));
    }
    let counted = server.await_count(&message, "delivered", 10 * ROUNDS as u64);
    assert_eq!(count_of(&counted, "delivered"), 10 * ROUNDS as u64, "{counted}");
    assert_eq!(server.metric("longwire_tls_handshakes_total", &[]), (5 * ROUNDS) as f64);
    assert!(until(PATIENCE, || server.metric(CLOSED, &["bad_magic"]) == ROUNDS as f64));
}

/// Each listener takes what it says and refuses the rest, by name; a device is the same at all of them.
#[test]
fn each_listener_takes_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let trusting = certify(folder.path());
    let names = ["mqtt", "mqtts", "ws", "wss"];
    let start = names.iter().fold(with_certificate(folder.path()), |start, name| {
        start.arg("--set").arg(&format!("listener.{name}.bind=127.0.0.1:0"))
    });
    let server = start.start();
    let [mqtt, mqtts, ws, wss] = names.map(|name| server.listener(name));
    assert_eq!(server.listener("device"), server.device);
    let secured = |to| secure(socket(to), &trusting);
    mqtt_lives(socket(mqtt), "mqtt");
    mqtt_lives(secured(mqtts).unwrap(), "mqtts");
    mqtt_lives(framed(socket(ws), "mqtt"), "ws");
    mqtt_lives(framed(secured(wss).unwrap(), "mqtt"), "wss");
    mqtt_lives(framed(secured(server.device).unwrap(), "mqtt"), "device");
    login(&server, "native", Box::new(framed(socket(ws), NATIVE))).beat();
    // MQTT's port takes no native frames, no WebSocket and no TLS; the ports of TLS and WebSocket nothing outside them.
    let refused = |count: f64| until(PATIENCE, || server.metric(CLOSED, &["wrong_protocol"]) == count);
    let mut count = 0.0;
    let connect = b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01a";
    let native = b"\xca\xfe\xba\xbe\0\0\0\0\0\0\0\0\0\0\0\0";
    let request = b"GET /mqtt HTTP/1.1\r\n";
    for (to, bytes) in [
        (mqtt, &native[..]),
        (mqtt, &request[..]),
        (mqtts, &connect[..]),
        (mqtts, &native[..]),
        (ws, &connect[..]),
        (ws, &native[..]),
        (wss, &connect[..]),
        (wss, &request[..]),
    ] {
        let mut stream = socket(to);
        stream.write_all(bytes).unwrap();
        count += 1.0;
        assert!(refused(count), "{to}: {bytes:?}");
    }
    for to in [mqtt, ws] {
        assert!(secured(to).is_err());
        count += 1.0;
        assert!(refused(count), "TLS at {to}");
    }
    // Inside TLS it is judged anew.
    let mut inside = secured(wss).unwrap();
    inside.write_all(connect).unwrap();
    inside.flush().unwrap();
    assert!(refused(count + 1.0));
    let mut inside = secured(mqtts).unwrap();
    inside.write_all(native).unwrap();
    inside.flush().unwrap();
    assert!(refused(count + 2.0));
}

/// The last line of a scenario: its figures.
#[track_caller]
fn measured(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_longwire"))
        .arg("bench")
        .args(arguments)
        .arg("--json")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(said.lines().last().unwrap()).unwrap()
}

/// The scenarios that measure all this, small: what they count is whole. What they time is not looked at.
#[test]
fn the_scenarios_count_everybody() {
    let mixed = measured(&["mixed-transports", "--devices", "60", "--pushes", "2"]);
    assert_eq!(
        (&mixed["devices"], &mixed["acked_least"], &mixed["lost"]),
        (&json!(60), &json!(60), &json!(0))
    );
    let kinds = mixed["kinds"].as_array().unwrap();
    assert!(kinds.len() == 10 && kinds.iter().all(|kind| kind["received"] == 12), "{mixed}");
    let shaken = measured(&["handshake", "--turns", "1", "--turn-ms", "300", "--clients", "8"]);
    assert_eq!(shaken["lost"], 0);
    for (kind, resumes) in
        [("tls13_full", false), ("tls12_full", false), ("tls13_resumed", true), ("tls12_resumed", true)]
    {
        let count = |what: &str| shaken[kind][what].as_u64().unwrap();
        let missing = count("handshakes") - count("resumed");
        assert!(if resumes { missing <= 8 } else { missing == count("handshakes") }, "{kind}: {shaken}");
    }
    let stalled =
        measured(&["stalled-handshakes", "--count", "40", "--seconds", "1", "--logins-per-s", "10"]);
    assert_eq!((&stalled["stalled_at_once"], &stalled["left"]), (&json!(40), &json!(0)));
    assert_eq!((&stalled["closed"]["login_timeout"], &stalled["lost"]), (&json!(40.0), &json!(0)));
}

/// New handshakes meet the new certificate, connections stay, and a file that cannot be used changes nothing.
#[test]
fn sighup_reads_certificates_again_and_ends_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let before = certify(folder.path());
    let server = with_certificate(folder.path()).start();
    let secured = |config| secure(socket(server.device), config);
    let mut old = login(&server, "old", Box::new(secured(&before).unwrap()));
    let mut plain = login(&server, "plain", Box::new(socket(server.device)));
    let after = certify(folder.path());
    assert!(secured(&after).is_err(), "nothing is read before it is told");
    server.signal_hangup();
    assert!(until(PATIENCE, || secured(&after).is_ok()));
    assert!(secured(&before).is_err());
    let mut new = login(&server, "new", Box::new(secured(&after).unwrap()));
    for damage in ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        std::fs::write(folder.path().join("cert.pem"), damage).unwrap();
        let told = |server: &TestServer| server.log().matches("the certificates in use stay").count();
        let count = told(&server);
        server.signal_hangup();
        assert!(until(PATIENCE, || told(&server) > count), "{}", server.log());
        assert!(server.log().contains("cert.pem"));
        assert!(secured(&after).is_ok());
    }
    // The operator may say it through the API, and is told what is wrong.
    let reload = || server.operator().post("/v1/admin/reload", &json!({}));
    let answer = reload();
    assert_eq!((answer.status, &answer.json["certificates"]), (200, &json!("kept")), "{}", answer.text);
    assert!(answer.text.contains("cert.pem"), "{}", answer.text);
    let last = certify(folder.path());
    assert_eq!(reload().json, json!({ "certificates": "read" }));
    assert!(secured(&last).is_ok() && secured(&after).is_err());
    for device in [&mut old, &mut plain, &mut new] {
        device.beat();
    }
    push_to_all(&server, "still here");
    for device in [&mut old, &mut plain, &mut new] {
        assert!(String::from_utf8_lossy(&device.push()).contains("still here"));
    }
}

#[test]
fn a_server_without_certificates_outlives_sighup_and_takes_no_tls() {
    let folder = tempfile::tempdir().unwrap();
    let trusting = certify(folder.path());
    let server = TestServer::start();
    let mut device = login(&server, "one", Box::new(framed(socket(server.device), NATIVE)));
    server.signal_hangup();
    assert_eq!(
        server.api.post("/v1/admin/reload", &json!({})).status,
        401,
        "an app's secret opens nothing there"
    );
    assert_eq!(
        server.operator().post("/v1/admin/reload", &json!({})).json,
        json!({ "certificates": "none" })
    );
    assert!(secure(socket(server.device), &trusting).is_err());
    assert!(until(PATIENCE, || server.metric(CLOSED, &["wrong_protocol"]) == 1.0));
    device.beat();
}

#[test]
fn certificates_that_cannot_be_used_stop_the_start_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let (status, said) = with_certificate(folder.path()).must_fail();
    assert!(!status.success() && said.contains("cert.pem") && said.contains("check the path"), "{said}");
    certify(folder.path());
    let other = tempfile::tempdir().unwrap();
    certify(other.path());
    std::fs::copy(other.path().join("key.pem"), folder.path().join("key.pem")).unwrap();
    let (status, said) = with_certificate(folder.path()).must_fail();
    assert!(!status.success() && said.contains("does not belong to"), "{said}");
}

#[test]
fn a_load_balancer_must_introduce_its_devices() {
    let server = Start::default().arg("--set").arg("listener.device.proxy_from=127.0.0.1 192.0.2.1").start();
    let introduced = |name: &str| {
        let mut stream = socket(server.device);
        stream.write_all(b"PROXY TCP4 203.0.113.7 127.0.0.1 5000 7800\r\n").unwrap();
        login(&server, name, Box::new(stream))
    };
    introduced("one").beat();
    let mut silent = socket(server.device);
    silent.write_all(b"\xca\xfe\xba\xbe").unwrap();
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).unwrap();
    assert!(until(PATIENCE, || server.metric(CLOSED, &["bad_proxy_header"]) == 1.0));
    introduced("two").beat();
}
