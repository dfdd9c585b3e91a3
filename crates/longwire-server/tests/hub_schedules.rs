//! Schedules: they fire once, on time or marked late, and what changes them holds.
#![allow(clippy::unwrap_used, missing_docs)]

mod hub_rig;

use bytes::Bytes;
use hub_rig::{Rig, START_MS, devices, until};
use longwire_server::api::push_reader;
use longwire_server::delivery::border::Command;
use longwire_server::delivery::over_time::{
    NewSchedule, OverTime, Run, Schedule, ScheduleEdit, ScheduleError, Standing,
};
use longwire_server::domain::schedule::{Periodical, PeriodicalParts, Unit};
use longwire_server::domain::{ScheduleId, TraceId, Trigger, WallMs};
use std::sync::atomic::Ordering::SeqCst;

const DAY_MS: u64 = 86_400_000;
const PHONE: &str = r#"{"audience":{"registration_id":["phone"]},"message":{"msg_content":"hi"}}"#;

async fn rig() -> Rig {
    let rig = Rig::new(1).await;
    over_time(&rig).await;
    rig
}

async fn over_time(rig: &Rig) {
    let parts = OverTime { read: push_reader(), pressed: Box::new(|| false) };
    rig.hub.run_over_time(parts).await.unwrap();
}

fn new(trigger: Trigger, push: &'static str) -> NewSchedule {
    NewSchedule { name: "test".into(), trigger, push: Bytes::from_static(push.as_bytes()), trace: TraceId(7) }
}

async fn add(rig: &Rig, after_ms: u64, push: &'static str) -> ScheduleId {
    let at = WallMs(rig.now.load(SeqCst) + after_ms);
    rig.hub.add_schedule(&rig.app, new(Trigger::Single(at), push)).await.unwrap().id
}

/// Every day at midnight UTC, `START_MS` being 08:00.
fn daily() -> Trigger {
    let (start, end) = (WallMs(START_MS), WallMs(START_MS + 10 * DAY_MS));
    let parts = PeriodicalParts { start, end, second: 0, unit: Unit::Day, frequency: 1, zone: "UTC" };
    Trigger::Periodical(Box::new(Periodical::new(&parts).unwrap()))
}

async fn show(rig: &Rig, id: ScheduleId) -> Schedule {
    rig.hub.schedule(&rig.app, id).await.unwrap().unwrap()
}

async fn runs(rig: &Rig, id: ScheduleId, count: usize) -> Vec<Run> {
    until(async || show(rig, id).await.runs.len() >= count).await;
    show(rig, id).await.runs
}

/// What is due now has been looked at: a schedule that is due a moment later has fired.
async fn looked(rig: &Rig) {
    let probe =
        add(rig, 1, r#"{"audience":{"registration_id":["nobody"]},"message":{"msg_content":"x"}}"#).await;
    rig.pass(1);
    runs(rig, probe, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_fires_once_when_it_is_due_and_not_before() {
    let rig = rig().await;
    rig.register("phone", None, &[]).await;
    let id = add(&rig, 60_000, PHONE).await;
    rig.pass(59_000);
    looked(&rig).await;
    assert!(show(&rig, id).await.runs.is_empty());
    rig.pass(1_000);
    let fired = runs(&rig, id, 1).await;
    looked(&rig).await;
    let schedule = show(&rig, id).await;
    assert_eq!(schedule.runs, fired);
    assert!(matches!(schedule.standing, Standing::Finished(_)), "{schedule:?}");
    assert_eq!((fired[0].due, fired[0].late, &fired[0].error), (WallMs(START_MS + 60_000), false, &None));
    let story = rig.hub.message(&rig.app, fired[0].message.unwrap()).await.unwrap().unwrap();
    assert_eq!((story.view.counts.created, story.view.record.trace), (1, TraceId(7)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_due_while_the_server_was_down_fires_at_the_start_and_is_late() {
    let rig = rig().await;
    rig.register("phone", None, &[]).await;
    let once = add(&rig, 60_000, PHONE).await;
    let daily = rig.hub.add_schedule(&rig.app, new(daily(), PHONE)).await.unwrap().id;
    rig.pass(3 * DAY_MS);
    let rig = rig.restarted().await;
    over_time(&rig).await;
    let single = runs(&rig, once, 1).await.remove(0);
    assert_eq!(
        (single.due, single.late, single.fired_at),
        (WallMs(START_MS + 60_000), true, WallMs(START_MS + 3 * DAY_MS))
    );
    assert!(single.message.is_some());
    // Three midnights were missed; the last fires.
    let missed = runs(&rig, daily, 1).await;
    let third_midnight = START_MS + 2 * DAY_MS + DAY_MS * 2 / 3;
    assert_eq!((missed[0].due, missed[0].late), (WallMs(third_midnight), true));
    rig.pass(DAY_MS * 2 / 3);
    let both = runs(&rig, daily, 2).await;
    assert_eq!((both[1].due, both[1].late), (WallMs(third_midnight + DAY_MS), false));
    assert_eq!((runs(&rig, once, 1).await.len(), both.len()), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_is_refused_is_told_and_the_schedule_goes_on() {
    let rig = rig().await;
    let id = rig.hub.add_schedule(&rig.app, new(daily(), PHONE)).await.unwrap().id;
    rig.pass(DAY_MS);
    let refused = runs(&rig, id, 1).await.remove(0);
    assert_eq!((refused.error.as_deref(), refused.message), (Some("nobody_matches"), None));
    rig.register("phone", None, &[]).await;
    rig.pass(DAY_MS);
    let fired = runs(&rig, id, 2).await.remove(1);
    assert!(fired.error.is_none() && fired.message.is_some(), "{fired:?}");
    let expired =
        r#"{"audience":"all","message":{"msg_content":"x"},"options":{"expire_at":"2027-01-16T00:00:00Z"}}"#;
    let id = add(&rig, DAY_MS, expired).await;
    rig.pass(DAY_MS);
    assert_eq!(runs(&rig, id, 1).await[0].error.as_deref(), Some("expired"));
    // A full mailbox is such a refusal too.
    let fill = async || rig.hub.push(&rig.app, rig.push(devices(&["phone"]), 86_400)).await;
    while fill().await.is_ok() {}
    let id = add(&rig, 1000, PHONE).await;
    rig.pass(1000);
    assert_eq!(runs(&rig, id, 1).await[0].error.as_deref(), Some("device_queue_full"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_or_disabled_never_fires_and_enabled_again_it_leaves_out_what_it_missed() {
    let rig = rig().await;
    rig.register("phone", None, &[]).await;
    let (removed, disabled) = (add(&rig, 1000, PHONE).await, add(&rig, 1000, PHONE).await);
    let days = rig.hub.add_schedule(&rig.app, new(daily(), PHONE)).await.unwrap().id;
    let enable = |enabled| ScheduleEdit { enabled: Some(enabled), ..ScheduleEdit::default() };
    assert!(rig.hub.remove_schedule(&rig.app, removed).await.unwrap());
    assert!(!rig.hub.remove_schedule(&rig.app, removed).await.unwrap());
    for id in [disabled, days] {
        let now = rig.hub.edit_schedule(&rig.app, id, enable(false)).await.unwrap().unwrap();
        assert_eq!(now.standing, Standing::Disabled);
    }
    rig.pass(3 * DAY_MS);
    looked(&rig).await;
    assert!(rig.hub.schedule(&rig.app, removed).await.unwrap().is_none());
    assert!(show(&rig, disabled).await.runs.is_empty() && show(&rig, days).await.runs.is_empty());
    let passed = rig.hub.edit_schedule(&rig.app, disabled, enable(true)).await;
    assert!(matches!(passed, Err(ScheduleError::Invalid(_))), "{passed:?}");
    let again = rig.hub.edit_schedule(&rig.app, days, enable(true)).await.unwrap().unwrap();
    assert_eq!(again.standing, Standing::Waiting(WallMs(START_MS + 3 * DAY_MS + DAY_MS * 2 / 3)));
    rig.pass(DAY_MS * 2 / 3 - 1);
    let fired = runs(&rig, days, 1).await;
    assert_eq!((fired.len(), fired[0].late), (1, false));
    // One that has finished fires again with a new trigger.
    let edit = ScheduleEdit {
        trigger: Some(Trigger::Single(WallMs(rig.now.load(SeqCst) + 500))),
        enabled: Some(true),
        ..ScheduleEdit::default()
    };
    rig.hub.edit_schedule(&rig.app, disabled, edit).await.unwrap().unwrap();
    rig.pass(500);
    assert!(runs(&rig, disabled, 1).await[0].message.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_push_is_what_fires_and_a_name_moves_nothing() {
    let rig = rig().await;
    for name in ["phone", "tablet"] {
        rig.register(name, None, &["t"]).await;
    }
    let id = add(&rig, 1000, PHONE).await;
    let both = Bytes::from_static(
        br#"{"audience":{"registration_id":["phone","tablet"]},"message":{"msg_content":"hi"}}"#,
    );
    let edit = ScheduleEdit { push: Some(both), name: Some("other".into()), ..ScheduleEdit::default() };
    let edited = rig.hub.edit_schedule(&rig.app, id, edit).await.unwrap().unwrap();
    assert_eq!((edited.standing, &*edited.name), (Standing::Waiting(WallMs(START_MS + 1000)), "other"));
    rig.pass(1000);
    let message = runs(&rig, id, 1).await[0].message.unwrap();
    let story = rig.hub.message(&rig.app, message).await.unwrap().unwrap();
    assert_eq!(story.view.counts.created, 2);
    let renamed = ScheduleEdit { name: Some("done".into()), ..ScheduleEdit::default() };
    let renamed = rig.hub.edit_schedule(&rig.app, id, renamed).await.unwrap().unwrap();
    assert!(matches!(renamed.standing, Standing::Finished(_)), "{renamed:?}");
    let (stranger, _) =
        rig.hub.create_app(longwire_server::domain::AppKey::parse("other").unwrap(), false).await.unwrap();
    assert!(rig.hub.schedule(&stranger, id).await.unwrap().is_none());
    assert!(rig.hub.edit_schedule(&stranger, id, ScheduleEdit::default()).await.unwrap().is_none());
    assert!(!rig.hub.remove_schedule(&stranger, id).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_stored_is_fired_to_who_is_connected() {
    let rig = rig().await;
    let device = rig.register("phone", None, &[]).await;
    let (to, _) = rig.login(0, &device).await;
    let now = r#"{"audience":{"registration_id":["phone"]},"message":{"msg_content":"hi"},"options":{"time_to_live":0}}"#;
    let id = add(&rig, 1000, now).await;
    let topic = add(&rig, 1000, r#"{"audience":{"topic":"a/b"},"message":{"msg_content":"hi"}}"#).await;
    rig.pass(1000);
    let Command::DeliverNow { to: got, message } = rig.shards.next(0).await else { panic!() };
    assert_eq!(got, to);
    until(async || show(&rig, id).await.runs.first().is_some_and(|run| run.message == Some(message.message)))
        .await;
    until(async || show(&rig, topic).await.runs.first().is_some_and(|run| run.message.is_some())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_schedule_is_forgotten_after_a_week() {
    let rig = rig().await;
    rig.register("phone", None, &[]).await;
    let id = add(&rig, 1000, PHONE).await;
    rig.pass(1000);
    runs(&rig, id, 1).await;
    rig.pass(7 * DAY_MS - 2);
    looked(&rig).await;
    assert_eq!(show(&rig, id).await.runs.len(), 1);
    rig.pass(1);
    until(async || rig.hub.schedule(&rig.app, id).await.unwrap().is_none()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_due_at_once_fire_once_each_and_pages_list_them_in_order() {
    let rig = rig().await;
    rig.register("phone", None, &["t"]).await;
    let mut ids = Vec::new();
    for _ in 0..700 {
        ids.push(add(&rig, 5000, r#"{"audience":{"tag":["t"]},"message":{"msg_content":"hi"}}"#).await);
    }
    let mut listed = Vec::new();
    loop {
        let page = rig.hub.schedules(&rig.app, listed.last().copied(), 300).await.unwrap();
        listed.extend(page.schedules.iter().map(|schedule| schedule.id));
        if !page.more {
            break;
        }
    }
    assert_eq!(listed, ids);
    rig.pass(5000);
    let mut messages = std::collections::HashSet::new();
    for id in ids {
        let fired = runs(&rig, id, 1).await;
        assert_eq!(fired.len(), 1);
        messages.insert(fired[0].message.unwrap());
    }
    assert_eq!(messages.len(), 700);
    let mut places = std::collections::HashSet::new();
    while rig.shards.waiting(0) > 0 {
        let Command::Broadcast(broadcast) = rig.shards.next(0).await else { continue };
        assert!(messages.contains(&broadcast.message.message) && places.insert(broadcast.position));
    }
    assert_eq!(places.len(), 700);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_may_make_a_message_that_is_spread() {
    let rig = rig().await;
    rig.register("phone", None, &["t"]).await;
    let id =
        add(&rig, 1000, r#"{"audience":{"tag":["t"]},"message":{"msg_content":"hi"},"options":{"speed":1}}"#)
            .await;
    rig.pass(1000);
    let message = runs(&rig, id, 1).await[0].message.unwrap();
    let Command::Broadcast(broadcast) = rig.shards.next(0).await else { panic!() };
    assert_eq!(broadcast.message.message, message);
}
