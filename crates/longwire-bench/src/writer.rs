//! The bare loops: what the machine can write and echo when nothing else is done.
//!
//! A process of its own, because it holds as many sockets as the server. Threads own equal shares of the connections
//! and walk them in order; there is no queue, no framing, no state per connection.

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use longwire_proto::id::{ClientId, Kind, MessageId, Position, TraceId};
use longwire_proto::wire::{Push, ServerFrame};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::os::fd::AsRawFd;

use crate::borrow;
use crate::clock;
use crate::error::BenchError;
use crate::latency::{STAMP_BYTES, stamp};
use crate::order::{Order, Part, Report};
use crate::source::slice_of;

/// How long a listening socket may make us wait before the deadline is looked at.
const ACCEPT_TURN: Duration = Duration::from_millis(1);
/// Longest sleep of an echo thread before it looks whether all is done.
const ECHO_TURN: Duration = Duration::from_millis(20);

/// Serves orders until standard input closes.
pub(crate) fn run() -> Result<(), BenchError> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(BenchError::system("listen for bare readers"))?;
    // std listens with a short backlog; a second call widens it. The fleet paces itself besides.
    socket2::SockRef::from(&listener).listen(4096).map_err(BenchError::system("widen the backlog"))?;
    listener.set_nonblocking(true).map_err(BenchError::system("listen without blocking"))?;
    let address = listener.local_addr().map_err(BenchError::system("own address"))?;
    say(&Report::Listening { address });
    let mut writer = Writer { listener, sockets: Vec::new() };
    for line in io::stdin().lock().lines() {
        let line = line.map_err(BenchError::system("read orders"))?;
        match serde_json::from_str(&line) {
            Ok(order) => writer.follow(&order),
            Err(error) => say(&Report::Failed { text: format!("unreadable order: {error}") }),
        }
    }
    Ok(())
}

fn say(report: &Report) {
    println!("{}", serde_json::to_string(report).unwrap_or_default());
}

struct Writer {
    listener: TcpListener,
    sockets: Vec<TcpStream>,
}

impl Writer {
    fn follow(&mut self, order: &Order) {
        let report = match order {
            Order::Accept { count, within_ms } => self.accept(*count, Duration::from_millis(*within_ms)),
            Order::Borrow { pid, port } => self.borrow(*pid, *port),
            Order::Write { frame_bytes, rounds, batch, threads, part } => {
                self.write(*frame_bytes, *rounds, *batch, *threads, *part)
            }
            Order::Echo { frames, threads, within_ms } => {
                self.echo(*frames, *threads, Duration::from_millis(*within_ms))
            }
            other => Report::Failed { text: format!("not an order for the writer: {other:?}") },
        };
        say(&report);
    }

    fn accept(&mut self, count: usize, within: Duration) -> Report {
        let deadline = Instant::now() + within;
        let mut why = String::new();
        while self.sockets.len() < count && Instant::now() < deadline {
            match self.listener.accept() {
                Ok((socket, _)) => {
                    let ready = socket.set_nonblocking(true).and_then(|()| socket.set_nodelay(true));
                    match ready {
                        Ok(()) => self.sockets.push(socket),
                        Err(error) => why = error.to_string(),
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(ACCEPT_TURN),
                Err(error) => {
                    why = error.to_string();
                    std::thread::sleep(ACCEPT_TURN);
                }
            }
        }
        Report::Opened { connections: self.sockets.len(), failed: count - self.sockets.len().min(count), why }
    }

    fn borrow(&mut self, pid: u32, port: u16) -> Report {
        match borrow::borrow(pid, port) {
            Ok(sockets) => {
                self.sockets = sockets;
                Report::Opened { connections: self.sockets.len(), failed: 0, why: String::new() }
            }
            Err(error) => Report::Opened { connections: 0, failed: 1, why: error.to_string() },
        }
    }

    fn write(&mut self, frame_bytes: usize, rounds: u32, batch: usize, threads: usize, part: Part) -> Report {
        let is_in = |socket: &&TcpStream| {
            part.slices < 2 || slice_of(borrow::peer_of(socket), part.fleets, part.slices) == part.slice
        };
        let sockets: Vec<&TcpStream> = self.sockets.iter().filter(is_in).collect();
        let share = sockets.len().div_ceil(threads.max(1)).max(1);
        let barrier = Barrier::new(sockets.len().div_ceil(share));
        let full = AtomicU64::new(0);
        let cpu = clock::own_cpu_ns();
        let start_ns = clock::now_ns();
        let frames: Vec<Vec<u8>> = (0..batch).map(|number| frame(frame_bytes, start_ns, number)).collect();
        std::thread::scope(|scope| {
            for sockets in sockets.chunks(share) {
                let (frames, barrier, full) = (&frames, &barrier, &full);
                scope.spawn(move || {
                    barrier.wait();
                    full.fetch_add(write_all(sockets, frames, rounds), Ordering::Relaxed);
                });
            }
        });
        Report::Wrote {
            start_ns,
            end_ns: clock::now_ns(),
            cpu_ns: clock::own_cpu_ns() - cpu,
            messages: sockets.len() as u64 * u64::from(rounds) * batch as u64,
            full: full.into_inner(),
        }
    }

    fn echo(&mut self, frames: u64, threads: usize, within: Duration) -> Report {
        let share = self.sockets.len().div_ceil(threads.max(1)).max(1);
        let done = AtomicU64::new(0);
        let deadline = Instant::now() + within;
        let mut polls = Vec::new();
        for sockets in self.sockets.chunks(share) {
            match watch(sockets) {
                Ok(poll) => polls.push((poll, sockets)),
                Err(error) => return Report::Failed { text: format!("epoll: {error}") },
            }
        }
        let (start_ns, cpu) = (clock::now_ns(), clock::own_cpu_ns());
        say(&Report::Armed);
        std::thread::scope(|scope| {
            for (poll, sockets) in polls {
                let done = &done;
                scope.spawn(move || echo_all(poll, sockets, done, frames, deadline));
            }
        });
        Report::Wrote {
            start_ns,
            end_ns: clock::now_ns(),
            cpu_ns: clock::own_cpu_ns() - cpu,
            messages: done.into_inner(),
            full: 0,
        }
    }
}

/// An online-only PUSH of so many bytes, whose payload ends with a stamp. No two have the same id, so that a device takes each as new.
fn frame(bytes: usize, now_ns: u64, number: usize) -> Vec<u8> {
    let push = |payload: &[u8]| {
        let push = Push {
            source: None,
            position: Position(0),
            previous: Position(0),
            ttl_s: 0,
            flags: 0,
            message: MessageId((u128::from(now_ns) << 64) | number as u128),
            kind: Kind::Text,
            trace: TraceId(0),
            replaces: None,
            collapse_key: "",
            payload,
        };
        let mut frame = Vec::with_capacity(bytes);
        ServerFrame::Push(push).encode(ClientId(0), &mut frame);
        frame
    };
    let room = bytes.saturating_sub(push(&[]).len());
    let mut payload = vec![b'x'; room];
    if room >= STAMP_BYTES {
        payload[room - STAMP_BYTES..].copy_from_slice(stamp(now_ns).as_bytes());
    }
    push(&payload)
}

/// Writes all frames in one call to every socket. Returns how often a socket was full. A write that was cut is finished before the
/// next, or frames would mix.
fn write_all(sockets: &[&TcpStream], frames: &[Vec<u8>], rounds: u32) -> u64 {
    let mut full = 0;
    let slices: Vec<IoSlice<'_>> = frames.iter().map(|frame| IoSlice::new(frame)).collect();
    let whole = frames.concat();
    for _ in 0..rounds {
        for mut socket in sockets.iter().copied() {
            let written =
                if frames.len() == 1 { socket.write(&whole) } else { socket.write_vectored(&slices) };
            let mut sent = match written {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => continue,
            };
            while sent < whole.len() {
                full += 1;
                std::thread::yield_now();
                match socket.write(&whole[sent..]) {
                    Ok(more) => sent += more,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => break,
                }
            }
        }
    }
    full
}

fn watch(sockets: &[TcpStream]) -> io::Result<Poll> {
    let poll = Poll::new()?;
    for (index, socket) in sockets.iter().enumerate() {
        poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), Token(index), Interest::READABLE)?;
    }
    Ok(poll)
}

fn echo_all(mut poll: Poll, sockets: &[TcpStream], done: &AtomicU64, frames: u64, deadline: Instant) {
    let mut events = Events::with_capacity(1024);
    let mut buffer = [0; 4096];
    while done.load(Ordering::Relaxed) < frames && Instant::now() < deadline {
        if poll.poll(&mut events, Some(ECHO_TURN)).is_err() {
            continue;
        }
        let mut echoed = 0;
        for event in &events {
            let mut socket = &sockets[event.token().0];
            if let Ok(bytes @ 1..) = socket.read(&mut buffer) {
                let _ = socket.write(&buffer[..bytes]);
                echoed += (bytes / longwire_proto::limit::HEADER_BYTES) as u64;
            }
        }
        done.fetch_add(echoed, Ordering::Relaxed);
    }
}

/// Where a writer listens; the first thing it says.
pub(crate) fn address(report: &Report) -> Option<SocketAddr> {
    match report {
        Report::Listening { address } => Some(*address),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::read_stamp;

    #[test]
    fn a_bare_frame_has_the_length_that_was_asked_and_a_stamp() {
        let frame = frame(136, 77, 0);
        assert_eq!(frame.len(), 136);
        assert_eq!(frame[5..8], [0, 0, 120]);
        assert_eq!(read_stamp(&frame), Some(77));
    }
}
