//! Native frames, one at a time (`docs/protocol.md` draws every byte), and WebSocket framing below them.
//!
//! - `header`: the 16 bytes in front of every frame, judged before the body is awaited.
//! - `frame`: the bodies, as types; decoding borrows from the input.
//! - `decode`: bodies into frames; `read` is its cursor.
//! - `encode`: frames into bytes.
//! - `push`: the bytes of a PUSH in two parts, so that the shared one is encoded once.
//! - `topics`: the bodies of SUBSCRIBE and PUBLISH.
//! - `topic_body`: the payload of a message that was published to a topic.
//! - `assemble`: whole frames out of bytes that arrive in any cut.
//!
//! - [`mqtt`]: packets of MQTT 3.1.1 and 5.0.
//! - [`websocket`]: the layer below, for peers that come through HTTP.

mod assemble;
mod decode;
mod encode;
mod frame;
mod header;
pub mod mqtt;
mod push;
mod read;
mod topic_body;
mod topics;
pub mod websocket;

pub use assemble::{Assembler, RawFrame};
pub use encode::encode_acks;
pub use frame::*;
pub(crate) use header::mix;
pub use header::{Command, Header, MAGIC, heartbeat, padded_ping};
pub use push::{PushHead, PushShared, encode_push_shared, push_frame};
pub use topic_body::TopicBody;
pub use topics::{Publish, Subscribe};

use crate::close::CloseReason;

/// The peer sent what this protocol does not allow; the connection ends with [`WireError::reason`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WireError {
    /// The first four bytes are not the magic.
    #[error("the frame does not begin with CA FE BA BE")]
    BadMagic,
    /// The command is unknown or not for this side.
    #[error("unknown command {0:#04x}")]
    BadCommand(u8),
    /// The announced body is longer than the limit.
    #[error("announced body of {announced} bytes exceeds the limit of {limit}")]
    TooLong {
        /// Bytes announced by the peer.
        announced: usize,
        /// Bytes allowed here.
        limit: usize,
    },
    /// The body of this command does not decode.
    #[error("the body of command {0:#04x} does not decode")]
    BadBody(u8),
}

impl WireError {
    /// The close reason that this fault has.
    #[must_use]
    pub const fn reason(self) -> CloseReason {
        match self {
            WireError::BadMagic => CloseReason::BadMagic,
            WireError::BadCommand(_) => CloseReason::BadCommand,
            WireError::TooLong { .. } => CloseReason::FrameTooLong,
            WireError::BadBody(_) => CloseReason::BadBody,
        }
    }
}
