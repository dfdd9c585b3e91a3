//! The 16-byte header: magic, command, 24-bit body length, client id; big-endian throughout (004-10).

use super::WireError;
use crate::id::ClientId;
use crate::limit::HEADER_BYTES;
use std::ops::RangeInclusive;

/// Bytes 0–3 of every native frame.
pub const MAGIC: [u8; 4] = [0xCA, 0xFE, 0xBA, 0xBE];

/// Byte 4 of a frame. Values from 0x80 are reserved.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Command {
    /// Device → server heartbeat; any body is padding (004-10, 004-32).
    Ping = 0x01,
    /// Server → device answer to PING, always 16 bytes (004-13).
    Pong = 0x02,
    /// Device → server: the next planned heartbeat, sent before it changes.
    Interval = 0x03,
    /// Device → server: login.
    Connect = 0x10,
    /// Server → device: the answer to CONNECT.
    ConnAck = 0x11,
    /// Server → device: connect elsewhere, now.
    Redirect = 0x12,
    /// Server → device: this node will close; reconnect after a delay.
    GoAway = 0x13,
    /// Either way: the connection ends, and why.
    Close = 0x14,
    /// Server → device: one delivery.
    Push = 0x20,
    /// Server → device: what was left out, and why.
    Gap = 0x22,
    /// Device → server: what became of deliveries.
    Ack = 0x30,
    /// Device → server: a message for the business or another device.
    Upstream = 0x40,
    /// Server → device: the answer to UPSTREAM, and to a PUBLISH that is to arrive at least once.
    UpAck = 0x41,
    /// Device → server: a message for a topic.
    Publish = 0x42,
    /// Device → server: bind an alias.
    Bind = 0x50,
    /// Device → server: unbind an alias.
    Unbind = 0x51,
    /// Device → server: add or remove tags.
    Tag = 0x52,
    /// Device → server: subscribe to a topic.
    Subscribe = 0x53,
    /// Device → server: end a subscription.
    Unsubscribe = 0x54,
    /// Device → server: set or remove an attribute.
    Attribute = 0x55,
    /// Server → device: the answer to a self-service frame.
    Result = 0x5F,
}

impl Command {
    /// The command of a byte; `None` if this version does not know it.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Command> {
        Some(match byte {
            0x01 => Command::Ping,
            0x02 => Command::Pong,
            0x03 => Command::Interval,
            0x10 => Command::Connect,
            0x11 => Command::ConnAck,
            0x12 => Command::Redirect,
            0x13 => Command::GoAway,
            0x14 => Command::Close,
            0x20 => Command::Push,
            0x22 => Command::Gap,
            0x30 => Command::Ack,
            0x40 => Command::Upstream,
            0x41 => Command::UpAck,
            0x42 => Command::Publish,
            0x50 => Command::Bind,
            0x51 => Command::Unbind,
            0x52 => Command::Tag,
            0x53 => Command::Subscribe,
            0x54 => Command::Unsubscribe,
            0x55 => Command::Attribute,
            0x5F => Command::Result,
            _ => return None,
        })
    }

    /// Whether a device may send this command.
    #[must_use]
    pub const fn from_device(self) -> bool {
        matches!(
            self,
            Command::Ping
                | Command::Interval
                | Command::Connect
                | Command::Close
                | Command::Ack
                | Command::Upstream
                | Command::Publish
                | Command::Bind
                | Command::Unbind
                | Command::Tag
                | Command::Subscribe
                | Command::Unsubscribe
                | Command::Attribute
        )
    }
}

/// A decoded header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// What the frame is.
    pub command: Command,
    /// Bytes of body that follow.
    pub body_bytes: usize,
    /// The sender (from a device), or the addressee, or 0 in a frame that is the same for many devices.
    pub client: ClientId,
}

impl Header {
    /// Judges a header on its own, before any byte of the body is awaited.
    ///
    /// # Errors
    /// Wrong magic, unknown command, or a body longer than `body_bytes_max`.
    pub fn decode(bytes: &[u8; HEADER_BYTES], body_bytes_max: usize) -> Result<Header, WireError> {
        if bytes[..4] != MAGIC {
            return Err(WireError::BadMagic);
        }
        let command = Command::from_byte(bytes[4]).ok_or(WireError::BadCommand(bytes[4]))?;
        let body_bytes = u32::from_be_bytes([0, bytes[5], bytes[6], bytes[7]]) as usize;
        if body_bytes > body_bytes_max {
            return Err(WireError::TooLong { announced: body_bytes, limit: body_bytes_max });
        }
        let mut client = [0; 8];
        client.copy_from_slice(&bytes[8..]);
        Ok(Header { command, body_bytes, client: ClientId(u64::from_be_bytes(client)) })
    }

    /// The 16 bytes of this header. `body_bytes` must be below 2^24, which every limit here is.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        debug_assert!(self.body_bytes < 1 << 24);
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        let length = (self.body_bytes as u32).to_be_bytes();
        bytes[4] = self.command as u8;
        bytes[5..8].copy_from_slice(&length[1..]);
        bytes[8..].copy_from_slice(&self.client.0.to_be_bytes());
        bytes
    }
}

/// The 16 bytes of a PING or PONG without padding.
#[must_use]
pub fn heartbeat(command: Command, client: ClientId) -> [u8; HEADER_BYTES] {
    Header { command, body_bytes: 0, client }.encode()
}

/// Appends a PING with so many bytes of padding: its length, within the range, and its bytes come from `seed`, which
/// should differ from beat to beat. The bytes need not be secret, only different.
pub fn padded_ping(client: ClientId, range: &RangeInclusive<u8>, seed: u64, out: &mut Vec<u8>) {
    let span = u64::from(range.end().saturating_sub(*range.start())) + 1;
    let mut state = seed;
    let body_bytes = usize::from(*range.start()) + (mix(&mut state) % span) as usize;
    out.extend_from_slice(&Header { command: Command::Ping, body_bytes, client }.encode());
    let end = out.len() + body_bytes;
    while out.len() < end {
        out.extend_from_slice(&mix(&mut state).to_be_bytes());
    }
    out.truncate(end);
}

/// `SplitMix64`: numbers that look random, out of a counter.
pub(crate) fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
