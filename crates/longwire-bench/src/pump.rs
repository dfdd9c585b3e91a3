//! Many HTTP requests at once: one per connection, connections kept.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::clock;
use crate::error::BenchError;
use crate::http::{Api, Reply, ReplyReader};

/// Longest sleep before the deadline is looked at.
const NAP: Duration = Duration::from_millis(200);
/// Without any answer for so long, the server has failed.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// A request with a number of the caller's that comes back with the answer.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) number: u64,
    pub(crate) bytes: Vec<u8>,
}

/// An answer, when it came, and how long it took.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) number: u64,
    pub(crate) reply: Reply,
    pub(crate) took_ns: u64,
}

/// Kept connections to one API.
#[derive(Debug)]
pub(crate) struct Pump {
    poll: Poll,
    lanes: Vec<Lane>,
}

#[derive(Debug)]
struct Lane {
    socket: TcpStream,
    reader: ReplyReader,
    /// The request under way: its number and when it began.
    under_way: Option<(u64, u64)>,
    unsent: Vec<u8>,
}

impl Pump {
    /// Opens `lanes` connections.
    pub(crate) fn open(api: &Api, lanes: usize) -> Result<Pump, BenchError> {
        let poll = Poll::new().map_err(BenchError::system("epoll"))?;
        let mut pump = Pump { poll, lanes: Vec::with_capacity(lanes) };
        for index in 0..lanes {
            let connected = std::net::TcpStream::connect_timeout(&api.address, SILENCE_MAX);
            let opened = connected.and_then(|socket| {
                socket.set_nodelay(true)?;
                socket.set_nonblocking(true)?;
                let mut socket = TcpStream::from_std(socket);
                let interest = Interest::READABLE | Interest::WRITABLE;
                pump.poll.registry().register(&mut socket, Token(index), interest)?;
                Ok(socket)
            });
            let socket =
                opened.map_err(|error| BenchError::Server(format!("no API at {}: {error}", api.address)))?;
            pump.lanes.push(Lane {
                socket,
                reader: ReplyReader::default(),
                under_way: None,
                unsent: Vec::new(),
            });
        }
        Ok(pump)
    }

    /// Sends what `next` gives, one request per connection at a time, until it gives no more and all is answered.
    pub(crate) fn run(
        &mut self,
        mut next: impl FnMut() -> Option<Request>,
        mut done: impl FnMut(Answer) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        let broken = |error: io::Error| BenchError::Server(format!("the API's connection broke: {error}"));
        let mut under_way = 0;
        for lane in &mut self.lanes {
            under_way += usize::from(lane.begin(next()).map_err(broken)?);
        }
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 64 * 1024];
        let mut silent_since = Instant::now();
        while under_way > 0 {
            match self.poll.poll(&mut events, Some(NAP)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(broken)?,
            }
            for event in &events {
                let lane = &mut self.lanes[event.token().0];
                lane.flush().map_err(broken)?;
                lane.read(&mut buffer).map_err(broken)?;
                while let Some(reply) = lane.reader.next()? {
                    let Some((number, begun_ns)) = lane.under_way.take() else {
                        return Err(reply.fault("an answer that nobody asked for"));
                    };
                    silent_since = Instant::now();
                    done(Answer { number, reply, took_ns: clock::now_ns().saturating_sub(begun_ns) })?;
                    under_way -= 1;
                    under_way += usize::from(lane.begin(next()).map_err(broken)?);
                }
            }
            if silent_since.elapsed() > SILENCE_MAX {
                let what = format!("an answer to {under_way} requests");
                return Err(BenchError::Late { what, seconds: SILENCE_MAX.as_secs() });
            }
        }
        Ok(())
    }
}

impl Lane {
    /// Whether there was a request to begin.
    fn begin(&mut self, request: Option<Request>) -> io::Result<bool> {
        let Some(Request { number, bytes }) = request else { return Ok(false) };
        self.under_way = Some((number, clock::now_ns()));
        self.unsent = bytes;
        self.flush()?;
        Ok(true)
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            match self.socket.read(buffer) {
                Ok(0) if self.under_way.is_some() => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(0) => return Ok(()),
                Ok(bytes) => {
                    self.reader.add(&buffer[..bytes]);
                    if bytes < buffer.len() {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A server that answers every request on one connection with its body's length, in two cuts.
    fn serve(listener: std::net::TcpListener, connections: usize) {
        for _ in 0..connections {
            let (mut socket, _) = listener.accept().unwrap();
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(1..) = socket.read(&mut buffer) {
                    socket.write_all(b"HTTP/1.1 202 Accepted\r\nConte").unwrap();
                    socket.write_all(b"nt-Length: 4\r\n\r\ngood").unwrap();
                }
            });
        }
    }

    #[test]
    fn every_request_is_answered_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let api = Api::new(listener.local_addr().unwrap(), "key", "secret");
        std::thread::spawn(move || serve(listener, 4));
        let mut pump = Pump::open(&api, 4).unwrap();
        for _ in 0..2 {
            let (mut left, mut seen) = (100_u64, Vec::new());
            let next = || {
                left = left.checked_sub(1)?;
                Some(Request { number: left, bytes: api.request("POST", "/", "{}") })
            };
            pump.run(next, |answer| {
                assert_eq!((answer.reply.status, &answer.reply.body[..]), (202, &b"good"[..]));
                seen.push(answer.number);
                Ok(())
            })
            .unwrap();
            seen.sort_unstable();
            assert_eq!(seen, (0..100).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_server_that_hangs_up_is_an_error() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let api = Api::new(listener.local_addr().unwrap(), "key", "secret");
        std::thread::spawn(move || drop(listener.accept()));
        let mut once = Some(Request { number: 0, bytes: api.request("GET", "/", "") });
        let ended = Pump::open(&api, 1).and_then(|mut pump| pump.run(|| once.take(), |_| Ok(())));
        assert!(ended.is_err());
    }
}
