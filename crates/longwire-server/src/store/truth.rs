//! Stories of deliveries, receipts and presence, as the message store is asked and answers.

use crate::domain::{
    AppId, ClientId, Counts, Device, DeviceName, DropReason, Filter, MessageId, MessageRecord, Position,
    ReceiptMode, TraceId, WallMs,
};
use longwire_proto::wire::AckKind;
use std::sync::Arc;

/// Events that a stream of an app keeps; with the next one the oldest is dropped, counted, and told to whoever had not read it.
pub const STREAM_EVENTS_MAX: u64 = 1_000_000;
/// How long a stream keeps an event, milliseconds.
pub const STREAM_KEEP_MS: u64 = 7 * 86_400_000;

/// A stream of an app.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Stream {
    /// What became of deliveries.
    Receipts,
    /// Which devices came and went.
    Presence,
}

impl Stream {
    /// Both.
    pub const ALL: [Stream; 2] = [Stream::Receipts, Stream::Presence];

    /// The word for people and programs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Stream::Receipts => "receipts",
            Stream::Presence => "presence",
        }
    }
}

/// What became of a delivery, or what a device says of it. The label is the word in API and receipts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// The device said that it has it.
    Delivered,
    /// Expired before that.
    Expired,
    /// Replaced before that by a newer one.
    Collapsed,
    /// Recalled before that.
    Recalled,
    /// Dropped.
    Dropped(DropReason),
    /// A person could see it.
    Displayed,
    /// A person acted on it.
    Clicked,
    /// A person put it away.
    Dismissed,
}

impl Told {
    /// The word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Told::Delivered => "delivered",
            Told::Expired => "expired",
            Told::Collapsed => "collapsed",
            Told::Recalled => "recalled",
            Told::Dropped(_) => "dropped",
            Told::Displayed => "displayed",
            Told::Clicked => "clicked",
            Told::Dismissed => "dismissed",
        }
    }

    /// Why it was dropped.
    #[must_use]
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Told::Dropped(reason) => Some(reason.label()),
            _ => None,
        }
    }
}

/// A device's word about a message that it has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Feedback {
    /// The device.
    pub client: ClientId,
    /// Its app.
    pub app: AppId,
    /// The message.
    pub message: MessageId,
    /// Which word.
    pub kind: AckKind,
}

/// What is noted of a device's sessions, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PresenceNote {
    /// The app.
    pub app: AppId,
    /// The device; 0 for [`Presence::Lost`].
    pub client: ClientId,
    /// When.
    pub at: WallMs,
    /// What.
    pub presence: Presence,
}

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Presence {
    /// It logged in.
    Online,
    /// Its last connection ended, for this reason.
    Offline(Box<str>),
    /// It was online when the node ended, or when the app switched the stream off, and has not come since.
    Stale,
    /// So many notes were not taken: too many came at once.
    Lost(u64),
}

/// What an app's streams take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StreamTerms {
    /// Of receipts.
    pub receipts: ReceiptMode,
    /// Presence is noted.
    pub presence: bool,
}

/// What is asked of a stream.
#[derive(Clone, Copy, Debug)]
pub struct StreamRequest {
    /// The app.
    pub app: AppId,
    /// After this place; `None`: from the oldest that is kept.
    pub after: Option<Position>,
    /// Events at most.
    pub max: u16,
}

/// A page of a stream.
#[derive(Clone, Debug)]
pub struct StreamPage<T> {
    /// In order.
    pub events: Vec<T>,
    /// The last one's place, or where the page began.
    pub next: Position,
    /// Events after the request's place that the stream has dropped.
    pub lost: u64,
    /// There is more.
    pub more: bool,
}

/// What became of a delivery.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receipt {
    /// Its place.
    pub position: Position,
    /// The message.
    pub message: MessageId,
    /// The device; `None` if it is gone.
    pub device: Option<DeviceName>,
    /// What.
    pub told: Told,
    /// When.
    pub at: WallMs,
    /// The message's trace.
    pub trace: TraceId,
    /// The caller's word for the message; empty = none.
    pub label: Box<str>,
}

/// A device came or went.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PresenceEvent {
    /// Its place.
    pub position: Position,
    /// The device; `None` if it is gone, or for what was lost.
    pub device: Option<DeviceName>,
    /// `online`, `offline` or `lost`.
    pub state: PresenceState,
    /// Rises with each login of a device. For what was lost: how many.
    pub epoch: u64,
    /// Why it went.
    pub reason: Box<str>,
    /// When.
    pub at: WallMs,
}

/// What an event of presence says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PresenceState {
    /// The device logged in.
    Online = 1,
    /// Its last connection ended.
    Offline = 2,
    /// Events were not written.
    Lost = 3,
}

impl PresenceState {
    /// The word for people and programs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            PresenceState::Online => "online",
            PresenceState::Offline => "offline",
            PresenceState::Lost => "lost",
        }
    }
}

/// How a stream and a reader of it stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StreamStanding {
    /// The last place.
    pub last: Position,
    /// Everything up to here is gone.
    pub gone: Position,
    /// Events that are there.
    pub events: u64,
    /// Events that were dropped unread or not, since the stream began.
    pub dropped: u64,
    /// Where the reader stands; `None`: it has none.
    pub cursor: Option<Position>,
}

/// The story of one ended delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Story {
    /// When it was sent; 0 = it was not, or that is not known.
    pub sent: WallMs,
    /// When it ended.
    pub ended: WallMs,
    /// How.
    pub told: Told,
    /// When a person could see it; 0 = the device has not said so.
    pub displayed: WallMs,
    /// When a person acted on it.
    pub clicked: WallMs,
    /// When a person put it away.
    pub dismissed: WallMs,
}

/// Where a delivery without a story stands in its device's mailbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InMailbox {
    /// Its end, if it has one.
    pub told: Option<Told>,
    /// Waiting messages before it.
    pub ahead: u32,
}

/// All that is known of one message and one device.
#[derive(Clone, Debug)]
pub struct Explained {
    /// The message.
    pub record: Arc<MessageRecord>,
    /// Its counts.
    pub counts: Counts,
    /// The device.
    pub device: Device,
    /// Its delivery's story, once that has ended.
    pub story: Option<Story>,
    /// Of an addressed message, the delivery's place.
    pub target: Option<Position>,
    /// What stands there.
    pub mailbox: Option<InMailbox>,
    /// Of a log message whose retention is not over, whom it is for.
    pub filter: Option<Arc<Filter>>,
    /// The log's entry was recalled, or replaced.
    pub marked: Option<Told>,
    /// The device has passed the message's place in the log.
    pub passed: bool,
    /// It is online (true) or not since then, as the stream of presence knows; `None`: the app has none.
    pub presence: Option<(bool, WallMs)>,
}

/// One device of a message.
#[derive(Clone, Debug)]
pub struct TargetRow {
    /// The device.
    pub client: ClientId,
    /// Its name; `None` if it is gone.
    pub name: Option<DeviceName>,
    /// Its story.
    pub story: Option<Story>,
    /// How it ended, as story or mailbox know.
    pub told: Option<Told>,
    /// It waits in the mailbox. Neither this nor an end: it has ended, and its story is not kept.
    pub waits: bool,
}

/// What is asked of a message's devices.
#[derive(Clone, Copy, Debug)]
pub struct TargetsRequest {
    /// The app.
    pub app: AppId,
    /// The message.
    pub message: MessageId,
    /// After this device.
    pub after: Option<ClientId>,
    /// Rows looked at, at most.
    pub max: u16,
}

/// Devices of a message.
#[derive(Clone, Debug)]
pub struct TargetsPage {
    /// The message.
    pub record: Arc<MessageRecord>,
    /// In the order of their numbers.
    pub rows: Vec<TargetRow>,
    /// The last one looked at, if there may be more.
    pub next: Option<ClientId>,
}
