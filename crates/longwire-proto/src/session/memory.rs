//! What a device remembers from one connection to the next: which messages it has, and how far it came.

use crate::id::{MessageId, Position, Source};
use crate::limit::{AHEAD_PLACES_MAX, DEDUP_WINDOW_MESSAGES};

/// What outlives a connection: the dedup window and the positions reached. Empty costs no allocation.
#[derive(Debug, Default)]
pub struct Memory {
    seen: Option<Box<Seen>>,
    mailbox: Position,
    log: Position,
}

/// The last [`DEDUP_WINDOW_MESSAGES`] message ids. It grows as used, then the oldest makes room for the newest.
#[derive(Debug, Default)]
struct Seen {
    ids: Vec<MessageId>,
    oldest: usize,
    /// Places that came ahead of their turn and are not reached, the oldest first.
    ahead: Vec<(Source, Position)>,
}

impl Memory {
    /// A memory that was kept elsewhere: the positions reached, and the ids met, oldest first. Of more than
    /// [`DEDUP_WINDOW_MESSAGES`] ids the last count.
    #[must_use]
    pub fn restore(mailbox: Position, log: Position, met: impl IntoIterator<Item = MessageId>) -> Memory {
        let mut memory = Memory { seen: None, mailbox, log };
        for message in met {
            memory.meet(message);
        }
        memory
    }

    /// The same with places that came ahead of their turn, oldest first; of more than [`AHEAD_PLACES_MAX`] the last count.
    #[must_use]
    pub fn with_ahead(mut self, places: impl IntoIterator<Item = (Source, Position)>) -> Memory {
        places.into_iter().for_each(|(source, position)| self.came_ahead(source, position));
        self
    }

    /// The position reached in a source; [`Position::START`] if nothing of it ever came.
    #[must_use]
    pub fn reached(&self, source: Source) -> Position {
        match source {
            Source::Mailbox => self.mailbox,
            Source::AppLog => self.log,
        }
    }

    /// Notes a message; true if it was in the window already.
    pub(super) fn meet(&mut self, message: MessageId) -> bool {
        let seen = self.seen.get_or_insert_with(Box::default);
        if seen.ids.contains(&message) {
            return true;
        }
        if seen.ids.len() < DEDUP_WINDOW_MESSAGES {
            seen.ids.push(message);
        } else {
            seen.ids[seen.oldest] = message;
            seen.oldest = (seen.oldest + 1) % DEDUP_WINDOW_MESSAGES;
        }
        false
    }

    /// Whether something between the position reached and `previous` never came and was never announced.
    ///
    /// A device that has nothing of the source cannot tell, and no chain goes from one incarnation of the store into
    /// the next: sequence 0 is before the first of its incarnation.
    ///
    /// A chain may begin behind places that came ahead of their turn and were acked. In a mailbox, whose places follow each other
    /// without holes, all back to the position reached must have come so; in a log, whose places are not all this device's, the
    /// one before.
    pub(super) fn is_hole(&self, source: Source, previous: Position) -> bool {
        let reached = self.reached(source);
        if reached == Position::START || previous.sequence() == 0 {
            return false;
        }
        let mut before = previous;
        // Ends after the places that came ahead, each of which is met once.
        while before > reached && before.sequence() > 0 {
            if !self.has_ahead(source, before) {
                return true;
            }
            if source == Source::AppLog {
                return false;
            }
            before = Position(before.0 - 1);
        }
        false
    }

    fn has_ahead(&self, source: Source, position: Position) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.ahead.contains(&(source, position)))
    }

    /// A message came ahead of its turn.
    pub(super) fn came_ahead(&mut self, source: Source, position: Position) {
        if position <= self.reached(source) || self.has_ahead(source, position) {
            return;
        }
        let ahead = &mut self.seen.get_or_insert_with(Box::default).ahead;
        if ahead.len() >= AHEAD_PLACES_MAX {
            ahead.remove(0);
        }
        ahead.push((source, position));
    }

    /// The device came to `position`. Positions never go back.
    pub(super) fn reach(&mut self, source: Source, position: Position) {
        let reached = match source {
            Source::Mailbox => &mut self.mailbox,
            Source::AppLog => &mut self.log,
        };
        *reached = position.max(*reached);
        let reached = *reached;
        if let Some(seen) = &mut self.seen
            && !seen.ahead.is_empty()
        {
            seen.ahead.retain(|(of, place)| *of != source || *place > reached);
        }
    }
}
