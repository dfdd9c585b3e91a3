//! Stories, receipts and presence in the store: how long they are kept, and what a reader is told of what is gone.

#![allow(clippy::unwrap_used, missing_docs)]

mod store_stage;

use longwire_proto::wire::AckKind;
use longwire_server::domain::message::Report;
use longwire_server::domain::{AppId, ClientId, DropReason, Position, ReceiptMode, Source, WallMs};
use longwire_server::store::port::{Accept, Accepted, Destination, End};
use longwire_server::store::truth::{
    Feedback, Presence, PresenceNote, PresenceState, Receipt, STREAM_KEEP_MS, Stream, StreamPage,
    StreamRequest, StreamTerms, TargetsRequest, Told,
};
use std::time::{Duration, Instant};
use store_stage::{APP, BEGIN_MS, RETENTION_MS, Stage, device};

const PATIENCE: Duration = Duration::from_secs(20);

async fn terms(stage: &Stage, receipts: ReceiptMode, presence: bool) {
    stage.store.set_stream_terms(APP, StreamTerms { receipts, presence }, false).await.unwrap();
}

async fn receipts(stage: &Stage, after: Option<Position>) -> StreamPage<Receipt> {
    stage.settled().await;
    let request = StreamRequest { app: APP, after, max: 100 };
    stage.store.receipts(request).await.unwrap().unwrap()
}

async fn stories(stage: &Stage, accepted: &Accepted) -> Option<usize> {
    let request = TargetsRequest { app: APP, message: accepted.message, after: None, max: 1000 };
    let page = stage.store.targets(request).await.unwrap()?;
    Some(page.rows.iter().filter(|row| row.story.is_some()).count())
}

async fn until<T: PartialEq + std::fmt::Debug>(wanted: T, mut look: impl AsyncFnMut() -> T) {
    let began = Instant::now();
    loop {
        let seen = look().await;
        if seen == wanted {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "never {wanted:?}: {seen:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stories_outlive_the_retention_of_their_message_and_go_with_its_record() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::telling(folder.path(), 5 * RETENTION_MS);
    for client in 1..=3 {
        stage.register(client, &[]).await;
    }
    let accepted = stage.push(Destination::Mailboxes(vec![ClientId(1), ClientId(2)]), 1000).await;
    let all = stage.push(Destination::Log(std::sync::Arc::default()), 1000).await;
    stage.delivered(1, Source::Mailbox, &accepted).await;
    stage.delivered(1, Source::AppLog, &all).await;
    stage.settled().await;
    assert_eq!((stories(&stage, &accepted).await, stories(&stage, &all).await), (Some(1), Some(1)));
    stage.pass(1001);
    until(Some(2), async || stories(&stage, &accepted).await).await;
    stage.pass(2 * RETENTION_MS);
    // Retention takes the mailbox's marker, and the story tells what it was.
    until(true, async || {
        let explained =
            stage.store.explain(APP, accepted.message, device(2, &[]).name).await.unwrap().unwrap();
        explained.mailbox.is_none()
    })
    .await;
    let explained = stage.store.explain(APP, accepted.message, device(2, &[]).name).await.unwrap().unwrap();
    assert_eq!(explained.story.unwrap().told, Told::Expired);
    assert_eq!(stage.counts(&accepted).await.ended(), 2);
    stage.pass(5 * RETENTION_MS);
    until((None, None), async || (stories(&stage, &accepted).await, stories(&stage, &all).await)).await;
    assert!(stage.store.message(APP, accepted.message).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_stories_what_devices_say_is_ignored_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.register(1, &[]).await;
    let accepted = stage.to(1).await;
    stage.delivered(1, Source::Mailbox, &accepted).await;
    let word = Feedback { client: ClientId(1), app: APP, message: accepted.message, kind: AckKind::Clicked };
    stage.store.feedback(vec![word, word]).await.unwrap();
    assert_eq!(stage.counts(&accepted).await.clicked, 0);
    let stats = stage.store.stats();
    assert_eq!(stats.feedback_ignored.load(std::sync::atomic::Ordering::Relaxed), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_end_is_a_receipt_and_a_second_end_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::telling(folder.path(), RETENTION_MS);
    terms(&stage, ReceiptMode::Ends, false).await;
    for client in 1..=2 {
        stage.register(client, &[]).await;
    }
    let one = stage.to(1).await;
    stage.delivered(1, Source::Mailbox, &one).await;
    stage.delivered(1, Source::Mailbox, &one).await;
    let two = stage.to(2).await;
    stage.settle(2, Source::Mailbox, &two, End::Dropped(DropReason::TooLarge)).await;
    let three = stage.push(Destination::Mailboxes(vec![ClientId(2)]), 10).await;
    stage.pass(11);
    until(3, async || receipts(&stage, None).await.events.len()).await;
    let page = receipts(&stage, None).await;
    let told: Vec<_> = page.events.iter().map(|one| (one.message, one.told)).collect();
    assert_eq!(
        told,
        [
            (one.message, Told::Delivered),
            (two.message, Told::Dropped(DropReason::TooLarge)),
            (three.message, Told::Expired),
        ]
    );
    assert_eq!(page.events[1].told.reason(), Some("too_large"));
    assert_eq!((page.lost, page.more, page.next), (0, false, page.events[2].position));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_old_goes_and_a_reader_who_was_slower_is_told_how_much() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::telling(folder.path(), 0);
    stage.register(1, &[]).await;
    let mut first = None;
    for number in 0..5 {
        let report = Report { callback: true, label: "spring".into() };
        let to = Destination::Mailboxes(vec![ClientId(1)]);
        let accept = Accept { report, ..stage.accept(to, 60_000, b"x") };
        let accepted = stage.store.accept(accept).await.unwrap();
        stage.delivered(1, Source::Mailbox, &accepted).await;
        if number == 0 {
            first = Some(receipts(&stage, None).await.next);
        }
    }
    assert_eq!(receipts(&stage, first).await.events.len(), 4);
    assert_eq!(&*receipts(&stage, None).await.events[0].label, "spring");
    stage.pass(STREAM_KEEP_MS + 2000);
    until(0, async || receipts(&stage, None).await.events.len()).await;
    let page = receipts(&stage, first).await;
    assert_eq!((page.lost, page.more), (4, false));
    assert_eq!(receipts(&stage, Some(page.next)).await.lost, 0, "it is told once");
    assert_eq!(receipts(&stage, None).await.lost, 0, "who has no place has lost nothing");
    let standing = stage.store.standing(APP, Stream::Receipts, "nobody").await.unwrap();
    assert_eq!((standing.events, standing.dropped, standing.cursor), (0, 5, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_rise_and_an_end_belongs_to_the_login_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(folder.path());
    for client in 1..=2 {
        stage.register(client, &[]).await;
    }
    let note = |client, presence| PresenceNote {
        app: APP,
        client: ClientId(client),
        at: WallMs(BEGIN_MS),
        presence,
    };
    let offline = || Presence::Offline("kicked".into());
    stage.store.presence(vec![note(1, Presence::Online)]).await.unwrap();
    terms(&stage, ReceiptMode::Off, true).await;
    let notes = vec![
        // It came before the stream began, so nothing is known of it to end.
        note(1, offline()),
        note(1, Presence::Online),
        note(1, Presence::Online),
        note(1, offline()),
        note(1, offline()),
        note(2, Presence::Online),
        note(0, Presence::Lost(7)),
    ];
    stage.store.presence(notes).await.unwrap();
    let events = async |stage: &Stage| {
        let request = StreamRequest { app: APP, after: None, max: 100 };
        let page = stage.store.presence_page(request).await.unwrap().unwrap();
        page.events.iter().map(|event| (event.state, event.epoch)).collect::<Vec<_>>()
    };
    use PresenceState::{Lost, Offline, Online};
    let mut expected = vec![(Online, 1), (Online, 2), (Offline, 2), (Online, 1), (Lost, 7)];
    assert_eq!(events(&stage).await, expected);
    stage.reopen(folder.path()).await;
    let begun = StreamTerms { receipts: ReceiptMode::Off, presence: true };
    stage.store.set_stream_terms(APP, begun, true).await.unwrap();
    assert_eq!(stage.store.end_stale(APP, None, WallMs(BEGIN_MS)).await.unwrap(), None);
    expected.push((Offline, 1));
    assert_eq!(events(&stage).await, expected);
    // One who comes before the look at all is ended first.
    stage.store.presence(vec![note(2, Presence::Online)]).await.unwrap();
    stage.store.set_stream_terms(APP, begun, true).await.unwrap();
    stage.store.presence(vec![note(2, Presence::Online)]).await.unwrap();
    assert_eq!(stage.store.end_stale(APP, None, WallMs(BEGIN_MS)).await.unwrap(), None);
    expected.extend([(Online, 2), (Offline, 2), (Online, 3)]);
    assert_eq!(events(&stage).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_app_sees_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::telling(folder.path(), RETENTION_MS);
    terms(&stage, ReceiptMode::Ends, true).await;
    stage.register(1, &[]).await;
    let accepted = stage.to(1).await;
    stage.delivered(1, Source::Mailbox, &accepted).await;
    assert_eq!(receipts(&stage, None).await.events.len(), 1);
    let (app, message) = (AppId(APP.0 + 1), accepted.message);
    let name = || device(1, &[]).name;
    assert!(stage.store.explain(APP, message, name()).await.unwrap().is_some());
    assert!(stage.store.explain(app, message, name()).await.unwrap().is_none());
    let request = TargetsRequest { app, message, after: None, max: 10 };
    assert!(stage.store.targets(request).await.unwrap().is_none());
    let request = StreamRequest { app, after: None, max: 10 };
    assert!(stage.store.receipts(request).await.unwrap().unwrap().events.is_empty());
    let foreign = StreamRequest { after: Some(receipts(&stage, None).await.next), ..request };
    assert!(stage.store.receipts(foreign).await.unwrap().is_none(), "its cursor is none of theirs");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_stream_is_woken_when_it_has_grown() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    terms(&stage, ReceiptMode::Ends, false).await;
    stage.register(1, &[]).await;
    let mut head = stage.store.heads().watch(APP, Stream::Receipts);
    let accepted = stage.to(1).await;
    stage.delivered(1, Source::Mailbox, &accepted).await;
    tokio::time::timeout(PATIENCE, head.changed()).await.expect("woken").unwrap();
    assert_eq!(*head.borrow_and_update(), receipts(&stage, None).await.next);
}
