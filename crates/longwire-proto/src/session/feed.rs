//! How far one source has been sent in this session.
//!
//! A feed is *level* with its source when everything stored has been sent, so that a live delivery may go straight out;
//! else it is *behind*, and what comes live is left in the store to be pulled in order. Nothing is lost to a race
//! between the store and a live delivery: a live delivery that meets a feed that is behind makes the feed pull once more.

use crate::id::{Position, Source};

/// Where a feed begins at login.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FeedStart {
    /// The last position that this device settled (acked, or acked the gap of). For a mailbox with nothing waiting it
    /// is the last position assigned, `Position::new(incarnation, 0)` if none was, so that the next one is adjacent.
    pub last: Position,
    /// Whether the store holds anything after it for this device.
    pub waiting: bool,
}

/// A request for what the store holds next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pull {
    /// Which source.
    pub source: Source,
    /// Everything after this position.
    pub after: Position,
    /// Messages that fit at most; 0: only what may come ahead is wanted.
    pub messages_max: u16,
    /// Bytes that fit at most; one message is always allowed.
    pub bytes_max: u32,
    /// High messages that may come ahead of their turn beside; not those of [`Deliveries::ahead`](super::Deliveries::ahead).
    pub ahead_max: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Level,
    /// The store holds more than was sent.
    Behind,
    /// A pull is under way. `again`: something came live meanwhile.
    Pulling {
        again: bool,
    },
}

/// One source's progress in a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Feed {
    pub(super) last: Position,
    pub(super) state: State,
}

impl Feed {
    pub(super) fn new(start: FeedStart) -> Feed {
        Feed { last: start.last, state: if start.waiting { State::Behind } else { State::Level } }
    }

    /// The last position sent or announced in this session, or settled before it.
    pub(super) fn last(&self) -> Position {
        self.last
    }

    pub(super) fn is_level(&self) -> bool {
        self.state == State::Level
    }

    pub(super) fn is_behind(&self) -> bool {
        self.state == State::Behind
    }

    /// A live delivery could not go out: it stays in the store.
    pub(super) fn fall_behind(&mut self) {
        self.state = match self.state {
            State::Level | State::Behind => State::Behind,
            State::Pulling { .. } => State::Pulling { again: true },
        };
    }

    /// Something is missing between what was sent and what came live.
    pub(super) fn fall_behind_if_level(&mut self) {
        if self.state == State::Level {
            self.state = State::Behind;
        }
    }

    pub(super) fn pull_begins(&mut self) {
        self.state = State::Pulling { again: false };
    }

    /// A page was sent; `end`: the store held nothing more when it was read.
    pub(super) fn page_ends(&mut self, end: bool) {
        self.state = match self.state {
            State::Pulling { again: false } if end => State::Level,
            _ => State::Behind,
        };
    }

    /// Returns the position before, for the frame.
    pub(super) fn advance(&mut self, position: Position) -> Position {
        std::mem::replace(&mut self.last, position)
    }
}
