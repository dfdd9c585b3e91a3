//! Sessions that outlive their connections, and retained messages, as the message store is asked and answers.

use super::port::{Accept, Accepted, Claim, Settle};
use super::upstream::{Upstream, UpstreamOutcome};
use crate::domain::topic::TopicWish;
use crate::domain::{AppId, ClientId, Position, WallMs};
use bytes::Bytes;
use std::sync::Arc;

/// Identifiers of QoS 2 that await PUBREL, kept of one device; a publish beyond is refused.
pub const UNRELEASED_MAX: usize = 64;
/// Subscriptions of one session; the list of a row is cut there.
pub const WISHES_MAX: usize = 100;

/// A session as stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptSession {
    /// The device.
    pub client: ClientId,
    /// Its app.
    pub app: AppId,
    /// Seconds that it outlives its connection.
    pub expiry_s: u32,
    /// When its connection ended; `WallMs(0)`: it has one, or the process died with it.
    pub ended_at: WallMs,
    /// What is still to be published for it.
    pub will: Option<Arc<KeptWill>>,
    /// Up to where its connections have sent its mailbox and its app's log; counts only with an `ended_at`.
    pub sent: [Position; 2],
    /// What it subscribed to, at most [`WISHES_MAX`].
    pub wishes: Vec<TopicWish>,
}

/// A will of a kept session: part of the session's state until it has been published or taken back (MQTT-3.1.2-8, MQTT-3.1.2-10).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeptWill {
    /// The encoded `TopicBody`: topic, QoS, retain flag, properties and content.
    pub body: Bytes,
    /// Seconds from the end of the connection to its publication.
    pub delay_s: u32,
    /// Seconds from its publication to its expiry; `None`: it does not expire.
    pub expiry_s: Option<u32>,
    /// It came without credentials, and was not held to the app's topic rules.
    pub anonymous: bool,
    /// The device's name, for `%c` in rules.
    pub name: Box<str>,
    /// For `%u` in rules.
    pub user: Box<str>,
}

/// A retained message as stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Retained {
    /// Its app.
    pub app: AppId,
    /// Its topic.
    pub topic: Box<str>,
    /// Who published it; `ClientId(0)`: the API.
    pub publisher: ClientId,
    /// When it expires; `WallMs(0)` = never.
    pub deadline: WallMs,
    /// The encoded `TopicBody`.
    pub body: Bytes,
}

/// A change of sessions or of what is retained. Idempotent.
#[derive(Clone, Debug)]
pub enum Change {
    /// The session is kept from now on, or its expiry or end is another. Its subscriptions stay.
    Keep {
        /// The device.
        client: ClientId,
        /// Its app.
        app: AppId,
        /// Seconds that it outlives its connection.
        expiry_s: u32,
        /// When its connection ended; `WallMs(0)`: it has one.
        ended_at: WallMs,
        /// Its will, in place of the one that was stored.
        will: Option<Arc<KeptWill>>,
        /// Up to where its connections have sent its mailbox and its app's log.
        sent: [Position; 2],
    },
    /// All that a kept session subscribed to. Without the session it changes nothing.
    Wishes(ClientId, Vec<TopicWish>),
    /// The session is over: subscriptions and identifiers go, its references of topic messages are dropped and counted.
    End(ClientId),
    /// An identifier of QoS 2 is kept until its release, for a message that nobody's mailbox took.
    Receive(ClientId, u16),
    /// An identifier of QoS 2 is free again.
    Release(ClientId, u16),
    /// A retained message, in place of an older one of its topic.
    Retain(Retained),
    /// A topic has no retained message any more.
    Clear(AppId, Box<str>),
    /// The end of a delivery.
    Settle(Settle),
}

/// One thing to be made durable in order with others.
#[derive(Debug)]
pub enum Work {
    /// A message; answered through the dispatcher.
    Accept(Accept),
    /// A change.
    Change(Change),
    /// A caller's key, behind the messages that it goes with.
    Claim(Claim),
    /// A message for the business. With an identifier of QoS 2 it is remembered together with the message, and a message
    /// whose identifier awaits its release is taken as repeated.
    Upstream(Upstream, Option<(ClientId, u16)>),
}

/// What became of it.
#[derive(Clone, Debug)]
pub enum Done {
    /// The message is stored.
    Accepted(Accepted),
    /// The change is.
    Changed,
    /// What became of a message for the business.
    Upstream(UpstreamOutcome),
}

/// What a login needs to know of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionView {
    /// The session.
    pub session: KeptSession,
    /// Identifiers of messages of QoS 2 from the device that await PUBREL, rising.
    pub unreleased: Vec<u16>,
}
