//! Conversations with the message store.
#![allow(clippy::unwrap_used, missing_docs)]

mod store_stage;

use longwire_proto::wire::GapReason;
use longwire_server::domain::{
    Alias, AppId, ClientId, Counts, DeviceName, DropReason, Dropped, Position, Source, Target, WallMs,
};
use longwire_server::store::messages::OpenError;
use longwire_server::store::port::{
    Destination, End, MAILBOX_BYTES_MAX, MAILBOX_MESSAGES_MAX, PageEntry, StoreError,
};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use store_stage::{APP, BEGIN_MS, RETENTION_MS, Stage, device, id, ids, try_open};

fn mailboxes(clients: &[u64]) -> Destination {
    Destination::Mailboxes(clients.iter().map(|&client| ClientId(client)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_for_three_devices_is_stored_once_and_ends_three_times() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    let message = stage.push(mailboxes(&[1, 2, 3]), 60_000).await;
    assert_eq!(message.record.targets.len(), 3);
    assert_eq!(stage.counts(&message).await, Counts { created: 3, ..Counts::default() });
    for client in [1, 2, 3] {
        let page = stage.page(client, Source::Mailbox, Position::START).await;
        assert_eq!((ids(&page), page.end), (vec![id(&message)], true));
        stage.delivered(client, Source::Mailbox, &message).await;
        stage.delivered(client, Source::Mailbox, &message).await;
    }
    assert_eq!(stage.counts(&message).await, Counts { created: 3, delivered: 3, ..Counts::default() });
    let page = stage.page(1, Source::Mailbox, Position::START).await;
    assert!(page.entries.is_empty() && page.end);
}

#[tokio::test(flavor = "multi_thread")]
async fn mailbox_positions_are_adjacent_and_survive_a_reopen() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(folder.path());
    let first = stage.to(5).await.record.targets[0].position;
    assert_eq!(first.sequence(), 1);
    assert!(first.incarnation() > 0);
    let second = stage.to(5).await.record.targets[0];
    assert_eq!(second, Target { client: ClientId(5), position: first.next() });
    stage.reopen(folder.path()).await;
    assert_eq!(stage.to(5).await.record.targets[0].position, first.next().next());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_refuses_its_target_and_only_that() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    let one = stage.to(1).await;
    let mut waiting = Vec::new();
    for _ in 1..MAILBOX_MESSAGES_MAX {
        let stage = stage.clone();
        waiting.push(tokio::spawn(async move { stage.to(1).await }));
    }
    for push in waiting {
        push.await.unwrap();
    }
    assert_eq!(stage.try_push(mailboxes(&[1]), 1000, b"x").await.unwrap_err(), StoreError::MailboxFull);
    let both = stage.push(mailboxes(&[1, 2]), 60_000).await;
    assert_eq!(&*both.refused, [ClientId(1)]);
    assert_eq!(both.record.targets.len(), 1);
    assert_eq!(stage.counts(&both).await.created, 1);
    stage.delivered(1, Source::Mailbox, &one).await;
    stage.settled().await;
    stage.to(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mailbox_holds_so_many_bytes_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    let body = vec![7; 64 * 1024];
    for _ in 0..MAILBOX_BYTES_MAX / body.len() as u64 {
        stage.try_push(mailboxes(&[1]), 60_000, &body).await.unwrap();
    }
    assert_eq!(stage.try_push(mailboxes(&[1]), 1000, b"x").await.unwrap_err(), StoreError::MailboxFull);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_sees_where_the_mailbox_stands() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.register(1, &[]).await;
    let empty = stage.login(1).await.mailbox;
    assert_eq!((empty.last.sequence(), empty.waiting), (0, false));
    let (a, b, c) = (stage.to(1).await, stage.to(1).await, stage.to(1).await);
    assert_eq!(a.record.targets[0].position, empty.last.next());
    let start = stage.login(1).await.mailbox;
    assert_eq!((start.last, start.waiting), (empty.last, true));
    // Out of order: the middle one first; the chain still begins before the first that waits.
    stage.delivered(1, Source::Mailbox, &b).await;
    assert_eq!(stage.login(1).await.mailbox.last, empty.last);
    let page = stage.page(1, Source::Mailbox, empty.last).await;
    assert_eq!(ids(&page), [id(&a), id(&c)]);
    stage.delivered(1, Source::Mailbox, &a).await;
    let start = stage.login(1).await.mailbox;
    assert_eq!((start.last, start.waiting), (b.record.targets[0].position, true));
    stage.delivered(1, Source::Mailbox, &c).await;
    let start = stage.login(1).await.mailbox;
    assert_eq!((start.last, start.waiting), (c.record.targets[0].position, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_profile_has_no_view() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.register(2, &[]).await;
    let views = stage.store.logins(vec![ClientId(1), ClientId(2)]).await.unwrap();
    assert!(views[0].is_none());
    assert_eq!(views[1].as_ref().unwrap().device, device(2, &[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_reaches_each_device_by_its_tags_once() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.to_all().await;
    stage.register(1, &["a", "b"]).await;
    stage.register(2, &["c"]).await;
    let begin = stage.login(1).await.log;
    assert_eq!((begin.last.sequence(), begin.waiting), (1, false));
    let all = stage.to_all().await;
    let both = stage.to_tags(&["a", "b"]).await;
    let other = stage.to_tags(&["c"]).await;
    let one = stage.to_tags(&["b"]).await;
    let view = stage.login(1).await;
    assert_eq!((view.log, view.log_head), (begin_at(begin.last), one.record.log_position));
    let page = stage.page(1, Source::AppLog, begin.last).await;
    assert_eq!((ids(&page), page.end), (vec![id(&all), id(&both), id(&one)], true));
    let page = stage.page(2, Source::AppLog, begin.last).await;
    assert_eq!(ids(&page), [id(&all), id(&other)]);
    for message in [&all, &both, &one] {
        stage.delivered(1, Source::AppLog, message).await;
        stage.delivered(1, Source::AppLog, message).await;
        assert_eq!(stage.counts(message).await, Counts { created: 1, delivered: 1, ..Counts::default() });
    }
    let view = stage.login(1).await;
    assert_eq!((view.log.last, view.log.waiting), (one.record.log_position, false));
    assert_eq!(stage.counts(&other).await.created, 0);
}

fn begin_at(last: Position) -> longwire_proto::session::FeedStart {
    longwire_proto::session::FeedStart { last, waiting: true }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_acks_out_of_order_skip_nothing_and_count_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(folder.path());
    stage.register(1, &["a"]).await;
    let begin = stage.login(1).await.log.last;
    let mut messages = Vec::new();
    for number in 0..6 {
        messages.push(if number % 2 == 0 { stage.to_all().await } else { stage.to_tags(&["a"]).await });
    }
    for at in [5, 1, 3] {
        stage.delivered(1, Source::AppLog, &messages[at]).await;
    }
    stage.reopen(folder.path()).await;
    for at in [1, 3, 5] {
        stage.delivered(1, Source::AppLog, &messages[at]).await;
        assert_eq!(stage.counts(&messages[at]).await.delivered, 1);
    }
    let view = stage.login(1).await;
    assert_eq!((view.log.last, view.log.waiting), (begin, true));
    let page = stage.page(1, Source::AppLog, begin).await;
    assert_eq!(ids(&page), [id(&messages[0]), id(&messages[2]), id(&messages[4])]);
    for at in [0, 2] {
        stage.delivered(1, Source::AppLog, &messages[at]).await;
    }
    assert_eq!(stage.login(1).await.log.last, messages[3].record.log_position);
    stage.delivered(1, Source::AppLog, &messages[4]).await;
    let view = stage.login(1).await;
    assert_eq!((view.log.last, view.log.waiting), (messages[5].record.log_position, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_never_acks_one_message_does_not_grow_its_row_without_bound() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.register(1, &[]).await;
    let first = stage.to_all().await;
    let mut last = None;
    for _ in 0..70 {
        let message = stage.to_all().await;
        stage.delivered(1, Source::AppLog, &message).await;
        last = Some(message);
    }
    // Beyond the bound an end is not recorded: the message comes again and is acked again.
    let last = last.unwrap();
    assert_eq!(stage.counts(&last).await.delivered, 0);
    stage.delivered(1, Source::AppLog, &first).await;
    stage.delivered(1, Source::AppLog, &last).await;
    assert_eq!(stage.counts(&last).await.delivered, 1);
    let start = stage.login(1).await.log;
    let page = stage.page(1, Source::AppLog, start.last).await;
    assert_eq!(page.entries.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_tags_bring_no_old_messages_and_lost_tags_hold_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.register(1, &["a"]).await;
    stage.to_tags(&["b"]).await;
    let all = stage.to_all().await;
    stage.to_tags(&["a"]).await;
    stage.delivered(1, Source::AppLog, &all).await;
    stage.settled().await;
    stage.register(1, &["b"]).await;
    let start = stage.login(1).await.log;
    assert_eq!((start.last, start.waiting), (all.record.log_position, false));
    let wanted = stage.to_tags(&["b"]).await;
    stage.delivered(1, Source::AppLog, &wanted).await;
    let start = stage.login(1).await.log;
    assert_eq!((start.last, start.waiting), (wanted.record.log_position, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_deadline_a_mailbox_delivery_ends_and_its_marker_waits_for_the_device() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.register(1, &[]).await;
    let short = stage.push(mailboxes(&[1, 2]), 1000).await;
    let long = stage.to(1).await;
    stage.delivered(2, Source::Mailbox, &short).await;
    stage.pass(1000);
    stage.wait_for_expired(&short, 1).await;
    let books = Counts { created: 2, delivered: 1, expired: 1, ..Counts::default() };
    let view = stage.store.device(APP, device(1, &[]).name).await.unwrap().unwrap();
    assert_eq!((view.mailbox_messages, view.mailbox_bytes), (1, 4));
    let start = stage.login(1).await.mailbox;
    let page = stage.page(1, Source::Mailbox, start.last).await;
    assert_eq!(ids(&page), [-id(&short), id(&long)]);
    stage.settle(1, Source::Mailbox, &short, End::GapNoted(GapReason::Expired)).await;
    stage.settle(1, Source::Mailbox, &short, End::GapNoted(GapReason::Expired)).await;
    assert_eq!(stage.counts(&short).await, books);
    let page = stage.page(1, Source::Mailbox, start.last).await;
    assert_eq!(ids(&page), [id(&long)]);
    // A late ack of what has ended changes nothing.
    stage.settle(1, Source::Mailbox, &short, End::Delivered).await;
    assert_eq!(stage.counts(&short).await, books);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_noted_before_the_sweeper_came_is_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    let short = stage.push(mailboxes(&[1]), 1000).await;
    stage.settle(1, Source::Mailbox, &short, End::GapNoted(GapReason::Expired)).await;
    assert_eq!(stage.counts(&short).await, Counts { created: 1, expired: 1, ..Counts::default() });
    stage.pass(2000);
    let later = stage.push(mailboxes(&[1]), 1).await;
    stage.pass(10);
    stage.wait_for_expired(&later, 1).await;
    assert_eq!(stage.counts(&short).await, Counts { created: 1, expired: 1, ..Counts::default() });
}

/// A device that takes no packet so large: of a mailbox and of a log, once.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_its_device_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.register(1, &[]).await;
    let mail = stage.push(mailboxes(&[1, 2]), 1000).await;
    let log = stage.push(Destination::Log(Arc::default()), 1000).await;
    for _ in 0..2 {
        stage.settle(1, Source::Mailbox, &mail, End::Dropped(DropReason::TooLarge)).await;
        stage.settle(1, Source::AppLog, &log, End::Dropped(DropReason::TooLarge)).await;
    }
    stage.settle(1, Source::Mailbox, &mail, End::Delivered).await;
    stage.delivered(2, Source::Mailbox, &mail).await;
    assert_eq!(
        stage.counts(&mail).await,
        Counts {
            created: 2,
            delivered: 1,
            dropped: Dropped::of(DropReason::TooLarge, 1),
            ..Counts::default()
        }
    );
    assert_eq!(
        stage.counts(&log).await,
        Counts { created: 1, dropped: Dropped::of(DropReason::TooLarge, 1), ..Counts::default() }
    );
    assert_eq!(
        stage.store.stats().dropped[DropReason::TooLarge as usize].load(std::sync::atomic::Ordering::Relaxed),
        2
    );
    assert!(!stage.login(1).await.mailbox.waiting, "nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_log_message_is_a_gap_whose_ack_is_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.register(1, &[]).await;
    let short = stage.push(Destination::Log(Arc::default()), 1000).await;
    let long = stage.to_all().await;
    stage.pass(1000);
    let start = stage.login(1).await.log;
    let page = stage.page(1, Source::AppLog, start.last).await;
    assert_eq!(ids(&page), [-id(&short), id(&long)]);
    stage.settle(1, Source::AppLog, &short, End::GapNoted(GapReason::Expired)).await;
    stage.settle(1, Source::AppLog, &short, End::GapNoted(GapReason::Expired)).await;
    stage.settle(1, Source::AppLog, &short, End::Delivered).await;
    assert_eq!(stage.counts(&short).await, Counts { created: 1, expired: 1, ..Counts::default() });
    assert_eq!(stage.login(1).await.log.last, short.record.log_position);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_retention_the_log_says_that_something_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.register(1, &["a"]).await;
    stage.register(2, &["b"]).await;
    let gone = stage.push(store_stage::to_tags(&["a"]), 1000).await;
    stage.pass(1000 + RETENTION_MS);
    stage.wait_for_end(&gone).await;
    let start = stage.login(1).await.log;
    assert!(start.waiting);
    let fresh = stage.to_all().await;
    let page = stage.page(1, Source::AppLog, start.last).await;
    assert!(page.end);
    assert!(
        matches!(page.entries[0], PageEntry::Gap { position, reason: GapReason::Retention, .. }
            if position == gone.record.log_position),
        "{page:?}"
    );
    assert_eq!(ids(&page), [0, id(&fresh)]);
    stage.delivered(1, Source::AppLog, &fresh).await;
    let start = stage.login(1).await.log;
    assert_eq!((start.last, start.waiting), (fresh.record.log_position, false));
    // Whoever had none of its tags missed nothing.
    let page = stage.page(2, Source::AppLog, Position::START).await;
    assert_eq!(ids(&page), [id(&fresh)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_retention_a_mailbox_says_that_something_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.register(1, &[]).await;
    let before = stage.login(1).await.mailbox.last;
    let gone = stage.push(mailboxes(&[1]), 1000).await;
    stage.pass(1000);
    stage.wait_for_expired(&gone, 1).await;
    stage.pass(RETENTION_MS);
    stage.wait_for_end(&gone).await;
    let start = stage.login(1).await.mailbox;
    assert_eq!((start.last, start.waiting), (before, true));
    let fresh = stage.to(1).await;
    let page = stage.page(1, Source::Mailbox, start.last).await;
    assert_eq!((ids(&page), page.end), (vec![0, id(&fresh)], true));
    stage.delivered(1, Source::Mailbox, &fresh).await;
    let start = stage.login(1).await.mailbox;
    assert_eq!((start.last, start.waiting), (fresh.record.targets[0].position, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_ends_at_its_limits_and_the_next_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    let mut sent = Vec::new();
    for _ in 0..5 {
        sent.push(stage.try_push(mailboxes(&[1]), 60_000, &[1; 100]).await.unwrap());
    }
    let page = stage.page_of(1, Source::Mailbox, Position::START, 2, 64_000).await;
    assert_eq!((ids(&page), page.end), (vec![id(&sent[0]), id(&sent[1])], false));
    let after = sent[1].record.targets[0].position;
    let page = stage.page_of(1, Source::Mailbox, after, 32, 250).await;
    assert_eq!((ids(&page), page.end), (vec![id(&sent[2]), id(&sent[3])], false));
    let after = sent[3].record.targets[0].position;
    // The first entry always comes.
    let page = stage.page_of(1, Source::Mailbox, after, 32, 1).await;
    assert_eq!((ids(&page), page.end), (vec![id(&sent[4])], true));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_aliases_follow_the_profile() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.store.project(vec![device(11, &[]), device(12, &[]), device(21, &[])]).await.unwrap();
    let alias = |text| Alias::parse("alias", text).unwrap();
    let name = |text| DeviceName::parse("name", text).unwrap();
    let names = vec![name("device-12"), name("nobody")];
    assert_eq!(stage.store.resolve_names(APP, names.clone()).await.unwrap(), [Some(ClientId(12)), None]);
    assert_eq!(stage.store.resolve_names(AppId(8), names).await.unwrap(), [None, None]);
    let aliases = vec![alias("owner-1"), alias("owner-2"), alias("owner")];
    let found = stage.store.resolve_aliases(APP, aliases.clone()).await.unwrap();
    assert_eq!(found, [vec![ClientId(11), ClientId(12)], vec![ClientId(21)], vec![]]);
    let mut moved = device(12, &[]);
    moved.alias = Some(alias("owner-2"));
    stage.store.project(vec![moved]).await.unwrap();
    let found = stage.store.resolve_aliases(APP, aliases).await.unwrap();
    assert_eq!(found, [vec![ClientId(11)], vec![ClientId(12), ClientId(21)], vec![]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_apps_message_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    let message = stage.to(1).await;
    assert!(stage.store.message(AppId(8), message.message).await.unwrap().is_none());
    let view = stage.store.message(APP, message.message).await.unwrap().unwrap();
    assert_eq!(*view.record, *message.record);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_pushes_and_still_takes_acks() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(folder.path());
    let message = stage.to(1).await;
    stage.store.close().await;
    stage.store = try_open(folder.path(), &stage.clock, u64::MAX).unwrap();
    let refused = stage.try_push(mailboxes(&[1]), 1000, b"x").await.unwrap_err();
    assert!(matches!(refused, StoreError::Full { reserve_bytes: u64::MAX, .. }));
    assert!(matches!(stage.store.usable(), Err(StoreError::Full { .. })));
    stage.delivered(1, Source::Mailbox, &message).await;
    assert_eq!(stage.counts(&message).await.delivered, 1);
    stage.reopen(folder.path()).await;
    stage.to(1).await;
    stage.store.usable().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_store_in_the_folder_is_told_who_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    let Err(OpenError::Locked { holder, .. }) = try_open(folder.path(), &stage.clock, 0) else {
        panic!("two stores in one folder");
    };
    assert_eq!(holder, format!(" (pid {})", std::process::id()));
    stage.store.close().await;
    try_open(folder.path(), &stage.clock, 0).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_where_the_folder_should_be_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "x").unwrap();
    let clock = Arc::new(AtomicU64::new(BEGIN_MS));
    assert!(matches!(try_open(&path, &clock, 0), Err(OpenError::NotWritable { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_refuses_and_closes_twice() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.store.close().await;
    stage.store.close().await;
    let refused = stage.try_push(mailboxes(&[1]), 1000, b"x").await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
    assert!(stage.store.logins(vec![ClientId(1)]).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_dispatched_in_the_order_of_their_log() {
    use longwire_server::store::messages::MessageStore;
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(AtomicU64::new(BEGIN_MS));
    // A queue of one: the writer waits for the dispatcher again and again.
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let store = MessageStore::open(store_stage::options(folder.path(), &clock, 0), sender).unwrap();
    let maker = Stage::open(tempfile::tempdir().unwrap().path());
    let mut waiting = Vec::new();
    for _ in 0..300 {
        let (store, accept) = (store.clone(), maker.accept(Destination::Log(Arc::default()), 1000, b"x"));
        waiting.push(tokio::spawn(async move { store.accept(accept).await.unwrap() }));
    }
    for expected in 1..=300 {
        let committed = receiver.recv().await.unwrap();
        assert_eq!(committed.accepted.record.log_position.sequence(), expected);
        // Readers answer while the writer waits.
        store.logins(vec![ClientId(1)]).await.unwrap();
        committed.reply.send(Ok(committed.accepted)).unwrap();
    }
    for push in waiting {
        push.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_is_not_the_beginning_of_another() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.register(1, &["a"]).await;
    stage.register(2, &["ab"]).await;
    let start = stage.login(1).await.log.last;
    let (short, long) = (stage.to_tags(&["a"]).await, stage.to_tags(&["ab"]).await);
    assert_eq!(ids(&stage.page(1, Source::AppLog, start).await), [id(&short)]);
    assert_eq!(ids(&stage.page(2, Source::AppLog, start).await), [id(&long)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_for_another_message_or_an_unknown_place_changes_nothing() {
    use longwire_server::store::port::Settle;
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.register(1, &[]).await;
    let (first, second) = (stage.to(1).await, stage.to(1).await);
    let all = stage.to_all().await;
    let settle = |source, position, message| Settle {
        client: ClientId(1),
        app: APP,
        source,
        position,
        message,
        end: End::Delivered,
        sent: WallMs(0),
    };
    let beyond = Position(all.record.log_position.0 + 5);
    let ends = vec![
        settle(Source::Mailbox, first.record.targets[0].position, second.message),
        settle(Source::Mailbox, beyond, first.message),
        settle(Source::AppLog, beyond, all.message),
        settle(Source::AppLog, Position::START, all.message),
    ];
    stage.store.settle(ends).await.unwrap();
    for message in [&first, &second, &all] {
        assert_eq!(stage.counts(message).await.delivered, 0);
    }
    let view = stage.login(1).await;
    assert!(view.mailbox.waiting && view.log.waiting);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_in_the_same_commit_as_a_new_log_message_does_not_hide_it() {
    use longwire_server::store::messages::MessageStore;
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(folder.path());
    stage.register(1, &["a"]).await;
    let (first, second) = (stage.to_all().await, stage.to_all().await);
    stage.store.close().await;
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let options = store_stage::options(folder.path(), &stage.clock, 0);
    stage.store = MessageStore::open(options, sender).unwrap();
    // Nobody takes what is committed, so the writer waits with the second of these, and the rest shares a commit.
    let to_tag = || stage.accept(store_stage::to_tags(&["a"]), 60_000, b"x");
    let mut pushes = Vec::new();
    for accept in [stage.accept(mailboxes(&[2]), 60_000, b"x"), stage.accept(mailboxes(&[2]), 60_000, b"x")] {
        let mut push = Box::pin(stage.store.accept(accept));
        assert!(futures_util::poll!(&mut push).is_pending());
        pushes.push(push);
    }
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while stage.store.stats().accepted.load(std::sync::atomic::Ordering::SeqCst) < 2 {
        assert!(std::time::Instant::now() < until);
        tokio::task::yield_now().await;
    }
    let mut hidden = Box::pin(stage.store.accept(to_tag()));
    assert!(futures_util::poll!(&mut hidden).is_pending());
    stage.delivered(1, Source::AppLog, &second).await;
    tokio::spawn(async move {
        while let Some(committed) = receiver.recv().await {
            let _ = committed.reply.send(Ok(committed.accepted));
        }
    });
    let hidden = hidden.await.unwrap();
    stage.delivered(1, Source::AppLog, &first).await;
    let last = stage.to_all().await;
    stage.delivered(1, Source::AppLog, &last).await;
    let start = stage.login(1).await.log;
    assert_eq!((start.last, start.waiting), (second.record.log_position, true));
    assert_eq!(ids(&stage.page(1, Source::AppLog, start.last).await), [id(&hidden)]);
}
