//! Ends of deliveries on their way to the store.

use super::super::hub::Core;
use crate::planted::{Fault, planted_in};
use crate::store::port::Settle;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::sync::mpsc;

/// Batches written down together; while the store is slow, one call takes what has come meanwhile.
const TOGETHER: usize = 16;

/// Runs until the pump has ended and every end is with the store.
pub(super) async fn run(core: Arc<Core>, mut ended: mpsc::Receiver<Vec<Settle>>) {
    let mut batches = Vec::with_capacity(TOGETHER);
    while ended.recv_many(&mut batches, TOGETHER).await > 0 {
        let ends = batches.drain(..).reduce(|mut all, next| {
            all.extend(next);
            all
        });
        let Some(ends) = ends else { continue };
        let ends: Vec<Settle> = ends.into_iter().filter(|_| !planted_in(Fault::LosesEnds, 8)).collect();
        let count = ends.len() as u64;
        if let Err(error) = core.store.settle(ends).await {
            core.stats.settles_failed.fetch_add(count, Relaxed);
            tracing::warn!(%error, count, "acks were not recorded; these messages will be delivered again");
        }
    }
}
