//! Packets of a client that is logged in.

use super::flows::{Arrival, Flows};
use super::{Ending, RECEIVE_MAX, Terms, reason_of, sayable};
use crate::close::CloseReason;
use crate::id::{ClientId, MessageId, Position, Source};
use crate::session::{Deliveries, FeedStart, Settled};
use crate::wire::mqtt::{
    Decoder, Disconnect, Kind, Limits, Packet, Properties, Publish, QoS, Reason, ReasonList, Side, SubAck,
    Subscribe, Unsubscribe, Version, encode,
};

/// Logged in. Packets are cut out of bytes by a [`PacketAssembler`](super::PacketAssembler) beside it, so that one may borrow
/// from the other's buffer.
#[derive(Debug)]
pub struct Session {
    pub(super) flows: Option<Box<Flows>>,
    client: ClientId,
    pub(super) deliveries: Deliveries,
    pub(super) terms: Terms,
    /// The next identifier for a message that no store holds.
    pub(super) unstored_next: u16,
    /// It has no past and will have no future: none of its identifiers outlives the connection.
    pub(super) begins_live: bool,
}

/// A message from the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Incoming<'a> {
    /// 0 with QoS 0; else answered with [`Session::published`].
    pub packet_id: u16,
    /// QoS.
    pub qos: QoS,
    /// Keep it for later subscribers.
    pub retain: bool,
    /// It was sent before (MQTT-3.3.1-1).
    pub dup: bool,
    /// The topic name, aliases resolved.
    pub topic: &'a str,
    /// Its properties.
    pub properties: Properties<'a>,
    /// The application's bytes.
    pub content: &'a [u8],
}

/// What came from the client and concerns somebody other than the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(clippy::large_enum_variant, reason = "lives on the stack for one turn")]
pub enum FromClient<'a> {
    /// PINGREQ; its answer is in the output.
    Ping,
    /// PUBLISH, not seen before.
    Publish(Incoming<'a>),
    /// SUBSCRIBE; answered with [`Session::subscribed`].
    Subscribe(Subscribe<'a>),
    /// UNSUBSCRIBE; answered with [`Session::unsubscribed`].
    Unsubscribe(Unsubscribe<'a>),
    /// A stored delivery ended: the client has it (QoS 1), or refused it.
    Settled(Settled),
    /// QoS 2: the client has a stored delivery; record it, then call [`Session::recorded`].
    Received {
        /// Where the position counts.
        source: Source,
        /// Its place.
        position: Position,
        /// The message.
        message: MessageId,
    },
    /// QoS 2: a stored delivery is complete; its record may go.
    Completed(Settled),
    /// A message that no store holds ended; the number under which it was sent.
    Unstored {
        /// The number.
        number: u64,
    },
    /// QoS 2: the client released an identifier that is stored; remove it, then call [`Session::released`].
    Release {
        /// The identifier.
        packet_id: u16,
    },
    /// DISCONNECT: the connection ends.
    Disconnect {
        /// The will is published all the same (0x04).
        with_will: bool,
        /// Another session expiry, seconds.
        expiry_s: Option<u32>,
    },
    /// An ack for which nothing is in flight.
    Stray,
    /// Nobody else needs to see it.
    Answered,
}

impl Session {
    pub(super) fn new(
        client: ClientId,
        mailbox: FeedStart,
        log: FeedStart,
        terms: Terms,
        session_present: bool,
    ) -> Session {
        let deliveries = Deliveries::new(mailbox, log).with_messages_max(terms.receive_max);
        let begins_live = !session_present && !terms.is_kept;
        Session { flows: None, client, deliveries, terms, unstored_next: 0, begins_live }
    }

    /// Identifiers of QoS 2 from the client that an earlier connection left unreleased.
    pub fn restore_received(&mut self, packet_ids: &[u16]) {
        if !packet_ids.is_empty() {
            self.flows.get_or_insert_with(Box::default).restore_received(packet_ids);
        }
    }

    /// Up to where earlier connections of this session may have sent its mailbox and its app's log: up to there a PUBLISH
    /// is marked as sent before (MQTT-3.3.1-1), and not behind it.
    pub fn restore_sent(&mut self, sent_before: [Position; 2]) {
        let sent_until = self.deliveries.sent_until();
        if sent_before.iter().zip(sent_until).any(|(before, now)| *before > now) {
            self.flows.get_or_insert_with(Box::default).sent_before = sent_before;
        }
    }

    /// Whether a stored delivery may have been sent on an earlier connection of this session.
    #[must_use]
    pub fn may_repeat(&self, source: Source, position: Position) -> bool {
        let at = usize::from(source == Source::AppLog);
        self.flows.as_ref().is_some_and(|flows| position <= flows.sent_before[at])
    }

    /// Whether earlier connections of this session may have sent something beyond where its chains begin.
    #[must_use]
    pub fn was_here(&self) -> bool {
        !self.begins_live
    }

    /// The device.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// What was agreed at CONNECT.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The longest silence that is allowed, seconds: 1.5 × keep alive (MQTT-3.1.2-22); without one `otherwise_s`.
    #[must_use]
    pub fn idle_limit_s(&self, otherwise_s: u32) -> u32 {
        match self.terms.keep_alive_s {
            0 => otherwise_s,
            seconds => (u32::from(seconds) * 3).div_ceil(2),
        }
    }

    /// What is on its way to the device out of the store.
    pub fn deliveries(&mut self) -> &mut Deliveries {
        &mut self.deliveries
    }

    /// How this client's packets are read.
    #[must_use]
    pub fn decoder<'l>(&self, limits: &'l Limits) -> Decoder<'l> {
        Decoder::new(self.terms.version, Side::Client, limits)
    }

    /// Takes one packet. Answers go to `out`.
    ///
    /// # Errors
    /// What to end the connection with.
    pub fn receive<'a>(
        &'a mut self,
        packet: Packet<'a>,
        out: &mut Vec<u8>,
    ) -> Result<FromClient<'a>, Ending> {
        Ok(match packet {
            Packet::Publish(publish) => return self.publish(publish, out),
            Packet::PubAck(ack) => return self.acked(ack.packet_id),
            Packet::PubRec(ack) => return self.received(ack.packet_id, ack.reason, out),
            Packet::PubRel(ack) => self.release(ack.packet_id, out),
            Packet::PubComp(ack) => return self.completed(ack.packet_id),
            Packet::Subscribe(subscribe) => FromClient::Subscribe(subscribe),
            Packet::Unsubscribe(unsubscribe) => FromClient::Unsubscribe(unsubscribe),
            Packet::PingReq => {
                let sent_until = self.deliveries.sent_until();
                if self.flows.as_ref().is_some_and(|flows| flows.is_idle(sent_until)) {
                    self.flows = None;
                }
                // The packet has no fields that could be too long.
                let _ = encode(&Packet::PingResp, self.terms.version, out);
                FromClient::Ping
            }
            Packet::Disconnect(disconnect) => return self.disconnect(&disconnect),
            // A second CONNECT (MQTT-3.1.0-2), AUTH without a method (MQTT-4.12.0-7), or what only servers send.
            _ => return Err(Ending::protocol_error()),
        })
    }

    fn publish<'a>(&'a mut self, publish: Publish<'a>, out: &mut Vec<u8>) -> Result<FromClient<'a>, Ending> {
        let Publish { qos, packet_id, retain, dup, properties, payload, .. } = publish;
        if qos != QoS::AtMostOnce {
            match self.flows.get_or_insert_with(Box::default).arrives(packet_id, qos, self.terms.version)? {
                Arrival::New => {}
                Arrival::Undecided => return Ok(FromClient::Answered),
                Arrival::Received => {
                    self.ack(Kind::PubRec, packet_id, Reason::Success, out);
                    return Ok(FromClient::Answered);
                }
            }
        }
        let topic = match properties.topic_alias() {
            Some(alias) => self.flows.get_or_insert_with(Box::default).topic_of(alias, publish.topic)?,
            None => publish.topic,
        };
        Ok(FromClient::Publish(Incoming { packet_id, qos, retain, dup, topic, properties, content: payload }))
    }

    /// A message from the client was decided: PUBACK or PUBREC goes to `out`. A negative `reason` is said in 5.0 only; in
    /// 3.1.1 the caller ends the connection instead (MQTT 3.3.5 there).
    pub fn published(&mut self, packet_id: u16, reason: Reason, out: &mut Vec<u8>) {
        let taken = (reason as u8) < 0x80;
        let Some(qos) = self.flows.as_mut().and_then(|flows| flows.decided(packet_id, taken)) else { return };
        let (kind, reason) = match (qos, reason) {
            // That nobody wants it may be said (3.5.2.1). PUBREC keeps quiet about it: the exchange goes on all the same, and
            // there are clients that take every code but 0 for a refusal.
            (QoS::ExactlyOnce, Reason::NoMatchingSubscribers) => (Kind::PubRec, Reason::Success),
            (QoS::ExactlyOnce, _) => (Kind::PubRec, reason),
            _ => (Kind::PubAck, reason),
        };
        self.ack(kind, packet_id, reason, out);
    }

    /// So many messages of a client of 3.1.1 are being decided that it is not read until one is. One of 5.0 stops by itself.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.terms.version == Version::V311
            && self.flows.as_ref().is_some_and(|flows| flows.undecided() >= usize::from(RECEIVE_MAX))
    }

    /// PUBREL.
    fn release(&mut self, packet_id: u16, out: &mut Vec<u8>) -> FromClient<'static> {
        let durably = self.terms.is_kept;
        let known = self.flows.as_mut().is_some_and(|flows| flows.release(packet_id, durably));
        if known && durably {
            return FromClient::Release { packet_id };
        }
        if !known && self.flows.as_ref().is_some_and(|flows| flows.is_releasing(packet_id)) {
            return FromClient::Answered;
        }
        let reason = if known { Reason::Success } else { Reason::PacketIdNotFound };
        self.ack(Kind::PubComp, packet_id, reason, out);
        FromClient::Answered
    }

    /// The removal of an identifier is durable: PUBCOMP goes to `out`.
    pub fn released(&mut self, packet_id: u16, out: &mut Vec<u8>) {
        if let Some(flows) = &mut self.flows {
            flows.released(packet_id);
        }
        self.ack(Kind::PubComp, packet_id, Reason::Success, out);
    }

    fn disconnect(&mut self, disconnect: &Disconnect<'_>) -> Result<FromClient<'static>, Ending> {
        let expiry_s = disconnect.properties.session_expiry();
        // A session that was to end with its connection cannot be kept by its last word (3.14.2.2.2).
        if expiry_s.is_some_and(|seconds| seconds > 0) && !self.terms.is_kept {
            return Err(Ending::protocol_error());
        }
        Ok(FromClient::Disconnect { with_will: disconnect.reason != Reason::Success, expiry_s })
    }

    /// SUBACK.
    pub fn subscribed(&self, packet_id: u16, reasons: &[Reason], out: &mut Vec<u8>) {
        let answer = self.codes(packet_id, reasons);
        // Codes alone are never too long.
        let _ = encode(&Packet::SubAck(answer), self.terms.version, out);
    }

    /// UNSUBACK; in 3.1.1 without codes.
    pub fn unsubscribed(&self, packet_id: u16, reasons: &[Reason], out: &mut Vec<u8>) {
        let answer = self.codes(packet_id, reasons);
        let _ = encode(&Packet::UnsubAck(answer), self.terms.version, out);
    }

    fn codes<'r>(&self, packet_id: u16, reasons: &'r [Reason]) -> SubAck<'r> {
        SubAck { packet_id, properties: Properties::default(), reasons: ReasonList::new(reasons) }
    }

    /// Says why the connection ends; in 3.1.1 a server has no word for it.
    pub fn end(&self, ending: Ending, out: &mut Vec<u8>) {
        if self.terms.version == Version::V5 {
            let reason = sayable(ending.reason, Kind::Disconnect);
            let answer = Disconnect { reason, properties: Properties::default() };
            let _ = encode(&Packet::Disconnect(answer), self.terms.version, out);
        }
    }

    /// The same for an ending that the server decides.
    pub fn close(&self, close: CloseReason, out: &mut Vec<u8>) {
        self.end(Ending { reason: reason_of(close), close }, out);
    }
}
