//! Who an MQTT client is: device tokens, clients that name themselves, and every refusal by its name.
#![allow(clippy::unwrap_used, missing_docs)]

mod hub_rig;

use hub_rig::{Rig, devices, until};
use longwire_proto::close::CloseReason;
use longwire_proto::wire::Class;
use longwire_proto::wire::mqtt::Version;
use longwire_server::delivery::AuthOptions;
use longwire_server::delivery::border::topics::{MqttAttach, MqttLogin};
use longwire_server::delivery::border::{Attach, Command, Event, Handle, Login};
use longwire_server::domain::AppKey;
use longwire_server::domain::topic::Act;
use std::collections::HashSet;
use std::sync::atomic::Ordering::SeqCst;

/// A client that presents these: client id, user name, password.
fn mqtt(rig: &Rig, client_id: &str, user_name: Option<&str>, password: Option<&str>) -> Login {
    let mqtt = MqttLogin {
        version: Version::V5,
        client_id: client_id.into(),
        user_name: user_name.map(Box::from),
        password: password.map(|password| password.as_bytes().into()),
        clean_start: true,
        expiry_s: 0,
        certificate: None,
    };
    let login = rig.wish(rig.handle(0), "");
    Login { class: Class::Iot, app_key: String::new(), mqtt: Some(Box::new(mqtt)), ..login }
}

fn anonymous() -> AuthOptions {
    AuthOptions { anonymous: Some(AppKey::parse("shop").unwrap()), ..AuthOptions::default() }
}

/// What a login that is accepted is given.
async fn accepted(rig: &Rig, login: Login) -> (Handle, Box<Attach>) {
    let from = login.from;
    rig.tell(0, Event::Login(Box::new(login))).await;
    match rig.shards.next(0).await {
        Command::Attach(attach) => {
            assert_eq!(attach.to, from);
            (from, attach)
        }
        other => panic!("not an Attach: {other:?}"),
    }
}

async fn attached(rig: &Rig, login: Login) -> MqttAttach {
    *accepted(rig, login).await.1.mqtt.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_token_is_a_password_and_the_client_id_is_the_registration_id() {
    let rig = Rig::new(1).await;
    let device = rig.register("pump-1", None, &[]).await;
    let token = Some(device.token.as_str());
    let (_, attach) = accepted(&rig, mqtt(&rig, "pump-1", Some("shop"), token)).await;
    assert_eq!(attach.client, device.client);
    let given = attach.mqtt.unwrap();
    assert_eq!((&*given.name, given.assigned, given.session_present), ("pump-1", None, false));
    assert!(given.rules.allow(Act::Publish, "device/pump-1/x", &given.name, &given.user));
    assert!(!given.rules.allow(Act::Subscribe, "#", &given.name, &given.user));
    // Every further login displaces the one before it.
    let next = mqtt(&rig, "", Some("shop/pump-1"), token);
    rig.tell(0, Event::Login(Box::new(next))).await;
    assert!(matches!(rig.shards.next(0).await, Command::Close { reason: CloseReason::TakenOver, .. }));
    let Command::Attach(attach) = rig.shards.next(0).await else { panic!() };
    assert_eq!(attach.mqtt.unwrap().assigned.as_deref(), Some("pump-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_does_not_cover_is_refused_by_its_name() {
    let rig = Rig::new(1).await;
    let device = rig.register("pump-1", None, &[]).await;
    let (other, _) = rig.hub.create_app(AppKey::parse("bank").unwrap(), false).await.unwrap();
    let (current, _) = accepted(&rig, mqtt(&rig, "pump-1", Some("shop"), Some(&device.token))).await;
    let token = Some(device.token.as_str());
    for (client_id, user_name, password, reason) in [
        ("pump-2", Some("shop"), token, CloseReason::BadClientId),
        ("", Some("shop/pump-2"), token, CloseReason::BadToken),
        ("", Some(other.key.as_str()), token, CloseReason::BadToken),
        ("", Some("nobody"), token, CloseReason::UnknownApp),
        ("", Some(""), token, CloseReason::UnknownApp),
        ("pump-1", Some("shop"), Some("no token"), CloseReason::BadToken),
        ("pump-1", Some("shop"), None, CloseReason::BadToken),
        ("pump-1", None, token, CloseReason::BadToken),
        ("pump-1", None, None, CloseReason::BadToken),
    ] {
        let told = rig.refused(mqtt(&rig, client_id, user_name, password)).await;
        assert_eq!(told.0, reason, "{client_id:?} {user_name:?}");
    }
    rig.now.fetch_add(3_601_000, SeqCst);
    let late = mqtt(&rig, "pump-1", Some("shop"), token);
    assert_eq!(rig.refused(late).await, (CloseReason::ExpiredToken, 0));
    // None of them disturbed the connection that is there.
    rig.hub.push(&rig.app, rig.push(devices(&["pump-1"]), 60)).await.unwrap();
    assert!(matches!(rig.shards.next(0).await, Command::Deliver { to, .. } if to == current));
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_passwords_from_one_address_are_told_to_wait() {
    let rig = Rig::new(1).await;
    let mut wait_s = 0;
    for _ in 0..40 {
        wait_s = rig.refused(mqtt(&rig, "x", Some("shop"), Some("guess"))).await.1;
    }
    assert!(wait_s > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_expiry_is_clipped() {
    let rig = Rig::new(1).await;
    let device = rig.register("pump-1", None, &[]).await;
    for (number, (wanted, granted)) in
        [(0, 0), (60, 60), (u32::MAX, 86_400), (u32::MAX - 1, 28 * 86_400)].into_iter().enumerate()
    {
        let mut login = mqtt(&rig, "pump-1", Some("shop"), Some(&device.token));
        login.mqtt.as_mut().unwrap().expiry_s = wanted;
        rig.tell(0, Event::Login(Box::new(login))).await;
        if number > 0 {
            assert!(matches!(rig.shards.next(0).await, Command::Close { .. }));
        }
        let Command::Attach(attach) = rig.shards.next(0).await else { panic!() };
        assert_eq!(attach.mqtt.unwrap().expiry_s, granted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_credentials_is_let_in_where_that_is_switched_on() {
    let rig = Rig::with_auth(1, anonymous()).await;
    let (from, attach) = accepted(&rig, mqtt(&rig, "Zähler 7", None, None)).await;
    let given = attach.mqtt.unwrap();
    assert_eq!((&*given.name, given.assigned), ("Zähler 7", None));
    assert!(given.rules.allow(Act::Subscribe, "#", &given.name, &given.user));
    // It is a device like any other.
    rig.hub.push(&rig.app, rig.push(devices(&["Zähler 7"]), 60)).await.unwrap();
    assert!(matches!(rig.shards.next(0).await, Command::Deliver { to, .. } if to == from));
    // The same client id is the same device.
    let again = mqtt(&rig, "Zähler 7", None, None);
    let newer = again.from;
    rig.tell(0, Event::Login(Box::new(again))).await;
    assert!(matches!(rig.shards.next(0).await, Command::Close { to, .. } if to == from));
    let Command::Attach(second) = rig.shards.next(0).await else { panic!() };
    assert_eq!((second.to, second.client), (newer, attach.client));
    // Without a client id it is told the one that it has.
    let (first, second) =
        (attached(&rig, mqtt(&rig, "", None, None)).await, attached(&rig, mqtt(&rig, "", None, None)).await);
    assert_eq!(first.assigned.as_deref(), Some(&*first.name));
    assert_ne!(first.name, second.name);
    assert_eq!(rig.hub.stats().devices_enrolled.load(SeqCst), 3);
    // Credentials that are there are judged.
    let guess = rig.refused(mqtt(&rig, "x", Some("shop"), Some("guess"))).await;
    assert_eq!(guess.0, CloseReason::BadToken);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_id_that_can_be_no_device_is_refused() {
    let rig = Rig::with_auth(1, anonymous()).await;
    for client_id in ["a/b", "+", "a#", "a\u{7}", "\u{feff}a", &"x".repeat(129)] {
        let told = rig.refused(mqtt(&rig, client_id, None, None)).await;
        assert_eq!(told, (CloseReason::BadClientId, 0), "{client_id:?}");
    }
    attached(&rig, mqtt(&rig, &"x".repeat(128), None, None)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_that_register_themselves_are_bounded_and_stay() {
    let two = AuthOptions { automatic_devices_max: 2, ..anonymous() };
    let rig = Rig::with_auth(1, two.clone()).await;
    rig.register("known", None, &[]).await;
    let (_, first) = accepted(&rig, mqtt(&rig, "a", None, None)).await;
    accepted(&rig, mqtt(&rig, "b", None, None)).await;
    let (reason, retry_after_s) = rig.refused(mqtt(&rig, "c", None, None)).await;
    assert_eq!(reason, CloseReason::DeviceQuota);
    assert!(retry_after_s > 0);
    // One that an app has registered is none of them.
    accepted(&rig, mqtt(&rig, "known", None, None)).await;
    let rig = rig.restarted(two).await;
    let (_, again) = accepted(&rig, mqtt(&rig, "a", None, None)).await;
    assert_eq!(again.client, first.client);
    assert_eq!(rig.refused(mqtt(&rig, "c", None, None)).await.0, CloseReason::DeviceQuota);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_new_clients_is_registered_in_batches() {
    const CROWD: usize = 5000;
    let rig = Rig::with_auth(4, anonymous()).await;
    for number in 0..CROWD {
        let mut login = mqtt(&rig, &format!("crowd-{number}"), None, None);
        login.from = rig.handle((number % 4) as u8);
        rig.tell((number % 4) as u8, Event::Login(Box::new(login))).await;
    }
    let mut clients = HashSet::new();
    for number in 0..CROWD {
        match rig.shards.next((number % 4) as u8).await {
            Command::Attach(attach) => assert!(clients.insert(attach.client)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(rig.hub.stats().devices_enrolled.load(SeqCst), CROWD as u64);
    assert_eq!(rig.hub.stats().sessions_online.load(SeqCst), CROWD as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_connections_that_bring_one_new_name_are_one_device() {
    let rig = Rig::with_auth(1, anonymous()).await;
    let (first, second) = (mqtt(&rig, "twin", None, None), mqtt(&rig, "twin", None, None));
    let handles = [first.from, second.from];
    rig.tell(0, Event::Login(Box::new(first))).await;
    rig.tell(0, Event::Login(Box::new(second))).await;
    let mut attached = HashSet::new();
    let mut closed = HashSet::new();
    // One displaces the other, before or after that one was attached.
    while closed.len() + usize::from(attached.len() == 2) < 1 || attached.is_empty() {
        match rig.shards.next(0).await {
            Command::Attach(attach) => drop(attached.insert(attach.to)),
            Command::Close { to, .. } => drop(closed.insert(to)),
            other => panic!("{other:?}"),
        }
    }
    until(|| async { rig.hub.stats().sessions_online.load(SeqCst) == 1 }).await;
    assert!(closed.iter().all(|to| handles.contains(to)));
    assert_eq!(rig.hub.stats().devices_enrolled.load(SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_that_hangs_up_leaves_no_session() {
    let rig = Rig::with_auth(1, anonymous()).await;
    let login = mqtt(&rig, "gone", None, None);
    let from = login.from;
    rig.tell(0, Event::Login(Box::new(login))).await;
    rig.close(from, None, Vec::new()).await;
    // Another one behind it is served, so the first is through.
    accepted_among(&rig, mqtt(&rig, "there", None, None)).await;
    until(|| async { rig.hub.stats().sessions_online.load(SeqCst) == 1 }).await;
}

/// Like [`accepted`], when answers to others may come first.
async fn accepted_among(rig: &Rig, login: Login) {
    let from = login.from;
    rig.tell(0, Event::Login(Box::new(login))).await;
    while !matches!(rig.shards.next(0).await, Command::Attach(attach) if attach.to == from) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_rules_that_change_reach_sessions_that_are_there_and_survive() {
    let rig = Rig::new(1).await;
    let device = rig.register("pump-1", None, &[]).await;
    let given = attached(&rig, mqtt(&rig, "pump-1", Some("shop/pump-1"), Some(&device.token))).await;
    let may = |given: &MqttAttach, topic| given.rules.allow(Act::Publish, topic, &given.name, &given.user);
    assert!(may(&given, "device/pump-1/x") && !may(&given, "plant/pump-1"));
    let lines = ["deny publish plant/secret".to_owned(), "allow publish plant/#".to_owned()];
    assert_eq!(rig.hub.set_topic_rules(&rig.app.key, Some(&lines)).await, Ok(true));
    assert!(!may(&given, "device/pump-1/x") && may(&given, "plant/pump-1") && !may(&given, "plant/secret"));
    let bad = rig.hub.set_topic_rules(&rig.app.key, Some(&["allow all".to_owned()])).await.unwrap_err();
    assert!(bad.to_string().contains("topic_rules[0]"), "{bad}");
    assert_eq!(rig.hub.set_topic_rules(&AppKey::parse("none").unwrap(), None).await, Ok(false));
    // Rules that speak of the user name bring it along.
    let by_user = ["allow publish of/%u".to_owned()];
    rig.hub.set_topic_rules(&rig.app.key, Some(&by_user)).await.unwrap();
    let rig = rig.restarted(AuthOptions::default()).await;
    let given = attached(&rig, mqtt(&rig, "", Some("shop/pump-1"), Some(&device.token))).await;
    assert_eq!(&*given.user, "pump-1");
    assert!(may(&given, "of/pump-1") && !may(&given, "plant/x"));
}
