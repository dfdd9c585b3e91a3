//! What was sent and not yet acked. An idle session has none: the box goes when the last ack comes.

use crate::id::{MessageId, Position, Source};
use crate::limit::WINDOW_BYTES_MAX;
use crate::wire::GapReason;

/// One unacked delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct InFlight {
    pub(super) message: MessageId,
    pub(super) source: Source,
    pub(super) position: Position,
    pub(super) bytes: u32,
    /// The delivery is a GAP: an ack of it does not mean "delivered".
    pub(super) gap: Option<GapReason>,
    pub(super) stage: Stage,
    /// It went ahead of its turn, in a place of its own.
    pub(super) ahead: bool,
    /// When it was sent, in the caller's time; 0 = the caller did not say.
    pub(super) sent_ms: u32,
}

/// What is awaited of a delivery. Native deliveries and QoS 1 know only the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Stage {
    /// The ack.
    #[default]
    Ack,
    /// QoS 2: PUBREC.
    Received,
    /// QoS 2: that PUBREC is recorded; then PUBREL leaves.
    Recorded,
    /// QoS 2: PUBCOMP.
    Complete,
}

/// The unacked deliveries of a session, oldest first.
#[derive(Debug, Default)]
pub(super) struct Window {
    entries: Vec<InFlight>,
    /// Of those that came in their turn.
    bytes: usize,
    /// Places that went ahead and that the chain has not come past.
    pub(super) ahead: Vec<(Source, Position)>,
}

impl Window {
    /// Whether one more of `bytes` fits. One message always fits into an empty window.
    pub(super) fn fits(&self, bytes: usize, messages_max: usize) -> bool {
        let in_turn = self.in_turn();
        in_turn < messages_max && (in_turn == 0 || self.bytes + bytes <= WINDOW_BYTES_MAX)
    }

    pub(super) fn add(&mut self, entry: InFlight) {
        if !entry.ahead {
            self.bytes += entry.bytes as usize;
        }
        self.entries.push(entry);
    }

    /// Unacked deliveries that came in their turn.
    fn in_turn(&self) -> usize {
        // Nothing goes ahead without leaving its place here, but for those the chain has passed: few, and soon acked.
        self.entries.iter().filter(|entry| !entry.ahead).count()
    }

    /// Nothing is to be known any more.
    pub(super) fn is_over(&self) -> bool {
        self.entries.is_empty() && self.ahead.is_empty()
    }

    /// Takes the first out that is meant.
    pub(super) fn take(&mut self, is_meant: impl Fn(&InFlight) -> bool) -> Option<InFlight> {
        let at = self.entries.iter().position(is_meant)?;
        let entry = self.entries.remove(at);
        if !entry.ahead {
            self.bytes -= entry.bytes as usize;
        }
        if self.entries.is_empty() {
            // The places that went ahead may stay for long.
            self.entries = Vec::new();
        }
        Some(entry)
    }

    pub(super) fn entries(&self) -> &[InFlight] {
        &self.entries
    }

    pub(super) fn entries_mut(&mut self) -> &mut [InFlight] {
        &mut self.entries
    }

    pub(super) fn room(&self, messages_max: usize) -> (u16, u32) {
        (
            messages_max.saturating_sub(self.in_turn()) as u16,
            WINDOW_BYTES_MAX.saturating_sub(self.bytes) as u32,
        )
    }
}
