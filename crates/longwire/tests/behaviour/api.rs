//! What the API refuses: 4xx with code and text, and nothing stored.

use crate::support::{Answer, Api, TestServer};
use serde_json::{Value, json};

#[track_caller]
fn refused(answer: &Answer, statuses: &[u16], what: &str) {
    assert!(statuses.contains(&answer.status), "{what}: {} {}", answer.status, answer.text);
    for field in ["code", "message", "trace_id"] {
        let text = answer.json[field].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "{what}: no {field} in {}", answer.text);
    }
}

fn text() -> Value {
    json!({ "content_type": "text", "msg_content": "x" })
}

#[test]
fn a_push_that_is_not_right_is_refused_and_reaches_nobody() {
    let server = TestServer::start();
    let mut device = server.device_with("d1", Some("ann"), &["red"]);
    device.connect();
    let whom = json!({ "registration_id": ["d1"] });
    let bodies: Vec<(&str, Value)> = vec![
        ("no object", json!([])),
        ("no audience", json!({ "message": text() })),
        ("no content", json!({ "audience": whom })),
        ("audience of a wrong type", json!({ "audience": 7, "message": text() })),
        ("audience word unknown", json!({ "audience": "everybody", "message": text() })),
        ("audience kind unknown", json!({ "audience": { "topic": ["x"] }, "message": text() })),
        ("empty audience", json!({ "audience": {}, "message": text() })),
        ("empty list", json!({ "audience": { "registration_id": [] }, "message": text() })),
        ("id of a wrong type", json!({ "audience": { "registration_id": [1] }, "message": text() })),
        ("over-long id", json!({ "audience": { "registration_id": ["x".repeat(129)] }, "message": text() })),
        ("too many ids", json!({ "audience": { "registration_id": vec!["d1"; 1001] }, "message": text() })),
        (
            "too many tags",
            json!({ "audience": { "tag": (0..21).map(|n| n.to_string()).collect::<Vec<_>>() }, "message": text() }),
        ),
        ("a bad character", json!({ "audience": { "tag": ["a/b"] }, "message": text() })),
        ("unknown field", json!({ "audience": whom, "message": text(), "colour": "red" })),
        (
            "unknown option",
            json!({ "audience": whom, "message": text(), "options": { "speed_of_light": 1 } }),
        ),
        (
            "ttl of a wrong type",
            json!({ "audience": whom, "message": text(), "options": { "time_to_live": "1" } }),
        ),
        ("negative ttl", json!({ "audience": whom, "message": text(), "options": { "time_to_live": -1 } })),
        (
            "over-long collapse key",
            json!({ "audience": whom, "message": text(), "options": { "collapse_key": "k".repeat(65) } }),
        ),
        (
            "text of a wrong type",
            json!({ "audience": whom, "message": { "content_type": "text", "msg_content": 5 } }),
        ),
        (
            "unknown content type",
            json!({ "audience": whom, "message": { "content_type": "gif", "msg_content": "x" } }),
        ),
    ];
    for (what, body) in &bodies {
        refused(&server.api.post("/v1/push", body), &[400, 413, 422], what);
    }
    let long = json!({ "audience": whom, "message": { "content_type": "text", "msg_content": "x".repeat(10 * 1024 + 1) } });
    refused(&server.api.post("/v1/push", &long), &[413], "over-long text");
    for bytes in [&b"{"[..], b"", b"\xFF\xFE", b"{\"audience\":\"all\",}", b"null"] {
        refused(&server.api.post_bytes("/v1/push", bytes), &[400], "no JSON");
    }
    let nobody = json!({ "audience": { "registration_id": ["nobody"] }, "message": text() });
    refused(&server.api.post("/v1/push", &nobody), &[422], "unknown device");
    device.expect_nothing();
    // Whoever comes later gets nothing of it either.
    let mut later = server.device_with("d2", None, &["red"]);
    later.connect();
    later.expect_nothing();
}

#[test]
fn wrong_credentials_are_refused_everywhere() {
    let server = TestServer::start();
    let mut device = server.device("d1");
    device.connect();
    let push = json!({ "audience": "all", "message": text() });
    let strangers = [
        ("nobody", server.api.anonymous()),
        ("wrong secret", Api::new(server.api_address, &server.app_key, "wrong")),
        ("unknown app", Api::new(server.api_address, "nobody", &server.app_secret)),
        ("empty", Api::new(server.api_address, "", "")),
    ];
    for (what, api) in strangers {
        refused(&api.post("/v1/push", &push), &[401], what);
        refused(&api.post("/v1/devices", &json!({})), &[401], what);
        refused(&api.get("/v1/devices/d1"), &[401], what);
        refused(&api.get(&format!("/v1/messages/{:032x}", 1)), &[401], what);
    }
    device.expect_nothing();
}

#[test]
fn a_registration_that_is_not_right_is_refused_and_makes_no_device() {
    let server = TestServer::start();
    let bodies = [
        ("no object", json!("d1")),
        ("empty name", json!({ "registration_id": "" })),
        ("over-long name", json!({ "registration_id": "x".repeat(129) })),
        ("name of a wrong type", json!({ "registration_id": 5 })),
        ("a bad character", json!({ "registration_id": "a+b" })),
        ("over-long alias", json!({ "registration_id": "bad", "alias": "x".repeat(65) })),
        ("over-long tag", json!({ "registration_id": "bad", "tags": ["x".repeat(65)] })),
        ("tags of a wrong type", json!({ "registration_id": "bad", "tags": "red" })),
        (
            "too many tags",
            json!({ "registration_id": "bad", "tags": (0..101).map(|n| n.to_string()).collect::<Vec<_>>() }),
        ),
        ("unknown field", json!({ "registration_id": "bad", "colour": "red" })),
    ];
    for (what, body) in bodies {
        refused(&server.api.post("/v1/devices", &body), &[400, 413], what);
    }
    refused(&server.api.get("/v1/devices/bad"), &[404], "a refused device");
}

#[test]
fn what_is_not_there_is_not_found() {
    let server = TestServer::start();
    refused(&server.api.get("/v1/devices/nobody"), &[404], "device");
    refused(&server.api.get(&format!("/v1/messages/{:032x}", 7)), &[404], "message");
    refused(&server.api.get("/v1/messages/seven"), &[400, 404], "a message id that is none");
    refused(&server.api.get("/v1/nothing"), &[404], "path");
    refused(&server.api.request("DELETE", "/v1/push", None).unwrap(), &[405], "method");
}

#[test]
fn probes_answer_without_credentials() {
    let server = TestServer::start();
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        let answer = server.api.anonymous().get(path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    }
}

/// 000-21.
#[test]
fn sockets_of_the_device_port_are_told_by_state() {
    let server = TestServer::start();
    if server.metric("longwire_sockets_counted", &[]) == 0.0 {
        eprintln!("this machine has too many sockets to count");
        return;
    }
    let mut device = server.device("d1");
    device.connect();
    let count = |state: &str| server.metric("longwire_sockets", &[&format!("state=\"{state}\"")]);
    assert!(count("established") >= 1.0 && count("listen") >= 1.0);
    device.drop_connection();
    let gone = || count("established") == 0.0 && count("close_wait") == 0.0;
    assert!(crate::support::until(crate::support::PATIENCE, gone), "the server's end stays open");
}

#[test]
fn no_metric_family_is_told_twice() {
    let server = TestServer::start();
    let mut device = server.device("d1");
    device.connect();
    let text = server.api.get("/metrics").text;
    let mut families: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let all = families.len();
    assert!(all > 50, "{all} families only:\n{text}");
    families.sort_unstable();
    families.dedup();
    assert_eq!(families.len(), all, "a family is told twice:\n{text}");
    let mut series: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' ').map(|(series, _)| series))
        .collect();
    let all = series.len();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), all, "a series is told twice:\n{text}");
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn a_device_is_shown_with_what_waits_for_it() {
    let server = TestServer::start();
    let mut device = server.device_with("d1", Some("ann"), &["red", "blue"]);
    server.api.push_text(json!({ "registration_id": ["d1"] }), "waits").message_id();
    let shown = server.api.get("/v1/devices/d1").json;
    assert_eq!((&shown["alias"], &shown["online"]), (&json!("ann"), &json!(false)), "{shown}");
    assert_eq!(shown["mailbox"]["messages"], 1, "{shown}");
    device.connect();
    let shown = server.api.get("/v1/devices/d1").json;
    assert_eq!(shown["online"], true, "{shown}");
}
