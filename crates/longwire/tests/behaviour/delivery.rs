//! What reaches a device, and what the sender is told of it.

use crate::support::{PATIENCE, Seen, TestServer, count_of};
use longwire_proto::id::{Kind, Source};
use longwire_proto::wire::GapReason;
use serde_json::json;

#[test]
fn a_push_reaches_a_device_and_its_ack_is_counted() {
    let server = TestServer::start();
    let mut device = server.device("d1");
    device.connect();
    let message = server.api.push_text(json!({ "registration_id": ["d1"] }), "hello").message_id();
    device.expect_text("hello");
    let story = server.await_count(&message, "delivered", 1);
    assert_eq!(count_of(&story, "created"), 1, "{story}");
    assert_eq!(count_of(&story, "pending"), 0, "{story}");
}

#[test]
fn without_an_ack_it_is_pending() {
    let server = TestServer::start();
    let mut device = server.device("d1").silent();
    device.connect();
    let message = server.api.push_text(json!({ "registration_id": ["d1"] }), "hello").message_id();
    device.expect_text("hello");
    device.expect_nothing();
    let story = server.await_count(&message, "pending", 1);
    assert_eq!(count_of(&story, "delivered"), 0, "{story}");
}

#[test]
fn a_device_that_was_away_gets_both_in_order_on_return() {
    let server = TestServer::start();
    let mut device = server.device("d1");
    let one = |text| server.api.push_text(json!({ "registration_id": ["d1"] }), text).message_id();
    let all = |text| server.api.push_text(json!("all"), text).message_id();
    let messages = [one("u1"), all("b1"), one("u2"), all("b2"), one("u3")];
    device.connect();
    let got: Vec<Seen> = (0..5).map(|_| device.expect_push(PATIENCE)).collect();
    let of = |wanted: Source| -> Vec<&str> {
        let from =
            got.iter().filter(|seen| matches!(seen, Seen::Push { source, .. } if *source == Some(wanted)));
        from.filter_map(Seen::text).collect()
    };
    assert_eq!(of(Source::Mailbox), ["u1", "u2", "u3"]);
    assert_eq!(of(Source::AppLog), ["b1", "b2"]);
    assert!(
        !got.iter()
            .any(|seen| matches!(seen, Seen::Push { hole: true, .. } | Seen::Push { repeated: true, .. }))
    );
    for message in messages {
        server.await_count(&message, "delivered", 1);
    }
    device.expect_nothing();
}

#[test]
fn with_the_ttl_passed_it_gets_neither_and_the_counts_say_expired() {
    let server = TestServer::start();
    let mut device = server.device("d1");
    let all = server.api.push_text_ttl(json!("all"), "old broadcast", 1).message_id();
    let one = server.api.push_text_ttl(json!({ "registration_id": ["d1"] }), "old unicast", 1).message_id();
    server.await_count(&one, "expired", 1);
    server.api.push_text(json!({ "registration_id": ["d1"] }), "fresh").message_id();
    device.connect();
    let (mut gaps, mut texts) = (Vec::new(), Vec::new());
    while gaps.len() < 2 || texts.is_empty() {
        match device.next(PATIENCE) {
            Some(Seen::Gap(gap)) => gaps.push((gap.source, gap.reason)),
            Some(push @ Seen::Push { .. }) => texts.push(push.text().unwrap().to_owned()),
            other => panic!("{other:?} after {gaps:?} and {texts:?}"),
        }
    }
    gaps.sort_by_key(|(source, _)| *source);
    assert_eq!(gaps, [(Source::Mailbox, GapReason::Expired), (Source::AppLog, GapReason::Expired)]);
    assert_eq!(texts, ["fresh"]);
    device.expect_nothing();
    for message in [one, all] {
        let story = server.await_count(&message, "expired", 1);
        assert_eq!(count_of(&story, "delivered"), 0, "{story}");
        assert_eq!(count_of(&story, "pending"), 0, "{story}");
    }
}

#[test]
fn a_newer_login_takes_over() {
    let server = TestServer::start();
    let mut older = server.device("d1").silent();
    older.connect();
    server.api.push_text(json!({ "registration_id": ["d1"] }), "first").message_id();
    older.expect_text("first");
    let mut newer = server.device("d1");
    newer.connect();
    assert_eq!(older.expect_end().map(|reason| reason.label()), Some("taken_over"));
    newer.expect_text("first");
    server.api.push_text(json!({ "registration_id": ["d1"] }), "second").message_id();
    newer.expect_text("second");
    newer.expect_nothing();
}

#[test]
fn what_was_not_acked_comes_again_in_the_next_session() {
    let server = TestServer::start();
    let mut device = server.device("d1").silent();
    device.connect();
    let message = server.api.push_text(json!({ "registration_id": ["d1"] }), "one").message_id();
    server.api.push_text(json!("all"), "many").message_id();
    for _ in 0..2 {
        let seen = device.expect_push(PATIENCE);
        assert!(matches!(seen, Seen::Push { repeated: false, .. }), "{seen:?}");
    }
    device.drop_connection();
    device.acks = true;
    device.connect();
    for _ in 0..2 {
        let seen = device.expect_push(PATIENCE);
        assert!(matches!(seen, Seen::Push { repeated: true, hole: false, .. }), "{seen:?}");
    }
    let story = server.await_count(&message, "delivered", 1);
    assert_eq!(count_of(&story, "created"), 1, "{story}");
    device.drop_connection();
    device.connect();
    device.expect_nothing();
}

#[test]
fn a_tag_expression_meets_devices_with_any_of_its_tags() {
    let server = TestServer::start();
    let tags: [&[&str]; 4] = [&["red"], &["blue", "red"], &["green"], &[]];
    let mut devices: Vec<_> = tags
        .iter()
        .enumerate()
        .map(|(number, tags)| server.device_with(&format!("d{number}"), None, tags))
        .collect();
    // Half of them are connected now, the others come later.
    devices[0].connect();
    devices[2].connect();
    let message = server.api.push_text(json!({ "tag": ["red", "blue"] }), "warm").message_id();
    server.api.push_text(json!({ "tag": ["green"] }), "cold").message_id();
    devices[1].connect();
    devices[3].connect();
    devices[0].expect_text("warm");
    devices[1].expect_text("warm");
    devices[2].expect_text("cold");
    devices.iter_mut().for_each(|device| device.expect_nothing());
    let story = server.await_count(&message, "delivered", 2);
    assert_eq!(count_of(&story, "created"), 2, "{story}");
}

#[test]
fn an_alias_reaches_all_its_devices() {
    let server = TestServer::start();
    let mut phone = server.device_with("phone", Some("ann"), &[]);
    let mut tablet = server.device_with("tablet", Some("ann"), &[]);
    let mut other = server.device_with("other", Some("bob"), &[]);
    phone.connect();
    other.connect();
    let answer = server.api.push_text(json!({ "alias": ["ann"] }), "hi ann");
    let message = answer.message_id();
    assert_eq!(answer.json["audience"]["matched"], 2, "{}", answer.text);
    tablet.connect();
    phone.expect_text("hi ann");
    tablet.expect_text("hi ann");
    other.expect_nothing();
    server.await_count(&message, "delivered", 2);
}

#[test]
fn online_only_reaches_who_is_there_and_is_not_kept() {
    let server = TestServer::start();
    let (mut here, mut away) = (server.device("here"), server.device("away"));
    here.connect();
    server.api.push_text_ttl(json!("all"), "now", 0).message_id();
    let seen = here.expect_text("now");
    assert!(matches!(seen, Seen::Push { source: None, ttl_s: 0, .. }), "{seen:?}");
    away.connect();
    away.expect_nothing();
}

#[test]
fn kinds_and_trace_arrive_as_they_were_sent() {
    let server = TestServer::start();
    let mut device = server.device("d1");
    device.connect();
    let whom = json!({ "registration_id": ["d1"] });
    let shown = json!({ "audience": whom, "notification": { "title": "T", "body": "B" } });
    let answer = server.api.post("/v1/push", &shown);
    answer.message_id();
    let Seen::Push { kind, payload, trace, message, .. } = device.expect_push(PATIENCE) else {
        unreachable!()
    };
    assert_eq!(kind, Kind::Notification);
    let content: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!((&content["title"], &content["body"]), (&json!("T"), &json!("B")));
    assert_eq!(answer.json["trace_id"], trace.to_string());
    assert_eq!(answer.json["msg_id"], message.to_string());
    server.api.push_text(json!({ "registration_id": ["d1"] }), "plain").message_id();
    let Seen::Push { kind, .. } = device.expect_push(PATIENCE) else { unreachable!() };
    assert_eq!(kind, Kind::Text);
}
