//! Commands on their way to shards.

use super::border::{Broadcast, Command, Handle, ShardId, Shards};
use super::stats::HubStats;
use longwire_proto::close::CloseReason;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// How long a full queue is left alone before the next try.
const STEP: Duration = Duration::from_millis(1);
/// Steps after which a command is given up while the node stops: a shard that has ended takes nothing any more. What was
/// stored is not lost by it.
const STEPS_WHILE_STOPPING: u32 = 2000;

/// Posts commands; a full queue is waited for, so that nothing is lost and order is kept for one caller.
pub(super) struct Posts {
    shards: Arc<dyn Shards>,
    stats: Arc<HubStats>,
    stopping: AtomicBool,
}

impl Posts {
    pub(super) fn new(shards: Arc<dyn Shards>, stats: Arc<HubStats>) -> Posts {
        Posts { shards, stats, stopping: AtomicBool::new(false) }
    }

    /// How many shards there are.
    pub(super) fn shards(&self) -> usize {
        self.shards.count()
    }

    /// From now on a shard that takes nothing is not waited for without end.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Relaxed);
    }

    /// Whether the node stops.
    pub(super) fn stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    /// Posts a command if there is room now. False: it is dropped.
    pub(super) fn offer(&self, shard: ShardId, command: Command) -> bool {
        self.shards.post(shard, command).is_ok()
    }

    /// Posts a command, waiting for room.
    pub(super) async fn send(&self, shard: ShardId, command: Command) {
        let Err(mut command) = self.shards.post(shard, command) else { return };
        let mut steps = 0;
        loop {
            self.stats.commands_waited.fetch_add(1, Relaxed);
            tokio::time::sleep(STEP).await;
            match self.shards.post(shard, command) {
                Ok(()) => return,
                Err(back) => command = back,
            }
            steps += 1;
            if self.stopping() && steps >= STEPS_WHILE_STOPPING {
                self.stats.commands_dropped.fetch_add(1, Relaxed);
                return;
            }
        }
    }

    /// Posts a message to every shard.
    pub(super) async fn broadcast(&self, broadcast: &Arc<Broadcast>) {
        for shard in 0..self.shards.count() {
            self.send(ShardId(shard as u8), Command::Broadcast(broadcast.clone())).await;
        }
    }

    /// Ends a connection.
    pub(super) async fn close(&self, to: Handle, reason: CloseReason, retry_after_s: u16) {
        self.send(to.shard(), Command::Close { to, reason, retry_after_s }).await;
    }
}
