//! The node as its operator reaches it through the API.

use super::certificates;
use super::metrics::resident_bytes;
use crate::api::operations::{
    AppOutboxes, DrainOrder, NodeMemory, Operations, ReloadedFiles, ShardState, Then,
};
use crate::delivery::hub::Hub;
use crate::gate::transport::TlsTerms;
use crate::gate::{Gate, ShardStats, TURN_BUCKETS_US};
use crate::store::messages::MessageStore;
use crate::store::messages::stats::StoreStats;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// What an operator's wishes need.
pub(super) struct Operator {
    pub(super) hub: Hub,
    pub(super) gate: Arc<Gate>,
    pub(super) store: Arc<StoreStats>,
    pub(super) ready: Arc<AtomicBool>,
    /// Of the devices' port; `None`: no TLS.
    pub(super) certificates: Option<Arc<TlsTerms>>,
    /// How long outboxes get when devices have been told.
    patience: Duration,
    /// The window of a drain after which the process ends.
    exit: watch::Sender<Option<Duration>>,
    draining: AtomicBool,
    memory_limit_bytes: Option<u64>,
}

impl Operator {
    /// An operator's hands, and the word that the process is to end: the window in which devices are told.
    pub(super) fn new(
        hub: &Hub,
        gate: &Arc<Gate>,
        store: Arc<StoreStats>,
        ready: &Arc<AtomicBool>,
        patience: Duration,
        memory_limit_bytes: Option<u64>,
    ) -> (Operator, watch::Receiver<Option<Duration>>) {
        let (exit, told) = watch::channel(None);
        let (hub, gate, ready) = (hub.clone(), gate.clone(), ready.clone());
        let draining = AtomicBool::new(false);
        let certificates = None;
        let operator =
            Operator { hub, gate, store, ready, certificates, patience, exit, draining, memory_limit_bytes };
        (operator, told)
    }
}

impl Operations for Operator {
    fn drain(&self, order: DrainOrder) {
        let window = Duration::from_secs(order.window_s.into());
        let first = !self.draining.swap(true, Ordering::AcqRel);
        tracing::info!(target: "audit", event = "drain", window_s = order.window_s, then = ?order.then, first);
        self.ready.store(false, Ordering::Release);
        match order.then {
            Then::Exit => {
                self.exit.send_replace(Some(window));
            }
            Then::Stay if first => {
                self.hub.drain();
                let (gate, patience) = (self.gate.clone(), self.patience);
                // Ends with the shards, which end after the window and the patience.
                tokio::spawn(async move { gate.stop(window, window + patience).await });
            }
            Then::Stay => {}
        }
    }

    fn reload(&self) -> ReloadedFiles {
        let reloaded = certificates::reload(self.certificates.as_deref(), &self.hub);
        tracing::info!(target: "audit", event = "reload", ?reloaded);
        reloaded
    }

    fn memory(&self) -> NodeMemory {
        let stats = self.gate.stats();
        let sum = |of: fn(&ShardStats) -> &AtomicU64| {
            stats.shards.iter().map(|s| of(s).load(Ordering::Relaxed)).sum()
        };
        let waiting = self.gate.waiting();
        NodeMemory {
            resident_bytes: resident_bytes(),
            limit_bytes: self.memory_limit_bytes,
            level: stats.pressure.level().label(),
            scratch_bytes: (stats.shards.len() * Gate::SCRATCH_BYTES) as u64,
            outbox_bytes: sum(|shard| &shard.outbox_bytes),
            unwritable: sum(|shard| &shard.unwritable),
            connections: sum(|shard| &shard.connections),
            commands_waiting: waiting.iter().map(|waiting| waiting.commands as u64).sum(),
            events_waiting: waiting.iter().map(|waiting| waiting.events as u64).sum(),
            store_waiting: self.store.queue_depth.load(Ordering::Relaxed),
            store_cache_bytes_max: MessageStore::CACHE_BYTES_MAX,
        }
    }

    fn outboxes(&self) -> Vec<AppOutboxes> {
        let held = self.gate.stats().outboxes().into_iter();
        held.map(|held| AppOutboxes {
            app: held.app,
            connections: held.connections,
            bytes: held.bytes,
            oldest_s: held.oldest_s,
            stalled_s: held.stalled_s,
        })
        .collect()
    }

    fn shards(&self) -> Vec<ShardState> {
        let stats = self.gate.stats();
        let shards = stats.shards.iter().zip(self.gate.waiting());
        shards
            .enumerate()
            .map(|(number, (shard, waiting))| {
                let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
                let turns: Vec<u64> = shard.turns.iter().map(read).collect();
                let longest = read(&shard.turn_us_max);
                ShardState {
                    shard: number as u16,
                    connections: read(&shard.connections),
                    sessions: read(&shard.sessions),
                    outbox_bytes: read(&shard.outbox_bytes),
                    unwritable: read(&shard.unwritable),
                    turns: turns.iter().sum(),
                    turn_p99_us: p99(&turns, longest),
                    turn_longest_us: longest,
                    commands_waiting: waiting.commands as u64,
                    commands_max: waiting.commands_max as u64,
                    events_waiting: waiting.events as u64,
                    events_max: waiting.events_max as u64,
                }
            })
            .collect()
    }
}

/// The upper end of the bucket in which the 99th of 100 turns is, and never more than the longest.
fn p99(turns: &[u64], longest_us: u64) -> u64 {
    let all: u64 = turns.iter().sum();
    let mut left = (all * 99).div_ceil(100);
    for (bound, count) in TURN_BUCKETS_US.iter().zip(turns) {
        if left <= *count {
            return (*bound).min(longest_us);
        }
        left -= count;
    }
    longest_us
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_99th_of_100_turns_is_found_in_the_histogram() {
        let mut turns = [0; TURN_BUCKETS_US.len() + 1];
        assert_eq!(p99(&turns, 0), 0);
        turns[0] = 98;
        turns[4] = 2;
        assert_eq!(p99(&turns, 700), 700);
        assert_eq!(p99(&turns, 1_000_000), TURN_BUCKETS_US[4]);
        turns[0] = 990;
        assert_eq!(p99(&turns, 1_000_000), TURN_BUCKETS_US[0]);
        turns[TURN_BUCKETS_US.len()] = 900;
        assert_eq!(p99(&turns, 9_000_000), 9_000_000);
    }
}
