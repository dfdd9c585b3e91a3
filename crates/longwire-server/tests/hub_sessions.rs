//! Logins, takeover, refusals, acks and ends of connections, as a shard sees them.
#![allow(clippy::unwrap_used, missing_docs)]

mod hub_rig;

use hub_rig::{Rig, START_MS, any_tag, devices, until};
use longwire_proto::close::CloseReason;
use longwire_proto::id::{ClientId, MessageId, Position, Source};
use longwire_proto::session::Pull;
use longwire_server::delivery::border::{Command, Event, LabelId, Meant};
use longwire_server::domain::{AppKey, Audience, Device, DeviceName, Tag};
use longwire_server::store::port::PageEntry;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

#[tokio::test(flavor = "multi_thread")]
async fn newer_login_takes_over() {
    let rig = Rig::new(2).await;
    let device = rig.register("phone", None, &[]).await;
    let (old, _) = rig.login(0, &device).await;
    let (new, _) = rig.login(1, &device).await;
    match rig.shards.next(0).await {
        Command::Close { to, reason, .. } => assert_eq!((to, reason), (old, CloseReason::TakenOver)),
        other => panic!("{other:?}"),
    }
    // The end of the old connection leaves the new one in place: deliveries go there.
    rig.close(old, Some(device.client), Vec::new()).await;
    rig.hub.push(&rig.app, rig.push(devices(&["phone"]), 60)).await.unwrap();
    assert!(matches!(rig.shards.next(1).await, Command::Deliver { to, .. } if to == new));
    assert_eq!(rig.hub.stats().takeovers.load(SeqCst), 1);
    assert_eq!(rig.hub.stats().sessions_online.load(SeqCst), 1);
}

/// Requirement 004-28.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_comes_back_is_counted() {
    let rig = Rig::new(1).await;
    let (phone, watch) = (rig.register("phone", None, &[]).await, rig.register("watch", None, &[]).await);
    let (first, _) = rig.login(0, &phone).await;
    rig.login(0, &watch).await;
    assert_eq!(rig.hub.reconnects(), (0, 0));
    rig.close(first, Some(phone.client), Vec::new()).await;
    rig.login(0, &phone).await;
    assert_eq!(rig.hub.reconnects(), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_disturbs_no_older_connection() {
    let rig = Rig::new(1).await;
    let device = rig.register("phone", None, &[]).await;
    let (current, _) = rig.login(0, &device).await;
    let mut login = rig.wish(rig.handle(0), &device.token);
    login.client = ClientId(device.client.0 + 1);
    assert_eq!(rig.refused(login).await.0, CloseReason::BadToken);
    rig.hub.push(&rig.app, rig.push(devices(&["phone"]), 60)).await.unwrap();
    assert!(matches!(rig.shards.next(0).await, Command::Deliver { to, .. } if to == current));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_ack_of_a_displaced_session_changes_nothing() {
    let rig = Rig::new(1).await;
    let device = rig.register("phone", None, &[]).await;
    let (old, _) = rig.login(0, &device).await;
    let receipt = rig.hub.push(&rig.app, rig.push(devices(&["phone"]), 60)).await.unwrap();
    let Command::Deliver { position, message, .. } = rig.shards.next(0).await else { panic!() };
    assert_eq!(message.message, receipt.message);
    // The takeover closes the old connection, then attaches the new one.
    let new = rig.handle(0);
    rig.tell(0, Event::Login(Box::new(rig.wish(new, &device.token)))).await;
    assert!(matches!(rig.shards.next(0).await, Command::Close { to, .. } if to == old));
    let Command::Attach(attach) = rig.shards.next(0).await else { panic!() };
    assert!(attach.mailbox.waiting);

    rig.ack(old, device.client, Source::Mailbox, position, receipt.message).await;
    let stats = rig.hub.stats();
    until(async || stats.stale_acks.load(SeqCst) == 1).await;
    let story = rig.hub.message(&rig.app, receipt.message).await.unwrap().unwrap();
    assert_eq!((story.view.counts.delivered, story.view.counts.pending()), (0, 1));

    rig.ack(new, device.client, Source::Mailbox, position, receipt.message).await;
    until(async || {
        let story = rig.hub.message(&rig.app, receipt.message).await.unwrap().unwrap();
        story.view.counts.delivered == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_died_while_being_decided_leaves_no_session() {
    let rig = Rig::new(1).await;
    let device = rig.register("phone", None, &[]).await;
    for _ in 0..50 {
        let from = rig.handle(0);
        rig.tell(0, Event::Login(Box::new(rig.wish(from, &device.token)))).await;
        rig.close(from, None, Vec::new()).await;
    }
    // A last one that lives tells when the others are over.
    let other = rig.register("other", None, &[]).await;
    let last = rig.handle(0);
    rig.tell(0, Event::Login(Box::new(rig.wish(last, &other.token)))).await;
    loop {
        match rig.shards.next(0).await {
            Command::Attach(attach) if attach.to == last => break,
            Command::Attach(_) | Command::Close { .. } => {}
            unexpected => panic!("{unexpected:?}"),
        }
    }
    let name = DeviceName::parse("registration_id", "phone").unwrap();
    until(async || rig.hub.device(&rig.app, name.clone()).await.unwrap().unwrap().1 == 0).await;
    until(async || rig.hub.stats().sessions_online.load(SeqCst) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_why() {
    let rig = Rig::new(1).await;
    let device = rig.register("phone", None, &[]).await;
    rig.hub.create_app(AppKey::parse("other").unwrap(), false).await.unwrap();

    let mut login = rig.wish(rig.handle(0), &device.token);
    login.app_key = "nobody".into();
    assert_eq!(rig.refused(login).await, (CloseReason::UnknownApp, 0));
    let mut login = rig.wish(rig.handle(0), &device.token);
    login.app_key = "other".into();
    assert_eq!(rig.refused(login).await, (CloseReason::BadToken, 0));
    for token in ["", "x", "AQAAAAE", &"A".repeat(512), "\u{1f600}"] {
        let login = rig.wish(rig.handle(0), token);
        assert_eq!(rig.refused(login).await, (CloseReason::BadToken, 0), "{token}");
    }
    rig.now.store(START_MS + 3_600_000, SeqCst);
    let login = rig.wish(rig.handle(0), &device.token);
    assert_eq!(rig.refused(login).await, (CloseReason::ExpiredToken, 0));
    rig.now.store(START_MS, SeqCst);
    rig.hub.drain();
    let login = rig.wish(rig.handle(0), &device.token);
    let (reason, retry_after_s) = rig.refused(login).await;
    assert_eq!(reason, CloseReason::Draining);
    assert!((5..=15).contains(&retry_after_s));
    assert_eq!(rig.hub.stats().sessions_online.load(SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_away_pulls_what_waits_in_order() {
    let rig = Rig::new(1).await;
    let device = rig.register("phone", None, &["red"]).await;
    let (first, _) = rig.login(0, &device).await;
    rig.close(first, Some(device.client), Vec::new()).await;
    until(async || rig.hub.stats().sessions_online.load(SeqCst) == 0).await;

    let own = rig.hub.push(&rig.app, rig.push(devices(&["phone"]), 60)).await.unwrap();
    let red = rig.hub.push(&rig.app, rig.push(any_tag(&["red"]), 60)).await.unwrap();
    rig.hub.push(&rig.app, rig.push(any_tag(&["blue"]), 60)).await.unwrap();
    for _ in 0..2 {
        assert!(matches!(rig.shards.next(0).await, Command::Broadcast(_)));
    }
    let (handle, attach) = rig.login(0, &device).await;
    assert!(attach.mailbox.waiting && attach.log.waiting);
    for (source, start, message) in
        [(Source::Mailbox, attach.mailbox.last, own.message), (Source::AppLog, attach.log.last, red.message)]
    {
        let pull = Pull { source, after: start, messages_max: 32, bytes_max: 65_536, ahead_max: 0 };
        let (from, client, app) = (handle, device.client, rig.app.id);
        let pull = Event::Pull { from, client, app, pull, ahead: Box::default() };
        rig.tell(0, pull).await;
        let Command::Page { to, source: of, page } = rig.shards.next(0).await else { panic!() };
        assert_eq!((to, of), (handle, source));
        let page = page.unwrap();
        let ids: Vec<_> = page
            .entries
            .iter()
            .filter_map(|entry| match entry {
                PageEntry::Message { message, .. } => Some(*message),
                PageEntry::Released { .. } | PageEntry::Gap { .. } => None,
            })
            .collect();
        assert_eq!(ids, [message]);
        assert!(page.end);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_tags_of_a_connected_device_reach_its_connection() {
    let rig = Rig::new(1).await;
    let device = rig.register("phone", None, &["red"]).await;
    let (handle, attach) = rig.login(0, &device).await;
    rig.register("phone", None, &["blue", "red"]).await;
    let Command::Retag { to, labels } = rig.shards.next(0).await else { panic!() };
    assert_eq!((to, labels.len()), (handle, 2));
    assert!(labels.contains(&attach.labels[0]) && labels.is_sorted());
    rig.hub.push(&rig.app, rig.push(any_tag(&["blue"]), 60)).await.unwrap();
    let Command::Broadcast(broadcast) = rig.shards.next(0).await else { panic!() };
    let judge = |labels: &[LabelId]| broadcast.reach.judge(device.client, labels);
    assert_eq!((judge(&labels), judge(&attach.labels)), (Meant::Yes, Meant::No));
    assert!(broadcast.position > Position::START);
    let name = DeviceName::parse("registration_id", "phone").unwrap();
    let (view, online) = rig.hub.device(&rig.app, name).await.unwrap().unwrap();
    let blue = Tag::parse("tag", "blue").unwrap();
    assert!(online == 1 && view.device.tags.contains(&blue));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_refused_and_disturbs_no_older_connection() {
    let rig = Rig::new(1).await;
    let device = rig.register("phone", None, &[]).await;
    let (current, _) = rig.login(0, &device).await;
    let name = DeviceName::parse("registration_id", "phone").unwrap();
    let (view, _) = rig.hub.device(&rig.app, name).await.unwrap().unwrap();
    let revoked = Device { generation: view.device.generation + 1, ..view.device };
    rig.store.project(vec![revoked]).await.unwrap();
    let login = rig.wish(rig.handle(0), &device.token);
    assert_eq!(rig.refused(login).await, (CloseReason::RevokedToken, 0));
    rig.hub.push(&rig.app, rig.push(devices(&["phone"]), 60)).await.unwrap();
    assert!(matches!(rig.shards.next(0).await, Command::Deliver { to, .. } if to == current));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_store_the_hub_sends_devices_away_for_a_while() {
    let rig = Rig::new(1).await;
    let device = rig.register("phone", None, &[]).await;
    rig.store.close().await;
    let login = rig.wish(rig.handle(0), &device.token);
    let (reason, retry_after_s) = rig.refused(login).await;
    assert_eq!(reason, CloseReason::StoreUnavailable);
    assert!((5..=15).contains(&retry_after_s));
    assert_eq!(rig.hub.stats().sessions_online.load(SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_profile_comes_back_from_the_registry_at_login() {
    let rig = Rig::new(1).await;
    let device = rig.register("phone", Some("ann"), &["red"]).await;
    let rig = rig.with_lost_messages().await;
    let (handle, attach) = rig.login(0, &device).await;
    assert_eq!(attach.labels.len(), 1);
    assert_eq!(rig.hub.stats().profiles_healed.load(SeqCst), 1);
    rig.hub.push(&rig.app, rig.push(devices(&["phone"]), 60)).await.unwrap();
    assert!(matches!(rig.shards.next(0).await, Command::Deliver { to, .. } if to == handle));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_that_takes_no_commands_is_heard_all_the_same() {
    let rig = Arc::new(Rig::new(1).await);
    let device = rig.register("phone", None, &[]).await;
    let (handle, _) = rig.login(0, &device).await;
    rig.shards.room.store(0, SeqCst);
    // More than all queues between the API and the shard hold, so that store and dispatcher stand still.
    let mut pushes = tokio::task::JoinSet::new();
    for _ in 0..6000 {
        let rig = rig.clone();
        pushes.spawn(async move { rig.hub.push(&rig.app, rig.push(Audience::all(), 60)).await.unwrap() });
    }
    until(async || rig.shards.given_back.load(SeqCst) > 100).await;
    let heard = async {
        for number in 1..=20_000 {
            let (position, message) = (Position::new(1, number), MessageId(u128::from(number)));
            rig.ack(handle, device.client, Source::Mailbox, position, message).await;
            let login = rig.wish(rig.handle(0), "no token");
            rig.tell(0, Event::Login(Box::new(login))).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), heard).await.expect("the pump stands still");
    let stats = rig.hub.stats();
    until(async || stats.deliveries_acked.load(SeqCst) == 20_000).await;
    rig.shards.room.store(100_000, SeqCst);
    while let Some(done) = pushes.join_next().await {
        done.unwrap();
    }
}
