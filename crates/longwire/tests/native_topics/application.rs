//! Topics through the SDK.

use super::support::{PATIENCE, Start, TestServer};
use super::{publish, set_rules};
use longwire_client::{
    Device, DeviceBuilder, Incoming, Publication, RegistrationRequest, ResultCode, State, Subscription,
    register,
};

async fn device(server: &TestServer, name: &str) -> DeviceBuilder {
    let request = RegistrationRequest {
        api: format!("http://{}", server.api_address),
        app_key: server.app_key.clone(),
        app_secret: Some(server.app_secret.clone()),
        registration_id: Some(name.into()),
        ..RegistrationRequest::default()
    };
    let registration = register(&request).await.unwrap();
    let back_off = longwire_client::BackOff { steps_s: vec![0, 1], jitter_ms: 100 };
    Device::builder().app_key(&server.app_key).registration(&registration).back_off(back_off)
}

async fn next(device: &mut Device) -> Incoming {
    loop {
        match tokio::time::timeout(PATIENCE, device.next()).await.expect("something comes") {
            Some(Incoming::State(State::Stopped(reason))) => panic!("{reason:?}"),
            Some(Incoming::State(_)) => {}
            Some(incoming) => return incoming,
            None => panic!("the device has ended"),
        }
    }
}

async fn subscribed(device: &mut Device, subscription: Subscription) -> ResultCode {
    device.subscribe(subscription).await.unwrap();
    match next(device).await {
        Incoming::Subscribed { outcome, .. } => outcome,
        other => panic!("instead of an answer {other:?}"),
    }
}

/// The next message, acked: its topic and content.
async fn message(device: &mut Device) -> (String, String) {
    match next(device).await {
        Incoming::Message(message) => {
            if message.needs_ack() {
                device.ack(message.id).await;
            }
            let published = message.published.expect("from a topic");
            (published.topic, String::from_utf8(published.content.to_vec()).unwrap())
        }
        other => panic!("instead of a message {other:?}"),
    }
}

fn on_runtime<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

fn got(topic: &str, content: &str) -> (String, String) {
    (topic.into(), content.into())
}

#[test]
fn an_application_subscribes_and_publishes_over_the_kill_of_its_server() {
    let folder = tempfile::tempdir().unwrap();
    on_runtime(async {
        let mut server = TestServer::start_in(folder.path());
        set_rules(&server, &["deny all secret/#", "allow all #"]);
        let mut phone = device(&server, "phone").await.connect().unwrap();
        let mut lamp = device(&server, "lamp").await.connect().unwrap();
        assert_eq!(subscribed(&mut phone, Subscription::new("state/#").kept()).await, ResultCode::Done);
        assert_eq!(subscribed(&mut phone, Subscription::new("live/#")).await, ResultCode::Done);
        assert_eq!(subscribed(&mut phone, Subscription::new("secret/#")).await, ResultCode::NotAllowed);
        assert_eq!(
            subscribed(&mut lamp, Subscription::new("command/+").without_own()).await,
            ResultCode::Done
        );
        let sent = phone.publish(Publication::new("command/lamp", "on")).await.unwrap();
        assert_eq!(message(&mut lamp).await, got("command/lamp", "on"));
        let answered = next(&mut phone).await;
        assert!(matches!(answered, Incoming::Answered { id, outcome: ResultCode::Done } if id == sent));
        lamp.publish(Publication::new("state/lamp", "on").retained()).await.unwrap();
        assert_eq!(message(&mut phone).await, got("state/lamp", "on"));
        assert!(matches!(next(&mut lamp).await, Incoming::Answered { outcome: ResultCode::Done, .. }));
        lamp.publish(Publication::new("secret/lamp", "x")).await.unwrap();
        assert!(matches!(next(&mut lamp).await, Incoming::Answered { outcome: ResultCode::NotAllowed, .. }));
        lamp.close().await;

        server.kill9();
        phone.publish(Publication::new("command/lamp", "off")).await.unwrap();
        let start = Start::default().folder(folder.path());
        let start = start.arg("--device-bind").arg(&server.device.to_string());
        let server = start.arg("--api-bind").arg(&server.api_address.to_string()).start();
        let answered = next(&mut phone).await;
        assert!(matches!(answered, Incoming::Answered { outcome: ResultCode::Done, .. }), "{answered:?}");
        publish(&server, "state/door", "open", 1);
        assert_eq!(message(&mut phone).await, got("state/door", "open"));
        publish(&server, "live/x", "subscribed again", 0);
        assert_eq!(message(&mut phone).await, got("live/x", "subscribed again"));
        let mut tablet = device(&server, "tablet").await.connect().unwrap();
        tablet.subscribe(Subscription::new("state/lamp")).await.unwrap();
        assert!(matches!(next(&mut tablet).await, Incoming::Subscribed { outcome: ResultCode::Done, .. }));
        assert_eq!(message(&mut tablet).await, got("state/lamp", "on"), "retained over the kill");
        tablet.publish_now(Publication::new("live/y", "at most once")).await.unwrap();
        assert_eq!(message(&mut phone).await, got("live/y", "at most once"));
        phone.unsubscribe("live/#").await.unwrap();
        assert!(matches!(next(&mut phone).await, Incoming::Unsubscribed { outcome: ResultCode::Done, .. }));
        publish(&server, "live/z", "for nobody", 1);
        publish(&server, "state/z", "the last", 1);
        assert_eq!(message(&mut phone).await, got("state/z", "the last"));
        phone.close().await;
        tablet.close().await;
    });
}
