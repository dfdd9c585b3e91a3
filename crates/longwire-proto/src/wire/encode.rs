//! A PUSH in two parts: the head that differs per delivery and the shared part that is encoded once.
//!
//! A frame that many devices get holds 0 as client id, so an online-only PUSH is the same bytes for all.

use crate::id::{Kind, MessageId, Position, Source, TraceId};

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
    pub const BYTES: usize = 16 + 8 + 8 + 4 + 1 + 1;

    /// The head of a PUSH whose shared part is `shared_bytes` long.
    #[must_use]
    pub fn encode(&self, shared_bytes: usize) -> [u8; Self::BYTES] {
        let _ = shared_bytes;
        todo!("wire")
    }
}

/// Appends the shared part of a PUSH: message id, kind, trace, collapse key, payload.
pub fn encode_push_shared(
    message: MessageId,
    kind: Kind,
    trace: TraceId,
    collapse_key: &str,
    payload: &[u8],
    out: &mut Vec<u8>,
) {
    let _ = (message, kind, trace, collapse_key, payload, out);
    todo!("wire")
}

/// A whole PUSH from a head and a shared part.
#[must_use]
pub fn push_frame(head: &PushHead, shared: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(PushHead::BYTES + shared.len());
    frame.extend_from_slice(&head.encode(shared.len()));
    frame.extend_from_slice(shared);
    frame
}
