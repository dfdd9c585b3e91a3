//! What devices send to the business, as the store keeps it.
#![allow(clippy::unwrap_used, missing_docs)]

mod store_stage;

use bytes::Bytes;
use longwire_server::domain::{ClientId, Position, TraceId, WallMs};
use longwire_server::store::messages::stats::StoreStats;
use longwire_server::store::upstream::{
    UPSTREAM_BYTES_MAX, UPSTREAM_IDS_REMEMBERED, Upstream, UpstreamOutcome, UpstreamPage, UpstreamRequest,
};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use store_stage::{APP, RETENTION_MS, Stage, try_open};

fn message(stage: &Stage, client: u64, number: u64, payload: Bytes) -> Upstream {
    Upstream {
        client: ClientId(client),
        app: APP,
        client_message: number,
        kind: "text".into(),
        accepted_at: WallMs(stage.now()),
        trace: TraceId(7),
        payload,
    }
}

async fn send(stage: &Stage, client: u64, numbers: impl Iterator<Item = u64>) -> Vec<UpstreamOutcome> {
    let messages = numbers.map(|n| message(stage, client, n, Bytes::from(format!("{client}:{n}"))));
    stage.store.upstream(messages.collect()).await.unwrap()
}

async fn page(stage: &Stage, after: Option<Position>, messages_max: u16) -> UpstreamPage {
    let request = UpstreamRequest { app: APP, after, messages_max, bytes_max: 1 << 20 };
    stage.store.upstream_page(request).await.unwrap().unwrap()
}

fn texts(page: &UpstreamPage) -> Vec<String> {
    page.items.iter().map(|item| String::from_utf8(item.payload.to_vec()).unwrap()).collect()
}

fn stored(outcomes: &[UpstreamOutcome]) -> usize {
    outcomes.iter().filter(|outcome| matches!(outcome, UpstreamOutcome::Stored(_))).count()
}

async fn until(stage: &Stage, seen: impl Fn(&StoreStats) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let stats = stage.store.stats();
    while !seen(&stats) {
        assert!(Instant::now() < deadline, "never seen: {stats:?}");
        stage.settled().await;
    }
}

#[tokio::test]
async fn messages_come_in_order_of_arrival_page_by_page() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.register(1, &[]).await;
    assert_eq!(stored(&send(&stage, 1, 1..=3).await), 3);
    assert_eq!(stored(&send(&stage, 2, 1..=2).await), 2);
    let first = page(&stage, None, 2).await;
    assert_eq!((texts(&first), first.end), (vec!["1:1".to_owned(), "1:2".to_owned()], false));
    assert_eq!(first.items[0].device.as_ref().map(|name| name.as_str()), Some("device-1"));
    assert_eq!((first.items[1].client_message, &*first.items[1].kind), (2, "text"));
    let rest = page(&stage, Some(first.cursor), 10).await;
    assert_eq!((texts(&rest).join(" "), rest.end), ("1:3 2:1 2:2".to_owned(), true));
    assert_eq!(rest.items[1].device, None, "device 2 was never registered");
    assert_eq!(rest.waiting.messages, 5);
    let none = page(&stage, Some(rest.cursor), 10).await;
    assert!(none.items.is_empty() && none.end && none.cursor == rest.cursor);
}

#[tokio::test]
async fn a_message_that_is_sent_again_is_stored_once_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(folder.path());
    let twice = send(&stage, 1, [9, 9, 10].into_iter()).await;
    assert_eq!(stored(&twice), 2);
    assert_eq!(twice[1], UpstreamOutcome::Repeated);
    stage.reopen(folder.path()).await;
    assert_eq!(send(&stage, 1, [9, 10].into_iter()).await, [UpstreamOutcome::Repeated; 2]);
    assert_eq!(stored(&send(&stage, 2, [9].into_iter()).await), 1, "ids are each device's own");
    assert_eq!(texts(&page(&stage, None, 10).await), ["1:9", "1:10", "2:9"]);
    let stats = stage.store.stats();
    assert_eq!(stats.upstream_waiting.load(Relaxed), 3, "counted again at the open");
    assert_eq!(stats.upstream_repeated.load(Relaxed), 2);
}

#[tokio::test]
async fn the_last_1024_ids_of_a_device_are_remembered_and_older_ones_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    send(&stage, 1, 0..=UPSTREAM_IDS_REMEMBERED).await;
    let known = send(&stage, 1, 1..=UPSTREAM_IDS_REMEMBERED).await;
    assert!(known.iter().all(|outcome| *outcome == UpstreamOutcome::Repeated));
    assert_eq!(stored(&send(&stage, 1, [0].into_iter()).await), 1, "the oldest was forgotten");
}

#[tokio::test]
async fn what_the_business_took_is_gone_and_stays_known() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(folder.path());
    // More than one turn takes away.
    for chunk in 0..3 {
        send(&stage, 1, chunk * 1000..(chunk + 1) * 1000).await;
    }
    let all = page(&stage, None, 1000).await;
    let all = page(&stage, Some(all.cursor), 1000).await;
    let third = page(&stage, Some(all.cursor), 500).await;
    let left = stage.store.take_upstream(APP, third.cursor).await.unwrap().unwrap();
    assert!(left.messages >= 500, "{left:?}");
    assert_eq!(
        texts(&page(&stage, None, 1).await),
        ["1:2500"],
        "what is taken is not shown, also before it is gone"
    );
    until(&stage, |stats| stats.upstream_waiting.load(Relaxed) == 500).await;
    assert_eq!(stage.store.take_upstream(APP, third.cursor).await.unwrap().unwrap().messages, 500);
    let early = stage.store.take_upstream(APP, all.cursor).await.unwrap().unwrap();
    assert_eq!(early.messages, 500, "an older cursor changes nothing");
    stage.reopen(folder.path()).await;
    assert_eq!(texts(&page(&stage, Some(all.cursor), 1).await), ["1:2500"]);
    assert_eq!(send(&stage, 1, [2000].into_iter()).await, [UpstreamOutcome::Repeated]);
    assert_eq!(stage.store.stats().upstream_waiting.load(Relaxed), 500);
}

#[tokio::test]
async fn a_cursor_from_nowhere_takes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    send(&stage, 1, 1..=2).await;
    let last = page(&stage, None, 10).await.cursor;
    for beyond in [last.next(), Position(u64::MAX)] {
        assert_eq!(stage.store.take_upstream(APP, beyond).await.unwrap(), None);
        let request = UpstreamRequest { app: APP, after: Some(beyond), messages_max: 9, bytes_max: 9 };
        assert!(stage.store.upstream_page(request).await.unwrap().is_none());
    }
    assert_eq!(texts(&page(&stage, None, 10).await), ["1:1", "1:2"]);
}

#[tokio::test]
async fn an_app_at_its_bound_is_refused_until_something_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    let large = Bytes::from(vec![7; 8 << 20]);
    let pieces = UPSTREAM_BYTES_MAX / large.len() as u64;
    for number in 1..pieces {
        let outcome = stage.store.upstream(vec![message(&stage, 1, number, large.clone())]).await.unwrap();
        assert_eq!(stored(&outcome), 1);
    }
    let more = message(&stage, 1, pieces, large.clone());
    assert_eq!(stage.store.upstream(vec![more.clone()]).await.unwrap(), [UpstreamOutcome::AppFull]);
    assert_eq!(stored(&send(&stage, 1, [pieces + 1].into_iter()).await), 1, "a smaller one still fits");
    let first = page(&stage, None, 1).await;
    stage.store.take_upstream(APP, first.cursor).await.unwrap().unwrap();
    assert_eq!(
        stored(&stage.store.upstream(vec![more]).await.unwrap()),
        1,
        "it was not remembered as stored"
    );
}

#[tokio::test]
async fn a_full_disk_refuses_new_messages_and_knows_the_old_ones() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(folder.path());
    send(&stage, 1, [1].into_iter()).await;
    stage.store.close().await;
    stage.store = try_open(folder.path(), &stage.clock, u64::MAX).unwrap();
    let outcomes = send(&stage, 1, [1, 2].into_iter()).await;
    assert_eq!(outcomes, [UpstreamOutcome::Repeated, UpstreamOutcome::StorageFull]);
    let cursor = page(&stage, None, 10).await.cursor;
    assert_eq!(stage.store.take_upstream(APP, cursor).await.unwrap().unwrap().messages, 0);
}

#[tokio::test]
async fn what_nobody_takes_goes_with_retention_and_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    send(&stage, 1, 1..=2).await;
    stage.pass(RETENTION_MS / 2);
    send(&stage, 1, [3].into_iter()).await;
    stage.pass(RETENTION_MS / 2 + 1);
    until(&stage, |stats| stats.upstream_expired.load(Relaxed) == 2).await;
    // It is counted a moment before it is committed.
    stage.settled().await;
    assert_eq!(texts(&page(&stage, None, 10).await), ["1:3"]);
    assert_eq!(stage.store.stats().upstream_taken.load(Relaxed), 0);
}
