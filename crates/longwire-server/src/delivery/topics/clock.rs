//! What time does to topics: sessions and retained messages expire, wills are published, ends of connections are written.

use super::publish::Planned;
use crate::delivery::hub::Core;
use crate::store::sessions::{Change, Work};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::task::JoinSet;

/// How often it looks.
const TICK: Duration = Duration::from_millis(100);
/// Wills published in one tick: 1,000 a second, so that a node's worth of lost connections is no storm.
const WILLS_PER_TICK: usize = 100;
/// Changes written in one tick; a session that ends may drop a thousand references.
const ENDS_PER_TICK: usize = 64;
const CHANGES_PER_TICK: usize = 4096;
/// So long the ends that no tick has written are written when the hub closes; the others are as after a crash.
const LAST_ENDS_PATIENCE: Duration = Duration::from_secs(5);
/// Retained messages are looked through this often, in ticks: a minute. Until then an expired one is held, but not sent.
const RETAINED_EVERY: u64 = 600;

/// Runs until the hub is gone.
pub(in crate::delivery) async fn run(core: Arc<Core>) {
    let weak = Arc::downgrade(&core);
    drop(core);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for tick in 0_u64.. {
        ticks.tick().await;
        let Some(core) = weak.upgrade() else { return };
        let _under_way = core.under_way.read().await;
        if core.topics.is_closed() {
            return;
        }
        look(&core, tick).await;
    }
}

/// Writes the ends of connections that no tick has written, before the store closes: of these the next start knows what they
/// were sent (MQTT-3.3.1-2) and since when they are away.
pub(in crate::delivery) async fn write_last_ends(core: &Core) {
    if tokio::time::timeout(LAST_ENDS_PATIENCE, write_ends(core)).await.is_err() {
        tracing::warn!("not all ends of sessions were written in time; the next start counts them from then");
    }
}

async fn write_ends(core: &Core) {
    let _order = core.topics.order.lock().await;
    loop {
        let changes = core.topics.kept.lock().take_unwritten(CHANGES_PER_TICK);
        let count = changes.len();
        if count == 0 {
            return;
        }
        let done = core.store.together(changes.into_iter().map(Work::Change).collect()).await;
        warn_of_failed(done.iter().filter(|done| done.is_err()).count(), count);
    }
}

fn warn_of_failed(failed: usize, count: usize) {
    if failed > 0 {
        tracing::warn!(failed, count, "ends of sessions were not written; the next start finds them");
    }
}

async fn look(core: &Arc<Core>, tick: u64) {
    let (topics, now) = (&core.topics, (core.clock)());
    let order = topics.order.lock().await;
    let mut changes = Vec::new();
    {
        let mut kept = topics.kept.lock();
        changes.extend(kept.take_unwritten(CHANGES_PER_TICK));
        let over = kept.end_due(now.0, ENDS_PER_TICK);
        topics.stats.sessions_ended.fetch_add(over.len() as u64, Relaxed);
        changes.extend(over.into_iter().map(Change::End));
    }
    if tick.is_multiple_of(RETAINED_EVERY) {
        changes.extend(topics.retained.lock().clear_expired(now, CHANGES_PER_TICK));
    }
    let count = changes.len();
    let mut planned = Planned { work: changes.into_iter().map(Work::Change).collect(), ..Planned::default() };
    topics.groups.lock().try_mail_again();
    core.drain_groups(&mut planned);
    let Planned { work, out, mailed } = planned;
    let queued = core.store.queue(work).await;
    drop(order);
    core.post_all(out).await;
    let done = queued.outcomes().await;
    core.mailed(&mailed, &done);
    warn_of_failed(done.iter().take(count).filter(|done| done.is_err()).count(), count);
    let wills = topics.wills.lock().take_due(now, WILLS_PER_TICK);
    // Side by side, so that they share commits.
    let mut under_way = JoinSet::new();
    let mut done = Vec::with_capacity(wills.len());
    for (client, will) in wills {
        topics.stats.wills_published.fetch_add(1, Relaxed);
        done.push(client);
        let core = core.clone();
        under_way.spawn(async move { core.publish(&will, core.trace(), None).await });
    }
    while under_way.join_next().await.is_some() {}
    // Only now: a process that dies before publishes them again rather than never.
    let mut kept = topics.kept.lock();
    done.into_iter().for_each(|client| kept.will_done(client));
}
