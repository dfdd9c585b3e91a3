//! Counters of the API, read by whoever asks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of the API. Gauges go up and down, counters only rise.
#[derive(Debug, Default)]
pub struct ApiStats {
    /// Connections now.
    pub connections: AtomicU64,
    /// Connections refused because there were too many.
    pub refused: AtomicU64,
    /// Failures of accept.
    pub accept_errors: AtomicU64,
    /// Requests being worked on now.
    pub in_flight: AtomicU64,
    /// Requests answered, by the first digit of the status (index 1 to 5).
    pub answered: [AtomicU64; 6],
    /// Lines that could not be written into the audit log.
    pub audit_failed: AtomicU64,
    /// The audit log was found broken.
    pub audit_broken: AtomicU64,
    /// Pushes accepted.
    pub pushes_accepted: AtomicU64,
}

impl ApiStats {
    pub(super) fn answered(&self, status: u16) {
        let class = usize::from(status / 100).min(self.answered.len() - 1);
        self.answered[class].fetch_add(1, Relaxed);
    }
}

/// One more in a gauge until it is dropped.
pub(super) struct Gauge<'a>(&'a AtomicU64);

impl<'a> Gauge<'a> {
    pub(super) fn up(gauge: &'a AtomicU64) -> Gauge<'a> {
        gauge.fetch_add(1, Relaxed);
        Gauge(gauge)
    }
}

impl Drop for Gauge<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
