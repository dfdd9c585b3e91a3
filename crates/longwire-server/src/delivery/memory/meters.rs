//! What each app has and does now, and the pace of what it may do.

use crate::domain::AppId;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Tries to win a step against other requests; who loses them all is let pass.
const TRIES: usize = 16;

/// So many in a span may come, all of them at once after a rest: a generic cell rate bucket. Times are monotonic nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rate {
    /// How many; not 0.
    pub(crate) most: u64,
    /// The span, nanoseconds.
    pub(crate) span_ns: u64,
}

/// The moment at which all that was taken would have been due.
#[derive(Debug, Default)]
pub(crate) struct Bucket(AtomicU64);

impl Bucket {
    /// Takes so many, and more than the rate only when nothing was taken for a span. Else, how long to wait, nanoseconds.
    pub(crate) fn take(&self, wanted: u64, rate: Rate, now_ns: u64) -> Result<(), u64> {
        let cost_ns = wanted.saturating_mul(rate.period_ns());
        for _ in 0..TRIES {
            let due_ns = self.0.load(Relaxed);
            let next_ns = due_ns.max(now_ns).saturating_add(cost_ns);
            let until_ns = now_ns.saturating_add(rate.span_ns.max(cost_ns));
            if next_ns > until_ns {
                return Err(next_ns - until_ns);
            }
            if self.0.compare_exchange(due_ns, next_ns, Relaxed, Relaxed).is_ok() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// How many may be taken now, and in how many nanoseconds all may.
    pub(crate) fn left(&self, rate: Rate, now_ns: u64) -> (u64, u64) {
        let ahead_ns = self.0.load(Relaxed).saturating_sub(now_ns);
        ((rate.span_ns.saturating_sub(ahead_ns) / rate.period_ns()).min(rate.most), ahead_ns)
    }
}

impl Rate {
    fn period_ns(self) -> u64 {
        (self.span_ns / self.most.max(1)).max(1)
    }
}

/// One app's.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Requests to the API.
    pub(crate) requests: Bucket,
    /// Messages by the API.
    pub(crate) messages: Bucket,
    /// Those of them for many.
    pub(crate) broadcasts: Bucket,
    /// Sessions, those being decided included.
    pub(crate) connections: AtomicU64,
    /// Messages accepted.
    pub(crate) accepted: AtomicU64,
    /// Deliveries that devices acked.
    pub(crate) delivered: AtomicU64,
    /// Requests, messages and logins refused by a quota.
    pub(crate) refused: AtomicU64,
}

/// All apps'; as many entries as there were apps.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    by_app: RwLock<HashMap<AppId, Arc<Meter>>>,
}

impl Meters {
    /// Without taking a share of it.
    pub(crate) fn with<T>(&self, app: AppId, look: impl FnOnce(&Meter) -> T) -> T {
        match self.by_app.read().get(&app) {
            Some(meter) => look(meter),
            None => look(&Meter::default()),
        }
    }

    pub(crate) fn of(&self, app: AppId) -> Arc<Meter> {
        if let Some(meter) = self.by_app.read().get(&app) {
            return meter.clone();
        }
        self.by_app.write().entry(app).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_span_lets_so_many_pass_and_says_exactly_when_the_next_may() {
        let (bucket, rate) = (Bucket::default(), Rate { most: 4, span_ns: SECOND });
        for left in (0..4).rev() {
            assert_eq!(bucket.take(1, rate, SECOND), Ok(()));
            assert_eq!(bucket.left(rate, SECOND).0, left);
        }
        assert_eq!(bucket.take(1, rate, SECOND), Err(SECOND / 4));
        assert_eq!(bucket.take(1, rate, SECOND + SECOND / 4 - 1), Err(1));
        assert_eq!(bucket.take(1, rate, SECOND + SECOND / 4), Ok(()));
        assert_eq!(bucket.left(rate, 9 * SECOND), (4, 0), "a rest brings all back, and no more");
    }

    #[test]
    fn what_is_more_than_the_rate_passes_after_a_rest_and_is_paid_for() {
        let (bucket, rate) = (Bucket::default(), Rate { most: 10, span_ns: SECOND });
        assert_eq!(bucket.take(30, rate, SECOND), Ok(()));
        assert_eq!(bucket.take(1, rate, SECOND), Err(2 * SECOND + SECOND / 10));
        assert_eq!(bucket.left(rate, SECOND), (0, 3 * SECOND));
    }
}
