//! When not to ask a service that does not answer. Times are the hub's monotonic milliseconds.

use std::collections::VecDeque;

/// So many failures open it…
const FAILURES_MAX: usize = 5;
/// …within this time.
const WINDOW_MS: u64 = 10_000;
/// So long nobody asks; then one does.
const OPEN_MS: u64 = 5_000;

/// Open: nobody asks. Half open: one asks, and what comes of it decides.
#[derive(Default)]
pub(super) struct Breaker {
    failed_at: VecDeque<u64>,
    /// Open until then, or half open afterwards.
    open_until: Option<u64>,
    /// Somebody asks while it is half open.
    probing: bool,
}

impl Breaker {
    /// Whether to ask now. Each yes is followed by [`Breaker::succeeded`] or [`Breaker::failed`].
    ///
    /// # Errors
    /// How long nobody asks, milliseconds.
    pub(super) fn may_ask(&mut self, now_ms: u64) -> Result<(), u64> {
        match self.open_until {
            None => Ok(()),
            Some(until) if now_ms >= until && !self.probing => {
                self.probing = true;
                Ok(())
            }
            Some(until) => Err(until.saturating_sub(now_ms).max(1)),
        }
    }

    pub(super) fn succeeded(&mut self) {
        *self = Breaker::default();
    }

    pub(super) fn failed(&mut self, now_ms: u64) {
        while self.failed_at.front().is_some_and(|at| at + WINDOW_MS <= now_ms) {
            self.failed_at.pop_front();
        }
        self.failed_at.push_back(now_ms);
        if self.probing || self.failed_at.len() >= FAILURES_MAX {
            self.failed_at.clear();
            self.open_until = Some(now_ms + OPEN_MS);
            self.probing = false;
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open_until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_five_failures_and_one_asks_after_five_seconds() {
        let mut breaker = Breaker::default();
        for at in 0..4 {
            assert_eq!(breaker.may_ask(at), Ok(()));
            breaker.failed(at);
        }
        assert!(!breaker.is_open());
        breaker.failed(9_000);
        assert_eq!(breaker.may_ask(9_001), Err(4_999));
        assert_eq!(breaker.may_ask(14_000), Ok(()));
        assert!(breaker.may_ask(14_000).is_err(), "a second one asks while the first waits");
        breaker.failed(14_500);
        assert_eq!(breaker.may_ask(19_499), Err(1));
        assert_eq!(breaker.may_ask(19_500), Ok(()));
        breaker.succeeded();
        assert_eq!((breaker.may_ask(19_500), breaker.is_open()), (Ok(()), false));
    }

    #[test]
    fn failures_that_are_far_apart_leave_it_closed() {
        let mut breaker = Breaker::default();
        for number in 0..100 {
            breaker.failed(number * 2_500);
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn answers_that_were_under_way_when_it_opened_do_not_hold_it_open_for_ever() {
        let mut breaker = Breaker::default();
        for _ in 0..20 {
            breaker.failed(100);
        }
        assert_eq!(breaker.may_ask(5_100), Ok(()));
    }
}
