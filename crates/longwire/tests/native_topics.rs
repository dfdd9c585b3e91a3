//! Topics of native devices: between them, MQTT clients and the API; live and kept, allowed and not.

#![allow(clippy::unwrap_used)]

mod support;

use longwire_proto::wire::ResultCode;
use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS};
use serde_json::json;
use std::time::Duration;
use support::{PATIENCE, TestServer};

/// An MQTT client of the app.
struct Mqtt {
    client: Client,
    connection: Connection,
}

impl Mqtt {
    #[track_caller]
    fn login(server: &TestServer, name: &str) -> Mqtt {
        let mut options = MqttOptions::new(name, "127.0.0.1", server.device.port());
        options.set_keep_alive(Duration::from_secs(30));
        let (client, connection) = Client::new(options, 10);
        let mut mqtt = Mqtt { client, connection };
        mqtt.await_packet(|packet| matches!(packet, Packet::ConnAck(_)).then_some(()));
        mqtt
    }

    #[track_caller]
    fn await_packet<T>(&mut self, wanted: impl Fn(Packet) -> Option<T>) -> T {
        loop {
            let event = self.connection.recv_timeout(PATIENCE).expect("a packet").expect("a connection");
            if let Event::Incoming(packet) = event
                && let Some(found) = wanted(packet)
            {
                return found;
            }
        }
    }

    #[track_caller]
    fn subscribe(&mut self, filter: &str) {
        self.client.subscribe(filter, QoS::AtLeastOnce).unwrap();
        self.await_packet(|packet| matches!(packet, Packet::SubAck(_)).then_some(()));
    }

    /// Publishes, and waits until it is taken.
    #[track_caller]
    fn publish(&mut self, topic: &str, text: &str) {
        self.client.publish(topic, QoS::AtLeastOnce, false, text).unwrap();
        self.await_packet(|packet| matches!(packet, Packet::PubAck(_)).then_some(()));
    }

    #[track_caller]
    fn expect(&mut self, topic: &str, text: &str) -> QoS {
        let got = self.await_packet(|packet| match packet {
            Packet::Publish(publish) => Some(publish),
            _ => None,
        });
        assert_eq!((got.topic.as_str(), &got.payload[..]), (topic, text.as_bytes()));
        got.qos
    }
}

/// A server whose app has these rules.
#[track_caller]
fn server(rules: &[&str]) -> TestServer {
    let server = TestServer::start();
    set_rules(&server, rules);
    server
}

#[track_caller]
fn set_rules(server: &TestServer, rules: &[&str]) {
    let path = format!("/v1/admin/apps/{}/topic_rules", server.app_key);
    let body = json!({ "topic_rules": rules }).to_string();
    let answer = server.operator().request("PUT", &path, Some(body.as_bytes())).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[track_caller]
fn publish(server: &TestServer, topic: &str, text: &str, qos: u8) {
    let body = json!({ "topic": topic, "payload": text, "qos": qos });
    let answer = server.api.post("/v1/publish", &body);
    assert_eq!(answer.status, 202, "{}", answer.text);
}

#[test]
fn devices_mqtt_clients_and_the_api_publish_to_each_other() {
    let server = server(&["allow all #"]);
    let (mut device, mut other) = (server.device("d1"), server.device("d2"));
    device.connect();
    other.connect();
    let mut mqtt = Mqtt::login(&server, "m1");
    mqtt.subscribe("from/#");
    assert_eq!(device.subscribe("a/+/b", true), ResultCode::Done);
    assert_eq!(other.subscribe("a/#", false), ResultCode::Done);
    mqtt.publish("a/1/b", "by mqtt");
    assert_eq!(device.expect_topic("a/1/b", "by mqtt"), (true, 0), "kept: by the mailbox");
    assert_eq!(other.expect_topic("a/1/b", "by mqtt"), (false, 0), "live: online-only");
    publish(&server, "a/2/b", "by the business", 1);
    assert_eq!(device.expect_topic("a/2/b", "by the business"), (true, 0));
    assert_eq!(other.expect_topic("a/2/b", "by the business"), (false, 0));
    publish(&server, "a/3/b", "at most once", 0);
    assert_eq!(device.expect_topic("a/3/b", "at most once"), (false, 0));
    assert_eq!(other.expect_topic("a/3/b", "at most once"), (false, 0));
    assert_eq!(other.publish("a/4/b", "by a device"), ResultCode::Done);
    assert_eq!(device.expect_topic("a/4/b", "by a device"), (true, 0));
    assert_eq!(other.expect_topic("a/4/b", "by a device"), (false, 0), "its own");
    assert_eq!(other.publish("from/d2", "for mqtt"), ResultCode::Done);
    assert_eq!(mqtt.expect("from/d2", "for mqtt"), QoS::AtLeastOnce);
    assert_eq!(other.publish("to/nobody", "x"), ResultCode::Done);
    publish(&server, "elsewhere", "x", 1);
    device.expect_nothing();
    other.expect_nothing();
}
