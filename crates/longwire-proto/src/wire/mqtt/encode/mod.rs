//! Packets into bytes.
//!
//! - `publish`: a PUBLISH whose bytes many subscribers share.

mod publish;

pub use publish::{Aliasing, OWN_PROPERTY_BYTES_MAX, PublishHead, SharedPublish, Stamp};

use super::header::REMAINING_MAX;
use super::{Connect, Kind, Packet, Properties, Publish, QoS, Reason, ReasonList, Version};

/// A packet that MQTT cannot carry: a field of more than 65,535 bytes, or more than 268,435,455 in all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the packet is larger than MQTT can carry")]
pub struct Oversized;

/// Appends a packet. What 3.1.1 does not have is left out there; that fields fit together is the caller's duty.
///
/// # Errors
/// [`Oversized`]; nothing was appended.
pub fn encode(packet: &Packet<'_>, version: Version, out: &mut Vec<u8>) -> Result<(), Oversized> {
    let version = version_of(packet, version);
    let body_bytes = body_bytes(packet, version)?;
    out.push(first_byte(packet));
    put_variable(out, body_bytes);
    let body_at = out.len();
    body(packet, version, out)?;
    debug_assert_eq!(out.len() - body_at, body_bytes as usize);
    Ok(())
}

/// The bytes of a whole packet, to be held against the peer's maximum packet size (MQTT-3.1.2-24, -3.2.2-15).
///
/// # Errors
/// [`Oversized`].
pub fn encoded_bytes(packet: &Packet<'_>, version: Version) -> Result<u32, Oversized> {
    let body = body_bytes(packet, version_of(packet, version))?;
    Ok(1 + variable_bytes(body) + body)
}

/// A PUBACK, PUBREC, PUBREL, PUBCOMP without properties, on the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AckFrame {
    bytes: [u8; 5],
    length: u8,
}

impl AckFrame {
    /// The whole packet.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

/// The bytes of an acknowledgement: four, and in 5.0 one more unless the reason is success. `kind` is one of PUBACK, PUBREC,
/// PUBREL and PUBCOMP.
#[must_use]
pub fn ack_frame(kind: Kind, version: Version, packet_id: u16, reason: Reason) -> AckFrame {
    debug_assert!(matches!(kind, Kind::PubAck | Kind::PubRec | Kind::PubRel | Kind::PubComp));
    let [high, low] = packet_id.to_be_bytes();
    let coded = version == Version::V5 && reason != Reason::Success;
    let body = 2 + u8::from(coded);
    AckFrame { bytes: [(kind as u8) << 4 | kind.flags(), body, high, low, reason as u8], length: 2 + body }
}

/// A CONNECT is of the version that it names.
const fn version_of(packet: &Packet<'_>, version: Version) -> Version {
    match packet {
        Packet::Connect(connect) => connect.version,
        _ => version,
    }
}

fn first_byte(packet: &Packet<'_>) -> u8 {
    let kind = packet.kind();
    let flags = match packet {
        Packet::Publish(publish) => publish_flags(publish.dup, publish.qos, publish.retain),
        _ => kind.flags(),
    };
    (kind as u8) << 4 | flags
}

/// DUP is never set on QoS 0 (MQTT-3.3.1-2).
const fn publish_flags(dup: bool, qos: QoS, retain: bool) -> u8 {
    let dup = dup && !matches!(qos, QoS::AtMostOnce);
    (dup as u8) << 3 | (qos as u8) << 1 | retain as u8
}

/// Where a body is written: into bytes, or nowhere, to learn its length.
trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

struct Length(usize);

impl Sink for Length {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }
}

fn body_bytes(packet: &Packet<'_>, version: Version) -> Result<u32, Oversized> {
    let mut length = Length(0);
    body(packet, version, &mut length)?;
    u32::try_from(length.0).ok().filter(|&bytes| bytes <= REMAINING_MAX).ok_or(Oversized)
}

fn body<S: Sink>(packet: &Packet<'_>, version: Version, out: &mut S) -> Result<(), Oversized> {
    match packet {
        Packet::Connect(packet) => connect(packet, out),
        Packet::ConnAck(packet) => {
            let reason = match version {
                // A refusal without a code of its own is "server unavailable"; a caller that wants silence asks
                // `connect_return` first.
                Version::V311 => packet.reason.connect_return().unwrap_or(3),
                Version::V5 => packet.reason as u8,
            };
            let present = packet.session_present && packet.reason == Reason::Success;
            out.put(&[u8::from(present), reason]);
            properties(&packet.properties, version, out)
        }
        Packet::Publish(packet) => publish(packet, version, out),
        Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
            out.put(&ack.packet_id.to_be_bytes());
            outcome(ack.reason, &ack.properties, version, out)
        }
        Packet::Subscribe(packet) => {
            out.put(&packet.packet_id.to_be_bytes());
            properties(&packet.properties, version, out)?;
            out.put(packet.filters.bytes);
            Ok(())
        }
        Packet::Unsubscribe(packet) => {
            out.put(&packet.packet_id.to_be_bytes());
            properties(&packet.properties, version, out)?;
            out.put(packet.filters.bytes);
            Ok(())
        }
        Packet::SubAck(packet) => {
            out.put(&packet.packet_id.to_be_bytes());
            properties(&packet.properties, version, out)?;
            codes(&packet.reasons, version, out);
            Ok(())
        }
        Packet::UnsubAck(packet) => {
            out.put(&packet.packet_id.to_be_bytes());
            properties(&packet.properties, version, out)?;
            if version == Version::V5 {
                codes(&packet.reasons, version, out);
            }
            Ok(())
        }
        Packet::PingReq | Packet::PingResp => Ok(()),
        Packet::Disconnect(packet) => outcome(packet.reason, &packet.properties, version, out),
        Packet::Auth(packet) => outcome(packet.reason, &packet.properties, version, out),
    }
}

fn connect<S: Sink>(packet: &Connect<'_>, out: &mut S) -> Result<(), Oversized> {
    let mut flags = u8::from(packet.clean_start) << 1;
    if let Some(will) = &packet.will {
        flags |= 0b100 | (will.qos as u8) << 3 | u8::from(will.retain) << 5;
    }
    flags |= u8::from(packet.password.is_some()) << 6 | u8::from(packet.user_name.is_some()) << 7;
    out.put(b"\x00\x04MQTT");
    out.put(&[packet.version.level(), flags]);
    out.put(&packet.keep_alive_s.to_be_bytes());
    properties(&packet.properties, packet.version, out)?;
    binary(packet.client_id.as_bytes(), out)?;
    if let Some(will) = &packet.will {
        properties(&will.properties, packet.version, out)?;
        binary(will.topic.as_bytes(), out)?;
        binary(will.payload, out)?;
    }
    if let Some(name) = packet.user_name {
        binary(name.as_bytes(), out)?;
    }
    packet.password.map_or(Ok(()), |password| binary(password, out))
}

fn publish<S: Sink>(packet: &Publish<'_>, version: Version, out: &mut S) -> Result<(), Oversized> {
    binary(packet.topic.as_bytes(), out)?;
    if packet.qos != QoS::AtMostOnce {
        out.put(&packet.packet_id.to_be_bytes());
    }
    properties(&packet.properties, version, out)?;
    out.put(packet.payload);
    Ok(())
}

/// A reason and properties at the end of a body, left out where they say nothing.
fn outcome<S: Sink>(
    reason: Reason,
    with: &Properties<'_>,
    version: Version,
    out: &mut S,
) -> Result<(), Oversized> {
    if version == Version::V311 || (reason == Reason::Success && with.is_empty()) {
        return Ok(());
    }
    out.put(&[reason as u8]);
    if with.is_empty() { Ok(()) } else { properties(with, version, out) }
}

fn codes<S: Sink>(reasons: &ReasonList<'_>, version: Version, out: &mut S) {
    for reason in reasons.iter() {
        // 3.1.1 knows one refusal.
        let code = if version == Version::V311 && reason.is_error() { 0x80 } else { reason as u8 };
        out.put(&[code]);
    }
}

fn properties<S: Sink>(with: &Properties<'_>, version: Version, out: &mut S) -> Result<(), Oversized> {
    if version == Version::V311 {
        return Ok(());
    }
    let bytes = with.as_bytes();
    let length =
        u32::try_from(bytes.len()).ok().filter(|&length| length <= REMAINING_MAX).ok_or(Oversized)?;
    let (encoded, used) = variable(length);
    out.put(&encoded[..used]);
    out.put(bytes);
    Ok(())
}

fn binary<S: Sink>(bytes: &[u8], out: &mut S) -> Result<(), Oversized> {
    let length = u16::try_from(bytes.len()).map_err(|_| Oversized)?;
    out.put(&length.to_be_bytes());
    out.put(bytes);
    Ok(())
}

/// A variable byte integer in the fewest bytes (MQTT-1.5.5-1), and how many.
#[inline]
const fn variable(mut value: u32) -> ([u8; 4], usize) {
    let mut bytes = [0; 4];
    let mut used = 0;
    loop {
        let more = value > 0x7F;
        bytes[used] = (value & 0x7F) as u8 | (more as u8) << 7;
        used += 1;
        value >>= 7;
        if !more || used == 4 {
            return (bytes, used);
        }
    }
}

/// Bytes of a variable byte integer.
const fn variable_bytes(value: u32) -> u32 {
    variable(value).1 as u32
}

/// Appends a variable byte integer, at most 268,435,455.
pub(super) fn put_variable(out: &mut Vec<u8>, value: u32) {
    debug_assert!(value <= REMAINING_MAX);
    let (bytes, used) = variable(value);
    out.extend_from_slice(&bytes[..used]);
}
