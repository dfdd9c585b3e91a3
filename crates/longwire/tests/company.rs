//! Devices with several connections, against the whole process: who gets what, what ends a delivery, and the books.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use longwire_proto::close::CloseReason;
use longwire_proto::wire::Class;
use serde_json::{Value, json};
use support::{PATIENCE, Seen, Start, TestDevice, TestServer, count_of, until};

fn server(policy: &str) -> TestServer {
    Start::default().arg(&format!("--set=apps.duplicate_login={policy}")).start()
}

/// A further installation of the device `d1`, that acks only when it is told to.
fn installation(server: &TestServer, class: Class) -> TestDevice {
    let mut device = server.device("d1").silent();
    device.credentials().class = class;
    device
}

fn online(server: &TestServer) -> u64 {
    server.api.get("/v1/devices/d1").json["connections"].as_u64().unwrap()
}

#[track_caller]
fn get(device: &mut TestDevice, text: &str) -> longwire_proto::id::MessageId {
    let seen = device.expect_text(text);
    assert!(matches!(seen, Seen::Push { hole: false, repeated: false, .. }), "{seen:?}");
    seen.message().unwrap()
}

/// Waits until the message has these counts: created, delivered, pending.
#[track_caller]
fn books(server: &TestServer, message: &str, expected: [u64; 3]) {
    let mut last = Value::Null;
    let path = format!("/v1/messages/{message}");
    let came = until(PATIENCE, || {
        last = server.api.get(&path).json;
        ["created", "delivered", "pending"].map(|state| count_of(&last, state)) == expected
    });
    assert!(came, "not {expected:?}: {last}");
}

fn both_audiences() -> [Value; 2] {
    [json!({ "registration_id": ["d1"] }), json!("all")]
}

#[test]
fn two_classes_both_receive_and_the_first_ack_ends_the_delivery() {
    let server = server("one_per_class");
    let (mut phone, mut pc) = (installation(&server, Class::Phone), installation(&server, Class::Pc));
    phone.connect();
    pc.connect();
    assert_eq!(online(&server), 2);
    for (round, audience) in both_audiences().into_iter().enumerate() {
        let text = format!("round {round}");
        let id = server.api.push_text(audience, &text).message_id();
        let (at_phone, at_pc) = (get(&mut phone, &text), get(&mut pc, &text));
        assert_eq!(at_phone, at_pc);
        books(&server, &id, [1, 0, 1]);
        pc.ack(&[at_pc]);
        books(&server, &id, [1, 1, 0]);
        phone.ack(&[at_phone]);
        let late = round as f64 + 0.5;
        assert!(until(PATIENCE, || server.metric("longwire_late_acks_total", &[]) > late));
        books(&server, &id, [1, 1, 0]);
    }
    assert!((server.metric("longwire_devices_online", &[]) - 1.0).abs() < 0.1);
    assert!((server.metric("longwire_sessions_online", &[]) - 2.0).abs() < 0.1);
    // Nothing comes twice inside a session, online-only messages included.
    server.api.push_text_ttl(json!("all"), "now", 0);
    for device in [&mut phone, &mut pc] {
        device.expect_text("now");
        device.expect_nothing();
    }
}

#[test]
fn what_was_sent_to_one_that_vanished_is_still_pending_once_with_the_other() {
    let server = server("many");
    let (mut one, mut two) = (installation(&server, Class::Phone), installation(&server, Class::Phone));
    one.connect();
    two.connect();
    for (round, audience) in both_audiences().into_iter().enumerate() {
        let text = format!("round {round}");
        let id = server.api.push_text(audience, &text).message_id();
        get(&mut one, &text);
        let message = get(&mut two, &text);
        one.drop_connection();
        assert!(until(PATIENCE, || online(&server) == 1));
        books(&server, &id, [1, 0, 1]);
        two.ack(&[message]);
        books(&server, &id, [1, 1, 0]);
        // What the other one ended does not come again, and its return shows no hole.
        one.forget();
        one.connect();
        let id = server.api.push_text(json!({ "registration_id": ["d1"] }), "after").message_id();
        let message = get(&mut one, "after");
        get(&mut two, "after");
        one.ack(&[message]);
        two.ack(&[message]);
        books(&server, &id, [1, 1, 0]);
    }
}

#[test]
fn when_both_vanished_one_that_comes_back_gets_it_again() {
    let server = server("many");
    let (mut one, mut two) = (installation(&server, Class::Phone), installation(&server, Class::Pc));
    one.connect();
    two.connect();
    let [own, all] = both_audiences().map(|audience| server.api.push_text(audience, "x").message_id());
    for device in [&mut one, &mut two] {
        get(device, "x");
        get(device, "x");
        device.drop_connection();
    }
    assert!(until(PATIENCE, || online(&server) == 0));
    books(&server, &own, [1, 0, 1]);
    // A broadcast to nobody who is here is no delivery yet.
    books(&server, &all, [0, 0, 0]);
    one.connect();
    for _ in 0..2 {
        let seen = one.expect_text("x");
        assert!(matches!(seen, Seen::Push { hole: false, repeated: true, .. }), "{seen:?}");
        one.ack(&[seen.message().unwrap()]);
    }
    books(&server, &own, [1, 1, 0]);
    books(&server, &all, [1, 1, 0]);
    // Nothing is left for the other.
    two.connect();
    two.expect_nothing();
}

#[test]
fn one_that_was_away_while_another_acked_sees_an_unbroken_chain() {
    let server = server("one_per_class");
    let (mut phone, mut pc) = (installation(&server, Class::Phone), installation(&server, Class::Pc));
    phone.connect();
    pc.connect();
    let push =
        |text: &str| both_audiences().map(|audience| server.api.push_text(audience, text).message_id());
    let drain = |device: &mut TestDevice, text: &str| {
        let messages = [get(device, text), get(device, text)];
        device.ack(&messages);
    };
    for id in push("first") {
        assert!(!id.is_empty());
    }
    drain(&mut phone, "first");
    drain(&mut pc, "first");
    phone.drop_connection();
    assert!(until(PATIENCE, || online(&server) == 1));
    for number in 0..40 {
        let ids = push(&number.to_string());
        drain(&mut pc, &number.to_string());
        ids.iter().for_each(|id| books(&server, id, [1, 1, 0]));
    }
    phone.connect();
    let ids = push("last");
    drain(&mut phone, "last");
    drain(&mut pc, "last");
    ids.iter().for_each(|id| books(&server, id, [1, 1, 0]));
}

#[test]
fn a_newer_connection_of_the_same_class_displaces_and_of_another_does_not() {
    let server = server("one_per_class");
    let mut devices =
        [Class::Phone, Class::Pc, Class::Web, Class::Iot].map(|class| installation(&server, class));
    devices.iter_mut().for_each(|device| drop(device.connect()));
    assert_eq!(online(&server), 4);
    let mut newer = installation(&server, Class::Web);
    newer.connect();
    assert_eq!(devices[2].expect_end(), Some(CloseReason::TakenOver));
    assert_eq!(online(&server), 4);
    let kicked = server.api.post("/v1/devices/d1/disconnect", &json!({}));
    assert_eq!(kicked.json["disconnected"], true);
    for device in [&mut newer].into_iter().chain(devices.iter_mut().filter(|device| device.is_connected())) {
        assert_eq!(device.expect_end(), Some(CloseReason::Kicked));
    }
    assert!(until(PATIENCE, || online(&server) == 0));
}

#[test]
fn many_go_up_to_the_bound_and_a_changed_policy_holds_from_the_next_login() {
    let server = Start::default()
        .arg("--set=apps.duplicate_login=many")
        .arg("--set=apps.connections_per_device=3")
        .start();
    let mut devices: Vec<_> = (0..5).map(|_| installation(&server, Class::Phone)).collect();
    devices[..4].iter_mut().for_each(|device| drop(device.connect()));
    assert_eq!(devices[0].expect_end(), Some(CloseReason::TakenOver));
    assert_eq!(online(&server), 3);
    assert!(server.metric("longwire_displaced_at_bound_total", &[]) > 0.5);

    let path = format!("/v1/admin/apps/{}/duplicate_login", server.app_key);
    let set = |policy: &str| {
        let body = json!({ "duplicate_login": policy }).to_string();
        server.operator().request("PUT", &path, Some(body.as_bytes())).unwrap().status
    };
    assert_eq!(set("takeover"), 200);
    assert_eq!(online(&server), 3, "those that are there stay");
    devices[4].connect();
    for device in &mut devices[1..4] {
        assert_eq!(device.expect_end(), Some(CloseReason::TakenOver));
    }
    assert_eq!(online(&server), 1);
    assert_eq!(set("one_per_class"), 200);
    let mut pc = installation(&server, Class::Pc);
    pc.connect();
    assert_eq!(online(&server), 2);
    assert!(devices[4].is_connected());
}
