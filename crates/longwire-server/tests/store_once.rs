//! Keys of callers in the store.
#![allow(clippy::unwrap_used, missing_docs)]

mod store_stage;

use bytes::Bytes;
use longwire_server::domain::message::Once;
use longwire_server::domain::{AppId, ClientId, MessageId, WallMs};
use longwire_server::store::port::{
    Accept, Accepted, Claim, ClaimWith, Destination, Keyed, MAILBOX_MESSAGES_MAX, StoreError,
};
use longwire_server::store::sessions::{Done, Work};
use store_stage::{APP, Stage};

const DAY_MS: u64 = 24 * 3600 * 1000;

fn keyed(stage: &Stage, key: u8, request: u8) -> Keyed {
    let once = Once { key: [key; 16], request: [request; 16] };
    Keyed { once, until: WallMs(stage.now() + DAY_MS), answer: Bytes::from_static(b"told") }
}

fn accept(stage: &Stage, client: u64, key: u8, request: u8) -> Accept {
    let to = Destination::Mailboxes(vec![ClientId(client)]);
    Accept { once: Some(keyed(stage, key, request)), ..stage.accept(to, 60_000, b"body") }
}

async fn push(stage: &Stage, client: u64, key: u8, request: u8) -> Result<Accepted, StoreError> {
    stage.store.accept(accept(stage, client, key, request)).await
}

fn made(outcome: Result<Accepted, StoreError>) -> MessageId {
    match outcome {
        Err(StoreError::Replayed(view)) => {
            assert_eq!((&view.answer[..], view.stored, view.refused), (&b"told"[..], 1, 0));
            view.message
        }
        other => panic!("not told again: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_makes_one_message_until_its_time_and_then_another() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(folder.path());
    let first = push(&stage, 1, 1, 1).await.unwrap();
    assert_eq!(made(push(&stage, 1, 1, 1).await), first.message);
    assert_eq!(push(&stage, 1, 1, 2).await.unwrap_err(), StoreError::ConflictingKey);
    stage.reopen(folder.path()).await;
    assert_eq!(made(push(&stage, 1, 1, 1).await), first.message);
    let known = stage.store.once(APP, [1; 16]).await.unwrap();
    assert_eq!(known.made.map(|made| made.message), Some(first.message));
    assert!(stage.store.once(AppId(8), [1; 16]).await.unwrap().made.is_none(), "another app's");
    stage.pass(DAY_MS);
    let second = push(&stage, 1, 1, 2).await.unwrap();
    assert_ne!(second.message, first.message);
    // The sweep of the first one's time leaves the second alone.
    stage.pass(1);
    stage.wait_for_expired(&first, 1).await;
    assert_eq!(made(push(&stage, 1, 1, 2).await), second.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_in_one_commit_one_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    let work = [1, 1, 2].map(|request| Work::Accept(accept(&stage, 1, 1, request)));
    let done = stage.store.together(work.into()).await;
    let [Ok(Done::Accepted(first)), Err(StoreError::Replayed(second)), Err(StoreError::ConflictingKey)] =
        &done[..]
    else {
        panic!("{done:?}");
    };
    assert_eq!(first.message, second.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_takes_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    for _ in 0..MAILBOX_MESSAGES_MAX {
        stage.to(1).await;
    }
    assert_eq!(push(&stage, 1, 1, 1).await.unwrap_err(), StoreError::MailboxFull);
    assert!(stage.store.once(APP, [1; 16]).await.unwrap().made.is_none());
    let message = push(&stage, 2, 1, 2).await.unwrap().message;
    assert_eq!(made(push(&stage, 2, 1, 2).await), message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_for_several_goes_with_the_first_that_is_stored_or_with_none() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    for _ in 0..MAILBOX_MESSAGES_MAX {
        stage.to(1).await;
    }
    let claim = |key: u8, taken: bool| {
        let (keyed, with) = (keyed(&stage, key, 1), ClaimWith::Messages { taken });
        Work::Claim(Claim { app: APP, message: MessageId(7), now: WallMs(stage.now()), keyed, with })
    };
    let to = |client: u64| {
        Work::Accept(stage.accept(Destination::Mailboxes(vec![ClientId(client)]), 60_000, b"x"))
    };
    let of = async |key: u8| stage.store.once(APP, [key; 16]).await.unwrap().made.map(|made| made.message);
    let done = stage.store.together(vec![to(1), to(2), claim(1, false)]).await;
    let [Err(StoreError::MailboxFull), Ok(Done::Accepted(stored)), Ok(Done::Changed)] = &done[..] else {
        panic!("{done:?}");
    };
    assert_eq!(of(1).await, Some(stored.message));
    stage.store.together(vec![to(1), claim(2, false)]).await;
    assert_eq!(of(2).await, None, "nobody took it");
    stage.store.together(vec![to(1), claim(3, true)]).await;
    assert_eq!(of(3).await, Some(MessageId(7)), "somebody has it without the store");
}
