//! What was asked to be pushed, and what became of it.

use super::{AppId, Audience, ClientId, Kind, Position, TraceId, WallMs};
use bytes::Bytes;

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
}

/// Deliveries of one message by state, as the store recorded them. `created = delivered + expired + dropped + pending`
/// holds for every message: for an addressed audience `created` is the number of targets; for a log message a delivery
/// is created together with its end, and those now in the windows of live connections are added by the hub.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Deliveries that exist.
    pub created: u64,
    /// The device said that it has the message.
    pub delivered: u64,
    /// Expired before that.
    pub expired: u64,
    /// Dropped for a recorded reason.
    pub dropped: u64,
}

impl Counts {
    /// Deliveries without an end.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.created.saturating_sub(self.delivered + self.expired + self.dropped)
    }
}
