//! Why a connection is not taken, and when the device may come again: always later, never all together.

use longwire_proto::close::CloseReason;
use longwire_proto::wire::mqtt::Reason;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Why a connection was refused before it said anything, or had to make room. The wire says `full`, the metric
/// says which limit it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rejection {
    /// The node has as many connections as it may.
    Full,
    /// No descriptor was left.
    Descriptors,
    /// The node sheds load (LIMITS 7.3, from `Level::Crowded`).
    Pressure,
    /// The node lets in fewer logins a second than come, and the backlog has not been empty for two seconds.
    LoginRate,
    /// The same, and the address comes faster than its own rate.
    AddressRate,
    /// The address has as many connections open as it may.
    AddressConnections,
    /// The address has as many connections without CONNECT as it may, and the shard has many old ones.
    AddressAwaiting,
    /// The shard has as many connections without CONNECT as it may: the oldest makes room.
    Awaiting,
    /// As many TLS handshakes as may wait for their turn in the shard.
    Handshakes,
    /// The node drains.
    Draining,
}

impl Rejection {
    /// Every reason, in the order of its counters.
    pub const ALL: [Rejection; 10] = [
        Rejection::Full,
        Rejection::Descriptors,
        Rejection::Pressure,
        Rejection::LoginRate,
        Rejection::AddressRate,
        Rejection::AddressConnections,
        Rejection::AddressAwaiting,
        Rejection::Awaiting,
        Rejection::Handshakes,
        Rejection::Draining,
    ];

    /// The word in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Rejection::Full => "full",
            Rejection::Descriptors => "descriptors",
            Rejection::Pressure => "pressure",
            Rejection::LoginRate => "login_rate",
            Rejection::AddressRate => "address_rate",
            Rejection::AddressConnections => "address_connections",
            Rejection::AddressAwaiting => "address_awaiting",
            Rejection::Awaiting => "awaiting",
            Rejection::Handshakes => "handshakes",
            Rejection::Draining => "draining",
        }
    }

    /// Why the connection ends.
    pub(in crate::gate) const fn reason(self) -> CloseReason {
        match self {
            Rejection::Draining => CloseReason::Draining,
            _ => CloseReason::Full,
        }
    }

    /// What an MQTT client is told; in 3.1.1 all of them are code 3 (MQTT-3.2.2-8).
    pub(in crate::gate) const fn said(self) -> Reason {
        match self {
            Rejection::AddressRate => Reason::ConnectionRateExceeded,
            Rejection::AddressConnections | Rejection::AddressAwaiting => Reason::QuotaExceeded,
            Rejection::Draining => Reason::ServerUnavailable,
            _ => Reason::ServerBusy,
        }
    }

    /// Seconds to wait, the least and one more than the most; `None`: in turn, at the pace.
    const fn wait_s(self) -> Option<Range<u16>> {
        match self {
            Rejection::LoginRate | Rejection::AddressRate => None,
            Rejection::Pressure | Rejection::AddressConnections => Some(30..120),
            _ => Some(SOON_S),
        }
    }
}

/// What a refused device waits where nothing says when there will be room, seconds.
const SOON_S: Range<u16> = 5..30;
/// No device is sent away by the pace for longer than this, microseconds.
const TURN_US_MAX: u64 = 60_000_000;
const SECOND_US: u64 = 1_000_000;

/// Says when to come again. Shared by the shards.
#[derive(Default)]
pub(in crate::gate) struct Retry {
    refused: AtomicU32,
    /// The moment given to the last device that the pace refused, monotonic microseconds.
    turn_us: AtomicU64,
}

impl Retry {
    /// Seconds after which a device may come again that was refused for this. `rate`: logins per second let in now.
    pub(super) fn after_s(&self, rejection: Rejection, rate: u32, now_us: u64) -> u16 {
        rejection.wait_s().map_or_else(|| self.in_turn_s(rate, now_us), |range| self.spread_s(&range))
    }

    /// Seconds after which a device may come again whose login ended without success, and nothing says when it would not.
    pub(super) fn soon_s(&self) -> u16 {
        self.spread_s(&SOON_S)
    }

    fn spread_s(&self, range: &Range<u16>) -> u16 {
        let refused = self.refused.fetch_add(1, Relaxed);
        // A prime step, so that neighbours in the backlog come back far apart.
        range.start + (refused.wrapping_mul(37) % u32::from(range.end - range.start)) as u16
    }

    /// One after the other at the rate at which they can be let in, from now on; rounded up to seconds.
    fn in_turn_s(&self, rate: u32, now_us: u64) -> u16 {
        let step_us = SECOND_US / u64::from(rate.max(1));
        let next_us = |last_us: u64| (last_us.max(now_us) + step_us).min(now_us + TURN_US_MAX);
        let last_us = self.turn_us.fetch_update(Relaxed, Relaxed, |last_us| Some(next_us(last_us)));
        let turn_us = next_us(last_us.unwrap_or(now_us));
        turn_us.saturating_sub(now_us).div_ceil(SECOND_US) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_says_when_to_come_again_and_they_are_spread() {
        for rejection in Rejection::ALL {
            let retry = Retry::default();
            let mut waits: Vec<u16> =
                (0..2000).map(|_| retry.after_s(rejection, 100, 5 * SECOND_US)).collect();
            waits.sort_unstable();
            assert!(waits[0] > 0 && waits[1999] < 120, "{rejection:?}: {} to {}", waits[0], waits[1999]);
            let most = waits.chunk_by(PartialEq::eq).map(<[u16]>::len).max();
            assert!(most < Some(200), "{rejection:?}: {most:?} in one second");
        }
        assert!((0..100).all(|_| Retry::default().soon_s() > 0));
    }

    #[test]
    fn who_is_refused_by_the_pace_comes_again_at_the_pace() {
        let retry = Retry::default();
        let now_us = 100 * SECOND_US;
        let waits: Vec<u16> =
            (0..30_000).map(|_| retry.after_s(Rejection::LoginRate, 5000, now_us)).collect();
        assert_eq!((waits[0], waits[29_999]), (1, 6), "30,000 at 5,000 a second");
        assert_eq!(waits.iter().filter(|wait| **wait == 4).count(), 5000);
        let later = retry.after_s(Rejection::AddressRate, 5000, now_us + 60 * SECOND_US);
        assert_eq!(later, 1, "whose turns have passed are no longer in the way");
        let waits = (0..100).map(|_| retry.after_s(Rejection::LoginRate, 1, now_us + 60 * SECOND_US));
        assert_eq!(waits.max(), Some(60), "nobody waits for ever");
    }
}
