//! The bodies of frames as types. Text and payloads borrow from the bytes that were read.

use super::topics::{Publish, Subscribe};
use crate::close::CloseReason;
use crate::id::{Kind, MessageId, Position, Source, TraceId};

/// The protocol version that CONNECT announces.
pub const VERSION: u8 = 1;

/// What carries the device's bytes, as the device sees it (004-05).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Network {
    /// Not said.
    #[default]
    Unknown = 0,
    /// Cable.
    Wired = 1,
    /// Wi-Fi.
    Wifi = 2,
    /// 2G.
    G2 = 3,
    /// 3G.
    G3 = 4,
    /// 4G.
    G4 = 5,
    /// 5G.
    G5 = 6,
}

/// The device's class, for the policy "one connection per class".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Class {
    /// A phone.
    Phone = 1,
    /// A desktop.
    Pc = 2,
    /// A browser.
    Web = 3,
    /// Anything that is not in a person's hand.
    Iot = 4,
}

/// Login.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connect<'a> {
    /// Version of the protocol; see [`VERSION`].
    pub version: u8,
    /// What carries the bytes.
    pub network: Network,
    /// The device's class.
    pub class: Class,
    /// The heartbeat that the device plans, seconds.
    pub heartbeat_s: u16,
    /// The last mailbox position up to which the device misses nothing.
    pub resume_mailbox: Position,
    /// The same for its app's log.
    pub resume_log: Position,
    /// The app's public key.
    pub app_key: &'a str,
    /// The token from registration.
    pub token: &'a [u8],
}

/// Who waits how long before a reconnect: steps in seconds, then random milliseconds on top (004-21).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BackOff {
    /// Delay before attempt 1, 2, …; the last one repeats. 1 to 16 entries of seconds.
    pub steps_s: Vec<u16>,
    /// Random addition, from 0 to this many milliseconds.
    pub jitter_ms: u16,
}

impl Default for BackOff {
    /// The articles' steps: 1, 2, 3, 5, 8, 13, 20 s plus 0–1 s (004-21).
    fn default() -> Self {
        BackOff { steps_s: vec![1, 2, 3, 5, 8, 13, 20], jitter_ms: 1000 }
    }
}

/// The answer to an accepted CONNECT.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Welcome {
    /// The node that answered (cluster-wide unique, ≤ 64 bytes).
    pub node: String,
    /// The heartbeat that the server assigns, seconds.
    pub heartbeat_s: u16,
    /// When the first beat comes, in 1/65536 of the interval in use, counted from WELCOME (004-07).
    pub phase: u16,
    /// Bytes of padding that a PING may carry at most, its length being drawn anew each time; 0 = none (004-32).
    pub padding_max: u8,
    /// Shortest heartbeat allowed, seconds.
    pub heartbeat_min_s: u16,
    /// Longest heartbeat allowed, seconds.
    pub heartbeat_max_s: u16,
    /// Unacked messages that the server will send at most.
    pub window: u16,
    /// The server's wall clock, milliseconds since 1970.
    pub server_time_ms: u64,
    /// Back-off to use from now on.
    pub back_off: BackOff,
}

/// The answer to a refused CONNECT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// Why.
    pub reason: CloseReason,
    /// Do not come back before, seconds; 0 = the back-off decides.
    pub retry_after_s: u16,
}

/// One delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Push<'a> {
    /// Where `position` counts; `None` for an online-only message, which is not stored and not acked.
    pub source: Option<Source>,
    /// The message's place in its source.
    pub position: Position,
    /// The place of the delivery before it for this device: nothing for this device lies between.
    pub previous: Position,
    /// Seconds until the message expires; 0 = online only.
    pub ttl_s: u32,
    /// Bit field, see [`push_flags`].
    pub flags: u8,
    /// The message.
    pub message: MessageId,
    /// What it is for the device.
    pub kind: Kind,
    /// The trace that the push belongs to.
    pub trace: TraceId,
    /// An earlier message that this one replaces, shown or not.
    pub replaces: Option<MessageId>,
    /// Newest of the same key replaces the older on the device; empty = none.
    pub collapse_key: &'a str,
    /// The content, by kind.
    pub payload: &'a [u8],
}

impl Push<'_> {
    /// The message that this one recalls, if it is of kind recall and its payload an id.
    #[must_use]
    pub fn recalls(&self) -> Option<MessageId> {
        let id = (self.kind == Kind::Recall).then(|| self.payload.try_into().ok()).flatten()?;
        Some(MessageId(u128::from_be_bytes(id)))
    }
}

/// Bits of [`Push::flags`].
pub mod push_flags {
    /// The server may have sent this message in an earlier session.
    pub const MAY_REPEAT: u8 = 0x01;
    /// Published to a topic before this device subscribed to it, and kept for that.
    pub const RETAINED: u8 = 0x02;
    /// The message comes ahead of its turn: `previous` is its own position, and the position reached is not moved.
    pub const AHEAD: u8 = 0x04;
    /// It was pushed with high priority.
    pub const HIGH: u8 = 0x08;
}

/// Why messages were left out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum GapReason {
    /// Expired before delivery.
    Expired = 1,
    /// Recalled.
    Recalled = 2,
    /// Replaced by a newer one of the same collapse key.
    Collapsed = 3,
    /// Dropped by a stated rule.
    Dropped = 4,
    /// The stored record is damaged.
    Corrupt = 5,
    /// Older than the app's log keeps.
    Retention = 6,
}

/// What was left out. It takes a place in the window and is acked by `message` when that is not 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gap {
    /// Where the positions count.
    pub source: Source,
    /// The last position left out.
    pub position: Position,
    /// The delivery before it for this device.
    pub previous: Position,
    /// Why.
    pub reason: GapReason,
    /// The message left out; 0 when `count` is above 1.
    pub message: MessageId,
    /// How many were left out; 0 = not known.
    pub count: u32,
}

/// What a device says of deliveries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum AckKind {
    /// The device has it: this is what "delivered" means.
    Received = 1,
    /// A person could see it.
    Displayed = 2,
    /// A person acted on it.
    Clicked = 3,
    /// A person put it away.
    Dismissed = 4,
}

/// An ACK: a kind and 1 to [`ACK_IDS_MAX`](crate::limit::ACK_IDS_MAX) message ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack<'a> {
    /// What became of the messages.
    pub kind: AckKind,
    /// The ids as they stand in the frame, 16 bytes each.
    pub(super) ids: &'a [u8],
}

impl<'a> Ack<'a> {
    /// The message ids.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = MessageId> + 'a {
        self.ids.chunks_exact(16).map(|id| {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(id);
            MessageId(u128::from_be_bytes(bytes))
        })
    }
}

/// A message from a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Upstream<'a> {
    /// The device's own id for the message, unique per device.
    pub client_message: u64,
    /// 0 = accepted is enough, 1 = durable before UPACK.
    pub mode: u8,
    /// The type word (`text`, `image`, …), ≤ 64 bytes (001-13).
    pub kind: &'a str,
    /// Another device's registration id, or empty for the business.
    pub to: &'a str,
    /// The content.
    pub payload: &'a [u8],
}

/// The answer to UPSTREAM and PUBLISH.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpAck {
    /// The id from [`Upstream::client_message`] or [`Publish::client_message`].
    pub client_message: u64,
    /// What became of it.
    pub outcome: ResultCode,
}

/// The answer to self-service and upstream frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ResultCode {
    /// Done.
    Done = 0,
    /// This node does not offer it.
    Unsupported = 1,
    /// It will never be taken as it is: the device should drop it.
    NotAllowed = 2,
    /// A limit of the app was reached that somebody else must clear: try again much later.
    Quota = 3,
    /// Too fast, or the store cannot take it now: try again after a back-off.
    Busy = 4,
}

/// Self-service of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SelfService<'a> {
    /// Bind this alias.
    Bind(&'a str),
    /// Unbind this alias.
    Unbind(&'a str),
    /// Add this tag.
    TagAdd(&'a str),
    /// Remove this tag.
    TagRemove(&'a str),
    /// Set an attribute.
    AttributeSet {
        /// Which.
        name: &'a str,
        /// What it says from now on.
        value: &'a str,
    },
    /// Remove this attribute.
    AttributeRemove(&'a str),
    /// Subscribe to topics.
    Subscribe(Subscribe<'a>),
    /// End the subscription with this filter.
    Unsubscribe(&'a str),
}

/// Every frame that a device may send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceFrame<'a> {
    /// A heartbeat; the padding is not looked at.
    Ping,
    /// The next planned heartbeat, seconds.
    Interval(u16),
    /// Login.
    Connect(Connect<'a>),
    /// The device ends the connection.
    Close(CloseReason),
    /// What became of deliveries.
    Ack(Ack<'a>),
    /// A message for the business or another device.
    Upstream(Upstream<'a>),
    /// A message for a topic.
    Publish(Publish<'a>),
    /// Self-service; `request` comes back in the RESULT.
    SelfService {
        /// Chosen by the device.
        request: u32,
        /// What is asked.
        what: SelfService<'a>,
    },
}

/// Every frame that a server may send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServerFrame<'a> {
    /// The answer to PING.
    Pong,
    /// CONNECT was accepted.
    Welcome(Welcome),
    /// CONNECT was refused.
    Refusal(Refusal),
    /// Connect to this address instead, now.
    Redirect(&'a str),
    /// This node will close: reconnect after so many milliseconds, to this address if not empty.
    GoAway {
        /// Milliseconds to wait before the reconnect.
        after_ms: u32,
        /// Where to go; empty = any entry address.
        to: &'a str,
    },
    /// The server ends the connection.
    Close(Refusal),
    /// One delivery.
    Push(Push<'a>),
    /// What was left out.
    Gap(Gap),
    /// The answer to UPSTREAM and PUBLISH.
    UpAck(UpAck),
    /// The answer to a self-service frame.
    Result {
        /// The number that the device chose.
        request: u32,
        /// What became of it.
        code: ResultCode,
    },
}
