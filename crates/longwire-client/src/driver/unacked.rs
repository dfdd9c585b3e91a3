//! What the application was shown and has not acked yet.
//!
//! A message that comes again after a reconnect is acked by the device itself only if the application acked it before:
//! the ack was lost. Otherwise the application still has it in hand and will ack it on the new connection.

use std::collections::VecDeque;

use longwire_proto::id::{MessageId, Position, Source};
use longwire_proto::limit::DEDUP_WINDOW_MESSAGES;
use longwire_proto::wire::AckKind;

/// Where a message stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) source: Source,
    pub(crate) position: Position,
    /// It came ahead of its turn, and says nothing of what lies before it.
    pub(crate) ahead: bool,
}

/// Shown messages without an ack, and words of the application that could not be sent yet.
#[derive(Debug, Default)]
pub(crate) struct Unacked {
    shown: VecDeque<(MessageId, Place)>,
    unsent: VecDeque<(AckKind, MessageId)>,
}

impl Unacked {
    /// The application will be shown a message. At [`DEDUP_WINDOW_MESSAGES`] the oldest is forgotten; an honest server has
    /// at most 36 unacked.
    pub(crate) fn show(&mut self, message: MessageId, place: Place) {
        push_bounded(&mut self.shown, (message, place));
    }

    /// Whether the application has the message in hand.
    pub(crate) fn holds(&self, message: MessageId) -> bool {
        self.shown.iter().any(|(shown, ..)| *shown == message)
    }

    /// The application acked a message; its place, if it was in hand.
    pub(crate) fn settle(&mut self, message: MessageId) -> Option<Place> {
        let at = self.shown.iter().position(|(shown, ..)| *shown == message)?;
        self.shown.remove(at).map(|(_, place)| place)
    }

    /// Up to where the application is done with everything of a source, when it is done with what stands at `position`.
    pub(crate) fn done_up_to(&self, source: Source, position: Position) -> Position {
        let in_hand = self.shown.iter().map(|(_, place)| place);
        let in_hand = in_hand.filter(|at| at.source == source && !at.ahead && at.position < position);
        in_hand.map(|at| Position(at.position.0.saturating_sub(1))).min().unwrap_or(position)
    }

    /// Keeps a word for the next connection. A lost "received" needs no keeping: the message will come again and is
    /// acked then. At the bound the oldest is forgotten.
    pub(crate) fn keep(&mut self, kind: AckKind, message: MessageId) {
        if kind != AckKind::Received {
            push_bounded(&mut self.unsent, (kind, message));
        }
    }

    /// Takes what was kept, oldest first.
    pub(crate) fn take_kept(&mut self) -> impl Iterator<Item = (AckKind, MessageId)> + '_ {
        self.unsent.drain(..)
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, entry: T) {
    if queue.len() == DEDUP_WINDOW_MESSAGES {
        queue.pop_front();
    }
    queue.push_back(entry);
}
