//! Frequency caps of apps: how many messages a device gets in a span of time. Connections of apps without one cost nothing.

use super::Shard;
use crate::delivery::border::Frequency;
use crate::store::port::PageEntry as Stored;
use longwire_proto::id::{Kind, MessageId, Position};
use longwire_proto::wire::{GapReason, PushShared};

impl Shard {
    /// A device is attached; `None`: its app has no cap.
    pub(super) fn begin_frequency(&mut self, slot: u32, frequency: Option<Frequency>) {
        let Some(connection) = self.slab.at(slot) else { return };
        connection.flags.capped = frequency.is_some();
        if let Some(frequency) = frequency {
            self.frequencies.insert(slot, frequency);
        }
    }

    /// Whether a stored message is one more than the device may get now.
    pub(super) fn is_over_cap(&mut self, slot: u32, high: bool, shared: &[u8]) -> bool {
        let frequency = self.frequency_of(slot, high, shared);
        frequency.is_some_and(|frequency| frequency.count >= frequency.cap.messages)
    }

    /// A stored message was sent.
    pub(super) fn count_for_cap(&mut self, slot: u32, high: bool, shared: &[u8]) {
        if let Some(frequency) = self.frequency_of(slot, high, shared) {
            frequency.count = frequency.count.saturating_add(1);
        }
    }

    /// What a page's entry becomes for a device that has had what it may get.
    pub(super) fn over_cap(&mut self, slot: u32, entry: &Stored) -> Option<(Position, MessageId, GapReason)> {
        match entry {
            Stored::Message { position, message, shared, high, .. }
                if self.is_over_cap(slot, *high, shared) =>
            {
                Some((*position, *message, GapReason::Dropped))
            }
            _ => None,
        }
    }

    /// The count that a message falls under, of the span at hand; `None`: no cap holds it.
    fn frequency_of(&mut self, slot: u32, high: bool, shared: &[u8]) -> Option<&mut Frequency> {
        if high || !self.slab.at(slot)?.flags.capped {
            return None;
        }
        match PushShared::decode(shared)?.kind {
            Kind::Notification | Kind::Text | Kind::Custom => {}
            Kind::Topic | Kind::Recall => return None,
        }
        let now = (self.wall)();
        let frequency = self.frequencies.get_mut(&slot)?;
        let end_ms = frequency.from.0.saturating_add(u64::from(frequency.cap.per_s) * 1000);
        if now.0 >= end_ms || now < frequency.from {
            (frequency.from, frequency.count) = (now, 0);
        }
        Some(frequency)
    }
}
