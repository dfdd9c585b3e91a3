//! Topics of native devices: between them, MQTT clients and the API; live and kept, allowed and not.

#![allow(clippy::unwrap_used)]

mod support;

use longwire_proto::wire::mqtt::RetainHandling;
use longwire_proto::wire::{DeviceFrame, Publish, ResultCode, SelfService, Subscribe, push_flags};
use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS};
use serde_json::json;
use std::time::Duration;
use support::{PATIENCE, Seen, TestServer, until};

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

#[test]
fn what_is_published_while_a_device_is_away_waits_for_it_also_over_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    set_rules(&server, &["allow all #"]);
    let mut device = server.device("d1");
    device.connect();
    assert_eq!(device.subscribe("kept/#", true), ResultCode::Done);
    assert_eq!(device.subscribe("live/#", false), ResultCode::Done);
    device.close();
    server.await_online(0);
    publish(&server, "kept/1", "while away", 1);
    publish(&server, "kept/2", "at most once", 0);
    publish(&server, "live/1", "for nobody", 1);
    device.connect();
    assert_eq!(device.expect_topic("kept/1", "while away"), (true, push_flags::MAY_REPEAT));
    device.expect_nothing();
    publish(&server, "live/2", "for nobody", 1);
    publish(&server, "kept/3", "at most once", 0);
    assert_eq!(device.expect_topic("kept/3", "at most once"), (false, 0), "it is subscribed again");
    device.close();
    server.await_online(0);
    publish(&server, "kept/4", "before the kill", 1);
    server.kill9();
    let server = TestServer::start_in(folder.path());
    publish(&server, "kept/5", "after the kill", 1);
    device.to = server.device;
    device.connect();
    assert_eq!(device.expect_topic("kept/4", "before the kill"), (true, push_flags::MAY_REPEAT));
    assert_eq!(device.expect_topic("kept/5", "after the kill"), (true, push_flags::MAY_REPEAT));
    assert_eq!(device.unsubscribe("kept/#"), ResultCode::Done);
    publish(&server, "kept/6", "too late", 1);
    device.expect_nothing();
    device.close();
    device.connect();
    device.expect_nothing();
}

#[test]
fn rules_hold_for_native_devices_from_the_moment_they_are_set() {
    let server = TestServer::start();
    let mut device = server.device("d1");
    device.connect();
    assert_eq!(device.subscribe("device/d1/#", true), ResultCode::Done, "its own corner");
    assert_eq!(device.publish("device/d1/x", "own"), ResultCode::Done);
    assert_eq!(device.expect_topic("device/d1/x", "own"), (true, 0));
    for filter in ["device/d2/#", "device/+/x", "#", "other", "$share/g/other", "$SYS/#"] {
        assert_eq!(device.subscribe(filter, false), ResultCode::NotAllowed, "{filter}");
    }
    assert_eq!(device.publish("device/d2/x", "x"), ResultCode::NotAllowed);
    assert_eq!(device.publish("other", "x"), ResultCode::NotAllowed);
    set_rules(&server, &["deny subscribe secret/#", "allow subscribe #", "allow publish out/%c/#"]);
    assert_eq!(device.subscribe("other", false), ResultCode::Done);
    assert_eq!(device.subscribe("#", false), ResultCode::NotAllowed, "it would meet secret/#");
    assert_eq!(device.subscribe("secret/x", true), ResultCode::NotAllowed);
    assert_eq!(device.publish("out/d1/x", "x"), ResultCode::Done);
    assert_eq!(device.publish("out/d2/x", "x"), ResultCode::NotAllowed);
    publish(&server, "other", "hello", 0);
    assert_eq!(device.expect_topic("other", "hello"), (false, 0));
    assert!(server.metric("longwire_topic_dropped_total", &["reason=\"not_allowed\""]) >= 3.0);
}

#[test]
fn bad_filters_too_many_and_unsubscribing_are_answered() {
    let server = server(&["allow all #"]);
    let mut device = server.device("d1");
    device.connect();
    for filter in ["a/#/b", "a+", "$share/g", "a/".repeat(20).as_str()] {
        assert_eq!(device.subscribe(filter, false), ResultCode::NotAllowed, "{filter}");
        assert_eq!(device.unsubscribe(filter), ResultCode::NotAllowed, "{filter}");
    }
    assert_eq!(device.unsubscribe("never/made"), ResultCode::Done);
    assert_eq!(device.publish("a/+", "x"), ResultCode::NotAllowed);
    for number in 0..100 {
        assert_eq!(device.subscribe(&format!("f/{number}"), number % 2 == 0), ResultCode::Done);
    }
    assert_eq!(device.subscribe("one/more", false), ResultCode::Quota);
    assert_eq!(device.subscribe("one/more", true), ResultCode::Quota);
    assert_eq!(device.subscribe("f/7", true), ResultCode::Done, "a change is no new one");
    for filter in ["f/6", "f/7", "f/9"] {
        assert_eq!(device.unsubscribe(filter), ResultCode::Done);
        publish(&server, filter, "too late", 1);
    }
    assert_eq!(device.subscribe("one/more", false), ResultCode::Done);
    publish(&server, "one/more", "hello", 1);
    assert_eq!(device.expect_topic("one/more", "hello"), (false, 0));
    device.expect_nothing();
}

#[test]
fn overlapping_subscriptions_give_one_copy_and_a_new_one_takes_the_place_of_the_old() {
    let server = server(&["allow all #"]);
    let mut device = server.device("d1");
    device.connect();
    assert_eq!(device.subscribe("a/#", false), ResultCode::Done);
    assert_eq!(device.subscribe("a/b", true), ResultCode::Done);
    publish(&server, "a/b", "once", 1);
    assert_eq!(device.expect_topic("a/b", "once"), (true, 0));
    publish(&server, "a/c", "live", 1);
    assert_eq!(device.expect_topic("a/c", "live"), (false, 0));
    assert_eq!(device.subscribe("a/b", false), ResultCode::Done);
    publish(&server, "a/b", "live now", 1);
    assert_eq!(device.expect_topic("a/b", "live now"), (false, 0));
    device.expect_nothing();
    let own = |filter| Subscribe { filter, kept: true, no_local: true, retained: RetainHandling::DoNotSend };
    assert_eq!(device.unsubscribe("a/#"), ResultCode::Done);
    assert_eq!(device.ask(SelfService::Subscribe(own("a/b"))), ResultCode::Done);
    assert_eq!(device.publish("a/b", "its own"), ResultCode::Done);
    publish(&server, "a/b", "another's", 1);
    assert_eq!(device.expect_topic("a/b", "another's"), (true, 0));
    device.close();
    server.await_online(0);
    publish(&server, "a/b", "kept", 1);
    device.connect();
    assert_eq!(device.expect_topic("a/b", "kept"), (true, push_flags::MAY_REPEAT));
    device.expect_nothing();
}

#[test]
fn retained_messages_come_when_a_device_subscribes() {
    let server = server(&["allow all #"]);
    let (mut device, mut other) = (server.device("d1"), server.device("d2"));
    device.connect();
    other.connect();
    let retain = |topic, payload: &'static str| {
        DeviceFrame::Publish(Publish {
            client_message: 77,
            at_least_once: true,
            retain: true,
            ttl_s: 3600,
            topic,
            payload: payload.as_bytes(),
        })
    };
    other.send_frame(&retain("state/1", "on"));
    assert_eq!(other.expect_upack(), (77, ResultCode::Done));
    for kept in [false, true] {
        assert_eq!(device.subscribe("state/+", kept), ResultCode::Done);
        assert_eq!(device.expect_topic("state/1", "on"), (false, push_flags::RETAINED), "kept: {kept}");
    }
    let quiet =
        Subscribe { filter: "state/#", kept: false, no_local: false, retained: RetainHandling::DoNotSend };
    assert_eq!(device.ask(SelfService::Subscribe(quiet)), ResultCode::Done);
    let again = Subscribe { filter: "state/+", kept: true, retained: RetainHandling::SendIfNew, ..quiet };
    assert_eq!(device.ask(SelfService::Subscribe(again)), ResultCode::Done);
    device.expect_nothing();
    other.send_frame(&retain("state/1", "off"));
    assert_eq!(other.expect_upack(), (77, ResultCode::Done));
    assert_eq!(device.expect_topic("state/1", "off"), (true, 0));
    other.send_frame(&retain("state/1", ""));
    assert_eq!(other.expect_upack(), (77, ResultCode::Done));
    assert_eq!(device.expect_topic("state/1", ""), (true, 0));
    assert_eq!(other.subscribe("state/+", false), ResultCode::Done);
    other.expect_nothing();
}

#[test]
fn a_shared_group_gives_each_message_to_one_member_whatever_it_speaks() {
    let server = server(&["allow all #"]);
    let (mut one, mut two) = (server.device("d1"), server.device("d2"));
    one.connect();
    two.connect();
    let mut mqtt = Mqtt::login(&server, "m1");
    assert_eq!(one.subscribe("$share/g/job/#", true), ResultCode::NotAllowed, "a group is not kept");
    assert_eq!(one.subscribe("$share/g/job/#", false), ResultCode::Done);
    assert_eq!(two.subscribe("$share/g/job/#", false), ResultCode::Done);
    for number in 0..100 {
        mqtt.publish(&format!("job/{number}"), "x");
    }
    let mut got = [0; 2];
    let all = until(PATIENCE, || {
        for (device, got) in [&mut one, &mut two].into_iter().zip(&mut got) {
            while let Some(Seen::Push { source: None, .. }) = device.next(Duration::from_millis(1)) {
                *got += 1;
            }
        }
        got[0] + got[1] >= 100
    });
    assert!(all && got[0] > 0 && got[1] > 0, "{got:?}");
    one.expect_nothing();
    two.expect_nothing();
    assert_eq!(one.unsubscribe("$share/g/job/#"), ResultCode::Done);
    two.close();
    server.await_online(2);
    publish(&server, "job/x", "for nobody", 0);
    one.expect_nothing();
}

#[test]
fn one_session_serves_a_device_by_whatever_protocol_it_comes() {
    let server = server(&["allow all #"]);
    let mut device = server.device("d1");
    device.connect();
    assert_eq!(device.subscribe("a/#", true), ResultCode::Done);
    let mut options = MqttOptions::new("d1", "127.0.0.1", server.device.port());
    options.set_credentials(server.app_key.as_str(), device.credentials().token.clone());
    options.set_clean_session(false);
    device.close();
    server.await_online(0);
    publish(&server, "a/1", "kept", 1);
    let (client, connection) = Client::new(options, 10);
    let mut mqtt = Mqtt { client, connection };
    assert_eq!(mqtt.expect("a/1", "kept"), QoS::AtLeastOnce);
    mqtt.subscribe("b");
    mqtt.client.disconnect().unwrap();
    while let Ok(Ok(_)) = mqtt.connection.recv_timeout(PATIENCE) {}
    server.await_online(0);
    publish(&server, "b", "kept by the other", 1);
    device.connect();
    assert_eq!(device.expect_topic("b", "kept by the other"), (true, push_flags::MAY_REPEAT));
    publish(&server, "b", "live", 0);
    assert_eq!(device.expect_topic("b", "live"), (false, 0));
    device.expect_nothing();
}
