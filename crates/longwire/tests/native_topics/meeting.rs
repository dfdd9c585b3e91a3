//! Devices, MQTT clients and the API publish to each other.

use super::support::{LayeredDevice, PATIENCE, Seen, Start, certify, framed, secure, socket, until};
use super::{Census, Mqtt, publish, server, set_rules};
use longwire_proto::wire::{ResultCode, TopicBody};
use rumqttc::{LastWill, MqttOptions, QoS};
use serde_json::json;
use std::time::Duration;

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
fn a_push_to_a_topic_and_a_will_reach_a_device() {
    let server = server(&["allow all #"]);
    let mut device = server.device("d1");
    device.connect();
    assert_eq!(device.subscribe("news/+", true), ResultCode::Done);
    let pushed = server.api.push_text(json!({ "topic": "news/today" }), "pushed");
    assert_eq!(pushed.status, 202, "{}", pushed.text);
    assert_eq!(device.expect_topic("news/today", "pushed"), (true, 0));
    server.await_count(&pushed.message_id(), "delivered", 1);
    let mut options = MqttOptions::new("m1", "127.0.0.1", server.device.port());
    options.set_last_will(LastWill::new("news/m1", "it died", QoS::AtLeastOnce, false));
    let mqtt = Mqtt::connect(options);
    drop(mqtt);
    assert_eq!(device.expect_topic("news/m1", "it died"), (true, 0));
}

#[test]
fn subscribers_of_every_transport_get_what_is_published() {
    let folder = tempfile::tempdir().unwrap();
    let trusting = certify(folder.path());
    let file = |name: &str| folder.path().join(name).display().to_string();
    let server = Start::default()
        .arg(&format!("--set=listener.device.tls.certificate={}", file("cert.pem")))
        .arg(&format!("--set=listener.device.tls.key={}", file("key.pem")))
        .start();
    set_rules(&server, &["allow all #"]);
    let to = server.device;
    let web = framed(socket(to), "longwire.v1");
    let tls = secure(socket(to), &trusting).unwrap();
    let both = framed(secure(socket(to), &trusting).unwrap(), "longwire.v1");
    let login = |pipe, name| LayeredDevice::login(pipe, &server.app_key, &server.register(name, None, &[]));
    let mut devices =
        [login(Box::new(web), "web"), login(Box::new(tls), "tls"), login(Box::new(both), "both")];
    for (at, device) in devices.iter_mut().enumerate() {
        assert_eq!(device.subscribe("a/#", at == 0), ResultCode::Done);
    }
    for qos in [0, 1] {
        publish(&server, "a/b", "hello", qos);
        for device in &mut devices {
            let payload = device.push();
            assert_eq!(TopicBody::decode(&payload).unwrap().content, b"hello");
            device.beat();
        }
    }
}
