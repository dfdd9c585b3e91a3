//! The server's end of a conversation. A state that is over cannot be used: each transition consumes it.

use super::deliveries::Deliveries;
use super::feed::FeedStart;
use crate::close::CloseReason;
use crate::id::ClientId;
use crate::limit::{BEFORE_LOGIN_BYTES_MAX, HEARTBEAT_S_RANGE, PUBLISH_BYTES_MAX, UPSTREAM_BYTES_MAX};
use crate::wire::mqtt::{Limits, topic};
use crate::wire::{
    Ack, Assembler, Command, Connect, DeviceFrame, Publish, ResultCode, SelfService, ServerFrame, Subscribe,
    UpAck, Upstream, VERSION, heartbeat,
};

/// Before CONNECT: at most [`BEFORE_LOGIN_BYTES_MAX`] bytes, and no other frame.
#[derive(Debug, Default)]
pub struct AwaitingConnect {
    assembler: Assembler,
    seen_bytes: u16,
}

/// CONNECT was read and its login is being decided elsewhere; the device must wait for the answer.
#[derive(Debug)]
pub struct Deciding {
    assembler: Assembler,
    heartbeat_s: u16,
    mailbox_grew: bool,
}

/// Logged in.
#[derive(Debug)]
pub struct Established {
    assembler: Assembler,
    client: ClientId,
    deliveries: Deliveries,
    heartbeat_s: u16,
}

/// What came from the device and concerns somebody other than the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FromDevice<'a> {
    /// A heartbeat was answered; its PONG is in the output.
    Heartbeat,
    /// The device announced another heartbeat; the idle limit changes.
    HeartbeatChanged,
    /// Acks; pass each id to [`Deliveries::settle`].
    Acked(Ack<'a>),
    /// A message for the business, within [`UPSTREAM_BYTES_MAX`]; its UPACK is owed by whoever takes it.
    Upstream(Upstream<'a>),
    /// A subscription is wanted; the filter is valid. Its RESULT is owed by whoever makes it.
    Subscribe {
        /// The device's number of the request.
        request: u32,
        /// What is wanted.
        wanted: Subscribe<'a>,
        /// Its filter, judged.
        filter: topic::Filter<'a>,
    },
    /// The subscription with this filter, which is valid, is to end. Its RESULT is owed by whoever ends it.
    Unsubscribe {
        /// The device's number of the request.
        request: u32,
        /// The filter, `$share/{group}/` included.
        filter: &'a str,
    },
    /// The device wants something changed of itself: alias, tag or attribute, not yet judged. Its RESULT is owed by whoever makes
    /// the change.
    Own {
        /// The device's number of the request.
        request: u32,
        /// What is wanted; neither of the two about topics.
        what: SelfService<'a>,
    },
    /// A message for a valid topic that does not begin with `$`, within [`PUBLISH_BYTES_MAX`]. The UPACK of one that is to arrive
    /// at least once is owed by whoever takes it.
    Publish(Publish<'a>),
    /// An answered request that nobody else needs to see.
    Answered,
}

impl AwaitingConnect {
    /// Takes bytes off the front of `input` until CONNECT is complete. Bytes after it stay in `input`.
    ///
    /// # Errors
    /// Anything but a CONNECT of a version spoken here, within the limits.
    pub fn receive<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<(ClientId, Connect<'a>)>, CloseReason> {
        let before = input.len();
        let allowance = BEFORE_LOGIN_BYTES_MAX - usize::from(self.seen_bytes);
        let frame = self.assembler.next(input, BEFORE_LOGIN_BYTES_MAX).map_err(|error| error.reason())?;
        let consumed = before - input.len();
        if consumed > allowance {
            return Err(CloseReason::TooMuchBeforeLogin);
        }
        self.seen_bytes += consumed as u16;
        let Some(frame) = frame else { return Ok(None) };
        if frame.header.command != Command::Connect {
            return Err(CloseReason::OutOfOrder);
        }
        match DeviceFrame::decode(&frame.header, frame.body).map_err(|error| error.reason())? {
            DeviceFrame::Connect(connect) if connect.version == VERSION => {
                Ok(Some((frame.header.client, connect)))
            }
            DeviceFrame::Connect(_) => Err(CloseReason::UnsupportedVersion),
            _ => Err(CloseReason::OutOfOrder),
        }
    }

    /// Bytes held for an unfinished frame.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.assembler.held_bytes()
    }

    /// CONNECT was read; the decision is awaited.
    #[must_use]
    pub fn decide(mut self, heartbeat_s: u16) -> Deciding {
        self.assembler.release();
        let heartbeat_s = heartbeat_s.clamp(*HEARTBEAT_S_RANGE.start(), *HEARTBEAT_S_RANGE.end());
        Deciding { assembler: self.assembler, heartbeat_s, mailbox_grew: false }
    }
}

impl Deciding {
    /// A live delivery for this device came before the answer: it will be pulled.
    pub fn mailbox_grew(&mut self) {
        self.mailbox_grew = true;
    }

    /// The login was accepted.
    #[must_use]
    pub fn accept(self, client: ClientId, mailbox: FeedStart, log: FeedStart) -> Established {
        let mailbox = FeedStart { waiting: mailbox.waiting || self.mailbox_grew, ..mailbox };
        Established {
            assembler: self.assembler,
            client,
            deliveries: Deliveries::new(mailbox, log),
            heartbeat_s: self.heartbeat_s,
        }
    }
}

impl Established {
    /// The device.
    #[must_use]
    pub fn client(&self) -> ClientId {
        self.client
    }

    /// The heartbeat that the device last announced, seconds.
    #[must_use]
    pub fn heartbeat_s(&self) -> u16 {
        self.heartbeat_s
    }

    /// The longest silence that is allowed, seconds: 3 × announced heartbeat + 20 (004-11).
    #[must_use]
    pub fn idle_limit_s(&self) -> u32 {
        3 * u32::from(self.heartbeat_s) + 20
    }

    /// Bytes held for an unfinished frame.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.assembler.held_bytes()
    }

    /// Takes one frame off the front of `input`; `None` when it is used up. Answers go to `out`.
    ///
    /// # Errors
    /// The reason to close with.
    pub fn receive<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
        body_bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<Option<FromDevice<'a>>, CloseReason> {
        let Some(frame) = self.assembler.next(input, body_bytes_max).map_err(|error| error.reason())? else {
            return Ok(None);
        };
        if frame.header.client != self.client {
            return Err(CloseReason::WrongClientId);
        }
        if frame.header.command == Command::Ping {
            out.extend_from_slice(&heartbeat(Command::Pong, self.client));
            return Ok(Some(FromDevice::Heartbeat));
        }
        let from = match DeviceFrame::decode(&frame.header, frame.body).map_err(|error| error.reason())? {
            DeviceFrame::Ping => FromDevice::Heartbeat,
            DeviceFrame::Interval(seconds) => {
                self.heartbeat_s = seconds.clamp(*HEARTBEAT_S_RANGE.start(), *HEARTBEAT_S_RANGE.end());
                FromDevice::HeartbeatChanged
            }
            DeviceFrame::Connect(_) => return Err(CloseReason::OutOfOrder),
            DeviceFrame::Close(_) => return Err(CloseReason::PeerClosed),
            DeviceFrame::Ack(ack) => FromDevice::Acked(ack),
            DeviceFrame::Upstream(upstream) if upstream.payload.len() > UPSTREAM_BYTES_MAX => {
                let answer =
                    UpAck { client_message: upstream.client_message, outcome: ResultCode::NotAllowed };
                ServerFrame::UpAck(answer).encode(self.client, out);
                FromDevice::Answered
            }
            DeviceFrame::Upstream(upstream) => FromDevice::Upstream(upstream),
            DeviceFrame::Publish(publish) => published(publish, self.client, out),
            DeviceFrame::SelfService { request, what } => asked(request, what, self.client, out),
        };
        Ok(Some(from))
    }

    /// Gives back the buffer of a finished frame; call when a read was used up.
    pub fn release(&mut self) {
        self.assembler.release();
    }

    /// What is on its way to the device.
    pub fn deliveries(&mut self) -> &mut Deliveries {
        &mut self.deliveries
    }
}

/// Self-service: what is valid is somebody else's, the rest is answered.
fn asked<'a>(request: u32, what: SelfService<'a>, client: ClientId, out: &mut Vec<u8>) -> FromDevice<'a> {
    let code = match what {
        SelfService::Subscribe(wanted) => {
            match topic::Filter::parse(wanted.filter.as_bytes(), &Limits::default()) {
                // A group has no mailbox, and who publishes to it may be the one whose turn it is.
                Ok(filter) if filter.group().is_none() || !(wanted.kept || wanted.no_local) => {
                    return FromDevice::Subscribe { request, wanted, filter };
                }
                _ => ResultCode::NotAllowed,
            }
        }
        SelfService::Unsubscribe(filter) => match topic::Filter::parse(filter.as_bytes(), &Limits::default())
        {
            Ok(_) => return FromDevice::Unsubscribe { request, filter },
            Err(_) => ResultCode::NotAllowed,
        },
        what => return FromDevice::Own { request, what },
    };
    ServerFrame::Result { request, code }.encode(client, out);
    FromDevice::Answered
}

/// A message for a topic: what can be taken is somebody else's, the rest is answered if an answer is awaited.
fn published<'a>(publish: Publish<'a>, client: ClientId, out: &mut Vec<u8>) -> FromDevice<'a> {
    let is_topic = topic::name(publish.topic.as_bytes(), &Limits::default()).is_ok();
    if is_topic && !publish.topic.starts_with('$') && publish.payload.len() <= PUBLISH_BYTES_MAX {
        return FromDevice::Publish(publish);
    }
    if publish.at_least_once {
        let answer = UpAck { client_message: publish.client_message, outcome: ResultCode::NotAllowed };
        ServerFrame::UpAck(answer).encode(client, out);
    }
    FromDevice::Answered
}
