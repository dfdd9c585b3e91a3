//! The node's wall clock.

use crate::domain::WallMs;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A wall clock that was read once and goes on by the monotonic clock, see [`WallMs`].
#[must_use]
pub(super) fn wall_clock() -> Arc<dyn Fn() -> WallMs + Send + Sync> {
    let anchor = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let since = Instant::now();
    Arc::new(move || WallMs(u64::try_from((anchor + since.elapsed()).as_millis()).unwrap_or(u64::MAX)))
}
