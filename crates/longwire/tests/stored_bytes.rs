//! The quota of stored bytes, what firings cost, and settings of an app in one request, through HTTP and devices.

#![allow(clippy::unwrap_used)]

mod support;

use longwire_proto::wire::ResultCode;
use serde_json::{Value, json};
use support::{Answer, Api, PATIENCE, Seen, Start, TestServer, until};

fn ask(api: &Api, method: &str, path: &str, body: &Value) -> Answer {
    api.request(method, path, Some(&serde_json::to_vec(body).unwrap())).unwrap()
}

#[track_caller]
fn set_quotas(server: &TestServer, quotas: &Value) {
    let body = json!({"app_key": server.app_key, "quotas": quotas});
    let answer = ask(&server.operator(), "PUT", "/v1/quotas", &body);
    assert_eq!(answer.status, 200, "{}", answer.text);
}

fn used(api: &Api) -> u64 {
    api.get("/v1/quotas").json["stored_bytes"]["used"].as_u64().unwrap()
}

#[track_caller]
fn refused(answer: &Answer) {
    assert_eq!((answer.status, answer.code()), (429, "app_quota"), "{}", answer.text);
    assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    assert!(answer.text.contains("quotas.stored_bytes"), "{}", answer.text);
}

/// Pushes until the quota refuses; the ids that were accepted.
#[track_caller]
fn fill(api: &Api, push: impl Fn(&Api) -> Answer) -> Vec<String> {
    let mut accepted = Vec::new();
    loop {
        let answer = push(api);
        if answer.status != 202 {
            refused(&answer);
            return accepted;
        }
        accepted.push(answer.message_id());
        assert!(accepted.len() < 100, "no quota");
    }
}

const TEXT: &str =
    "a text of some length, so that a few of them are as many bytes as the app may have stored";

fn to_two(api: &Api) -> Answer {
    api.push_text(json!({"registration_id": ["d", "e"]}), TEXT)
}

#[test]
fn stored_bytes_are_refused_beyond_the_quota_and_acks_ends_and_recalls_make_room() {
    let server = TestServer::start();
    let (mut device, mut other) = (server.device("d").silent(), server.device("e").silent());
    assert_eq!(used(&server.api), 0);
    set_quotas(&server, &json!({"stored_bytes": 1000}));
    let accepted = fill(&server.api, to_two);
    let full = used(&server.api);
    let each = full / accepted.len() as u64;
    assert!(accepted.len() >= 4 && full <= 1000 && full + each > 1000, "{full} of {}", accepted.len());
    assert_eq!(full % accepted.len() as u64, 0, "once a message, not once a device");
    assert_eq!(server.api.get("/v1/quotas").json["stored_bytes"], json!({"limit": 1000, "used": full}));
    assert_eq!(server.metric("longwire_app_stored_bytes", &[&server.app_key]), full as f64);
    assert!(server.metric("longwire_app_quota_refused_total", &[&server.app_key]) >= 1.0);
    // Nothing was stored of what was refused, and what is not stored needs no room.
    refused(&server.api.push_text(json!("all"), TEXT));
    assert_eq!(used(&server.api), full);
    let online_only = server.api.push_text_ttl(json!({"registration_id": ["d"]}), TEXT, 0);
    assert_eq!(online_only.status, 202, "{}", online_only.text);

    // Other apps have their own.
    let made = server.operator().post("/v1/apps", &json!({"app_key": "shop"}));
    let shop = Api::new(server.api_address, "shop", made.json["app_secret"].as_str().unwrap());
    assert_eq!(shop.post("/v1/devices", &json!({"registration_id": "d"})).status, 201);
    assert_eq!(shop.push_text(json!({"registration_id": ["d"]}), TEXT).status, 202);
    assert!(used(&shop) > 0);

    // The first of two acks leaves the body to the second.
    device.connect();
    let first = device.expect_text(TEXT).message().unwrap();
    device.ack(&[first]);
    server.await_count(&accepted[0], "delivered", 1);
    assert_eq!(used(&server.api), full);
    other.connect();
    other.expect_text(TEXT);
    other.ack(&[first]);
    server.await_count(&accepted[0], "delivered", 2);
    assert!(until(PATIENCE, || used(&server.api) == full - each), "{} {full} {each}", used(&server.api));
    assert_eq!(to_two(&server.api).status, 202);
    refused(&to_two(&server.api));

    // A recall goes through, though its own message takes room until it is noted.
    let path = format!("/v1/messages/{}", accepted[1]);
    assert_eq!(ask(&server.api, "DELETE", &path, &json!({})).status, 200);
    assert!(used(&server.api) < full);
    set_quotas(&server, &json!({"stored_bytes": 0}));
    assert_eq!(to_two(&server.api).status, 202, "without a limit");
    set_quotas(&server, &json!({"stored_bytes": 1}));
    refused(&to_two(&server.api));
    let too_much = json!({"app_key": server.app_key, "quotas": {"stored_bytes": 1_u64 << 51}});
    assert_eq!(ask(&server.operator(), "PUT", "/v1/quotas", &too_much).status, 400);
}

#[test]
fn stored_bytes_outlive_kill_9_and_the_end_of_ttl_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let quota = ["--set", "quotas.stored_bytes=1000"];
        quota.into_iter().fold(Start::default().folder(folder.path()), Start::arg).start()
    };
    let mut server = start();
    server.register("d", None, &[]);
    server.register("e", None, &["red"]);
    let (app_key, secret) = (server.app_key.clone(), server.app_secret.clone());
    let mut full = 0;
    for _ in 0..3 {
        let api = Api::new(server.api_address, &app_key, &secret);
        assert_eq!(used(&api), full);
        assert_eq!(api.push_text_ttl(json!({"tag": ["red"]}), TEXT, 86_400).status, 202);
        full = used(&api);
        server.kill9();
        server = start();
    }
    let api = Api::new(server.api_address, &app_key, &secret);
    assert_eq!(used(&api), full);
    let audience = || json!({"registration_id": ["d"]});
    let short = fill(&api, |api| api.push_text_ttl(audience(), TEXT, 2));
    assert!(!short.is_empty());
    server.kill9();
    let server = start();
    let api = Api::new(server.api_address, &app_key, &secret);
    assert!(until(PATIENCE, || used(&api) == full), "{} of {full}", used(&api));
    assert_eq!(fill(&api, |api| api.push_text(audience(), TEXT)).len(), short.len());
}

#[test]
fn a_topics_message_for_who_is_away_is_refused_beyond_the_quota() {
    let server = TestServer::start();
    let mut device = server.device("d");
    device.connect();
    assert_eq!(device.subscribe("device/d/news", true), ResultCode::Done);
    device.drop_connection();
    let stored = || {
        let body = json!({"topic": "device/d/news", "payload": TEXT, "qos": 1});
        server.api.post("/v1/publish", &body)
    };
    assert!(until(PATIENCE, || stored().json["live"] == false));
    assert!(used(&server.api) > 0, "{}", stored().text);
    set_quotas(&server, &json!({"stored_bytes": 1}));
    refused(&stored());
    set_quotas(&server, &json!({"stored_bytes": 100_000}));
    assert_eq!(stored().json["stored_for"], 1);
}

#[test]
fn every_message_for_many_is_a_broadcast_and_one_for_named_devices_is_none() {
    let server = TestServer::start();
    server.register("d", Some("ann"), &["red"]);
    // One is there now, and no other for a minute.
    set_quotas(&server, &json!({"broadcasts_per_min": 1}));
    assert_eq!(server.api.push_text(json!("all"), "x").status, 202);
    for audience in [
        json!("all"),
        json!({"tag": ["red"]}),
        json!({"tag_and": ["red"]}),
        json!({"tag_not": ["blue"]}),
        json!({"condition": "'red' in tags"}),
    ] {
        let answer = server.api.push_text(audience.clone(), "x");
        assert_eq!((answer.status, answer.code()), (429, "app_rate"), "{audience} {}", answer.text);
    }
    for audience in [json!({"registration_id": ["d"]}), json!({"alias": ["ann"]}), json!({"topic": "t"})] {
        let answer = server.api.push_text(audience.clone(), "x");
        assert_eq!(answer.status, 202, "{audience} {}", answer.text);
    }
}

#[test]
fn a_firing_over_the_rate_waits_and_fires_once() {
    let server = TestServer::start();
    server.register("d", None, &["red"]);
    // One a minute is there now, and no other for a minute.
    set_quotas(&server, &json!({"broadcasts_per_min": 1}));
    assert_eq!(server.api.push_text(json!("all"), "x").status, 202);
    let due = (jiff::Timestamp::now() + jiff::SignedDuration::from_millis(500)).to_string();
    let schedule = json!({
        "name": "s",
        "trigger": {"single": {"at": due}},
        "push": {"audience": {"tag": ["red"]}, "message": {"msg_content": "due"}},
    });
    let made = server.api.post("/v1/schedules", &schedule);
    assert_eq!(made.status, 201, "{}", made.text);
    let path = format!("/v1/schedules/{}", made.json["schedule_id"].as_str().unwrap());
    let runs = || server.api.get(&path).json["runs"].as_array().map_or(0, Vec::len);
    assert!(until(PATIENCE, || server.metric("longwire_schedules_held", &[]) == 1.0));
    assert_eq!(runs(), 0, "it waits");
    set_quotas(&server, &json!({"broadcasts_per_min": 0}));
    assert!(until(PATIENCE, || runs() == 1));
    let run = server.api.get(&path).json["runs"][0].clone();
    assert!(run["msg_id"].is_string() && run["error"].is_null(), "{run}");
    assert!(until(PATIENCE, || server.metric("longwire_schedules_held", &[]) == 0.0));
}

#[test]
fn one_request_sets_all_of_an_app() {
    let server = TestServer::start();
    let path = format!("/v1/apps/{}", server.app_key);
    let set = |body: &Value| ask(&server.operator(), "PATCH", &path, body);
    let answer = set(&json!({
        "name": "The shop",
        "self_service": true,
        "receipts": "ends",
        "presence": true,
        "frequency_cap": {"messages": 2, "per_s": 3600},
        "quotas": {"stored_bytes": 1_000_000},
    }));
    assert_eq!(answer.status, 200, "{}", answer.text);
    let told = |field: &str| server.operator().get(&path).json[field].clone();
    assert_eq!((told("receipts"), told("presence")), (json!("ends"), json!(true)));
    assert_eq!(told("frequency_cap"), json!({"messages": 2, "per_s": 3600}));
    assert_eq!(told("quotas")["stored_bytes"], 1_000_000);
    // All of it is in use.
    let mut device = server.device("d");
    device.connect();
    for text in ["one", "two"] {
        server.api.push_text(json!({"registration_id": ["d"]}), text);
        let message = device.expect_text(text).message().unwrap();
        device.ack(&[message]);
    }
    let third = server.api.push_text(json!({"registration_id": ["d"]}), "three").message_id();
    assert!(matches!(device.next(PATIENCE), Some(Seen::Gap(_))));
    server.await_count(&third, "dropped", 1);
    let events = |path: &str, field: &str| server.api.get(path).json[field].as_array().unwrap().len();
    assert!(until(PATIENCE, || events("/v1/receipts", "receipts") == 3));
    assert!(until(PATIENCE, || events("/v1/presence/events", "events") == 1));
    // What is not given stays; null takes the cap away.
    assert_eq!(set(&json!({"presence": false})).status, 200);
    assert_eq!((told("frequency_cap")["messages"].clone(), told("receipts")), (json!(2), json!("ends")));
    assert_eq!(set(&json!({"frequency_cap": null, "receipts": "off"})).status, 200);
    assert_eq!((told("frequency_cap"), told("receipts")), (Value::Null, json!("off")));
    for wrong in [
        json!({"receipts": "some"}),
        json!({"presence": null, "x": 1}),
        json!({"frequency_cap": {"messages": 0, "per_s": 60}}),
        json!({"frequency_cap": {"messages": 1}}),
        json!({"frequency_cap": 1}),
    ] {
        assert_eq!(set(&wrong).status, 400, "{wrong}");
    }
}
