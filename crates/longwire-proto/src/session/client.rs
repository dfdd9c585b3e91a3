//! The device's end of a conversation: login, heartbeat, lost-server detection, dedup. No socket, no clock.

use super::Millis;
use crate::close::CloseReason;
use crate::id::{ClientId, MessageId, Position};
use crate::wire::{AckKind, Class, Gap, Network, Push, Refusal, ResultCode, UpAck, Welcome};

/// What a device logs in with.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Its app's public key.
    pub app_key: String,
    /// Its token.
    pub token: String,
    /// Its number from registration.
    pub client: ClientId,
    /// What carries the bytes.
    pub network: Network,
    /// Its class.
    pub class: Class,
    /// The heartbeat that it plans, seconds.
    pub heartbeat_s: u16,
}

/// What outlives a connection: the dedup window and the positions reached. Empty costs no allocation.
#[derive(Debug, Default)]
pub struct Memory {
    /// Ring of the last [`DEDUP_WINDOW_MESSAGES`](crate::limit::DEDUP_WINDOW_MESSAGES) message ids; grows as used.
    seen: Vec<MessageId>,
    next: usize,
    /// The last position of the mailbox up to which nothing is missing.
    mailbox: Position,
    /// The same for the app's log.
    log: Position,
}

/// One connection of a device, from CONNECT on.
#[derive(Debug)]
pub struct ClientSession {}

/// What the server said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FromServer<'a> {
    /// Logged in.
    Welcome(Welcome),
    /// Login refused; the connection is over.
    Refused(Refusal),
    /// A heartbeat was answered.
    Pong {
        /// Milliseconds since its PING.
        round_trip_ms: u64,
    },
    /// A delivery. The caller acks it (unless online-only) when it is safe with the device, also when repeated.
    Push {
        /// The delivery.
        push: Push<'a>,
        /// It is in the dedup window: ack it, do not show it.
        repeated: bool,
        /// `previous` is not the position reached: something was missed and not announced.
        hole: bool,
    },
    /// Messages that were left out; acked by the session itself.
    Gap(Gap),
    /// Forget this message.
    Recall(MessageId),
    /// Connect to this address instead.
    Redirect(&'a str),
    /// Reconnect after so many milliseconds, to this address if not empty.
    GoAway {
        /// Milliseconds.
        after_ms: u32,
        /// Address or empty.
        to: &'a str,
    },
    /// The server ended the connection.
    Closed(Refusal),
    /// The answer to an upstream message.
    UpAck(UpAck),
    /// The answer to self-service.
    Result {
        /// The device's number of the request.
        request: u32,
        /// What became of it.
        code: ResultCode,
    },
}

/// What [`ClientSession::tick`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tick {
    /// Go on.
    Live,
    /// Three heartbeats without answer, or no answer to CONNECT: reconnect (004-20).
    Lost,
}

impl ClientSession {
    /// Begins a conversation: CONNECT goes to `out`.
    #[must_use]
    pub fn begin(credentials: &Credentials, memory: Memory, now: Millis, out: &mut Vec<u8>) -> ClientSession {
        let _ = (credentials, memory, now, out);
        todo!("client session")
    }
    /// Takes one frame off the front of `input`; `None` when it is used up. Answers go to `out`.
    ///
    /// # Errors
    /// The server broke the protocol.
    pub fn receive<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
        now: Millis,
        out: &mut Vec<u8>,
    ) -> Result<Option<FromServer<'a>>, CloseReason> {
        let _ = (input, now, out);
        todo!("client session")
    }
    /// Says what became of messages.
    pub fn ack(&mut self, kind: AckKind, messages: &[MessageId], out: &mut Vec<u8>) {
        let _ = (kind, messages, out);
        todo!("client session")
    }
    /// When [`ClientSession::tick`] must be called at the latest.
    #[must_use]
    pub fn deadline(&self) -> Millis {
        todo!("client session")
    }
    /// Sends a PING when it is due; says when the server is lost.
    pub fn tick(&mut self, now: Millis, out: &mut Vec<u8>) -> Tick {
        let _ = (now, out);
        todo!("client session")
    }
    /// Whether WELCOME has come.
    #[must_use]
    pub fn is_live(&self) -> bool {
        todo!("client session")
    }
    /// An orderly end.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        let _ = out;
        todo!("client session")
    }
    /// What the next connection needs.
    #[must_use]
    pub fn into_memory(self) -> Memory {
        todo!("client session")
    }
}
