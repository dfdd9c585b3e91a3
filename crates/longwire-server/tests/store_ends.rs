//! Ends that others than the device make, in the store: collapse, override, recall; and what a later word of the device does.
#![allow(clippy::unwrap_used, missing_docs)]

mod store_stage;

use longwire_proto::wire::GapReason;
use longwire_server::domain::{ClientId, Counts, Kind, MessageId, Position, Recalled, Source};
use longwire_server::store::port::{Accept, Accepted, Destination, End, PageEntry, StoreError};
use store_stage::{APP, RETENTION_MS, Stage, to_tags};

const LONG_MS: u64 = 60_000;

async fn opened(devices: u64) -> (tempfile::TempDir, Stage) {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    for client in 1..=devices {
        stage.register(client, &["red"]).await;
    }
    (folder, stage)
}

fn to(clients: &[u64]) -> Destination {
    Destination::Mailboxes(clients.iter().map(|&client| ClientId(client)).collect())
}

async fn push(stage: &Stage, to: Destination, change: impl FnOnce(&mut Accept)) -> Accepted {
    let mut accept = stage.accept(to, LONG_MS, b"body");
    change(&mut accept);
    stage.store.accept(accept).await.unwrap()
}

fn keyed(key: &str) -> impl FnOnce(&mut Accept) {
    let key = key.to_owned();
    move |accept| accept.collapse_key = key.into()
}

/// What a device is given: messages, and gaps with their reason.
async fn given(stage: &Stage, client: u64, source: Source) -> Vec<(MessageId, Option<GapReason>)> {
    let view = stage.login(client).await;
    let start = if source == Source::Mailbox { view.mailbox } else { view.log };
    let page = stage.page(client, source, start.last).await;
    let told = |entry: &PageEntry| match entry {
        PageEntry::Message { message, .. } | PageEntry::Released { message, .. } => (*message, None),
        PageEntry::Gap { message, reason, .. } => (*message, Some(*reason)),
    };
    page.entries.iter().map(told).collect()
}

fn ended(counts: &Counts) -> [u64; 5] {
    [counts.created, counts.delivered, counts.collapsed, counts.recalled, counts.pending()]
}

async fn balanced(stage: &Stage) {
    stage.settled().await;
    assert_eq!(stage.store.check_books().await.unwrap().gap, 0);
}

#[tokio::test]
async fn the_newest_of_a_key_ends_the_older_one_that_waits_and_the_device_is_told() {
    let (_folder, stage) = opened(2).await;
    let older = push(&stage, to(&[1, 2]), keyed("weather")).await;
    stage.delivered(2, Source::Mailbox, &older).await;
    let other = push(&stage, to(&[1]), keyed("news")).await;
    let newer = push(&stage, to(&[1, 2]), keyed("weather")).await;
    assert_eq!(ended(&stage.counts(&older).await), [2, 1, 1, 0, 0], "who had it keeps that end");
    let expected =
        [(older.message, Some(GapReason::Collapsed)), (other.message, None), (newer.message, None)];
    assert_eq!(given(&stage, 1, Source::Mailbox).await, expected);
    assert_eq!(given(&stage, 2, Source::Mailbox).await, [(newer.message, None)]);
    // It was in a window when it was collapsed: the ack only takes the marker.
    stage.delivered(1, Source::Mailbox, &older).await;
    assert_eq!(ended(&stage.counts(&older).await), [2, 1, 1, 0, 0]);
    assert_eq!(given(&stage, 1, Source::Mailbox).await, expected[1..]);
    balanced(&stage).await;
}

#[tokio::test]
async fn a_full_mailbox_takes_the_newest_of_a_key_that_waits_in_it() {
    let (_folder, stage) = opened(1).await;
    push(&stage, to(&[1]), keyed("weather")).await;
    for _ in 1..longwire_server::store::port::MAILBOX_MESSAGES_MAX {
        stage.to(1).await;
    }
    assert_eq!(stage.try_push(to(&[1]), LONG_MS, b"x").await.unwrap_err(), StoreError::MailboxFull);
    push(&stage, to(&[1]), keyed("weather")).await;
    assert_eq!(stage.try_push(to(&[1]), LONG_MS, b"x").await.unwrap_err(), StoreError::MailboxFull);
    balanced(&stage).await;
}

#[tokio::test]
async fn in_the_log_a_key_counts_for_one_filter() {
    let (_folder, stage) = opened(1).await;
    let older = push(&stage, to_tags(&["red"]), keyed("k")).await;
    let all = push(&stage, to_tags(&[]), keyed("k")).await;
    let newer = push(&stage, to_tags(&["red"]), keyed("k")).await;
    let expected = [(older.message, Some(GapReason::Collapsed)), (all.message, None), (newer.message, None)];
    assert_eq!(given(&stage, 1, Source::AppLog).await, expected);
    assert_eq!(stage.counts(&older).await, Counts::default(), "no device has met it");
    stage.settle(1, Source::AppLog, &older, End::GapNoted(GapReason::Collapsed)).await;
    assert_eq!(ended(&stage.counts(&older).await), [1, 0, 1, 0, 0]);
    balanced(&stage).await;
}

#[tokio::test]
async fn a_key_is_forgotten_with_its_message() {
    let (folder, mut stage) = opened(1).await;
    let older = push(&stage, to(&[1]), keyed("k")).await;
    let in_log = push(&stage, to_tags(&[]), keyed("k")).await;
    stage.pass(LONG_MS);
    stage.wait_for_expired(&older, 1).await;
    stage.pass(RETENTION_MS);
    stage.wait_for_end(&older).await;
    stage.wait_for_end(&in_log).await;
    stage.reopen(folder.path()).await;
    let newer = push(&stage, to(&[1]), keyed("k")).await;
    assert_eq!(given(&stage, 1, Source::Mailbox).await.last(), Some(&(newer.message, None)));
    assert_eq!(stage.store.books(APP).await.unwrap().expired, 1, "the books keep what is forgotten");
    balanced(&stage).await;
    stage.store.close().await;
    let database = fjall::Database::builder(folder.path().join("engine")).open().unwrap();
    let space = database.keyspace("collapse", fjall::KeyspaceCreateOptions::default).unwrap();
    let rows = space.iter().filter(|_| true).count();
    assert_eq!(rows, 2, "the newer one's row, and the space's mark");
}

#[tokio::test]
async fn an_override_ends_what_waits_only_where_the_newer_one_goes() {
    let (_folder, stage) = opened(3).await;
    let older = push(&stage, to(&[1, 2, 3]), |_| ()).await;
    stage.delivered(3, Source::Mailbox, &older).await;
    let newer = push(&stage, to(&[1, 3]), |accept| accept.replaces = Some(older.message)).await;
    assert_eq!(ended(&stage.counts(&older).await), [3, 1, 1, 0, 1]);
    let told = [(older.message, Some(GapReason::Collapsed)), (newer.message, None)];
    assert_eq!(given(&stage, 1, Source::Mailbox).await, told);
    assert_eq!(given(&stage, 2, Source::Mailbox).await, [(older.message, None)], "it stays");
    // A log message takes the place of what waits for those whom it is for.
    push(&stage, to_tags(&["blue"]), |accept| accept.replaces = Some(older.message)).await;
    assert_eq!(given(&stage, 2, Source::Mailbox).await, [(older.message, None)]);
    push(&stage, to_tags(&["red"]), |accept| accept.replaces = Some(older.message)).await;
    assert_eq!(given(&stage, 2, Source::Mailbox).await, [(older.message, Some(GapReason::Collapsed))]);
    balanced(&stage).await;
}

#[tokio::test]
async fn an_override_of_what_this_app_does_not_have_is_refused_and_stores_nothing() {
    let (_folder, stage) = opened(1).await;
    let mut accept = stage.accept(to(&[1]), LONG_MS, b"x");
    accept.replaces = Some(MessageId(77));
    assert_eq!(stage.store.accept(accept).await.unwrap_err(), StoreError::NoSuchMessage);
    let own = stage.to(1).await;
    let mut accept = stage.accept(to(&[1]), LONG_MS, b"x");
    (accept.app, accept.replaces) = (longwire_server::domain::AppId(8), Some(own.message));
    assert_eq!(stage.store.accept(accept).await.unwrap_err(), StoreError::NoSuchMessage);
    assert_eq!(given(&stage, 1, Source::Mailbox).await, [(own.message, None)]);
    balanced(&stage).await;
}

#[tokio::test]
async fn a_recall_ends_what_waits_and_follows_to_who_has_it_over_a_restart() {
    let (folder, mut stage) = opened(4).await;
    let message = push(&stage, to(&[1, 2, 3, 4]), |_| ()).await;
    stage.delivered(2, Source::Mailbox, &message).await;
    stage.settle(3, Source::Mailbox, &message, End::Received).await;
    stage.settled().await;
    let (follower, outcome) = stage.recall(message.message, &[4], false).await;
    assert_eq!(outcome, Some(Recalled { now: 2, following: Some(3), refused: 0 }));
    stage.reopen(folder.path()).await;
    assert_eq!(ended(&stage.counts(&message).await), [4, 2, 0, 2, 0]);
    let recalled = (message.message, Some(GapReason::Recalled));
    assert_eq!(given(&stage, 1, Source::Mailbox).await, [recalled], "it never had it");
    assert_eq!(given(&stage, 2, Source::Mailbox).await, [(follower, None)]);
    assert_eq!(given(&stage, 4, Source::Mailbox).await, [recalled, (follower, None)]);
    let (second, again) = stage.recall(message.message, &[1, 2, 3, 4], true).await;
    assert_eq!(again, outcome);
    assert!(stage.store.message(APP, second).await.unwrap().is_none(), "nothing follows twice");
    let view = stage.store.message(APP, follower).await.unwrap().unwrap();
    assert_eq!((view.record.kind, view.counts.created), (Kind::Recall, 3));
    balanced(&stage).await;
}

#[tokio::test]
async fn a_recall_in_the_log_is_passed_by_who_comes_later_and_follows_only_if_somebody_has_it() {
    let (_folder, stage) = opened(2).await;
    let unseen = stage.to_tags(&["red"]).await;
    let seen = stage.to_all().await;
    stage.delivered(1, Source::AppLog, &seen).await;
    stage.settled().await;
    assert_eq!(stage.recall(unseen.message, &[], false).await.1.unwrap().following, Some(0));
    let (follower, outcome) = stage.recall(seen.message, &[], false).await;
    assert_eq!(outcome, Some(Recalled { now: 0, following: None, refused: 0 }));
    let passed = |accepted: &Accepted| (accepted.message, Some(GapReason::Recalled));
    assert_eq!(given(&stage, 1, Source::AppLog).await, [passed(&unseen), (follower, None)]);
    assert_eq!(given(&stage, 2, Source::AppLog).await, [passed(&unseen), passed(&seen), (follower, None)]);
    stage.settle(2, Source::AppLog, &seen, End::GapNoted(GapReason::Recalled)).await;
    assert_eq!(ended(&stage.counts(&seen).await), [2, 1, 0, 1, 0]);
    balanced(&stage).await;
}

#[tokio::test]
async fn what_is_not_there_is_not_recalled_nor_what_another_app_has() {
    let (_folder, stage) = opened(1).await;
    assert_eq!(stage.recall(MessageId(77), &[], true).await.1, None);
    let mut foreign = stage.accept(to(&[1]), LONG_MS, b"x");
    foreign.app = longwire_server::domain::AppId(8);
    let foreign = stage.store.accept(foreign).await.unwrap();
    assert_eq!(stage.recall(foreign.message, &[], true).await.1, None);
    let view = stage.login(1).await;
    assert!(view.mailbox.waiting && view.mailbox.last < Position(u64::MAX));
}

#[tokio::test]
async fn a_recall_that_a_mailbox_has_no_room_for_is_counted() {
    let (_folder, stage) = opened(1).await;
    let message = stage.to(1).await;
    stage.delivered(1, Source::Mailbox, &message).await;
    for _ in 0..longwire_server::store::port::MAILBOX_MESSAGES_MAX {
        stage.to(1).await;
    }
    let (follower, outcome) = stage.recall(message.message, &[], false).await;
    assert_eq!(outcome, Some(Recalled { now: 0, following: Some(0), refused: 1 }));
    assert!(stage.store.message(APP, follower).await.unwrap().is_none());
    balanced(&stage).await;
}
