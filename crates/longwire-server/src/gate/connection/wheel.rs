//! A hashed timing wheel of one-second ticks over the slots of a shard. A connection stands in it once, wherever its next
//! deadline was when it was last looked at; a heartbeat only stores the time of the read, and the wheel asks for the real
//! deadline when it comes by. Links live in the connection records: 12 bytes each, no allocation (000-14).

const TICKS: u32 = 512;
const NONE: u32 = u32::MAX;

/// A slot's place in the wheel.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    next: u32,
    previous: u32,
    due_s: u32,
}

impl Default for Link {
    fn default() -> Self {
        Link { next: NONE, previous: NONE, due_s: 0 }
    }
}

/// Where the links of slots live.
pub trait Links {
    /// The link of a slot; `None` for a slot that is empty.
    fn link(&mut self, slot: u32) -> Option<&mut Link>;
}

/// The wheel. The caller's clock drives it: nothing here reads one.
pub struct Wheel {
    heads: [u32; TICKS as usize],
    now_s: u32,
}

impl Wheel {
    /// The second up to which it was advanced.
    #[must_use]
    pub fn now_s(&self) -> u32 {
        self.now_s
    }

    /// An empty wheel at second 0.
    #[must_use]
    pub fn new() -> Wheel {
        Wheel { heads: [NONE; TICKS as usize], now_s: 0 }
    }

    /// Puts a slot that is not in the wheel under `due_s`, at least one tick and at most one turn of the wheel ahead.
    pub fn insert(&mut self, links: &mut impl Links, slot: u32, due_s: u32) {
        let due_s = due_s.clamp(self.now_s + 1, self.now_s + TICKS - 1);
        let head = &mut self.heads[(due_s % TICKS) as usize];
        let next = std::mem::replace(head, slot);
        if let Some(link) = links.link(slot) {
            *link = Link { next, previous: NONE, due_s };
        }
        if let Some(link) = links.link(next) {
            link.previous = slot;
        }
    }

    /// Takes a slot out whose link was this one; the slot itself may be gone.
    pub fn unlink(&mut self, links: &mut impl Links, link: Link) {
        if let Some(next) = links.link(link.next) {
            next.previous = link.previous;
        }
        if link.previous == NONE {
            self.heads[(link.due_s % TICKS) as usize] = link.next;
        } else if let Some(previous) = links.link(link.previous) {
            previous.next = link.next;
        }
    }

    /// Makes sure that a slot is looked at by `due_s`; does nothing if it stands earlier already.
    pub fn pull_in(&mut self, links: &mut impl Links, slot: u32, due_s: u32) {
        let Some(link) = links.link(slot).copied() else { return };
        if due_s.max(self.now_s + 1) < link.due_s {
            self.unlink(links, link);
            self.insert(links, slot, due_s);
        }
    }

    /// Moves to `now_s` and appends the slots whose look is due; they are out of the wheel then.
    pub fn advance(&mut self, links: &mut impl Links, now_s: u32, due: &mut Vec<u32>) {
        while self.now_s < now_s {
            self.now_s += 1;
            let mut slot = std::mem::replace(&mut self.heads[(self.now_s % TICKS) as usize], NONE);
            while let Some(link) = links.link(slot) {
                due.push(slot);
                slot = std::mem::take(link).next;
            }
        }
    }
}

impl Default for Wheel {
    fn default() -> Self {
        Wheel::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    impl Links for Vec<Link> {
        fn link(&mut self, slot: u32) -> Option<&mut Link> {
            self.get_mut(slot as usize)
        }
    }

    proptest! {
        /// Against a plain map from slot to deadline.
        #[test]
        fn every_slot_comes_due_when_it_stands_there(
            steps in prop::collection::vec((0_u32..24, 0_u8..4, 1_u32..900), 1..200),
        ) {
            let (mut slab, mut wheel) = (vec![Link::default(); 24], Wheel::new());
            let mut model: BTreeMap<u32, u32> = BTreeMap::new();
            let mut now_s = 0;
            for (slot, act, delay) in steps {
                match (act, model.get(&slot).copied()) {
                    (0, None) => {
                        wheel.insert(&mut slab, slot, now_s + delay);
                        model.insert(slot, now_s + delay.min(TICKS - 1));
                    }
                    (1, Some(due_s)) => {
                        wheel.pull_in(&mut slab, slot, now_s + delay);
                        model.insert(slot, due_s.min(now_s + delay));
                    }
                    (2, Some(_)) => {
                        let link = slab[slot as usize];
                        wheel.unlink(&mut slab, link);
                        model.remove(&slot);
                    }
                    _ => {
                        now_s += delay % 90;
                        let mut due = Vec::new();
                        wheel.advance(&mut slab, now_s, &mut due);
                        due.sort_unstable();
                        let expected: Vec<u32> =
                            model.iter().filter(|(_, due_s)| **due_s <= now_s).map(|(slot, _)| *slot).collect();
                        prop_assert_eq!(&due, &expected);
                        model.retain(|_, due_s| *due_s > now_s);
                    }
                }
            }
        }
    }
}
