//! rumqttc.

use super::support::{PATIENCE, TestServer};
use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS, v5};
use std::time::Duration;

/// The next packet that `wanted` takes.
fn await_packet<T>(connection: &mut Connection, wanted: impl Fn(Packet) -> Option<T>) -> T {
    loop {
        let event = connection.recv_timeout(PATIENCE).expect("a packet").expect("a connection that holds");
        if let Event::Incoming(packet) = event
            && let Some(found) = wanted(packet)
        {
            return found;
        }
    }
}

#[test]
fn rumqttc_exchanges_every_qos_in_3_1_1() {
    let server = TestServer::start();
    let mut options = MqttOptions::new("rumqttc", "127.0.0.1", server.device.port());
    options.set_keep_alive(Duration::from_secs(30));
    let (client, mut connection) = Client::new(options, 10);
    client.subscribe("rumqttc/+", QoS::ExactlyOnce).unwrap();
    await_packet(&mut connection, |packet| matches!(packet, Packet::SubAck(_)).then_some(()));
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        client.publish("rumqttc/a", qos, false, format!("{qos:?}")).unwrap();
        let got = await_packet(&mut connection, |packet| match packet {
            Packet::Publish(publish) => Some(publish),
            _ => None,
        });
        assert_eq!((got.topic.as_str(), got.qos, got.retain), ("rumqttc/a", qos, false));
        assert_eq!(got.payload, format!("{qos:?}"));
    }
}

#[test]
fn rumqttc_exchanges_every_qos_in_5() {
    use v5::mqttbytes::{QoS, v5::Packet};
    let server = TestServer::start();
    let mut options = v5::MqttOptions::new("rumqttc5", "127.0.0.1", server.device.port());
    options.set_keep_alive(Duration::from_secs(30));
    let (client, mut connection) = v5::Client::new(options, 10);
    client.subscribe("rumqttc5/+", QoS::ExactlyOnce).unwrap();
    let mut next = |subscribed: bool| loop {
        let event = connection.recv_timeout(PATIENCE).expect("a packet").expect("a connection that holds");
        match event {
            v5::Event::Incoming(Packet::SubAck(_)) if !subscribed => return None,
            v5::Event::Incoming(Packet::Publish(publish)) => return Some(publish),
            _ => {}
        }
    };
    assert!(next(false).is_none());
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        client.publish("rumqttc5/a", qos, false, format!("{qos:?}")).unwrap();
        let got = next(true).unwrap();
        assert_eq!((got.topic, got.qos, got.retain), ("rumqttc5/a".into(), qos, false));
        assert_eq!(got.payload, format!("{qos:?}"));
    }
}
