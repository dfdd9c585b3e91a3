//! Recalls.

use crate::support::{Api, PATIENCE, Seen, Start, TestServer, count_of};
use crate::{expect_gap, expect_recall, mqtt, property, push, recall, to};
use longwire_proto::id::{Kind, MessageId};
use longwire_proto::limit::WINDOW_MESSAGES_MAX;
use longwire_proto::wire::GapReason;
use longwire_proto::wire::mqtt::Version;
use serde_json::json;

#[test]
fn who_has_it_is_told_who_has_it_not_never_gets_it_and_a_second_recall_answers_the_same() {
    let server = TestServer::start();
    let (mut has, mut away) = (server.device("has"), server.device("away"));
    has.connect();
    let both = json!({ "registration_id": ["has", "away"] });
    let message = server.api.push_text(both, "wrong").message_id();
    has.expect_text("wrong");
    server.await_count(&message, "delivered", 1);
    let first = recall(&server, &message);
    assert_eq!(
        (&first["recalled_now"], &first["following"], &first["refused"]),
        (&json!(1), &json!(1), &json!(0))
    );
    let follower = expect_recall(&mut has, &message).to_string();
    server.await_count(&follower, "delivered", 1);
    assert_eq!(recall(&server, &message), first);
    has.expect_nothing();
    let story = server.api.get(&format!("/v1/messages/{message}")).json;
    assert_eq!((count_of(&story, "recalled"), count_of(&story, "delivered")), (1, 1), "{story}");
    assert_eq!((count_of(&story, "pending"), &story["recalled"]), (0, &json!(true)), "{story}");
    away.connect();
    expect_gap(&mut away, &message, GapReason::Recalled);
    away.expect_nothing();
    let story = server.api.get(&format!("/v1/messages/{follower}")).json;
    assert_eq!((&story["kind"], count_of(&story, "created")), (&json!("recall"), 1), "{story}");
}

#[test]
fn a_device_that_was_away_learns_of_it_after_a_crash_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    let mut device = server.device("d1");
    device.connect();
    let addressed = server.api.push_text(to("d1"), "one").message_id();
    device.expect_text("one");
    let for_all = server.api.push_text(json!("all"), "all").message_id();
    device.expect_text("all");
    server.await_count(&addressed, "delivered", 1);
    server.await_count(&for_all, "delivered", 1);
    device.drop_connection();
    let unseen = server.api.push_text(json!("all"), "unseen").message_id();
    assert_eq!(recall(&server, &addressed)["following"], json!(1));
    assert_eq!(recall(&server, &for_all)["following"], json!(null));
    recall(&server, &unseen);
    server.kill9();
    let server = TestServer::start_in(folder.path());
    device.to = server.device;
    device.connect();
    let id = |message: &str| MessageId::parse(message).unwrap();
    let (mut told, mut left_out) = (Vec::new(), Vec::new());
    while told.len() + left_out.len() < 3 {
        match device.next(PATIENCE) {
            Some(Seen::Gap(gap)) => left_out.push((gap.message, gap.reason)),
            Some(Seen::Push { kind: Kind::Recall, payload, .. }) => {
                told.push(MessageId(u128::from_be_bytes(payload.try_into().unwrap())));
            }
            other => panic!("{other:?}"),
        }
    }
    // Order is promised within a source.
    told.sort();
    assert_eq!(told, [id(&addressed), id(&for_all)]);
    assert_eq!(left_out, [(id(&unseen), GapReason::Recalled)]);
    device.expect_nothing();
    // What was recalled before the crash answers as before it.
    assert_eq!(recall(&server, &addressed)["following"], json!(1));
}

#[test]
fn what_is_in_a_window_ends_as_recalled_and_its_ack_changes_nothing() {
    let server = TestServer::start();
    let mut device = server.device("d1").silent();
    device.connect();
    let message = server.api.push_text(to("d1"), "in the window").message_id();
    let shown = device.expect_text("in the window").message().unwrap();
    let answer = recall(&server, &message);
    assert_eq!((&answer["recalled_now"], &answer["following"]), (&json!(1), &json!(1)));
    let follower = expect_recall(&mut device, &message);
    device.ack(&[shown, follower]);
    server.await_count(&follower.to_string(), "delivered", 1);
    let story = server.api.get(&format!("/v1/messages/{message}")).json;
    assert_eq!((count_of(&story, "recalled"), count_of(&story, "delivered")), (1, 0), "{story}");
}

#[test]
fn what_waits_behind_a_full_window_is_not_sent_after_the_recall_was_answered() {
    let server = TestServer::start();
    let mut device = server.device("d1").silent();
    device.connect();
    let shown: Vec<_> = (0..WINDOW_MESSAGES_MAX)
        .map(|_| {
            server.api.push_text(to("d1"), "fills").message_id();
            device.expect_text("fills").message().unwrap()
        })
        .collect();
    let behind = server.api.push_text(to("d1"), "behind").message_id();
    let many = server.api.push_text(json!("all"), "behind too").message_id();
    recall(&server, &behind);
    recall(&server, &many);
    device.acks = true;
    device.ack(&shown);
    let mut told = Vec::new();
    while told.len() < 2 {
        match device.next(PATIENCE) {
            Some(Seen::Gap(gap)) if gap.reason == GapReason::Recalled => told.push(gap.message.to_string()),
            // The device is connected, so it may have had the one or the other in its window: it is told to be sure.
            Some(Seen::Push { kind: Kind::Recall, .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    told.sort();
    let mut expected = vec![behind, many];
    expected.sort();
    assert_eq!(told, expected);
}

#[test]
fn mqtt_devices_get_it_on_a_topic_of_its_own() {
    let server = TestServer::start();
    let (mut newer, mut older) = (mqtt(&server, "v5", Version::V5), mqtt(&server, "v311", Version::V311));
    let message = server.api.push_text(json!("all"), "wrong").message_id();
    assert_eq!(newer.message().0, "$push/text");
    assert_eq!(older.message().0, "$push/text");
    server.await_count(&message, "delivered", 2);
    recall(&server, &message);
    let payload = MessageId::parse(&message).unwrap().0.to_be_bytes().to_vec();
    let (topic, content, properties) = newer.push();
    assert_eq!((topic.as_str(), &content), ("$push/recall", &payload));
    assert_eq!(property(&properties, "recalls"), Some(message.as_str()));
    assert_eq!(older.message(), ("$push/recall".to_owned(), payload));
}

#[test]
fn an_online_only_message_waits_nowhere() {
    let server = TestServer::start();
    let mut device = server.device("d1");
    device.connect();
    let message = server.api.push_text_ttl(to("d1"), "now", 0).message_id();
    device.expect_text("now");
    let answer = recall(&server, &message);
    assert_eq!((&answer["recalled_now"], &answer["following"]), (&json!(0), &json!(0)));
    device.expect_nothing();
}

#[test]
fn what_is_not_there_or_another_apps_is_the_same_404_and_what_is_no_id_400() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Start::default().folder(folder.path()).app("other").start();
    server.device("d1");
    let foreign = server.api.push_text(to("d1"), "theirs").message_id();
    server.terminate();
    let server = TestServer::start_in(folder.path());
    let delete = |id: &str| server.api.request("DELETE", &format!("/v1/messages/{id}"), None).unwrap();
    let unknown = delete("0198f3a1b2c37d4e8f90a1b2c3d4e5f6");
    let theirs = delete(&foreign);
    for answer in [&unknown, &theirs] {
        assert_eq!((answer.status, answer.code()), (404, "not_found"), "{}", answer.text);
    }
    assert_eq!(unknown.json["message"], theirs.json["message"]);
    assert_eq!(server.api.get(&format!("/v1/messages/{foreign}")).status, 404);
    for id in ["0", "x".repeat(32).as_str(), &foreign[..31], &format!("{foreign}0"), "%00"] {
        assert_eq!(delete(id).status, 400, "{id}");
    }
    let nobody = server.api.anonymous();
    assert_eq!(nobody.request("DELETE", &format!("/v1/messages/{foreign}"), None).unwrap().status, 401);
    let owner = Api::new(server.api_address, "other", &server.app_secret);
    let story = owner.get(&format!("/v1/messages/{foreign}")).json;
    assert_eq!((count_of(&story, "pending"), &story["recalled"]), (1, &json!(false)), "{story}");
    let answer = push(&server, to("nobody"), "x", json!({ "override_msg_id": foreign }));
    assert_eq!(answer.status, 422, "{}", answer.text);
    server.device("mine");
    let answer = push(&server, to("mine"), "x", json!({ "override_msg_id": foreign }));
    assert_eq!((answer.status, answer.code()), (404, "not_found"), "{}", answer.text);
}
