//! Whom a push is for, as callers say it, and what they are told of it.

#![allow(clippy::unwrap_used)]

#[path = "support/mod.rs"]
mod support;

use serde_json::{Value, json};
use support::{Answer, TestDevice, TestServer};

/// Three devices that are connected, and one that never was.
fn fleet(server: &TestServer) -> [TestDevice; 3] {
    server.register("away", None, &["v2"]);
    [
        ("a", Some("ann"), &["cn", "v2"][..]),
        ("b", Some("ann"), &["beta"]),
        ("c", None, &["cn", "muted", "v2"]),
    ]
    .map(|(name, alias, tags)| {
        let mut device = server.device_with(name, alias, tags);
        device.connect();
        device
    })
}

#[test]
fn all_that_an_audience_names_is_anded() {
    let server = TestServer::start();
    let mut devices = fleet(&server);
    let cases = [
        (json!({"tag": ["v2", "beta"]}), [true, true, true]),
        (json!({"tag": ["v2", "beta"], "tag_and": ["cn"]}), [true, false, true]),
        (json!({"tag": ["v2", "beta"], "tag_and": ["cn"], "tag_not": ["muted"]}), [true, false, false]),
        (json!({"tag_and": ["v2", "muted"]}), [false, false, true]),
        (json!({"tag_not": ["muted", "unknown"]}), [true, true, false]),
        (json!({"condition": "'beta' in tags || 'cn' in tags && !('muted' in tags)"}), [true, true, false]),
        (json!({"condition": "'v2' in tags", "tag_not": ["muted"]}), [true, false, false]),
        (json!({"tag_not": ["muted"], "online_only": true}), [true, true, false]),
        (json!({"alias": ["ann"], "tag": ["beta"]}), [false, true, false]),
        (json!({"alias": ["ann"], "registration_id": ["b", "c"]}), [false, true, false]),
        (json!({"registration_id": ["a", "b", "c"], "condition": "'v2' in tags"}), [true, false, true]),
        (json!({"registration_id": ["a", "away"], "online_only": true}), [true, false, false]),
        (json!({"sample_percent": 100}), [true, true, true]),
    ];
    for (at, (audience, meant)) in cases.into_iter().enumerate() {
        let text = format!("case {at}");
        let answer = server.api.push_text(audience.clone(), &text);
        assert_eq!(answer.status, 202, "{audience}: {}", answer.text);
        for (device, meant) in devices.iter_mut().zip(meant) {
            if meant {
                device.expect_text(&text);
            } else {
                device.expect_nothing();
            }
        }
    }
}

#[track_caller]
fn met(answer: &Answer) -> (Value, Value, Value, Value) {
    let audience = &answer.json["audience"];
    let field = |name: &str| audience[name].clone();
    (field("matched"), field("matched_by"), field("online"), field("online_by"))
}

#[test]
fn a_push_tells_how_many_it_is_for_and_how_that_was_found() {
    let server = TestServer::start();
    let _fleet = fleet(&server);
    for (audience, matched, matched_by, online, online_by) in [
        (json!("all"), json!(4), "counts", json!(3), "sessions"),
        (json!({"tag": ["v2"]}), json!(3), "counts", json!(2), "bitmaps"),
        (json!({"tag_not": ["v2"]}), json!(1), "counts", json!(1), "bitmaps"),
        (json!({"tag": ["nobody"]}), json!(0), "counts", json!(0), "bitmaps"),
        // Of three that are connected two fit: of four, two to three.
        (json!({"tag_and": ["v2", "cn"]}), json!(2), "online_share", json!(2), "bitmaps"),
        (json!({"registration_id": ["a", "away", "unknown"]}), json!(2), "exact", json!(1), "sessions"),
        (json!({"alias": ["ann"], "tag": ["beta"]}), json!(1), "exact", json!(1), "sessions"),
        (json!({"topic": "news"}), Value::Null, "none", Value::Null, "none"),
    ] {
        let expected = (matched, json!(matched_by), online, json!(online_by));
        let mut told = None;
        // What takes a busy machine too long is not told.
        let found = support::until(support::PATIENCE, || {
            let answer = server.api.push_text(audience.clone(), "x");
            assert_eq!(answer.status, 202, "{audience}: {}", answer.text);
            assert!(answer.json["eta_ms"].is_u64() != answer.json["audience"]["online"].is_null());
            told = Some(met(&answer));
            told.as_ref() == Some(&expected)
        });
        assert!(found, "{audience}: {told:?}, not {expected:?}");
    }
}

#[test]
fn what_is_only_validated_is_answered_in_full_and_sent_to_nobody() {
    let server = TestServer::start();
    let [mut device, _b, _c] = fleet(&server);
    let push = |audience: Value, validate_only: bool| {
        let body = json!({
            "audience": audience,
            "message": {"msg_content": "x"},
            "options": {"validate_only": validate_only, "time_to_live": 60},
        });
        server.api.post("/v1/push", &body)
    };
    for (audience, matched) in
        [(json!("all"), 4), (json!({"tag_not": ["muted"]}), 3), (json!({"registration_id": ["a"]}), 1)]
    {
        let told = |audience| met(&push(audience, true)).0;
        assert!(support::until(support::PATIENCE, || told(audience.clone()) == json!(matched)), "{audience}");
        let checked = push(audience.clone(), true);
        assert_eq!((checked.status, &checked.json["msg_id"]), (200, &Value::Null), "{}", checked.text);
        assert_eq!((&checked.json["ttl"], &checked.json["durability"]), (&json!(60), &json!("none")));
        device.expect_nothing();
        let sent = push(audience, false);
        assert_eq!(sent.status, 202, "{}", sent.text);
        device.expect_text("x");
    }
    assert_eq!(push(json!({"registration_id": ["nobody"]}), true).status, 422);
    assert_eq!(push(json!({"condition": "beta"}), true).status, 400);
    assert_eq!(server.metric("longwire_api_pushes_accepted_total", &[]), 3.0);
}

#[test]
fn an_audience_of_whoever_is_connected_is_not_stored() {
    let server = TestServer::start();
    let mut devices = fleet(&server);
    let answer = server.api.push_text(json!({"tag": ["v2"], "online_only": true}), "now");
    assert_eq!((&answer.json["ttl"], &answer.json["durability"]), (&json!(0), &json!("memory")));
    devices[0].expect_text("now");
    devices[2].expect_text("now");
    let mut away = server.device_with("away", None, &["v2"]);
    away.connect();
    away.expect_nothing();
    away.close();
    // Whoever is named and connected has it in the mailbox.
    let named = json!({"registration_id": ["a", "away"], "online_only": true});
    assert!(support::until(support::PATIENCE, || {
        server.api.push_text(named.clone(), "kept").json["audience"]["matched"] == 1
    }));
    let answer = server.api.push_text(named, "kept");
    assert_eq!((&answer.json["durability"], met(&answer).0), (&json!("local"), json!(1)));
    let nobody = json!({"registration_id": ["away"], "online_only": true});
    assert_eq!(server.api.push_text(nobody, "x").status, 422);
}

#[test]
fn an_audience_that_is_not_right_is_refused() {
    let server = TestServer::start();
    server.register("a", None, &["t"]);
    let many: Vec<String> = (0..21).map(|tag| tag.to_string()).collect();
    for (status, told, audience) in [
        (400, "audience: at least one", json!({})),
        (400, "audience: at least one", json!({"online_only": false})),
        (400, "unknown field `tags`", json!({"tags": ["a"]})),
        (400, "audience.topic: stands alone", json!({"topic": "a", "tag": ["b"]})),
        (400, "audience.tag_and: must not be empty", json!({"tag_and": []})),
        (400, "audience.tag_not[0]: ", json!({"tag_not": ["a#"]})),
        (413, "audience.tag_not: at most 20", json!({"tag_not": many})),
        (400, "audience.sample_percent: ", json!({"sample_percent": 0})),
        (400, "audience.sample_percent: ", json!({"sample_percent": 101})),
        (400, "audience.condition: at character 13: &&, ||", json!({"condition": "'t' in tags 'u' in tags"})),
        (400, "audience.condition: at most 1024 bytes", json!({"condition": "x".repeat(1025)})),
        (400, "audience.condition: at character 18: nested", json!({"condition": "(".repeat(500)})),
        (422, "no device has any", json!({"registration_id": ["a"], "tag_not": ["t"]})),
    ] {
        let answer = server.api.push_text(audience.clone(), "x");
        assert_eq!(answer.status, status, "{audience}: {}", answer.text);
        let message = answer.json["message"].as_str().unwrap();
        assert!(message.contains(told), "{audience}: {message}");
    }
}
