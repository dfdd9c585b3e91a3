//! What was asked to be pushed, and what became of it.

use super::{AppId, Audience, ClientId, Kind, MessageId, Position, TraceId, WallMs};
use bytes::Bytes;
use std::sync::Arc;

/// `time_to_live` when none is given, seconds.
pub const TTL_S_DEFAULT: u32 = 86_400;
/// Longest `time_to_live`, seconds; longer is clipped and the answer says so.
pub const TTL_S_MAX: u32 = 30 * 86_400;
/// A notification's content, bytes.
pub const NOTIFICATION_BYTES_MAX: usize = 4096;
/// A text or custom message's content, bytes (003-18).
pub const MESSAGE_BYTES_MAX: usize = 10 * 1024;

/// A message's content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Content {
    /// What it is for the device.
    pub kind: Kind,
    /// The bytes the device gets.
    pub payload: Bytes,
}

/// How urgent a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Priority {
    /// As it comes.
    #[default]
    Normal,
    /// Overtakes normal ones.
    High,
}

/// A push, valid as a value.
#[derive(Clone, Debug)]
pub struct Push {
    /// Whom for.
    pub audience: Audience,
    /// What.
    pub content: Content,
    /// Seconds to live, ≤ [`TTL_S_MAX`]; 0 = online only, not stored, not acked.
    pub ttl_s: u32,
    /// Replaces an older one of the same key on the device; empty = none.
    pub collapse_key: String,
    /// The trace it belongs to.
    pub trace: TraceId,
    /// How urgent it is.
    pub priority: Priority,
    /// An earlier message that this one replaces, delivered or not (`override_msg_id`).
    pub replaces: Option<MessageId>,
    /// The caller's key for it, if there is one.
    pub once: Option<Once>,
    /// How it is spread over time; `None` = at once.
    pub spread: Option<Spread>,
    /// What its receipts say, and whether there are any.
    pub report: Report,
}

/// What a caller wants to be told of a message (`callback`, `analytics_label`).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Receipts of its ends and of what devices say of it, whatever the app's setting is.
    pub callback: bool,
    /// The caller's own word for it, in every receipt; empty = none, at most [`LABEL_BYTES_MAX`] bytes.
    pub label: Arc<str>,
}

/// A message's `analytics_label`, bytes.
pub const LABEL_BYTES_MAX: usize = 64;

/// A caller's key for a push (`cid`, `Idempotency-Key`): within 24 h of its first use it makes no second message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Once {
    /// Of the key, BLAKE3 cut to 16 bytes.
    pub key: [u8; 16],
    /// Of what was asked, BLAKE3 cut to 16 bytes: the same key with another request is refused.
    pub request: [u8; 16],
}

/// How a message for many is spread over time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spread {
    /// So many devices a second.
    Speed(u32),
    /// Over so many seconds.
    Duration(u32),
}

/// One device of an addressed message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// The device.
    pub client: ClientId,
    /// The message's place in the device's mailbox.
    pub position: Position,
}

/// What the store keeps of a message beside its body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MessageRecord {
    /// Its app.
    pub app: AppId,
    /// What it is for the device.
    pub kind: Kind,
    /// Its trace.
    pub trace: TraceId,
    /// When it was accepted.
    pub accepted_at: WallMs,
    /// When it expires.
    pub deadline: WallMs,
    /// The place in the app's log, for `all` and tags; [`Position::START`] for addressed audiences.
    pub log_position: Position,
    /// The devices of an addressed audience; empty otherwise.
    pub targets: Vec<Target>,
    /// How urgent it is.
    pub priority: Priority,
    /// Its collapse key; empty = none.
    pub collapse_key: Arc<str>,
    /// The message that it replaces.
    pub replaces: Option<MessageId>,
    /// Devices that it was refused for, because their mailbox was full.
    pub refused: u32,
    /// What became of it when it was recalled; `None`: it was not.
    pub recalled: Option<Recalled>,
    /// What is told of it.
    pub report: Report,
}

/// What a recall came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recalled {
    /// Deliveries that ended by it at once. Those of a log end when each device takes note.
    pub now: u32,
    /// Devices that a message of kind recall went to, because they have the message or may have it in hand; `None`: to all whom
    /// it was for, by the log.
    pub following: Option<u32>,
    /// Such devices whose mailbox had no room for it.
    pub refused: u32,
}
