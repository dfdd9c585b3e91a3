//! One connection of a fleet.

use std::io::{self, Read, Write};

use longwire_proto::id::{ClientId, MessageId};
use longwire_proto::limit::{ACK_IDS_MAX, HEADER_BYTES};
use longwire_proto::session::{ClientSession, FromServer, Millis, Tick};
use longwire_proto::wire::{AckKind, Command, heartbeat};
use mio::net::TcpStream;

use super::crew::Count;
use super::layers::Layers;
use super::mqtt::MqttTalk;
use crate::clock;
use crate::latency::read_stamp;

/// Bytes that wait for a socket at most; a peer that does not take its acks is lost.
const UNSENT_BYTES_MAX: usize = 256 * 1024;

/// Receive buffer of a peer that does not read.
const RECEIVE_BYTES_DEAF: usize = 4096;

/// A publisher whose socket has so many bytes waiting publishes no more.
const UNPUBLISHED_BYTES_MAX: usize = 64 * 1024;

/// A connection: of a device, or a bare one that only counts frames.
#[derive(Debug)]
pub(super) struct Peer {
    socket: TcpStream,
    talk: Talk,
    /// What lies between them; none of a bare socket.
    layers: Option<Box<Layers>>,
    /// The beginning of a frame whose rest has not come (bare readers; a session keeps its own).
    cut: Vec<u8>,
    unsent: Vec<u8>,
    client: ClientId,
    /// Heartbeats still to be sent, each after an answer.
    rounds: u32,
    /// When the last of them went out; 0 when none waits for its answer.
    pinged_ns: u64,
    pub(super) standing: Standing,
}

/// What is spoken on a connection.
#[derive(Debug)]
pub(super) enum Talk {
    /// Nothing: a reader that counts frames.
    Bare,
    /// The native protocol.
    Native(Box<ClientSession>),
    /// MQTT.
    Mqtt(Box<MqttTalk>),
}

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Not yet connected, or not yet welcomed.
    Opening,
    Live,
}

/// A connection is over, and why.
#[derive(Debug)]
pub(super) struct Over(pub(super) String);

impl From<io::Error> for Over {
    fn from(error: io::Error) -> Over {
        Over(error.to_string())
    }
}

impl Peer {
    /// `first` goes out as soon as the socket is connected and the layers below the conversation stand.
    pub(super) fn new(
        socket: TcpStream,
        client: ClientId,
        (talk, layers): (Talk, Option<Box<Layers>>),
        first: Vec<u8>,
    ) -> Peer {
        Peer {
            socket,
            talk,
            layers,
            cut: Vec::new(),
            unsent: first,
            client,
            rounds: 0,
            pinged_ns: 0,
            standing: Standing::Opening,
        }
    }

    /// The socket takes bytes: it is connected, and what waited goes out.
    pub(super) fn writable(&mut self) -> Result<(), Over> {
        if self.standing == Standing::Opening {
            if let Some(error) = self.socket.take_error()? {
                return Err(error.into());
            }
            if matches!(self.talk, Talk::Bare) && self.socket.peer_addr().is_ok() {
                self.standing = Standing::Live;
            }
        }
        if (self.layers.is_some() || !self.unsent.is_empty()) && self.socket.peer_addr().is_ok() {
            self.flush()?;
        }
        Ok(())
    }

    /// Reads until the socket is drained; to the end if the connection is `ending`, because there will be no other event.
    pub(super) fn readable(
        &mut self,
        (buffer, ending): (&mut [u8], bool),
        now: Millis,
        ack: bool,
        count: &mut Count,
    ) -> Result<(), Over> {
        let mut plain = Vec::new();
        loop {
            let bytes = match self.socket.read(buffer) {
                Ok(0) => return Err(Over("closed by the server".into())),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Not connected yet: an edge of the socket's making.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => break,
                Err(error) => return Err(error.into()),
            };
            let input = match &mut self.layers {
                None => &buffer[..bytes],
                Some(layers) => {
                    layers.receive(&buffer[..bytes], &mut plain)?;
                    &plain[..]
                }
            };
            match &mut self.talk {
                Talk::Bare => self.count(input, count),
                Talk::Native(_) => self.converse(input, now, ack, count)?,
                Talk::Mqtt(talk) => {
                    if talk.receive(input, now, &mut self.unsent, count)? {
                        self.standing = Standing::Live;
                    }
                }
            }
            if self.layers.is_some() || !self.unsent.is_empty() {
                self.flush()?;
            }
            if bytes < buffer.len() && !ending {
                break;
            }
        }
        Ok(())
    }

    fn converse(&mut self, mut input: &[u8], now: Millis, ack: bool, count: &mut Count) -> Result<(), Over> {
        let Talk::Native(session) = &mut self.talk else { return Ok(()) };
        let mut acks: Vec<MessageId> = Vec::new();
        let read_ns = clock::now_ns();
        let mut ponged = false;
        loop {
            // A slice of its own per frame: what `receive` returns borrows the session as long as its input.
            let mut rest = input;
            let Some(from) = session
                .receive(&mut rest, now, &mut self.unsent)
                .map_err(|reason| Over(format!("the server broke the protocol: {reason:?}")))?
            else {
                break;
            };
            let taken = input.len() - rest.len();
            match from {
                FromServer::Welcome(_) => self.standing = Standing::Live,
                FromServer::Refused(refusal) | FromServer::Closed(refusal) => {
                    return Err(Over(format!("refused or closed: {:?}", refusal.reason)));
                }
                FromServer::Push { push, repeated, hole } => {
                    count.message(taken as u64, read_stamp(push.payload), read_ns);
                    count.stored += u64::from(push.source.is_some());
                    count.repeated += u64::from(repeated);
                    count.holes += u64::from(hole);
                    if ack && push.source.is_some() {
                        acks.push(push.message);
                    }
                }
                FromServer::Pong { .. } if self.pinged_ns > 0 => {
                    count.message(taken as u64, Some(self.pinged_ns), read_ns);
                    ponged = true;
                }
                _ => {}
            }
            input = &input[taken..];
        }
        for ids in acks.chunks(ACK_IDS_MAX) {
            session.ack(AckKind::Received, ids, &mut self.unsent);
        }
        if ponged {
            self.answered();
        }
        if self.unsent.is_empty() { Ok(()) } else { self.flush() }
    }

    /// Counts whole frames, whatever they are, and answers with the next heartbeat of the round.
    fn count(&mut self, input: &[u8], count: &mut Count) {
        let read_ns = clock::now_ns();
        let mut frames = 0;
        let rest = if self.cut.is_empty() {
            walk(input, read_ns, count, &mut frames)
        } else {
            self.cut.extend_from_slice(input);
            let whole = std::mem::take(&mut self.cut);
            let rest = walk(&whole, read_ns, count, &mut frames);
            self.cut = whole[whole.len() - rest..].to_vec();
            0
        };
        if rest > 0 {
            self.cut = input[input.len() - rest..].to_vec();
        }
        if frames > 0 && self.pinged_ns > 0 {
            count.answered(self.pinged_ns, read_ns);
            self.answered();
        }
    }

    /// Sends so many heartbeats, each after the answer to the one before.
    pub(super) fn ping_round(&mut self, rounds: u32) {
        self.rounds = rounds;
        self.answered();
    }

    /// Sends the next heartbeat of the round. It is 16 bytes on a connection that has nothing else under way, so it is
    /// never cut.
    fn answered(&mut self) {
        self.pinged_ns = 0;
        if self.rounds > 0 {
            self.rounds -= 1;
            self.pinged_ns = clock::now_ns();
            let beat = heartbeat(Command::Ping, self.client);
            if self.layers.is_some() {
                self.unsent.extend_from_slice(&beat);
                // A connection that is over says so at its next event.
                let _ = self.flush();
            } else {
                let _ = self.socket.write(&beat);
            }
        }
    }

    /// Makes the kernel take little for a peer that does not read, so that the sender's side fills soon. A kernel that
    /// refuses takes more: the test is slower then, not wrong.
    pub(super) fn narrow(&self) {
        let _ = socket2::SockRef::from(&self.socket).set_recv_buffer_size(RECEIVE_BYTES_DEAF);
    }

    /// The session's clock: heartbeats when due.
    pub(super) fn tick(&mut self, now: Millis) -> Result<(), Over> {
        match &mut self.talk {
            Talk::Bare => return Ok(()),
            Talk::Native(session) if session.deadline() > now => return Ok(()),
            Talk::Native(session) => {
                if session.tick(now, &mut self.unsent) == Tick::Lost {
                    return Err(Over("the server does not answer".into()));
                }
            }
            Talk::Mqtt(talk) => talk.tick(now, &mut self.unsent)?,
        }
        if self.unsent.is_empty() { Ok(()) } else { self.flush() }
    }

    /// Whether it is an MQTT client that publishes.
    pub(super) fn is_publisher(&self) -> bool {
        matches!(&self.talk, Talk::Mqtt(talk) if talk.is_publisher())
    }

    /// Publishes, to leave with the next [`Peer::flush`]; false when neither window nor socket has room.
    pub(super) fn publish(
        &mut self,
        message: (&str, &[u8], longwire_proto::wire::mqtt::QoS),
        now: Millis,
    ) -> Result<bool, Over> {
        match &mut self.talk {
            Talk::Mqtt(talk) if self.unsent.len() < UNPUBLISHED_BYTES_MAX => {
                talk.publish(message, now, &mut self.unsent)
            }
            _ => Ok(false),
        }
    }

    pub(super) fn flush(&mut self) -> Result<(), Over> {
        let waiting = match &mut self.layers {
            None => &mut self.unsent,
            Some(layers) => {
                layers.seal(&mut self.unsent)?;
                &mut layers.wire
            }
        };
        while !waiting.is_empty() {
            match self.socket.write(waiting) {
                Ok(sent) => drop(waiting.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => break,
                Err(error) => return Err(error.into()),
            }
        }
        if waiting.is_empty() {
            // An idle device holds no buffer, so that big fleets fit beside the server they measure.
            *waiting = Vec::new();
        }
        if waiting.len() > UNSENT_BYTES_MAX { Err(Over("the server does not read".into())) } else { Ok(()) }
    }
}

/// Counts the whole frames at the front of `input`; returns how many bytes of a cut frame are left.
fn walk(input: &[u8], read_ns: u64, count: &mut Count, frames: &mut u64) -> usize {
    let mut rest = input;
    while let Some(header) = rest.first_chunk::<HEADER_BYTES>() {
        let body = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
        let Some(frame) = rest.get(..HEADER_BYTES + body) else { break };
        count.message(frame.len() as u64, read_stamp(&frame[HEADER_BYTES..]), read_ns);
        *frames += 1;
        rest = &rest[frame.len()..];
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_frames_are_counted_and_a_cut_one_is_left() {
        let mut bytes = Vec::new();
        for _ in 0..3 {
            bytes.extend_from_slice(&heartbeat(Command::Pong, ClientId(7)));
        }
        let (mut count, mut frames) = (Count::default(), 0);
        assert_eq!(walk(&bytes[..40], 0, &mut count, &mut frames), 8);
        assert_eq!((count.messages, count.bytes, frames), (2, 32, 2));
        assert_eq!(walk(&[], 0, &mut count, &mut frames), 0);
    }
}
