//! Topics at the border: what is published, wished and answered between shards, and between shards and the hub.

use super::Handle;
use crate::domain::topic::Rules;
use crate::domain::{AppId, ClientId, Kind, MessageId, Position, Source, TraceId, WallMs};
use bytes::Bytes;
use longwire_proto::wire::mqtt::{PropertiesBuf, Property, SharedPublish, Version};
use longwire_proto::wire::{PushHead, TopicBody, encode_push_shared, push_frame};
use std::sync::{Arc, OnceLock};

pub use crate::domain::topic::TopicWish;

/// A message published to a topic, shared by all who get it.
#[derive(Debug)]
pub struct TopicMessage {
    /// The app whose topic it is.
    pub app: AppId,
    /// Topic, forwarded properties (see [`TopicBody::properties`]) and content, in one buffer.
    pub shared: SharedPublish<Bytes>,
    /// QoS of the publish, 0 to 2.
    pub qos: u8,
    /// The publisher asked to keep it for later subscribers.
    pub retain: bool,
    /// When it expires; [`WallMs(0)`](WallMs) = never.
    pub deadline: WallMs,
    /// Who published it; `ClientId(0)`: the API. A subscription with *no local* leaves out its own (MQTT-3.8.3-3).
    pub publisher: ClientId,
    /// The publisher marked it as sent before (DUP).
    pub dup: bool,
    /// Whole packets of QoS 0 without properties of their own, made when first asked for: 3.1.1 and 5.0.
    frames: [OnceLock<Bytes>; 2],
    /// The online-only PUSH that native devices get; `None`: it has none.
    native: OnceLock<Option<Bytes>>,
}

impl TopicMessage {
    /// A message. `shared` holds no expiry, alias or subscription identifier.
    #[must_use]
    pub fn new(
        app: AppId,
        publisher: ClientId,
        shared: SharedPublish<Bytes>,
        (qos, retain): (u8, bool),
        deadline: WallMs,
    ) -> TopicMessage {
        let (frames, native) = Default::default();
        TopicMessage { app, shared, qos, retain, deadline, publisher, dup: false, frames, native }
    }

    /// The same, marked as sent before (DUP): what the business has of it is not stored again.
    #[must_use]
    pub fn sent_before(self) -> TopicMessage {
        TopicMessage { dup: true, ..self }
    }

    /// The packet of QoS 0 that all subscribers without wishes of their own get.
    #[must_use]
    pub fn frame(&self, version: Version) -> &Bytes {
        let at = usize::from(version == Version::V5);
        self.frames[at].get_or_init(|| Bytes::from(self.shared.whole_at_most_once(version, false)))
    }

    /// The online-only PUSH that all native subscribers get; `None` as for [`TopicMessage::body`].
    #[must_use]
    pub fn native_frame(&self) -> Option<&Bytes> {
        self.native.get_or_init(|| self.native_push(0)).as_ref()
    }

    /// An online-only PUSH with these flags (see [`push_flags`](longwire_proto::wire::push_flags)). It has no id: nobody stored it.
    #[must_use]
    pub fn native_push(&self, flags: u8) -> Option<Bytes> {
        let (body, mut shared) = (self.body()?, Vec::new());
        encode_push_shared(MessageId(0), Kind::Topic, TraceId(0), "", &body, &mut shared);
        let start = Position::START;
        let head = PushHead { source: None, position: start, previous: start, ttl_s: 0, flags };
        Some(Bytes::from(push_frame(&head, &shared)))
    }

    /// The payload under which it is stored and given to native devices.
    ///
    /// `None` for a topic or properties above 65,535 bytes, which no protocol brings.
    #[must_use]
    pub fn body(&self) -> Option<Vec<u8>> {
        self.encoded(self.retain, false, self.shared.properties())
    }

    /// The same for one member of a shared group, which has this subscription identifier (0: none).
    #[must_use]
    pub fn body_for_member(&self, identifier: u32) -> Option<Vec<u8>> {
        let mut properties = PropertiesBuf::from_wire(self.shared.properties());
        if identifier != 0 {
            properties.push(Property::SubscriptionIdentifier(identifier));
        }
        self.encoded(false, true, properties.as_properties().as_bytes())
    }

    fn encoded(&self, retain: bool, for_member: bool, properties: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let (topic, content, expires) = (self.shared.topic(), self.shared.payload(), self.deadline.0 != 0);
        let body = TopicBody { topic, qos: self.qos, retain, for_member, expires, properties, content };
        body.encode(&mut out)?;
        Some(out)
    }
}

/// What an MQTT client presents. The hub reads who it is from here; the login's own app key and token are not looked at.
pub struct MqttLogin {
    /// The version of the session.
    pub version: Version,
    /// The client identifier; empty: the server chooses.
    pub client_id: Box<str>,
    /// The user name as presented; `None` if there was none.
    pub user_name: Option<Box<str>>,
    /// The password as presented.
    pub password: Option<Box<[u8]>>,
    /// The session so far is not wanted (MQTT-3.1.2-4).
    pub clean_start: bool,
    /// Seconds that the session is to outlive its connection; 0 = not, `u32::MAX` = as long as allowed.
    pub expiry_s: u32,
    /// Common name or subject of a client certificate that was verified.
    pub certificate: Option<Box<str>>,
    /// The will, where the session asks to outlive its connection: it is stored with it.
    pub will: Option<WillToKeep>,
}

/// A will as it is stored with its session.
#[derive(Clone, Debug)]
pub struct WillToKeep {
    /// See [`TopicMessage::body`].
    pub body: Bytes,
    /// Seconds after the end of the connection, at most an hour.
    pub delay_s: u32,
    /// Seconds from its publication to its expiry.
    pub expiry_s: Option<u32>,
}

impl std::fmt::Debug for MqttLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let MqttLogin { version, client_id, user_name, password, clean_start, expiry_s, certificate, will } =
            self;
        f.debug_struct("MqttLogin")
            .field("version", version)
            .field("client_id", client_id)
            .field("user_name", user_name)
            .field("password", &password.as_ref().map(|_| "***"))
            .field("clean_start", clean_start)
            .field("expiry_s", expiry_s)
            .field("certificate", certificate)
            .field("will", &will.is_some())
            .finish()
    }
}

/// What a login of an MQTT client was given.
#[derive(Debug)]
pub struct MqttAttach {
    /// The session was there (MQTT-3.2.2-2).
    pub session_present: bool,
    /// The identifier that the server chose, if the client gave none.
    pub assigned: Option<Box<str>>,
    /// Seconds that the session outlives its connection, clipped to the limit.
    pub expiry_s: u32,
    /// The subscriptions of a session that was there.
    pub subscriptions: Vec<TopicWish>,
    /// Identifiers of messages of QoS 2 from the client that await PUBREL (MQTT-4.3.3).
    pub awaiting_release: Vec<u16>,
    /// Up to where earlier connections of the session may have sent its mailbox and its app's log (MQTT-3.3.1-1).
    pub sent: [Position; 2],
    /// What the device may do with topics.
    pub rules: Arc<Rules>,
    /// The device's name, for `%c` in rules.
    pub name: Box<str>,
    /// For `%u` in rules: the user name behind `app/`, or all of it; empty if there was none, or no rule asks for it.
    pub user: Box<str>,
}

/// What a native device may do with topics.
#[derive(Debug)]
pub struct TopicRights {
    /// Its app's rules.
    pub rules: Arc<Rules>,
    /// Its name, for `%c` in rules. It has no user name.
    pub name: Box<str>,
}

/// The topics of a native device whose session was kept.
#[derive(Debug)]
pub struct KeptTopics {
    /// What it may do.
    pub rights: TopicRights,
    /// What it had subscribed to.
    pub subscriptions: Vec<TopicWish>,
}

/// Something that a session wants from the hub.
#[derive(Debug)]
pub enum TopicEvent {
    /// Publish: store for kept sessions, retain, hand to shared groups, or take as upstream.
    Publish {
        /// The message. Live subscribers got it already, unless it is `$up/…`.
        message: Arc<TopicMessage>,
        /// The identifier to answer, for QoS 1 and 2.
        packet_id: Option<u16>,
        /// QoS 2 of a kept session: the identifier is stored with the message.
        remembers: bool,
    },
    /// QoS 2: the client released an identifier that is stored; answered when that is durable.
    Release {
        /// The identifier.
        packet_id: u16,
    },
    /// Subscribe: store for a kept session, join shared groups, send what is retained. Live matching began already.
    Subscribe {
        /// The identifier to answer; 0: nobody waits (a resumed session joins its shared groups).
        packet_id: u16,
        /// What is wanted, and whether retained messages are: 0 yes, 1 if the subscription is new, 2 no. Of sessions that
        /// are not kept the hub does not know what is new: their shard says 0 or 2 in place of 1.
        wishes: Vec<(TopicWish, u8)>,
        /// The session outlives its connection.
        is_kept: bool,
    },
    /// Unsubscribe: the same, back.
    Unsubscribe {
        /// The identifier to answer.
        packet_id: u16,
        /// The filters that were subscribed to.
        filters: Vec<Box<str>>,
        /// The session outlives its connection.
        is_kept: bool,
    },
    /// QoS 2: the device has a delivery (PUBREC); answered with [`TopicCommand::Recorded`] when that is durable.
    Received {
        /// Where `position` counts.
        source: Source,
        /// The delivery's place.
        position: Position,
        /// The message.
        message: MessageId,
    },
    /// A delivery of a shared group was acked, or will not be because the member goes.
    Shared {
        /// The delivery's number, as given by [`TopicCommand::Deliver`].
        number: u64,
        /// The device has it.
        acked: bool,
    },
    /// A native device has to do with topics: what may it do? Answered with [`TopicCommand::Rights`].
    Rights,
    /// A native device is about to subscribe for longer than its connection lives: it has a kept session from now on.
    Keep,
    /// The session gave another expiry at its end (MQTT-3.14.2-2).
    Expiry {
        /// Seconds; 0 = it ends now.
        seconds: u32,
    },
}

/// The session that an event is from.
#[derive(Clone, Copy, Debug)]
pub struct From {
    /// The connection.
    pub handle: Handle,
    /// The device.
    pub client: ClientId,
    /// Its app.
    pub app: AppId,
}

/// What a shard is told about topics.
#[derive(Debug)]
pub enum TopicCommand {
    /// Published: for every live subscriber of this shard. With QoS 1 or 2, subscriptions of kept sessions are left out:
    /// they get it through their mailboxes.
    Publish(Arc<TopicMessage>),
    /// For one connection: from a shared group.
    Deliver {
        /// The connection.
        to: Handle,
        /// The message.
        message: Arc<TopicMessage>,
        /// At most this QoS.
        qos: u8,
        /// The subscription identifier; 0 = none.
        identifier: u32,
        /// Tell its end with [`TopicEvent::Shared`]; 0 = nobody asks.
        number: u64,
    },
    /// The answer to [`TopicEvent::Publish`].
    Published {
        /// The connection.
        to: Handle,
        /// The identifier.
        packet_id: u16,
        /// How it went.
        outcome: PublishOutcome,
    },
    /// The answer to [`TopicEvent::Release`].
    Released {
        /// The connection.
        to: Handle,
        /// The identifier.
        packet_id: u16,
    },
    /// The answer to [`TopicEvent::Subscribe`] and [`TopicEvent::Unsubscribe`]: one outcome for each filter.
    Answered {
        /// The connection.
        to: Handle,
        /// The identifier.
        packet_id: u16,
        /// Whether it was to subscribe.
        subscribed: bool,
        /// Per filter, in their order.
        outcomes: Vec<SubscribeOutcome>,
        /// What follows the SUBACK at once, before anything that is published later (MQTT-3.3.1-9).
        retained: Vec<RetainedCopy>,
    },
    /// The answer to [`TopicEvent::Rights`].
    Rights {
        /// The connection.
        to: Handle,
        /// `None`: the store does not answer.
        rights: Option<Box<TopicRights>>,
    },
    /// The answer to [`TopicEvent::Received`]: PUBREL may leave.
    Recorded {
        /// The connection.
        to: Handle,
        /// Where `position` counts.
        source: Source,
        /// The delivery's place.
        position: Position,
    },
}

/// A retained message as a new subscription gets it.
#[derive(Clone, Debug)]
pub struct RetainedCopy {
    /// The message.
    pub message: Arc<TopicMessage>,
    /// At most this QoS.
    pub qos: u8,
    /// The subscription identifier; 0 = none.
    pub identifier: u32,
}

impl TopicCommand {
    /// The connection that it is for; `None`: all of the shard.
    #[must_use]
    pub fn to(&self) -> Option<Handle> {
        match self {
            TopicCommand::Publish(_) => None,
            TopicCommand::Deliver { to, .. }
            | TopicCommand::Published { to, .. }
            | TopicCommand::Released { to, .. }
            | TopicCommand::Answered { to, .. }
            | TopicCommand::Rights { to, .. }
            | TopicCommand::Recorded { to, .. } => Some(*to),
        }
    }
}

/// What became of a publish of QoS 1 or 2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PublishOutcome {
    /// Somebody gets it.
    Taken,
    /// Nobody is subscribed (0x10).
    Nobody,
    /// A quota: the app's store, its retained messages, or the mailboxes of all who would get it (0x97).
    Quota,
    /// The store does not answer; not taken (0x83).
    Unavailable,
    /// A rule refuses it (0x87).
    NotAllowed,
}

/// What became of one filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SubscribeOutcome {
    /// Subscribed, or gone.
    Done,
    /// There was no such subscription (0x11).
    NotThere,
    /// A shared group is full (0x97).
    Quota,
    /// The store does not answer (0x83).
    Unavailable,
}

/// A will, with what decides whether it is published.
#[derive(Debug)]
pub struct Will {
    /// What is published.
    pub message: Arc<TopicMessage>,
    /// Seconds after the end of the connection, at most an hour.
    pub delay_s: u32,
}
