//! How much a device may send, as a pure function of time: two generic cell rate buckets of four bytes each.
//!
//! A bucket is the moment at which all that was taken so far would have been due at the allowed pace. It may lie ahead of
//! now by the burst. Times are ticks of 100 µs in a u32 that wraps after five days; each read brings an old moment up to
//! now, and no connection is silent for half that time.

use super::Millis;
use crate::limit::INBOUND_PAUSE_MAX_S;

const TICKS_PER_S: u32 = 10_000;

/// What a device may send (LIMITS 7.1). 0 switches a limit off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InboundLimits {
    /// Messages (everything but heartbeats and acks of receipt) per second, at most 10,000.
    pub messages_per_s: u32,
    /// Bytes per second, all frames together.
    pub bytes_per_s: u32,
    /// So many seconds' worth of both may come at once.
    pub burst_s: u32,
    /// Seconds between two heartbeats, kept up.
    pub ping_s: u32,
    /// So many heartbeats may come at once; more are counted, and twice as many end the connection.
    pub pings_burst: u32,
}

impl Default for InboundLimits {
    fn default() -> Self {
        InboundLimits { messages_per_s: 50, bytes_per_s: 512 * 1024, burst_s: 4, ping_s: 5, pings_burst: 12 }
    }
}

/// Where a device stands with its messages and bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pace {
    /// It may go on.
    Within,
    /// It is not to be read for a while, at most [`INBOUND_PAUSE_MAX_S`].
    Ahead,
    /// The pause would be longer than that: it is to be closed.
    FarAhead,
}

/// What a heartbeat is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ping {
    /// In time.
    Due,
    /// Beyond the burst: answered and counted.
    Early,
    /// Beyond twice the burst: the connection is to be closed.
    Flood,
}

/// The two buckets of a connection.
#[derive(Clone, Copy, Debug)]
pub struct InboundRate {
    work: u32,
    pings: u32,
}

impl InboundRate {
    /// Of a connection that begins now.
    #[must_use]
    pub fn new(now: Millis) -> InboundRate {
        InboundRate { work: ticks(now), pings: ticks(now) }
    }

    /// Bytes were read; call first at each read.
    pub fn bytes(&mut self, now: Millis, bytes: usize, limits: &InboundLimits) {
        let now = ticks(now);
        self.pings = now.wrapping_add(ahead(self.pings, now));
        self.work = now.wrapping_add(ahead(self.work, now)).wrapping_add(limits.byte_ticks(bytes));
    }

    /// One of them was a message of so many bytes. It costs its place or its bytes, whichever is more, and the bytes are paid.
    pub fn message(&mut self, bytes: usize, limits: &InboundLimits) {
        let place = TICKS_PER_S.checked_div(limits.messages_per_s).unwrap_or(0);
        self.work = self.work.wrapping_add(place.saturating_sub(limits.byte_ticks(bytes)));
    }

    /// One of them was a heartbeat.
    pub fn ping(&mut self, now: Millis, limits: &InboundLimits) -> Ping {
        let (now, cost) = (ticks(now), limits.ping_s * TICKS_PER_S);
        let before = ahead(self.pings, now);
        self.pings = now.wrapping_add(before).wrapping_add(cost);
        let burst = limits.pings_burst.max(1);
        if before > (2 * burst - 1) * cost {
            Ping::Flood
        } else if before > (burst - 1) * cost {
            Ping::Early
        } else {
            Ping::Due
        }
    }

    /// Whether it may be read on.
    #[must_use]
    pub fn pace(&self, now: Millis, limits: &InboundLimits) -> Pace {
        match ahead(self.work, ticks(now)).saturating_sub(limits.burst_s * TICKS_PER_S) {
            0 => Pace::Within,
            over if over <= INBOUND_PAUSE_MAX_S * TICKS_PER_S => Pace::Ahead,
            _ => Pace::FarAhead,
        }
    }
}

impl InboundLimits {
    fn byte_ticks(&self, bytes: usize) -> u32 {
        if self.bytes_per_s == 0 {
            return 0;
        }
        // Rounded up, so that no read is free; a read has at most 64 KiB.
        (bytes as u64 * u64::from(TICKS_PER_S))
            .div_ceil(u64::from(self.bytes_per_s))
            .min(u64::from(u32::MAX / 4)) as u32
    }
}

fn ticks(now: Millis) -> u32 {
    now.0.wrapping_mul(u64::from(TICKS_PER_S / 1000)) as u32
}

/// By how much a moment lies ahead of now; one that has passed by nothing.
fn ahead(at: u32, now: u32) -> u32 {
    let ahead = at.wrapping_sub(now);
    if ahead > u32::MAX / 2 { 0 } else { ahead }
}
