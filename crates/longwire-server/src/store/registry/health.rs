//! Whether the registry answers, for the callers, the metrics and the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use tokio::sync::Notify;

/// Whether the registry answers. Clones share it.
#[derive(Clone, Default, Debug)]
pub struct RegistryHealth {
    state: Arc<State>,
}

#[derive(Default, Debug)]
struct State {
    down: AtomicBool,
    /// A server's database that is not surely ours: nothing is asked of it.
    closed: AtomicBool,
    /// The number of the connection that has the lock of a server's database; 0: there is no such lock.
    holder: AtomicI64,
    errors: AtomicU64,
    doubt: Notify,
}

impl RegistryHealth {
    /// The last thing that was asked was answered.
    #[must_use]
    pub fn is_up(&self) -> bool {
        !self.state.down.load(Relaxed)
    }

    /// Questions that were not answered since the start.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.state.errors.load(Relaxed)
    }

    pub(super) fn answered(&self) {
        if !self.is_closed() && self.state.down.swap(false, Relaxed) {
            tracing::info!("the registry answers again");
        }
    }

    /// The keeper of a server's lock is asked to look at once.
    pub(super) fn failed(&self, error: &sqlx::Error) {
        self.state.errors.fetch_add(1, Relaxed);
        if !self.state.down.swap(true, Relaxed) {
            tracing::error!(%error, "the registry does not answer; registrations and administration wait for it, devices and pushes do not");
        }
        self.state.doubt.notify_one();
    }

    pub(super) fn close(&self) {
        self.state.closed.store(true, Relaxed);
    }

    pub(super) fn open(&self) {
        self.state.closed.store(false, Relaxed);
        self.answered();
    }

    pub(super) fn holder(&self) -> i64 {
        self.state.holder.load(Relaxed)
    }

    pub(super) fn held_by(&self, connection: i64) {
        self.state.holder.store(connection, Relaxed);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state.closed.load(Relaxed)
    }

    pub(super) async fn doubted(&self) {
        self.state.doubt.notified().await;
    }
}
