//! Schedules in the store: a change is of the revision that was read, a firing is one commit, and the bound counts what waits.
#![allow(clippy::unwrap_used, missing_docs)]

mod store_stage;

use bytes::Bytes;
use longwire_server::domain::{AppId, ClientId, ScheduleId, TraceId, Trigger, WallMs};
use longwire_server::store::pace::{Changed, DueAt, SCHEDULES_MAX, Schedule, ScheduleChange, Standing};
use longwire_server::store::port::{Accept, Destination, StoreError};
use store_stage::{APP, BEGIN_MS, Stage};
use tokio::task::JoinSet;

fn schedule(id: u128, standing: Standing) -> Schedule {
    Schedule {
        id: ScheduleId(id),
        app: APP,
        revision: 0,
        name: "s".into(),
        trigger: Trigger::Single(WallMs(BEGIN_MS + 1000)),
        standing,
        made_at: WallMs(BEGIN_MS),
        trace: TraceId(1),
        runs: Vec::new(),
        push: Bytes::from_static(b"{}"),
    }
}

fn waiting(id: u128) -> Schedule {
    schedule(id, Standing::Waiting(WallMs(BEGIN_MS + 1000)))
}

fn new(schedule: Schedule) -> ScheduleChange {
    ScheduleChange { app: schedule.app, id: schedule.id, read: None, after: Some(Box::new(schedule)) }
}

/// From a revision to the next.
fn step(id: u128, read: u32, standing: Standing) -> ScheduleChange {
    let after = Schedule { revision: read + 1, push: Bytes::new(), ..schedule(id, standing) };
    ScheduleChange { read: Some(read), ..new(after) }
}

fn gone(id: u128, read: u32) -> ScheduleChange {
    ScheduleChange { app: APP, id: ScheduleId(id), read: Some(read), after: None }
}

async fn due(stage: &Stage) -> Vec<u128> {
    let page = stage.store.due(None, WallMs(u64::MAX - 1), 100).await.unwrap();
    page.due.iter().map(|due: &DueAt| due.id.0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_what_was_changed_meanwhile_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(folder.path());
    let change = async |stage: &Stage, change| stage.store.change_schedule(change).await.unwrap();
    assert_eq!(change(&stage, new(waiting(1))).await, Changed::Done);
    assert_eq!(change(&stage, new(waiting(1))).await, Changed::Stale);
    assert_eq!(change(&stage, step(2, 0, Standing::Disabled)).await, Changed::Stale);
    assert_eq!(change(&stage, step(1, 0, Standing::Disabled)).await, Changed::Done);
    assert_eq!(change(&stage, step(1, 0, Standing::Disabled)).await, Changed::Stale);
    assert_eq!(change(&stage, gone(1, 0)).await, Changed::Stale);
    assert!(due(&stage).await.is_empty());
    assert_eq!(change(&stage, step(1, 1, Standing::Waiting(WallMs(5)))).await, Changed::Done);
    stage.reopen(folder.path()).await;
    assert_eq!(due(&stage).await, [1]);
    let stored = stage.store.schedule(APP, ScheduleId(1)).await.unwrap().unwrap();
    // A step leaves the push as it is.
    assert_eq!((stored.revision, stored.push.as_ref()), (2, b"{}".as_slice()));
    assert!(stage.store.schedule(AppId(8), ScheduleId(1)).await.unwrap().is_none());
    assert_eq!(change(&stage, gone(1, 2)).await, Changed::Done);
    assert!(due(&stage).await.is_empty());
    assert!(stage.store.schedule(APP, ScheduleId(1)).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_firings_of_one_occurrence_one_is_stored() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::open(folder.path());
    stage.register(1, &[]).await;
    stage.store.change_schedule(new(waiting(1))).await.unwrap();
    let fire = || {
        let accept = stage.accept(Destination::Mailboxes(vec![ClientId(1)]), 60_000, b"x");
        let occurrence = Some(Box::new(step(1, 0, Standing::Finished(WallMs(BEGIN_MS + 9000)))));
        stage.store.accept(Accept { occurrence, ..accept })
    };
    let (one, other) = tokio::join!(fire(), fire());
    assert_eq!([&one, &other].iter().filter(|fired| fired.is_ok()).count(), 1);
    assert_eq!(one.err().or(other.err()), Some(StoreError::Repeated));
    let device = stage.login(1).await;
    assert_eq!(
        stage.page(1, longwire_server::domain::Source::Mailbox, device.mailbox.last).await.entries.len(),
        1
    );
    // One that cannot be stored takes no step.
    stage.store.change_schedule(new(waiting(2))).await.unwrap();
    for _ in 0..999 {
        stage.to(1).await;
    }
    let accept = stage.accept(Destination::Mailboxes(vec![ClientId(1)]), 60_000, b"x");
    let occurrence = Some(Box::new(step(2, 0, Standing::Finished(WallMs(BEGIN_MS + 9000)))));
    let full = stage.store.accept(Accept { occurrence, ..accept }).await;
    assert_eq!(full.unwrap_err(), StoreError::MailboxFull);
    assert_eq!(stage.store.schedule(APP, ScheduleId(2)).await.unwrap().unwrap().revision, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_counts_what_has_not_finished() {
    let folder = tempfile::tempdir().unwrap();
    let mut stage = Stage::open(folder.path());
    let mut made = JoinSet::new();
    for id in 0..u128::from(SCHEDULES_MAX) {
        let store = stage.store.clone();
        made.spawn(async move { store.change_schedule(new(waiting(id))).await.unwrap() });
        if made.len() >= 1000 {
            assert_eq!(made.join_next().await.unwrap().unwrap(), Changed::Done);
        }
    }
    assert!(made.join_all().await.into_iter().all(|changed| changed == Changed::Done));
    stage.reopen(folder.path()).await;
    let change = async |change| stage.store.change_schedule(change).await.unwrap();
    let next = u128::from(SCHEDULES_MAX);
    assert_eq!(change(new(waiting(next))).await, Changed::TooMany);
    // A disabled one has its place; one that has finished gives it back, and may find none when it is to fire again.
    assert_eq!(change(step(0, 0, Standing::Disabled)).await, Changed::Done);
    assert_eq!(change(new(waiting(next))).await, Changed::TooMany);
    assert_eq!(change(step(1, 0, Standing::Finished(WallMs(BEGIN_MS)))).await, Changed::Done);
    assert_eq!(change(new(waiting(next))).await, Changed::Done);
    assert_eq!(change(step(1, 1, Standing::Waiting(WallMs(BEGIN_MS)))).await, Changed::TooMany);
    assert_eq!(change(gone(2, 0)).await, Changed::Done);
    assert_eq!(change(step(1, 1, Standing::Waiting(WallMs(BEGIN_MS)))).await, Changed::Done);
    // Another app has its own.
    let other = Schedule { app: AppId(8), ..waiting(1) };
    assert_eq!(change(new(other)).await, Changed::Done);
}
