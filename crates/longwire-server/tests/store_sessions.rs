//! Sessions that outlive their connections, identifiers of QoS 2 and retained messages, across restarts.
#![allow(clippy::unwrap_used, missing_docs)]

mod store_stage;

use bytes::Bytes;
use longwire_proto::id::Kind;
use longwire_server::domain::topic::TopicWish;
use longwire_server::domain::{AppId, ClientId, DropReason, Position, Source, WallMs};
use longwire_server::store::port::{Accept, Destination, End, StoreError};
use longwire_server::store::sessions::{Change, Done, KeptSession, Retained, Work};
use std::sync::atomic::Ordering;
use store_stage::{APP, RELEASED, Stage, id, ids};

fn wish(filter: &str) -> TopicWish {
    TopicWish { filter: filter.into(), qos: 1, no_local: true, retain_as_published: false, identifier: 5 }
}

fn keep(client: u64, ended_at: u64) -> Change {
    let (client, sent) = (ClientId(client), [Position(ended_at), Position(client)]);
    Change::Keep { client, app: APP, expiry_s: 60, ended_at: WallMs(ended_at), sent, will: None }
}

fn published(stage: &Stage, clients: &[u64], received: Option<(u64, u16)>) -> Accept {
    let to = Destination::Mailboxes(clients.iter().map(|client| ClientId(*client)).collect());
    let received = received.map(|(client, packet_id)| (ClientId(client), packet_id));
    Accept { kind: Kind::Topic, received, ..stage.accept(to, 60_000, b"topic") }
}

fn retained(app: AppId, topic: &str, body: &'static [u8]) -> Retained {
    let (publisher, deadline) = (ClientId(3), WallMs(9));
    Retained { app, topic: topic.into(), publisher, deadline, body: Bytes::from_static(body) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_there_after_a_restart_until_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(folder.path());
    stage.store.change(vec![Change::Wishes(ClientId(1), vec![wish("never")])]).await.unwrap();
    assert_eq!(stage.store.session(ClientId(1)).await.unwrap(), None, "no wishes without a session");
    let wishes = vec![wish("a/#"), wish("$share/g/b")];
    let changes = vec![keep(2, 0), keep(1, 0), Change::Wishes(ClientId(1), wishes.clone()), keep(1, 77)];
    stage.store.change(changes).await.unwrap();
    stage.store.change(vec![Change::Receive(ClientId(1), 9), Change::Receive(ClientId(1), 4)]).await.unwrap();
    stage.reopen(folder.path()).await;
    let view = stage.store.session(ClientId(1)).await.unwrap().unwrap();
    let (client, ended_at, sent) = (ClientId(1), WallMs(77), [Position(77), Position(1)]);
    let kept = KeptSession { client, app: APP, expiry_s: 60, ended_at, sent, wishes, will: None };
    assert_eq!((&view.session, &view.unreleased), (&kept, &vec![4, 9]));
    assert_eq!(stage.store.stats().sessions.load(Ordering::Relaxed), 2);
    let first = stage.store.sessions_after(None, 1).await.unwrap();
    assert_eq!(first, [kept]);
    let rest = stage.store.sessions_after(Some(first[0].client), 10).await.unwrap();
    assert_eq!(rest.iter().map(|kept| (kept.client.0, kept.wishes.len())).collect::<Vec<_>>(), [(2, 0)]);
    stage.store.change(vec![Change::Release(ClientId(1), 4)]).await.unwrap();
    assert_eq!(stage.store.session(ClientId(1)).await.unwrap().unwrap().unreleased, [9]);
    for _ in 0..2 {
        stage.store.end_session(ClientId(1)).await.unwrap();
        assert_eq!(stage.store.session(ClientId(1)).await.unwrap(), None);
    }
    stage.store.change(vec![keep(1, 0)]).await.unwrap();
    let view = stage.store.session(ClientId(1)).await.unwrap().unwrap();
    assert!(view.session.wishes.is_empty() && view.unreleased.is_empty(), "a new session begins empty");
    assert_eq!(stage.store.stats().sessions.load(Ordering::Relaxed), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_session_takes_its_topic_messages_and_leaves_pushes() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    for client in [1, 2] {
        stage.register(client, &[]).await;
    }
    let before = stage.store.accept(published(&stage, &[1, 2], None)).await.unwrap();
    let push = stage.to(1).await;
    let after = stage.store.accept(published(&stage, &[1], None)).await.unwrap();
    let received = stage.store.accept(published(&stage, &[1], None)).await.unwrap();
    stage.settle(1, Source::Mailbox, &received, End::Received).await;
    assert_eq!(
        ids(&stage.page(1, Source::Mailbox, Position::START).await),
        [id(&before), id(&push), id(&after), RELEASED + id(&received)]
    );
    stage.store.end_session(ClientId(1)).await.unwrap();
    assert_eq!(ids(&stage.page(1, Source::Mailbox, Position::START).await), [id(&push)]);
    assert_eq!(ids(&stage.page(2, Source::Mailbox, Position::START).await), [id(&before)]);
    for (accepted, expected) in
        [(&before, (2, 0, 1, 1)), (&push, (1, 0, 0, 1)), (&after, (1, 0, 1, 0)), (&received, (1, 1, 0, 0))]
    {
        let counts = stage.counts(accepted).await;
        assert_eq!((counts.created, counts.delivered, counts.dropped.total(), counts.pending()), expected);
    }
    assert_eq!(stage.store.stats().dropped[DropReason::SessionEnded as usize].load(Ordering::Relaxed), 2);
    stage.delivered(1, Source::Mailbox, &push).await;
    let view = stage.login(1).await;
    assert!(!view.mailbox.waiting, "nothing is left, and nothing is said to be missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_accepted_and_ended_in_one_commit_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.register(1, &[]).await;
    let work = vec![
        Work::Change(keep(1, 0)),
        Work::Accept(published(&stage, &[1], Some((1, 3)))),
        Work::Change(Change::End(ClientId(1))),
    ];
    let outcomes = stage.store.together(work).await;
    let [Ok(Done::Changed), Ok(Done::Accepted(accepted)), Ok(Done::Changed)] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    let counts = stage.counts(accepted).await;
    assert_eq!((counts.created, counts.dropped.total(), counts.pending()), (1, 1, 0));
    assert!(ids(&stage.page(1, Source::Mailbox, Position::START).await).is_empty());
    stage.store.change(vec![keep(1, 0)]).await.unwrap();
    assert!(stage.store.session(ClientId(1)).await.unwrap().unwrap().unreleased.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_qos_2_that_comes_again_is_not_stored_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(folder.path());
    stage.store.change(vec![keep(9, 0)]).await.unwrap();
    let first = stage.store.accept(published(&stage, &[1], Some((9, 7)))).await.unwrap();
    assert_eq!(
        stage.store.accept(published(&stage, &[1], Some((9, 7)))).await.unwrap_err(),
        StoreError::Repeated
    );
    stage.reopen(folder.path()).await;
    assert_eq!(
        stage.store.accept(published(&stage, &[1], Some((9, 7)))).await.unwrap_err(),
        StoreError::Repeated
    );
    stage.store.accept(published(&stage, &[1], Some((8, 7)))).await.unwrap();
    stage.store.change(vec![Change::Release(ClientId(9), 7)]).await.unwrap();
    let again = stage.store.accept(published(&stage, &[1], Some((9, 7)))).await.unwrap();
    assert_ne!(first.message, again.message);
    assert_eq!(stage.page(1, Source::Mailbox, Position::START).await.entries.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_remembers_no_identifier() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.store.change(vec![keep(9, 0)]).await.unwrap();
    let body = vec![0; 1024 * 1024];
    stage.try_push(Destination::Mailboxes(vec![ClientId(1)]), 60_000, &body).await.unwrap();
    let refused = stage.store.accept(published(&stage, &[1], Some((9, 7)))).await;
    assert_eq!(refused.unwrap_err(), StoreError::MailboxFull);
    assert!(stage.store.session(ClientId(9)).await.unwrap().unwrap().unreleased.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_marker_of_a_received_message_outlives_its_deadline_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(folder.path());
    stage.register(1, &[]).await;
    let message = stage.store.accept(published(&stage, &[1, 2], None)).await.unwrap();
    for _ in 0..2 {
        stage.settle(1, Source::Mailbox, &message, End::Received).await;
    }
    stage.pass(60_001);
    stage.wait_for_expired(&message, 1).await;
    stage.reopen(folder.path()).await;
    let page = stage.page(1, Source::Mailbox, Position::START).await;
    assert_eq!(ids(&page), [RELEASED + id(&message)]);
    assert!(stage.login(1).await.mailbox.waiting);
    let counts = stage.counts(&message).await;
    assert_eq!((counts.delivered, counts.expired, counts.pending()), (1, 1, 0));
    for _ in 0..2 {
        stage.delivered(1, Source::Mailbox, &message).await;
        assert_eq!(stage.counts(&message).await.delivered, 1);
    }
    assert!(!stage.login(1).await.mailbox.waiting);
    assert_eq!(stage.store.settle_durably(vec![]).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_never_completes_is_told_of_no_hole_when_retention_ends() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.register(1, &[]).await;
    let message = stage.store.accept(published(&stage, &[1], None)).await.unwrap();
    stage.settle(1, Source::Mailbox, &message, End::Received).await;
    stage.settled().await;
    stage.pass(60_000 + store_stage::RETENTION_MS + 1);
    stage.wait_for_end(&message).await;
    let page = stage.page(1, Source::Mailbox, Position::START).await;
    assert!(page.entries.is_empty() && page.end);
}

#[tokio::test(flavor = "multi_thread")]
async fn retained_messages_are_replaced_cleared_and_read_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(folder.path());
    let other = AppId(APP.0 + 1);
    let changes = vec![
        Change::Retain(retained(other, "a", b"1")),
        Change::Retain(retained(APP, "b/\u{fc}", b"2")),
        Change::Retain(retained(APP, "a", b"3")),
        Change::Retain(retained(APP, "a", b"4")),
        Change::Retain(retained(APP, "gone", b"5")),
        Change::Clear(APP, "gone".into()),
        Change::Clear(APP, "never".into()),
    ];
    stage.store.change(changes).await.unwrap();
    stage.reopen(folder.path()).await;
    let all = stage.store.retained_after(None, 10).await.unwrap();
    let expected = [retained(APP, "a", b"4"), retained(APP, "b/\u{fc}", b"2"), retained(other, "a", b"1")];
    assert_eq!(all, expected);
    let after = stage.store.retained_after(Some((APP, "a".into())), 1).await.unwrap();
    assert_eq!(after, expected[1..2]);
    // The writer counts before it takes its first work.
    stage.store.change(vec![Change::Clear(APP, "never".into())]).await.unwrap();
    assert_eq!(stage.store.stats().retained.load(Ordering::Relaxed), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.store.close().await;
    let outcomes = stage.store.together(vec![Work::Change(keep(1, 0))]).await;
    assert!(matches!(outcomes[..], [Err(StoreError::Unavailable(_))]), "{outcomes:?}");
    assert!(stage.store.session(ClientId(1)).await.is_err());
}
