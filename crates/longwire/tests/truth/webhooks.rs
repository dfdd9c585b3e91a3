//! What is sent outside.

use super::sink::{Answers, Came, Sink, is_signed};
use super::support::{Answer, Api, PATIENCE, Start, TestDevice, TestServer, until};
use super::{page, streams};
use serde_json::{Value, json};
use std::net::TcpListener;

fn put(api: &Api, id: &str, body: &Value) -> Answer {
    api.request("PUT", &format!("/v1/webhooks/{id}"), Some(body.to_string().as_bytes())).unwrap()
}

/// Sets a webhook for receipts; its secret.
#[track_caller]
fn hook(server: &TestServer, id: &str, sink: &Sink) -> String {
    let answer = put(&server.api, id, &json!({ "url": sink.url(), "events": ["receipts"] }));
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json["secret"].as_str().unwrap().to_owned()
}

/// Pushes texts to a connected device; their ids.
#[track_caller]
fn deliver(server: &TestServer, device: &mut TestDevice, texts: &[String]) -> Vec<String> {
    let name = device.name.clone();
    let push = |text: &String| server.api.push_text(json!({ "registration_id": [name] }), text).message_id();
    let pushed = texts.iter().map(push).collect();
    for text in texts {
        device.expect_text(text);
    }
    pushed
}

fn numbered(from: u32, to: u32) -> Vec<String> {
    (from..to).map(|number| number.to_string()).collect()
}

fn messages(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| event["msg_id"].as_str().unwrap().to_owned()).collect()
}

#[track_caller]
fn state(server: &TestServer) -> Value {
    page(server, "/v1/webhooks")["webhooks"][0].clone()
}

#[test]
fn receipts_and_presence_arrive_in_order_and_signed() {
    let server = TestServer::start();
    streams(&server, "ends", true);
    let sink = Sink::start();
    let body = json!({ "url": sink.url(), "events": ["receipts", "presence"] });
    let secret = put(&server.api, "shop", &body).json["secret"].as_str().unwrap().to_owned();
    let mut device = server.device("d1");
    device.connect();
    let pushed = deliver(&server, &mut device, &numbered(0, 30));
    let events = sink.await_events(31);
    let (presence, receipts): (Vec<Value>, Vec<Value>) =
        events.into_iter().partition(|event| event["state"] == "online");
    assert_eq!((presence.len(), messages(&receipts)), (1, pushed));
    for came in sink.came() {
        assert!(is_signed(&came, &secret), "{came:?}");
        let altered = Came { body: came.body.replace("d1", "d2"), ..came.clone() };
        assert!(!is_signed(&altered, &secret) && !is_signed(&came, "whsec_other"));
        assert_eq!((&came.json["app"], &came.json["webhook"]), (&json!(server.app_key), &json!("shop")));
        assert!(came.json["events"].as_array().unwrap().len() <= 100);
    }
    let quiet = until(PATIENCE, || state(&server)["streams"][0]["lag"] == 0);
    assert!(quiet, "{}", state(&server));
    assert!(!page(&server, "/v1/webhooks").to_string().contains("whsec_"), "the secret is shown once");
    assert!(!server.log().contains("whsec_"));
}

#[test]
fn what_fails_is_sent_again_until_it_is_taken_and_the_state_says_so() {
    let server = TestServer::start();
    streams(&server, "ends", false);
    let sink = Sink::start();
    let secret = hook(&server, "shop", &sink);
    let mut device = server.device("d1");
    device.connect();
    sink.answer(Answers::Status(500));
    let mut pushed = deliver(&server, &mut device, &numbered(0, 3));
    let failed = until(PATIENCE, || state(&server)["failures_in_a_row"].as_u64() >= Some(2));
    assert!(failed, "{}", state(&server));
    let told = state(&server);
    assert_eq!(told["last_error"], "status 500");
    assert!(told["next_try_at"].is_string() && told["streams"][0]["lag"].as_u64() >= Some(1), "{told}");
    sink.answer(Answers::Status(404));
    let shown = until(PATIENCE, || state(&server)["last_error"] == "status 404");
    assert!(shown, "a status that will not change is tried and shown too: {}", state(&server));
    let before = sink.came().len();
    sink.answer(Answers::Status(204));
    pushed.extend(deliver(&server, &mut device, &numbered(3, 6)));
    let events = sink.await_events(6);
    assert_eq!(messages(&events), pushed, "in order, nothing is left out");
    assert!(sink.came().len() > before && sink.came().iter().all(|came| is_signed(came, &secret)));
    let well = until(PATIENCE, || state(&server)["failures_in_a_row"] == 0);
    assert!(well && state(&server)["next_try_at"].is_null(), "{}", state(&server));
}

#[test]
fn a_place_that_does_not_answer_is_given_up_in_time_and_a_redirect_is_not_followed() {
    let server = TestServer::start();
    streams(&server, "ends", false);
    let (sink, other) = (Sink::start(), Sink::start());
    sink.answer(Answers::Never);
    hook(&server, "shop", &sink);
    let mut device = server.device("d1");
    device.connect();
    deliver(&server, &mut device, &numbered(0, 1));
    let told = until(PATIENCE, || state(&server)["last_error"] == "no answer in 5 s");
    assert!(told, "{}", state(&server));
    sink.answer(Answers::Redirect(other.address));
    let told = until(PATIENCE, || state(&server)["last_error"] == "status 302");
    assert!(told, "{}", state(&server));
    assert!(other.came().is_empty(), "nobody went there");
}

#[test]
fn a_kill_loses_nothing_and_what_was_taken_does_not_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    streams(&server, "ends", false);
    let sink = Sink::start();
    let secret = hook(&server, "shop", &sink);
    let mut device = server.device("d1");
    device.connect();
    let mut pushed = deliver(&server, &mut device, &numbered(0, 5));
    sink.await_events(5);
    let noted = until(PATIENCE, || state(&server)["streams"][0]["lag"] == 0);
    assert!(noted, "{}", state(&server));
    sink.answer(Answers::Status(503));
    pushed.extend(deliver(&server, &mut device, &numbered(5, 10)));
    let all = page(&server, "/v1/receipts?limit=1000");
    assert!(
        until(PATIENCE, || page(&server, "/v1/receipts?limit=1000")["receipts"].as_array().unwrap().len()
            == 10),
        "{all}"
    );
    server.kill9();
    let before = sink.came().len();
    sink.answer(Answers::Status(200));
    let server = TestServer::start_in(folder.path());
    // Requests of before that were refused hold events too, so only the later ones count.
    let later = || sink.came().split_off(before);
    let events = || -> Vec<Value> {
        later().iter().flat_map(|came| came.json["events"].as_array().unwrap().clone()).collect()
    };
    assert!(until(PATIENCE, || events().len() >= 5), "{:?}", events());
    let (later, events) = (later(), events());
    assert_eq!(messages(&events), pushed[5..], "from the noted place on, each once");
    assert!(later.iter().all(|came| is_signed(came, &secret)), "with the same secret");
    drop(server);
}

#[test]
fn a_webhook_is_changed_tested_and_taken_away() {
    let server = TestServer::start();
    streams(&server, "ends", false);
    let (sink, next) = (Sink::start(), Sink::start());
    let first = hook(&server, "shop", &sink);
    let test = || server.api.post("/v1/webhooks/shop/test", &json!({}));
    assert_eq!(test().json, json!({ "ok": true, "error": null }));
    let came = sink.await_requests(1);
    assert!(is_signed(&came[0], &first) && came[0].json["stream"] == "test");
    sink.answer(Answers::Status(418));
    assert_eq!(test().json, json!({ "ok": false, "error": "status 418" }));
    let moved = put(&server.api, "shop", &json!({ "url": next.url(), "events": ["receipts"] }));
    assert_eq!((moved.status, &moved.json["secret"]), (200, &Value::Null), "the secret stays");
    let renewed =
        put(&server.api, "shop", &json!({ "url": next.url(), "events": ["receipts"], "new_secret": true }));
    let second = renewed.json["secret"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    let mut device = server.device("d1");
    device.connect();
    let pushed = deliver(&server, &mut device, &numbered(0, 2));
    assert_eq!(messages(&next.await_events(2)), pushed);
    assert!(next.came().iter().all(|came| is_signed(came, &second)));
    let delete = || server.api.request("DELETE", "/v1/webhooks/shop", None).unwrap().status;
    assert_eq!((delete(), delete()), (204, 404));
    assert_eq!((test().status, page(&server, "/v1/webhooks")), (404, json!({ "webhooks": [] })));
    let count = next.came().len();
    deliver(&server, &mut device, &numbered(2, 4));
    assert!(until(PATIENCE, || {
        page(&server, "/v1/receipts?limit=9")["receipts"].as_array().unwrap().len() == 4
    }));
    assert_eq!(next.came().len(), count);
}

#[test]
fn what_is_no_webhook_is_refused() {
    let server = TestServer::start();
    let good = json!({ "url": "http://127.0.0.1:9/", "events": ["receipts"] });
    let long = "x".repeat(33);
    for id in ["a%20b", "a.b", "%C3%A4", &long] {
        assert_eq!(put(&server.api, id, &good).status, 400, "{id}");
    }
    for body in [
        json!({ "url": "http://127.0.0.1:9/", "events": [] }),
        json!({ "url": "http://127.0.0.1:9/", "events": ["receipts", "receipts", "presence"] }),
        json!({ "url": "http://127.0.0.1:9/", "events": ["all"] }),
        json!({ "url": "http://127.0.0.1:9/" }),
        json!({ "url": "nowhere", "events": ["receipts"] }),
        json!({ "url": "file:///etc/passwd", "events": ["receipts"] }),
        json!({ "url": "http://u:p@127.0.0.1:9/", "events": ["receipts"] }),
        json!({ "url": "http://127.0.0.1:9/", "events": ["receipts"], "secret": "mine" }),
    ] {
        assert_eq!(put(&server.api, "shop", &body).status, 400, "{body}");
    }
    for id in ["a", "b", "c", "d"] {
        assert_eq!(put(&server.api, id, &good).status, 200);
    }
    assert_eq!(put(&server.api, "e", &good).status, 400, "four are the most");
    assert_eq!(put(&server.api, "d", &good).status, 200, "a known one is changed");
    assert_eq!(server.api.anonymous().get("/v1/webhooks").status, 401);
}

#[test]
fn an_app_cannot_make_the_node_speak_to_its_own_network() {
    let private = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = private.local_addr().unwrap().port();
    let sink = Sink::at(private);
    let server = Start::default().arg("--set").arg("webhooks.private=false").start();
    streams(&server, "ends", false);
    for url in [
        format!("http://127.0.0.1:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("https://2130706433:{port}/"),
    ] {
        assert_eq!(
            put(&server.api, "shop", &json!({ "url": url, "events": ["receipts"] })).status,
            400,
            "{url}"
        );
    }
    // A name is only known when it is resolved.
    let named = json!({ "url": format!("https://localhost:{port}/"), "events": ["receipts"] });
    assert_eq!(put(&server.api, "shop", &named).status, 200);
    let tested = server.api.post("/v1/webhooks/shop/test", &json!({}));
    assert_eq!(tested.json["error"], "the name has no public address", "{}", tested.text);
    assert!(sink.came().is_empty());
}
