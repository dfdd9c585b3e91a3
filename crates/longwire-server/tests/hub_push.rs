//! Pushes from audience to receipt, and the books.
#![allow(clippy::unwrap_used, missing_docs)]

mod hub_rig;

use hub_rig::{Rig, aliases, any_tag, devices, until};
use longwire_proto::id::{Position, Source};
use longwire_server::delivery::border::{Command, Event, Meant};
use longwire_server::delivery::hub::{PushError, new_trace};
use longwire_server::domain::{AppKey, AppSecret, Audience, MessageId, TraceId};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

#[tokio::test(flavor = "multi_thread")]
async fn messages_reach_a_shard_in_log_order_under_concurrency() {
    let rig = Arc::new(Rig::new(2).await);
    let mut pushes = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let rig = rig.clone();
        pushes.spawn(async move {
            for _ in 0..25 {
                rig.hub.push(&rig.app, rig.push(Audience::all(), 60)).await.unwrap();
            }
        });
    }
    for shard in 0..2 {
        let mut before = Position::START;
        for _ in 0..200 {
            let Command::Broadcast(broadcast) = rig.shards.next(shard).await else { panic!() };
            assert!(broadcast.position > before);
            before = broadcast.position;
        }
    }
    while let Some(done) = pushes.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_to_an_unknown_id_is_refused_and_stores_nothing() {
    let rig = Rig::new(1).await;
    rig.register("phone", None, &[]).await;
    for ttl_s in [0, 60] {
        for audience in [devices(&["nobody", "else"]), aliases(&["nobody"])] {
            let refused = rig.hub.push(&rig.app, rig.push(audience, ttl_s)).await;
            assert_eq!(refused.unwrap_err(), PushError::NobodyMatches);
        }
    }
    assert_eq!(rig.shards.waiting(0), 0);
    let receipt = rig.hub.push(&rig.app, rig.push(devices(&["nobody", "phone"]), 60)).await.unwrap();
    assert_eq!(
        (receipt.audience.matched, receipt.audience.unknown, receipt.audience.online),
        (Some(1), 1, Some(0))
    );
    assert_eq!(receipt.durability, "local");
}

#[tokio::test(flavor = "multi_thread")]
async fn online_only_to_an_offline_device_stores_nothing() {
    let rig = Rig::new(1).await;
    let device = rig.register("phone", None, &[]).await;
    let receipt = rig.hub.push(&rig.app, rig.push(devices(&["phone"]), 0)).await.unwrap();
    assert_eq!(
        (receipt.audience.matched, receipt.audience.online, receipt.durability),
        (Some(1), Some(0), "memory")
    );
    let story = rig.hub.message(&rig.app, receipt.message).await.unwrap().unwrap();
    assert!(story.online_only && story.view.counts.created == 0 && story.sent == 0);
    let (_, attach) = rig.login(0, &device).await;
    assert!(!attach.mailbox.waiting && !attach.log.waiting);
}

#[tokio::test(flavor = "multi_thread")]
async fn online_only_reaches_who_is_connected_and_is_counted() {
    let rig = Rig::new(2).await;
    let device = rig.register("phone", None, &[]).await;
    let (handle, _) = rig.login(1, &device).await;
    let receipt = rig.hub.push(&rig.app, rig.push(devices(&["phone"]), 0)).await.unwrap();
    assert!(matches!(rig.shards.next(1).await, Command::DeliverNow { to, .. } if to == handle));
    let message = receipt.message;
    rig.tell(1, Event::Sent { message, sent: 1, dropped: 0 }).await;
    rig.tell(1, Event::Sent { message, sent: 0, dropped: 1 }).await;
    until(async || {
        let story = rig.hub.message(&rig.app, message).await.unwrap().unwrap();
        (story.sent, story.dropped_now) == (1, 1)
    })
    .await;
    rig.hub.push(&rig.app, rig.push(any_tag(&["unknown"]), 0)).await.unwrap();
    for shard in 0..2 {
        let Command::Broadcast(broadcast) = rig.shards.next(shard).await else { panic!() };
        assert_eq!(broadcast.position, Position::START);
        let meant = broadcast.reach.judge(device.client, &[]);
        assert_eq!(meant, Meant::No, "an unknown tag must not mean everybody");
    }
    let (stranger, _) = rig.hub.create_app(AppKey::parse("other").unwrap(), false).await.unwrap();
    assert!(rig.hub.message(&stranger, message).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_shard_queue_delays_and_loses_nothing() {
    let rig = Rig::new(1).await;
    let device = rig.register("phone", None, &[]).await;
    rig.login(0, &device).await;
    rig.shards.room.store(1, SeqCst);
    let mut pushes = Vec::new();
    for _ in 0..5 {
        let (hub, app) = (rig.hub.clone(), rig.app.clone());
        let push = rig.push(devices(&["phone"]), 60);
        pushes.push(tokio::spawn(async move { hub.push(&app, push).await.unwrap().message }));
    }
    until(async || rig.shards.given_back.load(SeqCst) > 2).await;
    let mut delivered = Vec::new();
    let mut before = Position::START;
    for _ in 0..5 {
        let Command::Deliver { position, message, .. } = rig.shards.next(0).await else { panic!() };
        assert!(position > before);
        before = position;
        delivered.push(message.message);
    }
    let mut accepted = Vec::new();
    for push in pushes {
        accepted.push(push.await.unwrap());
    }
    accepted.sort();
    delivered.sort();
    assert_eq!(accepted, delivered);
    assert!(rig.hub.stats().commands_waited.load(SeqCst) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_reaches_all_its_devices_once() {
    let rig = Rig::new(1).await;
    for name in ["phone", "tablet"] {
        let device = rig.register(name, Some("ann"), &[]).await;
        rig.login(0, &device).await;
    }
    rig.register("watch", Some("ben"), &[]).await;
    let push = rig.push(aliases(&["ann", "ann", "nobody"]), 60);
    let receipt = rig.hub.push(&rig.app, push).await.unwrap();
    assert_eq!(
        (receipt.audience.matched, receipt.audience.unknown, receipt.audience.online),
        (Some(2), 1, Some(2))
    );
    assert_eq!(rig.shards.waiting(0), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_given_twice_gives_one_delivery() {
    let rig = Rig::new(1).await;
    let device = rig.register("phone", None, &[]).await;
    rig.login(0, &device).await;
    for ttl_s in [0, 60] {
        let receipt = rig.hub.push(&rig.app, rig.push(devices(&["phone", "phone"]), ttl_s)).await.unwrap();
        assert_eq!((receipt.audience.matched, receipt.audience.unknown), (Some(1), 0));
        rig.shards.next(0).await;
        assert_eq!(rig.shards.waiting(0), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_books_of_a_broadcast_balance_while_it_is_in_flight() {
    let rig = Rig::new(1).await;
    let device = rig.register("phone", None, &[]).await;
    let (handle, _) = rig.login(0, &device).await;
    let message = rig.hub.push(&rig.app, rig.push(Audience::all(), 60)).await.unwrap().message;
    let Command::Broadcast(broadcast) = rig.shards.next(0).await else { panic!() };
    let counts = async || rig.hub.message(&rig.app, message).await.unwrap().unwrap();
    assert_eq!(counts().await.view.counts.created, 0);
    rig.tell(0, Event::Sent { message, sent: 2, dropped: 0 }).await;
    until(async || counts().await.view.counts.pending() == 2).await;
    // One of the two connections ends, the other acks.
    let gone = rig.handle(0);
    rig.close(gone, Some(device.client), vec![message]).await;
    rig.ack(handle, device.client, Source::AppLog, broadcast.position, message).await;
    until(async || {
        let story = counts().await;
        let books = story.view.counts;
        assert_eq!(books.created, books.ended() + books.pending());
        (books.created, books.delivered, story.in_flight, story.sent) == (1, 1, 0, 2)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_and_a_stopping_node_are_refused() {
    let rig = Rig::new(1).await;
    assert!(rig.hub.authenticate("shop", &rig.secret).is_some());
    assert!(rig.hub.authenticate("shop", &AppSecret::presented("")).is_none());
    assert!(rig.hub.authenticate("nobody", &rig.secret).is_none());
    assert_eq!(rig.hub.app_count(), 1);
    assert!(rig.hub.usable().is_ok());
    rig.hub.drain();
    assert_eq!(rig.hub.usable().unwrap_err(), PushError::Draining);
    let refused = rig.hub.push(&rig.app, rig.push(Audience::all(), 60)).await;
    assert_eq!(refused.unwrap_err(), PushError::Draining);
    assert!(rig.hub.message(&rig.app, MessageId(1)).await.unwrap().is_none());
    rig.hub.close().await;
}

#[test]
fn a_new_trace_is_neither_zero_nor_the_last_one() {
    let traces: std::collections::HashSet<TraceId> = (0..1000).map(|_| new_trace()).collect();
    assert_eq!(traces.len(), 1000);
    assert!(!traces.contains(&TraceId(0)));
}
