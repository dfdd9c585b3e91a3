//! What comes to the application.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use longwire_proto::close::CloseReason;
use longwire_proto::id::{Kind, MessageId, Position, Source, TraceId};
use longwire_proto::wire::{Gap, Push, Refusal, ResultCode, push_flags};
use tokio::time::Instant;

use crate::own::OwnChange;
use crate::topic::Published;
use crate::upstream::UpstreamId;

/// One thing for the application.
#[derive(Clone, Debug)]
pub enum Incoming {
    /// A message that was not shown before. Ack it when it is safe with the application.
    Message(Message),
    /// Messages that were left out, and why; already acked.
    Gap(Gap),
    /// Forget this message, if it was shown. It is not shown any more; the recall is acked already.
    Recall(MessageId),
    /// A message that this device sent was answered for good: done, or refused and not sent again. A message that an
    /// earlier process with the same state folder sent is answered here too.
    Answered {
        /// Its number from [`Device::send`](crate::Device::send).
        id: UpstreamId,
        /// What became of it; never [`ResultCode::Busy`], and [`ResultCode::Quota`] only of one for a topic: after them, it is sent
        /// again.
        outcome: ResultCode,
    },
    /// What became of a subscription that was asked for; later again only if the server refuses it on another connection.
    Subscribed {
        /// Its filter.
        filter: String,
        /// [`ResultCode::Done`], or why it is not there and not asked for again.
        outcome: ResultCode,
    },
    /// A subscription ended.
    Unsubscribed {
        /// Its filter.
        filter: String,
        /// [`ResultCode::Done`], also if it was not there.
        outcome: ResultCode,
    },
    /// What became of a change of the device itself.
    Changed {
        /// As asked for.
        change: OwnChange,
        /// [`ResultCode::Done`], or why it was not made and is not asked for again. [`ResultCode::Busy`]: too many wait here already.
        outcome: ResultCode,
    },
    /// The connection changed its state.
    State(State),
}

/// A message for this device.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its id, for the ack.
    pub id: MessageId,
    /// What it is.
    pub kind: Kind,
    /// Where its position counts; `None` for online-only, which needs no ack.
    pub source: Option<Source>,
    /// Its place in the source.
    pub position: Position,
    /// The trace that the push belongs to; 0 = none.
    pub trace: TraceId,
    /// Newest of a key replaces the older; empty = none.
    pub collapse_key: String,
    /// An earlier message that this one takes the place of, shown or not.
    pub replaces: Option<MessageId>,
    /// Something before it was missed and never announced.
    pub hole: bool,
    /// The server may have sent it in an earlier session (then this device has lost its memory of it).
    pub may_repeat: bool,
    /// It was pushed with high priority.
    pub high: bool,
    /// The content, by kind.
    pub payload: Bytes,
    /// What it is, if it came from a topic.
    pub published: Option<Published>,
    pub(crate) expires: Option<Instant>,
}

impl Message {
    pub(crate) fn new(push: &Push<'_>, hole: bool, now: Instant) -> Message {
        let payload = Bytes::copy_from_slice(push.payload);
        let is_older = push.flags & push_flags::RETAINED != 0;
        let is_published = push.kind == Kind::Topic;
        Message {
            id: push.message,
            kind: push.kind,
            source: push.source,
            position: push.position,
            trace: push.trace,
            collapse_key: push.collapse_key.to_owned(),
            replaces: push.replaces,
            hole,
            may_repeat: push.flags & push_flags::MAY_REPEAT != 0,
            high: push.flags & push_flags::HIGH != 0,
            published: is_published.then(|| Published::decode(&payload, is_older)).flatten(),
            payload,
            expires: (push.ttl_s > 0).then(|| now + Duration::from_secs(u64::from(push.ttl_s))),
        }
    }

    /// Whether the server waits for an ack of it.
    #[must_use]
    pub fn needs_ack(&self) -> bool {
        self.source.is_some()
    }
}

/// The state of a device's connection.
#[derive(Clone, Debug)]
pub enum State {
    /// A connection is being made.
    Connecting {
        /// To this address.
        address: String,
        /// Attempts since the last success, from 0.
        attempt: u32,
    },
    /// Logged in.
    Connected {
        /// To this address.
        address: String,
        /// The node's name.
        node: String,
        /// The heartbeat in use, seconds.
        heartbeat_s: u16,
    },
    /// The connection ended; the next attempt comes after the delay.
    Waiting {
        /// Until the next attempt.
        delay: Duration,
        /// Why the last one ended.
        ended: Ended,
    },
    /// The end: these credentials are of no more use. Nothing comes after it.
    Stopped(CloseReason),
}

/// Why a connection ended.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Ended {
    /// No connection could be made.
    #[error("could not connect: {0}")]
    Unreachable(io::ErrorKind),
    /// No connection within the connect timeout.
    #[error("could not connect in time")]
    ConnectTimeout,
    /// The socket failed.
    #[error("connection broken: {0}")]
    Broken(io::ErrorKind),
    /// No answer to CONNECT, or to three heartbeats (004-20), or the server takes no bytes.
    #[error("the server does not answer")]
    Lost,
    /// The server ended the stream without a word.
    #[error("the server ended the connection without a reason")]
    EndOfStream,
    /// Login refused.
    #[error("login refused: {}", .0.reason.label())]
    Refused(Refusal),
    /// The server ended the connection with a reason.
    #[error("closed by the server: {}", .0.reason.label())]
    Closed(Refusal),
    /// The server broke the protocol.
    #[error("the server broke the protocol: {}", .0.label())]
    Protocol(CloseReason),
    /// The server named another address.
    #[error("redirected to {to}")]
    Redirected {
        /// The address.
        to: String,
    },
    /// The node goes out of service.
    #[error("the node goes out of service")]
    GoAway {
        /// How much of the wait that the node asked for is left.
        wait: Duration,
        /// The address it named, or empty.
        to: String,
    },
}
