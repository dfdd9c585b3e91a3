//! How devices connect, are welcomed or refused, are lost, and come back.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use longwire_proto::limit::CONNACK_WAIT_MS;
use longwire_proto::wire::{BackOff, Refusal};
use mio::{Interest, Token};

use super::Swarm;
use crate::clock;
use crate::fleet::connect;
use crate::fleet::slot::{Slot, Step};
use crate::order::{Back, Gather};
use crate::random::Random;
use crate::source::source_of;

/// Time to bring everybody in, at least; and a millisecond for each.
const GATHERING_TIME: Duration = Duration::from_secs(60);
/// The SDK's patience with a connect.
const CONNECT_WAIT_US: u32 = 3_000_000;
/// Tries at once are this far apart, milliseconds, and as much again by chance.
const AT_ONCE_MS: u64 = 50;

impl Swarm {
    pub(super) fn gather(&mut self, mut gather: Gather) {
        let now = self.now_us();
        self.gathering =
            Some(Instant::now() + GATHERING_TIME + Duration::from_millis(gather.devices.len() as u64));
        self.tokens.resize(self.slots.len(), "".into());
        for login in std::mem::take(&mut gather.devices) {
            self.due.push(Reverse((now, self.slots.len() as u32)));
            self.slots.push(Slot::new(login.client));
            self.tokens.push(login.token.into());
        }
        self.plan = Some(gather);
    }

    /// Starts the attempts that are due.
    pub(super) fn start(&mut self) {
        let Some(most) = self.plan.as_ref().map(|plan| plan.under_way_max) else { return };
        let now = self.now_us();
        while self.under_way < most
            && let Some(Reverse((at, index))) = self.due.peek().copied()
            && at <= now
        {
            self.due.pop();
            self.attempt(index as usize, now);
        }
    }

    pub(super) fn attempt(&mut self, index: usize, now: u64) {
        let Some(plan) = &self.plan else { return };
        let opened = connect(source_of(plan.source, index), plan.target).and_then(|mut socket| {
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut socket, Token(index), both)?;
            Ok(socket)
        });
        let slot = &mut self.slots[index];
        slot.attempts = slot.attempts.saturating_add(1);
        slot.since_us = now as u32;
        self.under_way += 1;
        slot.step = Step::Connecting;
        match opened {
            Ok(socket) => slot.socket = Some(socket),
            Err(error) => self.leave(index, &error.to_string(), None),
        }
    }

    /// The device's connection is over; it comes back when it may.
    pub(super) fn leave(&mut self, index: usize, why: &str, told: Option<Refusal>) {
        let slot = &mut self.slots[index];
        let was = std::mem::replace(&mut slot.step, Step::Away);
        (slot.socket, slot.cut) = (None, None);
        why.clone_into(&mut self.why);
        let back = self.plan.as_ref().map_or(Back::Stay, |plan| plan.back);
        match was {
            Step::Away => return,
            Step::Connecting | Step::Joining => self.under_way -= 1,
            Step::Live => {
                self.live -= 1;
                self.closed += 1;
                self.logins.lost += 1;
                slot.attempts = 0;
                if back == Back::Stay {
                    return;
                }
                if self.hold {
                    self.held.push(index as u32);
                    return;
                }
            }
        }
        match told {
            Some(refusal) => {
                let told = self.logins.refused.entry(refusal.reason.label().into()).or_default();
                let first = told.times == 0;
                told.times += 1;
                told.retry_min_s =
                    if first { refusal.retry_after_s } else { told.retry_min_s.min(refusal.retry_after_s) };
                told.retry_max_s = told.retry_max_s.max(refusal.retry_after_s);
                if !refusal.reason.may_retry() {
                    self.logins.given_up += 1;
                    return;
                }
            }
            None if was != Step::Live => self.logins.failed += 1,
            None => {}
        }
        let wait = wait_us(back, was, slot.attempts, told, &mut self.random);
        self.due.push(Reverse((self.now_us() + wait, index as u32)));
    }

    pub(super) fn connected(&mut self, index: usize) {
        let now = self.now_us() as u32;
        let (slot, Some(plan)) = (&mut self.slots[index], &self.plan) else { return };
        let Some(socket) = &slot.socket else { return };
        let sent = match socket.take_error() {
            Ok(None) if socket.peer_addr().is_err() => return,
            Ok(None) => slot.join(&plan.app_key, &self.tokens[index], plan.heartbeat_s),
            Ok(Some(error)) | Err(error) => Err(error),
        };
        (slot.step, slot.since_us) = (Step::Joining, now);
        if let Err(error) = sent {
            self.leave(index, &error.to_string(), None);
        }
    }

    pub(super) fn welcome(&mut self, index: usize) {
        let slot = &mut self.slots[index];
        if slot.step != Step::Joining {
            return;
        }
        (slot.step, slot.attempts) = (Step::Live, 0);
        self.under_way -= 1;
        self.live += 1;
        *self.logins.welcomed.entry(clock::now_ns() / 100_000_000).or_default() += 1;
        if self.plan.as_ref().is_some_and(|plan| plan.back == Back::Stay) && self.live == self.slots.len() {
            self.tokens = Vec::new();
        }
    }

    /// Gives up on servers that do not answer.
    pub(super) fn look(&mut self) {
        let now = self.now_us() as u32;
        for index in 0..self.slots.len() {
            let slot = &self.slots[index];
            let most = match slot.step {
                Step::Connecting => CONNECT_WAIT_US,
                Step::Joining => CONNACK_WAIT_MS as u32 * 1000,
                Step::Away | Step::Live => continue,
            };
            if now.wrapping_sub(slot.since_us) > most {
                self.logins.late += 1;
                self.leave(index, "no answer in time", None);
            }
        }
    }
}

/// How long a device waits before its next attempt, microseconds.
fn wait_us(back: Back, was: Step, attempts: u8, told: Option<Refusal>, random: &mut Random) -> u64 {
    let policy = BackOff::default();
    let last = policy.steps_s.len().saturating_sub(1);
    let step_s = u64::from(policy.steps_s[last.min(usize::from(attempts))]);
    let own_ms = match (back, was) {
        (Back::Spaced, _) => step_s * 1000 + random.below(u64::from(policy.jitter_ms) + 1),
        (_, Step::Live) => 0,
        _ => AT_ONCE_MS + random.below(AT_ONCE_MS),
    };
    let told_ms = match told {
        Some(refusal) if refusal.retry_after_s > 0 => {
            u64::from(refusal.retry_after_s) * 1000 + random.below(u64::from(policy.jitter_ms) + 1)
        }
        _ => 0,
    };
    own_ms.max(told_ms) * 1000
}
