//! Topics through the HTTP API of a running server: publish, what is retained across a crash, and what is refused.

#![allow(clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod support;

use rumqttc::{Client, Connection, Event, MqttOptions, Packet, QoS};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use support::{PATIENCE, TestServer};

#[track_caller]
fn publish(server: &TestServer, body: &Value) -> Value {
    let answer = server.api.post("/v1/publish", body);
    assert_eq!(answer.status, 202, "{}", answer.text);
    answer.json
}

#[track_caller]
fn retained(server: &TestServer, query: &str) -> Value {
    let answer = server.api.get(&format!("/v1/retained{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json
}

fn topics(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["topic"].as_str().unwrap()).collect()
}

#[test]
fn what_is_retained_is_there_after_a_kill_until_it_is_cleared() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    let answer = publish(&server, &json!({ "topic": "a/b", "payload": "on", "retain": true, "qos": 2 }));
    assert_eq!((&answer["stored_for"], &answer["live"]), (&json!(0), &json!(false)));
    assert_eq!(answer["msg_id"].as_str().unwrap().len(), 32);
    publish(
        &server,
        &json!({ "topic": "a/c", "payload_base64": "/wA=", "retain": true, "time_to_live": 3600,
            "content_type": "image/x", "user_properties": { "k": "v" } }),
    );
    publish(&server, &json!({ "topic": "z", "payload": "1", "retain": true }));
    publish(&server, &json!({ "topic": "not/kept", "payload": "1" }));
    server.kill9();
    let server = TestServer::start_in(folder.path());
    let page = retained(&server, "");
    assert_eq!(topics(&page), ["a/b", "a/c", "z"]);
    let (first, second) = (&page["items"][0], &page["items"][1]);
    assert_eq!((&first["payload"], &first["qos"]), (&json!("on"), &json!(2)));
    assert_eq!((&first["expires_at"], &first["payload_base64"]), (&Value::Null, &Value::Null));
    assert_eq!((&second["payload_base64"], &second["payload"]), (&json!("/wA="), &Value::Null));
    assert!(second["expires_at"].is_string());
    let page = retained(&server, "?limit=1&after=a%2Fb&filter=a%2F%2B");
    assert_eq!((topics(&page), &page["more"]), (vec!["a/c"], &json!(false)));
    assert_eq!(retained(&server, "?limit=1")["more"], true);
    assert!((server.metric("longwire_retained_topics", &[]) - 3.0).abs() < 0.5);
    let clear = |topic: &str| {
        server.api.request("DELETE", &format!("/v1/retained?topic={topic}"), None).unwrap().status
    };
    assert_eq!((clear("a%2Fb"), clear("a%2Fb"), clear("%23")), (204, 404, 400));
    publish(&server, &json!({ "topic": "z", "retain": true }));
    assert_eq!(topics(&retained(&server, "")), ["a/c"]);
}

#[test]
fn a_publish_that_is_not_right_is_refused() {
    let server = TestServer::start();
    for (what, status, body) in [
        ("no topic", 400, json!({ "payload": "x" })),
        ("a wildcard", 400, json!({ "topic": "a/#", "payload": "x" })),
        ("empty topic", 400, json!({ "topic": "", "payload": "x" })),
        ("a topic of the server", 400, json!({ "topic": "$push/text", "payload": "x" })),
        ("upstream", 400, json!({ "topic": "$up/x", "payload": "x" })),
        ("a long topic", 400, json!({ "topic": "x".repeat(257), "payload": "x" })),
        ("both payloads", 400, json!({ "topic": "a", "payload": "x", "payload_base64": "eA==" })),
        ("no base64", 400, json!({ "topic": "a", "payload_base64": "?" })),
        ("no such qos", 400, json!({ "topic": "a", "qos": 3 })),
        ("a payload of a wrong type", 400, json!({ "topic": "a", "payload": { "x": 1 } })),
        ("no time to live", 400, json!({ "topic": "a", "payload": "x", "time_to_live": 0 })),
        ("unknown field", 400, json!({ "topic": "a", "payload": "x", "speed": 1 })),
        ("a bad content type", 400, json!({ "topic": "a", "content_type": "a\nb" })),
        ("long properties", 400, json!({ "topic": "a", "user_properties": { "k": "x".repeat(1024) } })),
        ("a long payload", 413, json!({ "topic": "a", "payload": "x".repeat(10 * 1024 + 1) })),
    ] {
        let answer = server.api.post("/v1/publish", &body);
        assert_eq!(answer.status, status, "{what}: {}", answer.text);
        assert!(answer.json["trace_id"].is_string(), "{what}");
    }
    for query in ["?limit=0", "?limit=1001", "?filter=a%23", "?filter=%24share%2Fg%2Fa", "?other=1"] {
        assert_eq!(server.api.get(&format!("/v1/retained{query}")).status, 400, "{query}");
    }
    assert_eq!(server.api.anonymous().post("/v1/publish", &json!({ "topic": "a" })).status, 401);
    assert_eq!(server.api.anonymous().get("/v1/retained").status, 401);
    let properties: serde_json::Map<String, Value> =
        (0..9).map(|number| (number.to_string(), json!("v"))).collect();
    let many = json!({ "topic": "a", "user_properties": properties });
    assert_eq!(server.api.post("/v1/publish", &many).status, 400);
}

#[test]
fn a_push_may_be_for_a_topic() {
    let server = TestServer::start();
    let answer = server.api.push_text(json!({ "topic": "news/today" }), "hello");
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert_eq!(
        (&answer.json["audience"]["matched"], &answer.json["durability"]),
        (&Value::Null, &json!("local"))
    );
    for topic in [json!("news/#"), json!(""), json!(["news"]), json!("$up/x")] {
        let answer = server.api.push_text(json!({ "topic": topic }), "hello");
        assert_eq!(answer.status, 400, "{topic}: {}", answer.text);
    }
    let both = json!({ "topic": "a", "registration_id": ["x"] });
    assert_eq!(server.api.push_text(both, "hello").status, 400);
}

fn client(server: &TestServer, name: &str) -> (Client, Connection) {
    let mut options = MqttOptions::new(name, server.device.ip().to_string(), server.device.port());
    options.set_keep_alive(PATIENCE * 2);
    Client::new(options, 10)
}

#[track_caller]
fn packet(connection: &mut Connection) -> Packet {
    loop {
        if let Event::Incoming(packet) = connection.recv_timeout(PATIENCE).unwrap().unwrap() {
            return packet;
        }
    }
}

/// Whatever is published while it subscribes: what it sees last is the newest (MQTT-4.6.0-5).
#[test]
fn a_subscriber_sees_no_older_retained_message_after_a_newer_one() {
    const ROUNDS: usize = 120;
    let server = TestServer::start();
    let done = AtomicBool::new(false);
    let (mut retained, mut live) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (writer, mut connection) = client(&server, "writer");
            for number in 0_u32.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                writer.publish("state", QoS::AtLeastOnce, true, number.to_string()).unwrap();
                while !matches!(packet(&mut connection), Packet::PubAck(_)) {}
            }
        });
        let (reader, mut connection) = client(&server, "reader");
        for _ in 0..ROUNDS {
            reader.subscribe("state", QoS::AtMostOnce).unwrap();
            let (mut newest, mut seen) = (0, 0);
            // Its SUBACK, what was retained, and something of what follows.
            while seen < 3 {
                let Packet::Publish(publish) = packet(&mut connection) else { continue };
                let number: u32 = std::str::from_utf8(&publish.payload).unwrap().parse().unwrap();
                if number < newest {
                    done.store(true, Ordering::Relaxed);
                    panic!("{number} after {newest}, retained: {}", publish.retain);
                }
                newest = number;
                seen += 1;
                if publish.retain { retained += 1 } else { live += 1 }
            }
            reader.unsubscribe("state").unwrap();
            while !matches!(packet(&mut connection), Packet::UnsubAck(_)) {}
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(retained > 0 && live > 0, "{retained} retained, {live} live");
}
