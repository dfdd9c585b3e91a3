//! Which connections of the shard belong to which app, and have which label: a bitmap of slots each, so that an audience is
//! evaluated here, never by a list of its members.

use crate::delivery::border::{LabelId, Labelled, Meant, Reach};
use crate::domain::{AppId, ClientId, Position};
use roaring::{MultiOps as _, RoaringBitmap};
use std::collections::HashMap;

/// Labels younger than a broadcast that are looked at one by one; if there may be more, every connection of the app is.
const YOUNGER_MAX: u32 = 4096;

/// The members of all apps.
#[derive(Default)]
pub struct Members {
    apps: HashMap<AppId, AppMembers>,
    labels: HashMap<LabelId, RoaringBitmap>,
    /// The labels of connections that have some, by slot, sorted.
    by_slot: HashMap<u32, Box<[LabelId]>>,
    /// The number after the greatest label that any connection had.
    labels_seen: u32,
}

#[derive(Default)]
struct AppMembers {
    slots: RoaringBitmap,
    /// The last log position that was handed to this shard.
    log_head: Position,
}

/// What is found where a label leaves it open whom it fits.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    /// Who may fit is found too.
    In,
    /// Only who fits for certain.
    Out,
}

impl Open {
    fn other(self) -> Open {
        match self {
            Open::In => Open::Out,
            Open::Out => Open::In,
        }
    }
}

impl Members {
    /// A connection of an app, with its labels, sorted.
    pub fn join(&mut self, app: AppId, slot: u32, labels: Box<[LabelId]>) {
        self.apps.entry(app).or_default().slots.insert(slot);
        self.label(slot, labels);
    }

    pub(super) fn leave(&mut self, app: AppId, slot: u32, labelled: bool) {
        if let Some(members) = self.apps.get_mut(&app) {
            members.slots.remove(slot);
        }
        if labelled {
            self.unlabel(slot);
        }
    }

    /// Gives a slot these labels instead of what it had.
    pub(super) fn label(&mut self, slot: u32, labels: Box<[LabelId]>) {
        self.unlabel(slot);
        if labels.is_empty() {
            return;
        }
        for label in &labels {
            self.labels.entry(*label).or_default().insert(slot);
            if *label != LabelId::UNNUMBERED {
                self.labels_seen = self.labels_seen.max(label.0 + 1);
            }
        }
        self.by_slot.insert(slot, labels);
    }

    fn unlabel(&mut self, slot: u32) {
        for label in self.by_slot.remove(&slot).iter().flatten() {
            if let Some(slots) = self.labels.get_mut(label) {
                slots.remove(slot);
                if slots.is_empty() {
                    self.labels.remove(label);
                }
            }
        }
    }

    /// The slots that a message may concern now, whatever their shares: those that are meant and those that ask the store.
    #[must_use]
    pub fn matching(&self, app: AppId, reach: &Reach) -> RoaringBitmap {
        let Some(members) = self.apps.get(&app) else { return RoaringBitmap::new() };
        if reach.condition == Labelled::Everyone {
            return members.slots.clone();
        }
        let mut slots = self.fitting(&reach.condition, &members.slots, Open::In);
        match self.younger(reach) {
            Some(younger) => slots |= younger & &members.slots,
            None => slots |= &members.slots,
        }
        slots
    }

    /// How many connections of the app a condition fits for certain, and how many there are.
    #[must_use]
    pub fn count(&self, app: AppId, condition: &Labelled) -> (u64, u64) {
        let Some(members) = self.apps.get(&app) else { return (0, 0) };
        let all = members.slots.len();
        match condition {
            Labelled::Everyone => (all, all),
            _ => (self.fitting(condition, &members.slots, Open::Out).len(), all),
        }
    }

    fn fitting(&self, condition: &Labelled, all: &RoaringBitmap, open: Open) -> RoaringBitmap {
        match condition {
            Labelled::Everyone => all.clone(),
            Labelled::Has { labels, perhaps } => {
                let perhaps = perhaps.iter().filter(|_| open == Open::In);
                labels.iter().chain(perhaps).filter_map(|label| self.labels.get(label)).union()
            }
            Labelled::Not(inner) => all - self.fitting(inner, all, open.other()),
            Labelled::All(parts) => {
                let mut slots = all.clone();
                for part in parts {
                    if slots.is_empty() {
                        break;
                    }
                    slots &= self.fitting(part, all, open);
                }
                slots
            }
            Labelled::Any(parts) => {
                let mut slots = RoaringBitmap::new();
                for part in parts {
                    slots |= self.fitting(part, all, open);
                }
                slots
            }
        }
    }

    /// The slots, of whatever app, that have a label younger than the broadcast. `None`: there may be too many to look.
    fn younger(&self, reach: &Reach) -> Option<RoaringBitmap> {
        let mut slots = self.labels.get(&LabelId::UNNUMBERED).cloned().unwrap_or_default();
        let known = reach.labels_known.0;
        if self.labels_seen.saturating_sub(known) > YOUNGER_MAX {
            return None;
        }
        for label in known..self.labels_seen {
            if let Some(labelled) = self.labels.get(&LabelId(label)) {
                slots |= labelled;
            }
        }
        Some(slots)
    }

    /// Whether a connection of the broadcast's app is meant; it may have come to its slot, or changed, since the slots were looked
    /// up.
    pub(super) fn judge(&self, reach: &Reach, slot: u32, client: ClientId) -> Meant {
        reach.judge(client, self.by_slot.get(&slot).map_or(&[], |labels| &labels[..]))
    }

    pub(super) fn log_head(&self, app: AppId) -> Position {
        self.apps.get(&app).map_or(Position::START, |members| members.log_head)
    }

    pub(super) fn log_grew(&mut self, app: AppId, position: Position) {
        let members = self.apps.entry(app).or_default();
        members.log_head = members.log_head.max(position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(labels: &[u32]) -> Labelled {
        Labelled::has(labels.iter().map(|label| LabelId(*label)).collect())
    }

    fn slots(members: &Members, app: u32, condition: Labelled, labels_known: u32) -> Vec<u32> {
        let reach = Reach { condition, labels_known: LabelId(labels_known), ..Reach::everyone() };
        members.matching(AppId(app), &reach).iter().collect()
    }

    #[test]
    fn a_broadcast_concerns_the_members_of_its_app_whom_its_condition_fits() {
        let mut members = Members::default();
        members.join(AppId(1), 10, Box::new([LabelId(1)]));
        members.join(AppId(1), 11, Box::new([LabelId(1), LabelId(2)]));
        members.join(AppId(1), 12, Box::new([]));
        members.join(AppId(2), 13, Box::new([LabelId(9)]));
        assert_eq!(slots(&members, 1, Labelled::Everyone, 20), [10, 11, 12]);
        assert_eq!(slots(&members, 1, has(&[2, 7]), 20), [11]);
        let not = |inner| Labelled::Not(Box::new(inner));
        assert_eq!(slots(&members, 1, not(has(&[2])), 20), [10, 12]);
        assert_eq!(slots(&members, 1, Labelled::All(Box::new([has(&[1]), not(has(&[2]))])), 20), [10]);
        assert_eq!(slots(&members, 1, Labelled::Any(Box::new([has(&[2]), not(has(&[1]))])), 20), [11, 12]);
        members.label(11, Box::new([LabelId(3)]));
        assert_eq!(slots(&members, 1, has(&[2]), 20), [0_u32; 0]);
        members.leave(AppId(1), 11, true);
        assert_eq!(slots(&members, 1, has(&[1, 3]), 20), [10]);
        assert_eq!(slots(&members, 1, Labelled::Everyone, 20), [10, 12]);
        assert_eq!(slots(&members, 3, not(has(&[])), 20), [0_u32; 0], "an app that nobody is of");
    }

    #[test]
    fn who_may_fit_and_who_is_younger_is_concerned_too() {
        let mut members = Members::default();
        members.join(AppId(1), 10, Box::new([LabelId(1)]));
        members.join(AppId(1), 11, Box::new([LabelId(5)]));
        members.join(AppId(1), 12, Box::new([LabelId(8)]));
        members.join(AppId(2), 13, Box::new([LabelId(8), LabelId::UNNUMBERED]));
        let open = || Labelled::Has { labels: Box::new([LabelId(1)]), perhaps: Some(LabelId(5)) };
        let not = |inner| Labelled::Not(Box::new(inner));
        assert_eq!(slots(&members, 1, open(), 9), [10, 11]);
        assert_eq!(slots(&members, 1, not(open()), 9), [11, 12]);
        // Counted is only who fits for certain.
        assert_eq!(members.count(AppId(1), &open()), (1, 3));
        assert_eq!(members.count(AppId(1), &not(open())), (1, 3));
        assert_eq!(members.count(AppId(1), &Labelled::Everyone), (3, 3));
        assert_eq!(members.count(AppId(7), &Labelled::Everyone), (0, 0));
        assert_eq!(slots(&members, 1, open(), 8), [10, 11, 12]);
        members.join(AppId(1), 14, Box::new([LabelId::UNNUMBERED]));
        assert_eq!(slots(&members, 1, open(), 9), [10, 11, 14]);
        members.join(AppId(1), 15, Box::new([LabelId(9 + YOUNGER_MAX)]));
        assert_eq!(slots(&members, 1, open(), 9), [10, 11, 12, 14, 15], "too many to look at");
    }
}
