//! Ends of deliveries, and what devices say of them, on their way to the store.

use super::super::hub::Core;
use crate::planted::{Fault as Planted, planted_in};
use crate::store::port::Settle;
use crate::store::truth::Feedback;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::mpsc;

/// Batches written down together; while the store is slow, one call takes what has come meanwhile.
const TOGETHER: usize = 16;

/// What one batch of events leaves to be stored.
#[derive(Default)]
pub(super) struct Written {
    pub(super) ends: Vec<Settle>,
    pub(super) words: Vec<Feedback>,
}

/// Runs until the pump has ended and every end is with the store.
pub(super) async fn run(core: Arc<Core>, mut ended: mpsc::Receiver<Written>) {
    let mut batches = Vec::with_capacity(TOGETHER);
    while ended.recv_many(&mut batches, TOGETHER).await > 0 {
        let written = batches.drain(..).reduce(|mut all, next| {
            all.ends.extend(next.ends);
            all.words.extend(next.words);
            all
        });
        let Some(Written { ends, words }) = written else { continue };
        let ends: Vec<Settle> = ends.into_iter().filter(|_| !planted_in(Planted::LosesEnds, 8)).collect();
        let count = ends.len() as u64;
        if let Err(error) = core.store.settle(ends).await {
            core.stats.settles_failed.fetch_add(count, Relaxed);
            tracing::warn!(%error, count, "acks were not recorded; these messages will be delivered again");
        }
        let count = words.len() as u64;
        if let Err(error) = core.store.feedback(words).await {
            core.stats.feedback_dropped.fetch_add(count, Relaxed);
            tracing::warn!(%error, count, "what devices said of messages was not recorded");
        }
    }
}
