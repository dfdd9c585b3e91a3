//! A PUSH in two parts: the head that differs per delivery and the shared part that is encoded once.
//!
//! A frame that many devices get holds 0 as client id, so an online-only PUSH is the same bytes for all.

use super::encode::put_text;
use super::header::{Command, Header};
use super::read::Reader;
use crate::id::{ClientId, Kind, MessageId, Position, Source, TraceId};
use crate::limit::{COLLAPSE_KEY_BYTES_MAX, HEADER_BYTES};

/// Bytes of a shared part without collapse key and payload: message id, kind, trace, length of the key.
const PUSH_SHARED_BYTES_MIN: usize = 16 + 1 + 16 + 1;

/// What differs between two deliveries of one message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PushHead {
    /// Where the position counts; `None` for online-only.
    pub source: Option<Source>,
    /// The message's place.
    pub position: Position,
    /// The delivery before it for this device.
    pub previous: Position,
    /// Seconds until expiry; 0 = online only.
    pub ttl_s: u32,
    /// See [`push_flags`](super::push_flags).
    pub flags: u8,
}

impl PushHead {
    /// Bytes of an encoded head: header, position, previous, ttl, source, flags.
    pub const BYTES: usize = HEADER_BYTES + 8 + 8 + 4 + 1 + 1;

    /// The head of a PUSH whose shared part is `shared_bytes` long.
    #[must_use]
    pub fn encode(&self, shared_bytes: usize) -> [u8; Self::BYTES] {
        let body_bytes = Self::BYTES - HEADER_BYTES + shared_bytes;
        let header = Header { command: Command::Push, body_bytes, client: ClientId(0) };
        let mut head = [0; Self::BYTES];
        head[..16].copy_from_slice(&header.encode());
        head[16..24].copy_from_slice(&self.position.0.to_be_bytes());
        head[24..32].copy_from_slice(&self.previous.0.to_be_bytes());
        head[32..36].copy_from_slice(&self.ttl_s.to_be_bytes());
        head[36] = self.source.map_or(0, |source| source as u8);
        head[37] = self.flags;
        head
    }
}

/// In the byte of the kind: the id of the message that this one replaces follows the trace.
const REPLACES: u8 = 0x80;

/// Appends the shared part of a PUSH that replaces no other: see [`PushShared::encode`].
pub fn encode_push_shared(
    message: MessageId,
    kind: Kind,
    trace: TraceId,
    collapse_key: &str,
    payload: &[u8],
    out: &mut Vec<u8>,
) {
    PushShared { message, kind, trace, replaces: None, collapse_key, payload }.encode(out);
}

/// The shared part of a PUSH: what is the same for all devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PushShared<'a> {
    /// The message.
    pub message: MessageId,
    /// What it is for the device.
    pub kind: Kind,
    /// The trace that the push belongs to; 0 = none.
    pub trace: TraceId,
    /// An earlier message that this one replaces, shown or not.
    pub replaces: Option<MessageId>,
    /// Newest of the same key replaces the older on the device; empty = none.
    pub collapse_key: &'a str,
    /// The content, by kind.
    pub payload: &'a [u8],
}

impl<'a> PushShared<'a> {
    /// Appends it: message id, kind, trace, the id that it replaces if it does, collapse key, payload. A collapse key is at most
    /// [`COLLAPSE_KEY_BYTES_MAX`] long; a longer one is cut.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.reserve(PUSH_SHARED_BYTES_MIN + 16 + self.collapse_key.len() + self.payload.len());
        out.extend_from_slice(&self.message.0.to_be_bytes());
        out.push(self.kind as u8 | if self.replaces.is_some() { REPLACES } else { 0 });
        out.extend_from_slice(&self.trace.0.to_be_bytes());
        if let Some(replaced) = self.replaces {
            out.extend_from_slice(&replaced.0.to_be_bytes());
        }
        put_text(out, self.collapse_key, COLLAPSE_KEY_BYTES_MAX);
        out.extend_from_slice(self.payload);
    }

    /// Reads it; `None` for other bytes.
    #[must_use]
    pub fn decode(shared: &'a [u8]) -> Option<PushShared<'a>> {
        PushShared::read(&mut Reader::new(shared))
    }

    pub(super) fn read(body: &mut Reader<'a>) -> Option<PushShared<'a>> {
        let message = MessageId(body.u128()?);
        let kind = body.u8()?;
        let trace = TraceId(body.u128()?);
        let replaces = if kind & REPLACES == 0 { None } else { Some(MessageId(body.u128()?)) };
        Some(PushShared {
            message,
            kind: Kind::from_code(kind & !REPLACES)?,
            trace,
            replaces,
            collapse_key: body.text(COLLAPSE_KEY_BYTES_MAX)?,
            payload: body.rest(),
        })
    }
}

/// A whole PUSH from a head and a shared part.
#[must_use]
pub fn push_frame(head: &PushHead, shared: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(PushHead::BYTES + shared.len());
    frame.extend_from_slice(&head.encode(shared.len()));
    frame.extend_from_slice(shared);
    frame
}
