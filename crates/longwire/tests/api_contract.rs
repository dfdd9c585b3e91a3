//! The HTTP API of a running server: every endpoint with good and bad input, credentials, framing and traces.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;
use support::{Start, TestServer};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Writes these bytes to a new connection and returns all that comes back until the server ends it.
fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // A refusal may come, and the connection end, before all is written.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// A request with exactly these header lines (each ended by CRLF) and this body.
fn send(server: &TestServer, line: &str, headers: &str, body: &str) -> (u16, String, Value) {
    let length = body.len();
    let text = format!(
        "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    split(&exchange(server.api_address, text.as_bytes()))
}

fn split(answer: &str) -> (u16, String, Value) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, head.to_ascii_lowercase(), serde_json::from_str(body).unwrap_or(Value::Null))
}

fn bearer(server: &TestServer) -> String {
    format!(
        "Authorization: Bearer {}.{}\r\nContent-Type: application/json\r\n",
        server.app_key, server.app_secret
    )
}

/// A refusal has the documented shape, and its trace is the header's.
#[track_caller]
fn refused(what: &str, (status, head, body): &(u16, String, Value), expected: u16, code: &str) {
    assert_eq!(*status, expected, "{what}: {head} {body}");
    assert_eq!(body["code"], code, "{what}: {body}");
    assert!(body["errno"].is_u64() && body["message"].is_string(), "{what}: {body}");
    let trace = body["trace_id"].as_str().unwrap();
    assert!(head.contains(&format!("traceparent: 00-{trace}-")), "{what}: {head}");
    let must_say_when = *status == 429 || *status == 503;
    assert_eq!(head.contains("retry-after: "), must_say_when, "{what}: {head}");
}

#[test]
fn every_form_of_credentials_is_taken_and_every_wrong_one_refused() {
    let server = TestServer::start();
    server.register("d", None, &[]);
    let (key, secret) = (&server.app_key, &server.app_secret);
    for header in [
        format!("Authorization: Bearer {key}.{secret}\r\n"),
        format!("authorization: bearer {key}.{secret}\r\n"),
        format!("X-API-Key: {key}.{secret}\r\n"),
    ] {
        assert_eq!(send(&server, "GET /v1/devices/d", &header, "").0, 200, "{header}");
    }
    assert_eq!(server.api.get("/v1/devices/d").status, 200, "basic");
    let other = secret.replace(secret.chars().next().unwrap(), "_");
    for header in [
        String::new(),
        format!("Authorization: Bearer {key}.{other}\r\n"),
        format!("Authorization: Bearer nobody.{secret}\r\n"),
        format!("Authorization: Bearer {secret}\r\n"),
        format!("Authorization: Digest {key}.{secret}\r\n"),
        "Authorization: Basic ????\r\n".to_owned(),
        "Authorization: \r\n".to_owned(),
        format!("X-App-Key: {key}\r\n"),
    ] {
        for line in
            ["GET /v1/devices/d", "GET /v1/messages/00000000000000000000000000000001", "POST /v1/push"]
        {
            let answer = send(&server, line, &format!("{header}Content-Type: application/json\r\n"), "{}");
            refused(&header, &answer, 401, "unauthorized");
            assert!(answer.1.contains("www-authenticate: basic"), "{}", answer.1);
        }
    }
}

#[test]
fn open_registration_makes_devices_and_changes_none() {
    let server = TestServer::start();
    let header = format!("X-App-Key: {}\r\nContent-Type: application/json\r\n", server.app_key);
    let register = |header: &str| send(&server, "POST /v1/devices", header, r#"{"registration_id":"d"}"#);
    let (status, _, body) = register(&header);
    assert_eq!(status, 201, "{body}");
    refused("an existing name", &register(&header), 409, "taken");
    assert_eq!(register(&bearer(&server)).0, 200);
    let header = header.replace(&server.app_key, "nobody");
    refused("an unknown key", &register(&header), 401, "unauthorized");
}

#[test]
fn a_registration_answers_all_that_a_device_needs() {
    let server = TestServer::start();
    let issued = server.api.post("/v1/devices", &json!({}));
    assert_eq!(issued.status, 201);
    let device = &issued.json;
    assert!(!device["registration_id"].as_str().unwrap().is_empty());
    assert!(device["client_id"].as_str().unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(device["token"].as_str().unwrap().len(), 76);
    assert!(device["expires"].as_str().unwrap().ends_with('Z'));
    assert_eq!(device["entry_nodes"], json!([server.device.to_string()]));
    assert_eq!(device["heartbeat"], json!({"interval": 60, "min": 15, "max": 1200, "padding": 0}));
    assert_eq!(device["backoff"], json!({"steps": [1, 2, 3, 5, 8, 13, 20], "jitter_ms": 1000}));
    let shown = server.api.get(&format!("/v1/devices/{}", device["registration_id"].as_str().unwrap()));
    assert_eq!(shown.json["client_id"], device["client_id"]);
    assert_eq!(shown.json["online"], json!(false));
}

#[test]
fn what_cannot_be_a_request_is_refused_naming_the_field() {
    let server = TestServer::start();
    server.register("d", None, &[]);
    let long = |n: usize| "x".repeat(n);
    let cases = [
        ("/v1/devices", json!({"registration_id": 3}), 400, "registration_id"),
        ("/v1/devices", json!({"registration_id": long(129)}), 400, "registration_id"),
        ("/v1/devices", json!({"registration_id": "a/b"}), 400, "registration_id"),
        ("/v1/devices", json!({"alias": ""}), 400, "alias"),
        ("/v1/devices", json!({"tags": ["ok", long(65)]}), 400, "tags[1]"),
        ("/v1/devices", json!({"tags": vec!["t"; 101]}), 400, "tags"),
        ("/v1/devices", json!({"colour": "red"}), 400, "colour"),
        ("/v1/devices", json!([1]), 400, ""),
        ("/v1/push", json!({"audience": "all", "notification": {"title": 3}}), 400, "notification.title"),
        (
            "/v1/push",
            json!({"audience": {"tag": ["a", 3]}, "notification": {"title": "t"}}),
            400,
            "audience.tag[1]",
        ),
        (
            "/v1/push",
            json!({"audience": "all", "notification": {"title": "t", "x": 1}}),
            400,
            "notification.x",
        ),
        ("/v1/push", json!({"audience": "all"}), 400, "notification"),
        ("/v1/push", json!({"audience": "all", "notification": {"title": long(4097)}}), 413, "notification"),
        ("/v1/push", json!({"audience": "all", "message": {"msg_content": long(10_241)}}), 413, "message"),
        (
            "/v1/push",
            json!({"audience": {"registration_id": vec!["d"; 1001]}, "notification": {"title": "t"}}),
            413,
            "",
        ),
        (
            "/v1/push",
            json!({"audience": {"registration_id": ["gone"]}, "notification": {"title": "t"}}),
            422,
            "",
        ),
    ];
    for (path, body, status, field) in cases {
        let answer = send(&server, &format!("POST {path}"), &bearer(&server), &body.to_string());
        let code = match status {
            400 => "invalid",
            413 => "too_large",
            _ => "nobody_matches",
        };
        refused(&body.to_string(), &answer, status, code);
        assert!(answer.2["message"].as_str().unwrap().contains(field), "{field}: {}", answer.2);
    }
    for body in ["", "{", "{}{}", "\u{1}", "{\"audience\":\"all\",\"audience\":\"all\"}"] {
        refused(body, &send(&server, "POST /v1/push", &bearer(&server), body), 400, "invalid");
    }
    assert_eq!(server.api.get("/v1/devices/d").json["mailbox"]["messages"], json!(0));
}

#[test]
fn what_is_not_there_or_not_ours_is_the_same_404() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Start::default().folder(folder.path()).start();
    first.register("d", Some("al"), &["t"]);
    let message = first.api.push_text(json!({"registration_id": ["d"]}), "x").message_id();
    assert_eq!(first.api.get(&format!("/v1/messages/{message}")).status, 200);
    assert!(first.terminate().success());
    let other = Start::default().folder(folder.path()).arg("--app-key").arg("another").start();
    for (path, code, status) in [
        ("/v1/devices/d".to_owned(), "not_found", 404),
        ("/v1/devices/nobody".to_owned(), "not_found", 404),
        (format!("/v1/messages/{message}"), "not_found", 404),
        ("/v1/messages/00000000000000000000000000000001".to_owned(), "not_found", 404),
        ("/v1/messages/xyz".to_owned(), "invalid", 400),
        (format!("/v1/devices/{}", "x".repeat(129)), "invalid", 400),
        ("/v1/devices/%ff".to_owned(), "invalid", 400),
        ("/v1/nothing".to_owned(), "not_found", 404),
        ("/".to_owned(), "not_found", 404),
    ] {
        refused(&path, &send(&other, &format!("GET {path}"), &bearer(&other), ""), status, code);
    }
    for audience in [json!({"registration_id": ["d"]}), json!({"alias": ["al"]})] {
        let answer = other.api.push_text(audience, "x");
        assert_eq!((answer.status, answer.code()), (422, "nobody_matches"));
    }
}

#[test]
fn methods_and_media_types_are_held() {
    let server = TestServer::start();
    let auth = bearer(&server);
    for line in ["GET /v1/push", "DELETE /v1/devices/d", "POST /healthz", "PATCH /v1/messages/x"] {
        let answer = send(&server, line, &auth, "");
        refused(line, &answer, 405, "method_not_allowed");
        assert!(answer.1.contains("allow: "), "{}", answer.1);
    }
    let body = r#"{"audience":"all","notification":{"title":"t"}}"#;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx"] {
        let header = auth.replace("application/json", kind);
        refused(kind, &send(&server, "POST /v1/push", &header, body), 415, "unsupported_media_type");
    }
    let none = auth.replace("Content-Type: application/json\r\n", "");
    refused("no type", &send(&server, "POST /v1/push", &none, body), 415, "unsupported_media_type");
    let packed = format!("{auth}Content-Encoding: gzip\r\n");
    refused("packed", &send(&server, "POST /v1/push", &packed, body), 415, "unsupported_media_type");
    let charset = auth.replace("application/json", "application/json; charset=utf-8");
    assert_eq!(send(&server, "POST /v1/push", &charset, body).0, 202);
}

#[test]
fn sizes_and_times_of_a_request_are_bounded() {
    let server = Start::default().arg("--set").arg("api.body_s=1").arg("--set").arg("api.header_s=1").start();
    let auth = bearer(&server);
    let long = format!("{{\"x\":\"{}\"}}", "x".repeat(1024 * 1024));
    refused("announced", &send(&server, "POST /v1/push", &auth, &long), 413, "too_large");
    let chunked = format!(
        "POST /v1/push HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{auth}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n",
        long.len()
    );
    refused("in chunks", &split(&exchange(server.api_address, chunked.as_bytes())), 413, "too_large");
    let slow = format!("POST /v1/push HTTP/1.1\r\nHost: x\r\n{auth}Content-Length: 10\r\n\r\n{{");
    refused("a slow body", &split(&exchange(server.api_address, slow.as_bytes())), 408, "body_timeout");
    // The head never ends: the connection does.
    let answer = exchange(server.api_address, b"GET /healthz HTTP/1.1\r\nHost: x\r\n");
    assert!(answer.is_empty() || split(&answer).0 == 408, "{answer}");
    let crowded = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{}\r\n", "A: b\r\n".repeat(101));
    assert_eq!(split(&exchange(server.api_address, crowded.as_bytes())).0, 431);
    let wide = format!("GET /healthz HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "b".repeat(17 * 1024));
    assert_eq!(split(&exchange(server.api_address, wide.as_bytes())).0, 431);
    assert_eq!(server.api.get("/healthz").status, 200);
}

#[test]
fn framing_that_can_be_read_in_two_ways_is_refused() {
    let server = TestServer::start();
    let auth = bearer(&server);
    let body = r#"{"audience":"all","notification":{"title":"t"}}"#;
    for framing in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: 5, 6\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X: a\r\n folded\r\nContent-Length: 5\r\n",
    ] {
        let text = format!("POST /v1/push HTTP/1.1\r\nHost: x\r\n{auth}{framing}\r\n{body}");
        // No `Connection: close`: it is the server that must end it.
        assert_eq!(split(&exchange(server.api_address, text.as_bytes())).0, 400, "{framing}");
    }
    for line in ["nonsense", "GET /healthz HTTP/3.0", "GET\0/healthz HTTP/1.1"] {
        let answer = exchange(server.api_address, format!("{line}\r\n\r\n").as_bytes());
        assert!(answer.is_empty() || split(&answer).0 == 400, "{line}: {answer}");
    }
    assert_eq!(server.api.get("/healthz").status, 200);
}

#[test]
fn a_trace_is_taken_answered_stored_and_brought_to_the_device() {
    let server = TestServer::start();
    let mut device = server.device("d");
    device.connect();
    let header = format!("{}traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n", bearer(&server));
    let push = r#"{"audience":{"registration_id":["d"]},"notification":{"title":"t"}}"#;
    let (status, head, body) = send(&server, "POST /v1/push", &header, push);
    assert_eq!(status, 202, "{body}");
    assert_eq!(body["trace_id"], TRACE);
    assert!(
        head.contains(&format!("traceparent: 00-{TRACE}-")) && !head.contains("00f067aa0ba902b7"),
        "{head}"
    );
    let message = body["msg_id"].as_str().unwrap();
    assert_eq!(server.api.get(&format!("/v1/messages/{message}")).json["trace_id"], TRACE);
    refused("with a trace", &send(&server, "GET /v1/devices/nobody", &header, ""), 404, "not_found");
    let bad = header.replace(TRACE, &"0".repeat(32));
    let (_, _, body) = send(&server, "POST /v1/push", &bad, push);
    assert_eq!(body["trace_id"].as_str().unwrap().len(), 32);
    assert_ne!(body["trace_id"], "0".repeat(32));
}

#[test]
fn a_push_says_whom_it_met_and_how_long_it_lives() {
    let server = TestServer::start();
    server.register("a", Some("al"), &["t"]);
    server.register("b", Some("al"), &[]);
    let push = |audience: Value, ttl: Value| {
        let options = json!({"time_to_live": ttl});
        server.api.post(
            "/v1/push",
            &json!({"audience": audience, "message": {"msg_content": "x"}, "options": options}),
        )
    };
    let addressed = push(json!({"registration_id": ["a", "b", "gone"]}), json!(60)).json;
    assert_eq!(addressed["audience"]["matched"], 2, "{addressed}");
    assert_eq!(addressed["audience"]["unknown"], 1, "{addressed}");
    assert_eq!((&addressed["ttl"], &addressed["durability"]), (&json!(60), &json!("local")));
    assert_eq!(push(json!({"alias": ["al"]}), json!(60)).json["audience"]["matched"], 2);
    let all = push(json!("all"), json!(99_999_999)).json;
    assert_eq!((&all["audience"]["matched"], &all["ttl"]), (&json!(2), &json!(2_592_000)));
    assert_eq!(push(json!({"tag": ["t"]}), json!(0)).json["durability"], "memory");
    assert_eq!(server.metric("longwire_api_pushes_accepted_total", &[]), 4.0);
}

#[test]
fn the_contract_and_the_metrics_are_served() {
    let server = TestServer::start();
    let contract = server.api.anonymous().get("/openapi.json");
    let stored = include_str!("../../../docs/openapi.json");
    assert_eq!(contract.text, stored);
    let metrics = server.api.anonymous().get("/metrics");
    assert!(metrics.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert!(metrics.text.ends_with("# EOF\n"));
    for name in [
        "longwire_connections ",
        "longwire_connections_opened_total ",
        "longwire_connections_closed_total{reason=\"idle\"} ",
        "longwire_reactor_loop_seconds_bucket{le=\"+Inf\",shard=\"0\"} ",
        "longwire_log_lines_dropped_total ",
        "longwire_store_commit_seconds_count ",
        "longwire_build_info{",
        "process_resident_memory_bytes ",
        "process_open_fds ",
    ] {
        assert!(metrics.text.lines().any(|line| line.starts_with(name)), "{name} in {}", metrics.text);
    }
}

#[test]
fn connections_beyond_the_limit_are_told_so() {
    let server = Start::default().arg("--set").arg("api.connections_max=2").start();
    let held: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(server.api_address).unwrap()).collect();
    let crowded = exchange(server.api_address, b"");
    let (status, head, body) = split(&crowded);
    assert_eq!((status, &body["code"]), (503, &json!("too_many_connections")), "{crowded}");
    assert!(head.contains("retry-after: "), "{head}");
    drop(held);
    assert!(support::until(support::PATIENCE, || {
        server.api.request("GET", "/healthz", None).is_ok_and(|answer| answer.status == 200)
    }));
}

#[test]
fn an_apps_requests_beyond_its_limit_are_told_when_to_come_again() {
    let server = Start::default().arg("--set").arg("api.requests_per_app_max=1").start();
    let auth = bearer(&server);
    // A body that does not come holds the one place.
    let mut held = TcpStream::connect(server.api_address).unwrap();
    let head = format!("POST /v1/push HTTP/1.1\r\nHost: x\r\n{auth}Content-Length: 9\r\n\r\n");
    held.write_all(head.as_bytes()).unwrap();
    let ask = || send(&server, "GET /v1/devices/d", &auth, "");
    // It and the request that asks; asked by anybody of this app, the place could be taken by the question.
    assert!(
        support::until(support::PATIENCE, || server.metric("longwire_api_requests_in_flight", &[]) >= 2.0)
    );
    refused("the second request", &ask(), 429, "too_many_requests");
    assert_eq!(server.api.anonymous().get("/healthz").status, 200);
    drop(held);
    assert!(support::until(support::PATIENCE, || ask().0 == 404));
}

#[test]
fn a_stop_finishes_the_request_in_flight_and_takes_no_other() {
    let mut server = TestServer::start();
    let auth = bearer(&server);
    let body = r#"{"audience":"all","notification":{"title":"t"}}"#;
    let mut held = TcpStream::connect(server.api_address).unwrap();
    let head = format!("POST /v1/push HTTP/1.1\r\nHost: x\r\n{auth}Content-Length: {}\r\n\r\n", body.len());
    held.write_all(head.as_bytes()).unwrap();
    assert!(
        support::until(support::PATIENCE, || server.metric("longwire_api_requests_in_flight", &[]) >= 2.0)
    );
    server.signal_terminate();
    assert!(support::until(support::PATIENCE, || TcpStream::connect(server.api_address).is_err()));
    held.write_all(body.as_bytes()).unwrap();
    let mut answer = Vec::new();
    held.read_to_end(&mut answer).unwrap();
    assert_eq!(split(&String::from_utf8_lossy(&answer)).0, 202);
    assert!(server.await_exit().success());
}
