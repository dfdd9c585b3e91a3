//! How fast each device sends to the business, or changes itself.
//!
//! A device that sends has one number here: the time at which it would be level again if it sent nothing more. Devices
//! that do not send cost nothing.

use crate::domain::{ClientId, WallMs};
use std::collections::HashMap;

/// One message to the business costs this long, milliseconds: 50 messages a second.
const MESSAGE_MS: u64 = 20;
/// How far a device may be ahead, milliseconds: a burst of 200 messages.
const AHEAD_MS_MAX: u64 = 200 * MESSAGE_MS;
/// Devices remembered by one shard's pump, about 24 bytes each; while there are more that sent within their
/// [`AHEAD_MS_MAX`], a further one is refused.
const SENDERS_MAX: usize = 65_536;
/// A full table is searched for devices that are level at most this often, milliseconds.
const SEARCH_EVERY_MS: u64 = 1000;

/// The devices that sent lately.
pub(crate) struct Senders {
    level_at: HashMap<ClientId, u64>,
    search_at: u64,
    message_ms: u64,
    ahead_ms_max: u64,
}

impl Default for Senders {
    fn default() -> Senders {
        Senders::with(MESSAGE_MS, AHEAD_MS_MAX)
    }
}

impl Senders {
    /// For messages of which each costs `message_ms`, and a device may be ahead `ahead_ms_max`.
    pub(crate) fn with(message_ms: u64, ahead_ms_max: u64) -> Senders {
        Senders { level_at: HashMap::new(), search_at: 0, message_ms, ahead_ms_max }
    }

    /// Whether the device may send one more message now; if so, it is counted.
    pub(crate) fn admit(&mut self, client: ClientId, now: WallMs) -> bool {
        let (message_ms, ahead_ms_max) = (self.message_ms, self.ahead_ms_max);
        let level_at = match self.level_at.get_mut(&client) {
            Some(level_at) => level_at,
            None => {
                if !self.has_room(now) {
                    return false;
                }
                self.level_at.entry(client).or_default()
            }
        };
        let after = (*level_at).max(now.0) + message_ms;
        if after > now.0 + ahead_ms_max {
            return false;
        }
        *level_at = after;
        true
    }

    fn has_room(&mut self, now: WallMs) -> bool {
        if self.level_at.len() >= SENDERS_MAX && now.0 >= self.search_at {
            self.search_at = now.0 + SEARCH_EVERY_MS;
            self.level_at.retain(|_, level_at| *level_at > now.0);
            self.level_at.shrink_to(SENDERS_MAX / 4);
        }
        self.level_at.len() < SENDERS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_200_passes_and_then_50_a_second() {
        let mut senders = Senders::default();
        let burst = (0..500).filter(|_| senders.admit(ClientId(1), WallMs(10_000))).count();
        assert_eq!(burst, 200);
        let second: usize = (1..=1000).filter(|ms| senders.admit(ClientId(1), WallMs(10_000 + ms))).count();
        assert_eq!(second, 50);
        assert!(senders.admit(ClientId(2), WallMs(10_000)));
    }

    #[test]
    fn a_full_table_refuses_new_senders_until_others_are_level() {
        let mut senders = Senders::default();
        for number in 0..SENDERS_MAX as u64 {
            assert!(senders.admit(ClientId(number), WallMs(1000)));
        }
        assert!(!senders.admit(ClientId(u64::MAX), WallMs(1000)));
        assert!(senders.admit(ClientId(5), WallMs(1000)));
        assert!(senders.admit(ClientId(u64::MAX), WallMs(1000 + SEARCH_EVERY_MS)));
        assert_eq!(senders.level_at.len(), 1);
    }
}
