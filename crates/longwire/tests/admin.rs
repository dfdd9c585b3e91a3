//! What an operator and an app can do to a running server, and what it does to devices that log in twice.

#![allow(clippy::unwrap_used)]

mod support;

use longwire_proto::close::CloseReason;
use serde_json::{Value, json};
use std::time::Duration;
use support::{Api, PATIENCE, Seen, Start, TestDevice, TestServer, until};

/// Connects, and says why that was refused; `None`: it is logged in.
#[track_caller]
fn refusal(device: &mut TestDevice) -> Option<(CloseReason, u16)> {
    device.try_connect().unwrap();
    loop {
        match device.next(PATIENCE) {
            Some(Seen::Welcome(_)) => return None,
            Some(Seen::Refused(refusal)) => {
                device.drop_connection();
                return Some((refusal.reason, refusal.retry_after_s));
            }
            // What the connection before it was told.
            Some(Seen::Closed(_) | Seen::Ended) => {}
            other => panic!("neither in nor refused: {other:?}"),
        }
    }
}

#[track_caller]
fn sessions(server: &TestServer) -> u64 {
    let memory = server.operator().get("/v1/admin/memory").json;
    let apps = memory["apps"].as_array().unwrap();
    let app = apps.iter().find(|app| app["app_key"] == server.app_key.as_str());
    app.unwrap_or_else(|| panic!("{memory}"))["sessions"].as_u64().unwrap()
}

#[test]
fn only_the_admin_key_opens_what_is_the_operators() {
    let server = TestServer::start();
    let spoilt = server.admin_key.replace(server.admin_key.chars().next().unwrap(), "x");
    let strangers = [
        server.api.anonymous(),
        Api::new(server.api_address, &server.app_key, &server.app_secret),
        Api::new(server.api_address, "admin", &spoilt),
        Api::new(server.api_address, "admin", &server.app_secret),
        Api::new(server.api_address, &server.app_key, &server.admin_key),
    ];
    for stranger in &strangers {
        for path in ["/v1/admin/memory", "/v1/admin/shards"] {
            let answer = stranger.get(path);
            assert_eq!((answer.status, answer.code()), (401, "unauthorized"), "{path}");
        }
        let answer = stranger.post("/v1/admin/drain", &json!({"window_s": 0, "then": "stay"}));
        assert_eq!(answer.status, 401, "{}", answer.text);
        let path = format!("/v1/admin/apps/{}/duplicate_login", server.app_key);
        let answer = stranger.request("PUT", &path, Some(br#"{"duplicate_login":"reject"}"#)).unwrap();
        assert_eq!(answer.status, 401, "{}", answer.text);
    }
    let operator = Api::new(server.api_address, "admin", &server.admin_key);
    assert_eq!(operator.get("/readyz").status, 200);
    assert_eq!(operator.get("/v1/admin/memory").status, 200);
    // The admin key is no app's secret.
    assert_eq!(operator.get("/v1/devices/d").status, 401);
}

#[test]
fn memory_and_shards_tell_who_is_connected() {
    let server = Start::default().arg("--set").arg("shards.count=2").start();
    let mut devices: Vec<_> = (0..5).map(|number| server.device(&format!("d{number}")).silent()).collect();
    devices.iter_mut().for_each(|device| drop(device.connect()));
    server.api.push_text(json!({ "registration_id": ["d0"] }), "unacked").message_id();
    devices[0].expect_push(PATIENCE);
    assert_eq!(sessions(&server), 5);
    let operator = server.operator();
    let mut memory = Value::Null;
    assert!(until(PATIENCE, || {
        memory = operator.get("/v1/admin/memory").json;
        memory["hub"]["unacked"] == 1
    }));
    assert_eq!(memory["node"]["connections"], 5);
    assert!(memory["node"]["resident_bytes"].as_u64().unwrap() > 1 << 20, "{memory}");
    assert!(memory["hub"]["session_table_bytes"].as_u64().unwrap() >= 5 * 17, "{memory}");

    let shards = operator.get("/v1/admin/shards").json;
    let shards = shards["shards"].as_array().unwrap();
    let sum = |field: &str| shards.iter().map(|shard| shard[field].as_u64().unwrap()).sum::<u64>();
    assert_eq!((shards.len(), sum("sessions"), sum("connections")), (2, 5, 5));
    for shard in shards {
        assert!(shard["turn_p99_us"].as_u64() <= shard["turn_longest_us"].as_u64(), "{shard}");
        assert!(shard["commands_max"].as_u64() >= Some(64) && shard["events_max"].as_u64() >= Some(64));
    }
    assert!(sum("turns") > 0 && sum("turn_longest_us") > 0);
    drop(devices);
    assert!(until(PATIENCE, || sessions(&server) == 0));
}

#[test]
fn a_disconnected_device_is_told_and_may_come_back_and_others_stay() {
    let server = TestServer::start();
    let (mut kicked, mut other) = (server.device("kicked"), server.device("other"));
    kicked.connect();
    other.connect();
    let path = "/v1/devices/kicked/disconnect";
    let disconnect = || server.api.post(path, &json!({}));
    let answer = disconnect();
    assert_eq!((answer.status, &answer.json), (200, &json!({"disconnected": true})));
    assert_eq!(kicked.expect_end(), Some(CloseReason::Kicked));
    assert!(until(PATIENCE, || disconnect().json == json!({"disconnected": false})));
    assert_eq!(server.api.post("/v1/devices/nobody/disconnect", &json!({})).status, 404);
    assert_eq!(server.api.post("/v1/devices/a%01b/disconnect", &json!({})).status, 400);
    assert_eq!(server.api.anonymous().post(path, &json!({})).status, 401);
    assert_eq!(server.operator().post(path, &json!({})).status, 401);

    server.api.push_text(json!({ "registration_id": ["kicked", "other"] }), "both").message_id();
    other.expect_text("both");
    kicked.connect();
    kicked.expect_text("both");
}

#[track_caller]
fn told_to_go(device: &mut TestDevice) {
    let mut told = false;
    loop {
        match device.next(PATIENCE) {
            Some(Seen::GoAway { .. }) => told = true,
            Some(Seen::Ended) => break,
            Some(_) => {}
            None => panic!("{} is neither told nor let go", device.name),
        }
    }
    assert!(told, "{} was let go without a word", device.name);
}

#[test]
fn a_drained_node_that_stays_serves_no_devices_and_no_pushes_and_can_be_asked() {
    let mut server = TestServer::start();
    let mut device = server.device("d1");
    device.connect();
    let message = server.api.push_text(json!({ "registration_id": ["d1"] }), "before").message_id();
    device.expect_text("before");
    server.await_count(&message, "delivered", 1);
    let operator = server.operator();
    for wrong in [
        json!({"window_s": 3601}),
        json!({"window_s": -1}),
        json!({"window_s": 1, "then": "wait"}),
        json!({"then": "stay"}),
        json!({"window_s": 1, "node": "me"}),
    ] {
        assert_eq!(operator.post("/v1/admin/drain", &wrong).status, 400, "{wrong}");
    }
    assert_eq!(operator.get("/readyz").status, 200);

    let answer = operator.post("/v1/admin/drain", &json!({"window_s": 1, "then": "stay"}));
    assert_eq!(answer.status, 202, "{}", answer.text);
    assert_eq!(answer.json, json!({"draining": true, "window_s": 1, "then": "stay"}));
    assert_eq!(operator.get("/readyz").status, 503);
    told_to_go(&mut device);
    assert!(until(PATIENCE, || device.try_connect().is_err()));
    let push = server.api.push_text(json!("all"), "after");
    assert_eq!((push.status, push.code()), (503, "draining"));
    assert!(push.header("retry-after").is_some());
    assert_eq!(operator.get("/healthz").status, 200);
    assert!(until(PATIENCE, || sessions(&server) == 0));
    assert_eq!(server.api.get(&format!("/v1/messages/{message}")).status, 200);
    assert!(server.lives());

    // Told again, it ends.
    assert_eq!(operator.post("/v1/admin/drain", &json!({"window_s": 0, "then": "exit"})).status, 202);
    assert!(server.await_exit().success());
}

#[test]
fn a_drained_node_ends_by_itself() {
    let mut server = TestServer::start();
    let mut devices: Vec<_> = (0..5).map(|number| server.device(&format!("d{number}"))).collect();
    devices.iter_mut().for_each(|device| drop(device.connect()));
    let answer = server.operator().post("/v1/admin/drain", &json!({"window_s": 1}));
    assert_eq!((answer.status, &answer.json["then"]), (202, &json!("exit")));
    devices.iter_mut().for_each(told_to_go);
    assert!(server.await_exit().success());
}

#[test]
fn a_second_login_is_refused_where_the_app_says_so() {
    let server = Start::default().arg("--set").arg("apps.duplicate_login=reject").start();
    let (mut first, mut second) = (server.device("d1"), server.device("d1"));
    first.connect();
    let (reason, retry_after_s) = refusal(&mut second).expect("a refusal");
    assert_eq!(reason, CloseReason::AlreadyConnected);
    assert!(retry_after_s > 0);
    server.api.push_text(json!({ "registration_id": ["d1"] }), "for the first").message_id();
    first.expect_text("for the first");
    first.close();
    assert!(until(PATIENCE, || refusal(&mut second).is_none()));
    assert!(server.metric("longwire_logins_refused_total", &["reason=\"already_connected\""]) >= 1.0);
    assert!(server.metric("longwire_takeovers_total", &[]) < 0.5);
}

#[test]
fn a_dead_connection_does_not_keep_its_device_out() {
    let server =
        Start::default().arg("--set=apps.duplicate_login=reject").arg("--set=heartbeat.min=5").start();
    let (mut dead, mut device) = (server.device("d1"), server.device("d1"));
    // From here on it says nothing. Its idle limit is 35 s.
    dead.credentials().heartbeat_s = 5;
    dead.connect();
    assert!(refusal(&mut device).is_some());
    assert!(until(Duration::from_secs(30), || refusal(&mut device).is_none()));
    assert_eq!(dead.expect_end(), Some(CloseReason::Idle));
}

#[test]
fn topic_rules_and_login_ways_are_set_by_the_operator_and_tell_no_secret() {
    let server = TestServer::start();
    let put = |app: &str, what: &str, body: &Value| {
        let path = format!("/v1/admin/apps/{app}/{what}");
        server.operator().request("PUT", &path, Some(body.to_string().as_bytes())).unwrap()
    };
    let app = server.app_key.as_str();
    let rules = json!({"topic_rules": ["allow all fleet/%c/#"]});
    let answer = put(app, "topic_rules", &rules);
    assert_eq!((answer.status, &answer.json), (200, &rules));
    assert_eq!(put("nobody", "topic_rules", &rules).status, 404);
    let secret = "a shared secret of more than 32 bytes";
    let ways = json!({
        "jwt": {"keys": [{"algorithm": "HS256", "secret": secret}]},
        "call_out": {"url": "http://127.0.0.1:9/"},
        "certificates": {"CN 7": "truck-7"},
    });
    let answer = put(app, "login_ways", &ways);
    let told = json!({"jwt_keys": 1, "jwks_file": false, "call_out": true, "certificates": 1});
    assert_eq!((answer.status, &answer.json), (200, &told));
    assert_eq!(put("nobody", "login_ways", &ways).status, 404);
    for (what, body, part) in [
        ("topic_rules", json!({"topic_rules": ["allow read x"]}), "topic_rules[0]"),
        (
            "login_ways",
            json!({"jwt": {"keys": [{"algorithm": "none", "secret": secret}]}}),
            "jwt.keys[0].algorithm",
        ),
        (
            "login_ways",
            json!({"jwt": {"keys": [{"algorithm": "RS256", "secret": secret}]}}),
            "jwt.keys[0].public_key",
        ),
        ("login_ways", json!({"jwt": {"jwks_file": "/nowhere/keys.json"}}), "jwt.jwks_file"),
        ("login_ways", json!({"call_out": {"url": "http://192.0.2.1/"}}), "call_out.url"),
        ("login_ways", json!({"certificates": {"CN": "a\u{1}b"}}), "certificates[CN]"),
    ] {
        let answer = put(app, what, &body);
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.text.contains(part) && !answer.text.contains(secret), "{}", answer.text);
    }
    let path = format!("/v1/admin/apps/{app}/login_ways");
    assert_eq!(server.api.request("PUT", &path, Some(b"{}")).unwrap().status, 401);
}

/// By SIGHUP and by the API; what cannot be read is told, and what was read before stays.
#[test]
fn files_of_keys_are_read_again_when_told() {
    let (server, folder) = (TestServer::start(), tempfile::tempdir().unwrap());
    let reload = || server.operator().post("/v1/admin/reload", &json!({})).json;
    assert_eq!(reload(), json!({ "certificates": "none" }));
    let path = folder.path().join("keys.json");
    let set = json!({"keys": [{"kty": "oct", "alg": "HS256", "k": "A".repeat(48)}]});
    std::fs::write(&path, set.to_string()).unwrap();
    let ways = json!({"jwt": {"jwks_file": path.to_str().unwrap()}}).to_string();
    let put = format!("/v1/admin/apps/{}/login_ways", server.app_key);
    let answer = server.operator().request("PUT", &put, Some(ways.as_bytes())).unwrap();
    assert!(answer.status < 300, "{}", answer.text);
    assert_eq!(reload(), json!({ "certificates": "none", "keys": "read" }));
    std::fs::write(&path, "{}").unwrap();
    let answer = reload();
    assert_eq!(answer["keys"], "kept");
    let problem = answer["keys_problem"].as_str().unwrap();
    assert!(problem.starts_with(&*server.app_key) && problem.contains("keys.json"), "{problem}");
    let told = || server.log().matches("keys for JWTs that were read before stay in use").count();
    let before = told();
    server.signal_hangup();
    assert!(until(PATIENCE, || told() > before), "{}", server.log());
}

#[test]
fn an_apps_policy_goes_before_the_nodes_and_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    let set = |server: &TestServer, app: &str, policy: Value| {
        let path = format!("/v1/admin/apps/{app}/duplicate_login");
        let body = json!({ "duplicate_login": policy }).to_string();
        server.operator().request("PUT", &path, Some(body.as_bytes())).unwrap()
    };
    let app = server.app_key.clone();
    assert_eq!(set(&server, &app, json!("reject")).status, 200);
    assert_eq!(set(&server, "nobody", json!("reject")).status, 404);
    let newest = set(&server, &app, json!("newest"));
    assert_eq!(newest.status, 400);
    assert!(newest.text.contains("one_per_class or many"), "{}", newest.text);
    assert!(server.terminate().success());

    let server = TestServer::start_in(folder.path());
    let (mut first, mut second) = (server.device("d1"), server.device("d1"));
    first.connect();
    assert_eq!(refusal(&mut second).map(|refused| refused.0), Some(CloseReason::AlreadyConnected));
    assert_eq!(set(&server, &app, Value::Null).status, 200);
    second.connect();
    assert_eq!(first.expect_end(), Some(CloseReason::TakenOver));
}

#[test]
fn policies_that_are_not_served_are_refused_in_words() {
    for policy in ["newest", "Many", "one-per-class", ""] {
        let (status, said) =
            Start::default().arg("--set").arg(&format!("apps.duplicate_login={policy}")).must_fail();
        assert!(!status.success());
        let words = "takeover, reject, one_per_class or many";
        assert!(said.contains("apps.duplicate_login") && said.contains(words), "{said}");
    }
}

#[test]
fn two_devices_with_one_id_that_displace_each_other_are_slowed_and_a_third_is_not() {
    let server = TestServer::start();
    let mut clones = [server.device("cloned"), server.device("cloned")];
    let mut third = server.device("third");
    third.connect();
    let (mut logins, mut refusals, mut holder) = (0, Vec::new(), 0);
    clones[holder].connect();
    for _ in 0..60 {
        let other = 1 - holder;
        match refusal(&mut clones[other]) {
            None => (logins, holder) = (logins + 1, other),
            Some((reason, retry_after_s)) => {
                assert_eq!(reason, CloseReason::Conflict);
                assert!((1..=60).contains(&retry_after_s), "{retry_after_s}");
                refusals.push(retry_after_s);
            }
        }
    }
    assert!(!refusals.is_empty() && logins < 20, "{logins} logins, refused with {refusals:?}");
    assert!(server.metric("longwire_device_id_conflicts_total", &[]) >= 1.0);
    assert!(server.log().contains("device_id_conflict"), "no audit line");

    third.expect_nothing();
    let mut newer = server.device("third");
    newer.connect();
    assert_eq!(third.expect_end(), Some(CloseReason::TakenOver));
    server.api.push_text(json!({ "registration_id": ["third"] }), "still served").message_id();
    newer.expect_text("still served");
}

#[test]
fn bad_logins_are_told_to_wait_and_good_ones_get_in() {
    let server = TestServer::start();
    let mut good = server.device("good");
    let mut bad = server.device("bad");
    bad.credentials().token = "not a token".into();
    let mut waits = Vec::new();
    for _ in 0..40 {
        let (reason, retry_after_s) = refusal(&mut bad).expect("a refusal");
        assert_eq!(reason, CloseReason::BadToken);
        waits.push(retry_after_s);
    }
    assert!(waits[..20].iter().all(|wait| *wait == 0), "{waits:?}");
    assert!(waits[20..].iter().any(|wait| *wait > 0), "{waits:?}");
    assert!(server.metric("longwire_logins_slowed_total", &[]) >= 1.0);
    assert!(server.log().contains("bad_logins"));
    good.connect();
}
