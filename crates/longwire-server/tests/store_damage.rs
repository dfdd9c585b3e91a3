//! What the message store says to files that are not what it wrote, and what a crash leaves.
#![allow(clippy::unwrap_used, missing_docs)]

mod store_stage;

use longwire_server::domain::{ClientId, Source};
use longwire_server::store::messages::{MessageStore, OpenError};
use longwire_server::store::port::{Accepted, Destination};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use store_stage::{APP, BEGIN_MS, Stage, try_open};

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&file, target).unwrap();
    }
}

fn open_copy(folder: &Path) -> Result<MessageStore, OpenError> {
    try_open(folder, &Arc::new(AtomicU64::new(BEGIN_MS)), 0)
}

/// Pushes to a few devices and acks some; the folder is then closed, opened and closed once, so that its journal ends
/// where its last commit does.
async fn filled(folder: &Path, body_bytes: usize) -> Vec<Accepted> {
    let mut stage = Stage::open(folder);
    let mut accepted = Vec::new();
    let body = vec![3; body_bytes];
    for number in 0..40 {
        stage.register(number % 4 + 1, &["a"]).await;
        let to = Destination::Mailboxes(vec![ClientId(number % 40 + 1)]);
        accepted.push(stage.try_push(to, 60_000, &body).await.unwrap());
        accepted.push(stage.to_tags(&["a"]).await);
    }
    stage.delivered(1, Source::Mailbox, &accepted[0]).await;
    stage.delivered(1, Source::AppLog, &accepted[1]).await;
    stage.settled().await;
    stage.reopen(folder).await;
    stage.store.close().await;
    accepted
}

/// Every acknowledged message is there, or the store says that it cannot read it; it never says that there is none.
async fn check_nothing_lost(store: &MessageStore, accepted: &[Accepted]) {
    for message in accepted {
        if let Ok(found) = store.message(APP, message.message).await {
            assert_eq!(found.expect("an acknowledged message is gone").record, message.record);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_in_any_file_is_found_or_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let accepted = filled(folder.path(), 100).await;
    let mut refused = 0;
    for file in files(folder.path()) {
        if file.file_name().unwrap() == "lock" {
            continue;
        }
        let length = std::fs::metadata(&file).unwrap().len() as usize;
        let mut places: Vec<usize> = (0..4).map(|part| length * part / 4).collect();
        places.push(length.saturating_sub(1));
        places.dedup();
        for place in places.into_iter().filter(|&place| place < length) {
            let damaged = tempfile::tempdir().unwrap();
            copy(folder.path(), damaged.path());
            let path = damaged.path().join(file.strip_prefix(folder.path()).unwrap());
            let mut bytes = std::fs::read(&path).unwrap();
            bytes[place] ^= 0x10;
            std::fs::write(&path, bytes).unwrap();
            match open_copy(damaged.path()) {
                Ok(store) => {
                    check_nothing_lost(&store, &accepted).await;
                    store.close().await;
                }
                Err(OpenError::Corrupt { path, remedy, .. }) => {
                    assert!(Path::new(&path).starts_with(damaged.path()), "{path}");
                    assert!(remedy.contains("restore"), "{remedy}");
                    refused += 1;
                }
                Err(error) => panic!("{} at {place}: {error}", file.display()),
            }
        }
    }
    assert!(refused >= 15, "only {refused} were found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_journal_is_not_taken_for_a_torn_one() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 100).await;
    let journal =
        files(folder.path()).into_iter().find(|file| file.extension().is_some_and(|end| end == "jnl"));
    let journal = std::fs::OpenOptions::new().write(true).open(journal.unwrap()).unwrap();
    journal.set_len(journal.metadata().unwrap().len() - 10).unwrap();
    for _ in 0..2 {
        match open_copy(folder.path()) {
            Err(OpenError::Corrupt { cause, .. }) => assert!(cause.contains("acknowledged"), "{cause}"),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("the loss was not seen"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_last_batch_that_nobody_was_told_of_is_dropped() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let accepted = filled(folder.path(), 100).await;
    let journal =
        files(folder.path()).into_iter().find(|file| file.extension().is_some_and(|end| end == "jnl"));
    let journal = journal.unwrap();
    let front = std::fs::read(&journal).unwrap()[..40].to_vec();
    std::fs::OpenOptions::new().append(true).open(&journal).unwrap().write_all(&front).unwrap();
    let store = open_copy(folder.path()).unwrap();
    check_nothing_lost(&store, &accepted).await;
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_may_be_missing_and_none_is_silently_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let accepted = filled(folder.path(), 100).await;
    for file in files(folder.path()) {
        if file.file_name().unwrap() == "lock" {
            continue;
        }
        let damaged = tempfile::tempdir().unwrap();
        copy(folder.path(), damaged.path());
        std::fs::remove_file(damaged.path().join(file.strip_prefix(folder.path()).unwrap())).unwrap();
        match open_copy(damaged.path()) {
            Ok(store) => {
                check_nothing_lost(&store, &accepted).await;
                store.close().await;
            }
            Err(OpenError::Corrupt { .. }) => {}
            Err(error) => panic!("{}: {error}", file.display()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_in_a_copy_of_the_living_folder() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    let mut accepted = Vec::new();
    for round in 0..3 {
        for client in 1..20 {
            accepted.push(stage.to(client).await);
            accepted.push(stage.to_all().await);
        }
        stage.delivered(1, Source::Mailbox, &accepted[round * 38]).await;
        stage.settled().await;
        // No close: this is what a killed process leaves to the next one.
        let copied = tempfile::tempdir().unwrap();
        copy(folder.path(), copied.path());
        let store = open_copy(copied.path()).unwrap();
        for message in &accepted {
            let found = store.message(APP, message.message).await.unwrap();
            assert_eq!(found.expect("an acknowledged message is gone").record, message.record);
        }
        let first = store.message(APP, accepted[round * 38].message).await.unwrap().unwrap();
        assert_eq!(first.counts.delivered, 1);
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_table_is_found_when_the_store_opens() {
    let folder = tempfile::tempdir().unwrap();
    // Enough for the bodies to leave the buffer (16 MiB).
    let accepted = {
        let stage = Stage::open(folder.path());
        let mut waiting = Vec::new();
        for number in 0..400_u64 {
            let stage = stage.clone();
            let body: Vec<u8> = (0..60_000_u64).map(|at| (at * number) as u8).collect();
            let to = Destination::Mailboxes(vec![ClientId(number + 1)]);
            waiting.push(tokio::spawn(async move { stage.try_push(to, 60_000, &body).await.unwrap() }));
        }
        let mut accepted = Vec::new();
        for push in waiting {
            accepted.push(push.await.unwrap());
        }
        stage.store.close().await;
        accepted
    };
    let is_table = |file: &PathBuf| {
        file.parent().is_some_and(|parent| parent.ends_with("tables"))
            && std::fs::metadata(file).is_ok_and(|file| file.len() > 1_000_000)
    };
    let table = files(folder.path()).into_iter().find(is_table).expect("no table was written");
    let mut bytes = std::fs::read(&table).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&table, bytes).unwrap();
    match open_copy(folder.path()) {
        Err(OpenError::Corrupt { .. }) => {}
        Err(error) => panic!("{error}"),
        Ok(store) => {
            check_nothing_lost(&store, &accepted).await;
            panic!("the damage was not seen");
        }
    }
}
