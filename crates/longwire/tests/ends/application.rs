//! What an application of the SDK sees of recalls and replacements.

use crate::support::{PATIENCE, TestServer};
use crate::{push, recall, to};
use longwire_client::{Device, Incoming, Registration, RegistrationRequest, State, register};
use longwire_proto::id::MessageId;
use longwire_proto::limit::WINDOW_MESSAGES_MAX;
use serde_json::json;

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

async fn connected(server: &TestServer, registration: &Registration, state: &std::path::Path) -> Device {
    let builder = Device::builder().app_key(&server.app_key).registration(registration);
    let mut device = builder.queue(64).state(state).connect().unwrap();
    while !matches!(next(&mut device).await, Incoming::State(State::Connected { .. })) {}
    device
}

async fn next(device: &mut Device) -> Incoming {
    tokio::time::timeout(PATIENCE, device.next()).await.expect("something comes").expect("it goes on")
}

#[test]
fn what_is_recalled_while_it_waits_for_the_application_is_never_shown() {
    let server = TestServer::start();
    let folder = tempfile::tempdir().unwrap();
    on_runtime(async {
        let registration = registered(&server, "phone").await;
        let mut device = connected(&server, &registration, folder.path()).await;
        let first = server.api.push_text(to("phone"), "first").message_id();
        let gone = server.api.push_text(to("phone"), "gone").message_id();
        server.await_count(&gone, "sent", 1);
        assert_eq!(recall(&server, &gone)["following"], json!(1));
        let last = server.api.push_text(to("phone"), "last").message_id();
        server.await_count(&last, "sent", 1);
        let recalled = MessageId::parse(&gone).unwrap();
        let mut shown = Vec::new();
        let mut told = false;
        while shown.len() < 2 {
            match next(&mut device).await {
                Incoming::Message(message) => {
                    if shown.is_empty() {
                        // The one behind it waits in the application's queue when the recall comes.
                        tokio::time::timeout(PATIENCE, await_recall_acked(&server)).await.unwrap();
                    }
                    shown.push(message.id.to_string());
                    device.ack(message.id).await;
                }
                Incoming::Recall(message) => told = message == recalled,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((shown, told), (vec![first, last], true));
        device.close().await;
    });
}

/// Waits until one delivery is acked. The application acked none, so it is the recall, which the device acks itself.
async fn await_recall_acked(server: &TestServer) {
    while server.api.get("/v1/books").json["delivered"].as_u64() != Some(1) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[test]
fn what_is_replaced_says_so_and_is_not_shown_when_it_comes() {
    let server = TestServer::start();
    let folder = tempfile::tempdir().unwrap();
    on_runtime(async {
        let registration = registered(&server, "phone").await;
        let mut device = connected(&server, &registration, folder.path()).await;
        let mut shown = Vec::new();
        for _ in 0..WINDOW_MESSAGES_MAX {
            server.api.push_text(to("phone"), "fills").message_id();
            let Incoming::Message(message) = next(&mut device).await else { panic!("no message") };
            shown.push(message.id);
        }
        // It waits behind the full window.
        let older = server.api.push_text(to("phone"), "older").message_id();
        let options = json!({ "override_msg_id": older, "time_to_live": 0 });
        let newer = push(&server, to("phone"), "newer", options).message_id();
        let Incoming::Message(message) = next(&mut device).await else { panic!("no message") };
        assert_eq!((message.id.to_string(), message.replaces), (newer, MessageId::parse(&older)));
        let last = server.api.push_text(to("phone"), "last").message_id();
        for message in shown {
            device.ack(message).await;
        }
        let Incoming::Message(message) = next(&mut device).await else { panic!("no message") };
        assert_eq!(message.id.to_string(), last);
        // The device acked what it did not show.
        server.await_count(&older, "delivered", 1);
        device.close().await;
    });
}
