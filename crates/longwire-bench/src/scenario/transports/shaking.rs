//! Clients of nothing but handshakes: many at once in one loop that sweeps, so that the server's sends do not have to wake anybody.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustls::{ClientConfig, ClientConnection, HandshakeKind};

use super::library::Spent;
use crate::fleet::connect;
use crate::source::{first_of, source_of};
use crate::tls::{Version, client_config, connection};

/// Between two looks at the sockets.
const SWEEP: Duration = Duration::from_micros(500);
/// A connection that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// What nobody speaks: the server answers with a refusal and closes.
const NONSENSE: [u8; 16] = [0xff; 16];

/// What clients do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Handshake {
        version: Version,
        tickets: bool,
    },
    /// A connection that is refused for its first bytes: what a connection costs without TLS.
    Refused,
}

/// What clients of one thread did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Done {
    pub(super) spent: Spent,
    pub(super) failed: u64,
}

/// One connection after the other at each of `places`, until told to stop; those under way then are not counted.
pub(super) fn shake(
    kind: Kind,
    (thread, places): (usize, usize),
    target: SocketAddr,
    stop: &AtomicBool,
) -> io::Result<Done> {
    // Each place keeps its own tickets: a store has room for eight of one server.
    let (configs, version) = match kind {
        Kind::Handshake { version, tickets: true } => {
            ((0..places).map(|_| client_config(version, true)).collect(), version)
        }
        Kind::Handshake { version, tickets: false } => (vec![client_config(version, false)], version),
        Kind::Refused => (Vec::new(), Version::Tls13),
    };
    let mut crowd = Crowd {
        poll: Poll::new()?,
        configs,
        version,
        target,
        places: (0..places).map(|_| None).collect(),
        begun: thread * places,
        done: Done::default(),
    };
    let mut events = Events::with_capacity(places);
    let mut next = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        crowd.begin();
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        next = Instant::now() + SWEEP;
        match crowd.poll.poll(&mut events, Some(Duration::ZERO)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => other?,
        }
        for event in &events {
            crowd.serve(event.token().0);
        }
    }
    Ok(crowd.done)
}

struct Crowd {
    poll: Poll,
    /// One for each place, or one for all; none without TLS.
    configs: Vec<Arc<ClientConfig>>,
    version: Version,
    target: SocketAddr,
    places: Vec<Option<Shaking>>,
    begun: usize,
    done: Done,
}

/// One connection; without TLS it is one that is to be refused.
struct Shaking {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    version: Version,
    /// What the socket has not taken.
    unsent: Vec<u8>,
    since: Instant,
}

/// How far a connection is.
enum Progress {
    GoesOn,
    Done,
    Failed,
}

impl Crowd {
    fn begin(&mut self) {
        for place in 0..self.places.len() {
            if let Some(shaking) = &self.places[place] {
                if shaking.since.elapsed() < PATIENCE {
                    continue;
                }
                self.done.failed += 1;
            }
            self.begun += 1;
            let opened = self.open(place);
            self.done.failed += u64::from(opened.is_err());
            self.places[place] = opened.ok();
        }
    }

    fn open(&self, place: usize) -> io::Result<Shaking> {
        let mut socket = connect(source_of(first_of(2, self.begun % 3), self.begun / 3), self.target)?;
        // Reset at the end, so that a hundred thousand of them leave no socket in TIME_WAIT.
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket, Token(place), both)?;
        let config = self.configs.get(place).or(self.configs.first());
        let tls = config.map(connection).transpose().map_err(io::Error::other)?.map(Box::new);
        let unsent = if tls.is_some() { Vec::new() } else { NONSENSE.to_vec() };
        Ok(Shaking { socket, tls, version: self.version, unsent, since: Instant::now() })
    }

    fn serve(&mut self, place: usize) {
        let Some(shaking) = self.places[place].as_mut() else { return };
        match shaking.go_on().unwrap_or(Progress::Failed) {
            Progress::GoesOn => return,
            Progress::Failed => self.done.failed += 1,
            Progress::Done => {
                let kind = shaking.tls.as_ref().and_then(|tls| tls.handshake_kind());
                self.done.spent.handshakes += 1;
                self.done.spent.resumed += u64::from(kind == Some(HandshakeKind::Resumed));
            }
        }
        self.places[place] = None;
    }
}

impl Shaking {
    /// Reads and writes what can be.
    fn go_on(&mut self) -> io::Result<Progress> {
        if self.socket.peer_addr().is_err() {
            return match self.socket.take_error()? {
                Some(error) => Err(error),
                None => Ok(Progress::GoesOn),
            };
        }
        self.flush()?;
        let mut buffer = [0; 8 * 1024];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Ok(self.at_the_end()),
                Ok(count) => {
                    let mut bytes = &buffer[..count];
                    while let (Some(tls), false) = (&mut self.tls, bytes.is_empty()) {
                        tls.read_tls(&mut bytes)?;
                        tls.process_new_packets().map_err(io::Error::other)?;
                    }
                    self.flush()?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) if self.tls.is_none() => return Ok(Progress::Done),
                Err(error) => return Err(error),
            }
        }
        Ok(if self.is_done() { Progress::Done } else { Progress::GoesOn })
    }

    /// The handshake is over, in 1.3 with the ticket that follows it.
    fn is_done(&self) -> bool {
        let ended = |tls: &ClientConnection| {
            !tls.is_handshaking() && (self.version == Version::Tls12 || tls.tls13_tickets_received() > 0)
        };
        self.tls.as_ref().is_some_and(|tls| ended(tls)) && self.unsent.is_empty()
    }

    fn at_the_end(&self) -> Progress {
        if self.tls.is_none() { Progress::Done } else { Progress::Failed }
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() {
                tls.write_tls(&mut self.unsent)?;
            }
        }
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
