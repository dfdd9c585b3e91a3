//! Heartbeats: those that were ordered, or else the devices' own.

use super::Swarm;
use crate::fleet::slot::Step;

/// Heartbeats of one turn at most, so that reading is never far away.
const PINGS_PER_TURN: u64 = 512;

impl Swarm {
    /// Sends the heartbeats that are due: those ordered, or else the devices' own.
    pub(super) fn beat(&mut self) {
        let now = self.now_us();
        let elapsed_s = now.saturating_sub(std::mem::replace(&mut self.turned_us, now)) as f64 / 1e6;
        let own_s = self.plan.as_ref().map_or(1200.0, |plan| f64::from(plan.heartbeat_s.max(1)));
        let (per_s, left) = match &self.pings {
            Some(pings) if pings.per_s > 0.0 => (pings.per_s, pings.left),
            Some(pings) => (f64::INFINITY, pings.left),
            None => (self.live as f64 / own_s, u64::MAX),
        };
        // What a turn cannot send is not saved up: a fleet that is late says so by its rate.
        self.owed = (self.owed + elapsed_s * per_s).min(PINGS_PER_TURN as f64);
        let due = (self.owed as u64).min(left);
        self.owed -= due as f64;
        for _ in 0..due {
            let Some(index) = self.next_live() else { break };
            self.slots[index].since_us = self.now_us() as u32;
            if let Err(error) = self.slots[index].ping() {
                self.leave(index, &error.to_string(), None);
            }
            if let Some(pings) = self.pings.as_mut() {
                pings.left -= 1;
            }
        }
    }

    pub(super) fn next_live(&mut self) -> Option<usize> {
        let count = self.slots.len();
        let found = (0..count)
            .map(|step| (self.cursor + step) % count)
            .find(|index| self.slots[*index].step == Step::Live)?;
        self.cursor = (found + 1) % count;
        Some(found)
    }
}
