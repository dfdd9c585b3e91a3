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
fn paho_will_is_published() {
    in_both_versions(Scripted::Paho, "will");
}

#[test]
fn aiomqtt_exchanges_every_qos() {
    in_both_versions(Scripted::Aiomqtt, "basic");
}

#[test]
fn aiomqtt_will_is_published() {
    in_both_versions(Scripted::Aiomqtt, "will");
}

#[test]
fn mqttjs_exchanges_every_qos() {
    in_both_versions(Scripted::MqttJs, "basic");
}

#[test]
fn mqttjs_will_is_published() {
    in_both_versions(Scripted::MqttJs, "will");
}
