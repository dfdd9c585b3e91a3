//! The stream of receipts and its cursor, in pages and as events.

use super::support::{PATIENCE, TestServer, until};
use super::{Events, page, streams, texts};
use longwire_proto::id::MessageId;
use longwire_proto::wire::AckKind;
use serde_json::{Value, json};

/// Waits until the stream has so many receipts.
#[track_caller]
fn await_receipts(server: &TestServer, count: usize) -> Value {
    let mut last = Value::Null;
    let reached = until(PATIENCE, || {
        last = page(server, "/v1/receipts?limit=1000");
        last["receipts"].as_array().unwrap().len() >= count
    });
    assert!(reached, "never {count} receipts: {last}");
    last
}

#[test]
fn ends_and_feedback_are_receipts_as_the_app_asks() {
    let server = TestServer::start();
    let mut device = server.device("d1");
    device.connect();
    let push = |text: &str| server.api.push_text(json!({ "registration_id": ["d1"] }), text).message_id();
    let quiet = push("nobody asked");
    device.expect_text("nobody asked");
    server.await_count(&quiet, "delivered", 1);
    assert_eq!(page(&server, "/v1/receipts")["receipts"], json!([]));
    streams(&server, "ends", false);
    let ended = push("ends");
    device.expect_text("ends");
    await_receipts(&server, 1);
    let clicked = |device: &mut super::support::TestDevice, message: &str| {
        device.say(AckKind::Clicked, MessageId::parse(message).unwrap());
        server.await_count(message, "clicked", 1);
    };
    clicked(&mut device, &ended);
    streams(&server, "all", false);
    let all = push("all");
    device.expect_text("all");
    await_receipts(&server, 2);
    clicked(&mut device, &all);
    let got = await_receipts(&server, 3);
    assert_eq!(texts(&got["receipts"], "msg_id"), [&ended[..], &all, &all]);
    assert_eq!(texts(&got["receipts"], "state"), ["delivered", "delivered", "clicked"]);
    assert_eq!((&got["lost"], &got["more"]), (&json!(0), &json!(false)));
    let first = &got["receipts"][0];
    assert_eq!((&first["registration_id"], &first["reason"]), (&json!("d1"), &Value::Null));
}

#[test]
fn a_push_with_callback_has_receipts_though_the_app_is_off() {
    let server = TestServer::start();
    server.device("away");
    let push = |options: Value| {
        let body = json!({ "audience": { "registration_id": ["away"] },
            "message": { "msg_content": "x" }, "options": options });
        server.api.post("/v1/push", &body)
    };
    let quiet = push(json!({ "time_to_live": 1 })).message_id();
    let asked = push(json!({ "time_to_live": 1, "callback": true, "analytics_label": "spring" }));
    let message = asked.message_id();
    let got = await_receipts(&server, 1);
    let receipt = &got["receipts"][0];
    assert_eq!((&receipt["msg_id"], &receipt["state"]), (&json!(message), &json!("expired")));
    assert_eq!(
        (&receipt["analytics_label"], &receipt["trace_id"]),
        (&json!("spring"), &asked.json["trace_id"])
    );
    server.await_count(&quiet, "expired", 1);
    assert_eq!(page(&server, "/v1/receipts")["receipts"].as_array().unwrap().len(), 1);
    for label in ["x".repeat(65), "a\nb".into()] {
        assert_eq!(push(json!({ "analytics_label": label })).status, 400);
    }
    assert_eq!(push(json!({ "callback": "https://example.com" })).status, 400);
}

#[test]
fn pages_go_on_where_they_ended_also_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    streams(&server, "ends", false);
    let mut device = server.device("d1");
    device.connect();
    let push = |server: &TestServer, text: &str| {
        server.api.push_text(json!({ "registration_id": ["d1"] }), text).message_id()
    };
    let mut pushed: Vec<String> = (0..10).map(|number| push(&server, &number.to_string())).collect();
    for number in 0..10 {
        device.expect_text(&number.to_string());
    }
    await_receipts(&server, 10);
    let first = page(&server, "/v1/receipts?limit=4");
    assert_eq!((texts(&first["receipts"], "msg_id"), &first["more"]), (pushed[..4].to_vec(), &json!(true)));
    let next = first["next"].as_str().unwrap().to_owned();
    server.kill9();
    device.drop_connection();
    let server = TestServer::start_in(folder.path());
    device.to = server.device;
    device.connect();
    pushed.push(push(&server, "later"));
    device.expect_text("later");
    await_receipts(&server, 11);
    let rest = page(&server, &format!("/v1/receipts?after={next}"));
    assert_eq!((texts(&rest["receipts"], "msg_id"), &rest["more"]), (pushed[4..].to_vec(), &json!(false)));
    let end = rest["next"].as_str().unwrap();
    let nothing = page(&server, &format!("/v1/receipts?after={end}"));
    assert_eq!((&nothing["receipts"], &nothing["next"]), (&json!([]), &json!(end)));
    for query in
        ["after=ffffffffffffffff", "after=7", "after=zzzzzzzzzzzzzzzz", "limit=0", "limit=1001", "x=1"]
    {
        for path in ["receipts", "presence/events"] {
            assert_eq!(server.api.get(&format!("/v1/{path}?{query}")).status, 400, "{path} {query}");
        }
    }
    for path in ["/v1/receipts", "/v1/receipts/stream", "/v1/presence/events", "/v1/presence/stream"] {
        assert_eq!(server.api.anonymous().get(path).status, 401, "{path}");
    }
}

#[test]
fn an_event_stream_tells_what_was_and_what_comes_and_goes_on_from_the_last_id() {
    let server = TestServer::start();
    streams(&server, "ends", false);
    let mut device = server.device("d1");
    device.connect();
    let push = |text: &str| server.api.push_text(json!({ "registration_id": ["d1"] }), text).message_id();
    let mut device_gets = |text: &str| {
        let message = push(text);
        device.expect_text(text);
        message
    };
    let before = device_gets("before");
    await_receipts(&server, 1);
    let mut events = Events::open(&server, "/v1/receipts/stream", "");
    let first = events.next().unwrap();
    assert_eq!((first.kind.as_str(), &first.data["msg_id"]), ("receipt", &json!(before)));
    assert_eq!(first.data["cursor"], json!(first.id));
    let after = device_gets("after");
    assert_eq!(events.next().unwrap().data["msg_id"], json!(after));
    drop(events);
    let missed = device_gets("missed");
    let header = format!("Last-Event-ID: {}\r\n", first.id);
    let mut again = Events::open(&server, "/v1/receipts/stream", &header);
    assert_eq!(again.next().unwrap().data["msg_id"], json!(after));
    assert_eq!(again.next().unwrap().data["msg_id"], json!(missed));
    let mut by_query = Events::open(&server, &format!("/v1/receipts/stream?after={}", first.id), "");
    assert_eq!(by_query.next().unwrap().data["msg_id"], json!(after));
    assert_eq!(server.api.get("/v1/receipts/stream?after=ffffffffffffffff").status, 400);
    assert_eq!(server.api.get("/v1/receipts/stream?after=x").status, 400);
}

#[test]
fn event_streams_of_an_app_are_bounded_and_end_with_the_node() {
    let mut server = TestServer::start();
    let mut open: Vec<Events> = (0..16).map(|_| Events::open(&server, "/v1/receipts/stream", "")).collect();
    let refused = server.api.get("/v1/presence/stream");
    assert_eq!((refused.status, refused.code()), (429, "too_many_streams"));
    assert!(refused.header("retry-after").is_some());
    open.pop();
    let free = until(PATIENCE, || {
        let mut socket = std::net::TcpStream::connect(server.api_address).unwrap();
        let credentials = server.api.authorization();
        std::io::Write::write_all(
            &mut socket,
            format!("GET /v1/receipts/stream HTTP/1.1\r\nHost: t\r\n{credentials}\r\n").as_bytes(),
        )
        .unwrap();
        let mut head = [0; 12];
        std::io::Read::read_exact(&mut socket, &mut head).unwrap();
        &head == b"HTTP/1.1 200"
    });
    assert!(free, "the place of one that went is given again");
    assert!(server.terminate().success(), "nobody who listens holds the node");
    assert!(open[0].next().is_none(), "it ends in order");
}
