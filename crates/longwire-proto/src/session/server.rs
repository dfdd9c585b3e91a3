//! The server's end of a conversation. A state that is over cannot be used: each transition consumes it.

use super::feed::{Feed, FeedStart, Pull};
use super::window::{InFlight, Window};
use crate::close::CloseReason;
use crate::id::{ClientId, MessageId, Position, Source};
use crate::limit::{
    BEFORE_LOGIN_BYTES_MAX, HEARTBEAT_S_RANGE, UPSTREAM_BYTES_MAX, WINDOW_BYTES_MAX, WINDOW_MESSAGES_MAX,
};
use crate::wire::{
    Ack, Assembler, Command, Connect, DeviceFrame, ResultCode, ServerFrame, UpAck, Upstream, VERSION,
    heartbeat,
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
    window: Option<Box<Window>>,
    client: ClientId,
    mailbox: Feed,
    log: Feed,
    heartbeat_s: u16,
}

/// What came from the device and concerns somebody other than the session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FromDevice<'a> {
    /// A heartbeat was answered; its PONG is in the output.
    Heartbeat,
    /// The device announced another heartbeat; the idle limit changes.
    HeartbeatChanged,
    /// Acks; pass each id to [`Established::settle`].
    Acked(Ack<'a>),
    /// A message for the business, within [`UPSTREAM_BYTES_MAX`]; its UPACK is owed by whoever takes it.
    Upstream(Upstream<'a>),
    /// An answered request that nobody else needs to see.
    Answered,
}

/// What to do with a live delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offer {
    /// Send it now; it is in the window already.
    Send {
        /// The delivery before it.
        previous: Position,
    },
    /// It stays in the store and will be pulled.
    Later,
    /// It was sent in this session already.
    Skip,
}

/// A delivery that the device settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settled {
    /// Its source.
    pub source: Source,
    /// Its place.
    pub position: Position,
    /// Its message.
    pub message: MessageId,
    /// It was a GAP, so the message was not delivered.
    pub gap: bool,
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
            window: None,
            client,
            mailbox: Feed::new(mailbox),
            log: Feed::new(log),
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
            DeviceFrame::SelfService { request, .. } => {
                ServerFrame::Result { request, code: ResultCode::Unsupported }.encode(self.client, out);
                FromDevice::Answered
            }
        };
        Ok(Some(from))
    }

    /// Gives back the buffer of a finished frame; call when a read was used up.
    pub fn release(&mut self) {
        self.assembler.release();
    }

    /// A stored message has just been accepted for this device. A mailbox position that is not the very next one means
    /// that its predecessor is still on its way: both will be pulled, in order.
    pub fn offer(&mut self, source: Source, position: Position, message: MessageId, bytes: u32) -> Offer {
        let feed = self.feed(source);
        if position <= feed.last() {
            return Offer::Skip;
        }
        let adjacent = source == Source::AppLog || position == feed.last().next();
        if !feed.is_level() || !adjacent || !self.fits(bytes) {
            self.feed(source).fall_behind();
            return Offer::Later;
        }
        Offer::Send { previous: self.sent(source, position, message, bytes, false) }
    }

    /// The source grew, but the caller will not send now (its outbox is full): the message will be pulled.
    pub fn defer(&mut self, source: Source, position: Position) {
        if position > self.feed(source).last() {
            self.feed(source).fall_behind();
        }
    }

    /// The next request to the store, if a source is behind, no pull is under way for it, and the window has room.
    pub fn pull(&mut self) -> Option<Pull> {
        let source = if self.mailbox.is_behind() {
            Source::Mailbox
        } else if self.log.is_behind() {
            Source::AppLog
        } else {
            return None;
        };
        let (messages_max, bytes_max) =
            self.window.as_ref().map_or_else(|| Window::default().room(), |window| window.room());
        // A read of the store per acked message would cost more than it brings: the window is refilled by halves.
        let half_empty = usize::from(messages_max) * 2 >= WINDOW_MESSAGES_MAX
            && bytes_max as usize * 2 >= WINDOW_BYTES_MAX;
        if !half_empty && self.has_unacked() {
            return None;
        }
        let feed = self.feed(source);
        feed.pull_begins();
        Some(Pull { source, after: feed.last(), messages_max, bytes_max })
    }

    /// One entry of a page from the store: whether it goes out, was sent in this session already, or no longer fits because
    /// live deliveries took the room.
    pub fn page_entry(
        &mut self,
        source: Source,
        position: Position,
        message: MessageId,
        bytes: u32,
        gap: bool,
    ) -> PageEntry {
        if position <= self.feed(source).last() {
            return PageEntry::Repeated;
        }
        if !self.fits(bytes) {
            return PageEntry::Full;
        }
        PageEntry::Send { previous: self.sent(source, position, message, bytes, gap) }
    }

    /// The page is over. `end`: all its entries were sent and the store held nothing more when it was read.
    pub fn page_ends(&mut self, source: Source, end: bool) {
        self.feed(source).page_ends(end);
    }

    /// The device acked a message; `None` if it is not unacked in this session (a repeated or foreign ack).
    pub fn settle(&mut self, message: MessageId) -> Option<Settled> {
        let window = self.window.as_mut()?;
        let entry = window.take(message)?;
        if window.entries().is_empty() {
            self.window = None;
        }
        Some(Settled { source: entry.source, position: entry.position, message, gap: entry.gap })
    }

    /// Whether anything is unacked.
    #[must_use]
    pub fn has_unacked(&self) -> bool {
        self.window.is_some()
    }

    /// What is unacked, oldest first.
    pub fn unacked(&self) -> impl Iterator<Item = Settled> + '_ {
        self.window.iter().flat_map(|window| window.entries()).map(|entry| Settled {
            source: entry.source,
            position: entry.position,
            message: entry.message,
            gap: entry.gap,
        })
    }

    fn fits(&self, bytes: u32) -> bool {
        self.window.as_ref().is_none_or(|window| window.fits(bytes as usize))
    }

    fn sent(
        &mut self,
        source: Source,
        position: Position,
        message: MessageId,
        bytes: u32,
        gap: bool,
    ) -> Position {
        // A gap over several messages has no id to ack, so it takes no place in the window.
        if message != MessageId(0) {
            let entry = InFlight { message, source, position, bytes, gap };
            self.window.get_or_insert_with(Box::default).add(entry);
        }
        self.feed(source).advance(position)
    }

    fn feed(&mut self, source: Source) -> &mut Feed {
        match source {
            Source::Mailbox => &mut self.mailbox,
            Source::AppLog => &mut self.log,
        }
    }
}

/// What to do with an entry of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageEntry {
    /// Send it; it is in the window already.
    Send {
        /// The delivery before it.
        previous: Position,
    },
    /// The window is full: end the page with `end = false`.
    Full,
    /// It was sent in this session already; go on.
    Repeated,
}
