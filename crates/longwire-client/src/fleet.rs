//! A brake for processes that hold many devices: one bucket of tokens for all their connects (004-23).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Connects a second that a fleet makes by default.
pub const FLEET_PER_SECOND: u32 = 200;
/// When a device that found the bucket empty asks again.
const RETRY: Duration = Duration::from_secs(1);

/// A bucket of tokens as a pure function of time: it holds one second's worth and begins full.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    per_second: u32,
    /// Thousandths of tokens.
    tokens: u64,
    last: Duration,
}

impl TokenBucket {
    /// So many tokens a second, at least 1.
    #[must_use]
    pub fn new(per_second: u32) -> TokenBucket {
        let per_second = per_second.max(1);
        TokenBucket { per_second, tokens: u64::from(per_second) * 1000, last: Duration::ZERO }
    }

    /// Takes a token at `now` on any monotonic clock.
    ///
    /// # Errors
    /// There is none; the time to wait before the next try (1 s).
    pub fn take(&mut self, now: Duration) -> Result<(), Duration> {
        let full = u64::from(self.per_second) * 1000;
        let passed_ms = now.saturating_sub(self.last).as_millis().min(1000) as u64;
        if passed_ms > 0 {
            self.tokens = full.min(self.tokens + passed_ms * u64::from(self.per_second));
            self.last = now;
        }
        if self.tokens < 1000 {
            return Err(RETRY);
        }
        self.tokens -= 1000;
        Ok(())
    }
}

/// The bucket of a fleet of devices. Clones share it; give one to each [`DeviceBuilder::fleet`](crate::DeviceBuilder::fleet).
#[derive(Clone, Debug)]
pub struct Fleet {
    start: Instant,
    bucket: Arc<Mutex<TokenBucket>>,
}

impl Fleet {
    /// At most so many connects a second for all devices together, at least 1.
    #[must_use]
    pub fn new(per_second: u32) -> Fleet {
        Fleet { start: Instant::now(), bucket: Arc::new(Mutex::new(TokenBucket::new(per_second))) }
    }

    pub(crate) fn take(&self) -> Result<(), Duration> {
        // A bucket is whole after any panic: taking is one step.
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(self.start.elapsed())
    }
}

impl Default for Fleet {
    /// [`FLEET_PER_SECOND`].
    fn default() -> Self {
        Fleet::new(FLEET_PER_SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_devices_is_let_through_at_the_rate() {
        let mut bucket = TokenBucket::new(200);
        let mut waiting: Vec<Duration> = vec![Duration::ZERO; 1000];
        let mut seconds = [0; 6];
        while let Some(at) = waiting.iter().min().copied() {
            waiting.retain_mut(|due| {
                if *due != at {
                    return true;
                }
                match bucket.take(at) {
                    Ok(()) => seconds[at.as_secs() as usize] += 1,
                    Err(wait) => *due += wait,
                }
                *due != at
            });
        }
        assert_eq!(seconds, [200, 200, 200, 200, 200, 0]);
    }

    #[test]
    fn a_long_rest_saves_no_more_than_a_second() {
        let mut bucket = TokenBucket::new(3);
        let hour = Duration::from_secs(3600);
        assert_eq!((0..10).filter(|_| bucket.take(hour).is_ok()).count(), 3);
        assert_eq!(bucket.take(hour + Duration::from_millis(333)), Err(RETRY), "not a whole token yet");
        assert_eq!(bucket.take(hour + Duration::from_millis(334)), Ok(()));
        assert_eq!(bucket.take(Duration::ZERO), Err(RETRY), "a clock that goes back gives nothing");
    }
}
