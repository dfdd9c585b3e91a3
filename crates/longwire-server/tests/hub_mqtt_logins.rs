//! Who an MQTT client is: device tokens, clients that name themselves, and every refusal by its name.
#![allow(clippy::unwrap_used, missing_docs)]

mod hub_rig;

use hub_rig::mqtt::{accepted, attached, mqtt};
use hub_rig::{Rig, devices, until};
use longwire_proto::close::CloseReason;
use longwire_proto::id::ClientId;
use longwire_server::delivery::AuthOptions;
use longwire_server::delivery::border::topics::{From, MqttAttach, TopicCommand, TopicEvent, TopicWish};
use longwire_server::delivery::border::{Command, Event, Handle, Login};
use longwire_server::domain::AppKey;
use longwire_server::domain::topic::Act;
use std::collections::HashSet;
use std::sync::atomic::Ordering::SeqCst;

fn anonymous() -> AuthOptions {
    AuthOptions { anonymous: Some(AppKey::parse("shop").unwrap()), ..AuthOptions::default() }
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
    for client_id in ["a\u{7}", "\u{feff}a", &"x".repeat(129)] {
        let told = rig.refused(mqtt(&rig, client_id, None, None)).await;
        assert_eq!(told, (CloseReason::BadClientId, 0), "{client_id:?}");
    }
    for client_id in ["a/b", "+", "a#", &"x".repeat(128)] {
        attached(&rig, mqtt(&rig, client_id, None, None)).await;
    }
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
    let counted = |rig: &Rig| {
        let stats = rig.hub.stats();
        (stats.devices_automatic.load(SeqCst), stats.devices_automatic_app_max.load(SeqCst))
    };
    assert_eq!(counted(&rig), (2, 2));
    let rig = rig.restarted_with(two).await;
    let (_, again) = accepted(&rig, mqtt(&rig, "a", None, None)).await;
    assert_eq!(again.client, first.client);
    assert_eq!(counted(&rig), (2, 2));
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
    let rig = rig.restarted().await;
    let given = attached(&rig, mqtt(&rig, "", Some("shop/pump-1"), Some(&device.token))).await;
    assert_eq!(&*given.user, "pump-1");
    assert!(may(&given, "of/pump-1") && !may(&given, "plant/x"));
}

/// A kept session of `pump-1`.
fn kept(rig: &Rig, token: &str, clean_start: bool, expiry_s: u32) -> Login {
    let mut login = mqtt(rig, "pump-1", Some("shop"), Some(token));
    let wish = login.mqtt.as_mut().unwrap();
    (wish.clean_start, wish.expiry_s) = (clean_start, expiry_s);
    login
}

async fn subscribe(rig: &Rig, handle: Handle, client: ClientId, filter: &str) {
    let wish = TopicWish {
        filter: filter.into(),
        qos: 1,
        no_local: false,
        retain_as_published: false,
        identifier: 0,
    };
    let from = From { handle, client, app: rig.app.id };
    let event = TopicEvent::Subscribe { packet_id: 5, wishes: vec![(wish, 2)], is_kept: true };
    rig.tell(0, Event::Topic(from, Box::new(event))).await;
    assert!(matches!(rig.shards.next(0).await, Command::Topic(TopicCommand::Answered { .. })));
}

async fn hang_up(rig: &Rig, from: Handle, client: ClientId) {
    rig.close(from, Some(client), Vec::new()).await;
    until(|| async { rig.hub.stats().sessions_online.load(SeqCst) == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_session_is_there_at_the_next_login_and_a_clean_start_ends_it() {
    let rig = Rig::new(1).await;
    let token = rig.register("pump-1", None, &[]).await.token;
    let (from, attach) = accepted(&rig, kept(&rig, &token, false, 60)).await;
    let client = attach.client;
    let given = attach.mqtt.unwrap();
    assert_eq!((given.session_present, given.expiry_s, given.subscriptions.len()), (false, 60, 0));
    subscribe(&rig, from, client, "device/pump-1/orders").await;
    hang_up(&rig, from, client).await;
    // A login that is refused leaves the session as it is, whatever it asked for.
    let mut other = kept(&rig, &token, true, 0);
    other.mqtt.as_mut().unwrap().client_id = "pump-2".into();
    assert_eq!(rig.refused(other).await.0, CloseReason::BadClientId);
    let rig = rig.restarted().await;
    let (from, attach) = accepted(&rig, kept(&rig, &token, false, 60)).await;
    let given = attach.mqtt.unwrap();
    assert!(given.session_present);
    assert_eq!(&*given.subscriptions[0].filter, "device/pump-1/orders");
    hang_up(&rig, from, client).await;
    let (from, attach) = accepted(&rig, kept(&rig, &token, true, 60)).await;
    let given = attach.mqtt.unwrap();
    assert_eq!((given.session_present, given.subscriptions.len()), (false, 0));
    hang_up(&rig, from, client).await;
    // It is over when its time is, which counts from when the hub has seen the end.
    let ended = |view: longwire_server::store::sessions::SessionView| view.session.ended_at.0 > 0;
    until(|| async { rig.store.session(client).await.unwrap().is_some_and(ended) }).await;
    rig.now.fetch_add(61_000, SeqCst);
    until(|| async { rig.store.session(client).await.unwrap().is_none() }).await;
    assert!(!attached(&rig, kept(&rig, &token, false, 60)).await.session_present);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_session_whose_client_hung_up_before_the_answer_runs_out() {
    let rig = Rig::new(1).await;
    let device = rig.register("pump-1", None, &[]).await;
    let login = kept(&rig, &device.token, false, 60);
    let from = login.from;
    rig.tell(0, Event::Login(Box::new(login))).await;
    rig.close(from, None, Vec::new()).await;
    // Whether the answer or the end came first.
    until(|| async { rig.hub.stats().sessions_online.load(SeqCst) == 0 }).await;
    let other = rig.register("other", None, &[]).await;
    accepted_among(&rig, mqtt(&rig, "other", Some("shop"), Some(&other.token))).await;
    until(|| async {
        rig.now.fetch_add(61_000, SeqCst);
        rig.store.session(device.client).await.unwrap().is_none()
    })
    .await;
}
