//! Messages that were recalled while they may have been on their way from the store to a connection: they are not sent. The device
//! is told by the store, which has the end of each.

use super::Shard;
use crate::domain::{MessageId, Position};
use crate::store::port::PageEntry as Stored;
use longwire_proto::wire::GapReason;
use std::collections::VecDeque;

/// Recalled messages that a shard knows. One that is forgotten has long left the queues, unless so many others were recalled while
/// a page or a broadcast was under way; then it may still be sent, and the message of kind recall comes after it.
const RECALLED_MAX: usize = 1024;

/// The last recalled messages.
#[derive(Debug, Default)]
pub(super) struct Recalled(VecDeque<MessageId>);

impl Recalled {
    fn add(&mut self, message: MessageId) {
        if self.contains(message) {
            return;
        }
        if self.0.len() >= RECALLED_MAX {
            self.0.pop_front();
        }
        self.0.push_back(message);
    }

    /// Whether a message is sent no more. Ids rise with time, and what is sent is mostly younger than what was recalled; else a
    /// look at them costs less than a send.
    pub(super) fn contains(&self, message: MessageId) -> bool {
        !self.0.is_empty() && self.0.contains(&message)
    }
}

impl Shard {
    /// From now on this message is not sent.
    pub(super) fn recall(&mut self, message: MessageId) {
        self.recalled.add(message);
    }

    /// A message out of a page that was read before it was recalled is left out.
    pub(super) fn left_out(&self, entry: &Stored) -> Option<(Position, MessageId, GapReason)> {
        match entry {
            Stored::Message { position, message, .. } if self.recalled.contains(*message) => {
                Some((*position, *message, GapReason::Recalled))
            }
            _ => None,
        }
    }
}
