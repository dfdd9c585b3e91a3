//! One connection: its record, its socket, its outbox; the slab that holds all of a shard's, and the wheel that watches
//! their deadlines.

mod mqtt;
mod native;
mod outbox;
mod slab;
mod socket;
mod topical;
mod wheel;

pub(super) use mqtt::{LastWill, MqttDeciding, MqttLive};
pub(super) use native::{AwaitingRights, NativeTopics, Owed};
pub(super) use outbox::{Outbox, OutboxPool, Piece, Standing};
pub(super) use slab::Slab;
pub(super) use socket::{
    ReadOutcome, broken_reason, kernel_judges, listen, read_once, say_and_drop, shard_judges, write_slices,
};
pub(super) use topical::{Identity, Passed, Queued, Subscription, Topical, Unanswered};
pub use wheel::{Link, Links, Wheel};

use crate::delivery::border::Handle;
use crate::domain::AppId;
use crate::gate::admission::Address;
use crate::gate::transport::Layers;
use longwire_proto::id::ClientId;
use longwire_proto::session::{AwaitingConnect, Deciding, Deliveries, Established, InboundRate, Millis};
use longwire_proto::wire::{Class, Network};

/// How long a peer's end waits for the bytes in front of it to be read, seconds; less than 5 with the ticks of the wheel, so that
/// no socket stays in CLOSE_WAIT longer.
const HALF_CLOSED_S: u32 = 3;
/// From accept to the end of the TLS handshake, seconds, within the deadline of the login.
pub(super) const HANDSHAKE_S: u32 = 8;

/// Where a connection is in its life.
#[derive(Debug)]
pub(super) enum Conversation {
    Awaiting(AwaitingConnect),
    Deciding(Deciding),
    Live(Established),
    /// Logged in, and its first frame about topics waits for what the device may do.
    AwaitingRights(Box<AwaitingRights>),
    /// Logged in, and has to do with topics.
    Topics(Box<NativeTopics>),
    /// The first byte was that of an MQTT CONNECT.
    MqttAwaiting(longwire_proto::session::mqtt::Awaiting),
    MqttDeciding(Box<MqttDeciding>),
    Mqtt(Box<MqttLive>),
    /// Only while a transition consumes the state.
    Over,
}

impl Conversation {
    /// The session of a device that is logged in by the native protocol.
    pub(super) fn native(&mut self) -> Option<&mut Established> {
        match self {
            Conversation::Live(session) => Some(session),
            Conversation::AwaitingRights(waiting) => Some(&mut waiting.session),
            Conversation::Topics(live) => Some(&mut live.session),
            _ => None,
        }
    }

    /// The same, to look at.
    pub(super) fn seen_native(&self) -> Option<&Established> {
        match self {
            Conversation::Live(session) => Some(session),
            Conversation::AwaitingRights(waiting) => Some(&waiting.session),
            Conversation::Topics(live) => Some(&live.session),
            _ => None,
        }
    }
}

/// One connection. An idle one owns nothing beyond this record.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: mio::net::TcpStream,
    pub(super) flags: Flags,
    pub(super) app: AppId,
    /// Whom to give the place back to.
    pub(super) address: Address,
    pub(super) conversation: Conversation,
    pub(super) outbox: Option<Box<Outbox>>,
    /// What lies between the socket and the conversation; none of a plain connection.
    pub(super) layers: Option<Box<Layers>>,
    pub(super) link: Link,
    /// How much the device has sent of late.
    pub(super) rate: InboundRate,
    /// Shard seconds of: the accept, the last read, the first byte of an unfinished frame, the last progress of the
    /// window and of the outbox. The last three count only while there is such a thing.
    pub(super) accepted_s: u32,
    pub(super) read_s: u32,
    pub(super) frame_s: u32,
    pub(super) window_s: u32,
    pub(super) drained_s: u32,
}

// What every idle connection costs (ARCHITECTURE, memory of an idle connection).
const _: () = assert!(size_of::<Connection>() <= 152);

/// States of a connection that are not in its types.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Flags {
    /// In the list of connections to flush at the end of the turn.
    pub(super) dirty: bool,
    /// The outbox passed its high mark and has not come below the low one: not read, nothing pulled.
    pub(super) unwritable: bool,
    /// The device sent too much: not read until its rate has caught up.
    pub(super) paused: bool,
    /// The socket may hold bytes that were left unread.
    pub(super) unread: bool,
    /// In the list of connections to read without a new epoll event.
    pub(super) listed: bool,
    /// The device has labels (in the shard's side table).
    pub(super) labelled: bool,
    /// The session's window is not empty, `window_s` counts.
    pub(super) waits_for_ack: bool,
    /// A frame was begun, `frame_s` counts.
    pub(super) in_frame: bool,
    /// Its TLS handshake waits for its turn: not read.
    pub(super) queued: bool,
    /// Its bytes go through `layers`, or it is not known yet whether they do.
    pub(super) layered: bool,
    /// The peer has ended its side, and bytes that are not read now stand in front of that end; `frame_s` counts.
    pub(super) half_closed: bool,
    /// The device has, or had, other connections: the hub is told of each delivery in the window.
    pub(super) shared: bool,
    /// Its app has a frequency cap (the count is in the shard's side table).
    pub(super) capped: bool,
    /// The listener that it came to, by number.
    pub(super) listener: u8,
    /// What the device said of itself at login; MQTT clients do not.
    pub(super) network: Network,
    pub(super) class: Option<Class>,
}

/// The deadlines that a connection is held to, seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    pub(super) login_s: u32,
    pub(super) frame_s: u32,
    pub(super) ack_s: u32,
    pub(super) stall_s: u32,
}

impl Connection {
    pub(super) fn new(socket: mio::net::TcpStream, address: Address, now_s: u32) -> Connection {
        Connection {
            socket,
            flags: Flags::default(),
            app: AppId(0),
            address,
            conversation: Conversation::Awaiting(AwaitingConnect::default()),
            outbox: None,
            layers: None,
            link: Link::default(),
            rate: InboundRate::new(Millis(u64::from(now_s) * 1000)),
            accepted_s: now_s,
            read_s: now_s,
            frame_s: 0,
            window_s: 0,
            drained_s: 0,
        }
    }

    /// The session of a device that is logged in by the native protocol.
    pub(super) fn live(&mut self) -> Option<&mut Established> {
        self.conversation.native()
    }

    /// What it has to do with topics, whatever it speaks.
    pub(super) fn topical(&mut self) -> Option<&mut Topical> {
        match &mut self.conversation {
            Conversation::Mqtt(live) => Some(&mut live.topical),
            Conversation::Topics(live) => Some(&mut live.topical),
            _ => None,
        }
    }

    pub(super) fn native_topics(&mut self) -> Option<&mut NativeTopics> {
        match &mut self.conversation {
            Conversation::Topics(live) => Some(live),
            _ => None,
        }
    }

    /// What is read has to wait for an answer of the hub.
    pub(super) fn awaits_hub(&self) -> bool {
        match &self.conversation {
            Conversation::AwaitingRights(_) => true,
            Conversation::Mqtt(live) => live.session.is_full(),
            _ => self.is_deciding(),
        }
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.layers.as_ref().is_some_and(|layers| layers.is_handshaking())
    }

    pub(super) fn mqtt(&mut self) -> Option<&mut MqttLive> {
        match &mut self.conversation {
            Conversation::Mqtt(live) => Some(live),
            _ => None,
        }
    }

    /// What is on its way to the device, once it is logged in, whatever it speaks.
    pub(super) fn deliveries(&mut self) -> Option<(ClientId, &mut Deliveries)> {
        match &mut self.conversation {
            Conversation::Mqtt(live) => Some((live.session.client(), live.session.deliveries())),
            other => other.native().map(|session| (session.client(), session.deliveries())),
        }
    }

    /// Nothing but a part of CONNECT has come.
    pub(super) fn is_awaiting(&self) -> bool {
        matches!(self.conversation, Conversation::Awaiting(_) | Conversation::MqttAwaiting(_))
    }

    /// The login is being decided.
    pub(super) fn is_deciding(&self) -> bool {
        matches!(self.conversation, Conversation::Deciding(_) | Conversation::MqttDeciding(_))
    }

    /// The heartbeat that was announced or agreed, seconds; `None` before login.
    pub(super) fn heartbeat_s(&self) -> Option<u32> {
        match &self.conversation {
            Conversation::Mqtt(live) => Some(live.heartbeat_s()),
            other => other.seen_native().map(|session| session.heartbeat_s().into()),
        }
    }

    pub(super) fn outbox_bytes(&self) -> usize {
        self.outbox.as_ref().map_or(0, |outbox| outbox.bytes())
    }

    /// The next moment at which this connection may have to end, and why it would.
    pub(super) fn deadline(&self, limits: &Deadlines) -> (u32, longwire_proto::close::CloseReason) {
        use longwire_proto::close::CloseReason;
        let idle_limit_s = match &self.conversation {
            Conversation::Mqtt(live) => Some(live.idle_limit_s()),
            other => other.seen_native().map(Established::idle_limit_s),
        };
        let mut next = match idle_limit_s {
            Some(idle_limit_s) => (self.read_s + idle_limit_s, CloseReason::Idle),
            None if self.is_handshaking() => {
                (self.accepted_s + limits.login_s.min(HANDSHAKE_S), CloseReason::LoginTimeout)
            }
            None => (self.accepted_s + limits.login_s, CloseReason::LoginTimeout),
        };
        let mut consider = |counts: bool, at: u32, reason| {
            if counts && at < next.0 {
                next = (at, reason);
            }
        };
        consider(self.flags.half_closed, self.frame_s + HALF_CLOSED_S, CloseReason::PeerClosed);
        consider(self.flags.in_frame, self.frame_s + limits.frame_s, CloseReason::FrameTimeout);
        consider(self.flags.waits_for_ack, self.window_s + limits.ack_s, CloseReason::AckTimeout);
        consider(self.outbox.is_some(), self.drained_s + limits.stall_s, CloseReason::WriteStall);
        next
    }
}

/// Who is connected: as a load balancer says, else the socket's peer.
pub(super) fn peer_of(
    socket: &mio::net::TcpStream,
    layers: Option<&Layers>,
) -> std::io::Result<std::net::SocketAddr> {
    match layers.and_then(Layers::origin) {
        Some(origin) => Ok(origin),
        None => socket.peer_addr(),
    }
}

/// The handle of a slot.
pub(super) fn handle(shard: crate::delivery::border::ShardId, slot: u32, slab: &Slab) -> Handle {
    Handle::new(shard, slot, slab.generation(slot))
}
