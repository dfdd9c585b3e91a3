//! Latencies as a histogram that children can hand over and that adds up.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency told apart, microseconds; longer ones count as this.
const MICROSECONDS_MAX: u64 = 600_000_000;
/// Characters of a stamp at the end of a payload.
pub(crate) const STAMP_BYTES: usize = 16;

/// Latencies of one kind, in microseconds, three significant digits.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    histogram: Histogram<u64>,
}

/// The percentiles of a report, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl std::fmt::Display for Percentiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {:.2}, p99 {:.2}, p999 {:.2}", self.p50, self.p99, self.p999)
    }
}

impl Default for Latencies {
    fn default() -> Self {
        let histogram =
            Histogram::new_with_max(MICROSECONDS_MAX, 3).expect("bounds of the histogram are constant");
        Latencies { histogram }
    }
}

impl Latencies {
    /// Adds one latency, nanoseconds.
    pub(crate) fn record_ns(&mut self, nanoseconds: u64) {
        self.histogram.saturating_record(nanoseconds / 1000);
    }

    /// Adds what a child measured.
    pub(crate) fn add(&mut self, buckets: &[(u64, u64)]) {
        for &(microseconds, count) in buckets {
            self.histogram.saturating_record_n(microseconds, count);
        }
    }

    /// Everything recorded, as (microseconds, how often).
    pub(crate) fn buckets(&self) -> Vec<(u64, u64)> {
        self.histogram.iter_recorded().map(|at| (at.value_iterated_to(), at.count_at_value())).collect()
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.histogram.reset();
    }

    /// `None` when nothing was recorded.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        let at = |quantile| self.histogram.value_at_quantile(quantile) as f64 / 1000.0;
        (!self.histogram.is_empty()).then(|| Percentiles { p50: at(0.5), p99: at(0.99), p999: at(0.999) })
    }
}

/// The stamp that a payload ends with: monotonic nanoseconds in hexadecimal.
pub(crate) fn stamp(now_ns: u64) -> String {
    format!("{now_ns:016x}")
}

/// Reads the stamp at the end of a payload or frame; `None` if it has none.
pub(crate) fn read_stamp(payload: &[u8]) -> Option<u64> {
    let digits = payload.last_chunk::<STAMP_BYTES>()?;
    let mut value = 0_u64;
    for digit in digits {
        value = value << 4 | u64::from(char::from(*digit).to_digit(16)?);
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn percentiles_survive_the_way_through_buckets() {
        let mut one = Latencies::default();
        for milliseconds in 1..=1000_u64 {
            one.record_ns(milliseconds * 1_000_000);
        }
        let mut sum = Latencies::default();
        sum.add(&one.buckets());
        let percentiles = sum.percentiles().unwrap();
        assert_eq!(percentiles, one.percentiles().unwrap());
        assert!((percentiles.p50 - 500.0).abs() < 1.0, "{percentiles:?}");
        assert!((percentiles.p99 - 990.0).abs() < 1.0, "{percentiles:?}");
    }

    #[test]
    fn nothing_recorded_has_no_percentiles() {
        assert_eq!(Latencies::default().percentiles(), None);
    }

    #[test]
    fn a_stamp_is_read_back_and_anything_else_is_not() {
        assert_eq!(read_stamp(format!("hello {}", stamp(123_456)).as_bytes()), Some(123_456));
        assert_eq!(read_stamp(b"short"), None);
        assert_eq!(read_stamp(b"sixteen letters!"), None);
    }
}
