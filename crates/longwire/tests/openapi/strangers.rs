//! What belongs to another app is answered like what is not there: the same status and the same words, on every operation that
//! names a thing in its path. Read from the document, so that a new operation is judged too.

use crate::support::{Answer, Api, TestServer};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What is written in a path for each of its parameters: a thing of the first app, and one that nobody has.
type Names = BTreeMap<&'static str, [String; 2]>;

#[test]
fn what_another_app_has_is_answered_like_what_is_not_there() {
    let server = TestServer::start();
    let other = another_app(&server);
    let names = things(&server);
    let document: Value = serde_json::from_str(&server.api.anonymous().get("/openapi.json").text).unwrap();
    let mut judged = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            if !path.contains('{') || !of_an_app(operation) || path.ends_with("/stream") {
                continue;
            }
            let [foreign, unknown] = [0, 1].map(|whose| ask(&other, method, path, &names, whose));
            let where_ = format!("{method} {path}");
            assert_eq!(foreign.status, unknown.status, "{where_}: {} / {}", foreign.text, unknown.text);
            assert_eq!(told(&foreign, &names, 0), told(&unknown, &names, 1), "{where_}");
            // A tag or an alias that nobody has is an empty list, and a webhook is made where there is none; all else is not there.
            let is_label = path.contains("{tag}") || path.contains("{alias}");
            let is_made = method == "put" && path.contains("{webhook_id}");
            assert!(
                foreign.status == 404 || ((is_label || is_made) && foreign.status < 300),
                "{where_}: {}",
                foreign.text
            );
            if is_made {
                for name in &names["webhook_id"] {
                    let removed = other.request("DELETE", &format!("/v1/webhooks/{name}"), None).unwrap();
                    assert_eq!(removed.status, 204, "{}", removed.text);
                }
            }
            judged += 1;
        }
    }
    assert!(judged >= 15, "only {judged} operations name a thing");
    // And its owner still has all of it.
    let device = server.api.get(&format!("/v1/devices/{}", names["registration_id"][0]));
    assert_eq!(
        (device.status, device.json["alias"].as_str()),
        (200, Some("theirs-alias")),
        "{}",
        device.text
    );
    let message = server.api.get(&format!("/v1/messages/{}", names["msg_id"][0]));
    assert_eq!(message.json["counts"]["pending"], 1, "{}", message.text);
    let members = server.api.get("/v1/tags/theirs-tag");
    assert_eq!((members.status, members.text.contains("theirs-device")), (200, true), "{}", members.text);
    let schedule = server.api.get(&format!("/v1/schedules/{}", names["schedule_id"][0]));
    assert_eq!((schedule.status, schedule.json["enabled"].as_bool()), (200, Some(true)), "{}", schedule.text);
    for (path, has) in [("/v1/keys", names["key_id"][0].as_str()), ("/v1/webhooks", "http://127.0.0.1:9/")] {
        let list = server.api.get(path);
        assert!(list.status == 200 && list.text.contains(has), "{path}: {}", list.text);
    }
}

/// Method, path, and the body that names a thing of the first app or one that nobody has.
type Asked = (&'static str, &'static str, fn(&Names, usize) -> Value);

#[test]
fn a_name_in_a_body_or_a_query_tells_nothing_of_another_app() {
    let server = TestServer::start();
    let other = another_app(&server);
    let names = things(&server);
    // What every request here would do for its owner, so that the comparison is not of two bad requests.
    let own = json!({ "registration_id": "own-device", "tags": ["own-tag"] });
    assert_eq!(other.post("/v1/devices", &own).status, 201);
    let mine = other.push_text(json!({ "registration_id": ["own-device"] }), "own").message_id();
    let requests: &[Asked] = &[
        ("post", "/v1/push", |names, whose| {
            push(json!({ "registration_id": [names["registration_id"][whose]] }), json!({}))
        }),
        ("post", "/v1/push", |names, whose| push(json!({ "alias": [names["alias"][whose]] }), json!({}))),
        ("post", "/v1/push", |names, whose| push(json!({ "tag": [names["tag"][whose]] }), checked())),
        ("post", "/v1/push", |names, whose| {
            push(json!({ "condition": format!("'{}' in tags", names["tag"][whose]) }), checked())
        }),
        ("post", "/v1/push", |names, whose| {
            push(
                json!({ "registration_id": ["own-device"] }),
                json!({ "override_msg_id": names["msg_id"][whose] }),
            )
        }),
        (
            "post",
            "/v1/push/batch",
            |names, whose| json!({ "pushes": [push(json!({ "registration_id": [names["registration_id"][whose]] }), json!({}))] }),
        ),
        (
            "post",
            "/v1/devices/status",
            |names, whose| json!({ "registration_ids": [names["registration_id"][whose]] }),
        ),
        ("post", "/v1/tags/own-tag", |names, whose| json!({ "add": [names["registration_id"][whose]] })),
        ("post", "/v1/tags/own-tag", |names, whose| json!({ "remove": [names["registration_id"][whose]] })),
    ];
    for (method, path, body) in requests {
        let [foreign, unknown] = [0, 1].map(|whose| {
            other
                .request(&method.to_uppercase(), path, Some(body(&names, whose).to_string().as_bytes()))
                .unwrap()
        });
        let where_ = format!("{method} {path} {}", body(&names, 0));
        assert_eq!(foreign.status, unknown.status, "{where_}: {} / {}", foreign.text, unknown.text);
        assert_ne!(foreign.status, 400, "{where_}: {}", foreign.text);
        assert_eq!(told(&foreign, &names, 0), told(&unknown, &names, 1), "{where_}");
    }
    // A cursor is a place in a list of one's own: with another's, nothing of the other comes. Each list has a second thing, so
    // that there is a cursor.
    second_things(&server);
    for list in ["/v1/devices", "/v1/tags", "/v1/schedules", "/v1/keys"] {
        let theirs = server.api.get(&format!("{list}?limit=1"));
        assert_eq!(theirs.status, 200, "{list}: {}", theirs.text);
        let next =
            theirs.json["next"].as_str().unwrap_or_else(|| panic!("{list} has no next: {}", theirs.text));
        let asked = other.get(&format!("{list}?after={next}"));
        assert!(asked.status == 400 || !asked.text.contains("theirs"), "{list}: {}", asked.text);
    }
    let story =
        |whose: usize| other.get(&format!("/v1/messages/{mine}/explain/{}", names["registration_id"][whose]));
    assert_eq!((story(0).status, told(&story(0), &names, 0)), (404, told(&story(1), &names, 1)));
}

/// One more of what lists hold, of the app of the tests.
fn second_things(server: &TestServer) {
    let device = json!({ "registration_id": "theirs-second", "tags": ["theirs-other-tag"] });
    let push = json!({ "audience": "all", "message": { "msg_content": "theirs" } });
    let tomorrow = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24);
    let when = json!({ "single": { "at": tomorrow.to_string() } });
    let schedule = json!({ "name": "theirs-second", "push": push, "trigger": when });
    let key = json!({ "name": "theirs-second", "scopes": ["push"] });
    for (list, thing) in [("/v1/devices", device), ("/v1/schedules", schedule), ("/v1/keys", key)] {
        assert_eq!(server.api.post(list, &thing).status, 201, "{list}");
    }
}

fn push(audience: Value, options: Value) -> Value {
    json!({ "audience": audience, "message": { "msg_content": "x" }, "options": options })
}

fn checked() -> Value {
    json!({ "validate_only": true })
}

/// A second app beside the one of the tests.
fn another_app(server: &TestServer) -> Api {
    let made = server.operator().post("/v1/apps", &json!({ "app_key": "another" }));
    assert_eq!(made.status, 201, "{}", made.text);
    Api::new(server.api_address, "another", made.json["app_secret"].as_str().expect("a secret"))
}

/// One thing of each kind, of the app of the tests.
fn things(server: &TestServer) -> Names {
    let device =
        json!({ "registration_id": "theirs-device", "alias": "theirs-alias", "tags": ["theirs-tag"] });
    assert_eq!(server.api.post("/v1/devices", &device).status, 201);
    let message =
        server.api.push_text(json!({ "registration_id": ["theirs-device"] }), "theirs").message_id();
    let push = json!({ "audience": "all", "message": { "msg_content": "theirs" } });
    let tomorrow = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24);
    let when = json!({ "single": { "at": tomorrow.to_string() } });
    let schedule =
        server.api.post("/v1/schedules", &json!({ "name": "theirs", "push": push, "trigger": when }));
    let key = server.api.post("/v1/keys", &json!({ "name": "theirs", "scopes": ["push"] }));
    let id = |answer: &Answer, field: &str| {
        answer.json[field].as_str().unwrap_or_else(|| panic!("{field} in {}", answer.text)).to_owned()
    };
    let unknown =
        |text: &str| text.chars().map(|c| if c.is_ascii_digit() { '7' } else { c }).collect::<String>();
    let schedule = id(&schedule, "schedule_id");
    let key = id(&key, "id");
    let webhook = json!({ "url": "http://127.0.0.1:9/", "events": ["receipts"] });
    let webhook = server.api.request("PUT", "/v1/webhooks/theirs-hook", Some(webhook.to_string().as_bytes()));
    assert_eq!(webhook.unwrap().status, 200);
    Names::from([
        ("registration_id", ["theirs-device".to_owned(), "nobody-device".to_owned()]),
        ("alias", ["theirs-alias".to_owned(), "nobody-alias".to_owned()]),
        ("tag", ["theirs-tag".to_owned(), "nobody-tag".to_owned()]),
        ("msg_id", [message, "7".repeat(32)]),
        ("schedule_id", [schedule.clone(), unknown(&schedule)]),
        ("key_id", [key.clone(), unknown(&key)]),
        ("webhook_id", ["theirs-hook".to_owned(), "nobody-hook".to_owned()]),
    ])
}

/// Whether an app's secret opens it.
fn of_an_app(operation: &Value) -> bool {
    operation["security"].as_array().is_some_and(|ways| ways.iter().any(|way| way.get("basic").is_some()))
}

fn ask(api: &Api, method: &str, path: &str, names: &Names, whose: usize) -> Answer {
    let mut asked = path.to_owned();
    for (name, both) in names {
        asked = asked.replace(&format!("{{{name}}}"), &both[whose]);
    }
    assert!(!asked.contains('{'), "{path}: say in `things` what to write for its parameter");
    let body = body_for(method, path, &names["registration_id"][whose]).to_string();
    let body = (method != "get" && method != "delete").then_some(body.as_bytes());
    api.request(&method.to_uppercase(), &asked, body).unwrap()
}

/// A request that the owner's call would take.
fn body_for(method: &str, path: &str, device: &str) -> Value {
    match (method, path) {
        ("post", "/v1/devices/{registration_id}") => json!({ "tags": { "add": ["x"] } }),
        ("put", "/v1/webhooks/{webhook_id}") => {
            json!({ "url": "http://127.0.0.1:10/", "events": ["receipts"] })
        }
        ("post", "/v1/tags/{tag}") => json!({ "add": [device] }),
        ("patch", "/v1/messages/{msg_id}") => json!({ "state": "paused" }),
        ("patch", "/v1/schedules/{schedule_id}") => json!({ "enabled": false }),
        _ => json!({}),
    }
}

/// What was answered, without what differs by request: the trace, and the secret of a webhook that is made.
fn told(answer: &Answer, names: &Names, whose: usize) -> String {
    let mut told = answer.json.clone();
    forget(&mut told);
    let mut text = told.to_string();
    for (name, both) in names {
        text = text.replace(&both[whose], name);
    }
    text
}

fn forget(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("trace_id");
            fields.remove("secret");
            fields.values_mut().for_each(forget);
        }
        Value::Array(items) => items.iter_mut().for_each(forget),
        _ => {}
    }
}
