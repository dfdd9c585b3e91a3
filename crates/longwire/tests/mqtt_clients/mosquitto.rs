//! mosquitto_pub and mosquitto_sub.

use super::kit::{Running, VERSIONS, ends_well};
use super::support::TestServer;
use std::net::SocketAddr;
use std::process::Command;

fn client(program: &str, server: SocketAddr, version: u8, id: &str, topic: &str, qos: u8) -> Command {
    // Its debug lines are waited for, so they must not stay in a buffer.
    let mut command = Command::new("stdbuf");
    command.args(["-oL", program]);
    let protocol = if version == 5 { "mqttv5" } else { "mqttv311" };
    command.args(["-h", "127.0.0.1", "-p", &server.port().to_string(), "-V", protocol, "-i", id]);
    command.args(["-t", topic, "-q", &qos.to_string()]);
    command
}

/// A subscriber that prints topic, QoS, retain flag and payload, and is known to be subscribed.
fn reader(server: SocketAddr, version: u8, id: &str, topic: &str) -> Running {
    let mut command = client("mosquitto_sub", server, version, id, topic, 2);
    command.args(["-d", "-F", "got %t %q %r %p"]);
    let reader = Running::start(command);
    reader.await_word("Subscribed");
    reader
}

/// The next message, debug lines skipped.
fn message(reader: &Running) -> String {
    loop {
        let line = reader.line();
        if let Some(message) = line.strip_prefix("got ") {
            return message.to_owned();
        }
    }
}

#[test]
fn mosquitto_exchanges_every_qos() {
    let server = TestServer::start();
    for version in VERSIONS {
        let topic = format!("mosquitto/{version}");
        let reader = reader(server.device, version, &format!("reader{version}"), &topic);
        for qos in 0..3 {
            let mut writer = client("mosquitto_pub", server.device, version, "writer", &topic, qos);
            writer.args(["-m", &format!("message {qos}")]);
            ends_well(writer);
            assert_eq!(message(&reader), format!("{topic} {qos} 0 message {qos}"));
        }
    }
}
