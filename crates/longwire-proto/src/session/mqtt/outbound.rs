//! What goes to the client.

use super::ALIASES_MAX;
use super::flows::Unstored;
use super::session::{FromClient, Session};
use crate::id::{MessageId, Position, Source};
use crate::session::window::Stage;
use crate::wire::mqtt::{Aliasing, Kind, QoS, Reason, ack_frame};

/// Identifiers of mailbox deliveries.
const MAILBOX_IDS: u64 = 32_767;
/// Identifiers of log deliveries come after them.
const LOG_IDS: u64 = 16_384;
/// Identifiers of messages that no store holds come last.
const UNSTORED_FIRST: u16 = 49_152;
/// What an alias takes in a packet: a shorter topic gains nothing by one.
const ALIAS_BYTES: usize = 3;

/// The packet identifier of a stored delivery: a function of its place, so that it is the same on every connection and
/// after a crash (MQTT-4.4.0-1) and nothing has to be kept for it. Two in one window never meet.
#[must_use]
pub fn packet_id_of(source: Source, position: Position) -> u16 {
    let sequence = position.sequence();
    match source {
        Source::Mailbox => (sequence % MAILBOX_IDS) as u16 + 1,
        Source::AppLog => (sequence % LOG_IDS) as u16 + 32_768,
    }
}

impl Session {
    /// The stored delivery that has just been offered or taken from a page is sent with QoS 2.
    pub fn sends_twice(&mut self, message: MessageId) {
        if let Some(entry) = self.deliveries.find(|entry| entry.message == message) {
            entry.stage = Stage::Received;
        }
    }

    /// A delivery of a page whose PUBREC was recorded on an earlier connection: PUBREL goes to `out` again.
    pub fn releases_again(&mut self, source: Source, position: Position, out: &mut Vec<u8>) {
        if let Some(entry) =
            self.deliveries.find(|entry| (entry.source, entry.position) == (source, position))
        {
            entry.stage = Stage::Complete;
            self.ack(Kind::PubRel, packet_id_of(source, position), Reason::Success, out);
        }
    }

    /// PUBREC of a stored delivery is recorded: PUBREL goes to `out`.
    pub fn recorded(&mut self, source: Source, position: Position, out: &mut Vec<u8>) {
        let is_meant = |entry: &crate::session::window::InFlight| {
            (entry.source, entry.position) == (source, position) && entry.stage == Stage::Recorded
        };
        if let Some(entry) = self.deliveries.find(is_meant) {
            entry.stage = Stage::Complete;
            self.ack(Kind::PubRel, packet_id_of(source, position), Reason::Success, out);
        }
    }

    /// A place and an identifier for a message of QoS 1 or 2 that no store holds; `None`: the window is full. `number`
    /// comes back with its end.
    pub fn send_unstored(&mut self, qos: QoS, number: u64) -> Option<u16> {
        if !self.deliveries.take_place() {
            return None;
        }
        let flows = self.flows.get_or_insert_with(Box::default);
        // At most a window of them are taken, so one is found soon.
        let mut packet_id = self.unstored_next.max(UNSTORED_FIRST);
        while flows.unstored.iter().any(|unstored| unstored.packet_id == packet_id) {
            packet_id = packet_id.checked_add(1).unwrap_or(UNSTORED_FIRST);
        }
        self.unstored_next = packet_id.checked_add(1).unwrap_or(UNSTORED_FIRST);
        flows.unstored.push(Unstored { packet_id, released: false, qos, number });
        Some(packet_id)
    }

    /// How a PUBLISH to this client names its topic. The first topics of a connection get the aliases that the client can
    /// take, at most [`ALIASES_MAX`] (MQTT-3.1.2-26, MQTT-3.1.2-27); they keep them, and later ones are spelled.
    #[must_use]
    pub fn aliasing(&self, topic: &str) -> Aliasing {
        let most = self.terms.aliases_max.min(ALIASES_MAX);
        if most == 0 || topic.len() <= ALIAS_BYTES {
            return Aliasing::Spelled;
        }
        let Some(flows) = &self.flows else { return Aliasing::Introduce(1) };
        match (flows.given(topic), flows.next_given()) {
            (Some(alias), _) => Aliasing::Use(alias),
            (None, next) if next <= most => Aliasing::Introduce(next),
            (None, _) => Aliasing::Spelled,
        }
    }

    /// A PUBLISH that [`aliasing`](Self::aliasing) let introduce an alias is on its way.
    pub fn introduced(&mut self, topic: &str) {
        self.flows.get_or_insert_with(Box::default).give(topic);
    }

    /// What [`send_unstored`](Self::send_unstored) gave a place to is not sent after all; 0 had none.
    pub fn unsent(&mut self, packet_id: u16) {
        if packet_id != 0 {
            self.unstored_ends(|unstored| unstored.packet_id == packet_id);
        }
    }

    /// Whether something that no store holds was sent and is not finished.
    #[must_use]
    pub fn has_unstored(&self) -> bool {
        self.flows.as_ref().is_some_and(|flows| !flows.unstored.is_empty())
    }

    /// Numbers of what was sent without a store and is not finished.
    pub fn unstored(&self) -> impl Iterator<Item = u64> + '_ {
        self.flows.iter().flat_map(|flows| &flows.unstored).map(|unstored| unstored.number)
    }

    /// PUBACK.
    pub(super) fn acked(&mut self, packet_id: u16) -> FromClient<'static> {
        let stored = self.deliveries.take(|entry| {
            packet_id_of(entry.source, entry.position) == packet_id && entry.stage == Stage::Ack && !entry.gap
        });
        match stored {
            Some(settled) => FromClient::Settled(settled),
            None => self.unstored_ends(|unstored| {
                unstored.packet_id == packet_id && unstored.qos == QoS::AtLeastOnce
            }),
        }
    }

    /// PUBREC.
    pub(super) fn received(
        &mut self,
        packet_id: u16,
        reason: Reason,
        out: &mut Vec<u8>,
    ) -> FromClient<'static> {
        let is_meant = |entry: &crate::session::window::InFlight| {
            packet_id_of(entry.source, entry.position) == packet_id && entry.stage != Stage::Ack
        };
        // The client refuses it: that is an end, and it is not sent again (MQTT 4.3.3).
        let refused = reason as u8 >= 0x80;
        if refused && let Some(settled) = self.deliveries.take(is_meant) {
            return FromClient::Settled(settled);
        }
        if let Some(entry) = self.deliveries.find(is_meant) {
            let (stage, source, position, message) =
                (entry.stage, entry.source, entry.position, entry.message);
            match stage {
                Stage::Received => {
                    entry.stage = Stage::Recorded;
                    return FromClient::Received { source, position, message };
                }
                Stage::Complete => self.ack(Kind::PubRel, packet_id, Reason::Success, out),
                Stage::Ack | Stage::Recorded => {}
            }
            return FromClient::Answered;
        }
        if refused {
            return self.unstored_ends(|unstored| unstored.packet_id == packet_id);
        }
        let known = self
            .flows
            .iter_mut()
            .flat_map(|flows| &mut flows.unstored)
            .find(|unstored| unstored.packet_id == packet_id && unstored.qos == QoS::ExactlyOnce);
        let answer = match known {
            Some(unstored) => {
                unstored.released = true;
                Reason::Success
            }
            // A PUBREL must answer every PUBREC, or the client keeps the identifier for ever.
            None => Reason::PacketIdNotFound,
        };
        self.ack(Kind::PubRel, packet_id, answer, out);
        FromClient::Answered
    }

    /// PUBCOMP.
    pub(super) fn completed(&mut self, packet_id: u16) -> FromClient<'static> {
        let stored = self.deliveries.take(|entry| {
            packet_id_of(entry.source, entry.position) == packet_id && entry.stage == Stage::Complete
        });
        match stored {
            Some(settled) => FromClient::Completed(settled),
            None => self.unstored_ends(|unstored| unstored.packet_id == packet_id && unstored.released),
        }
    }

    fn unstored_ends(&mut self, is_meant: impl Fn(&Unstored) -> bool) -> FromClient<'static> {
        let Some(flows) = &mut self.flows else { return FromClient::Stray };
        let Some(at) = flows.unstored.iter().position(is_meant) else { return FromClient::Stray };
        let Unstored { number, .. } = flows.unstored.swap_remove(at);
        self.deliveries.give_place();
        FromClient::Unstored { number }
    }

    pub(super) fn ack(&self, kind: Kind, packet_id: u16, reason: Reason, out: &mut Vec<u8>) {
        out.extend_from_slice(ack_frame(kind, self.terms.version, packet_id, reason).as_bytes());
    }
}
