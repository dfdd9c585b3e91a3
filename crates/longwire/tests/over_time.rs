//! Schedules and spread messages of the real binary: killed around the due second, and with devices that come and go.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use support::{PATIENCE, Seen, TestDevice, TestServer, until};

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

/// A time of this process's clock in RFC 3339.
fn rfc3339(ms: u64) -> String {
    jiff::Timestamp::from_millisecond(ms as i64).unwrap().to_string()
}

fn text_of(seen: &Seen) -> String {
    seen.text().unwrap_or_default().to_owned()
}

/// What a device gets until `count` different messages have come, all acked: how often each text came.
fn gather(device: &mut TestDevice, count: usize) -> HashMap<String, u32> {
    let mut got: HashMap<String, u32> = HashMap::new();
    while got.len() < count {
        let push = device.expect_push(PATIENCE);
        *got.entry(text_of(&push)).or_default() += 1;
        device.ack(&[push.message().unwrap()]);
    }
    got
}

/// Due times, schedules of each, and milliseconds between them: each dies in the middle of its firing, or before, or after.
const ROUNDS: u64 = 14;
const OF_A_ROUND: u64 = 150;
const ROUND_MS: u64 = 700;
const PHONES: u64 = 4;

/// Makes the schedules of all rounds, by some callers at once; their ids.
fn make_rounds(server: &TestServer, first_due: u64) -> Vec<String> {
    let make = |number: u64| {
        let body = json!({
            "audience": {"registration_id": [format!("phone{}", number % PHONES)]},
            "message": {"msg_content": format!("m{number}")},
            "options": {"send_at": rfc3339(first_due + number / OF_A_ROUND * ROUND_MS)},
        });
        let answer = server.api.post("/v1/push", &body);
        assert_eq!(answer.status, 202, "{}", answer.text);
        assert!(answer.json.get("msg_id").is_none(), "{}", answer.text);
        answer.json["schedule_id"].as_str().unwrap().to_owned()
    };
    const CALLERS: u64 = 8;
    std::thread::scope(|scope| {
        let make = &make;
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                let mine = (0..ROUNDS * OF_A_ROUND).filter(move |number| number % CALLERS == caller);
                scope.spawn(move || mine.map(make).collect::<Vec<_>>())
            })
            .collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    })
}

#[test]
fn what_is_killed_around_its_due_second_fires_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    for phone in 0..PHONES {
        drop(server.device(&format!("phone{phone}")));
    }
    let first_due = now_ms() + 12_000;
    let ids = make_rounds(&server, first_due);
    assert!(now_ms() < first_due, "making them took too long");
    for round in 0..ROUNDS {
        // It looks every 20 ms, and a round fires in some tens.
        let kill_at = first_due + round * ROUND_MS + 2 + round * 4;
        while now_ms() < kill_at {
            std::thread::sleep(Duration::from_micros(200));
        }
        server.kill9();
        server = TestServer::start_in(folder.path());
    }
    let mut messages = HashSet::new();
    for id in &ids {
        assert!(until(PATIENCE, || runs(&server, id).as_array().is_some_and(|runs| !runs.is_empty())));
        let fired = runs(&server, id);
        assert_eq!(fired.as_array().unwrap().len(), 1, "{fired}");
        assert!(fired[0]["error"].is_null(), "{fired}");
        assert!(messages.insert(fired[0]["msg_id"].as_str().unwrap().to_owned()), "{fired}");
    }
    for phone in 0..PHONES {
        let mut phone = server.device(&format!("phone{phone}"));
        phone.connect();
        let got = gather(&mut phone, (ROUNDS * OF_A_ROUND / PHONES) as usize);
        let twice: Vec<_> = got.iter().filter(|(_, times)| **times != 1).collect();
        assert!(twice.is_empty(), "{twice:?}");
        phone.expect_nothing();
    }
}

fn runs(server: &TestServer, id: &str) -> Value {
    server.api.get(&format!("/v1/schedules/{id}")).json["runs"].clone()
}

#[test]
fn what_was_due_while_the_server_was_down_is_marked_late() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    drop(server.device("phone"));
    let due = now_ms() + 400;
    let push = json!({"audience": {"registration_id": ["phone"]}, "message": {"msg_content": "late"}});
    let request = json!({"name": "s", "push": push, "trigger": {"single": {"at": rfc3339(due)}}});
    let made = server.api.post("/v1/schedules", &request);
    assert_eq!(made.status, 201, "{}", made.text);
    let id = made.json["schedule_id"].as_str().unwrap();
    server.kill9();
    assert!(until(PATIENCE, || now_ms() > due + 1100));
    server = TestServer::start_in(folder.path());
    assert!(until(PATIENCE, || runs(&server, id)[0].is_object()));
    let run = runs(&server, id)[0].clone();
    assert_eq!(run["late"], true, "{run}");
    assert!(run["late_by_s"].as_u64().unwrap() >= 1 && run["msg_id"].is_string(), "{run}");
    let shown = server.api.get(&format!("/v1/schedules/{id}")).json;
    assert_eq!((&shown["state"], &shown["next_at"]), (&json!("finished"), &Value::Null));
}

fn spread_state(server: &TestServer, message: &str) -> Value {
    server.api.get(&format!("/v1/messages/{message}")).json["spread"].clone()
}

fn patch(server: &TestServer, message: &str, change: &Value) -> Value {
    let path = format!("/v1/messages/{message}");
    let answer = server.api.request("PATCH", &path, Some(change.to_string().as_bytes())).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json
}

fn crowd(server: &TestServer, count: usize) -> Vec<TestDevice> {
    (0..count).map(|number| server.device(&format!("d{number}"))).collect()
}

/// Takes what is there for these devices; how often each has had a push in all.
fn drain(devices: &mut [TestDevice], had: &mut [u32]) {
    for (device, had) in devices.iter_mut().zip(had) {
        while device.is_connected()
            && let Some(seen) = device.next(Duration::from_millis(2))
        {
            if let Some(message) = seen.message() {
                *had += 1;
                device.ack(&[message]);
            }
        }
    }
}

fn start_again(server: TestServer, folder: &Path) -> TestServer {
    drop(server);
    TestServer::start_in(folder)
}

#[test]
fn connected_and_returning_devices_get_a_spread_message_once_across_pause_and_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    let mut devices = crowd(&server, 24);
    let mut had = vec![0; devices.len()];
    for device in &mut devices[..16] {
        device.connect();
    }
    // 16 are connected: four seconds.
    let body = json!({"audience": "all", "message": {"msg_content": "slow"}, "options": {"speed": 4}});
    let message = server.api.post("/v1/push", &body).message_id();
    assert!(until(PATIENCE, || spread_state(&server, &message)["parts_done"].as_u64() > Some(0)));
    let paused = patch(&server, &message, &json!({"state": "paused"}));
    assert_eq!(paused["state"], "paused");
    let done = paused["parts_done"].as_u64().unwrap();
    assert!(done < 65_536, "{paused}");
    // Who returns now gets what is in the log, and nothing more comes while it is paused.
    for device in &mut devices[16..20] {
        device.connect();
    }
    drain(&mut devices, &mut had);
    server.kill9();
    server = start_again(server, folder.path());
    assert_eq!(spread_state(&server, &message), paused);
    // Another message has a slice each second meanwhile.
    let other = json!({"audience": {"tag": ["nobody"]}, "message": {"msg_content": "x"}, "options": {"big_push_duration": 1}});
    let other = server.api.post("/v1/push", &other).message_id();
    assert!(until(PATIENCE, || spread_state(&server, &other)["parts_done"].as_u64() > Some(2000)));
    assert_eq!(spread_state(&server, &message), paused);
    let before = had.clone();
    let resumed = patch(&server, &message, &json!({"state": "running", "speed": 8}));
    assert_eq!((&resumed["state"], &resumed["speed"]), (&json!("running"), &json!(8)));
    for (number, device) in devices.iter_mut().enumerate().take(20) {
        let registered = server.register(&format!("d{number}"), None, &[]);
        *device = TestDevice::new(server.device, &server.app_key, &format!("d{number}"), &registered);
        device.connect();
    }
    assert!(until(PATIENCE, || spread_state(&server, &message)["state"] == "done"));
    for (number, device) in devices.iter_mut().enumerate().skip(20) {
        let registered = server.register(&format!("d{number}"), None, &[]);
        *device = TestDevice::new(server.device, &server.app_key, &format!("d{number}"), &registered);
        device.connect();
    }
    assert!(until(PATIENCE, || {
        drain(&mut devices, &mut had);
        had.iter().all(|count| *count >= 1)
    }));
    server.await_count(&message, "delivered", 24);
    // An ack that was lost with the kill brings the message again, in another session; nobody else has it twice.
    for (now, before) in had.iter().zip(&before) {
        assert!(*now == 1 || (*now == 2 && *before == 1), "{had:?} {before:?}");
    }
    let books = server.api.get(&format!("/v1/messages/{message}")).json["counts"].clone();
    assert_eq!((&books["created"], &books["delivered"]), (&json!(24), &json!(24)), "{books}");
}

#[test]
fn the_endpoints_refuse_what_is_wrong_and_tell_unknown_from_nothing() {
    let server = TestServer::start();
    drop(server.device("phone"));
    let later = rfc3339(now_ms() + 3_600_000);
    let push = json!({"audience": "all", "message": {"msg_content": "x"}});
    let single = json!({"single": {"at": later}});
    let made = |name: &str, push: &Value, trigger: &Value| {
        server.api.post("/v1/schedules", &json!({"name": name, "push": push, "trigger": trigger}))
    };
    let ok = made("a", &push, &single);
    assert_eq!(ok.status, 201, "{}", ok.text);
    let past = json!({"single": {"at": "2020-01-01T00:00:00Z"}});
    let with = |key: &str, value: Value| {
        let mut fields = json!({"start": rfc3339(now_ms()), "end": rfc3339(now_ms() + 9_000_000_000),
            "time": "08:00:00", "unit": "week", "points": ["MON"], "tz": "Europe/Berlin"});
        fields[key] = value;
        json!({ "periodical": fields })
    };
    assert_eq!(made("a", &push, &with("frequency", json!(2))).status, 201);
    for (field, name, push, trigger) in [
        ("name", "", &push, &single),
        ("push.audience", "a", &json!({"audience": "some", "message": {"msg_content": "x"}}), &single),
        (
            "push.options.send_at",
            "a",
            &json!({"audience": "all", "message": {"msg_content": "x"}, "options": {"send_at": later}}),
            &single,
        ),
        (
            "push.options.expire_at",
            "a",
            &json!({"audience": "all", "message": {"msg_content": "x"}, "options": {"expire_at": later}}),
            &single,
        ),
        ("trigger", "a", &push, &json!({})),
        ("trigger", "a", &push, &past),
        ("trigger.periodical.time", "a", &push, &with("time", json!("8:00"))),
        ("trigger.periodical.points", "a", &push, &with("points", json!(["MONDAY"]))),
        ("trigger.periodical.points", "a", &push, &with("points", json!([1]))),
        ("trigger.periodical.points", "a", &push, &with("unit", json!("day"))),
        ("trigger.periodical.tz", "a", &push, &with("tz", json!("Nowhere"))),
        ("trigger.periodical.unit", "a", &push, &with("unit", json!("year"))),
        ("trigger.periodical.frequency", "a", &push, &with("frequency", json!(0))),
    ] {
        let refused = made(name, push, trigger);
        assert_eq!(refused.status, 400, "{field}: {}", refused.text);
        assert!(refused.json["message"].as_str().unwrap().starts_with(field), "{field}: {}", refused.text);
    }
}

#[test]
fn schedules_are_listed_changed_and_removed() {
    let server = TestServer::start();
    let later = rfc3339(now_ms() + 3_600_000);
    let push = json!({"audience": "all", "message": {"msg_content": "x"}});
    let request = json!({"name": "a", "push": push, "trigger": {"single": {"at": later}}});
    let id = server.api.post("/v1/schedules", &request).json["schedule_id"].as_str().unwrap().to_owned();
    assert_eq!(server.api.post("/v1/schedules", &request).status, 201);
    let path = format!("/v1/schedules/{id}");
    let page = server.api.get("/v1/schedules?limit=1").json;
    assert_eq!(page["items"][0]["schedule_id"], json!(id));
    let next = server.api.get(&format!("/v1/schedules?limit=1&after={}", page["next"].as_str().unwrap()));
    assert_eq!((next.status, next.json["items"].as_array().unwrap().len()), (200, 1));
    assert_eq!(next.json["next"], Value::Null);
    assert_eq!(server.api.get("/v1/schedules?after=x").status, 400);
    let change =
        |body: &Value| server.api.request("PATCH", &path, Some(body.to_string().as_bytes())).unwrap();
    assert_eq!(change(&json!({"enabled": false})).json["state"], "disabled");
    assert_eq!(change(&json!({"enabled": true})).json["state"], "waiting");
    assert_eq!(change(&json!({"enabled": 1})).status, 400);
    let delete = |path: &str| server.api.request("DELETE", path, None).unwrap().status;
    assert_eq!((delete(&path), delete(&path), server.api.get(&path).status), (204, 404, 404));
    assert_eq!((delete("/v1/schedules/x"), change(&json!({"name": "b"})).status), (400, 404));
}

#[test]
fn what_cannot_be_spread_or_has_passed_is_refused() {
    let server = TestServer::start();
    let later = rfc3339(now_ms() + 3_600_000);
    let with_key = json!({"audience": "all", "message": {"msg_content": "x"}, "options": {"send_at": later}, "cid": "k"});
    assert_eq!(server.api.post("/v1/push", &with_key).status, 400);
    let batch = json!({"pushes": [{"audience": "all", "message": {"msg_content": "x"}, "options": {"send_at": later}}]});
    let batch = server.api.post("/v1/push/batch", &batch).json;
    assert_eq!(batch["results"][0]["status"], 400, "{batch}");
    for (status, body) in [
        (
            400,
            json!({"audience": "all", "message": {"msg_content": "x"}, "options": {"send_at": "2020-01-01T00:00:00Z"}}),
        ),
        (
            400,
            json!({"audience": {"alias": ["x"]}, "message": {"msg_content": "x"}, "options": {"speed": 5}}),
        ),
        (
            400,
            json!({"audience": "all", "message": {"msg_content": "x"}, "options": {"speed": 5, "time_to_live": 0}}),
        ),
    ] {
        let refused = server.api.post("/v1/push", &body);
        assert_eq!(refused.status, status, "{}", refused.text);
    }
    let plain = server.api.push_text(json!("all"), "x").message_id();
    let change = |id: &str, body: &Value| {
        server.api.request("PATCH", &format!("/v1/messages/{id}"), Some(body.to_string().as_bytes())).unwrap()
    };
    let refused = change(&plain, &json!({"state": "paused"}));
    assert_eq!((refused.status, refused.code()), (409, "not_spread"));
    assert_eq!(change(&"0".repeat(32), &json!({"state": "paused"})).status, 404);
    for bad in [
        json!({}),
        json!({"state": "gone"}),
        json!({"speed": 0}),
        json!({"speed": 1, "big_push_duration": 1}),
    ] {
        assert_eq!(change(&plain, &bad).status, 400, "{bad}");
    }
}

#[test]
fn the_command_makes_lists_and_removes_schedules_and_pauses_messages() {
    let server = TestServer::start();
    let run = |words: &[&str]| -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_longwire"))
            .args(words)
            .env("LONGWIRE_API", format!("http://{}", server.api_address))
            .env("LONGWIRE_APP_KEY", &server.app_key)
            .env("LONGWIRE_APP_SECRET", &server.app_secret)
            .output()
            .unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    };
    let later = rfc3339(now_ms() + 3_600_000);
    let sent = run(&["push", "--all", "--message", "x", "--send-at", &later]);
    let id = sent["schedule_id"].as_str().unwrap().to_owned();
    let (start, end) = (rfc3339(now_ms()), rfc3339(now_ms() + 9_000_000_000));
    let weekly = run(&[
        "schedule",
        "add",
        "--name",
        "weekly",
        "--all",
        "--title",
        "x",
        "--time",
        "08:30:00",
        "--start",
        &start,
        "--end",
        &end,
        "--unit",
        "week",
        "--on",
        "MON",
        "--on",
        "FRI",
        "--tz",
        "Europe/Berlin",
    ]);
    assert_eq!(weekly["trigger"]["periodical"]["points"], json!(["MON", "FRI"]));
    assert_eq!(run(&["schedule", "list"])["items"].as_array().unwrap().len(), 2);
    assert_eq!(run(&["schedule", "disable", &id])["state"], "disabled");
    assert_eq!(run(&["schedule", "enable", &id])["state"], "waiting");
    run(&["schedule", "remove", &id]);
    assert_eq!(run(&["schedule", "list", "--limit", "1"])["items"][0]["name"], "weekly");
    assert_eq!(run(&["schedule", "show", weekly["schedule_id"].as_str().unwrap()])["name"], "weekly");
    let pushed = run(&["push", "--all", "--message", "x", "--big-push-duration", "10"]);
    let message = pushed["msg_id"].as_str().unwrap();
    assert_eq!(run(&["pause", message])["state"], "paused");
    assert_eq!(run(&["message", message])["spread"]["state"], "paused");
    assert_eq!(run(&["resume", message, "--speed", "5"])["speed"], 5);
}
