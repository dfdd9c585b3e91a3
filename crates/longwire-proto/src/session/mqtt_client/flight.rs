//! Packet identifiers under way.

use std::collections::VecDeque;

use super::RECEIVE_MAX;
use crate::wire::mqtt::QoS;

/// What a client at rest does not have.
#[derive(Debug, Default)]
pub(super) struct Flight {
    /// Messages to the server that are not finished, oldest first: servers answer in that order, so a look finds soon.
    sent: VecDeque<(u16, Stage)>,
    /// QoS 2 from the server: received, PUBREL awaited.
    received: Vec<u16>,
}

/// What a message to the server waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// PUBACK.
    Ack,
    /// PUBREC.
    Received,
    /// PUBCOMP.
    Complete,
    /// SUBACK or UNSUBACK: an identifier in use, no message.
    Filters,
}

impl Flight {
    /// Messages that are not finished.
    pub(super) fn messages(&self) -> usize {
        self.sent.iter().filter(|(_, stage)| *stage != Stage::Filters).count()
    }

    /// Subscriptions that have no answer.
    pub(super) fn filters(&self) -> usize {
        self.sent.len() - self.messages()
    }

    /// Notes what goes out under the next free identifier after `last`.
    pub(super) fn begin(&mut self, last: &mut u16, stage: Stage) -> u16 {
        loop {
            *last = last.checked_add(1).unwrap_or(1);
            // Fewer are under way than there are identifiers: messages and subscriptions have bounds.
            if !self.sent.iter().any(|(id, _)| id == last) {
                self.sent.push_back((*last, stage));
                return *last;
            }
        }
    }

    /// The stage of an identifier.
    pub(super) fn stage(&mut self, packet_id: u16) -> Option<&mut Stage> {
        self.sent.iter_mut().find(|(id, _)| *id == packet_id).map(|(_, stage)| stage)
    }

    /// Ends what waits for `stage`; false if nothing of that identifier does.
    pub(super) fn end(&mut self, packet_id: u16, stage: Stage) -> bool {
        let at = self.sent.iter().position(|entry| *entry == (packet_id, stage));
        at.and_then(|at| self.sent.remove(at)).is_some()
    }

    /// A QoS 2 message came: whether it had come before; `None`: more than [`RECEIVE_MAX`].
    pub(super) fn arrives(&mut self, packet_id: u16) -> Option<bool> {
        if self.received.contains(&packet_id) {
            return Some(true);
        }
        if self.received.len() >= usize::from(RECEIVE_MAX) {
            return None;
        }
        self.received.push(packet_id);
        Some(false)
    }

    /// PUBREL came; false if nothing of that identifier awaits it.
    pub(super) fn release(&mut self, packet_id: u16) -> bool {
        let at = self.received.iter().position(|id| *id == packet_id);
        at.map(|at| self.received.swap_remove(at)).is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty() && self.received.is_empty()
    }
}

/// The stage in which a message of a QoS begins; QoS 0 has none.
pub(super) const fn first_stage(qos: QoS) -> Option<Stage> {
    match qos {
        QoS::AtMostOnce => None,
        QoS::AtLeastOnce => Some(Stage::Ack),
        QoS::ExactlyOnce => Some(Stage::Received),
    }
}
