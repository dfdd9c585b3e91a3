//! A store that is put back from a copy.
#![allow(clippy::unwrap_used, missing_docs)]

mod store_stage;

use longwire_server::domain::{Position, Source};
use longwire_server::store::port::Accepted;
use std::path::Path;
use store_stage::{Stage, id, ids};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, target) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).unwrap();
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(path, target).unwrap();
        }
    }
}

fn places(mail: &Accepted, log: &Accepted) -> [Position; 2] {
    [mail.record.targets[0].position, log.record.log_position]
}

#[tokio::test]
async fn a_restored_store_gives_no_position_twice_and_delivers_what_it_holds() {
    let (live, saved) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut stage = Stage::open(live.path());
    stage.register(1, &[]).await;
    let mut mail = Vec::new();
    let mut log = Vec::new();
    for _ in 0..3 {
        mail.push(stage.to(1).await);
        log.push(stage.to_all().await);
    }
    stage.store.close().await;
    copy(live.path(), saved.path());
    stage.reopen(live.path()).await;
    let given = places(&stage.to(1).await, &stage.to_all().await);
    stage.store.close().await;

    std::fs::write(saved.path().join("restored"), []).unwrap();
    stage.reopen(saved.path()).await;
    assert!(!saved.path().join("restored").exists());
    mail.push(stage.to(1).await);
    log.push(stage.to_all().await);
    let fresh = places(&mail[3], &log[3]);
    for (fresh, given) in fresh.into_iter().zip(given) {
        assert!(fresh > given && fresh.incarnation() > given.incarnation(), "{fresh:?} after {given:?}");
    }
    // All of it in order, also when the oldest is acked first and the floor meets the next incarnation.
    for (source, accepted) in [(Source::Mailbox, &mail), (Source::AppLog, &log)] {
        let all: Vec<i128> = accepted.iter().map(id).collect();
        for acked in 0..accepted.len() {
            let page = stage.page(1, source, Position::START).await;
            assert_eq!(ids(&page), all[acked..], "{source:?} after {acked}");
            stage.delivered(1, source, &accepted[acked]).await;
        }
        assert_eq!(ids(&stage.page(1, source, Position::START).await), Vec::<i128>::new());
    }
    // Without the file nothing is raised.
    stage.reopen(saved.path()).await;
    assert_eq!(places(&stage.to(1).await, &stage.to_all().await), fresh.map(Position::next));
}

#[tokio::test]
async fn markers_of_a_restored_mailbox_stay_within_their_bound() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(folder.path());
    stage.register(1, &[]).await;
    let kept = stage.to(1).await;
    stage.store.close().await;
    std::fs::write(folder.path().join("restored"), []).unwrap();
    stage.reopen(folder.path()).await;
    // More than a mailbox keeps markers of, in two rounds since it takes a thousand messages at most.
    let mut last = kept;
    for _ in 0..2 {
        for _ in 0..600 {
            last = stage.to(1).await;
        }
        stage.pass(60_001);
        stage.wait_for_expired(&last, 1).await;
    }
    let login = stage.login(1).await;
    assert!(login.mailbox.waiting);
    let next = stage.to(1).await;
    assert!(next.record.targets[0].position > last.record.targets[0].position);
}
