//! Python and Node clients.

use super::kit::{Scripted, VERSIONS, flow};
use super::support::TestServer;

fn in_both_versions(client: Scripted, name: &str) {
    let server = TestServer::start();
    for version in VERSIONS {
        flow(client, name, server.device, version);
    }
}

#[test]
fn paho_exchanges_every_qos() {
    in_both_versions(Scripted::Paho, "basic");
}

#[test]
fn aiomqtt_exchanges_every_qos() {
    in_both_versions(Scripted::Aiomqtt, "basic");
}

#[test]
fn mqttjs_exchanges_every_qos() {
    in_both_versions(Scripted::MqttJs, "basic");
}

#[test]
fn mqttjs_exchanges_every_qos_through_a_websocket() {
    in_both_versions(Scripted::MqttJsOverWebSocket, "basic");
}
