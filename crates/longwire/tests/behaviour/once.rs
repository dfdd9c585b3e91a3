//! Keys of callers: a push that is made again is the first, told again.

use crate::support::{Answer, Api, TestServer, count_of};
use serde_json::{Value, json};

fn keyed(audience: Value, text: &str, ttl_s: u32, cid: &str) -> Value {
    json!({
        "audience": audience,
        "message": { "msg_content": text },
        "options": { "time_to_live": ttl_s },
        "cid": cid,
    })
}

fn is_replayed(answer: &Answer) -> bool {
    answer.json["replayed"].as_bool().expect("replayed in the answer")
}

/// What was answered, but for whether it was told again.
fn told(answer: &Answer) -> Value {
    let mut told = answer.json.clone();
    told.as_object_mut().unwrap().remove("replayed");
    told
}

#[test]
fn the_same_key_and_request_make_one_message_and_another_request_none() {
    let server = TestServer::start();
    let mut device = server.device("d1");
    device.connect();
    let whom = json!({ "registration_id": ["d1", "unknown"] });
    let first = server.api.post("/v1/push", &keyed(whom.clone(), "one", 60, "k1"));
    assert_eq!((first.status, is_replayed(&first)), (202, false), "{}", first.text);
    device.expect_text("one");
    for _ in 0..3 {
        let again = server.api.post("/v1/push", &keyed(whom.clone(), "one", 60, "k1"));
        assert_eq!((again.status, is_replayed(&again), told(&again)), (202, true, told(&first)));
    }
    let other = server.api.post("/v1/push", &keyed(whom.clone(), "two", 60, "k1"));
    assert_eq!((other.status, other.code()), (409, "conflicting_cid"), "{}", other.text);
    // White space and the order of fields are not the request.
    let spelled = r#"{ "cid" : "k1", "options":{"time_to_live":60},
        "message":{ "msg_content" :"one"},"audience":{"registration_id":["d1","unknown"]} }"#;
    let spelled = server.api.post_bytes("/v1/push", spelled.as_bytes());
    assert_eq!((spelled.status, told(&spelled)), (202, told(&first)), "{}", spelled.text);
    server.api.post("/v1/push", &keyed(whom, "three", 60, "k2")).message_id();
    device.expect_text("three");
    device.expect_nothing();
    assert_eq!(server.metric("longwire_pushes_replayed_total", &[]), 4.0);
    assert_eq!(server.metric("longwire_push_keys_conflicting_total", &[]), 1.0);
}

#[test]
fn a_key_may_come_in_the_header_and_is_judged() {
    let server = TestServer::start();
    server.register("d1", None, &[]);
    let whom = json!({ "registration_id": ["d1"] });
    let plain = json!({ "audience": whom, "message": { "msg_content": "x" } });
    let with = |key: &str| server.api.with_header("Idempotency-Key", key);
    let first = with("h1").post("/v1/push", &plain);
    let second = with("h1").post("/v1/push", &plain);
    assert_eq!((is_replayed(&first), is_replayed(&second)), (false, true));
    assert_eq!(first.message_id(), second.message_id());
    // The field and the header are one key.
    let mut field = plain.clone();
    field["cid"] = json!("h1");
    assert_eq!(server.api.post("/v1/push", &field).message_id(), first.message_id());
    assert_eq!(with("h1").post("/v1/push", &field).message_id(), first.message_id());
    let refused = |answer: Answer| {
        assert_eq!((answer.status, answer.code()), (400, "invalid"), "{}", answer.text);
    };
    refused(with("h2").post("/v1/push", &field));
    refused(with(&"k".repeat(65)).post("/v1/push", &plain));
    for bad in [json!(""), json!("k".repeat(65)), json!("a\u{0}b"), json!(7), json!(["a"])] {
        let mut push = plain.clone();
        push["cid"] = bad;
        refused(server.api.post("/v1/push", &push));
    }
}

#[test]
fn a_refused_push_leaves_its_key_free() {
    let server = TestServer::start();
    let push = |whom: &str| keyed(json!({ "registration_id": [whom] }), "x", 60, "k");
    assert_eq!(server.api.post("/v1/push", &push("nobody")).status, 422);
    let mut too_long = push("d1");
    too_long["message"]["msg_content"] = json!("x".repeat(20_000));
    assert_eq!(server.api.post("/v1/push", &too_long).status, 413);
    server.register("d1", None, &[]);
    for _ in 0..1000 {
        server.api.push_text(json!({ "registration_id": ["d1"] }), "filler").message_id();
    }
    let full = server.api.post("/v1/push", &push("d1"));
    assert_eq!((full.status, full.code()), (429, "device_queue_full"), "{}", full.text);
    server.register("nobody", None, &[]);
    let accepted = server.api.post("/v1/push", &push("nobody"));
    assert_eq!((accepted.status, is_replayed(&accepted)), (202, false), "{}", accepted.text);
}

#[test]
fn of_many_at_once_one_is_accepted() {
    let server = TestServer::start();
    let mut device = server.device("d1");
    device.connect();
    for (audience, ttl_s) in [
        (json!({ "registration_id": ["d1"] }), 60),
        (json!({ "registration_id": ["d1"] }), 0),
        (json!("all"), 60),
        (json!({ "topic": "device/d1/t" }), 60),
        (json!({ "topic": "device/d1/t" }), 0),
    ] {
        let cid = format!("{audience}{ttl_s}");
        let push = |api: &Api| api.post("/v1/push", &keyed(audience.clone(), "x", ttl_s, &cid));
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let pushes: Vec<_> = (0..16).map(|_| scope.spawn(|| push(&server.api))).collect();
            pushes.into_iter().map(|push| push.join().unwrap()).collect()
        });
        assert!(answers.iter().all(|answer| answer.status == 202), "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| !is_replayed(answer)).count(), 1, "{answers:?}");
        assert!(answers.iter().all(|answer| told(answer) == told(&answers[0])), "{answers:?}");
        if audience["topic"].is_null() {
            device.expect_text("x");
        }
        device.expect_nothing();
    }
}

#[test]
fn keys_outlive_kill_9_and_restart_whatever_was_pushed() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    server.register("d1", None, &["v2"]);
    let pushes: Vec<Value> = [
        (json!({ "registration_id": ["d1"] }), 600),
        (json!({ "tag": ["v2"] }), 600),
        (json!("all"), 600),
        (json!({ "registration_id": ["d1"] }), 0),
        (json!("all"), 0),
        (json!({ "topic": "news" }), 600),
    ]
    .into_iter()
    .enumerate()
    .map(|(at, (audience, ttl_s))| keyed(audience, &at.to_string(), ttl_s, &format!("k{at}")))
    .collect();
    let first: Vec<Answer> = pushes.iter().map(|push| server.api.post("/v1/push", push)).collect();
    for round in 0..3 {
        if round == 2 {
            server.terminate();
        } else {
            server.kill9();
        }
        server = TestServer::start_in(folder.path());
        for (push, first) in pushes.iter().zip(&first) {
            let again = server.api.post("/v1/push", push);
            assert_eq!((again.status, is_replayed(&again), told(&again)), (202, true, told(first)));
            let mut other = push.clone();
            other["message"]["msg_content"] = json!("other");
            assert_eq!(server.api.post("/v1/push", &other).status, 409);
        }
    }
    let mut device = server.device_with("d1", None, &["v2"]);
    device.connect();
    let mut got: Vec<String> =
        (0..3).map(|_| device.expect_push(crate::support::PATIENCE).text().unwrap().into()).collect();
    got.sort();
    assert_eq!(got, ["0", "1", "2"]);
    device.expect_nothing();
}

#[test]
fn a_push_whose_answer_was_lost_to_kill_9_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let mut server = TestServer::start_in(folder.path());
        let name = format!("d{round}");
        server.register(&name, None, &[]);
        let push = |number: usize| {
            keyed(
                json!({ "registration_id": [name] }),
                &number.to_string(),
                600,
                &format!("{round}-{number}"),
            )
        };
        // Callers go on while the process is killed under them.
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (api, push) = (server.api.clone(), &push);
                scope.spawn(move || {
                    for number in 0..40 {
                        if api.try_post("/v1/push", &push(thread * 40 + number)).is_err() {
                            return;
                        }
                    }
                });
            }
            std::thread::sleep(std::time::Duration::from_millis(40 + 30 * round));
            server.kill9();
        });
        let server = TestServer::start_in(folder.path());
        let ids: Vec<String> =
            (0..160).map(|number| server.api.post("/v1/push", &push(number)).message_id()).collect();
        let view = server.api.get(&format!("/v1/devices/{name}"));
        assert_eq!(view.json["mailbox"]["messages"].as_u64(), Some(160), "{}", view.text);
        for id in ids {
            let story = server.api.get(&format!("/v1/messages/{id}"));
            assert_eq!(count_of(&story.json, "created"), 1, "{}", story.text);
        }
    }
}
