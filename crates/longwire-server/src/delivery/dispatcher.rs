//! Durable messages on their way to the shards: one task, in the order of commits.

use super::border::{Broadcast, Command, Outgoing};
use super::hub::Core;
use crate::domain::{Position, Priority};
use crate::planted::{Fault as Planted, planted_in};
use crate::store::port::{Accepted, Committed};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Messages taken from the store's queue at once.
const BATCH: usize = 256;

/// Runs until the store has closed. The reply leaves after the message was handed to the shards, so that a caller who has
/// an answer knows that a later push comes later in the log and on every connection.
pub(super) async fn run(core: Arc<Core>, mut committed: mpsc::Receiver<Committed>) {
    let mut batch = Vec::with_capacity(BATCH);
    while committed.recv_many(&mut batch, BATCH).await > 0 {
        for Committed { accepted, reply } in batch.drain(..) {
            dispatch(&core, &accepted).await;
            // The caller may have gone away; its message is stored and counts nevertheless.
            let _ = reply.send(Ok(accepted));
        }
    }
}

async fn dispatch(core: &Core, accepted: &Accepted) {
    let record = &accepted.record;
    let message = Arc::new(Outgoing {
        message: accepted.message,
        deadline: record.deadline,
        shared: if planted_in(Planted::SwapsContent, 16) {
            swapped(&accepted.shared)
        } else {
            accepted.shared.clone()
        },
        high: record.priority == Priority::High,
    });
    if record.log_position != Position::START {
        let reach = core.labels.reach(record.app, accepted.filter.clone());
        let broadcast = Broadcast { app: record.app, reach, position: record.log_position, message };
        // Every shard sees every position, also when nobody online is meant: a login whose view of the log is older
        // is recognized by that.
        core.posts.broadcast(&Arc::new(broadcast)).await;
        return;
    }
    for target in &record.targets {
        for to in core.sessions.of(target.client).iter() {
            let deliver = Command::Deliver { to, position: target.position, message: message.clone() };
            core.posts.send(to.shard(), deliver).await;
        }
    }
}

/// The same frame with other content (a planted fault).
fn swapped(shared: &Bytes) -> Bytes {
    let mut other = shared.to_vec();
    if let Some(last) = other.last_mut() {
        *last ^= 1;
    }
    other.into()
}
