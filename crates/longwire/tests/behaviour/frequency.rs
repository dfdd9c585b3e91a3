//! A device gets as many messages in a span of time as its app allows.

use crate::support::{Answer, Api, MqttDevice, PATIENCE, Seen, TestDevice, TestServer, count_of, socket};
use longwire_proto::wire::GapReason;
use longwire_proto::wire::mqtt::Version;
use serde_json::{Value, json};

fn set(api: &Api, app_key: &str, body: &Value) -> Answer {
    let path = format!("/v1/admin/apps/{app_key}/frequency_cap");
    api.request("PUT", &path, Some(body.to_string().as_bytes())).unwrap()
}

#[track_caller]
fn cap(server: &TestServer, messages: u32) {
    let body = json!({ "frequency_cap": { "messages": messages, "per_s": 3600 } });
    let answer = set(&server.operator(), &server.app_key, &body);
    assert_eq!((answer.status, answer.json), (200, body));
}

fn push(server: &TestServer, audience: &Value, text: &str, priority: &str) -> String {
    let options = json!({ "priority": priority });
    let push = json!({ "audience": audience, "message": { "msg_content": text }, "options": options });
    server.api.post("/v1/push", &push).message_id()
}

/// Takes what comes: texts, and gaps as `-`.
#[track_caller]
fn take(device: &mut TestDevice, count: usize) -> Vec<String> {
    let one = |_| match device.next(PATIENCE) {
        Some(Seen::Push { payload, hole: false, .. }) => String::from_utf8(payload).unwrap(),
        Some(Seen::Gap(gap)) => {
            assert_eq!((gap.reason, gap.count), (GapReason::Dropped, 1));
            "-".to_owned()
        }
        other => panic!("{other:?}"),
    };
    (0..count).map(one).collect()
}

#[track_caller]
fn dropped(server: &TestServer, message: &str) {
    let story = server.await_count(message, "dropped", 1);
    assert_eq!((count_of(&story, "created"), count_of(&story, "pending")), (1, 0), "{story}");
}

#[test]
fn what_is_over_the_cap_is_left_out_in_its_place_also_after_reconnect_and_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    cap(&server, 3);
    let (one, all) = (json!({ "registration_id": ["d1"] }), json!("all"));
    let mut device = server.device("d1");
    device.connect();
    let first = push(&server, &one, "a", "normal");
    push(&server, &all, "b", "normal");
    let third = push(&server, &one, "c", "normal");
    let mut got = take(&mut device, 3);
    got.sort();
    assert_eq!(got, ["a", "b", "c"]);
    let over = [push(&server, &one, "d", "normal"), push(&server, &all, "e", "normal")];
    assert_eq!(take(&mut device, 2), ["-", "-"]);
    over.iter().for_each(|message| dropped(&server, message));
    // High priority is not held, nor counted.
    push(&server, &one, "high", "high");
    push(&server, &all, "high", "high");
    assert_eq!(take(&mut device, 2), ["high", "high"]);
    for message in [&first, &third] {
        server.await_count(message, "delivered", 1);
    }
    for restart in [false, true] {
        device.drop_connection();
        let away = push(&server, &one, "away", "normal");
        if restart {
            server.kill9();
            server = TestServer::start_in(folder.path());
            device.to = server.device;
        }
        device.connect();
        assert_eq!(take(&mut device, 1), ["-"]);
        dropped(&server, &away);
    }
    // Another device has a count of its own, and nothing holds once the cap is gone.
    let mut other = server.device("d2");
    other.connect();
    push(&server, &json!({ "registration_id": ["d2"] }), "for d2", "normal");
    assert_eq!(take(&mut other, 1), ["for d2"]);
    let none = json!({ "frequency_cap": null });
    assert_eq!(set(&server.operator(), &server.app_key, &none).status, 200);
    device.connect();
    push(&server, &one, "free", "normal");
    assert_eq!(take(&mut device, 1), ["free"]);
}

#[test]
fn an_mqtt_client_is_under_the_cap_too() {
    let server = TestServer::start();
    cap(&server, 2);
    let registered = server.register("d1", None, &[]);
    let one = json!({ "registration_id": ["d1"] });
    let ids: Vec<String> = (0..3).map(|at| push(&server, &one, &at.to_string(), "normal")).collect();
    let mut device =
        MqttDevice::login(Box::new(socket(server.device)), Version::V5, &server.app_key, &registered);
    for at in 0..2 {
        assert_eq!(device.message().1, at.to_string().into_bytes());
    }
    dropped(&server, &ids[2]);
    dropped(&server, &push(&server, &one, "live", "normal"));
    dropped(&server, &push(&server, &json!("all"), "broadcast", "normal"));
    push(&server, &one, "high", "high");
    assert_eq!(device.message().1, b"high");
}

#[test]
fn a_cap_out_of_its_range_or_of_nobody_is_refused() {
    let server = TestServer::start();
    let operator = server.operator();
    for (bad, status) in [
        (json!({ "frequency_cap": { "messages": 0, "per_s": 60 } }), 400),
        (json!({ "frequency_cap": { "messages": 1001, "per_s": 60 } }), 400),
        (json!({ "frequency_cap": { "messages": 1, "per_s": 59 } }), 400),
        (json!({ "frequency_cap": { "messages": 1, "per_s": 86_401 } }), 400),
        (json!({ "frequency_cap": { "messages": 1 } }), 400),
        (json!({ "frequency_cap": { "messages": -1, "per_s": 60 } }), 400),
        (json!({ "frequency_cap": { "messages": 1, "per_s": 60, "x": 1 } }), 400),
        (json!({ "cap": null }), 400),
        (json!([]), 400),
    ] {
        let answer = set(&operator, &server.app_key, &bad);
        assert_eq!(answer.status, status, "{bad}: {}", answer.text);
    }
    let good = json!({ "frequency_cap": { "messages": 1, "per_s": 60 } });
    assert_eq!(set(&operator, "nobody", &good).status, 404);
    assert_eq!(set(&server.api, &server.app_key, &good).status, 401);
}
