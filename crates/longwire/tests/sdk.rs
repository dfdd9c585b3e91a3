//! The SDK against the real binary: what an application sees when the server goes away and comes back.

#![allow(clippy::unwrap_used)]

mod support;

use longwire_client::{ClientId, CloseReason, Device, DeviceBuilder, Incoming, Registration, State};
use longwire_client::{RegistrationRequest, ResultCode, UpstreamMessage, register};
use serde_json::json;
use std::path::Path;
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
        let dead = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut device =
            builder(&server, &registration).weighted_entry_node(dead.to_string(), 3).connect().unwrap();
        connected(&mut device).await;
        device.close().await;
    });
}

#[test]
fn a_message_up_gets_a_final_answer_and_leaves_the_outbox() {
    let state = tempfile::tempdir().unwrap();
    on_runtime(async {
        let server = TestServer::start();
        let registration = registered(&server, "phone").await;
        let start =
            || builder(&server, &registration).state(state.path()).outbox(1, 10_000).connect().unwrap();
        let mut device = start();
        let sent = device.send(UpstreamMessage::new("text", "hello")).await.unwrap();
        let outcome = loop {
            if let Some(Incoming::Answered { id, outcome }) = next(&mut device).await {
                assert_eq!(id, sent);
                break outcome;
            }
        };
        assert!(matches!(outcome, ResultCode::Done | ResultCode::Unsupported), "{outcome:?}");
        device.close().await;
        let device = start();
        device.send(UpstreamMessage::new("text", "the outbox has room again")).await.unwrap();
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
