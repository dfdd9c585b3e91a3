//! Peers that begin a TLS handshake and never go on.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::error::BenchError;
use crate::fleet::connect;
use crate::latency::Latencies;
use crate::source::{first_of, source_of};

/// Connections begun in one turn.
const OPENED_PER_TURN: usize = 256;
const NAP: Duration = Duration::from_millis(5);
/// After the time is over: until the server must have ended the last.
const PATIENCE: Duration = Duration::from_secs(30);

/// What became of them.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// Connections that were up and had sent their beginning.
    pub(super) stalled: u64,
    /// Those that the server told something (a refusal) before it ended them.
    pub(super) told: u64,
    /// That could not be opened.
    pub(super) failed: u64,
    /// Still open at the very end.
    pub(super) left: usize,
    /// From the beginning's sending to the server's end of it.
    pub(super) lives: Latencies,
}

/// Stalled handshakes, kept at a number by a thread of its own: one that the server ends is begun again.
#[derive(Debug)]
pub(super) struct Stalls {
    up: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Ended>>,
}

impl Stalls {
    /// `beginning` is what each sends; at most `per_s` are begun in a second, or (0) all that are missing at once.
    pub(super) fn begin(target: SocketAddr, (count, per_s): (usize, u32), beginning: Vec<u8>) -> Stalls {
        let (up, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (told, stopped) = (up.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut crowd = Crowd::new(target, (count, per_s), beginning)?;
            while !stopped.load(Ordering::Relaxed) {
                crowd.open();
                crowd.turn()?;
                told.store(crowd.up, Ordering::Relaxed);
            }
            let deadline = Instant::now() + PATIENCE;
            while crowd.open > 0 && Instant::now() < deadline {
                crowd.turn()?;
                told.store(crowd.up, Ordering::Relaxed);
            }
            crowd.ended.left = crowd.open;
            Ok(crowd.ended)
        });
        Stalls { up, stop, thread }
    }

    /// How many are up.
    pub(super) fn up(&self) -> usize {
        self.up.load(Ordering::Relaxed)
    }

    /// Begins no more; they end as the server ends them.
    pub(super) fn cease(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits until the server has ended all.
    pub(super) fn end(self) -> Result<Ended, BenchError> {
        self.cease();
        let ended = self.thread.join().map_err(|_| BenchError::Options("the stalled peers failed".into()))?;
        ended.map_err(BenchError::system("stalled peers"))
    }
}

/// One of them; `since`: when its beginning went out.
struct Stalled {
    socket: TcpStream,
    since: Option<Instant>,
    told: bool,
}

struct Crowd {
    poll: Poll,
    target: SocketAddr,
    beginning: Vec<u8>,
    per_s: u32,
    begin: Instant,
    places: Vec<Option<Stalled>>,
    free: Vec<usize>,
    opened: usize,
    /// Sockets, and those of them that have sent their beginning.
    open: usize,
    up: usize,
    ended: Ended,
}

impl Crowd {
    fn new(target: SocketAddr, (count, per_s): (usize, u32), beginning: Vec<u8>) -> io::Result<Crowd> {
        Ok(Crowd {
            poll: Poll::new()?,
            target,
            beginning,
            per_s,
            begin: Instant::now(),
            places: (0..count).map(|_| None).collect(),
            free: (0..count).rev().collect(),
            opened: 0,
            open: 0,
            up: 0,
            ended: Ended::default(),
        })
    }

    fn open(&mut self) {
        let due = match self.per_s {
            0 => usize::MAX,
            per_s => (self.begin.elapsed().as_secs_f64() * f64::from(per_s)) as usize,
        };
        for _ in 0..OPENED_PER_TURN.min(due.saturating_sub(self.opened)) {
            let Some(place) = self.free.pop() else { return };
            let source = source_of(first_of(3, self.opened % 3), self.opened / 3);
            self.opened += 1;
            let socket = connect(source, self.target).and_then(|mut socket| {
                let both = Interest::READABLE | Interest::WRITABLE;
                self.poll.registry().register(&mut socket, Token(place), both)?;
                Ok(socket)
            });
            match socket {
                Ok(socket) => {
                    self.places[place] = Some(Stalled { socket, since: None, told: false });
                    self.open += 1;
                }
                Err(_) => {
                    self.ended.failed += 1;
                    self.free.push(place);
                }
            }
        }
    }

    fn turn(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        match self.poll.poll(&mut events, Some(NAP)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => other?,
        }
        for event in &events {
            let place = event.token().0;
            let Some(stalled) = self.places[place].as_mut() else { continue };
            if event.is_writable() && stalled.since.is_none() && stalled.socket.peer_addr().is_ok() {
                // So few bytes never wait for room.
                let _ = stalled.socket.write(&self.beginning);
                stalled.since = Some(Instant::now());
                self.ended.stalled += 1;
                self.up += 1;
            }
            if (event.is_readable() || event.is_error()) && stalled.is_over() {
                self.leave(place);
            }
        }
        Ok(())
    }

    fn leave(&mut self, place: usize) {
        let Some(stalled) = self.places[place].take() else { return };
        self.open -= 1;
        self.free.push(place);
        match stalled.since {
            Some(since) => {
                self.up -= 1;
                self.ended.lives.record_ns(since.elapsed().as_nanos() as u64);
            }
            None => self.ended.failed += 1,
        }
        self.ended.told += u64::from(stalled.told);
    }
}

impl Stalled {
    fn is_over(&mut self) -> bool {
        let mut buffer = [0; 1024];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => self.told = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
    }
}
