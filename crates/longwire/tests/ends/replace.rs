//! Collapse keys and override.

use crate::support::{PATIENCE, Seen, TestServer, count_of};
use crate::{MessageId, expect_gap, mqtt, property, push, to};
use longwire_proto::limit::WINDOW_MESSAGES_MAX;
use longwire_proto::wire::GapReason;
use longwire_proto::wire::mqtt::Version;
use serde_json::json;

#[test]
fn the_newest_of_a_key_wins_for_who_is_away_and_replaces_for_who_has_it() {
    let server = TestServer::start();
    let (mut here, mut away) = (server.device("here"), server.device("away"));
    here.connect();
    let both = || json!({ "registration_id": ["here", "away"] });
    let key = || json!({ "collapse_key": "weather" });
    let older = push(&server, both(), "rain", key()).message_id();
    here.expect_text("rain");
    server.await_count(&older, "delivered", 1);
    let newer = push(&server, both(), "sun", key()).message_id();
    here.expect_text("sun");
    away.connect();
    expect_gap(&mut away, &older, GapReason::Collapsed);
    away.expect_text("sun");
    away.expect_nothing();
    let story = server.api.get(&format!("/v1/messages/{older}")).json;
    assert_eq!((count_of(&story, "delivered"), count_of(&story, "collapsed")), (1, 1), "{story}");
    assert_eq!(story["collapse_key"], json!("weather"));
    server.await_count(&newer, "delivered", 2);
}

#[test]
fn in_the_log_a_key_counts_for_one_audience() {
    let server = TestServer::start();
    let mut device = server.device_with("d1", None, &["red"]);
    let key = || json!({ "collapse_key": "k" });
    let older = push(&server, json!("all"), "1", key()).message_id();
    push(&server, json!({ "tag": ["red"] }), "red", key()).message_id();
    let newer = push(&server, json!("all"), "2", key()).message_id();
    device.connect();
    expect_gap(&mut device, &older, GapReason::Collapsed);
    device.expect_text("red");
    device.expect_text("2");
    let story = server.await_count(&older, "collapsed", 1);
    assert_eq!((count_of(&story, "created"), count_of(&story, "pending")), (1, 0), "{story}");
    server.await_count(&newer, "delivered", 1);
}

#[test]
fn an_override_names_what_it_replaces_and_goes_to_its_own_audience_only() {
    let server = TestServer::start();
    let (mut has, mut away, mut other) =
        (server.device("has"), server.device("away"), server.device("other"));
    let mut mqtt = mqtt(&server, "mqtt", Version::V5);
    has.connect();
    let all = json!({ "registration_id": ["has", "away", "other", "mqtt"] });
    let older = server.api.push_text(all, "typo").message_id();
    has.expect_text("typo");
    assert_eq!(mqtt.message().0, "$push/text");
    server.await_count(&older, "delivered", 2);
    let three = json!({ "registration_id": ["has", "away", "mqtt"] });
    let newer = push(&server, three, "right", json!({ "override_msg_id": older })).message_id();
    let seen = has.expect_text("right");
    let replaced = MessageId::parse(&older);
    assert!(matches!(seen, Seen::Push { replaces, .. } if replaces == replaced), "{seen:?}");
    let (topic, _, properties) = mqtt.push();
    assert_eq!((topic.as_str(), property(&properties, "replaces")), ("$push/text", Some(older.as_str())));
    away.connect();
    expect_gap(&mut away, &older, GapReason::Collapsed);
    away.expect_text("right");
    other.connect();
    other.expect_text("typo");
    other.expect_nothing();
    let story = server.await_count(&older, "delivered", 3);
    assert_eq!(count_of(&story, "collapsed"), 1, "{story}");
    assert_eq!(server.api.get(&format!("/v1/messages/{newer}")).json["replaces"], json!(older));
}

#[test]
fn a_message_that_is_replaced_before_it_comes_is_acked_and_not_shown() {
    let server = TestServer::start();
    let mut device = server.device("d1").silent();
    device.connect();
    let shown: Vec<MessageId> = (0..WINDOW_MESSAGES_MAX)
        .map(|_| {
            server.api.push_text(to("d1"), "fills").message_id();
            device.expect_text("fills").message().unwrap()
        })
        .collect();
    // The older one waits behind a full window; the newer one is online only, and needs no place in it.
    let older = server.api.push_text(to("d1"), "older").message_id();
    let options = json!({ "override_msg_id": older, "time_to_live": 0 });
    push(&server, to("d1"), "newer", options).message_id();
    device.expect_text("newer");
    device.acks = true;
    device.ack(&shown);
    let late = device.expect_push(PATIENCE);
    assert!(matches!(late, Seen::Push { repeated: true, .. }), "{late:?}");
    assert_eq!(late.text(), Some("older"));
    server.await_count(&older, "delivered", 1);
}

#[test]
fn what_cannot_be_replaced_is_refused_and_nothing_is_stored() {
    let server = TestServer::start();
    let mut device = server.device("d1");
    let unknown = "0198f3a1b2c37d4e8f90a1b2c3d4e5f6";
    for (audience, options, status) in [
        (to("d1"), json!({ "override_msg_id": unknown }), 404),
        (json!("all"), json!({ "override_msg_id": unknown }), 404),
        (to("d1"), json!({ "override_msg_id": unknown, "time_to_live": 0 }), 404),
        (to("d1"), json!({ "override_msg_id": "short" }), 400),
        (to("d1"), json!({ "override_msg_id": 7 }), 400),
        (json!({ "topic": "a/b" }), json!({ "override_msg_id": unknown }), 400),
        (to("d1"), json!({ "collapse_key": "x".repeat(65) }), 400),
    ] {
        let answer = push(&server, audience, "x", options.clone());
        assert_eq!(answer.status, status, "{options}: {}", answer.text);
    }
    device.connect();
    device.expect_nothing();
    assert_eq!(server.api.get("/v1/books").json["created"], json!(0));
}
