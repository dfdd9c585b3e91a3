//! Topics of native devices, through the real binary.
//!
//! - `meeting`: devices, MQTT clients and the API publish to each other.
//! - `subscriptions`: what a device may subscribe to, what it gets by it, and what takes the place of what.
//! - `kept`: what waits for a device that is away.
//! - `application`: the same through the SDK.

#![allow(clippy::unwrap_used)]

mod application;
mod kept;
mod meeting;
mod subscriptions;
#[path = "../support/mod.rs"]
mod support;

use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS};
use serde_json::json;
use std::time::Duration;
use support::{PATIENCE, TestServer, until};

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
        Mqtt::connect(options)
    }

    #[track_caller]
    fn connect(options: MqttOptions) -> Mqtt {
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

/// Waits until the hub knows that only so many devices are connected.
trait Census {
    fn await_online(&self, left: u32);
}

impl Census for TestServer {
    #[track_caller]
    fn await_online(&self, left: u32) {
        let left = f64::from(left);
        let gone = until(PATIENCE, || (self.metric("longwire_sessions_online", &[]) - left).abs() < 0.5);
        assert!(gone, "they stay connected");
    }
}

#[track_caller]
fn publish(server: &TestServer, topic: &str, text: &str, qos: u8) {
    let body = json!({ "topic": topic, "payload": text, "qos": qos });
    let answer = server.api.post("/v1/publish", &body);
    assert_eq!(answer.status, 202, "{}", answer.text);
}
