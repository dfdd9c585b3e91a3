//! Messages from devices on their way to the store: judged by the pump, which waits for nothing, and stored by a task of
//! their own, in the order in which they came.

use super::super::border::{Command, Handle, Upstream};
use super::super::hub::{Core, new_trace};
use super::super::memory::senders::Senders;
use crate::store::upstream as stored;
use longwire_proto::wire::{ResultCode, UpAck};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::mpsc;

/// Messages of one shard that may wait for the store, with the largest contents 40 MiB; beyond it the answer is `busy`.
pub(super) const WAITING_MAX: usize = 4096;
/// Messages given to the store at once. While it commits, the next ones gather.
const TOGETHER: usize = 256;

/// Judges what comes.
pub(super) struct Uplink {
    core: Arc<Core>,
    senders: Senders,
    waiting: mpsc::Sender<Upstream>,
}

impl Uplink {
    pub(super) fn new(core: Arc<Core>, waiting: mpsc::Sender<Upstream>) -> Uplink {
        Uplink { core, senders: Senders::default(), waiting }
    }

    /// Queues a message, or answers why not. Never waits.
    pub(super) fn take(&mut self, message: Upstream) {
        let (to, client_message, durable) = (message.from, message.client_message, message.durable);
        // A displaced connection's message counts: it was sent by the device, and dedup knows it when it comes again.
        let outcome = if message.to_device {
            ResultCode::NotAllowed
        } else if !self.senders.admit(message.client, (self.core.clock)())
            || self.waiting.try_send(message).is_err()
        {
            ResultCode::Busy
        } else if durable {
            return;
        } else {
            ResultCode::Done
        };
        self.core.stats.upstream_answered(outcome);
        let answer = UpAck { client_message, outcome };
        // A shard without room for an answer has many to give; the device sends again what it has no answer to.
        if !self.core.posts.offer(to.shard(), Command::Answer { to, answer }) {
            self.core.stats.upstream_unanswered.fetch_add(1, Relaxed);
        }
    }
}

/// Runs until the pump has ended and every message is answered.
pub(super) async fn run(core: Arc<Core>, mut waiting: mpsc::Receiver<Upstream>) {
    let mut batch = Vec::with_capacity(TOGETHER);
    while waiting.recv_many(&mut batch, TOGETHER).await > 0 {
        let asked: Vec<(Handle, u64, bool)> =
            batch.iter().map(|message| (message.from, message.client_message, message.durable)).collect();
        let accepted_at = (core.clock)();
        let messages = batch.drain(..).map(|message| stored::Upstream {
            client: message.client,
            app: message.app,
            client_message: message.client_message,
            kind: message.kind,
            accepted_at,
            trace: new_trace(),
            payload: message.payload,
        });
        let outcomes = core.store.upstream(messages.collect()).await;
        if let Err(error) = &outcomes {
            tracing::warn!(%error, count = asked.len(), "messages from devices were not stored");
        }
        let outcomes = outcomes.unwrap_or_default();
        for (at, (to, client_message, durable)) in asked.into_iter().enumerate() {
            let outcome = outcomes.get(at).map_or(ResultCode::Busy, code);
            if !durable {
                if outcome != ResultCode::Done {
                    core.stats.upstream_lost.fetch_add(1, Relaxed);
                }
                continue;
            }
            core.stats.upstream_answered(outcome);
            let answer = UpAck { client_message, outcome };
            core.posts.send(to.shard(), Command::Answer { to, answer }).await;
        }
    }
}

fn code(outcome: &stored::UpstreamOutcome) -> ResultCode {
    match outcome {
        stored::UpstreamOutcome::Stored(_) | stored::UpstreamOutcome::Repeated => ResultCode::Done,
        stored::UpstreamOutcome::AppFull => ResultCode::Quota,
        stored::UpstreamOutcome::StorageFull => ResultCode::Busy,
    }
}
