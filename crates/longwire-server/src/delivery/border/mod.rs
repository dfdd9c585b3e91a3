//! The border between the two worlds: commands go to shards, events come from them, both in bounded queues, in batches.

pub mod labels;
pub mod own;
pub mod topics;

pub use labels::{Headcount, LabelId, Labelled, Meant, Reach};

use crate::domain::topic::Interests;
use crate::domain::{AppId, AssignedHeartbeat, ClientId, FrequencyCap, MessageId, Position, Source, WallMs};
use crate::store::port::{End, Page};
use bytes::Bytes;
use longwire_proto::close::CloseReason;
use longwire_proto::session::{FeedStart, Pull};
use longwire_proto::wire::{AckKind, Class, Network, UpAck};
use std::sync::Arc;
use tokio::sync::oneshot;

/// One reactor thread.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ShardId(pub u8);

/// Names one connection as long as it lives: shard (8 bits), slot (24 bits), three bits that are zero here and hold the
/// device's class in the session table, generation of the slot (29 bits). A handle of a connection that is gone names
/// nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Handle(u64);

impl Handle {
    /// Slots that a shard may have.
    pub const SLOTS_MAX: u32 = 1 << 24;
    /// Generations of a slot; after the last comes 0. A stale handle would have to wait for half a billion connections
    /// in one slot to name another one.
    pub const GENERATIONS: u32 = 1 << 29;
    /// A handle.
    #[must_use]
    pub const fn new(shard: ShardId, slot: u32, generation: u32) -> Handle {
        Handle(
            ((shard.0 as u64) << 56)
                | (((slot & 0xFF_FFFF) as u64) << 32)
                | (generation % Handle::GENERATIONS) as u64,
        )
    }
    /// Its shard, slot and generation, as one number with the bits 29 to 31 zero.
    pub(super) const fn bits(self) -> u64 {
        self.0
    }
    /// The handle that has these bits; 29 to 31 are not looked at.
    pub(super) const fn from_bits(bits: u64) -> Handle {
        Handle(bits & !(0b111 << 29))
    }
    /// Its shard.
    #[must_use]
    pub const fn shard(self) -> ShardId {
        ShardId((self.0 >> 56) as u8)
    }
    /// Its slot.
    #[must_use]
    pub const fn slot(self) -> u32 {
        ((self.0 >> 32) & 0xFF_FFFF) as u32
    }
    /// The slot's generation.
    #[must_use]
    pub const fn generation(self) -> u32 {
        self.0 as u32
    }
}

/// Beyond its heartbeat, a connection that stands in the way of a newer one may be silent for so many seconds.
pub const SILENCE_GRACE_S: u32 = 10;

/// What a shard is told.
#[derive(Debug)]
pub enum Command {
    /// The login is accepted.
    Attach(Box<Attach>),
    /// The login is refused: answer and close.
    Refuse {
        /// The connection.
        to: Handle,
        /// Why.
        reason: CloseReason,
        /// Not before, seconds; 0 = the device's back-off.
        retry_after_s: u16,
    },
    /// A stored message for one device that is connected.
    Deliver {
        /// The connection.
        to: Handle,
        /// The place in the device's mailbox.
        position: Position,
        /// The message.
        message: Arc<Outgoing>,
    },
    /// An online-only message for one device that is connected: sent if the outbox has room, else dropped and counted.
    DeliverNow {
        /// The connection.
        to: Handle,
        /// The message.
        message: Arc<Outgoing>,
    },
    /// A message for an app's connections. In the order of log positions.
    Broadcast(Arc<Broadcast>),
    /// How many connections a condition fits: answered in it, and the last shard tells [`Event::Counted`].
    Count(Arc<Headcount>),
    /// The answer to [`Event::Pull`].
    Page {
        /// The connection.
        to: Handle,
        /// Which source.
        source: Source,
        /// What was waiting. `None`: the store failed; the shard asks again after a second.
        page: Option<Box<Page>>,
    },
    /// The answer to [`Event::Upstream`].
    Answer {
        /// The connection.
        to: Handle,
        /// Which message, and what became of it.
        answer: UpAck,
    },
    /// The device's tags or attributes changed.
    Retag {
        /// The connection.
        to: Handle,
        /// Its labels now, sorted.
        labels: Box<[LabelId]>,
    },
    /// The device has more than one connection: from now on each delivery that enters this one's window is told as
    /// [`Event::Held`], those in it now included. It may come before [`Command::Attach`].
    Share {
        /// The connection.
        to: Handle,
    },
    /// A newer login was refused because of this connection: end it with `idle` if it has not been heard for its
    /// heartbeat and [`SILENCE_GRACE_S`]; tell its end (again) if it is gone.
    EndIfSilent {
        /// The connection.
        to: Handle,
        /// The device.
        client: ClientId,
        /// Its app.
        app: AppId,
    },
    /// A message is recalled: from now on it is sent to nobody. The shard drops `done` when it knows.
    Recall {
        /// The message.
        message: MessageId,
        /// Whoever holds the other end waits until every shard has dropped it.
        done: tokio::sync::mpsc::Sender<()>,
    },
    /// What is to be known of connections of this shard; those that are gone are left out of the answer.
    Inspect {
        /// The connections.
        of: Vec<Handle>,
        /// Where it is said.
        reply: oneshot::Sender<Vec<(Handle, Inspected)>>,
    },
    /// About topics.
    Topic(topics::TopicCommand),
    /// The answer to [`Event::Own`].
    Own(own::OwnAnswer),
    /// End a connection: say why, then close.
    Close {
        /// The connection.
        to: Handle,
        /// Why.
        reason: CloseReason,
        /// Not before, seconds; 0 = the device's back-off.
        retry_after_s: u16,
    },
}

/// A connection as its shard sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inspected {
    /// Seconds since it was accepted.
    pub age_s: u32,
    /// Seconds since the peer was last heard.
    pub silent_s: u32,
    /// What carries its bytes; unknown of MQTT clients.
    pub network: Network,
    /// What the device is; MQTT clients do not say.
    pub class: Option<Class>,
}

/// An accepted login.
#[derive(Debug)]
pub struct Attach {
    /// The connection.
    pub to: Handle,
    /// The device.
    pub client: ClientId,
    /// Its app.
    pub app: AppId,
    /// The labels of its tags and attributes, sorted.
    pub labels: Box<[LabelId]>,
    /// Where its mailbox stands.
    pub mailbox: FeedStart,
    /// Where it stands in the app's log.
    pub log: FeedStart,
    /// The log's last position when that was read.
    pub log_head: Position,
    /// For the answer.
    pub server_time: WallMs,
    /// For an MQTT client.
    pub mqtt: Option<Box<topics::MqttAttach>>,
    /// For a native device whose session was kept.
    pub topics: Option<Box<topics::KeptTopics>>,
    /// What the device is told to beat by.
    pub heartbeat: AssignedHeartbeat,
    /// How many messages it may get, if its app has a cap.
    pub frequency: Option<Frequency>,
}

/// A device under its app's frequency cap.
#[derive(Clone, Copy, Debug)]
pub struct Frequency {
    /// The cap.
    pub cap: FrequencyCap,
    /// When the span began; `WallMs(0)`: there was none.
    pub from: WallMs,
    /// Deliveries in it.
    pub count: u32,
}

/// A message in the form in which it goes out, shared by all its deliveries.
#[derive(Debug)]
pub struct Outgoing {
    /// Its id.
    pub message: MessageId,
    /// When it expires; 0 for online-only.
    pub deadline: WallMs,
    /// The shared part of its PUSH.
    pub shared: Bytes,
    /// It was pushed with high priority.
    pub high: bool,
}

/// A message for many.
#[derive(Debug)]
pub struct Broadcast {
    /// The app.
    pub app: AppId,
    /// Whom of its connections it is for.
    pub reach: Reach,
    /// The place in the app's log; [`Position::START`] = online-only: sent if the outbox has room, else dropped and
    /// counted.
    pub position: Position,
    /// The message.
    pub message: Arc<Outgoing>,
}

/// What a shard tells.
#[derive(Debug)]
pub enum Event {
    /// A device wants to log in.
    Login(Box<Login>),
    /// A session has room and its source may hold more.
    Pull {
        /// The connection.
        from: Handle,
        /// The device.
        client: ClientId,
        /// Its app.
        app: AppId,
        /// What is asked.
        pull: Pull,
        /// The places of that source that went ahead in this session.
        ahead: Box<[Position]>,
    },
    /// A delivery went into the window of a connection that was told [`Command::Share`], or was in it then. The times
    /// that it was sent are counted by [`Event::Sent`] all the same.
    Held {
        /// The device.
        client: ClientId,
        /// The message.
        message: MessageId,
    },
    /// A delivery of this session ended: the device settled it, or it could not be sent to it.
    Settled {
        /// The connection.
        from: Handle,
        /// The device.
        client: ClientId,
        /// Its app.
        app: AppId,
        /// Where `position` counts.
        source: Source,
        /// The delivery's place.
        position: Position,
        /// The message.
        message: MessageId,
        /// How. Of a QoS 0 sending, by being sent.
        end: End,
        /// It was told as [`Event::Held`], if it was sent.
        shared: bool,
        /// When it was sent; 0 = it was not.
        sent: WallMs,
    },
    /// Other words of a device about a message: displayed, clicked, dismissed.
    Feedback {
        /// The device.
        client: ClientId,
        /// Its app.
        app: AppId,
        /// The message.
        message: MessageId,
        /// Which word.
        kind: AckKind,
    },
    /// A device sent a message for the business; it waits for a [`Command::Answer`].
    Upstream(Box<Upstream>),
    /// Deliveries of a message that went to outboxes or were dropped since the last report of it.
    Sent {
        /// The message.
        message: MessageId,
        /// Given to sockets or outboxes.
        sent: u32,
        /// Online-only deliveries dropped because an outbox was above its high mark.
        dropped: u32,
    },
    /// A device wants something changed of itself; it waits for a [`Command::Own`].
    Own(Box<own::OwnChange>),
    /// Every shard has answered a [`Command::Count`].
    Counted(Arc<Headcount>),
    /// A session wants something of topics.
    Topic(topics::From, Box<topics::TopicEvent>),
    /// A connection that had begun to log in is gone. Its unacked deliveries, if any, go with it.
    Closed(Box<Closed>),
}

/// A wish to log in.
#[derive(Debug)]
pub struct Login {
    /// The connection.
    pub from: Handle,
    /// Bytes 8–15 of the header: 0 or the device's number.
    pub client: ClientId,
    /// The app's key as presented.
    pub app_key: String,
    /// The token as presented.
    pub token: Vec<u8>,
    /// The planned heartbeat, seconds.
    pub heartbeat_s: u16,
    /// What carries the bytes.
    pub network: Network,
    /// The device's class.
    pub class: Class,
    /// The positions in its mailbox and in its app's log up to which the device says that it misses nothing.
    pub resume: [Position; 2],
    /// Where the connection comes from.
    pub peer: std::net::SocketAddr,
    /// What an MQTT client presents beside.
    pub mqtt: Option<Box<topics::MqttLogin>>,
}

/// A message from a device, copied out of the bytes that were read; at most 10 KiB and two words.
#[derive(Debug)]
pub struct Upstream {
    /// The connection.
    pub from: Handle,
    /// The device.
    pub client: ClientId,
    /// Its app.
    pub app: AppId,
    /// The device's own id of the message.
    pub client_message: u64,
    /// Answer when it is durable; else as soon as it is queued.
    pub durable: bool,
    /// The type word, 1 to 64 bytes (001-13).
    pub kind: Box<str>,
    /// It names another device as its target.
    pub to_device: bool,
    /// The content.
    pub payload: Bytes,
}

/// The end of a connection.
#[derive(Debug)]
pub struct Closed {
    /// The connection.
    pub from: Handle,
    /// The device, once attached.
    pub client: Option<ClientId>,
    /// The app of that device.
    pub app: AppId,
    /// Why.
    pub reason: CloseReason,
    /// Up to where it has sent mailbox and log.
    pub sent: [Position; 2],
    /// Messages that were sent and not acked.
    pub unacked: Vec<MessageId>,
    /// They were told as [`Event::Held`].
    pub shared: bool,
    /// Seconds it lived.
    pub lived_s: u32,
    /// The will of an MQTT client, if it is to be published.
    pub will: Option<Box<topics::Will>>,
}

/// The shards as the hub reaches them; the gate serves it.
pub trait Shards: Send + Sync + 'static {
    /// How many there are.
    fn count(&self) -> usize;
    /// Who may want which topic.
    fn interests(&self) -> &Arc<Interests>;
    /// Queues a command; one wake per batch. Never blocks: a full queue gives the command back, and the hub waits for
    /// room in steps of a millisecond, counted.
    ///
    /// # Errors
    /// The command, if there is no room.
    fn post(&self, shard: ShardId, command: Command) -> Result<(), Command>;
}

/// The events of one shard as the hub takes them; the gate serves it.
pub trait Events: Send + 'static {
    /// Appends what is there to `into`, up to `max`; waits while there is nothing. False: the shard has ended.
    fn take(&mut self, into: &mut Vec<Event>, max: usize) -> impl Future<Output = bool> + Send;
}
