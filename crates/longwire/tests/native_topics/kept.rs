//! What waits for a device that is away.

use super::support::{PATIENCE, Start, TestServer};
use super::{Census, Mqtt, publish, server, set_rules};
use longwire_proto::wire::{Class, ResultCode, push_flags};
use rumqttc::{LastWill, MqttOptions, QoS};

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
    let mut mqtt = Mqtt::connect(options);
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

#[test]
fn connections_of_one_device_share_what_is_kept() {
    let server = Start::default().arg("--set=apps.duplicate_login=many").start();
    set_rules(&server, &["allow all #"]);
    let (mut phone, mut pc) = (server.device("d1"), server.device("d1"));
    pc.credentials().class = Class::Pc;
    phone.connect();
    pc.connect();
    assert_eq!(phone.subscribe("a/#", true), ResultCode::Done);
    publish(&server, "a/1", "to both", 1);
    assert_eq!(phone.expect_topic("a/1", "to both"), (true, 0));
    assert_eq!(pc.expect_topic("a/1", "to both"), (true, 0));
    publish(&server, "a/2", "at most once", 0);
    assert_eq!(phone.expect_topic("a/2", "at most once"), (false, 0));
    pc.expect_nothing();
    phone.close();
    server.await_online(1);
    publish(&server, "a/3", "to the one that is there", 1);
    assert_eq!(pc.expect_topic("a/3", "to the one that is there"), (true, 0));
    assert_eq!(pc.unsubscribe("a/#"), ResultCode::Done, "what the other one made");
    publish(&server, "a/4", "to nobody", 1);
    pc.expect_nothing();
}

/// A native login beside an MQTT connection takes nothing away from that one's session.
#[test]
fn a_will_outlives_a_native_connection_that_joined_and_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let many = || Start::default().folder(folder.path()).arg("--set=apps.duplicate_login=many").start();
    let mut server = many();
    set_rules(&server, &["allow all #"]);
    let mut listener = server.device("d2");
    listener.connect();
    assert_eq!(listener.subscribe("died/+", true), ResultCode::Done);
    let mut device = server.device("d1");
    device.credentials().class = Class::Pc;
    let mut options = MqttOptions::new("d1", "127.0.0.1", server.device.port());
    options.set_credentials(server.app_key.as_str(), device.credentials().token.clone());
    options.set_clean_session(false);
    options.set_last_will(LastWill::new("died/d1", "with its server", QoS::AtLeastOnce, false));
    let mqtt = Mqtt::connect(options);
    device.connect();
    server.await_online(3);
    device.close();
    server.await_online(2);
    server.kill9();
    drop(mqtt);
    let server = many();
    listener.to = server.device;
    listener.connect();
    assert_eq!(listener.expect_topic("died/d1", "with its server"), (true, 0));
}

/// As many as a window holds, and more.
#[test]
fn a_device_that_comes_back_gets_all_in_order() {
    let server = server(&["allow all #"]);
    let mut device = server.device("d1");
    device.connect();
    assert_eq!(device.subscribe("a/+", true), ResultCode::Done);
    device.close();
    server.await_online(0);
    let mut other = server.device("d2");
    other.connect();
    for number in 0..100 {
        assert_eq!(other.publish(&format!("a/{number}"), "x"), ResultCode::Done);
    }
    device.connect();
    for number in 0..100 {
        assert_eq!(device.expect_topic(&format!("a/{number}"), "x"), (true, push_flags::MAY_REPEAT));
    }
    device.expect_nothing();
}
