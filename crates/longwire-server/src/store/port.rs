//! What the message store is asked, and what it answers, as data.

use super::pace::{ScheduleChange, Spreading};
use crate::domain::message::{Once, Report};
use crate::domain::{
    AppId, ClientId, Counts, Device, DropReason, Filter, Kind, MessageId, MessageRecord, Position, Priority,
    Source, TraceId, WallMs,
};
use bytes::Bytes;
use longwire_proto::session::FeedStart;
use longwire_proto::wire::GapReason;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Stored messages that one device may have waiting; the next is refused (LIMITS 7.1).
pub const MAILBOX_MESSAGES_MAX: u32 = 1000;
/// Stored bytes that one device may have waiting; beyond it a message is refused (LIMITS 7.1).
pub const MAILBOX_BYTES_MAX: u64 = 1024 * 1024;

/// Keys of callers that an app may have at once; beyond it a push with a new key is refused (DELIVERY 4.2).
pub const ONCE_KEYS_MAX: u64 = 1_000_000;
/// How long a key outlives its message, milliseconds.
pub const ONCE_AFTER_MS: u64 = 24 * 3600 * 1000;

/// Why the store did not do what was asked.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk's reserve is reached: nothing was stored; heals by itself when space returns.
    #[error("storage is full: {free_bytes} bytes free, {reserve_bytes} are kept in reserve")]
    Full {
        /// Bytes free on the data directory's file system.
        free_bytes: u64,
        /// Bytes that pushes may not use.
        reserve_bytes: u64,
    },
    /// Every target's mailbox is full: nothing was stored.
    #[error("the mailbox is full")]
    MailboxFull,
    /// The caller's key made a message before, of the same request; it is not made again.
    #[error("this key made a message before")]
    Replayed(Arc<OnceView>),
    /// The caller's key made a message before, of another request.
    #[error("cid: this key was used for another request")]
    ConflictingKey,
    /// The app has as many bytes of bodies as it may: nothing was stored.
    #[error(
        "quotas.stored_bytes: the app has {used} of {most} bytes stored, and no room for this message; acks, ends of ttl and recalls make room"
    )]
    AppQuota {
        /// What it has.
        used: u64,
        /// What it may have.
        most: u64,
    },
    /// The app has [`ONCE_KEYS_MAX`] keys.
    #[error("the app has {ONCE_KEYS_MAX} keys of pushes already; they go 24 h after their messages")]
    TooManyKeys,
    /// The publisher's identifier awaits its release: the message was stored before, and is not stored again.
    #[error("this message was stored before")]
    Repeated,
    /// The message that it is to replace is not there, or another app's: nothing was stored.
    #[error("no such message")]
    NoSuchMessage,
    /// The engine failed before anything was stored.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The database of apps and devices failed, or is away; it heals by itself.
    #[error("the registry is unavailable: {0}")]
    Registry(String),
    /// The engine failed while storing: the outcome is not known (DELIVERY 4.2, "unknown").
    #[error("the store failed while writing: {0}")]
    Unknown(String),
}

/// Where a message goes.
#[derive(Clone, Debug)]
pub enum Destination {
    /// A reference into each of these mailboxes; without repeats, at least one.
    Mailboxes(Vec<ClientId>),
    /// Once into the app's log, for those whom the filter fits.
    Log(Arc<Filter>),
    /// Into the app's log in slices that follow; nothing of it is there yet.
    Spread(Box<Spreading>),
}

impl Destination {
    /// Whom it is for, if it goes to the log.
    #[must_use]
    pub fn filter(&self) -> Option<&Arc<Filter>> {
        match self {
            Destination::Mailboxes(_) => None,
            Destination::Log(filter) => Some(filter),
            Destination::Spread(spreading) => Some(&spreading.filter),
        }
    }
}

/// A message to be made durable.
#[derive(Debug)]
pub struct Accept {
    /// Its id.
    pub message: MessageId,
    /// Its app.
    pub app: AppId,
    /// What it is for the device.
    pub kind: Kind,
    /// Its trace.
    pub trace: TraceId,
    /// When it was taken.
    pub accepted_at: WallMs,
    /// When it expires.
    pub deadline: WallMs,
    /// The shared part of its PUSH (`longwire_proto::wire::encode_push_shared`), stored once.
    pub shared: Bytes,
    /// Where it goes.
    pub destination: Destination,
    /// The identifier of QoS 2 under which a kept session published it: remembered in the same commit, and refused as
    /// [`StoreError::Repeated`] while it is.
    pub received: Option<(ClientId, u16)>,
    /// How urgent it is.
    pub priority: Priority,
    /// Replaces undelivered ones of the same key: in a mailbox, or in the log for the same filter. Empty = none.
    pub collapse_key: Arc<str>,
    /// An earlier message that it replaces.
    pub replaces: Option<MessageId>,
    /// The caller's key: a second message of it is refused as [`StoreError::Replayed`] or [`StoreError::ConflictingKey`].
    pub once: Option<Keyed>,
    /// The step of the schedule that fires it, in the same commit; if the schedule has changed since it was read, the message
    /// is refused as [`StoreError::Repeated`].
    pub occurrence: Option<Box<ScheduleChange>>,
    /// What is told of it.
    pub report: Report,
}

/// A caller's key on its way into the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Keyed {
    /// The key, and what it was given with.
    pub once: Once,
    /// When it is free again.
    pub until: WallMs,
    /// What the caller is told, as the hub writes it; not looked at here.
    pub answer: Bytes,
}

/// What a key made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OnceView {
    /// The message.
    pub message: MessageId,
    /// The hash of the request.
    pub request: [u8; 16],
    /// Mailboxes that took it.
    pub stored: u32,
    /// Mailboxes that were full.
    pub refused: u32,
    /// What the caller was told, as the hub wrote it.
    pub answer: Bytes,
}

/// What is known of a key before it is taken.
#[derive(Clone, Debug)]
pub struct OnceLook {
    /// What it made, if it stands.
    pub made: Option<OnceView>,
    /// The app has [`ONCE_KEYS_MAX`] keys, and this is not one of them.
    pub is_full: bool,
}

/// A key to be taken for what is not stored as one message.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The app.
    pub app: AppId,
    /// The message, unless one is stored with it.
    pub message: MessageId,
    /// Now.
    pub now: WallMs,
    /// The key.
    pub keyed: Keyed,
    /// What it goes with.
    pub with: ClaimWith,
}

/// What a [`Claim`] goes with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClaimWith {
    /// Nothing: a message that is sent when this is durable.
    Nothing,
    /// The messages before it in the same work: it takes the id of the first that is stored. `taken`: it is good also if
    /// none is; else the key stays free.
    Messages {
        /// Somebody gets the message without the store.
        taken: bool,
    },
}

/// A message that is durable.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its id.
    pub message: MessageId,
    /// What the store keeps of it; `targets` are those that were taken.
    pub record: Arc<MessageRecord>,
    /// Whom a log message is for; fits everybody for an addressed one.
    pub filter: Arc<Filter>,
    /// Its shared part.
    pub shared: Bytes,
    /// Targets whose mailbox was full; nothing was stored for them.
    pub refused: Arc<[ClientId]>,
}

/// A message to be recalled.
#[derive(Debug)]
pub struct Recall {
    /// The message.
    pub message: MessageId,
    /// Its app.
    pub app: AppId,
    /// When it was asked.
    pub at: WallMs,
    /// Devices that may have it in a live window.
    pub windows: Vec<ClientId>,
    /// Any device may have it in hand without an ack: it was sent more often than acked, or nobody knows.
    pub in_hand: bool,
    /// The id of the message of kind recall that follows if any device has the message.
    pub follower: MessageId,
    /// When that expires.
    pub deadline: WallMs,
    /// Its trace.
    pub trace: TraceId,
    /// The shared part of its PUSH.
    pub shared: Bytes,
}

/// A durable message on its way to the hub's dispatcher, in the order of commits. The dispatcher hands it to the shards
/// and then answers, so that order in a log is the order of dispatch.
#[derive(Debug)]
pub struct Committed {
    /// The message.
    pub accepted: Accepted,
    /// Who waits for it.
    pub reply: oneshot::Sender<Result<Accepted, StoreError>>,
}

/// How a delivery ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The device said that it has the message. Of one that it was recorded to have received, this takes the marker.
    Delivered,
    /// The device has the message and will say so again (PUBREC of QoS 2): counted as delivered, and a marker stays in the
    /// mailbox until [`End::Delivered`] (PUBCOMP). In a log, which keeps no markers, it is the end.
    Received,
    /// It is dropped, and the device was not sent it.
    Dropped(DropReason),
    /// The device took note that it was left out, for this reason. Of a mailbox delivery the end was recorded
    /// already, so this only removes the marker; of a log delivery it is the end.
    GapNoted(GapReason),
}

/// The end of one delivery. Idempotent: an end of a delivery that has one changes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settle {
    /// The device.
    pub client: ClientId,
    /// Its app.
    pub app: AppId,
    /// Where `position` counts.
    pub source: Source,
    /// The delivery's place.
    pub position: Position,
    /// The message.
    pub message: MessageId,
    /// How it ended.
    pub end: End,
    /// When it was sent; 0 = not known.
    pub sent: WallMs,
}

/// What a login needs to know; one read, no SQL.
#[derive(Clone, Debug)]
pub struct LoginView {
    /// The device's profile.
    pub device: Device,
    /// Where its mailbox stands.
    pub mailbox: FeedStart,
    /// The last place given in its mailbox when this was read.
    pub mailbox_head: Position,
    /// Where it stands in its app's log.
    pub log: FeedStart,
    /// The log's last position when this was read.
    pub log_head: Position,
    /// When the span began in which its deliveries are counted for its app's frequency cap, and how many there were.
    pub counted: (WallMs, u32),
}

/// What is waiting for a device after a position.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// The device.
    pub client: ClientId,
    /// Its app.
    pub app: AppId,
    /// Which source.
    pub source: Source,
    /// Everything after this position.
    pub after: Position,
    /// Entries at most.
    pub messages_max: u16,
    /// Bytes of shared parts at most; the first entry always comes.
    pub bytes_max: u32,
    /// High messages that may come ahead of their turn beside.
    pub ahead_max: u8,
    /// Places that went ahead in this session: they come neither ahead nor in their turn.
    pub ahead: Box<[Position]>,
    /// What has a deadline up to now is expired.
    pub now: WallMs,
}

/// One thing waiting.
#[derive(Clone, Debug)]
pub enum PageEntry {
    /// A message.
    Message {
        /// Its place.
        position: Position,
        /// Its id.
        message: MessageId,
        /// When it expires.
        deadline: WallMs,
        /// The shared part of its PUSH.
        shared: Bytes,
        /// It was pushed with high priority.
        high: bool,
    },
    /// The device has it (PUBREC); what it waits for is PUBREL.
    Released {
        /// Its place.
        position: Position,
        /// Its id.
        message: MessageId,
    },
    /// Something that was left out; one message, or a range with `MessageId(0)`.
    Gap {
        /// The last place left out.
        position: Position,
        /// The message, or 0 for a range.
        message: MessageId,
        /// Why.
        reason: GapReason,
        /// How many; 0 = not known.
        count: u32,
    },
}

/// What was waiting, in order of position; settled positions are not in it.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The entries.
    pub entries: Vec<PageEntry>,
    /// The store held nothing more after them when it was read.
    pub end: bool,
    /// High messages to be sent before the entries, ahead of their turn, which they have among the entries of this or a later page.
    pub ahead: Vec<PageEntry>,
    /// The store held more of these.
    pub more_ahead: bool,
}

/// A message and its counts, for the caller who asks.
#[derive(Clone, Debug)]
pub struct MessageView {
    /// What the store keeps.
    pub record: Arc<MessageRecord>,
    /// Deliveries by state.
    pub counts: Counts,
    /// How far it is, if it is spread over time.
    pub spreading: Option<Spreading>,
}

/// A device and what waits for it.
#[derive(Clone, Debug)]
pub struct DeviceView {
    /// The device.
    pub device: Device,
    /// Messages waiting in its mailbox.
    pub mailbox_messages: u32,
    /// Bytes waiting in its mailbox.
    pub mailbox_bytes: u64,
}

/// Where the message store lives and what it keeps.
#[derive(Clone)]
pub struct StoreOptions {
    /// Its folder; made if missing.
    pub folder: std::path::PathBuf,
    /// Free bytes that pushes may not use; acks and ends may.
    pub reserve_bytes: u64,
    /// How long records of ended messages and the app logs are kept, milliseconds.
    pub retention_ms: u64,
    /// How long after its deadline the stories of a message's deliveries are kept, and with them its record, milliseconds;
    /// 0 = there are none.
    pub story_ms: u64,
    /// The wall clock, see [`WallMs`].
    pub clock: Arc<dyn Fn() -> WallMs + Send + Sync>,
}
