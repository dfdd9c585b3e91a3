//! Bodies into packets. Everything borrows from the input.
//!
//! - `connect`: CONNECT.
//! - `read`: the cursor.

mod connect;
pub(super) mod read;

use super::header::judge_first;
use super::{
    Ack, Auth, ConnAck, Disconnect, Fault, Filters, Header, Kind, Limits, Options, Packet, Place, Properties,
    PropertyKey, Publish, QoS, Reason, ReasonList, Side, SubAck, Subscribe, Unsubscribe, Version, topic,
};
use read::Reader;

/// How packets of one peer are read. Small and `Copy`: a connection keeps its version, not a decoder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decoder<'l> {
    /// The version of the session; a CONNECT names its own.
    pub version: Version,
    /// Who sends.
    pub from: Side,
    /// What is accepted.
    pub limits: &'l Limits,
}

impl<'l> Decoder<'l> {
    /// A decoder of what `from` sends.
    #[must_use]
    pub const fn new(version: Version, from: Side, limits: &'l Limits) -> Decoder<'l> {
        Decoder { version, from, limits }
    }

    /// Judges a fixed header by as many bytes as there are, before any byte of the body is awaited: `None` asks for
    /// more of the at most five bytes.
    ///
    /// # Errors
    /// [`Fault::ReservedType`], [`Fault::HeaderFlags`], [`Fault::QoS`], [`Fault::DupAtMostOnce`] and
    /// [`Fault::Direction`] by the first byte; [`Fault::VariableInteger`], [`Fault::TooLarge`] and
    /// [`Fault::BodyLength`] by the length.
    #[inline]
    pub fn peek(&self, bytes: &[u8]) -> Result<Option<Header>, Fault> {
        Header::judge(bytes, self.version, self.from, self.limits)
    }

    /// The same for the first packet of a connection, which is CONNECT (MQTT-3.1.0-1).
    ///
    /// # Errors
    /// Those of [`peek`](Self::peek), and [`Fault::NotConnect`] by the first byte.
    pub fn peek_first(&self, bytes: &[u8]) -> Result<Option<Header>, Fault> {
        if let Some(&first) = bytes.first() {
            let (kind, _) = judge_first(first, self.version, self.from)?;
            if kind != Kind::Connect {
                return Err(Fault::NotConnect(kind));
            }
        }
        self.peek(bytes)
    }

    /// Decodes the body that belongs to a header of this decoder; `body` is exactly [`Header::body_bytes`] long.
    ///
    /// # Errors
    /// Any [`Fault`] but those of the header.
    #[inline]
    pub fn decode<'a>(&self, header: Header, body: &'a [u8]) -> Result<Packet<'a>, Fault> {
        if body.len() != header.body_bytes as usize {
            return Err(Fault::BodyLength(header.kind));
        }
        match header.kind {
            Kind::Publish => self.publish(header, body).map(Packet::Publish),
            Kind::PubAck => self.ack(Kind::PubAck, body).map(Packet::PubAck),
            Kind::PubRec => self.ack(Kind::PubRec, body).map(Packet::PubRec),
            Kind::PubRel => self.ack(Kind::PubRel, body).map(Packet::PubRel),
            Kind::PubComp => self.ack(Kind::PubComp, body).map(Packet::PubComp),
            Kind::PingReq => Ok(Packet::PingReq),
            Kind::PingResp => Ok(Packet::PingResp),
            Kind::Connect => connect::connect(body, self.limits).map(Packet::Connect),
            Kind::ConnAck => self.connack(body).map(Packet::ConnAck),
            Kind::Subscribe => self.subscribe(body).map(Packet::Subscribe),
            Kind::Unsubscribe => self.unsubscribe(body).map(Packet::Unsubscribe),
            Kind::SubAck => self.suback(Kind::SubAck, body).map(Packet::SubAck),
            Kind::UnsubAck => self.suback(Kind::UnsubAck, body).map(Packet::UnsubAck),
            Kind::Disconnect => self.disconnect(body).map(Packet::Disconnect),
            Kind::Auth => self.auth(body).map(Packet::Auth),
        }
    }

    /// Takes the next whole packet off the front of the input; `None` leaves the input as it is and asks for more.
    ///
    /// # Errors
    /// Any [`Fault`], as early as the bytes show it.
    #[inline]
    pub fn next<'a>(&self, input: &mut &'a [u8]) -> Result<Option<Packet<'a>>, Fault> {
        let Some(header) = self.peek(input)? else { return Ok(None) };
        let Some((packet, rest)) = input.split_at_checked(header.packet_bytes()) else { return Ok(None) };
        let packet = self.decode(header, &packet[usize::from(header.header_bytes)..])?;
        *input = rest;
        Ok(Some(packet))
    }

    #[inline]
    fn publish<'a>(&self, header: Header, body: &'a [u8]) -> Result<Publish<'a>, Fault> {
        let qos = QoS::from_bits(header.flags >> 1 & 0b11).ok_or(Fault::QoS)?;
        let mut reader = Reader::new(body, Kind::Publish);
        let topic = reader.binary()?;
        let packet_id = if qos == QoS::AtMostOnce { 0 } else { reader.packet_id()? };
        let properties = match self.version {
            Version::V311 => Properties::default(),
            Version::V5 => self.publish_properties(&mut reader)?,
        };
        let topic = if topic.is_empty() && self.version == Version::V5 {
            if !properties.has(PropertyKey::TopicAlias) {
                return Err(Fault::NoTopic);
            }
            ""
        } else {
            topic::name(topic, self.limits)?
        };
        let payload = reader.rest();
        let (dup, retain) = (header.flags & 0b1000 != 0, header.flags & 0b0001 != 0);
        Ok(Publish { dup, qos, retain, topic, packet_id, properties, payload })
    }

    #[inline]
    fn publish_properties<'a>(&self, reader: &mut Reader<'a>) -> Result<Properties<'a>, Fault> {
        let properties =
            Properties::read(reader, Place::In(Kind::Publish), self.from == Side::Server, self.limits)?;
        if self.from == Side::Client && properties.has(PropertyKey::SubscriptionIdentifier) {
            return Err(Fault::SubscriptionIdentifier);
        }
        Ok(properties)
    }

    #[inline]
    fn ack<'a>(&self, kind: Kind, body: &'a [u8]) -> Result<Ack<'a>, Fault> {
        let mut reader = Reader::new(body, kind);
        let packet_id = reader.packet_id()?;
        let (reason, properties) = self.outcome(kind, reader)?;
        Ok(Ack { packet_id, reason, properties })
    }

    /// A reason and properties at the end of a body. Both may be missing: then they are success and none
    /// (3.4.2.1, 3.4.2.2.1, and alike in the other packets).
    fn outcome<'a>(&self, kind: Kind, mut reader: Reader<'a>) -> Result<(Reason, Properties<'a>), Fault> {
        if reader.is_empty() {
            return Ok((Reason::Success, Properties::default()));
        }
        let reason = self.reason(kind, &mut reader)?;
        if reader.is_empty() {
            return Ok((reason, Properties::default()));
        }
        let properties = self.properties(kind, &mut reader)?;
        reader.end()?;
        Ok((reason, properties))
    }

    fn reason(&self, kind: Kind, reader: &mut Reader<'_>) -> Result<Reason, Fault> {
        let byte = reader.u8()?;
        Reason::from_byte(byte).filter(|code| code.fits(kind, self.from)).ok_or(Fault::ReasonCode(byte))
    }

    /// The properties of a packet; 3.1.1 has none.
    fn properties<'a>(&self, kind: Kind, reader: &mut Reader<'a>) -> Result<Properties<'a>, Fault> {
        match self.version {
            Version::V311 => Ok(Properties::default()),
            Version::V5 => Properties::read(reader, Place::In(kind), false, self.limits),
        }
    }

    fn connack<'a>(&self, body: &'a [u8]) -> Result<ConnAck<'a>, Fault> {
        let mut reader = Reader::new(body, Kind::ConnAck);
        let flags = reader.u8()?;
        let reason = match self.version {
            Version::V5 => self.reason(Kind::ConnAck, &mut reader)?,
            Version::V311 => {
                let code = reader.u8()?;
                Reason::from_connect_return(code).ok_or(Fault::ReasonCode(code))?
            }
        };
        // MQTT-3.2.2-1, -6.
        if flags > 1 || (flags == 1 && reason != Reason::Success) {
            return Err(Fault::ConnAckFlags);
        }
        let properties = self.properties(Kind::ConnAck, &mut reader)?;
        reader.end()?;
        Ok(ConnAck { session_present: flags == 1, reason, properties })
    }

    fn subscribe<'a>(&self, body: &'a [u8]) -> Result<Subscribe<'a>, Fault> {
        let mut reader = Reader::new(body, Kind::Subscribe);
        let packet_id = reader.packet_id()?;
        let properties = self.properties(Kind::Subscribe, &mut reader)?;
        let filters = Filters { bytes: reader.rest(), with_options: true };
        let mut entries = Reader::new(filters.bytes, Kind::Subscribe);
        if entries.is_empty() {
            return Err(Fault::NoPayload(Kind::Subscribe));
        }
        while !entries.is_empty() {
            let filter = topic::Filter::parse(entries.binary()?, self.limits)?;
            let byte = entries.u8()?;
            let options = Options::from_byte(byte, self.version).ok_or(if byte & 0b11 == 0b11 {
                Fault::QoS
            } else {
                Fault::SubscriptionOptions
            })?;
            if options.no_local && filter.group().is_some() {
                return Err(Fault::NoLocalShared);
            }
        }
        Ok(Subscribe { packet_id, properties, filters })
    }

    fn unsubscribe<'a>(&self, body: &'a [u8]) -> Result<Unsubscribe<'a>, Fault> {
        let mut reader = Reader::new(body, Kind::Unsubscribe);
        let packet_id = reader.packet_id()?;
        let properties = self.properties(Kind::Unsubscribe, &mut reader)?;
        let filters = Filters { bytes: reader.rest(), with_options: false };
        let mut entries = Reader::new(filters.bytes, Kind::Unsubscribe);
        if entries.is_empty() {
            return Err(Fault::NoPayload(Kind::Unsubscribe));
        }
        while !entries.is_empty() {
            topic::Filter::parse(entries.binary()?, self.limits)?;
        }
        Ok(Unsubscribe { packet_id, properties, filters })
    }

    fn suback<'a>(&self, kind: Kind, body: &'a [u8]) -> Result<SubAck<'a>, Fault> {
        let mut reader = Reader::new(body, kind);
        let packet_id = reader.packet_id()?;
        let properties = self.properties(kind, &mut reader)?;
        let codes = reader.rest();
        let coded = kind == Kind::SubAck || self.version == Version::V5;
        if codes.is_empty() && coded {
            return Err(Fault::NoPayload(kind));
        }
        for &code in codes {
            let fits = match self.version {
                // 3.1.1 MQTT-3.9.3-2.
                Version::V311 => matches!(code, 0..=2 | 0x80),
                Version::V5 => Reason::from_byte(code).is_some_and(|code| code.fits(kind, self.from)),
            };
            if !fits {
                return Err(Fault::ReasonCode(code));
            }
        }
        Ok(SubAck { packet_id, properties, reasons: ReasonList::judged(codes) })
    }

    fn disconnect<'a>(&self, body: &'a [u8]) -> Result<Disconnect<'a>, Fault> {
        let (reason, properties) = self.outcome(Kind::Disconnect, Reader::new(body, Kind::Disconnect))?;
        // MQTT-3.14.2-2.
        if self.from == Side::Server && properties.has(PropertyKey::SessionExpiry) {
            return Err(Fault::PropertyUnknown(PropertyKey::SessionExpiry as u32));
        }
        Ok(Disconnect { reason, properties })
    }

    fn auth<'a>(&self, body: &'a [u8]) -> Result<Auth<'a>, Fault> {
        let (reason, properties) = self.outcome(Kind::Auth, Reader::new(body, Kind::Auth))?;
        // 3.15.2.2.2; an AUTH without a body is success without properties (3.15.2.1).
        if !body.is_empty() && !properties.has(PropertyKey::AuthMethod) {
            return Err(Fault::NoAuthMethod);
        }
        Ok(Auth { reason, properties })
    }
}
