//! High messages overtake normal ones.

use crate::support::{Answer, MqttDevice, PATIENCE, Seen, TestDevice, TestServer, socket};
use longwire_proto::id::MessageId;
use longwire_proto::limit::{AHEAD_MESSAGES_MAX, WINDOW_MESSAGES_MAX};
use longwire_proto::wire::mqtt::Version;
use longwire_proto::wire::push_flags::{AHEAD, HIGH};
use serde_json::{Value, json};

fn push(server: &TestServer, audience: &Value, text: &str, high: bool) -> Answer {
    let options = if high { json!({ "priority": "high" }) } else { json!({}) };
    let push = json!({ "audience": audience, "message": { "msg_content": text }, "options": options });
    server.api.post("/v1/push", &push)
}

/// Takes so many deliveries: text, flags, id.
#[track_caller]
fn take(device: &mut TestDevice, count: usize) -> Vec<(String, u8, MessageId)> {
    let one = |_| match device.expect_push(PATIENCE) {
        Seen::Push { flags, message, payload, repeated: false, hole: false, position, previous, .. } => {
            assert_eq!(flags & AHEAD != 0, position == previous);
            (String::from_utf8(payload).unwrap(), flags, message)
        }
        other => panic!("{other:?}"),
    };
    (0..count).map(one).collect()
}

fn overtakes(audience: &Value) {
    let server = TestServer::start();
    let mut device = server.device("d1").silent();
    device.connect();
    let mut ids = Vec::new();
    for number in 0..40 {
        ids.push(push(&server, audience, &number.to_string(), false).message_id());
    }
    let window = take(&mut device, WINDOW_MESSAGES_MAX);
    // As many as there are places for; the others wait.
    for number in 0..6 {
        ids.push(push(&server, audience, &format!("high {number}"), true).message_id());
    }
    let first = take(&mut device, AHEAD_MESSAGES_MAX);
    for (number, (text, flags, _)) in first.iter().enumerate() {
        assert_eq!(
            (text.as_str(), *flags & (AHEAD | HIGH)),
            (format!("high {number}").as_str(), AHEAD | HIGH)
        );
    }
    device.expect_nothing();
    device.ack(&[first[0].2]);
    let fifth = take(&mut device, 1);
    assert_eq!(fifth[0].0, "high 4", "a place is free, though the window is full");
    server.await_count(&ids[40], "delivered", 1);
    // The connection breaks: what was not acked comes again, high ones first.
    device.drop_connection();
    device.connect();
    let mut again = Vec::new();
    while let Some(seen) = device.next(std::time::Duration::from_millis(1500)) {
        match seen {
            Seen::Push { flags, payload, message, hole: false, .. } => {
                again.push((String::from_utf8(payload).unwrap(), flags));
                device.ack(&[message]);
            }
            other => panic!("{other:?}"),
        }
    }
    let ahead: Vec<&str> =
        again.iter().filter(|(_, flags)| flags & AHEAD != 0).map(|(text, _)| text.as_str()).collect();
    assert!(ahead.starts_with(&["high 1", "high 2", "high 3", "high 4"]), "{again:?}");
    let mut texts: Vec<&str> = again.iter().map(|(text, _)| text.as_str()).collect();
    let count = texts.len();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!((texts.len(), count), (45, 45), "each once in the session: {again:?}");
    assert_eq!(window.len(), WINDOW_MESSAGES_MAX);
    for id in ids {
        server.await_count(&id, "delivered", 1);
    }
    assert!(server.metric("longwire_messages_sent_ahead_total", &[]) >= 9.0);
}

#[test]
fn a_high_message_overtakes_a_mailbox() {
    overtakes(&json!({ "registration_id": ["d1"] }));
}

#[test]
fn a_high_message_overtakes_a_log() {
    overtakes(&json!("all"));
}

#[test]
fn a_returning_device_gets_high_messages_first_and_misses_nothing() {
    let server = TestServer::start();
    let mut device = server.device("d1");
    let to = json!({ "registration_id": ["d1"] });
    for number in 0..100 {
        push(&server, &to, &number.to_string(), false).message_id();
        if number % 10 == 5 {
            push(&server, &to, &format!("high {number}"), true).message_id();
        }
    }
    device.connect();
    let got = take(&mut device, 110);
    let first: Vec<&str> = got[..4].iter().map(|(text, ..)| text.as_str()).collect();
    assert_eq!(first, ["high 5", "high 15", "high 25", "high 35"]);
    let normal: Vec<u32> = got.iter().filter_map(|(text, ..)| text.parse().ok()).collect();
    assert_eq!(normal, (0..100).collect::<Vec<_>>());
    device.expect_nothing();
    // Level again: in its turn, and marked as high.
    push(&server, &to, "last", true).message_id();
    let last = take(&mut device, 1);
    assert_eq!((last[0].0.as_str(), last[0].1 & (AHEAD | HIGH)), ("last", HIGH));
    push(&server, &to, "normal", false).message_id();
    assert_eq!(take(&mut device, 1)[0].1 & (AHEAD | HIGH), 0);
}

#[test]
fn an_mqtt_client_gets_high_messages_first() {
    for version in [Version::V311, Version::V5] {
        let server = TestServer::start();
        let registered = server.register("d1", None, &[]);
        let to = json!({ "registration_id": ["d1"] });
        for number in 0..50 {
            push(&server, &to, &number.to_string(), false).message_id();
        }
        let high = push(&server, &to, "high", true).message_id();
        let pipe = Box::new(socket(server.device));
        let mut device = MqttDevice::login(pipe, version, &server.app_key, &registered);
        let got: Vec<String> = (0..51).map(|_| String::from_utf8(device.message().1).unwrap()).collect();
        assert_eq!(got[0], "high");
        let normal: Vec<u32> = got.iter().filter_map(|text| text.parse().ok()).collect();
        assert_eq!(normal, (0..50).collect::<Vec<_>>());
        server.await_count(&high, "delivered", 1);
    }
}
