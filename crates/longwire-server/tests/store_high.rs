//! High messages in pages: ahead of their turn, and in it.
#![allow(clippy::unwrap_used, missing_docs)]

mod store_stage;

use longwire_server::domain::{ClientId, Position, Priority, Source};
use longwire_server::store::port::{Accept, Accepted, Destination, End, Page, PageEntry};
use std::collections::BTreeSet;
use store_stage::{Stage, id, ids, to_tags};

const MANY: (u16, u32) = (32, 64 * 1024);

async fn high(stage: &Stage, to: Destination, ttl_ms: u64) -> Accepted {
    let accept = Accept { priority: Priority::High, ..stage.accept(to, ttl_ms, b"high") };
    stage.store.accept(accept).await.unwrap()
}

fn mailbox(client: u64) -> Destination {
    Destination::Mailboxes(vec![ClientId(client)])
}

fn ahead(page: &Page) -> Vec<i128> {
    let id = |entry: &PageEntry| match entry {
        PageEntry::Message { message, high: true, .. } => message.0 as i128,
        other => panic!("{other:?}"),
    };
    page.ahead.iter().map(id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_brings_high_messages_first_and_again_in_their_turn() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(folder.path());
    let first = high(&stage, mailbox(1), 60_000).await;
    let normal = stage.to(1).await;
    let second = high(&stage, mailbox(1), 60_000).await;
    let third = high(&stage, mailbox(1), 60_000).await;
    let from = (Source::Mailbox, Position::START);
    let page = stage.page_by(1, from, MANY, (4, &[])).await;
    // The first is next anyway.
    assert_eq!((ahead(&page), page.more_ahead), (vec![id(&second), id(&third)], false));
    assert_eq!(ids(&page), [&first, &normal, &second, &third].map(id));
    stage.reopen(folder.path()).await;
    // One place; what went ahead comes neither ahead nor in its turn.
    let went = [second.record.targets[0].position];
    let page = stage.page_by(1, (Source::Mailbox, first.record.targets[0].position), MANY, (1, &went)).await;
    assert_eq!((ahead(&page), page.more_ahead), (vec![id(&third)], false));
    assert_eq!((ids(&page), page.end), ([&normal, &third].map(id).to_vec(), true));
    let page = stage.page_by(1, from, (0, 0), (1, &[])).await;
    assert_eq!((ahead(&page), page.more_ahead), (vec![id(&first)], true));
    assert!(page.entries.is_empty() && !page.end, "only what may go ahead was wanted");
    let none = stage.page_by(1, from, MANY, (0, &[])).await;
    assert_eq!((none.ahead.len(), ids(&none).len()), (0, 4));
    for message in [&second, &third] {
        stage.delivered(1, Source::Mailbox, message).await;
    }
    let page = stage.page_by(1, from, MANY, (4, &[])).await;
    assert_eq!((ahead(&page), ids(&page)), (vec![], [&first, &normal].map(id).to_vec()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_an_end_does_not_go_ahead() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.register(1, &[]).await;
    stage.to(1).await;
    stage.to_all().await;
    let short = high(&stage, mailbox(1), 1_000).await;
    let log = high(&stage, Destination::Log(Default::default()), 1_000).await;
    let lasting = high(&stage, mailbox(1), 60_000).await;
    stage.pass(1_000);
    stage.wait_for_expired(&short, 1).await;
    let page = stage.page_by(1, (Source::Mailbox, Position::START), MANY, (4, &[])).await;
    assert_eq!(ahead(&page), [id(&lasting)]);
    let page = stage.page_by(1, (Source::AppLog, Position::START), MANY, (4, &[])).await;
    assert_eq!(ahead(&page), [0_i128; 0]);
    assert!(ids(&page).contains(&-id(&log)), "told as a gap in its turn");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_brings_those_that_are_meant_and_not_settled() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.register(1, &["a"]).await;
    stage.register(2, &["b"]).await;
    let normal = stage.to_all().await;
    let for_a = high(&stage, to_tags(&["a"]), 60_000).await;
    let for_b = high(&stage, to_tags(&["b"]), 60_000).await;
    let for_all = high(&stage, Destination::Log(Default::default()), 60_000).await;
    let from = (Source::AppLog, Position::START);
    let page = stage.page_by(1, from, MANY, (4, &[])).await;
    assert_eq!(ahead(&page), [id(&for_a), id(&for_all)]);
    assert_eq!(ids(&page), [&normal, &for_a, &for_all].map(id));
    let page = stage.page_by(2, from, MANY, (1, &[])).await;
    assert_eq!((ahead(&page), page.more_ahead), (vec![id(&for_b)], true));
    // Settled before what lies before it.
    stage.delivered(1, Source::AppLog, &for_all).await;
    let page = stage.page_by(1, from, MANY, (4, &[])).await;
    assert_eq!((ahead(&page), ids(&page)), (vec![id(&for_a)], [&normal, &for_a].map(id).to_vec()));
    stage.settle(1, Source::AppLog, &for_a, End::Delivered).await;
    stage.delivered(1, Source::AppLog, &normal).await;
    assert!(!stage.login(1).await.log.waiting);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_high_messages_of_a_log_than_can_be_settled_out_of_order_are_never_lost() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.register(1, &[]).await;
    let normal = stage.to_all().await;
    let mut waiting = Vec::new();
    for _ in 0..100 {
        waiting.push(high(&stage, Destination::Log(Default::default()), 60_000).await);
    }
    // Each goes ahead, is acked, and the chain never comes on.
    let mut went = 0;
    loop {
        let page = stage.page_by(1, (Source::AppLog, Position::START), MANY, (4, &[])).await;
        let sent = ahead(&page);
        if sent.is_empty() {
            break;
        }
        for message in waiting.iter().filter(|message| sent.contains(&id(message))) {
            stage.delivered(1, Source::AppLog, message).await;
            went += 1;
        }
    }
    assert_eq!(went, 36, "those that find no room among the settled wait for their turn");
    let mut got = BTreeSet::new();
    while stage.login(1).await.log.waiting {
        let after = stage.login(1).await.log.last;
        let page = stage.page(1, Source::AppLog, after).await;
        // The oldest last: for a while more is settled out of order than there is room for.
        for one in waiting.iter().chain([&normal]).filter(|one| ids(&page).contains(&id(one))) {
            stage.delivered(1, Source::AppLog, one).await;
            got.insert(id(one));
        }
    }
    assert_eq!(got.len(), 1 + 100 - went);
    for message in &waiting {
        assert_eq!(stage.counts(message).await.delivered, 1);
    }
}
