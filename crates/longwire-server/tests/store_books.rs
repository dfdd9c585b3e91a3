//! The check of the books sees what is planted, and nothing where nothing is.
#![allow(clippy::unwrap_used, missing_docs)]

mod store_stage;

use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use longwire_server::domain::{Counts, Source};
use std::path::Path;
use std::time::{Duration, Instant};
use store_stage::{APP, RETENTION_MS, Stage};

/// Changes rows of a closed store behind its back. Rows are put or removed (`None`); the space's marks stay as they are.
fn plant(folder: &Path, space: &str, change: impl Fn(&[u8], &[u8]) -> Option<Option<Vec<u8>>>) -> usize {
    let database = Database::builder(folder.join("engine")).open().unwrap();
    let rows = database.keyspace(space, KeyspaceCreateOptions::default).unwrap();
    let mut changed = 0;
    let all: Vec<_> = rows.iter().map(|entry| entry.into_inner().unwrap()).collect();
    for (key, value) in all.iter().filter(|(key, _)| key.len() < 40) {
        match change(key, value) {
            Some(Some(value)) => rows.insert(key.clone(), value).unwrap(),
            Some(None) => rows.remove(key.clone()).unwrap(),
            None => continue,
        }
        changed += 1;
    }
    database.persist(PersistMode::SyncAll).unwrap();
    changed
}

/// A store with messages in every state, forgotten ones among them.
async fn stocked(folder: &Path) -> Stage {
    let stage = Stage::open(folder);
    for client in 1..=3 {
        stage.register(client, &["red"]).await;
    }
    let forgotten = stage.to(1).await;
    stage.pass(60_000);
    stage.wait_for_expired(&forgotten, 1).await;
    stage.pass(RETENTION_MS);
    stage.wait_for_end(&forgotten).await;
    let (waits, acked, log) = (stage.to(1).await, stage.to(2).await, stage.to_all().await);
    let recalled = stage.to(3).await;
    stage.delivered(2, Source::Mailbox, &acked).await;
    stage.delivered(2, Source::AppLog, &log).await;
    stage.settled().await;
    stage.recall(recalled.message, &[], false).await;
    assert_eq!(stage.counts(&waits).await.pending(), 1);
    stage
}

async fn gap(stage: &Stage) -> u64 {
    stage.store.check_books().await.unwrap().gap
}

/// A gap that is planted, and what the check says then.
async fn gap_of(space: &str, change: impl Fn(&[u8], &[u8]) -> Option<Option<Vec<u8>>>) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = stocked(folder.path()).await;
    assert_eq!(gap(&stage).await, 0);
    stage.store.close().await;
    assert!(plant(folder.path(), space, change) > 0, "nothing was planted");
    stage.reopen(folder.path()).await;
    let found = gap(&stage).await;
    let report = stage.store.books_report();
    assert_eq!((report.gap, report.checks), (found, 1));
    stage.store.close().await;
    found
}

/// The value with one more in a field of eight bytes.
fn raised(value: &[u8], field: usize) -> Option<Option<Vec<u8>>> {
    let mut value = value.to_vec();
    let at = field * 8..field * 8 + 8;
    let number = u64::from_be_bytes(value[at.clone()].try_into().unwrap()) + 1;
    value[at].copy_from_slice(&number.to_be_bytes());
    Some(Some(value))
}

#[tokio::test]
async fn books_that_are_right_have_no_gap_and_say_what_is_where() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = stocked(folder.path()).await;
    let wanted = Counts { created: 5, delivered: 2, expired: 1, recalled: 1, ..Counts::default() };
    for _ in 0..2 {
        let report = stage.store.check_books().await.unwrap();
        let book = report.apps[&APP];
        assert_eq!((report.gap, book.gap, book.pending, book.totals), (0, 0, 1, wanted));
        assert_eq!(stage.store.books(APP).await.unwrap(), wanted);
        stage.reopen(folder.path()).await;
    }
}

#[tokio::test]
async fn a_row_that_vanished_from_a_mailbox_is_a_gap_of_one() {
    let waits = |_: &[u8], value: &[u8]| (value[28] == 0).then_some(None);
    assert_eq!(gap_of("mailbox", waits).await, 1);
}

#[tokio::test]
async fn a_row_that_waits_although_its_message_has_ended_is_a_gap_of_one() {
    // The marker of the recalled one waits again.
    let revive = |_: &[u8], value: &[u8]| {
        let mut value = value.to_vec();
        (std::mem::take(&mut value[28]) == 4).then_some(Some(value))
    };
    assert_eq!(gap_of("mailbox", revive).await, 1);
}

#[tokio::test]
async fn an_end_too_many_in_the_totals_of_an_app_is_a_gap_of_one() {
    for field in [1, 2, 3, 4, 8] {
        let one_more = |key: &[u8], value: &[u8]| (key[4] == 0).then(|| raised(value, field)).flatten();
        assert_eq!(gap_of("books", one_more).await, 1, "field {field}");
    }
}

#[tokio::test]
async fn forgotten_messages_that_are_not_in_the_totals_are_a_gap() {
    let lost = |key: &[u8], _: &[u8]| (key[4] == 1).then_some(None);
    assert_eq!(gap_of("books", lost).await, 1);
}

#[tokio::test]
async fn counts_of_one_message_that_are_wrong_are_a_gap_of_one() {
    // The one that waits: created 1, nothing ended. It is said to be delivered.
    let waits = |_: &[u8], value: &[u8]| {
        let created = u64::from_be_bytes(value[..8].try_into().unwrap());
        let ended = value[8..40].iter().any(|byte| *byte != 0);
        (created == 1 && !ended).then(|| raised(value, 1)).flatten()
    };
    assert_eq!(gap_of("counts", waits).await, 1);
}

#[tokio::test]
async fn counts_without_a_record_and_records_without_counts_are_gaps() {
    let any = |_: &[u8], value: &[u8]| value[..8].iter().any(|byte| *byte != 0).then_some(None);
    assert!(gap_of("counts", any).await >= 1);
    let any = |_: &[u8], _: &[u8]| Some(None);
    assert!(gap_of("messages", any).await >= 1);
}

#[tokio::test]
async fn the_books_are_checked_again_and_again_once_an_interval_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.register(1, &[]).await;
    stage.to(1).await;
    assert_eq!(stage.store.books_report().checks, 0);
    stage.store.check_books_every(Duration::from_millis(1));
    let until = Instant::now() + Duration::from_secs(20);
    while stage.store.books_report().checks < 3 {
        assert!(Instant::now() < until, "no check came");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!((stage.store.books_report().gap, stage.store.books_report().apps[&APP].pending), (0, 1));
    stage.store.close().await;
    assert!(stage.store.check_books().await.is_err());
}

#[tokio::test]
async fn bodies_of_a_store_from_before_they_were_counted_are_counted_when_it_opens() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = stocked(folder.path()).await;
    let stored = stage.store.stored_bytes(APP);
    assert!(stored > 0);
    stage.store.close().await;
    assert_eq!(plant(folder.path(), "books", |key, _| (key[4] == 2).then_some(None)), 1);
    for _ in 0..2 {
        stage.reopen(folder.path()).await;
        assert_eq!((stage.store.stored_bytes(APP), gap(&stage).await), (stored, 0));
    }
    stage.to(1).await;
    assert_eq!(stage.store.stored_bytes(APP), stored + b"body".len() as u64);
    stage.store.close().await;
    assert_eq!(plant(folder.path(), "books", |key, _| (key[4] == 2).then_some(None)), 1, "it was written");
}
