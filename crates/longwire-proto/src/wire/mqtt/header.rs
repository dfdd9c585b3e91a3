//! The fixed header, judged byte by byte: a wrong type or flag at the first byte, a length at its last.

use super::{Fault, QoS};

/// The version of a session.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V311,
    /// MQTT 5.0, protocol level 5.
    V5,
}

impl Version {
    /// The byte behind the protocol name of CONNECT.
    #[must_use]
    pub const fn level(self) -> u8 {
        match self {
            Version::V311 => 4,
            Version::V5 => 5,
        }
    }
}

/// Who sent a packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Side {
    /// The client: what a server decodes.
    Client,
    /// The server: what a client decodes.
    Server,
}

/// What a decoder accepts. A packet beyond a limit is refused with the fault named here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The whole packet, fixed header included, bytes; [`Fault::TooLarge`] before the body is awaited.
    pub packet_bytes_max: u32,
    /// Topic name or filter, bytes of UTF-8; [`Fault::TopicName`], [`Fault::TopicFilter`].
    pub topic_bytes_max: u16,
    /// Levels of a topic name or filter; the same faults.
    pub topic_levels_max: u16,
    /// One level of a topic name or filter, bytes; the same faults.
    pub level_bytes_max: u16,
    /// Client id, bytes of UTF-8; [`Fault::ClientId`].
    pub client_id_bytes_max: u16,
    /// User name, bytes of UTF-8; [`Fault::Credentials`].
    pub user_name_bytes_max: u16,
    /// Password, bytes; [`Fault::Credentials`].
    pub password_bytes_max: u16,
    /// Payload of a will, bytes; [`Fault::WillTooLarge`].
    pub will_bytes_max: u16,
    /// User properties in one packet (a will counts on its own); [`Fault::UserProperties`].
    pub user_properties_max: u16,
    /// Names and values of the user properties of one packet, bytes in all; [`Fault::UserProperties`].
    pub user_property_bytes_max: u32,
}

impl Limits {
    /// What the specification itself allows; for a client, which trusts its server's sizes.
    pub const SPECIFICATION: Limits = Limits {
        packet_bytes_max: 5 + REMAINING_MAX,
        topic_bytes_max: u16::MAX,
        topic_levels_max: u16::MAX,
        level_bytes_max: u16::MAX,
        client_id_bytes_max: u16::MAX,
        user_name_bytes_max: u16::MAX,
        password_bytes_max: u16::MAX,
        will_bytes_max: u16::MAX,
        user_properties_max: u16::MAX,
        user_property_bytes_max: u32::MAX,
    };
}

impl Default for Limits {
    /// What a server accepts.
    fn default() -> Limits {
        Limits {
            packet_bytes_max: 64 * 1024,
            topic_bytes_max: 256,
            topic_levels_max: 16,
            level_bytes_max: 64,
            client_id_bytes_max: 128,
            user_name_bytes_max: 128,
            password_bytes_max: 512,
            will_bytes_max: 1024,
            user_properties_max: 8,
            user_property_bytes_max: 1024,
        }
    }
}

/// The largest remaining length, and the largest variable byte integer (1.5.5).
pub(super) const REMAINING_MAX: u32 = 268_435_455;

/// The type of a packet; the upper half of its first byte.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Client → server.
    Connect = 1,
    /// Server → client.
    ConnAck = 2,
    /// Both ways.
    Publish = 3,
    /// Both ways: the answer to QoS 1.
    PubAck = 4,
    /// Both ways: QoS 2, first answer.
    PubRec = 5,
    /// Both ways: QoS 2, release.
    PubRel = 6,
    /// Both ways: QoS 2, last answer.
    PubComp = 7,
    /// Client → server.
    Subscribe = 8,
    /// Server → client.
    SubAck = 9,
    /// Client → server.
    Unsubscribe = 10,
    /// Server → client.
    UnsubAck = 11,
    /// Client → server.
    PingReq = 12,
    /// Server → client.
    PingResp = 13,
    /// Client → server; in 5.0 both ways.
    Disconnect = 14,
    /// 5.0 only, both ways.
    Auth = 15,
}

impl Kind {
    const fn from_nibble(nibble: u8) -> Option<Kind> {
        Some(match nibble {
            1 => Kind::Connect,
            2 => Kind::ConnAck,
            3 => Kind::Publish,
            4 => Kind::PubAck,
            5 => Kind::PubRec,
            6 => Kind::PubRel,
            7 => Kind::PubComp,
            8 => Kind::Subscribe,
            9 => Kind::SubAck,
            10 => Kind::Unsubscribe,
            11 => Kind::UnsubAck,
            12 => Kind::PingReq,
            13 => Kind::PingResp,
            14 => Kind::Disconnect,
            15 => Kind::Auth,
            _ => return None,
        })
    }

    /// The flags that every packet of this kind has; PUBLISH has its own (MQTT-2.1.3-1, -3.6.1-1, -3.8.1-1, -3.10.1-1).
    pub(super) const fn flags(self) -> u8 {
        match self {
            Kind::PubRel | Kind::Subscribe | Kind::Unsubscribe => 0b0010,
            _ => 0,
        }
    }

    const fn comes_from(self, side: Side, version: Version) -> bool {
        match self {
            Kind::Connect | Kind::Subscribe | Kind::Unsubscribe | Kind::PingReq => {
                matches!(side, Side::Client)
            }
            Kind::ConnAck | Kind::SubAck | Kind::UnsubAck | Kind::PingResp => matches!(side, Side::Server),
            Kind::Disconnect => matches!((side, version), (Side::Client, _) | (_, Version::V5)),
            Kind::Publish | Kind::PubAck | Kind::PubRec | Kind::PubRel | Kind::PubComp | Kind::Auth => true,
        }
    }

    /// The least and the most that the body of this kind can be, bytes.
    const fn body_bytes(self, version: Version, flags: u8) -> (u32, u32) {
        let (min, max) = match (self, version) {
            (Kind::PingReq | Kind::PingResp, _) | (Kind::Disconnect, Version::V311) => (0, 0),
            (
                Kind::ConnAck | Kind::PubAck | Kind::PubRec | Kind::PubRel | Kind::PubComp | Kind::UnsubAck,
                Version::V311,
            ) => (2, 2),
            (Kind::PubAck | Kind::PubRec | Kind::PubRel | Kind::PubComp, Version::V5) => (2, REMAINING_MAX),
            (Kind::Disconnect | Kind::Auth, _) => (0, REMAINING_MAX),
            // Name, level, flags, keep alive, and an empty client id.
            (Kind::Connect, _) => (12, REMAINING_MAX),
            (Kind::ConnAck, Version::V5) => (3, REMAINING_MAX),
            // A topic of one byte; in 5.0 an empty one and the property length.
            (Kind::Publish, _) => (3, REMAINING_MAX),
            // Packet identifier and property length; an empty list is a fault with a name of its own.
            (_, Version::V311) => (2, REMAINING_MAX),
            (_, Version::V5) => (3, REMAINING_MAX),
        };
        (if matches!(self, Kind::Publish) && flags & 0b0110 != 0 { min + 2 } else { min }, max)
    }
}

/// A fixed header that was judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// What the packet is.
    pub kind: Kind,
    /// The lower half of the first byte.
    pub(super) flags: u8,
    /// Bytes of this header, 2 to 5.
    pub header_bytes: u8,
    /// Bytes that follow it.
    pub body_bytes: u32,
}

impl Header {
    /// The whole packet, bytes.
    #[must_use]
    pub const fn packet_bytes(&self) -> usize {
        self.header_bytes as usize + self.body_bytes as usize
    }

    /// Judges as much of a fixed header as is there; `None` asks for more bytes, of which a header has at most five.
    #[inline]
    pub(super) fn judge(
        bytes: &[u8],
        version: Version,
        from: Side,
        limits: &Limits,
    ) -> Result<Option<Header>, Fault> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        let (kind, flags) = judge_first(first, version, from)?;
        let Some((body_bytes, length_bytes)) = variable_integer(rest)? else { return Ok(None) };
        let header = Header { kind, flags, header_bytes: 1 + length_bytes, body_bytes };
        let announced = u32::from(header.header_bytes) + body_bytes;
        if announced > limits.packet_bytes_max {
            return Err(Fault::TooLarge { announced, limit: limits.packet_bytes_max });
        }
        let (min, max) = kind.body_bytes(version, flags);
        if body_bytes < min || body_bytes > max {
            return Err(Fault::BodyLength(kind));
        }
        Ok(Some(header))
    }
}

/// The type and flags of a first byte.
#[inline]
pub(super) fn judge_first(first: u8, version: Version, from: Side) -> Result<(Kind, u8), Fault> {
    let kind = Kind::from_nibble(first >> 4).ok_or(Fault::ReservedType(first >> 4))?;
    if kind == Kind::Auth && version == Version::V311 {
        return Err(Fault::ReservedType(15));
    }
    let flags = first & 0x0F;
    if kind == Kind::Publish {
        match QoS::from_bits(flags >> 1 & 0b11) {
            None => return Err(Fault::QoS),
            Some(QoS::AtMostOnce) if flags & 0b1000 != 0 => return Err(Fault::DupAtMostOnce),
            Some(_) => {}
        }
    } else if flags != kind.flags() {
        return Err(Fault::HeaderFlags(kind));
    }
    if kind.comes_from(from, version) { Ok((kind, flags)) } else { Err(Fault::Direction(kind)) }
}

/// A variable byte integer and its length; `None` if it goes on behind the end. The fewest bytes only (MQTT-1.5.5-1).
#[inline]
pub(super) fn variable_integer(bytes: &[u8]) -> Result<Option<(u32, u8)>, Fault> {
    let mut value = 0;
    for (at, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            if byte == 0 && at > 0 {
                return Err(Fault::VariableInteger);
            }
            return Ok(Some((value, at as u8 + 1)));
        }
    }
    if bytes.len() >= 4 { Err(Fault::VariableInteger) } else { Ok(None) }
}
