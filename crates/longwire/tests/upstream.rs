//! What devices send to the business, shown through the real binary: once each, in order, and not lost by a crash.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "support/mod.rs"]
mod support;

use longwire_client::{Device, Incoming, UpstreamMessage};
use longwire_proto::id::ClientId;
use longwire_proto::wire::{ResultCode, Upstream};
use serde_json::{Value, json};
use support::{PATIENCE, Start, TestDevice, TestServer, until};

#[track_caller]
fn read(server: &TestServer, query: &str) -> Value {
    let answer = server.api.get(&format!("/v1/upstream{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json
}

fn contents(page: &Value) -> Vec<&str> {
    page["items"].as_array().unwrap().iter().map(|item| item["msg_content"].as_str().unwrap()).collect()
}

#[track_caller]
fn send(device: &mut TestDevice, number: u64, text: &str) {
    device.upstream(number, text);
    assert_eq!(device.expect_upack(), (number, ResultCode::Done));
}

#[test]
fn the_business_reads_what_devices_sent_and_lets_it_go() {
    let server = TestServer::start();
    let (mut one, mut two) = (server.device("one"), server.device("two"));
    one.connect();
    two.connect();
    send(&mut one, 1, "hello");
    send(&mut two, 1, "from two");
    one.send_upstream(Upstream { client_message: 2, mode: 1, kind: "image", to: "", payload: b"\xff\x00" });
    assert_eq!(one.expect_upack(), (2, ResultCode::Done));
    let page = read(&server, "?limit=2");
    assert_eq!(contents(&page), ["hello", "from two"]);
    assert_eq!((&page["more"], &page["waiting"]["messages"]), (&json!(true), &json!(3)));
    let item = &page["items"][0];
    assert_eq!((&item["registration_id"], &item["type"]), (&json!("one"), &json!("text")));
    assert_eq!((&item["client_message"], &item["content_type"]), (&json!("1"), &json!("text")));
    let cursor = page["cursor"].as_str().unwrap();
    let rest = read(&server, &format!("?after={cursor}"));
    assert_eq!(rest["items"][0]["type"], "image");
    assert_eq!((&rest["items"][0]["content_type"], contents(&rest)), (&json!("binary"), vec!["/wA="]));
    assert_eq!(contents(&read(&server, "")), ["hello", "from two", "/wA="], "reading takes nothing");
    let left = server.api.post("/v1/upstream/ack", &json!({ "cursor": cursor }));
    assert_eq!((left.status, &left.json["waiting"]["messages"]), (200, &json!(1)), "{}", left.text);
    assert_eq!(contents(&read(&server, "")), ["/wA="]);
    assert!((server.metric("longwire_upstream_waiting", &[]) - 1.0).abs() < 0.5);
    assert!((server.metric("longwire_upstream_answers_total", &["result=\"done\""]) - 3.0).abs() < 0.5);
}

#[test]
fn an_answered_message_is_there_after_a_kill_and_an_unanswered_one_that_is_sent_again_is_there_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    let mut device = server.device("d1");
    device.connect();
    send(&mut device, 1, "answered");
    // The kill falls anywhere into these: some are stored, some not, some of both without an answer.
    for number in 2..=60 {
        device.upstream(number, &format!("maybe {number}"));
    }
    let first = device.expect_upack();
    assert_eq!(first, (2, ResultCode::Done));
    server.kill9();
    device.drop_connection();
    let server = TestServer::start_in(folder.path());
    device.to = server.device;
    device.connect();
    let page = read(&server, "?limit=1000");
    assert_eq!(contents(&page)[..2], ["answered", "maybe 2"]);
    for number in 1..=60 {
        send(
            &mut device,
            number,
            if number == 1 { "answered".into() } else { format!("maybe {number}") }.as_str(),
        );
    }
    let page = read(&server, "?limit=1000");
    let mut all: Vec<String> = (2..=60).map(|number| format!("maybe {number}")).collect();
    all.insert(0, "answered".to_owned());
    assert_eq!(contents(&page), all);
}

#[test]
fn the_order_of_a_device_is_kept_and_a_flood_is_told_to_wait() {
    let server = TestServer::start();
    let mut device = server.device("fast");
    device.connect();
    for number in 0..400 {
        device.upstream(number, &number.to_string());
    }
    let answers: Vec<(u64, ResultCode)> = (0..400).map(|_| device.expect_upack()).collect();
    let done = answers.iter().filter(|(_, outcome)| *outcome == ResultCode::Done).count();
    let busy = answers.iter().filter(|(_, outcome)| *outcome == ResultCode::Busy).count();
    // 200 at once, and 50 for each second that this took.
    assert!(done >= 200 && busy > 0 && done + busy == 400, "{done} done, {busy} busy");
    let page = read(&server, "?limit=1000");
    let numbers: Vec<u64> = contents(&page).iter().map(|text| text.parse().unwrap()).collect();
    assert_eq!(numbers.len(), done);
    assert!(numbers.is_sorted(), "{numbers:?}");
}

#[test]
fn what_will_never_be_taken_is_said_so_and_the_connection_goes_on() {
    let server = TestServer::start();
    let mut device = server.device("d1");
    device.connect();
    let long = vec![b'x'; 10 * 1024 + 1];
    device.send_upstream(Upstream { client_message: 1, mode: 1, kind: "text", to: "", payload: &long });
    assert_eq!(device.expect_upack(), (1, ResultCode::NotAllowed));
    device.send_upstream(Upstream { client_message: 2, mode: 1, kind: "text", to: "d2", payload: b"hi" });
    assert_eq!(device.expect_upack(), (2, ResultCode::NotAllowed));
    device.send_upstream(Upstream { client_message: 3, mode: 1, kind: "text", to: "", payload: &long[1..] });
    assert_eq!(device.expect_upack(), (3, ResultCode::Done));
    assert_eq!(contents(&read(&server, "")).len(), 1);
}

#[test]
fn mode_0_is_answered_at_once_and_stored_soon() {
    let server = TestServer::start();
    let mut device = server.device("d1");
    device.connect();
    device.send_upstream(Upstream { client_message: 1, mode: 0, kind: "text", to: "", payload: b"soon" });
    assert_eq!(device.expect_upack(), (1, ResultCode::Done));
    assert!(until(PATIENCE, || contents(&read(&server, "")) == ["soon"]), "it was never stored");
}

#[test]
fn bad_questions_are_refused_with_the_field() {
    let server = TestServer::start();
    for (query, field) in [
        ("?after=zz", "after"),
        ("?after=ffffffffffffffff", "after"),
        ("?limit=0", "limit"),
        ("?limit=1001", "limit"),
        ("?limit=x", "limit"),
        ("?befor=1", "befor"),
    ] {
        let answer = server.api.get(&format!("/v1/upstream{query}"));
        assert_eq!((answer.status, answer.code()), (400, "invalid"), "{query}: {}", answer.text);
        assert!(answer.json["message"].as_str().unwrap().contains(field), "{query}: {}", answer.text);
    }
    for body in [json!({ "cursor": "1" }), json!({ "cursor": "ffffffffffffffff" }), json!({})] {
        let answer = server.api.post("/v1/upstream/ack", &body);
        assert_eq!((answer.status, answer.code()), (400, "invalid"), "{body}: {}", answer.text);
    }
    assert_eq!(server.api.anonymous().get("/v1/upstream").status, 401);
}

/// Takes what comes until so many messages were answered, all as done.
async fn answered(device: &mut Device, count: usize) {
    let mut done = 0;
    while done < count {
        let incoming = tokio::time::timeout(PATIENCE, device.next()).await.expect("an answer in time");
        if let Incoming::Answered { outcome, .. } = incoming.expect("the device goes on") {
            assert_eq!(outcome, ResultCode::Done);
            done += 1;
        }
    }
}

#[test]
fn the_outbox_of_the_sdk_loses_nothing_and_repeats_nothing_over_a_kill() {
    let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut server = TestServer::start_in(folder.path());
    let registered = server.register("sdk", None, &[]);
    let client = registered["client_id"].as_u64().or_else(|| registered["client_id"].as_str()?.parse().ok());
    let builder = Device::builder()
        .app_key(&server.app_key)
        .token(registered["token"].as_str().unwrap())
        .client(ClientId(client.unwrap()))
        .entry_node(server.device.to_string())
        .state(state.path());
    let bind = format!("listener.device.bind={}", server.device);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let server = runtime.block_on(async {
        let mut device = builder.connect().unwrap();
        for number in 0..100 {
            device.send(UpstreamMessage::new("text", number.to_string())).await.unwrap();
        }
        answered(&mut device, 10).await;
        server.kill9();
        // The device comes back to where it was.
        let server = Start::default().folder(folder.path()).arg("--set").arg(&bind).start();
        answered(&mut device, 90).await;
        device.close().await;
        server
    });
    let page = read(&server, "?limit=1000");
    let all: Vec<String> = (0..100).map(|number: u64| number.to_string()).collect();
    assert_eq!(contents(&page), all);
}
