//! The SDK against the real binary: what an application sees when the server goes away and comes back.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use longwire_client::{ClientId, CloseReason, Device, DeviceBuilder, Incoming, Registration, State};
use longwire_client::{RegistrationRequest, ResultCode, UpstreamMessage, register};
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::{PATIENCE, Start, TestServer};

/// The device's clock, and the server's HTTP calls on threads that may wait.
fn on_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

async fn registered(server: &TestServer, name: &str) -> Registration {
    let request = RegistrationRequest {
        api: format!("http://{}", server.api_address),
        app_key: server.app_key.clone(),
        app_secret: Some(server.app_secret.clone()),
        registration_id: Some(name.into()),
        ..RegistrationRequest::default()
    };
    register(&request).await.unwrap()
}

fn builder(server: &TestServer, registration: &Registration) -> DeviceBuilder {
    Device::builder()
        .app_key(&server.app_key)
        .registration(registration)
        .back_off(longwire_client::BackOff { steps_s: vec![0, 1], jitter_ms: 100 })
}

async fn next(device: &mut Device) -> Option<Incoming> {
    tokio::time::timeout(PATIENCE, device.next()).await.expect("something comes")
}

async fn next_text(device: &mut Device) -> String {
    loop {
        match next(device).await {
            Some(Incoming::Message(message)) => {
                let text = String::from_utf8_lossy(&message.payload).into_owned();
                assert!(!message.hole, "something before {text} was missed");
                if text.starts_with("ack ") {
                    device.ack(message.id).await;
                }
                return text;
            }
            Some(Incoming::State(_)) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
}

async fn connected(device: &mut Device) {
    while !matches!(next(device).await, Some(Incoming::State(State::Connected { .. }))) {}
}

fn push(server: &TestServer, name: &str, text: &str) -> String {
    server.api.push_text(json!({ "registration_id": [name] }), text).message_id()
}

/// The ports of a server, so that the next one listens where the device looks.
fn again(server: &TestServer, folder: &Path) -> TestServer {
    let start = Start::default().folder(folder);
    start
        .arg("--device-bind")
        .arg(&server.device.to_string())
        .arg("--api-bind")
        .arg(&server.api_address.to_string())
        .start()
}

/// Nobody listens there.
fn dead_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn a_device_survives_the_kill_of_its_server_and_sees_each_message_once() {
    let folder = tempfile::tempdir().unwrap();
    on_runtime(async {
        let mut server = TestServer::start_in(folder.path());
        let registration = registered(&server, "phone").await;
        let mut device = builder(&server, &registration).connect().unwrap();
        connected(&mut device).await;
        push(&server, "phone", "ack 1");
        assert_eq!(next_text(&mut device).await, "ack 1");
        push(&server, "phone", "kept 2");
        assert_eq!(next_text(&mut device).await, "kept 2");
        server.kill9();
        let server = again(&server, folder.path());
        push(&server, "phone", "ack 3");
        assert_eq!(next_text(&mut device).await, "ack 3", "2 is in hand and not shown again");
        device.close().await;
    });
}

#[test]
fn a_restarted_application_sees_only_what_it_did_not_ack() {
    let state = tempfile::tempdir().unwrap();
    on_runtime(async {
        let server = TestServer::start();
        let registration = registered(&server, "phone").await;
        let start = || builder(&server, &registration).state(state.path()).connect().unwrap();
        let mut device = start();
        connected(&mut device).await;
        let first = push(&server, "phone", "ack 1");
        push(&server, "phone", "kept 2");
        assert_eq!(next_text(&mut device).await, "ack 1");
        assert_eq!(next_text(&mut device).await, "kept 2");
        server.await_count(&first, "delivered", 1);
        device.close().await;
        push(&server, "phone", "ack 3");
        let mut device = start();
        assert_eq!(next_text(&mut device).await, "kept 2");
        assert_eq!(next_text(&mut device).await, "ack 3");
        device.close().await;
    });
}

#[test]
fn a_newer_login_stops_the_older_device_by_name() {
    on_runtime(async {
        let server = TestServer::start();
        let registration = registered(&server, "phone").await;
        let mut older = builder(&server, &registration).connect().unwrap();
        connected(&mut older).await;
        let mut newer = builder(&server, &registration).connect().unwrap();
        connected(&mut newer).await;
        let mut last = None;
        while let Some(incoming) = next(&mut older).await {
            last = Some(incoming);
        }
        assert!(matches!(last, Some(Incoming::State(State::Stopped(CloseReason::TakenOver)))), "{last:?}");
        newer.close().await;
    });
}

#[test]
fn a_dead_entry_node_does_not_keep_a_device_from_the_living_one() {
    on_runtime(async {
        let server = TestServer::start();
        let registration = registered(&server, "phone").await;
        let dead = dead_address();
        let mut device = builder(&server, &registration).weighted_entry_node(dead, 3).connect().unwrap();
        connected(&mut device).await;
        device.close().await;
    });
}

/// Waits for so many answers, all of them "done".
async fn answers(device: &mut Device, count: usize) {
    let mut done = 0;
    while done < count {
        if let Some(Incoming::Answered { outcome, .. }) = next(device).await {
            assert_eq!(outcome, ResultCode::Done);
            done += 1;
        }
    }
}

/// What the business can read: the contents, in order.
fn business(server: &TestServer) -> Vec<String> {
    let page = server.api.get("/v1/upstream?limit=1000").json;
    let items = page["items"].as_array().unwrap_or_else(|| panic!("no items in {page}"));
    items.iter().map(|item| item["msg_content"].as_str().expect("a text").to_owned()).collect()
}

#[test]
fn messages_up_outlive_the_kill_of_the_server_and_each_is_stored_once_in_order() {
    let (folder, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    on_runtime(async {
        let mut server = TestServer::start_in(folder.path());
        let registration = registered(&server, "phone").await;
        let mut device = builder(&server, &registration).state(state.path()).connect().unwrap();
        connected(&mut device).await;
        let sent: Vec<String> = (0..90).map(|number| format!("message {number}")).collect();
        for (number, text) in sent.iter().enumerate() {
            if number == 30 {
                server.kill9();
            }
            if number == 60 {
                server = again(&server, folder.path());
            }
            device.send(UpstreamMessage::new("text", text.clone())).await.unwrap();
        }
        answers(&mut device, sent.len()).await;
        assert_eq!(business(&server), sent);
        device.close().await;
    });
}

const CHILD: &str = "LONGWIRE_TEST_CHILD";
const KILLED: &str = "an_application_killed_with_a_full_outbox_loses_and_doubles_nothing";

/// The application to be killed: it sends, says so, and answers nobody.
async fn application(place: &str) {
    let words: Vec<&str> = place.split(' ').collect();
    let device = Device::builder()
        .app_key(words[0])
        .token(words[1])
        .client(ClientId(words[2].parse().unwrap()))
        .entry_node(words[3])
        .state(words[4])
        .connect()
        .unwrap();
    for number in 0.. {
        device.send(UpstreamMessage::new("text", format!("{} {number}", words[5]))).await.unwrap();
        println!("sent={} {number}", words[5]);
    }
}

/// Starts the application and kills it when it has sent `count` messages; what it said that it had sent.
fn killed_after(count: usize, place: &str) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", KILLED, "--nocapture"])
        .env(CHILD, place)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut sent = Vec::new();
    // The harness may write in front of the first line; what is in the pipe after the kill counts too.
    for words in lines.filter_map(|line| Some(line.split_once("sent=")?.1.to_owned())) {
        sent.push(words);
        if sent.len() == count {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    sent
}

#[test]
fn an_application_killed_with_a_full_outbox_loses_and_doubles_nothing() {
    if let Ok(place) = std::env::var(CHILD) {
        return on_runtime(application(&place));
    }
    let state = tempfile::tempdir().unwrap();
    on_runtime(async {
        let server = TestServer::start();
        let registration = registered(&server, "phone").await;
        let mut promised = Vec::new();
        for round in 0..3 {
            // In the second round nobody listens, so all stays in the outbox.
            let entry = if round == 1 { dead_address() } else { server.device.to_string() };
            let (token, client) = (&registration.token, registration.client_id.0);
            let folder = state.path().display();
            let place = format!("{} {token} {client} {entry} {folder} round-{round}", server.app_key);
            promised.extend(killed_after(40, &place));
        }
        let mut device = builder(&server, &registration).state(state.path()).connect().unwrap();
        device.send(UpstreamMessage::new("text", "the end")).await.unwrap();
        let end = tokio::time::Instant::now() + PATIENCE;
        while business(&server).last().is_none_or(|last| last != "the end") {
            assert!(tokio::time::Instant::now() < end, "the outbox does not empty: {:?}", business(&server));
            let _ = tokio::time::timeout(Duration::from_millis(50), device.next()).await;
        }
        let mut stored = business(&server);
        for message in &promised {
            assert!(stored.contains(message), "{message} was promised and is lost");
        }
        let count = stored.len();
        stored.sort_unstable();
        stored.dedup();
        assert_eq!(stored.len(), count, "something is stored twice");
        device.close().await;
    });
}

#[test]
fn what_the_server_never_takes_is_told_and_leaves_the_outbox() {
    on_runtime(async {
        let server = TestServer::start();
        let registration = registered(&server, "phone").await;
        let mut device = builder(&server, &registration).outbox(1, 20_000).connect().unwrap();
        let refused = device.send(UpstreamMessage::new("text", "hello").to("phone-2")).await.unwrap();
        loop {
            if let Some(Incoming::Answered { id, outcome }) = next(&mut device).await {
                break assert_eq!((id, outcome), (refused, ResultCode::NotAllowed));
            }
        }
        device.send(UpstreamMessage::new("text", vec![0xff; 10 * 1024])).await.unwrap();
        answers(&mut device, 1).await;
        device.close().await;
    });
}

#[test]
fn a_device_that_is_faster_than_it_may_be_is_slowed_and_loses_nothing() {
    on_runtime(async {
        let server = TestServer::start();
        let registration = registered(&server, "phone").await;
        let mut device = builder(&server, &registration).connect().unwrap();
        let sender = device.sender();
        for number in 0..260 {
            sender.send(UpstreamMessage::new("text", number.to_string())).await.unwrap();
        }
        answers(&mut device, 260).await;
        let mut stored: Vec<u32> = business(&server).iter().map(|text| text.parse().unwrap()).collect();
        stored.sort_unstable();
        assert_eq!(stored, (0..260).collect::<Vec<_>>());
        device.close().await;
    });
}

#[test]
fn a_wrong_token_stops_the_device_at_once() {
    on_runtime(async {
        let server = TestServer::start();
        let registration = registered(&server, "phone").await;
        let mut device = builder(&server, &registration).client(ClientId(999)).connect().unwrap();
        let mut states = Vec::new();
        while let Some(Incoming::State(state)) = next(&mut device).await {
            states.push(state);
        }
        assert!(matches!(states.last(), Some(State::Stopped(CloseReason::BadToken))), "{states:?}");
        tokio::time::timeout(Duration::from_secs(5), device.close()).await.unwrap();
    });
}
