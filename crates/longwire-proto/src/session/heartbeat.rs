//! When a device beats, as a pure function of time.
//!
//! The interval begins at the plan's start and grows only by successes: after [`ANSWERS_TO_GROW`] answered PINGs in a
//! row it doubles, announced to the server before it changes, so that the server's idle limit always covers it. A miss
//! never stretches it: the next PINGs come at the start's pace, the last of them is a quick probe, then the server is
//! lost. Business traffic brings it back to the start (004-16). The server says in WELCOME where in the interval the first
//! beat falls, and whether PINGs are padded; beats that are padded also come early by a part of the interval that differs
//! each time.

use super::Millis;
use crate::limit::{
    EARLY_BEAT_PERCENT_MAX, HEARTBEAT_S_RANGE, PADDING_BYTES_RANGE, PONGS_MISSED_MAX, PROBE_WAIT_MS,
};
use crate::wire::{Welcome, mix};
use std::ops::RangeInclusive;

/// Answered PINGs in a row after which the interval grows.
const ANSWERS_TO_GROW: u8 = 3;

/// How a device means to beat. The server's range limits it at WELCOME.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HeartbeatPlan {
    /// The interval to begin with and to fall back to, seconds.
    pub start_s: u16,
    /// To how much it may grow, seconds; not above `start_s` = it never grows (004-15: 600).
    pub longest_s: u16,
    /// Whether the interval that the server asks for in WELCOME replaces `start_s`.
    pub assigned: bool,
    /// Whether each PING carries 48 to 112 bytes that look random, for carriers that throttle small packets of one
    /// size (004-32). Without it PINGs are padded as the server says in WELCOME.
    pub padded: bool,
}

impl HeartbeatPlan {
    /// The same interval always, bare PINGs.
    #[must_use]
    pub const fn fixed(seconds: u16) -> HeartbeatPlan {
        HeartbeatPlan { start_s: seconds, longest_s: seconds, assigned: false, padded: false }
    }
}

/// What is to be done at the deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Beat {
    /// Send a PING, and before it INTERVAL if another interval is to be announced.
    Ping { announce: Option<u16> },
    /// Three PINGs without any sign of the server (004-20).
    Lost,
}

/// The heartbeat of one connection.
#[derive(Debug)]
pub(super) struct Heartbeat {
    plan: HeartbeatPlan,
    /// Start and end of the growth, within the server's range.
    start_s: u16,
    longest_s: u16,
    interval_s: u16,
    /// The longest interval after which a PING was answered.
    proven_s: u16,
    /// PINGs since the server was last heard.
    unanswered: u8,
    /// Answers in a row at this interval.
    answered: u8,
    due: Millis,
    last_ping: Millis,
    /// Padding as WELCOME asked for it, bytes at most.
    padding_max: u8,
    /// What makes this device's early beats different from another's.
    seed: u16,
}

impl Heartbeat {
    /// Before WELCOME: due when the answer to CONNECT is given up.
    pub(super) fn new(plan: HeartbeatPlan, now: Millis, give_up: Millis) -> Heartbeat {
        Heartbeat {
            plan,
            start_s: plan.start_s,
            longest_s: plan.longest_s.max(plan.start_s),
            interval_s: plan.start_s,
            proven_s: 0,
            unanswered: 0,
            answered: 0,
            due: give_up,
            last_ping: now,
            padding_max: 0,
            seed: 0,
        }
    }

    pub(super) fn replan(&mut self, plan: HeartbeatPlan) {
        *self = Heartbeat::new(plan, self.last_ping, self.due);
    }

    pub(super) fn interval_s(&self) -> u16 {
        self.interval_s
    }

    /// How many bytes a PING carries; `None` = it is bare.
    pub(super) fn padding(&self) -> Option<RangeInclusive<u8>> {
        match (self.plan.padded, self.padding_max) {
            (true, _) => Some(PADDING_BYTES_RANGE),
            (false, 0) => None,
            (false, most) => Some(0..=most),
        }
    }

    pub(super) fn due(&self) -> Millis {
        self.due
    }

    /// Milliseconds since the last PING.
    pub(super) fn since_ping(&self, now: Millis) -> u64 {
        now.0.saturating_sub(self.last_ping.0)
    }

    /// The plan for the next connection. If the silence of a grown interval was not survived, the next one grows no
    /// further than what was answered.
    pub(super) fn next_plan(&self) -> HeartbeatPlan {
        let mut plan = self.plan;
        if self.unanswered > 0 && self.is_grown() {
            plan.longest_s = self.proven_s.max(self.start_s);
        }
        plan
    }

    /// Logged in; the interval to announce if it is not the one that CONNECT announced.
    ///
    /// A fleet that logs in together must not beat together: the server says at what part of the interval the first PING
    /// comes, whatever interval it is (004-07).
    pub(super) fn welcome(&mut self, welcome: &Welcome, client: u64, now: Millis) -> Option<u16> {
        let announced = self.interval_s;
        // Not `clamp`, which panics on a range that a server got wrong.
        let within = |seconds: u16| seconds.min(welcome.heartbeat_max_s).max(welcome.heartbeat_min_s).max(1);
        let start = if self.plan.assigned && welcome.heartbeat_s > 0 {
            welcome.heartbeat_s
        } else {
            self.plan.start_s
        };
        self.start_s = within(start);
        // Beyond what the protocol allows a server would clamp what is announced, and judge by it.
        self.longest_s = within(self.plan.longest_s.min(*HEARTBEAT_S_RANGE.end())).max(self.start_s);
        self.interval_s = self.start_s;
        self.padding_max = welcome.padding_max;
        self.seed = (mix(&mut { client }) >> 48) as u16;
        self.due = Millis(now.0 + ((ms(self.interval_s) * (u64::from(welcome.phase) + 1)) >> 16));
        (self.interval_s != announced).then_some(self.interval_s)
    }

    /// Anything came from the server. True if a PING was waiting for it.
    pub(super) fn heard(&mut self) -> bool {
        let awaited = self.unanswered > 0;
        if awaited {
            self.unanswered = 0;
            self.due = self.next_after(self.last_ping);
        }
        awaited
    }

    /// A PING was answered: a success. The interval to announce if it grows.
    pub(super) fn answered(&mut self) -> Option<u16> {
        self.proven_s = self.proven_s.max(self.interval_s);
        self.answered = self.answered.saturating_add(1);
        if self.answered < ANSWERS_TO_GROW || self.interval_s >= self.longest_s {
            return None;
        }
        self.answered = 0;
        self.interval_s = self.interval_s.saturating_mul(2).min(self.longest_s);
        self.due = self.next_after(self.last_ping);
        Some(self.interval_s)
    }

    /// Something other than heartbeats passed. What the device sends is a sign of life itself, so `ours` puts the next
    /// PING off; but not while one is unanswered, or a device that only talks would never find out that nobody
    /// listens. The interval to announce if it falls back.
    pub(super) fn business(&mut self, ours: bool, now: Millis) -> Option<u16> {
        self.answered = 0;
        let announce = self.fall_back();
        let next = self.next_after(now);
        if ours && self.unanswered == 0 {
            self.due = next;
        } else {
            self.due = self.due.min(next);
        }
        announce
    }

    /// The deadline has come.
    pub(super) fn beat(&mut self, now: Millis) -> Beat {
        if self.unanswered >= PONGS_MISSED_MAX {
            return Beat::Lost;
        }
        let mut announce = None;
        if self.unanswered > 0 {
            self.answered = 0;
            if self.is_grown() {
                self.plan = self.next_plan();
                self.longest_s = self.plan.longest_s.min(self.longest_s).max(self.start_s);
            }
            announce = self.fall_back();
        }
        self.unanswered += 1;
        self.last_ping = now;
        // An answer is not awaited longer than at the start's pace, however long the device may be silent after it.
        let patience = ms(self.interval_s.min(self.start_s));
        let probe = self.unanswered == PONGS_MISSED_MAX;
        self.due = Millis(now.0 + if probe { patience.min(PROBE_WAIT_MS) } else { patience });
        Beat::Ping { announce }
    }

    /// The path may be gone: the next PING is due at once, and is the quick probe. The interval is not to blame if it is
    /// lost.
    pub(super) fn probe(&mut self, now: Millis) {
        self.unanswered = self.unanswered.max(PONGS_MISSED_MAX - 1);
        self.proven_s = self.proven_s.max(self.interval_s);
        self.due = now;
    }

    /// The beat after a sign of life: an interval later, or up to a fifth of it earlier if PINGs are padded.
    fn next_after(&self, sign: Millis) -> Millis {
        let interval_ms = ms(self.interval_s);
        if self.padding().is_none() {
            return Millis(sign.0 + interval_ms);
        }
        let early_ms = interval_ms * EARLY_BEAT_PERCENT_MAX / 100;
        let mut state = (u64::from(self.seed) << 48) ^ sign.0;
        Millis(sign.0 + interval_ms - mix(&mut state) % (early_ms + 1))
    }

    fn is_grown(&self) -> bool {
        self.interval_s > self.start_s
    }

    fn fall_back(&mut self) -> Option<u16> {
        if !self.is_grown() {
            return None;
        }
        self.interval_s = self.start_s;
        Some(self.start_s)
    }
}

fn ms(seconds: u16) -> u64 {
    u64::from(seconds) * 1000
}
