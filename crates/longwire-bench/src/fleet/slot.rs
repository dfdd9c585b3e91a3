//! One device of a swarm, in as few bytes as it needs: a swarm stands beside the servers whose memory is measured.

use longwire_proto::id::{ClientId, Position};
use longwire_proto::limit::HEADER_BYTES;
use longwire_proto::wire::{Class, Command, Connect, DeviceFrame, Network, VERSION, heartbeat};
use mio::net::TcpStream;
use std::io::{self, Write};

/// A device and its connection, if it has one.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) client: u64,
    pub(super) socket: Option<TcpStream>,
    /// The beginning of a frame whose rest has not come.
    pub(super) cut: Option<Box<[u8]>>,
    /// When its last step began, or its last heartbeat went out: microseconds of the swarm's life, wrapping after 71
    /// minutes, which is longer than any step may take.
    pub(super) since_us: u32,
    pub(super) step: Step,
    /// Attempts since the last welcome.
    pub(super) attempts: u8,
}

// The socket of a debug build carries a mark of its registration.
#[cfg(not(debug_assertions))]
const _: () = assert!(size_of::<Slot>() <= 48);

/// How far a device is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Not connected.
    Away,
    /// The socket connects.
    Connecting,
    /// CONNECT is sent.
    Joining,
    /// Welcomed.
    Live,
}

impl Slot {
    pub(super) fn new(client: u64) -> Slot {
        Slot { client, socket: None, cut: None, since_us: 0, step: Step::Away, attempts: 0 }
    }

    /// Sends CONNECT. It is short and the first on its connection, so it is never cut.
    pub(super) fn join(&mut self, app_key: &str, token: &str, heartbeat_s: u16) -> io::Result<()> {
        let connect = Connect {
            version: VERSION,
            network: Network::Wired,
            class: Class::Iot,
            heartbeat_s,
            resume_mailbox: Position(0),
            resume_log: Position(0),
            app_key,
            token: token.as_bytes(),
        };
        let mut bytes = Vec::with_capacity(512);
        DeviceFrame::Connect(connect).encode(ClientId(self.client), &mut bytes);
        self.send(&bytes)
    }

    /// Sends a heartbeat.
    pub(super) fn ping(&mut self) -> io::Result<()> {
        self.send(&heartbeat(Command::Ping, ClientId(self.client)))
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(socket) = self.socket.as_mut() else { return Err(io::ErrorKind::NotConnected.into()) };
        if socket.write(bytes)? == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

/// The first whole frame, header included, and what follows it; `None` when it is not whole.
pub(super) fn split_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let header = bytes.first_chunk::<HEADER_BYTES>()?;
    let body = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
    bytes.split_at_checked(HEADER_BYTES + body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_told_apart_and_a_cut_one_is_left() {
        let mut bytes = heartbeat(Command::Pong, ClientId(7)).to_vec();
        bytes.extend_from_slice(&heartbeat(Command::Pong, ClientId(8)));
        let (first, rest) = split_frame(&bytes[..20]).unwrap_or_default();
        assert_eq!((first.len(), rest.len()), (16, 4));
        assert_eq!(split_frame(rest), None);
        assert_eq!(split_frame(&[]), None);
    }
}
