//! Identifiers and aliases under way.

use super::{ALIASES_MAX, Ending, RECEIVE_MAX, UNDECIDED_MAX};
use crate::close::CloseReason;
use crate::id::Position;
use crate::wire::mqtt::{QoS, Reason, Version};

/// What an idle session does not have.
#[derive(Debug, Default)]
pub(super) struct Flows {
    /// Messages from the client whose taking is being decided.
    undecided: Vec<(u16, QoS)>,
    /// QoS 2 from the client: received, PUBREL awaited (MQTT-4.3.3-10).
    received: Vec<u16>,
    /// QoS 2 from the client: PUBREL came, and its removal is being made durable.
    releasing: Vec<u16>,
    /// Messages to the client that no store holds.
    pub(super) unstored: Vec<Unstored>,
    aliases: Vec<(u16, Box<str>)>,
    /// Topics that the client knows by an alias: the first by 1, and so on.
    given: Vec<Box<str>>,
    /// Up to where earlier connections may have sent mailbox and log.
    pub(super) sent_before: [Position; 2],
}

/// A message to the client that no store holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unstored {
    pub(super) packet_id: u16,
    /// PUBREC came, PUBCOMP is awaited.
    pub(super) released: bool,
    pub(super) qos: QoS,
    /// The caller's number; 0 = the caller does not ask.
    pub(super) number: u64,
}

/// A message of QoS 1 or 2 from the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Arrival {
    /// To be taken and answered.
    New,
    /// It was received before: PUBREC again.
    Received,
    /// It is being decided; the answer will come.
    Undecided,
}

impl Flows {
    /// Notes a message from the client.
    ///
    /// # Errors
    /// More than [`RECEIVE_MAX`] are not finished (MQTT-3.3.4-7), or of QoS 1 in 3.1.1 more than [`UNDECIDED_MAX`].
    pub(super) fn arrives(&mut self, packet_id: u16, qos: QoS, version: Version) -> Result<Arrival, Ending> {
        if self.undecided.iter().any(|(id, _)| *id == packet_id) || self.releasing.contains(&packet_id) {
            return Ok(Arrival::Undecided);
        }
        if qos == QoS::ExactlyOnce && self.received.contains(&packet_id) {
            return Ok(Arrival::Received);
        }
        let of_qos_2 = self.received.len() + self.releasing.len();
        let is_full = match (version, qos) {
            (Version::V311, QoS::ExactlyOnce) => {
                let undecided = self.undecided.iter().filter(|(_, qos)| *qos == QoS::ExactlyOnce);
                undecided.count() + of_qos_2 >= usize::from(RECEIVE_MAX)
            }
            (Version::V311, _) => self.undecided.len() >= UNDECIDED_MAX,
            (Version::V5, _) => self.undecided.len() + of_qos_2 >= usize::from(RECEIVE_MAX),
        };
        if is_full {
            return Err(Ending { reason: Reason::ReceiveMaximumExceeded, close: CloseReason::OutOfOrder });
        }
        self.undecided.push((packet_id, qos));
        Ok(Arrival::New)
    }

    /// The message was decided; its QoS, or `None` if nobody waits.
    pub(super) fn decided(&mut self, packet_id: u16, taken: bool) -> Option<QoS> {
        let at = self.undecided.iter().position(|(id, _)| *id == packet_id)?;
        let (_, qos) = self.undecided.swap_remove(at);
        if qos == QoS::ExactlyOnce && taken {
            self.received.push(packet_id);
        }
        Some(qos)
    }

    /// Messages that are being decided.
    pub(super) fn undecided(&self) -> usize {
        self.undecided.len()
    }

    /// What was received before this connection.
    pub(super) fn restore_received(&mut self, packet_ids: &[u16]) {
        self.received.extend(packet_ids.iter().take(usize::from(RECEIVE_MAX)));
    }

    /// PUBREL came. False: nothing of that identifier awaits it.
    pub(super) fn release(&mut self, packet_id: u16, durably: bool) -> bool {
        let Some(at) = self.received.iter().position(|id| *id == packet_id) else { return false };
        self.received.swap_remove(at);
        if durably {
            self.releasing.push(packet_id);
        }
        true
    }

    pub(super) fn is_releasing(&self, packet_id: u16) -> bool {
        self.releasing.contains(&packet_id)
    }

    /// The removal is durable.
    pub(super) fn released(&mut self, packet_id: u16) {
        self.releasing.retain(|id| *id != packet_id);
    }

    /// Notes or follows an alias; the topic's name.
    ///
    /// # Errors
    /// An alias above [`ALIASES_MAX`] (MQTT-3.3.2-9), or one that names nothing.
    pub(super) fn topic_of(&mut self, alias: u16, topic: &str) -> Result<&str, Ending> {
        if alias > ALIASES_MAX {
            return Err(Ending { reason: Reason::TopicAliasInvalid, close: CloseReason::BadBody });
        }
        let at = self.aliases.iter().position(|(known, _)| *known == alias);
        let at = match (at, topic.is_empty()) {
            (Some(at), true) => at,
            (Some(at), false) => {
                self.aliases[at].1 = topic.into();
                at
            }
            (None, false) => {
                self.aliases.push((alias, topic.into()));
                self.aliases.len() - 1
            }
            (None, true) => return Err(Ending::protocol_error()),
        };
        Ok(&self.aliases[at].1)
    }

    /// The alias by which the client knows a topic.
    pub(super) fn given(&self, topic: &str) -> Option<u16> {
        let at = self.given.iter().position(|known| **known == *topic)?;
        Some(at as u16 + 1)
    }

    /// The alias that a topic would get.
    pub(super) fn next_given(&self) -> u16 {
        self.given.len() as u16 + 1
    }

    /// The client has been told an alias.
    pub(super) fn give(&mut self, topic: &str) {
        self.given.push(topic.into());
    }

    /// `sent_until`: where mailbox and log stand now.
    pub(super) fn is_idle(&self, sent_until: [Position; 2]) -> bool {
        let repeats = self.sent_before.iter().zip(sent_until).any(|(before, now)| *before > now);
        !repeats
            && self.undecided.is_empty()
            && self.received.is_empty()
            && self.releasing.is_empty()
            && self.unstored.is_empty()
            && self.aliases.is_empty()
            && self.given.is_empty()
    }
}
