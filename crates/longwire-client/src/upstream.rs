//! Messages from the device to the business, to another device, or to a topic.

use std::io;

use bytes::Bytes;
use longwire_proto::limit::{DEVICE_NAME_BYTES_MAX, LABEL_BYTES_MAX};

use crate::topic::Publication;

/// Payload of a message, bytes (003-18); a longer one is refused before it gets into the outbox.
pub const UPSTREAM_PAYLOAD_BYTES_MAX: usize = 10 * 1024;
/// Messages that may wait for their answer by default; see [`DeviceBuilder::outbox`](crate::DeviceBuilder::outbox).
pub(crate) const OUTBOX_MESSAGES_DEFAULT: usize = 1_000;
/// Bytes that may wait for their answer by default.
pub(crate) const OUTBOX_BYTES_DEFAULT: usize = 4 * 1024 * 1024;
/// What a message counts besides its texts and payload.
pub(crate) const OVERHEAD_BYTES: usize = 64;

/// A message to send; give it to [`Device::send`](crate::Device::send).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpstreamMessage {
    pub(crate) kind: String,
    pub(crate) to: String,
    pub(crate) payload: Bytes,
    pub(crate) durable: bool,
}

impl UpstreamMessage {
    /// For the business. `kind` is the type by which it sorts messages, such as `text` or `image` (001-13), 1 to 64
    /// bytes; the payload has at most [`UPSTREAM_PAYLOAD_BYTES_MAX`] bytes.
    #[must_use]
    pub fn new(kind: impl Into<String>, payload: impl Into<Bytes>) -> UpstreamMessage {
        UpstreamMessage { kind: kind.into(), to: String::new(), payload: payload.into(), durable: true }
    }

    /// For another device of the app instead, by its registration id, at most 128 bytes (001-15).
    #[must_use]
    pub fn to(mut self, registration_id: impl Into<String>) -> UpstreamMessage {
        self.to = registration_id.into();
        self
    }

    /// The server's answer need not wait until the message is durable there.
    #[must_use]
    pub fn accepted_is_enough(mut self) -> UpstreamMessage {
        self.durable = false;
        self
    }

    /// What it counts against the outbox's bound, bytes.
    pub(crate) fn bytes(&self) -> usize {
        OVERHEAD_BYTES + self.kind.len() + self.to.len() + self.payload.len()
    }

    /// A message that the server would not even decode must not get into the outbox: it would break every connection.
    pub(crate) fn check(&self) -> Result<(), SendError> {
        if !(1..=LABEL_BYTES_MAX).contains(&self.kind.len()) {
            return Err(SendError::Kind);
        }
        if self.to.len() > DEVICE_NAME_BYTES_MAX {
            return Err(SendError::To);
        }
        if self.payload.len() > UPSTREAM_PAYLOAD_BYTES_MAX {
            return Err(SendError::Payload { bytes: self.payload.len() });
        }
        Ok(())
    }
}

/// What the outbox keeps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outward {
    Upstream(UpstreamMessage),
    Publication(Publication),
}

impl Outward {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Outward::Upstream(message) => message.bytes(),
            Outward::Publication(publication) => publication.bytes(),
        }
    }

    pub(crate) fn check(&self) -> Result<(), SendError> {
        match self {
            Outward::Upstream(message) => message.check(),
            Outward::Publication(publication) => publication.check(),
        }
    }
}

/// The number of a message that this device sent; unique for the device, also over restarts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct UpstreamId(pub u64);

/// Why a message was not taken. It is not in the outbox then and will not be sent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SendError {
    /// The type is empty or too long.
    #[error("the type must have 1 to {LABEL_BYTES_MAX} bytes")]
    Kind,
    /// The other device's name is too long.
    #[error("a registration id has at most {DEVICE_NAME_BYTES_MAX} bytes")]
    To,
    /// Not a topic that a device may publish to, or beyond a limit.
    #[error("a topic has 1 to 255 bytes, 16 levels of 64 bytes, no wildcards, and does not begin with $")]
    Topic,
    /// The payload is too long.
    #[error("the payload has {bytes} bytes; at most {UPSTREAM_PAYLOAD_BYTES_MAX} are sent in one message")]
    Payload {
        /// Bytes of it.
        bytes: usize,
    },
    /// Too much waits for its answer; try again when some of it was answered.
    #[error("the outbox is full: {messages} messages of {bytes} bytes wait for an answer")]
    Full {
        /// Messages that wait.
        messages: usize,
        /// What they count, bytes.
        bytes: usize,
    },
    /// The disk refused it.
    #[error("the outbox cannot be written: {0}")]
    Disk(io::ErrorKind),
    /// The device has ended.
    #[error("the device has ended")]
    Ended,
}
