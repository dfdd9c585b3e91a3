//! What is on its way to a device: how far each source was sent, and what is unacked. Native and MQTT sessions share it.

use super::feed::{self, Feed, FeedStart, Pull};
use super::window::{InFlight, Stage, Window};
use crate::id::{MessageId, Position, Source};
use crate::limit::{AHEAD_MESSAGES_MAX, WINDOW_BYTES_MAX, WINDOW_MESSAGES_MAX};
use crate::wire::GapReason;

/// The deliveries of one session. Idle, it owns nothing beyond itself.
#[derive(Debug)]
pub struct Deliveries {
    pub(super) window: Option<Box<Window>>,
    /// The feeds of mailbox and log, taken apart: side by side they would pad to eight bytes more each.
    last: [Position; 2],
    state: [feed::State; 2],
    /// Unacked messages at most: [`WINDOW_MESSAGES_MAX`], or what an MQTT client can take less.
    messages_max: u8,
    /// Of these, taken by messages that no store holds.
    pub(super) others: u8,
    /// Unacked messages at most, those that went ahead of their turn included.
    pub(super) all_max: u8,
    /// A place is told to the client as a number that comes round (MQTT).
    pub(super) numbers_packets: bool,
    /// The stores of mailbox and log hold high messages that could go ahead.
    pub(super) high_waits: [bool; 2],
}

const _: () = assert!(size_of::<Deliveries>() <= 32);

/// Unacked messages of a session at most: those in their turn, and those ahead of it.
const ALL_MAX: usize = WINDOW_MESSAGES_MAX + AHEAD_MESSAGES_MAX;

const _: () = assert!(ALL_MAX <= u8::MAX as usize);

/// What to do with a live delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offer {
    /// Send it now; it is in the window already.
    Send {
        /// The delivery before it.
        previous: Position,
    },
    /// Send it now, ahead of its turn: it is in the window already, and the chain is not moved.
    Ahead,
    /// It stays in the store and will be pulled.
    Later,
    /// It was sent in this session already.
    Skip,
}

/// A delivery that the device settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settled {
    /// Its source.
    pub source: Source,
    /// Its place.
    pub position: Position,
    /// Its message.
    pub message: MessageId,
    /// It was a GAP for this reason, so the message was not delivered.
    pub gap: Option<GapReason>,
    /// What [`Deliveries::stamp`] said, or 0.
    pub sent_ms: u32,
}

/// What to do with an entry of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageEntry {
    /// Send it; it is in the window already.
    Send {
        /// The delivery before it.
        previous: Position,
    },
    /// Send it ahead of its turn; it is in the window already, and the chain is not moved.
    Ahead,
    /// The window is full: end the page with `end = false`.
    Full,
    /// It was sent in this session already; go on.
    Repeated,
}

impl Deliveries {
    /// Nothing was sent yet in this session.
    #[must_use]
    pub fn new(mailbox: FeedStart, log: FeedStart) -> Deliveries {
        let feeds = [Feed::new(mailbox), Feed::new(log)];
        Deliveries {
            window: None,
            last: feeds.map(|feed| feed.last),
            state: feeds.map(|feed| feed.state),
            messages_max: WINDOW_MESSAGES_MAX as u8,
            others: 0,
            all_max: ALL_MAX as u8,
            numbers_packets: false,
            high_waits: [false; 2],
        }
    }

    /// So many unacked messages at most, at least 1, to a client that knows them by number; more than [`WINDOW_MESSAGES_MAX`] in
    /// their turn, and [`AHEAD_MESSAGES_MAX`] ahead of it, is not given.
    #[must_use]
    pub(super) fn with_messages_max(mut self, most: u16) -> Deliveries {
        self.messages_max = most.clamp(1, WINDOW_MESSAGES_MAX as u16) as u8;
        self.all_max = most.clamp(1, ALL_MAX as u16) as u8;
        self.numbers_packets = true;
        self
    }

    /// A stored message has just been accepted for this device. A mailbox position that is not the very next one means
    /// that its predecessor is still on its way: both will be pulled, in order.
    pub fn offer(&mut self, source: Source, position: Position, message: MessageId, bytes: u32) -> Offer {
        if position <= self.feed(source).last() || self.went_ahead(source, position) {
            return Offer::Skip;
        }
        if !self.is_next(source, position) || !self.fits(bytes) {
            self.change(source, Feed::fall_behind);
            return Offer::Later;
        }
        Offer::Send { previous: self.sent(source, position, message, bytes, None) }
    }

    /// The source grew, but the caller will not send now (its outbox is full): the message will be pulled.
    pub fn defer(&mut self, source: Source, position: Position) {
        if position > self.feed(source).last() {
            self.change(source, Feed::fall_behind);
        }
    }

    /// The next request to the store, if a source is behind, no pull is under way for it, and the window has room. Without room there
    /// may be one for what can go ahead.
    pub fn pull(&mut self) -> Option<Pull> {
        let [mailbox, log] = [Source::Mailbox, Source::AppLog].map(|source| self.feed(source).is_behind());
        if !mailbox && !log {
            return None;
        }
        let most = self.room_for_stored();
        let (messages_max, bytes_max) = match &self.window {
            Some(window) => window.room(most),
            None => Window::default().room(most),
        };
        // A read of the store per acked message would cost more than it brings: the window is refilled by halves.
        let half_empty = usize::from(messages_max) * 2 >= usize::from(self.messages_max)
            && bytes_max as usize * 2 >= WINDOW_BYTES_MAX;
        let has_room = (half_empty || !self.has_unacked()) && messages_max > 0;
        let ahead_max = self.room_ahead() as u8;
        let high = |source: Source| self.high_waits[index(source)] && ahead_max > 0;
        let (source, messages_max, bytes_max) = match has_room {
            true if mailbox => (Source::Mailbox, messages_max, bytes_max),
            true => (Source::AppLog, messages_max, bytes_max),
            false if mailbox && high(Source::Mailbox) => (Source::Mailbox, 0, 0),
            false if log && high(Source::AppLog) => (Source::AppLog, 0, 0),
            false => return None,
        };
        self.high_waits[index(source)] = false;
        self.change(source, Feed::pull_begins);
        Some(Pull { source, after: self.feed(source).last(), messages_max, bytes_max, ahead_max })
    }

    /// One entry of a page from the store: whether it goes out, was sent in this session already, or no longer fits because
    /// live deliveries took the room.
    pub fn page_entry(
        &mut self,
        source: Source,
        position: Position,
        message: MessageId,
        bytes: u32,
        gap: Option<GapReason>,
    ) -> PageEntry {
        if position <= self.feed(source).last() || self.went_ahead(source, position) {
            return PageEntry::Repeated;
        }
        if !self.fits(bytes) {
            return PageEntry::Full;
        }
        PageEntry::Send { previous: self.sent(source, position, message, bytes, gap) }
    }

    /// The page is over. `end`: all its entries were sent and the store held nothing more when it was read.
    pub fn page_ends(&mut self, source: Source, end: bool) {
        self.change(source, |feed| feed.page_ends(end));
    }

    /// The device acked a message; `None` if it is not unacked in this session (a repeated or foreign ack).
    pub fn settle(&mut self, message: MessageId) -> Option<Settled> {
        self.take(|entry| entry.message == message)
    }

    pub(super) fn take(&mut self, is_meant: impl Fn(&InFlight) -> bool) -> Option<Settled> {
        let window = self.window.as_mut()?;
        let entry = window.take(is_meant)?;
        if window.is_over() {
            self.window = None;
        }
        Some(settled(&entry))
    }

    /// Notes when the delivery that has just entered the window is sent, in a time of the caller's: it comes back with its end.
    pub fn stamp(&mut self, message: MessageId, sent_ms: u32) {
        let Some(window) = &mut self.window else { return };
        if let Some(entry) = window.entries_mut().iter_mut().rfind(|entry| entry.message == message) {
            entry.sent_ms = sent_ms;
        }
    }

    /// The first unacked delivery that is meant, to change its stage.
    pub(super) fn find(&mut self, is_meant: impl Fn(&InFlight) -> bool) -> Option<&mut InFlight> {
        self.window.as_mut()?.entries_mut().iter_mut().find(|entry| is_meant(entry))
    }

    /// Counts a message in that no store holds. False: the window is full.
    pub(super) fn take_place(&mut self) -> bool {
        let unacked = self.window.as_ref().map_or(0, |window| window.entries().len());
        if unacked + usize::from(self.others) >= usize::from(self.messages_max) {
            return false;
        }
        self.others += 1;
        true
    }

    /// Counts such a message out.
    pub(super) fn give_place(&mut self) {
        self.others = self.others.saturating_sub(1);
    }

    fn room_for_stored(&self) -> usize {
        let ahead = self.window.as_ref().map_or(0, |window| window.ahead_unacked());
        let all = usize::from(self.all_max).saturating_sub(usize::from(self.others) + ahead);
        usize::from(self.messages_max - self.others.min(self.messages_max)).min(all)
    }

    /// The last positions of mailbox and log that were sent or left out in this session, or settled before it.
    #[must_use]
    pub fn sent_until(&self) -> [Position; 2] {
        self.last
    }

    /// Whether anything is unacked.
    #[must_use]
    pub fn has_unacked(&self) -> bool {
        self.window.as_ref().is_some_and(|window| !window.entries().is_empty())
    }

    /// What is unacked, oldest first.
    pub fn unacked(&self) -> impl Iterator<Item = Settled> + '_ {
        self.window.iter().flat_map(|window| window.entries()).map(settled)
    }

    pub(super) fn fits(&self, bytes: u32) -> bool {
        let most = self.room_for_stored();
        match &self.window {
            Some(window) => window.fits(bytes as usize, most),
            None => most > 0,
        }
    }

    pub(super) fn sent(
        &mut self,
        source: Source,
        position: Position,
        message: MessageId,
        bytes: u32,
        gap: Option<GapReason>,
    ) -> Position {
        // A gap over several messages has no id to ack, so it takes no place in the window.
        if message != MessageId(0) {
            let stage = Stage::Ack;
            let entry = InFlight { message, source, position, bytes, gap, stage, ahead: false, sent_ms: 0 };
            self.window.get_or_insert_with(Box::default).add(entry);
        }
        // What went ahead of this place is behind the chain now.
        if let Some(window) = &mut self.window {
            window.ahead.retain(|(of, place)| *of != source || *place > position);
            if window.is_over() {
                self.window = None;
            }
        }
        self.change(source, |feed| feed.advance(position))
    }

    pub(super) fn feed(&self, source: Source) -> Feed {
        let at = index(source);
        Feed { last: self.last[at], state: self.state[at] }
    }

    /// Changes a feed.
    pub(super) fn change<R>(&mut self, source: Source, change: impl FnOnce(&mut Feed) -> R) -> R {
        let mut feed = self.feed(source);
        let result = change(&mut feed);
        let at = index(source);
        (self.last[at], self.state[at]) = (feed.last, feed.state);
        result
    }
}

fn settled(entry: &InFlight) -> Settled {
    Settled {
        source: entry.source,
        position: entry.position,
        message: entry.message,
        gap: entry.gap,
        sent_ms: entry.sent_ms,
    }
}

pub(super) const fn index(source: Source) -> usize {
    match source {
        Source::Mailbox => 0,
        Source::AppLog => 1,
    }
}
