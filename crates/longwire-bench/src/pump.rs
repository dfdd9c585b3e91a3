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
/// How often one request is sent again on a new connection after its own broke.
const RESENDS_MAX: u8 = 3;
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
    api: Api,
    lanes: Vec<Lane>,
    /// Requests that were sent again after their connection had broken. The server may have seen them twice.
    pub(crate) resent: u64,
}

#[derive(Debug)]
struct Lane {
    socket: TcpStream,
    reader: ReplyReader,
    under_way: Option<UnderWay>,
    unsent: Vec<u8>,
    /// The server has closed it while nothing was under way, as it does with idle connections.
    ended: bool,
}

#[derive(Debug)]
struct UnderWay {
    number: u64,
    begun_ns: u64,
    /// Kept, to send it again.
    bytes: Vec<u8>,
    resends: u8,
}

impl Pump {
    /// Opens `lanes` connections.
    pub(crate) fn open(api: &Api, lanes: usize) -> Result<Pump, BenchError> {
        let poll = Poll::new().map_err(BenchError::system("epoll"))?;
        let mut pump = Pump { poll, api: api.clone(), lanes: Vec::with_capacity(lanes), resent: 0 };
        for index in 0..lanes {
            let socket = pump.connect(index)?;
            let (reader, unsent) = (ReplyReader::default(), Vec::new());
            pump.lanes.push(Lane { socket, reader, under_way: None, unsent, ended: false });
        }
        Ok(pump)
    }

    fn connect(&self, index: usize) -> Result<TcpStream, BenchError> {
        let connected = std::net::TcpStream::connect_timeout(&self.api.address, SILENCE_MAX);
        let opened = connected.and_then(|socket| {
            socket.set_nodelay(true)?;
            socket.set_nonblocking(true)?;
            let mut socket = TcpStream::from_std(socket);
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut socket, Token(index), interest)?;
            Ok(socket)
        });
        opened.map_err(|error| BenchError::Server(format!("no API at {}: {error}", self.api.address)))
    }

    /// A new connection for a lane whose old one is gone; what was under way is sent again.
    fn reopen(&mut self, index: usize, why: &io::Error) -> Result<(), BenchError> {
        let socket = self.connect(index)?;
        let lane = &mut self.lanes[index];
        (lane.socket, lane.reader, lane.ended) = (socket, ReplyReader::default(), false);
        if let Some(request) = lane.under_way.as_mut() {
            if request.resends == RESENDS_MAX {
                let text = format!("the API's connection broke {RESENDS_MAX} times over one request: {why}");
                return Err(BenchError::Server(text));
            }
            request.resends += 1;
            self.resent += 1;
            lane.unsent.clone_from(&request.bytes);
        }
        Ok(())
    }

    /// Begins a request on a lane; whether there was one.
    fn begin(&mut self, index: usize, request: Option<Request>) -> Result<bool, BenchError> {
        let Some(request) = request else { return Ok(false) };
        if self.lanes[index].ended {
            self.reopen(index, &io::ErrorKind::UnexpectedEof.into())?;
        }
        self.lanes[index].give(request);
        self.go_on(index, &mut [])?;
        Ok(true)
    }

    /// Writes what a lane has to send and reads into `buffer` what came; opens it again if it broke.
    fn go_on(&mut self, index: usize, buffer: &mut [u8]) -> Result<(), BenchError> {
        let lane = &mut self.lanes[index];
        let done = lane.flush().and_then(|()| if buffer.is_empty() { Ok(()) } else { lane.read(buffer) });
        done.or_else(|error| self.reopen(index, &error))
    }

    /// Sends what `next` gives, one request per connection at a time, until it gives no more and all is answered.
    pub(crate) fn run(
        &mut self,
        mut next: impl FnMut() -> Option<Request>,
        mut done: impl FnMut(Answer) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        let mut under_way = 0;
        for index in 0..self.lanes.len() {
            under_way += usize::from(self.begin(index, next())?);
        }
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 64 * 1024];
        let mut silent_since = Instant::now();
        while under_way > 0 {
            match self.poll.poll(&mut events, Some(NAP)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(BenchError::system("epoll"))?,
            }
            for event in &events {
                let index = event.token().0;
                self.go_on(index, &mut buffer)?;
                while let Some(reply) = self.lanes[index].reader.next()? {
                    let Some(UnderWay { number, begun_ns, .. }) = self.lanes[index].under_way.take() else {
                        return Err(reply.fault("an answer that nobody asked for"));
                    };
                    silent_since = Instant::now();
                    done(Answer { number, reply, took_ns: clock::now_ns().saturating_sub(begun_ns) })?;
                    under_way -= 1;
                    under_way += usize::from(self.begin(index, next())?);
                }
                // It ended in the middle of an answer.
                if self.lanes[index].ended && self.lanes[index].under_way.is_some() {
                    self.reopen(index, &io::ErrorKind::UnexpectedEof.into())?;
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
    fn give(&mut self, Request { number, bytes }: Request) {
        self.unsent.clone_from(&bytes);
        self.under_way = Some(UnderWay { number, begun_ns: clock::now_ns(), bytes, resends: 0 });
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
                Ok(0) if self.under_way.is_some() && self.reader.is_empty() => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(0) => {
                    self.ended = true;
                    return Ok(());
                }
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

    /// A server that answers one request on each connection and closes it.
    #[test]
    fn a_connection_that_was_closed_is_opened_again_and_the_request_sent_again() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let api = Api::new(listener.local_addr().unwrap(), "key", "secret");
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (mut socket, mut buffer) = (socket.unwrap(), [0; 4096]);
                if let Ok(1..) = socket.read(&mut buffer) {
                    socket.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").unwrap();
                }
            }
        });
        let mut pump = Pump::open(&api, 1).unwrap();
        let (mut left, mut seen) = (5_u64, 0);
        let next = || {
            left = left.checked_sub(1)?;
            Some(Request { number: left, bytes: api.request("POST", "/", "{}") })
        };
        pump.run(next, |answer| {
            assert_eq!(answer.reply.status, 202);
            seen += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, 5);
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
