//! What devices send to the business, as the message store is asked and answers (001-13, 001-27).

use crate::domain::{AppId, ClientId, DeviceName, Position, TraceId, WallMs};
use bytes::Bytes;

/// Messages of an app that may wait for the business; the next is refused until some are taken.
pub const UPSTREAM_MESSAGES_MAX: u64 = 1_000_000;
/// Bytes of an app, contents and type words, that may wait for the business; beyond it a message is refused.
pub const UPSTREAM_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Ids of its own messages that are remembered of each device, so that one that is sent again is not stored again.
pub const UPSTREAM_IDS_REMEMBERED: u64 = 1024;

/// A message from a device, to be made durable.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The device.
    pub client: ClientId,
    /// Its app.
    pub app: AppId,
    /// The device's own id of the message: what is recognized when it is sent again.
    pub client_message: u64,
    /// The type word, at most 64 bytes.
    pub kind: Box<str>,
    /// When it was taken.
    pub accepted_at: WallMs,
    /// Its trace.
    pub trace: TraceId,
    /// The content.
    pub payload: Bytes,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UpstreamOutcome {
    /// It is durable, at this place among its app's.
    Stored(Position),
    /// It was stored before.
    Repeated,
    /// The business has left too much untaken: nothing was stored.
    AppFull,
    /// The disk's reserve is reached: nothing was stored.
    StorageFull,
}

/// What the business asks for.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamRequest {
    /// The app.
    pub app: AppId,
    /// Everything after this place; `None`, or a place that was taken already: everything that is not taken.
    pub after: Option<Position>,
    /// Items at most.
    pub messages_max: u16,
    /// Bytes of contents at most; the first item always comes.
    pub bytes_max: u32,
}

/// One message that waits for the business.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpstreamItem {
    /// Its place; rises within an app.
    pub position: Position,
    /// The device's registration id; `None` if the device is gone.
    pub device: Option<DeviceName>,
    /// The device's own id of the message.
    pub client_message: u64,
    /// The type word.
    pub kind: Box<str>,
    /// When it was taken.
    pub accepted_at: WallMs,
    /// Its trace.
    pub trace: TraceId,
    /// The content.
    pub payload: Bytes,
}

/// What waits, in order of position.
#[derive(Clone, Debug)]
pub struct UpstreamPage {
    /// The items.
    pub items: Vec<UpstreamItem>,
    /// The place of the last item, or where the page began.
    pub cursor: Position,
    /// Nothing more was waiting after them.
    pub end: bool,
    /// What waits for this app, these items included.
    pub waiting: UpstreamWaiting,
}

/// How much an app has waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UpstreamWaiting {
    /// Messages.
    pub messages: u64,
    /// Bytes of contents and type words.
    pub bytes: u64,
}
