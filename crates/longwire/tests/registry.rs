//! The registry on MariaDB and PostgreSQL, through the real binary: real servers, killed and stopped under it.

#![allow(clippy::unwrap_used)]

#[path = "../../longwire-server/tests/engines/mod.rs"]
mod engines;
#[path = "support/mod.rs"]
mod support;

use engines::{Engine, Kind, PASSWORD, shared};
use serde_json::json;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use support::{PATIENCE, Start, TestDevice, TestServer, until};

/// Conversations that are the same with both.
macro_rules! with_each {
    ($($conversation:ident),* $(,)?) => {
        mod mariadb {
            $(#[test] fn $conversation() { super::$conversation(super::Kind::MariaDb); })*
        }
        mod postgres {
            $(#[test] fn $conversation() { super::$conversation(super::Kind::Postgres); })*
        }
    };
}

with_each!(
    devices_and_apps_outlive_a_restart_and_a_second_server_is_refused,
    a_database_that_dies_takes_only_registrations_with_it,
    a_database_that_stands_still_is_not_waited_for,
    a_database_that_is_killed_under_registrations_keeps_no_half_device,
    a_dead_database_at_the_start_is_named_and_waited_for_so_long,
);

fn start(url: &str) -> Start {
    Start::default().env("LONGWIRE_SQL__URL", url)
}

/// What `longwire doctor` says of the registry.
fn doctor(url: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut doctor = Command::new(env!("CARGO_BIN_EXE_longwire"));
    doctor.args(["doctor", "--data-dir"]).arg(folder.path()).env("LONGWIRE_SQL__URL", url);
    let said = doctor.output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout) + String::from_utf8_lossy(&said.stderr);
    said.into_owned()
}

#[track_caller]
fn delivered(server: &TestServer, device: &mut TestDevice, name: &str, text: &str) {
    let message = server.api.push_text(json!({ "registration_id": [name] }), text).message_id();
    device.expect_text(text);
    server.await_count(&message, "delivered", 1);
}

/// What is refused while the database is away.
#[track_caller]
fn refused(server: &TestServer) {
    let app = format!("/v1/admin/apps/{}/heartbeat", server.app_key);
    let answers = [
        (server.api.post("/v1/devices", &json!({ "registration_id": "new" })), "registry_unavailable"),
        // The audit log is there too, and its line comes before the act.
        (server.operator().request("PUT", &app, Some(br#"{"padding":8}"#)).unwrap(), "audit_unavailable"),
    ];
    for (answer, code) in answers {
        assert_eq!((answer.status, answer.code()), (503, code), "{}", answer.text);
        assert!(answer.header("retry-after").is_some());
    }
    let ready = server.api.get("/readyz");
    assert_eq!((ready.status, ready.text.trim()), (200, "ready, registry away"));
    assert_eq!(server.metric("longwire_engine_up", &["engine=\"registry\""]), 0.0);
    assert!(server.metric("longwire_engine_errors_total", &["engine=\"registry\""]) >= 2.0);
}

/// What goes on while the database is away: `known` is connected, and comes back.
#[track_caller]
fn goes_on(server: &TestServer, known: &mut TestDevice) {
    delivered(server, known, "known", "to who is here");
    known.drop_connection();
    let stored = server.api.push_text(json!({ "registration_id": ["known"] }), "to who is away").message_id();
    known.connect();
    known.expect_text("to who is away");
    server.await_count(&stored, "delivered", 1);
}

#[track_caller]
fn heals(server: &TestServer) {
    let body = json!({ "registration_id": "new", "tags": ["a", "b"] });
    let registers = || matches!(server.api.post("/v1/devices", &body).status, 200 | 201);
    assert!(until(PATIENCE, registers), "{}", server.log());
    assert!(until(PATIENCE, || server.api.get("/readyz").text.trim() == "ready"));
    assert_eq!(server.metric("longwire_engine_up", &["engine=\"registry\""]), 1.0);
}

fn devices_and_apps_outlive_a_restart_and_a_second_server_is_refused(kind: Kind) {
    let engine = shared(kind);
    let mut server = start(&engine.first()).start();
    let mut device = server.device_with("known", Some("ann"), &["a", "b"]);
    device.connect();
    delivered(&server, &mut device, "known", "before");
    let (status, log) = start(&engine.first()).arg("--set").arg("sql.wait=0").must_fail();
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("in use by another Longwire server"), "{log}");
    let folder = tempfile::tempdir().unwrap();
    // The database frees the lock of a process that is gone.
    server.kill9();
    // A message store of its own, so what it knows of devices comes from the registry.
    let server = start(&engine.first()).folder(folder.path()).start();
    device.to = server.device;
    device.forget();
    device.connect();
    delivered(&server, &mut device, "known", "after");
    let view = server.api.get("/v1/devices/known");
    assert_eq!(
        (view.json["alias"].as_str(), view.json["tags"].as_array().map(Vec::len)),
        (Some("ann"), Some(2))
    );
    assert!(!server.log().contains(PASSWORD));
}

fn a_database_that_dies_takes_only_registrations_with_it(kind: Kind) {
    let mut engine = Engine::start(kind);
    let server = start(&engine.first()).start();
    let mut known = server.device("known");
    known.connect();
    for round in 0..2 {
        engine.kill();
        refused(&server);
        goes_on(&server, &mut known);
        engine.begin();
        heals(&server);
        delivered(&server, &mut known, "known", &format!("again {round}"));
    }
    let mut new = server.device("new");
    new.connect();
    delivered(&server, &mut new, "new", "hello");
}

fn a_database_that_stands_still_is_not_waited_for(kind: Kind) {
    let engine = Engine::start(kind);
    let mut server = start(&engine.first()).start();
    let mut known = server.device("known");
    known.connect();
    engine.stand_still();
    refused(&server);
    goes_on(&server, &mut known);
    engine.go_on();
    heals(&server);
    engine.stand_still();
    assert!(server.terminate().success());
    engine.go_on();
}

fn a_database_that_is_killed_under_registrations_keeps_no_half_device(kind: Kind) {
    let mut engine = Engine::start(kind);
    let server = start(&engine.first()).start();
    let tags: Vec<String> = (0..20).map(|n| format!("tag-{n}")).collect();
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let body = |n: usize| json!({ "registration_id": format!("d{n}"), "tags": tags });
    let answered: Vec<usize> = std::thread::scope(|scope| {
        let register = || {
            let mut answered = Vec::new();
            loop {
                let n = next.fetch_add(1, Relaxed);
                if server.api.post("/v1/devices", &body(n)).status != 201 {
                    return answered;
                }
                done.fetch_add(1, Relaxed);
                answered.push(n);
            }
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(register)).collect();
        assert!(until(PATIENCE, || done.load(Relaxed) > 200));
        engine.kill();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    engine.begin();
    heals(&server);
    let tagged = |n: usize| {
        let view = server.api.get(&format!("/v1/devices/d{n}"));
        (view.status == 200).then(|| view.json["tags"].as_array().unwrap().len())
    };
    for n in &answered {
        assert_eq!(tagged(*n), Some(tags.len()), "d{n} was answered");
    }
    let unanswered = (0..next.load(Relaxed)).filter(|n| !answered.contains(n));
    for n in unanswered {
        assert!(tagged(n).is_none_or(|count| count == tags.len()), "half of d{n} is there");
        let again = server.api.post("/v1/devices", &body(n)).status;
        assert!(matches!(again, 200 | 201), "d{n}: {again}");
        assert_eq!(tagged(n), Some(tags.len()));
    }
}

fn a_dead_database_at_the_start_is_named_and_waited_for_so_long(kind: Kind) {
    let mut engine = Engine::start(kind);
    let nobody = engine.first().replace("longwire:", "stranger:");
    let (status, log) = start(&nobody).must_fail();
    assert_eq!(status.code(), Some(1));
    assert!(log.contains("refuses: ") && log.contains("check user, password"), "{log}");
    assert!(doctor(&engine.first()).contains("answers and is free"));
    engine.kill();
    assert!(doctor(&engine.first()).contains("start it, or correct sql.url"));
    let (status, dead) = start(&engine.first()).arg("--set").arg("sql.wait=1").must_fail();
    assert_eq!(status.code(), Some(1));
    assert!(
        dead.contains("did not answer within") && dead.contains("start it, or correct sql.url"),
        "{dead}"
    );
    assert!(dead.contains("waiting for the registry"), "{dead}");
    for text in [log, dead, doctor(&engine.first())] {
        assert!(!text.contains(PASSWORD) && !text.contains("s3cr"), "{text}");
    }
    // One that comes while it is waited for is found.
    let url = engine.first();
    let waiting = std::thread::spawn(move || start(&url).start());
    engine.begin();
    let server = waiting.join().unwrap();
    server.register("late", None, &[]);
}
