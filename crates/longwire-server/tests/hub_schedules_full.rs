//! Schedules that are due while the disk has no room: tried again until it has, or until the message's life is over.
#![allow(clippy::unwrap_used, missing_docs)]

mod hub_rig;

use bytes::Bytes;
use hub_rig::{RESERVE_BYTES, Rig, START_MS, until};
use longwire_server::api::push_reader;
use longwire_server::delivery::over_time::{NewSchedule, OverTime, Run, ScheduleError};
use longwire_server::domain::{ScheduleId, TraceId, Trigger, WallMs};
use longwire_server::store::port::StoreError;
use std::sync::atomic::Ordering::SeqCst;

async fn over_time(rig: &Rig) {
    let parts = OverTime { read: push_reader(), pressed: Box::new(|| false) };
    rig.hub.run_over_time(parts).await.unwrap();
}

async fn add(rig: &Rig, ttl_s: u32) -> Result<ScheduleId, ScheduleError> {
    let push = format!(
        r#"{{"audience":{{"registration_id":["phone"]}},"message":{{"msg_content":"x"}},"options":{{"time_to_live":{ttl_s}}}}}"#
    );
    let trigger = Trigger::Single(WallMs(START_MS + 10_000));
    let new = NewSchedule { name: "s".into(), trigger, push: Bytes::from(push), trace: TraceId(7) };
    rig.hub.add_schedule(&rig.app, new).await.map(|schedule| schedule.id)
}

async fn run(rig: &Rig, id: ScheduleId) -> Run {
    let runs = async || rig.hub.schedule(&rig.app, id).await.unwrap().unwrap().runs;
    until(async || !runs().await.is_empty()).await;
    runs().await.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_does_not_take_is_tried_again_until_its_ttl_is_over() {
    let rig = Rig::new(1).await;
    rig.register("phone", None, &[]).await;
    let (short, long) = (add(&rig, 60).await.unwrap(), add(&rig, 3600).await.unwrap());
    RESERVE_BYTES.store(u64::MAX, SeqCst);
    let rig = rig.restarted().await;
    over_time(&rig).await;
    let new = add(&rig, 60).await;
    assert!(matches!(new, Err(ScheduleError::Store(StoreError::Full { .. }))), "{new:?}");
    rig.pass(10_000);
    let stats = rig.hub.stats();
    until(async || stats.schedules_held.load(SeqCst) == 2).await;
    // So long that each is tried again, and the ttl of one is over.
    rig.pass(61_000);
    let failed = run(&rig, short).await;
    assert_eq!((failed.error.as_deref(), failed.message), (Some("store_unavailable"), None));
    until(async || stats.schedules_held.load(SeqCst) == 1).await;
    assert!(rig.hub.schedule(&rig.app, long).await.unwrap().unwrap().runs.is_empty());
    RESERVE_BYTES.store(0, SeqCst);
    let rig = rig.restarted().await;
    over_time(&rig).await;
    let fired = run(&rig, long).await;
    assert!(fired.late && fired.error.is_none() && fired.message.is_some(), "{fired:?}");
}
