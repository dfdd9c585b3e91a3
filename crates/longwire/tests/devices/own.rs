//! What devices change of themselves, native and MQTT, where their app lets them.

use super::support::{PATIENCE, TestDevice, TestServer};
use super::tag;
use longwire_client::{Device, Incoming, OwnChange, OwnError, RegistrationRequest, register};
use longwire_proto::wire::{ResultCode, SelfService};
use longwire_server::domain::AppSettings;
use longwire_server::store::registry::Registry;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason};
use rumqttc::v5::{Client, Connection, Event, MqttOptions};
use serde_json::{Value, json};
use std::path::Path;

/// A server whose app lets its devices change themselves.
fn allowing(folder: &Path) -> TestServer {
    assert!(TestServer::start_in(folder).terminate().success());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = format!("sqlite:{}", folder.join("registry.db").display());
        let registry = Registry::open(&url).await.unwrap();
        let app = registry.apps().await.unwrap().remove(0);
        let settings = AppSettings { self_service: true, ..AppSettings::clone(&app.settings) };
        registry.set_settings(app.id, &settings).await.unwrap();
        registry.close().await;
    });
    TestServer::start_in(folder)
}

fn device(server: &TestServer) -> Value {
    server.api.get("/v1/devices/d1").json
}

const SET: SelfService<'_> = SelfService::AttributeSet { name: "app_version", value: "3.2.1" };

#[test]
fn a_native_device_changes_itself_and_a_push_right_after_the_result_meets_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = allowing(folder.path());
    let mut d1 = server.device("d1");
    d1.connect();
    for what in [SelfService::TagAdd("news"), SelfService::Bind("ann"), SET] {
        assert_eq!(d1.ask(what), ResultCode::Done, "{what:?}");
    }
    server.api.push_text(tag("news"), "to news").message_id();
    d1.expect_text("to news");
    server.api.push_text(json!({ "alias": ["ann"] }), "to ann").message_id();
    d1.expect_text("to ann");
    let now = device(&server);
    assert_eq!((&now["tags"], &now["alias"]), (&json!(["news"]), &json!("ann")));
    assert_eq!(now["attributes"], json!({ "app_version": "3.2.1" }));
    // What is so already, and an alias that is another's, are done as well.
    for what in [SelfService::TagAdd("news"), SelfService::Unbind("bob"), SelfService::TagRemove("none")] {
        assert_eq!(d1.ask(what), ResultCode::Done, "{what:?}");
    }
    assert_eq!(device(&server)["alias"], "ann");
    for what in [
        SelfService::TagRemove("news"),
        SelfService::Unbind("ann"),
        SelfService::AttributeRemove("app_version"),
    ] {
        assert_eq!(d1.ask(what), ResultCode::Done, "{what:?}");
    }
    let now = device(&server);
    assert_eq!((&now["tags"], &now["alias"], &now["attributes"]), (&json!([]), &Value::Null, &json!({})));
    server.api.push_text(tag("news"), "to nobody").message_id();
    d1.expect_nothing();
    assert!(server.metric("longwire_self_service_total", &["result=\"done\""]) >= 9.0);
}

#[test]
fn what_a_native_device_may_not_is_refused_and_its_connection_lives() {
    let folder = tempfile::tempdir().unwrap();
    let server = allowing(folder.path());
    let full: Vec<String> = (0..100).map(|number| format!("t{number}")).collect();
    let attributes: Value = (0..16).map(|number| (format!("n{number}"), json!("v"))).collect();
    let body = json!({ "registration_id": "d1", "tags": full, "attributes": attributes });
    let registered = server.api.post("/v1/devices", &body);
    assert_eq!(registered.status, 201, "{}", registered.text);
    let mut d1 = TestDevice::new(server.device, &server.app_key, "d1", &registered.json);
    let before = {
        d1.connect();
        device(&server)
    };
    for (what, code) in [
        (SelfService::TagAdd("one more"), ResultCode::Quota),
        (SET, ResultCode::Quota),
        (SelfService::TagAdd("a/b"), ResultCode::NotAllowed),
        (SelfService::Bind("#"), ResultCode::NotAllowed),
        (SelfService::AttributeSet { name: "1a", value: "x" }, ResultCode::NotAllowed),
        (SelfService::AttributeRemove("tags"), ResultCode::NotAllowed),
    ] {
        assert_eq!(d1.ask(what), code, "{what:?}");
    }
    let now = device(&server);
    assert_eq!((&now["tags"], &now["attributes"]), (&before["tags"], &before["attributes"]));
    let mut busy = 0;
    for _ in 0..40 {
        match d1.ask(SelfService::TagRemove("none")) {
            ResultCode::Busy => busy += 1,
            code => assert_eq!(code, ResultCode::Done),
        }
    }
    assert!(busy > 0, "nothing bounds the rate");
    d1.expect_nothing();
}

#[test]
fn without_the_app_s_leave_a_device_changes_nothing() {
    let server = TestServer::start();
    let mut d1 = server.device("d1");
    d1.connect();
    for what in [SelfService::TagAdd("news"), SelfService::Bind("ann"), SET] {
        assert_eq!(d1.ask(what), ResultCode::NotAllowed, "{what:?}");
    }
    let now = device(&server);
    assert_eq!((&now["tags"], &now["alias"], &now["attributes"]), (&json!([]), &Value::Null, &json!({})));
}

#[test]
fn the_sdk_asks_in_order_until_each_change_is_answered_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let server = allowing(folder.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let request = RegistrationRequest {
            api: format!("http://{}", server.api_address),
            app_key: server.app_key.clone(),
            app_secret: Some(server.app_secret.clone()),
            registration_id: Some("d1".into()),
            attributes: [("zone".to_owned(), "cn".to_owned())].into(),
            ..RegistrationRequest::default()
        };
        let registration = register(&request).await.unwrap();
        let builder = Device::builder().app_key(&server.app_key).registration(&registration);
        let mut device = builder.connect().unwrap();
        assert_eq!(device.bind("").await, Err(OwnError::Text));
        assert_eq!(device.set_attribute(&"n".repeat(33), "x").await, Err(OwnError::Text));
        // More than a burst: what is too fast is asked again.
        const MORE: usize = 18;
        device.bind("ann").await.unwrap();
        device.add_tag("news").await.unwrap();
        device.add_tag("a/b").await.unwrap();
        device.set_attribute("v", "1").await.unwrap();
        device.remove_attribute("zone").await.unwrap();
        for number in 0..MORE {
            device.add_tag(&format!("t{number:02}")).await.unwrap();
        }
        device.unbind("ann").await.unwrap();
        let mut outcomes = Vec::new();
        while outcomes.len() < MORE + 6 {
            match tokio::time::timeout(PATIENCE, device.next()).await.unwrap() {
                Some(Incoming::Changed { change, outcome }) => outcomes.push((change, outcome)),
                Some(Incoming::State(_)) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(outcomes[0], (OwnChange::Bind("ann".into()), ResultCode::Done));
        assert_eq!(outcomes[2], (OwnChange::AddTag("a/b".into()), ResultCode::NotAllowed));
        assert_eq!(outcomes[MORE + 5], (OwnChange::Unbind("ann".into()), ResultCode::Done));
        let good = outcomes.iter().filter(|(_, outcome)| *outcome == ResultCode::Done).count();
        assert_eq!(good, MORE + 5);
        device.close().await;
    });
    let now = device(&server);
    assert_eq!(now["tags"].as_array().unwrap().len(), 19);
    assert_eq!((&now["alias"], &now["attributes"]), (&Value::Null, &json!({ "v": "1" })));
    assert!(server.metric("longwire_self_service_total", &["result=\"busy\""]) > 0.0);
}

fn mqtt(server: &TestServer) -> (Client, Connection) {
    let registered = server.register("d1", None, &[]);
    let mut options = MqttOptions::new("d1", server.device.ip().to_string(), server.device.port());
    options.set_credentials(server.app_key.as_str(), registered["token"].as_str().unwrap());
    options.set_keep_alive(PATIENCE * 2);
    Client::new(options, 10)
}

/// Publishes with QoS 1 and waits for the answer.
#[track_caller]
fn publish((client, connection): &mut (Client, Connection), topic: &str, body: &[u8]) -> PubAckReason {
    client.publish(topic, QoS::AtLeastOnce, false, body.to_vec()).unwrap();
    loop {
        match connection.recv_timeout(PATIENCE).unwrap() {
            Ok(Event::Incoming(Packet::PubAck(ack))) => return ack.reason,
            Ok(_) => {}
            Err(error) => panic!("{topic}: {error}"),
        }
    }
}

#[test]
fn an_mqtt_client_changes_itself_by_publishing_and_is_told_what_became_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = allowing(folder.path());
    let mut client = mqtt(&server);
    let done = PubAckReason::Success;
    assert_eq!(publish(&mut client, "$self/tags", br#"{"add":["news","x"],"remove":["y"]}"#), done);
    assert_eq!(publish(&mut client, "$self/alias", br#"{"alias":"ann"}"#), done);
    assert_eq!(publish(&mut client, "$self/attributes", br#"{"set":{"v":"1"}}"#), done);
    let now = device(&server);
    assert_eq!((&now["tags"], &now["alias"]), (&json!(["news", "x"]), &json!("ann")));
    assert_eq!((&now["attributes"], &now["sessions"][0]["class"]), (&json!({ "v": "1" }), &Value::Null));
    server.api.push_text(tag("news"), "to news").message_id();
    loop {
        if let Event::Incoming(Packet::Publish(push)) = client.1.recv_timeout(PATIENCE).unwrap().unwrap() {
            assert_eq!(&push.payload[..], b"to news");
            break;
        }
    }
    let long = format!(r#"{{"add":["{}"]}}"#, "x".repeat(9000));
    for (topic, body, reason) in [
        ("$self/tags", &b"{"[..], PubAckReason::PayloadFormatInvalid),
        ("$self/tags", b"[]", PubAckReason::PayloadFormatInvalid),
        ("$self/tags", br#"{"add":["a/b"]}"#, PubAckReason::PayloadFormatInvalid),
        ("$self/tags", long.as_bytes(), PubAckReason::PayloadFormatInvalid),
        ("$self/alias", br#"{"alias":7}"#, PubAckReason::PayloadFormatInvalid),
        ("$self/alias", b"", PubAckReason::PayloadFormatInvalid),
        ("$self/attributes", br#"{"set":{"1":"x"}}"#, PubAckReason::PayloadFormatInvalid),
        ("$self/other", b"{}", PubAckReason::NotAuthorized),
        ("$self/tags/x", b"{}", PubAckReason::NotAuthorized),
    ] {
        assert_eq!(publish(&mut client, topic, body), reason, "{topic} {}", body.escape_ascii());
    }
    assert_eq!(device(&server)["tags"], now["tags"]);
    assert_eq!(publish(&mut client, "$self/alias", br#"{"alias":null}"#), done);
    assert_eq!(device(&server)["alias"], Value::Null);
}

#[test]
fn without_the_app_s_leave_an_mqtt_client_is_refused_and_one_of_3_1_1_closed() {
    let server = TestServer::start();
    let mut client = mqtt(&server);
    let body = br#"{"add":["news"]}"#;
    assert_eq!(publish(&mut client, "$self/tags", body), PubAckReason::NotAuthorized);
    assert_eq!(device(&server)["tags"], json!([]));
    let registered = server.register("d2", None, &[]);
    let mut options = rumqttc::MqttOptions::new("d2", server.device.ip().to_string(), server.device.port());
    options.set_credentials(server.app_key.as_str(), registered["token"].as_str().unwrap());
    let (old, mut connection) = rumqttc::Client::new(options, 10);
    old.publish("$self/tags", rumqttc::QoS::AtLeastOnce, false, &body[..]).unwrap();
    // It has no other word for no.
    loop {
        match connection.recv_timeout(PATIENCE).unwrap() {
            Ok(rumqttc::Event::Incoming(rumqttc::Packet::PubAck(ack))) => panic!("{ack:?}"),
            Ok(_) => {}
            Err(_) => break,
        }
    }
}
