//! High messages that are sent ahead of their turn. Their places stay known until the chain has come past them, so that
//! none is sent twice in a session and none is missed: what went ahead moves no chain.

use super::deliveries::{Deliveries, Offer, PageEntry};
use super::window::{InFlight, Stage, Window};
use crate::id::{MessageId, Position, Source};
use crate::limit::{AHEAD_MESSAGES_MAX, AHEAD_PLACES_MAX};

/// Packet identifiers of MQTT come round after so many places at the least; what goes ahead keeps half of that distance to
/// the chain, so that no two in a window have one identifier.
const AHEAD_SPAN_MAX: u64 = 8192;

impl Window {
    fn went_ahead(&self, source: Source, position: Position) -> bool {
        self.ahead.contains(&(source, position))
    }

    pub(super) fn ahead_unacked(&self) -> usize {
        self.entries().iter().filter(|entry| entry.ahead).count()
    }
}

impl Deliveries {
    /// Like [`offer`](Self::offer) for a high message: where a normal one would stay in the store, it goes ahead of its turn if
    /// there is a place for that.
    pub fn offer_high(
        &mut self,
        source: Source,
        position: Position,
        message: MessageId,
        bytes: u32,
    ) -> Offer {
        if position <= self.feed(source).last() || self.went_ahead(source, position) {
            return Offer::Skip;
        }
        if self.is_next(source, position) {
            if self.fits(bytes) {
                return Offer::Send { previous: self.sent(source, position, message, bytes, None) };
            }
        } else {
            self.change(source, super::feed::Feed::fall_behind_if_level);
        }
        if self.goes_ahead(source, position, message, bytes) {
            return Offer::Ahead;
        }
        self.defer_high(source, position);
        Offer::Later
    }

    /// Like [`defer`](Self::defer) for a high message: it is asked for as soon as there is a place ahead.
    pub fn defer_high(&mut self, source: Source, position: Position) {
        if position > self.feed(source).last() && !self.went_ahead(source, position) {
            self.defer(source, position);
            self.high_waits(source);
        }
    }

    /// The store holds high messages that did not come with the last page.
    pub fn high_waits(&mut self, source: Source) {
        self.high_waits[super::deliveries::index(source)] = true;
    }

    /// A high message that a page brings ahead of its turn: [`PageEntry::Ahead`] if it goes, [`PageEntry::Repeated`] if it was
    /// sent or there is no place, so that it comes in its turn.
    pub fn page_ahead(
        &mut self,
        source: Source,
        position: Position,
        message: MessageId,
        bytes: u32,
    ) -> PageEntry {
        if position > self.feed(source).last()
            && !self.went_ahead(source, position)
            && self.goes_ahead(source, position, message, bytes)
        {
            PageEntry::Ahead
        } else {
            PageEntry::Repeated
        }
    }

    /// The places of a source that went ahead and that the chain has not come past.
    pub fn ahead(&self, source: Source) -> impl Iterator<Item = Position> + '_ {
        let places = self.window.iter().flat_map(|window| &window.ahead);
        places.filter(move |(of, _)| *of == source).map(|(_, position)| *position)
    }

    /// Whether a high message may go ahead now.
    #[must_use]
    pub fn has_room_ahead(&self) -> bool {
        self.room_ahead() > 0
    }

    /// Messages that may go ahead now.
    pub(super) fn room_ahead(&self) -> usize {
        let (unacked, ahead, places) = match &self.window {
            Some(window) => (window.entries().len(), window.ahead_unacked(), window.ahead.len()),
            None => (0, 0, 0),
        };
        let all = usize::from(self.all_max).saturating_sub(unacked + usize::from(self.others));
        all.min(AHEAD_MESSAGES_MAX.saturating_sub(ahead)).min(AHEAD_PLACES_MAX - places)
    }

    pub(super) fn went_ahead(&self, source: Source, position: Position) -> bool {
        self.window.as_ref().is_some_and(|window| window.went_ahead(source, position))
    }

    /// Whether a source is level and a place the next one of it, but for those that went ahead.
    pub(super) fn is_next(&self, source: Source, position: Position) -> bool {
        let feed = self.feed(source);
        if !feed.is_level() {
            return false;
        }
        let mut next = feed.last().next();
        // Ends after the places that went ahead.
        while next < position && self.went_ahead(source, next) {
            next = next.next();
        }
        source == Source::AppLog || position == next
    }

    fn goes_ahead(&mut self, source: Source, position: Position, message: MessageId, bytes: u32) -> bool {
        let last = self.feed(source).last();
        let far = position.incarnation() != last.incarnation()
            || position.sequence() - last.sequence() > AHEAD_SPAN_MAX;
        if self.room_ahead() == 0 || (self.numbers_packets && far) {
            return false;
        }
        let (gap, stage) = (None, Stage::Ack);
        let entry = InFlight { message, source, position, bytes, gap, stage, ahead: true, sent_ms: 0 };
        let window = self.window.get_or_insert_with(Box::default);
        window.add(entry);
        window.ahead.push((source, position));
        true
    }
}
