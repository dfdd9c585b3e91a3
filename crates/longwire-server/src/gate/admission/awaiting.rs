//! The connections of one shard that have not said CONNECT, oldest first. A device says it within a round trip, so many
//! young ones are a fleet that comes back: the next ones wait in the backlog until these have gone on. Many old ones are slow
//! on purpose: then the bounds of addresses hold, and the oldest makes room.

use crate::delivery::border::Handle;
use std::collections::VecDeque;

/// See the module. A connection is young in the second in which it came and in the next.
pub(in crate::gate) struct Awaiting {
    /// With entries of connections that went on or went away, until they are met: at most twice `max`, and one turn's.
    queue: VecDeque<Handle>,
    count: usize,
    max: usize,
    /// The second that was looked at last, and how many came in it and in the one before.
    second: u32,
    young: [usize; 2],
}

impl Awaiting {
    pub(in crate::gate) fn new(max: usize) -> Awaiting {
        Awaiting { queue: VecDeque::new(), count: 0, max: max.max(2), second: 0, young: [0; 2] }
    }

    pub(in crate::gate) fn count(&self) -> usize {
        self.count
    }

    /// Half of the places are taken by young ones: let them go on before more come in.
    pub(in crate::gate) fn is_hurried(&mut self, now_s: u32) -> bool {
        self.turn(now_s);
        self.young() >= self.max / 2
    }

    /// Half of the places are taken by old ones: the bound of each address holds.
    pub(in crate::gate) fn is_crowded(&mut self, now_s: u32) -> bool {
        self.turn(now_s);
        self.count.saturating_sub(self.young()) >= self.max.div_ceil(2)
    }

    /// All places are taken: the oldest is to make room.
    pub(in crate::gate) fn is_full(&self) -> bool {
        self.count >= self.max
    }

    /// A connection came; `awaits` says of each whether it still stands here.
    pub(in crate::gate) fn enter(&mut self, handle: Handle, now_s: u32, awaits: impl Fn(Handle) -> bool) {
        self.turn(now_s);
        if self.queue.len() >= 2 * self.max {
            self.queue.retain(|handle| awaits(*handle));
        }
        self.queue.push_back(handle);
        self.count += 1;
        self.young[0] += 1;
    }

    /// One that came in this second said CONNECT, or ended.
    pub(in crate::gate) fn leave(&mut self, came_s: u32) {
        self.count = self.count.saturating_sub(1);
        let ago = self.second.saturating_sub(came_s) as usize;
        if let Some(young) = self.young.get_mut(ago) {
            *young = young.saturating_sub(1);
        }
    }

    fn young(&self) -> usize {
        self.young[0] + self.young[1]
    }

    fn turn(&mut self, now_s: u32) {
        match now_s.saturating_sub(self.second) {
            0 => return,
            1 => self.young = [0, self.young[0]],
            _ => self.young = [0, 0],
        }
        self.second = now_s;
    }

    /// The one that waits longest.
    pub(in crate::gate) fn oldest(&mut self, awaits: impl Fn(Handle) -> bool) -> Option<Handle> {
        while let Some(handle) = self.queue.front() {
            if awaits(*handle) {
                return Some(*handle);
            }
            self.queue.pop_front();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::border::ShardId;

    fn handle(slot: u32) -> Handle {
        Handle::new(ShardId(0), slot, 1)
    }

    #[test]
    fn the_oldest_that_still_waits_is_found_and_the_list_stays_short() {
        let mut awaiting = Awaiting::new(10);
        assert_eq!(awaiting.oldest(|_| true), None);
        awaiting.enter(handle(0), 1, |_| true);
        // A slow one stands in front while thousands go by.
        for slot in 1..5000 {
            awaiting.enter(handle(slot), 1, |one| one.slot() == 0);
            assert!(awaiting.queue.len() <= 20);
            awaiting.leave(1);
        }
        assert_eq!(awaiting.oldest(|one| one.slot() == 0), Some(handle(0)));
        assert_eq!(awaiting.oldest(|one| one.slot() == 4999), Some(handle(4999)));
        assert_eq!((awaiting.count(), awaiting.young()), (1, 1));
    }

    #[test]
    fn young_ones_hurry_and_old_ones_crowd() {
        let mut awaiting = Awaiting::new(10);
        for slot in 0..5 {
            assert!(!awaiting.is_hurried(7));
            awaiting.enter(handle(slot), 7, |_| true);
        }
        assert!(awaiting.is_hurried(7) && awaiting.is_hurried(8) && !awaiting.is_crowded(8));
        assert!(!awaiting.is_hurried(9) && awaiting.is_crowded(9));
        for slot in 5..10 {
            assert!(!awaiting.is_full());
            awaiting.enter(handle(slot), 9, |_| true);
        }
        assert!(awaiting.is_full() && awaiting.is_hurried(9));
        awaiting.leave(9);
        assert!(!awaiting.is_hurried(10) && awaiting.is_crowded(10));
        awaiting.leave(7);
        assert!(!awaiting.is_crowded(10) && awaiting.is_crowded(11), "four old ones, four that get old");
    }
}
