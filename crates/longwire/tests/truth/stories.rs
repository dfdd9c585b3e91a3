//! Explain, targets, feedback.

use super::support::{PATIENCE, TestDevice, TestServer, until};
use super::{page, texts};
use longwire_client::{Device, Incoming, RegistrationRequest, register};
use longwire_proto::id::MessageId;
use longwire_proto::wire::AckKind;
use rumqttc::{Client, Event, MqttOptions, Outgoing, Packet, QoS};
use serde_json::{Value, json};

#[track_caller]
fn explain(server: &TestServer, message: &str, device: &str) -> Value {
    page(server, &format!("/v1/messages/{message}/explain/{device}"))
}

fn say(device: &mut TestDevice, kind: AckKind, message: &str) {
    device.say(kind, MessageId::parse(message).unwrap());
}

/// Waits until the story's verdict is this.
#[track_caller]
fn await_verdict(server: &TestServer, message: &str, device: &str, verdict: &str) -> Value {
    let mut last = Value::Null;
    let reached = until(PATIENCE, || {
        last = explain(server, message, device);
        last["verdict"] == verdict
    });
    assert!(reached, "never {verdict}: {last}");
    last
}

#[test]
fn the_story_of_a_message_is_told_from_acceptance_to_click_with_times() {
    let server = TestServer::start();
    let mut device = server.device("d1");
    let message = server.api.push_text(json!({ "registration_id": ["d1"] }), "hello").message_id();
    let before = explain(&server, &message, "d1");
    assert_eq!(before["verdict"], "pending");
    assert_eq!(texts(&before["steps"], "step"), ["accepted", "stored", "matched", "offline", "waiting"]);
    device.connect();
    device.expect_text("hello");
    await_verdict(&server, &message, "d1", "delivered");
    say(&mut device, AckKind::Displayed, &message);
    await_verdict(&server, &message, "d1", "displayed");
    say(&mut device, AckKind::Clicked, &message);
    say(&mut device, AckKind::Clicked, &message);
    let story = await_verdict(&server, &message, "d1", "clicked");
    let steps = ["accepted", "stored", "matched", "sent", "acked", "displayed", "clicked"];
    assert_eq!(texts(&story["steps"], "step"), steps);
    let times: Vec<String> = texts(&story["steps"], "at").into_iter().filter(|at| at != "null").collect();
    assert_eq!(times.len(), steps.len() - 1, "{story}");
    assert!(times.is_sorted(), "{times:?}");
    say(&mut device, AckKind::Dismissed, &message);
    let counts = server.await_count(&message, "dismissed", 1);
    assert_eq!((&counts["counts"]["displayed"], &counts["counts"]["clicked"]), (&json!(1), &json!(1)));
    let repeated = until(PATIENCE, || server.metric("longwire_feedback_repeated_total", &[]) > 0.5);
    assert!(repeated, "the second click is counted as one");
}

#[test]
fn what_a_device_says_of_a_message_that_it_never_got_is_counted_and_ignored() {
    let server = TestServer::start();
    let (mut one, mut two) = (server.device("one"), server.device("two"));
    one.connect();
    two.connect();
    let message = server.api.push_text(json!({ "registration_id": ["one"] }), "for one").message_id();
    one.expect_text("for one");
    server.await_count(&message, "delivered", 1);
    say(&mut two, AckKind::Clicked, &message);
    say(&mut two, AckKind::Displayed, &"7".repeat(32));
    let ignored = until(PATIENCE, || server.metric("longwire_feedback_ignored_total", &[]) > 1.5);
    assert!(ignored, "both are counted");
    let counts = page(&server, &format!("/v1/messages/{message}"));
    assert_eq!((&counts["counts"]["clicked"], &counts["counts"]["displayed"]), (&json!(0), &json!(0)));
}

#[test]
fn why_a_device_was_not_meant_is_told() {
    let server = TestServer::start();
    server.device_with("tagged", None, &["beta"]);
    server.device_with("plain", None, &["gamma"]);
    let message = server.api.push_text(json!({ "tag": ["beta", "alpha"] }), "for beta").message_id();
    let story = explain(&server, &message, "plain");
    assert_eq!(story["verdict"], "not_matched");
    let detail = texts(&story["steps"], "detail").pop().unwrap();
    assert!(
        detail.contains("none of the tags beta, alpha") || detail.contains("none of the tags alpha, beta"),
        "{detail}"
    );
    assert_eq!(explain(&server, &message, "tagged")["verdict"], "pending");
    let addressed = server.api.push_text(json!({ "registration_id": ["tagged"] }), "by name").message_id();
    assert_eq!(explain(&server, &addressed, "plain")["verdict"], "not_matched");
}

#[test]
fn an_expired_message_says_so_and_the_next_shows_what_is_before_it() {
    let server = TestServer::start();
    server.device("away");
    let audience = || json!({ "registration_id": ["away"] });
    let short = server.api.push_text_ttl(audience(), "short", 1).message_id();
    let first = server.api.push_text(audience(), "first").message_id();
    let second = server.api.push_text(audience(), "second").message_id();
    let story = await_verdict(&server, &short, "away", "expired");
    assert_eq!(texts(&story["steps"], "step"), ["accepted", "stored", "matched", "expired"]);
    assert!(explain(&server, &first, "away")["steps"].to_string().contains("0 before it"));
    assert!(explain(&server, &second, "away")["steps"].to_string().contains("1 before it"));
}

#[test]
fn targets_are_listed_by_cursor_and_by_state() {
    let server = TestServer::start();
    let names: Vec<String> = (0..7).map(|number| format!("d{number}")).collect();
    let mut devices: Vec<TestDevice> = names.iter().map(|name| server.device(name)).collect();
    let addressed = server.api.push_text(json!({ "registration_id": names }), "hi").message_id();
    let broadcast = server.api.push_text(json!("all"), "to all").message_id();
    for device in &mut devices[..3] {
        device.connect();
        device.expect_push(PATIENCE);
        device.expect_push(PATIENCE);
    }
    server.await_count(&addressed, "delivered", 3);
    server.await_count(&broadcast, "delivered", 3);
    let (mut after, mut seen, mut pages) = (String::new(), Vec::new(), 0);
    loop {
        let got = page(&server, &format!("/v1/messages/{addressed}/targets?limit=3{after}"));
        seen.extend(texts(&got["targets"], "registration_id"));
        pages += 1;
        let Some(next) = got["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    seen.sort();
    assert_eq!((seen, pages), (names, 3));
    let pending = page(&server, &format!("/v1/messages/{addressed}/targets?state=pending"));
    assert_eq!(texts(&pending["targets"], "registration_id").len(), 4);
    let delivered = page(&server, &format!("/v1/messages/{broadcast}/targets"));
    assert_eq!(texts(&delivered["targets"], "state"), ["delivered"; 3]);
    assert!(texts(&delivered["targets"], "sent_at").iter().all(|at| at != "null"), "{delivered}");
}

#[test]
fn an_mqtt_client_says_what_a_person_did_and_nonsense_changes_nothing() {
    let server = TestServer::start();
    let registered = server.register("m1", None, &[]);
    let mut options = MqttOptions::new("m1", "127.0.0.1", server.device.port());
    options.set_credentials(&server.app_key, registered["token"].as_str().unwrap());
    let (client, mut connection) = Client::new(options, 10);
    let message = server.api.push_text(json!({ "registration_id": ["m1"] }), "hello").message_id();
    let mut acks = 0;
    let asked = [
        ("$ack/displayed", message.as_str()),
        ("$ack/clicked", &message),
        ("$ack/clicked", &message),
        ("$ack/eaten", &message),
        ("$ack/clicked", "no id"),
        ("$ack/clicked", ""),
    ];
    while acks < asked.len() {
        let event = connection.recv_timeout(PATIENCE).expect("something comes").expect("no error");
        match event {
            Event::Incoming(Packet::Publish(publish)) => assert_eq!(&publish.payload[..], b"hello"),
            Event::Incoming(Packet::PubAck(_)) => acks += 1,
            // The client acks a push when it has handed it out; what it says comes behind that.
            Event::Outgoing(Outgoing::PubAck(_)) => {
                for (topic, content) in asked {
                    client.publish(topic, QoS::AtLeastOnce, false, content).unwrap();
                }
            }
            _ => {}
        }
    }
    let counts = server.await_count(&message, "clicked", 1);
    assert_eq!((&counts["counts"]["displayed"], &counts["counts"]["clicked"]), (&json!(1), &json!(1)));
    assert_eq!(await_verdict(&server, &message, "m1", "clicked")["verdict"], "clicked");
    assert!((server.metric("longwire_feedback_bad_total", &[]) - 3.0).abs() < 0.5);
}

#[test]
fn the_sdk_says_it_too() {
    let server = TestServer::start();
    let request = RegistrationRequest {
        api: format!("http://{}", server.api_address),
        app_key: server.app_key.clone(),
        app_secret: Some(server.app_secret.clone()),
        registration_id: Some("sdk".into()),
        ..RegistrationRequest::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let registration = register(&request).await.unwrap();
        let mut device =
            Device::builder().app_key(&server.app_key).registration(&registration).connect().unwrap();
        let api = server.api.clone();
        let pushed = tokio::task::spawn_blocking(move || api.push_text(json!("all"), "to all").message_id());
        let message = pushed.await.unwrap();
        loop {
            match tokio::time::timeout(PATIENCE, device.next()).await.expect("something comes") {
                Some(Incoming::Message(message)) => {
                    device.ack(message.id).await;
                    device.displayed(message.id).await;
                    break device.dismissed(message.id).await;
                }
                Some(_) => {}
                None => panic!("the device ended"),
            }
        }
        tokio::task::block_in_place(|| {
            server.await_count(&message, "dismissed", 1);
            let story = await_verdict(&server, &message, "sdk", "dismissed");
            assert!(texts(&story["steps"], "step").contains(&"displayed".to_owned()));
        });
        device.close().await;
    });
}

#[test]
fn stories_survive_a_kill_and_what_belongs_to_nobody_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    let mut device = server.device("d1");
    device.connect();
    let message = server.api.push_text(json!({ "registration_id": ["d1"] }), "hello").message_id();
    device.expect_text("hello");
    let before = await_verdict(&server, &message, "d1", "delivered");
    server.kill9();
    let server = TestServer::start_in(folder.path());
    assert_eq!(explain(&server, &message, "d1"), before);
    let other = "0".repeat(32);
    for (path, status) in [
        (format!("/v1/messages/{other}/explain/d1"), 404),
        (format!("/v1/messages/{message}/explain/nobody"), 404),
        (format!("/v1/messages/{other}/targets"), 404),
        ("/v1/messages/zz/explain/d1".to_owned(), 400),
        ("/v1/messages/zz/targets".to_owned(), 400),
        (format!("/v1/messages/{message}/targets?limit=0"), 400),
        (format!("/v1/messages/{message}/targets?limit=1001"), 400),
        (format!("/v1/messages/{message}/targets?state=eaten"), 400),
        (format!("/v1/messages/{message}/targets?after=1"), 400),
        (format!("/v1/messages/{message}/targets?until=1"), 400),
        (format!("/v1/messages/{message}/explain/%FF"), 400),
    ] {
        assert_eq!(server.api.get(&path).status, status, "{path}");
    }
    assert_eq!(server.api.anonymous().get(&format!("/v1/messages/{message}/explain/d1")).status, 401);
}
