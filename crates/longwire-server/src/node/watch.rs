//! The watchdog over the shards: one that does not come back from a turn is named in the log, and the node is not ready
//! meanwhile (P27).

use crate::gate::GateStats;
use std::sync::Arc;
use std::time::Duration;

/// How often it looks; with the bound on a turn, a stall is named after 1.25 s at the latest.
const EVERY: Duration = Duration::from_millis(250);

/// What stands still now, if anything does.
///
/// # Errors
/// Which shard, and for how long.
pub(super) fn look(stats: &GateStats) -> Result<(), String> {
    match stats.stalled() {
        None => Ok(()),
        Some((shard, ms)) => Err(format!("shard {shard} has not come back from its turn for {ms} ms")),
    }
}

/// Names stalls as they begin and end. Runs until the task is dropped.
pub(super) async fn run(stats: Arc<GateStats>) {
    let mut stalled = None;
    loop {
        tokio::time::sleep(EVERY).await;
        let now = stats.stalled().map(|(shard, _)| shard);
        match (stalled, now) {
            (None, Some(shard)) => {
                tracing::error!(
                    shard,
                    "a shard stands still: its devices are not served and the node is not ready"
                );
            }
            (Some(shard), None) => tracing::warn!(shard, "the shard goes on"),
            _ => {}
        }
        stalled = now;
    }
}
