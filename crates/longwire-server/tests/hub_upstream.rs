//! What devices send to the business, as the hub judges and stores it.
#![allow(clippy::unwrap_used, missing_docs)]

mod hub_rig;

use bytes::Bytes;
use hub_rig::{Rig, until};
use longwire_proto::id::ClientId;
use longwire_proto::wire::ResultCode;
use longwire_server::delivery::border::{Command, Event, Handle, Upstream};
use longwire_server::delivery::hub::{Registered, UpstreamPage};
use std::sync::atomic::Ordering::SeqCst;

fn message(rig: &Rig, from: Handle, client: ClientId, client_message: u64) -> Upstream {
    Upstream {
        from,
        client,
        app: rig.app.id,
        client_message,
        durable: true,
        kind: "text".into(),
        to_device: false,
        payload: Bytes::from(client_message.to_string()),
    }
}

async fn tell(rig: &Rig, upstream: Upstream) {
    rig.tell(upstream.from.shard().0, Event::Upstream(Box::new(upstream))).await;
}

async fn answer(rig: &Rig, from: Handle) -> (u64, ResultCode) {
    match rig.shards.next(from.shard().0).await {
        Command::Answer { to, answer } if to == from => (answer.client_message, answer.outcome),
        other => panic!("not an answer to this connection: {other:?}"),
    }
}

async fn page(rig: &Rig) -> UpstreamPage {
    rig.hub.upstream(&rig.app, None, 1000, 1 << 20).await.unwrap().unwrap()
}

async fn online(rig: &Rig) -> (Handle, Registered) {
    let device = rig.register("phone", None, &[]).await;
    (rig.login(0, &device).await.0, device)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_message_is_answered_when_it_can_be_read_and_stored_once() {
    let rig = Rig::new(2).await;
    let (from, device) = online(&rig).await;
    for _ in 0..2 {
        tell(&rig, message(&rig, from, device.client, 5)).await;
        assert_eq!(answer(&rig, from).await, (5, ResultCode::Done));
        let page = page(&rig).await;
        assert_eq!(page.items.len(), 1);
        assert_eq!(page.items[0].device.as_ref().map(|name| name.as_str()), Some("phone"));
    }
    // Through another connection, on another shard.
    let (other, _) = rig.login(1, &device).await;
    assert!(matches!(rig.shards.next(0).await, Command::Close { .. }));
    tell(&rig, message(&rig, other, device.client, 5)).await;
    assert_eq!(answer(&rig, other).await, (5, ResultCode::Done));
    assert_eq!(page(&rig).await.items.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_its_burst_a_device_is_told_to_wait_and_others_are_not() {
    let rig = Rig::new(1).await;
    let (from, device) = online(&rig).await;
    for number in 0..201 {
        tell(&rig, message(&rig, from, device.client, number)).await;
    }
    let mut busy = Vec::new();
    for _ in 0..201 {
        let (number, outcome) = answer(&rig, from).await;
        if outcome == ResultCode::Busy {
            busy.push(number);
        }
    }
    assert_eq!(busy, [200]);
    tell(&rig, message(&rig, from, ClientId(device.client.0 + 1), 1)).await;
    assert_eq!(answer(&rig, from).await, (1, ResultCode::Done));
    rig.now.fetch_add(20, SeqCst);
    tell(&rig, message(&rig, from, device.client, 200)).await;
    assert_eq!(answer(&rig, from).await, (200, ResultCode::Done));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_device_is_no_target_yet() {
    let rig = Rig::new(1).await;
    let (from, device) = online(&rig).await;
    tell(&rig, Upstream { to_device: true, ..message(&rig, from, device.client, 1) }).await;
    assert_eq!(answer(&rig, from).await, (1, ResultCode::NotAllowed));
    assert!(page(&rig).await.items.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_is_busy_and_a_lost_mode_0_message_is_counted() {
    let rig = Rig::new(1).await;
    let (from, device) = online(&rig).await;
    rig.store.close().await;
    tell(&rig, message(&rig, from, device.client, 1)).await;
    assert_eq!(answer(&rig, from).await, (1, ResultCode::Busy));
    tell(&rig, Upstream { durable: false, ..message(&rig, from, device.client, 2) }).await;
    assert_eq!(answer(&rig, from).await, (2, ResultCode::Done));
    let stats = rig.hub.stats();
    until(|| async { stats.upstream_lost.load(SeqCst) == 1 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_without_room_for_answers_costs_an_answer_and_not_the_message() {
    let rig = Rig::new(1).await;
    let (from, device) = online(&rig).await;
    rig.shards.room.store(0, SeqCst);
    tell(&rig, Upstream { durable: false, ..message(&rig, from, device.client, 1) }).await;
    let stats = rig.hub.stats();
    until(|| async { stats.upstream_unanswered.load(SeqCst) == 1 }).await;
    until(|| async { page(&rig).await.items.len() == 1 }).await;
    // A durable one waits for room.
    tell(&rig, message(&rig, from, device.client, 2)).await;
    until(|| async { page(&rig).await.items.len() == 2 }).await;
    rig.shards.room.store(10, SeqCst);
    assert_eq!(answer(&rig, from).await, (2, ResultCode::Done));
}
