//! Who does something too often: devices that displace each other, addresses that bring bad logins.
//!
//! A key may do a thing so often in a window (a leaky bucket). One more time bars it for a second, the next one for two,
//! and so on up to a limit; each window in which it rests after that takes one step back. What is barred is for the caller
//! to say.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

/// Keys that one half of a guard's memory holds (about 48 bytes each). A full half becomes the older one, and what has not
/// been seen since the last time is forgotten: a flood of keys makes a guard forgetful, never large.
const KEYS_MAX: usize = 32_768;

/// How often is too often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// Times in a window that cost nothing.
    pub(crate) free: u32,
    /// The window, milliseconds.
    pub(crate) window_ms: u64,
    /// The longest bar, seconds; the first is one.
    pub(crate) most_s: u16,
}

/// Takeovers of one device (LIMITS 7.1).
pub(crate) const TAKEOVERS: Rule = Rule { free: 5, window_ms: 60_000, most_s: 60 };
/// Bad logins from one address (LIMITS 7.2).
pub(crate) const BAD_LOGINS: Rule = Rule { free: 20, window_ms: 60_000, most_s: 300 };

#[derive(Clone, Copy, Default)]
struct Strikes {
    count_milli: u64,
    at_ms: u64,
    barred_until_ms: u64,
    step: u32,
}

struct Memory<K> {
    young: HashMap<K, Strikes>,
    old: HashMap<K, Strikes>,
    turned_ms: u64,
}

/// Counts by key. Times are those of one monotonic clock.
pub(crate) struct Guard<K> {
    rule: Rule,
    keys_max: usize,
    memory: Mutex<Memory<K>>,
}

impl<K: Eq + Hash + Copy> Guard<K> {
    pub(crate) fn new(rule: Rule) -> Guard<K> {
        Guard::bounded(rule, KEYS_MAX)
    }

    fn bounded(rule: Rule, keys_max: usize) -> Guard<K> {
        let memory = Memory { young: HashMap::new(), old: HashMap::new(), turned_ms: 0 };
        Guard { rule, keys_max, memory: Mutex::new(memory) }
    }

    /// Seconds for which the key is barred, rounded up; 0: it is not.
    pub(crate) fn barred_s(&self, key: K, now_ms: u64) -> u16 {
        let memory = self.memory.lock();
        let strikes = memory.young.get(&key).or_else(|| memory.old.get(&key));
        let left_ms = strikes.map_or(0, |strikes| strikes.barred_until_ms.saturating_sub(now_ms));
        left_ms.div_ceil(1000) as u16
    }

    /// Counts one time; the seconds for which it bars the key from now on, 0 if it does not.
    pub(crate) fn strike(&self, key: K, now_ms: u64) -> u16 {
        let rule = self.rule;
        let mut memory = self.memory.lock();
        memory.turn(now_ms, rule.window_ms + u64::from(rule.most_s) * 1000, self.keys_max);
        let mut strikes = memory.old.remove(&key).or_else(|| memory.young.remove(&key)).unwrap_or_default();
        let leaked = now_ms.saturating_sub(strikes.at_ms) * u64::from(rule.free) * 1000 / rule.window_ms;
        let rested = now_ms.saturating_sub(strikes.at_ms.max(strikes.barred_until_ms)) / rule.window_ms;
        strikes.count_milli = strikes.count_milli.saturating_sub(leaked) + 1000;
        strikes.step = strikes.step.saturating_sub(u32::try_from(rested).unwrap_or(u32::MAX));
        strikes.at_ms = now_ms;
        let bars = strikes.count_milli > u64::from(rule.free) * 1000 || strikes.step > 0;
        let bar_s = if bars { (1_u32 << strikes.step.min(15)).min(rule.most_s.into()) as u16 } else { 0 };
        if bars {
            strikes.barred_until_ms = now_ms + u64::from(bar_s) * 1000;
            // Not beyond the step that reaches the limit, or a rest would change nothing for a long time.
            strikes.step = (strikes.step + 1).min(u16::BITS - rule.most_s.leading_zeros());
        }
        memory.young.insert(key, strikes);
        bar_s
    }

    /// Keys remembered now.
    pub(crate) fn len(&self) -> usize {
        let memory = self.memory.lock();
        memory.young.len() + memory.old.len()
    }
}

impl<K> Memory<K> {
    fn turn(&mut self, now_ms: u64, kept_ms: u64, keys_max: usize) {
        if self.young.len() >= keys_max || now_ms.saturating_sub(self.turned_ms) >= kept_ms {
            self.old = std::mem::take(&mut self.young);
            self.turned_ms = now_ms;
        }
    }
}

/// An address as bad logins are counted: whoever has one IPv6 address has the other 2^64 of its network.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_sixth_takeover_of_a_minute_bars_for_a_second_and_each_next_one_longer() {
        let guard = Guard::new(TAKEOVERS);
        let mut now_ms = 1_000_000;
        for _ in 0..5 {
            assert_eq!(guard.strike(7, now_ms), 0);
        }
        let mut bars = Vec::new();
        for _ in 0..9 {
            let bar_s = guard.strike(7, now_ms);
            assert_eq!(guard.barred_s(7, now_ms), bar_s);
            assert_eq!(guard.barred_s(8, now_ms), 0, "another key");
            now_ms += u64::from(bar_s) * 1000;
            assert_eq!(guard.barred_s(7, now_ms), 0);
            bars.push(bar_s);
        }
        assert_eq!(bars, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }

    #[test]
    fn five_a_minute_are_never_barred_and_a_rest_lets_the_bars_shrink() {
        let guard = Guard::new(TAKEOVERS);
        for n in 0..100 {
            assert_eq!(guard.strike(7, n * 12_000), 0, "{n}");
        }
        let mut now_ms = 10_000_000;
        for _ in 0..8 {
            guard.strike(7, now_ms);
        }
        assert_eq!(guard.barred_s(7, now_ms), 4);
        now_ms += 4_000 + 2 * 60_000;
        assert_eq!(guard.strike(7, now_ms), 2, "two steps back");
        now_ms += 3_600_000;
        assert_eq!(guard.strike(7, now_ms), 0);
    }

    #[test]
    fn a_flood_of_keys_does_not_grow_the_memory_and_does_not_free_who_is_barred() {
        let guard = Guard::bounded(BAD_LOGINS, 100);
        for _ in 0..21 {
            guard.strike(u64::MAX, 5);
        }
        for key in 0..150 {
            guard.strike(key, 6);
        }
        assert_eq!(guard.barred_s(u64::MAX, 7), 1);
        for key in 0..10_000 {
            guard.strike(key, 7);
            assert!(guard.len() <= 200);
        }
    }

    #[test]
    fn addresses_are_counted_by_network() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
