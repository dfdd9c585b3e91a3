//! The device's end of a conversation: login, heartbeat, lost-server detection, dedup. No socket, no clock.

use super::heartbeat::{Beat, Heartbeat};
use super::memory::Memory;
use super::talk::{State, Talk};
use super::{HeartbeatPlan, Millis};
use crate::close::CloseReason;
use crate::id::{ClientId, MessageId, Source};
use crate::limit::{CONNACK_WAIT_MS, FRAME_BODY_BYTES_CEILING};
use crate::wire::{
    AckKind, Assembler, Class, Command, Connect, DeviceFrame, Gap, Network, Publish, Push, Refusal,
    ResultCode, SelfService, ServerFrame, UpAck, Upstream, VERSION, Welcome, encode_acks, heartbeat,
    padded_ping,
};

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

/// One connection of a device, from CONNECT on. Small and without allocation while idle, so that a process can hold
/// tens of thousands.
#[derive(Debug)]
pub struct ClientSession {
    assembler: Assembler,
    talk: Talk,
}

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
    /// The answer to an upstream message, or to one for a topic.
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
        let connect = Connect {
            version: VERSION,
            network: credentials.network,
            class: credentials.class,
            heartbeat_s: credentials.heartbeat_s,
            resume_mailbox: memory.reached(Source::Mailbox),
            resume_log: memory.reached(Source::AppLog),
            app_key: &credentials.app_key,
            token: credentials.token.as_bytes(),
        };
        DeviceFrame::Connect(connect).encode(credentials.client, out);
        let talk = Talk {
            memory,
            client: credentials.client,
            now,
            heartbeat: Heartbeat::new(
                HeartbeatPlan::fixed(credentials.heartbeat_s),
                now,
                Millis(now.0 + CONNACK_WAIT_MS),
            ),
            state: State::Joining,
        };
        ClientSession { assembler: Assembler::default(), talk }
    }

    /// Beats by this plan instead of the credentials' interval for ever. To be called before WELCOME; later it changes
    /// nothing. CONNECT announced the credentials' interval, so the plan should start there.
    pub fn beat_by(&mut self, plan: HeartbeatPlan) {
        if self.talk.state == State::Joining {
            self.talk.heartbeat.replan(plan);
        }
    }

    /// The plan for the next connection: the last one, and what this connection learned.
    #[must_use]
    pub fn next_plan(&self) -> HeartbeatPlan {
        self.talk.heartbeat.next_plan()
    }

    /// Takes one frame off the front of `input`; `None` when it is used up. Answers go to `out`.
    /// When the conversation is over, what still comes is not looked at.
    ///
    /// # Errors
    /// The server broke the protocol.
    pub fn receive<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
        now: Millis,
        out: &mut Vec<u8>,
    ) -> Result<Option<FromServer<'a>>, CloseReason> {
        if self.talk.state == State::Over {
            *input = &[];
            return Ok(None);
        }
        self.assembler.release();
        let frame = self.assembler.next(input, FRAME_BODY_BYTES_CEILING).map_err(|error| error.reason())?;
        let Some(frame) = frame else { return Ok(None) };
        if frame.header.client != self.talk.client && frame.header.client != ClientId(0) {
            return Err(CloseReason::WrongClientId);
        }
        let frame = ServerFrame::decode(&frame.header, frame.body).map_err(|error| error.reason())?;
        self.talk.take(frame, now, out).map(Some)
    }

    /// Says what became of messages. Nothing is said before WELCOME and after the end.
    pub fn ack(&mut self, kind: AckKind, messages: &[MessageId], out: &mut Vec<u8>) {
        if self.talk.state == State::Live && !messages.is_empty() {
            encode_acks(kind, messages, self.talk.client, out);
            self.talk.business(true, out);
        }
    }

    /// Sends a message to the business or another device; the answer is [`FromServer::UpAck`]. Nothing is sent, and
    /// false comes back, before WELCOME and after the end.
    pub fn send(&mut self, upstream: &Upstream<'_>, out: &mut Vec<u8>) -> bool {
        self.say(&DeviceFrame::Upstream(*upstream), out)
    }

    /// Publishes to a topic; one that is to arrive at least once is answered by [`FromServer::UpAck`]. Nothing is sent, and false
    /// comes back, before WELCOME and after the end.
    pub fn publish(&mut self, publish: &Publish<'_>, out: &mut Vec<u8>) -> bool {
        self.say(&DeviceFrame::Publish(*publish), out)
    }

    /// Asks for a subscription or another self-service; the answer is [`FromServer::Result`] with the same `request`. Nothing
    /// is sent, and false comes back, before WELCOME and after the end.
    pub fn ask(&mut self, request: u32, what: SelfService<'_>, out: &mut Vec<u8>) -> bool {
        self.say(&DeviceFrame::SelfService { request, what }, out)
    }

    /// Sends a frame that is neither CONNECT nor the end nor a heartbeat: something for the business, a topic or the node.
    /// Nothing is sent, and false comes back, before WELCOME and after the end.
    pub fn say(&mut self, frame: &DeviceFrame<'_>, out: &mut Vec<u8>) -> bool {
        if self.talk.state != State::Live {
            return false;
        }
        frame.encode(self.talk.client, out);
        self.talk.business(true, out);
        true
    }

    /// The network may have changed under the connection: a PING is due now, and if nothing comes back within
    /// [`PROBE_WAIT_MS`](crate::limit::PROBE_WAIT_MS) the server is lost.
    pub fn probe(&mut self, now: Millis) {
        if self.talk.state == State::Live {
            self.talk.heartbeat.probe(now);
        }
    }

    /// When [`ClientSession::tick`] must be called at the latest; far away when the conversation is over.
    #[must_use]
    pub fn deadline(&self) -> Millis {
        match self.talk.state {
            State::Joining | State::Live => self.talk.heartbeat.due(),
            State::Over => Millis(u64::MAX),
        }
    }

    /// Sends a PING when it is due; says when the server is lost.
    pub fn tick(&mut self, now: Millis, out: &mut Vec<u8>) -> Tick {
        let talk = &mut self.talk;
        talk.now = now;
        if now < talk.heartbeat.due() || talk.state == State::Over {
            return Tick::Live;
        }
        if talk.state == State::Joining {
            return Tick::Lost;
        }
        let seed = talk.client.0 ^ now.0 ^ (talk.heartbeat.since_ping(now) << 32);
        let Beat::Ping { announce } = talk.heartbeat.beat(now) else { return Tick::Lost };
        talk.announce(announce, out);
        if let Some(padding) = talk.heartbeat.padding() {
            padded_ping(talk.client, &padding, seed, out);
        } else {
            out.extend_from_slice(&heartbeat(Command::Ping, talk.client));
        }
        Tick::Live
    }

    /// Whether WELCOME has come and the conversation goes on.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.talk.state == State::Live
    }

    /// The heartbeat in use, seconds: the planned one, after WELCOME within the server's range.
    #[must_use]
    pub fn heartbeat_s(&self) -> u16 {
        self.talk.heartbeat.interval_s()
    }

    /// An orderly end.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if self.talk.state != State::Over {
            DeviceFrame::Close(CloseReason::PeerClosed).encode(self.talk.client, out);
            self.talk.state = State::Over;
        }
    }

    /// What the next connection needs.
    #[must_use]
    pub fn into_memory(self) -> Memory {
        self.talk.memory
    }
}
