//! What goes to the client.

use super::ALIASES_MAX;
use super::Ending;
use super::flows::Unstored;
use super::session::{FromClient, Session};
use crate::id::{MessageId, Position, Source};
use crate::session::window::Stage;
use crate::wire::mqtt::{Aliasing, Kind, QoS, Reason, ack_frame};
use std::ops::RangeInclusive;

/// Identifiers of app log deliveries, in every session.
const LOG: RangeInclusive<u16> = 32_768..=49_151;
/// Identifiers of what a session mostly gets: mailbox deliveries if it is kept, else messages that no store holds.
const MOST: RangeInclusive<u16> = 1..=32_767;
/// Identifiers of the other of the two.
const FEW: RangeInclusive<u16> = 49_152..=65_535;
/// What an alias takes in a packet: a shorter topic gains nothing by one.
const ALIAS_BYTES: usize = 3;

/// The identifier of a stored delivery; positions count from 1.
fn packet_id_of(begins_live: bool, source: Source, position: Position) -> u16 {
    let range = match source {
        Source::AppLog => LOG,
        Source::Mailbox if begins_live => FEW,
        Source::Mailbox => MOST,
    };
    let size = u64::from(range.end() - range.start()) + 1;
    range.start() + (position.sequence().saturating_sub(1) % size) as u16
}

impl Session {
    /// The packet identifier of a stored delivery: a function of its place, so that it is the same on every connection and
    /// after a crash (MQTT-4.4.0-1) and nothing has to be kept for it. Two in one window never meet. Both kinds of session
    /// begin with 1: there are clients that count along.
    #[must_use]
    pub fn packet_id_of(&self, source: Source, position: Position) -> u16 {
        packet_id_of(self.begins_live, source, position)
    }

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
            self.ack(Kind::PubRel, self.packet_id_of(source, position), Reason::Success, out);
        }
    }

    /// PUBREC of a stored delivery is recorded: PUBREL goes to `out`.
    pub fn recorded(&mut self, source: Source, position: Position, out: &mut Vec<u8>) {
        let is_meant = |entry: &crate::session::window::InFlight| {
            (entry.source, entry.position) == (source, position) && entry.stage == Stage::Recorded
        };
        if let Some(entry) = self.deliveries.find(is_meant) {
            entry.stage = Stage::Complete;
            self.ack(Kind::PubRel, self.packet_id_of(source, position), Reason::Success, out);
        }
    }

    /// A place and an identifier for a message of QoS 1 or 2 that no store holds; `None`: the window is full. `number`
    /// comes back with its end.
    pub fn send_unstored(&mut self, qos: QoS, number: u64) -> Option<u16> {
        if !self.deliveries.take_place() {
            return None;
        }
        let range = if self.begins_live { MOST } else { FEW };
        let flows = self.flows.get_or_insert_with(Box::default);
        let behind = |packet_id: u16| if packet_id < *range.end() { packet_id + 1 } else { *range.start() };
        // At most a window of them are taken, so one is found soon.
        let mut packet_id = self.unstored_next.max(*range.start());
        while flows.unstored.iter().any(|unstored| unstored.packet_id == packet_id) {
            packet_id = behind(packet_id);
        }
        self.unstored_next = behind(packet_id);
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
    ///
    /// # Errors
    /// The identifier is under way with QoS 2.
    pub(super) fn acked(&mut self, packet_id: u16) -> Result<FromClient<'static>, Ending> {
        let begins_live = self.begins_live;
        let stored = self.deliveries.take(|entry| {
            packet_id_of(begins_live, entry.source, entry.position) == packet_id
                && entry.stage == Stage::Ack
                && entry.gap.is_none()
        });
        match stored {
            Some(settled) => Ok(FromClient::Settled(settled)),
            None => self.ends_or_stray(packet_id, |unstored| unstored.qos == QoS::AtLeastOnce),
        }
    }

    /// PUBREC.
    ///
    /// # Errors
    /// The identifier is under way with QoS 1.
    pub(super) fn received(
        &mut self,
        packet_id: u16,
        reason: Reason,
        out: &mut Vec<u8>,
    ) -> Result<FromClient<'static>, Ending> {
        let begins_live = self.begins_live;
        let is_meant = |entry: &crate::session::window::InFlight| {
            packet_id_of(begins_live, entry.source, entry.position) == packet_id && entry.stage != Stage::Ack
        };
        // The client refuses it: that is an end, and it is not sent again (MQTT 4.3.3).
        let refused = reason as u8 >= 0x80;
        if refused && let Some(settled) = self.deliveries.take(is_meant) {
            return Ok(FromClient::Settled(settled));
        }
        if let Some(entry) = self.deliveries.find(is_meant) {
            let (stage, source, position, message) =
                (entry.stage, entry.source, entry.position, entry.message);
            match stage {
                Stage::Received => {
                    entry.stage = Stage::Recorded;
                    return Ok(FromClient::Received { source, position, message });
                }
                Stage::Complete => self.ack(Kind::PubRel, packet_id, Reason::Success, out),
                Stage::Ack | Stage::Recorded => {}
            }
            return Ok(FromClient::Answered);
        }
        if refused {
            return self.ends_or_stray(packet_id, |unstored| unstored.qos == QoS::ExactlyOnce);
        }
        let is_other = self.is_under_way(packet_id);
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
            None if is_other => return Err(Ending::protocol_error()),
            None => Reason::PacketIdNotFound,
        };
        self.ack(Kind::PubRel, packet_id, answer, out);
        Ok(FromClient::Answered)
    }

    /// PUBCOMP.
    ///
    /// # Errors
    /// The identifier is under way, and no PUBREL was sent for it.
    pub(super) fn completed(&mut self, packet_id: u16) -> Result<FromClient<'static>, Ending> {
        let begins_live = self.begins_live;
        let stored = self.deliveries.take(|entry| {
            packet_id_of(begins_live, entry.source, entry.position) == packet_id
                && entry.stage == Stage::Complete
        });
        match stored {
            Some(settled) => Ok(FromClient::Completed(settled)),
            None => self.ends_or_stray(packet_id, |unstored| unstored.released),
        }
    }

    /// The message in memory of this identifier ends, if it is `due`. An ack for what is not under way is passed over: it may
    /// be of the connection before. One that does not fit what is under way breaks the protocol (MQTT-4.3.2-2,
    /// MQTT-4.3.3-4, MQTT-4.3.3-6).
    fn ends_or_stray(
        &mut self,
        packet_id: u16,
        due: impl Fn(&Unstored) -> bool,
    ) -> Result<FromClient<'static>, Ending> {
        match self.unstored_ends(|unstored| unstored.packet_id == packet_id && due(unstored)) {
            FromClient::Stray if self.is_under_way(packet_id) => Err(Ending::protocol_error()),
            ended => Ok(ended),
        }
    }

    fn is_under_way(&mut self, packet_id: u16) -> bool {
        let begins_live = self.begins_live;
        let stored = self.deliveries.find(|entry| {
            packet_id_of(begins_live, entry.source, entry.position) == packet_id && entry.gap.is_none()
        });
        stored.is_some()
            || self.flows.iter().flat_map(|flows| &flows.unstored).any(|one| one.packet_id == packet_id)
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
