//! What was sent and not yet acked. An idle session has none: the box goes when the last ack comes.

use crate::id::{MessageId, Position, Source};
use crate::limit::{WINDOW_BYTES_MAX, WINDOW_MESSAGES_MAX};

/// One unacked delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct InFlight {
    pub(super) message: MessageId,
    pub(super) source: Source,
    pub(super) position: Position,
    pub(super) bytes: u32,
    /// The delivery is a GAP: an ack of it does not mean "delivered".
    pub(super) gap: bool,
}

/// The unacked deliveries of a session, oldest first.
#[derive(Debug, Default)]
pub(super) struct Window {
    entries: Vec<InFlight>,
    bytes: usize,
}

impl Window {
    /// Whether one more of `bytes` fits. One message always fits into an empty window.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        self.entries.is_empty()
            || (self.entries.len() < WINDOW_MESSAGES_MAX && self.bytes + bytes <= WINDOW_BYTES_MAX)
    }

    pub(super) fn add(&mut self, entry: InFlight) {
        self.bytes += entry.bytes as usize;
        self.entries.push(entry);
    }

    pub(super) fn take(&mut self, message: MessageId) -> Option<InFlight> {
        let at = self.entries.iter().position(|entry| entry.message == message)?;
        let entry = self.entries.remove(at);
        self.bytes -= entry.bytes as usize;
        Some(entry)
    }

    pub(super) fn entries(&self) -> &[InFlight] {
        &self.entries
    }

    pub(super) fn room(&self) -> (u16, u32) {
        (
            (WINDOW_MESSAGES_MAX - self.entries.len()) as u16,
            WINDOW_BYTES_MAX.saturating_sub(self.bytes) as u32,
        )
    }
}
