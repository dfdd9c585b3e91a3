//! Which connections of the shard belong to which app and tag: a bitmap of slots each, so that an audience is evaluated
//! here, never by a list of its members.

use crate::delivery::border::{Broadcast, TagId};
use crate::domain::{AppId, Position};
use roaring::RoaringBitmap;
use std::collections::HashMap;

#[derive(Default)]
pub(super) struct Members {
    apps: HashMap<AppId, AppMembers>,
    tags: HashMap<TagId, RoaringBitmap>,
    /// The tags of connections that have some, by slot, sorted.
    by_slot: HashMap<u32, Box<[TagId]>>,
}

#[derive(Default)]
struct AppMembers {
    slots: RoaringBitmap,
    /// The last log position that was handed to this shard.
    log_head: Position,
}

impl Members {
    pub(super) fn join(&mut self, app: AppId, slot: u32, tags: Box<[TagId]>) {
        self.apps.entry(app).or_default().slots.insert(slot);
        self.tag(slot, tags);
    }

    pub(super) fn leave(&mut self, app: AppId, slot: u32, tagged: bool) {
        if let Some(members) = self.apps.get_mut(&app) {
            members.slots.remove(slot);
        }
        if tagged {
            self.untag(slot);
        }
    }

    /// Gives a slot these tags instead of what it had.
    pub(super) fn tag(&mut self, slot: u32, tags: Box<[TagId]>) {
        self.untag(slot);
        if tags.is_empty() {
            return;
        }
        for tag in &tags {
            self.tags.entry(*tag).or_default().insert(slot);
        }
        self.by_slot.insert(slot, tags);
    }

    fn untag(&mut self, slot: u32) {
        for tag in self.by_slot.remove(&slot).iter().flatten() {
            if let Some(slots) = self.tags.get_mut(tag) {
                slots.remove(slot);
                if slots.is_empty() {
                    self.tags.remove(tag);
                }
            }
        }
    }

    /// The slots that a broadcast concerns now.
    pub(super) fn matching(&self, broadcast: &Broadcast) -> RoaringBitmap {
        if broadcast.tags.is_empty() {
            return self.apps.get(&broadcast.app).map(|members| members.slots.clone()).unwrap_or_default();
        }
        let mut slots = RoaringBitmap::new();
        for tag in &broadcast.tags {
            if let Some(tagged) = self.tags.get(tag) {
                slots |= tagged;
            }
        }
        slots
    }

    /// Whether a slot of `app` is still among those that a broadcast concerns.
    pub(super) fn concerns(&self, broadcast: &Broadcast, app: AppId, slot: u32) -> bool {
        broadcast.app == app
            && (broadcast.tags.is_empty()
                || self
                    .by_slot
                    .get(&slot)
                    .is_some_and(|tags| broadcast.tags.iter().any(|tag| tags.binary_search(tag).is_ok())))
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
    use crate::delivery::border::Outgoing;
    use crate::domain::{MessageId, WallMs};
    use std::sync::Arc;

    fn broadcast(app: u32, tags: &[u32]) -> Broadcast {
        let message = Outgoing { message: MessageId(1), deadline: WallMs(0), shared: bytes::Bytes::new() };
        Broadcast {
            app: AppId(app),
            tags: tags.iter().map(|tag| TagId(*tag)).collect(),
            exact: true,
            position: Position::START,
            message: Arc::new(message),
        }
    }

    #[test]
    fn a_broadcast_concerns_the_members_of_its_app_and_any_of_its_tags() {
        let mut members = Members::default();
        members.join(AppId(1), 10, Box::new([TagId(1)]));
        members.join(AppId(1), 11, Box::new([TagId(1), TagId(2)]));
        members.join(AppId(1), 12, Box::new([]));
        members.join(AppId(2), 13, Box::new([TagId(9)]));
        let slots = |b: &Broadcast, m: &Members| m.matching(b).iter().collect::<Vec<_>>();
        assert_eq!(slots(&broadcast(1, &[]), &members), [10, 11, 12]);
        assert_eq!(slots(&broadcast(1, &[2, 7]), &members), [11]);
        assert!(!members.concerns(&broadcast(1, &[9]), AppId(2), 13), "another app's broadcast");
        members.tag(11, Box::new([TagId(3)]));
        assert_eq!(slots(&broadcast(1, &[2]), &members), [0_u32; 0]);
        assert!(members.concerns(&broadcast(1, &[3]), AppId(1), 11));
        members.leave(AppId(1), 11, true);
        assert_eq!(slots(&broadcast(1, &[1, 3]), &members), [10]);
        assert_eq!(slots(&broadcast(1, &[]), &members), [10, 12]);
    }
}
