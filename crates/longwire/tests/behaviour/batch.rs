//! Many pushes in one request, each answered for itself.

use crate::support::{Answer, TestServer};
use serde_json::{Value, json};

fn push(audience: Value, text: &str) -> Value {
    json!({ "audience": audience, "message": { "msg_content": text } })
}

fn to(name: &str) -> Value {
    json!({ "registration_id": [name] })
}

#[track_caller]
fn results(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json["results"].as_array().unwrap().clone()
}

#[test]
fn every_push_is_answered_as_if_it_were_alone() {
    let server = TestServer::start();
    let mut device = server.device("d1");
    device.connect();
    let pushes = [
        push(to("d1"), "one"),
        push(to("nobody"), "lost"),
        json!({ "audience": to("d1") }),
        push(to("d1"), &"x".repeat(20_000)),
        json!(7),
        json!({ "audience": to("d1"), "message": { "msg_content": "keyed" }, "cid": "k" }),
        json!({ "audience": to("d1"), "message": { "msg_content": "keyed" }, "cid": "k" }),
        json!({ "audience": to("d1"), "message": { "msg_content": "other" }, "cid": "k" }),
        json!({ "audience": to("d1"), "message": { "msg_content": "x" }, "colour": "red" }),
        push(json!("all"), "two"),
    ];
    let answer = server.api.post("/v1/push/batch", &json!({ "pushes": pushes }));
    let results = results(&answer);
    let said: Vec<(u64, &str)> =
        results.iter().map(|one| (one["status"].as_u64().unwrap(), one["code"].as_str().unwrap())).collect();
    assert_eq!(
        said,
        [
            (202, "accepted"),
            (422, "nobody_matches"),
            (400, "invalid"),
            (413, "too_large"),
            (400, "invalid"),
            (202, "accepted"),
            (202, "replayed"),
            (409, "conflicting_cid"),
            (400, "invalid"),
            (202, "accepted"),
        ],
        "{}",
        answer.text
    );
    let count = |name: &str| answer.json[name].as_u64().unwrap();
    assert_eq!((count("accepted"), count("replayed"), count("refused")), (3, 1, 6));
    for (one, push) in results.iter().zip(&pushes) {
        let alone = server.api.post("/v1/push", push);
        if one["status"] == 202 {
            assert!(one["body"]["msg_id"].is_string(), "{one}");
            continue;
        }
        assert_eq!(u64::from(alone.status), one["status"].as_u64().unwrap(), "{}", alone.text);
        for field in ["code", "errno", "message"] {
            assert_eq!(alone.json[field], one["body"][field], "{field}");
        }
    }
    assert_eq!(results[5]["body"]["msg_id"], results[6]["body"]["msg_id"]);
    // In their order as far as they have one source.
    let seen: Vec<String> =
        (0..3).map(|_| device.expect_push(crate::support::PATIENCE).text().unwrap().to_owned()).collect();
    let own: Vec<&String> = seen.iter().filter(|text| *text != "two").collect();
    assert_eq!(own, ["one", "keyed"], "{seen:?}");
}

#[test]
fn a_thousand_are_accepted_in_their_order() {
    let server = TestServer::start();
    let mut device = server.device("d1");
    device.connect();
    for keyed in [false, true] {
        let pushes: Vec<Value> = (0..1000)
            .map(|number| {
                let mut one = push(to("d1"), &number.to_string());
                if keyed {
                    one["cid"] = json!(format!("k{number}"));
                }
                one
            })
            .collect();
        let answer = server.api.post("/v1/push/batch", &json!({ "pushes": pushes }));
        let results = results(&answer);
        assert_eq!((results.len(), answer.json["accepted"].as_u64()), (1000, Some(1000)), "{}", answer.text);
        for (number, result) in results.iter().enumerate() {
            let seen = device.expect_text(&number.to_string());
            let id = format!("{:032x}", seen.message().unwrap().0);
            assert_eq!(result["body"]["msg_id"], json!(id));
        }
    }
    device.expect_nothing();
}

#[test]
fn what_is_no_batch_is_refused_whole() {
    let server = TestServer::start();
    server.register("d1", None, &[]);
    let refused = |body: &[u8], status: u16| {
        let answer = server.api.post_bytes("/v1/push/batch", body);
        assert_eq!(answer.status, status, "{}", answer.text);
        assert!(!answer.code().is_empty(), "{}", answer.text);
    };
    let good = push(to("d1"), "x").to_string();
    refused(b"", 400);
    refused(b"[]", 400);
    refused(b"{}", 400);
    refused(br#"{"pushes":[]}"#, 400);
    refused(br#"{"pushes":{}}"#, 400);
    refused(format!(r#"{{"pushes":[{good},]}}"#).as_bytes(), 400);
    refused(format!(r#"{{"pushes":[{good}]"#).as_bytes(), 400);
    refused(format!(r#"{{"pushes":[{good}],"cid":"k"}}"#).as_bytes(), 400);
    refused(format!(r#"{{"pushes":[{}{good}]}}"#, format!("{good},").repeat(1000)).as_bytes(), 413);
    refused(format!(r#"{{"pushes":["{}"]}}"#, "x".repeat(4 * 1024 * 1024)).as_bytes(), 413);
    let keyed = server.api.with_header("Idempotency-Key", "k");
    assert_eq!(
        keyed.post_bytes("/v1/push/batch", format!(r#"{{"pushes":[{good}]}}"#).as_bytes()).status,
        400
    );
    assert_eq!(server.api.anonymous().post("/v1/push/batch", &json!({ "pushes": [] })).status, 401);
    let view = server.api.get("/v1/devices/d1");
    assert_eq!(view.json["mailbox"]["messages"].as_u64(), Some(0), "{}", view.text);
}
