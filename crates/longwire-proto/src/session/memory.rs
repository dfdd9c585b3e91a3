//! What a device remembers from one connection to the next: which messages it has, and how far it came.

use crate::id::{MessageId, Position, Source};
use crate::limit::DEDUP_WINDOW_MESSAGES;

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
    pub(super) fn is_hole(&self, source: Source, previous: Position) -> bool {
        let reached = self.reached(source);
        reached != Position::START && previous.sequence() != 0 && previous > reached
    }

    /// The device came to `position`. Positions never go back.
    pub(super) fn reach(&mut self, source: Source, position: Position) {
        let reached = match source {
            Source::Mailbox => &mut self.mailbox,
            Source::AppLog => &mut self.log,
        };
        *reached = position.max(*reached);
    }
}
