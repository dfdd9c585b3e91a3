//! Who subscribed to one filter: nobody else costs nothing, one costs nothing beyond the filter's entry, some dozen a
//! sorted list, a crowd a bitmap of slots.

use roaring::RoaringBitmap;
use std::collections::HashMap;

/// Subscribers that a list holds; more are a crowd.
const FEW_MAX: usize = 32;

/// What a subscriber wants, in eight bits: maximum QoS (0–1), no local (2), retain as published (3), the subscription has
/// an identifier (4), QoS 1 and 2 come through the mailbox because the session is kept (5).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::gate) struct Wish(u8);

impl Wish {
    const NO_LOCAL: u8 = 1 << 2;
    const RETAIN_AS_PUBLISHED: u8 = 1 << 3;
    const IDENTIFIED: u8 = 1 << 4;
    const KEPT: u8 = 1 << 5;

    /// `qos` is 0 to 2.
    pub(in crate::gate) fn new(qos: u8, no_local: bool, retain_as_published: bool) -> Wish {
        let bit = |is: bool, bit| if is { bit } else { 0 };
        Wish(qos.min(2) | bit(no_local, Wish::NO_LOCAL) | bit(retain_as_published, Wish::RETAIN_AS_PUBLISHED))
    }

    pub(in crate::gate) fn identified(self) -> Wish {
        Wish(self.0 | Wish::IDENTIFIED)
    }

    pub(in crate::gate) fn kept(self) -> Wish {
        Wish(self.0 | Wish::KEPT)
    }

    pub(in crate::gate) fn qos(self) -> u8 {
        self.0 & 3
    }

    pub(in crate::gate) fn is_no_local(self) -> bool {
        self.0 & Wish::NO_LOCAL != 0
    }

    pub(in crate::gate) fn is_retain_as_published(self) -> bool {
        self.0 & Wish::RETAIN_AS_PUBLISHED != 0
    }

    pub(in crate::gate) fn is_identified(self) -> bool {
        self.0 & Wish::IDENTIFIED != 0
    }

    /// It wants packets of QoS 0 as everybody gets them.
    pub(in crate::gate) fn is_plain(self) -> bool {
        self.0 & (Wish::NO_LOCAL | Wish::IDENTIFIED) == 0
    }

    pub(in crate::gate) fn is_kept(self) -> bool {
        self.0 & Wish::KEPT != 0
    }
}

/// A slot (24 bits) and a wish in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Member(u32);

impl Member {
    fn new(slot: u32, wish: Wish) -> Member {
        Member(slot << 8 | u32::from(wish.0))
    }
    fn slot(self) -> u32 {
        self.0 >> 8
    }
    fn wish(self) -> Wish {
        Wish(self.0 as u8)
    }
}

/// The subscribers of one filter; 16 bytes and what they need.
#[derive(Debug, Default)]
pub(in crate::gate) struct Subscribers(Held);

#[derive(Debug, Default)]
enum Held {
    #[default]
    Nobody,
    One(Member),
    // The vector is boxed, so that a filter with one subscriber, which most have, pays 16 bytes and not 24.
    #[allow(clippy::box_collection, reason = "keeps the common case small")]
    Few(Box<Vec<Member>>),
    Crowd(Box<Crowd>),
}

#[derive(Debug)]
struct Crowd {
    slots: RoaringBitmap,
    /// What all want but for `others`.
    common: Wish,
    others: HashMap<u32, Wish>,
}

impl Subscribers {
    /// Adds or changes a subscriber; what it wanted before.
    pub(in crate::gate) fn set(&mut self, slot: u32, wish: Wish) -> Option<Wish> {
        let member = Member::new(slot, wish);
        match &mut self.0 {
            Held::Nobody => {
                self.0 = Held::One(member);
                None
            }
            Held::One(one) if one.slot() == slot => Some(std::mem::replace(one, member).wish()),
            Held::One(one) => {
                let mut few = vec![*one, member];
                few.sort_unstable_by_key(|member| member.slot());
                self.0 = Held::Few(Box::new(few));
                None
            }
            Held::Few(few) => match few.binary_search_by_key(&slot, |member| member.slot()) {
                Ok(at) => Some(std::mem::replace(&mut few[at], member).wish()),
                Err(at) if few.len() < FEW_MAX => {
                    few.insert(at, member);
                    None
                }
                Err(_) => {
                    let mut crowd = Crowd::out_of(few);
                    crowd.set(slot, wish);
                    self.0 = Held::Crowd(Box::new(crowd));
                    None
                }
            },
            Held::Crowd(crowd) => crowd.set(slot, wish),
        }
    }

    /// Takes a subscriber out; what it wanted.
    pub(in crate::gate) fn unset(&mut self, slot: u32) -> Option<Wish> {
        match &mut self.0 {
            Held::Nobody => None,
            Held::One(one) => {
                let wish = (one.slot() == slot).then_some(one.wish())?;
                self.0 = Held::Nobody;
                Some(wish)
            }
            Held::Few(few) => {
                let at = few.binary_search_by_key(&slot, |member| member.slot()).ok()?;
                let wish = few.remove(at).wish();
                if let [one] = few[..] {
                    self.0 = Held::One(one);
                }
                Some(wish)
            }
            Held::Crowd(crowd) => {
                let wish = crowd.unset(slot)?;
                if crowd.slots.is_empty() {
                    self.0 = Held::Nobody;
                }
                Some(wish)
            }
        }
    }

    /// What a slot wants here.
    pub(in crate::gate) fn of(&self, slot: u32) -> Option<Wish> {
        match &self.0 {
            Held::Nobody => None,
            Held::One(one) => (one.slot() == slot).then_some(one.wish()),
            Held::Few(few) => {
                let at = few.binary_search_by_key(&slot, |member| member.slot()).ok()?;
                Some(few[at].wish())
            }
            Held::Crowd(crowd) => crowd.of(slot),
        }
    }

    pub(in crate::gate) fn is_empty(&self) -> bool {
        matches!(self.0, Held::Nobody)
    }

    /// The slots, if they are so few that serving each at once costs less than a round of the carousel.
    pub(in crate::gate) fn few(&self) -> Option<impl Iterator<Item = (u32, Wish)> + '_> {
        let members = match &self.0 {
            Held::Nobody => &[][..],
            Held::One(one) => std::slice::from_ref(one),
            Held::Few(few) => &few[..],
            Held::Crowd(_) => return None,
        };
        Some(members.iter().map(|member| (member.slot(), member.wish())))
    }

    /// Adds all slots to a bitmap.
    pub(in crate::gate) fn add_to(&self, slots: &mut RoaringBitmap) {
        match &self.0 {
            Held::Nobody => {}
            Held::One(one) => {
                slots.insert(one.slot());
            }
            Held::Few(few) => slots.extend(few.iter().map(|member| member.slot())),
            Held::Crowd(crowd) => *slots |= &crowd.slots,
        }
    }
}

impl Crowd {
    fn out_of(few: &[Member]) -> Crowd {
        let common = few.first().map_or(Wish::default(), |first| first.wish());
        let mut crowd = Crowd { slots: RoaringBitmap::new(), common, others: HashMap::new() };
        for member in few {
            crowd.set(member.slot(), member.wish());
        }
        crowd
    }

    fn set(&mut self, slot: u32, wish: Wish) -> Option<Wish> {
        let before = self.of(slot);
        self.slots.insert(slot);
        if wish == self.common {
            self.others.remove(&slot);
        } else {
            self.others.insert(slot, wish);
        }
        before
    }

    fn unset(&mut self, slot: u32) -> Option<Wish> {
        let before = self.of(slot)?;
        self.slots.remove(slot);
        self.others.remove(&slot);
        Some(before)
    }

    fn of(&self, slot: u32) -> Option<Wish> {
        if !self.slots.contains(slot) {
            return None;
        }
        Some(self.others.get(&slot).copied().unwrap_or(self.common))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_filter_with_one_subscriber_pays_sixteen_bytes() {
        assert_eq!(std::mem::size_of::<Subscribers>(), 16);
    }

    proptest! {
        /// However many come and go, it says of each slot what the last word was.
        #[test]
        fn the_last_word_counts(
            steps in prop::collection::vec((0_u32..80, 0_u8..64, 0_u8..4), 1..300),
        ) {
            let (mut subscribers, mut model) = (Subscribers::default(), BTreeMap::new());
            for (slot, bits, act) in steps {
                if act == 0 {
                    prop_assert_eq!(subscribers.unset(slot), model.remove(&slot));
                } else {
                    prop_assert_eq!(subscribers.set(slot, Wish(bits)), model.insert(slot, Wish(bits)));
                }
            }
            for slot in 0..80 {
                prop_assert_eq!(subscribers.of(slot), model.get(&slot).copied());
            }
            prop_assert_eq!(subscribers.is_empty(), model.is_empty());
            let mut slots = RoaringBitmap::new();
            subscribers.add_to(&mut slots);
            prop_assert_eq!(slots.iter().collect::<Vec<_>>(), model.keys().copied().collect::<Vec<_>>());
            if let Some(few) = subscribers.few() {
                prop_assert_eq!(few.collect::<Vec<_>>(), model.into_iter().collect::<Vec<_>>());
            }
        }
    }
}
