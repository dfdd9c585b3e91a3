//! How deliveries end by the sender's word, through HTTP and real devices: recall, collapse keys, override; and the books.
//!
//! - `recall`: before and after delivery, online and offline, over a crash.
//! - `replace`: collapse keys and override.
//! - `books`: what balances, and the alarm when it does not.
//! - `application`: what an application of the SDK sees.
//! - `command`: the verbs.

#![allow(clippy::unwrap_used)]

mod application;
mod books;
mod command;
mod recall;
mod replace;
#[path = "../support/mod.rs"]
mod support;

use longwire_proto::id::{Kind, MessageId};
use longwire_proto::wire::GapReason;
use longwire_proto::wire::mqtt::Version;
use serde_json::{Value, json};
use std::net::TcpStream;
use support::{Answer, MqttDevice, PATIENCE, Seen, TestDevice, TestServer, push_body};

fn to(name: &str) -> Value {
    json!({ "registration_id": [name] })
}

/// A push of a text with options.
#[track_caller]
fn push(server: &TestServer, audience: Value, text: &str, options: Value) -> Answer {
    let mut body = push_body(audience, text, None);
    body["options"] = options;
    server.api.post("/v1/push", &body)
}

/// A recall that is taken.
#[track_caller]
fn recall(server: &TestServer, message: &str) -> Value {
    let answer = server.api.request("DELETE", &format!("/v1/messages/{message}"), None).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json
}

/// The next delivery must be the recall of this message.
#[track_caller]
fn expect_recall(device: &mut TestDevice, message: &str) -> MessageId {
    match device.expect_push(PATIENCE) {
        Seen::Push { kind: Kind::Recall, payload, message: id, source: Some(_), hole: false, .. } => {
            assert_eq!(payload, MessageId::parse(message).unwrap().0.to_be_bytes());
            id
        }
        other => panic!("{}: instead of a recall {other:?}", device.name),
    }
}

/// The next thing must be the gap of this message.
#[track_caller]
fn expect_gap(device: &mut TestDevice, message: &str, reason: GapReason) {
    match device.next(PATIENCE) {
        Some(Seen::Gap(gap)) => {
            assert_eq!((gap.message.to_string().as_str(), gap.reason), (message, reason));
        }
        other => panic!("{}: instead of a gap {other:?}", device.name),
    }
}

/// An MQTT device that is connected.
#[track_caller]
fn mqtt(server: &TestServer, name: &str, version: Version) -> MqttDevice {
    let registered = server.register(name, None, &[]);
    let stream = TcpStream::connect(server.device).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    MqttDevice::login(Box::new(stream), version, &server.app_key, &registered)
}

fn property<'a>(properties: &'a [(String, String)], name: &str) -> Option<&'a str> {
    properties.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
}
