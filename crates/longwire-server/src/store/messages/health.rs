//! Whether the store can be used, seen from any thread.

use crate::store::port::StoreError;
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// A commit that takes longer means that the engine hangs: pushes are refused as long as it does.
const COMMIT_MAX: Duration = Duration::from_secs(30);

/// The writer's word on the store.
#[derive(Default)]
pub(crate) struct Health(Mutex<State>);

#[derive(Default)]
struct State {
    broken: Option<String>,
    full: Option<StoreError>,
    committing_since: Option<Instant>,
}

impl Health {
    /// The engine failed: nothing more is stored until the store is opened again.
    pub(crate) fn fail(&self, error: &StoreError) {
        tracing::error!(%error, "the message store stopped taking messages; restart the server after the cause is gone");
        self.0.lock().broken.get_or_insert(error.to_string());
    }
    /// Why nothing is stored any more.
    pub(crate) fn broken(&self) -> Option<StoreError> {
        self.0.lock().broken.clone().map(StoreError::Unavailable)
    }
    /// The last look at the disk.
    pub(crate) fn set_room(&self, full: Option<StoreError>) {
        let mut state = self.0.lock();
        if state.full.is_some() != full.is_some() {
            match &full {
                Some(error) => tracing::error!(%error, "pushes are refused"),
                None => tracing::info!("storage has room again"),
            }
        }
        state.full = full;
    }
    pub(crate) fn commit_begins(&self) {
        self.0.lock().committing_since = Some(Instant::now());
    }
    pub(crate) fn commit_ends(&self) {
        self.0.lock().committing_since = None;
    }
    /// Whether pushes are taken.
    pub(crate) fn usable(&self) -> Result<(), StoreError> {
        let state = self.0.lock();
        if let Some(cause) = &state.broken {
            return Err(StoreError::Unavailable(cause.clone()));
        }
        if state.committing_since.is_some_and(|since| since.elapsed() > COMMIT_MAX) {
            return Err(StoreError::Unavailable("the engine has been writing for too long".to_owned()));
        }
        state.full.clone().map_or(Ok(()), Err)
    }
}
