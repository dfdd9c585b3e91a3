//! Many connections in one loop: devices that talk to a server, or bare readers of the writer.
//!
//! - `peer`: one connection and what it does with the bytes it gets.
//! - `layers`: TLS and WebSocket below a conversation.
//! - `mqtt`: connections that speak MQTT, and what those that publish send.
//! - `crew`: all connections of this process, opening them, reading them, the tally.
//! - `slot`, `swarm`: devices of a few bytes each, which come back when the server is lost.
//! - `churner`, `ending`, `kicker`: connections that come and go.
//! - `conversation`: tests against a server's end of the protocol.
//! - here: orders from standard input, reports to standard output, and the two ways to wait.
//!
//! A fleet either sleeps in epoll or *sweeps*: it sleeps by the clock and then asks epoll without waiting. A reader that
//! sleeps in epoll costs the sender a wake per message and hides the server behind it.

mod churner;
#[cfg(test)]
mod conversation;
mod crew;
mod ending;
mod kicker;
mod layers;
mod mqtt;
mod peer;
mod slot;
mod swarm;

use std::io::{self, BufRead, stdin};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Token, Waker};
use socket2::{Domain, Protocol, Socket, Type};

use crate::args::Role;
use crate::error::BenchError;
use crate::order::{Order, Report};
use churner::Churner;
use crew::Crew;
pub(crate) use ending::QUICK;
use swarm::Swarm;

/// Orders that may wait; the process that gives them waits for answers anyway.
const ORDERS_MAX: usize = 16;
/// Longest sleep between two looks at deadlines.
const NAP: Duration = Duration::from_millis(200);
/// Longest sleep while connections are being opened or rounds are under way.
const SHORT_NAP: Duration = Duration::from_millis(2);
/// The token of the waker.
const WAKE: Token = Token(usize::MAX);

/// What a fleet process plays.
trait Play {
    /// A waker on its epoll.
    fn waker(&self, token: Token) -> io::Result<Waker>;
    /// Whether something is under way that a long sleep would delay.
    fn is_hurried(&self) -> bool;
    /// Follows an order; what is to be answered at once is returned.
    fn follow(&mut self, order: Order) -> Vec<Report>;
    /// Does what is ready, after waiting for at most `wait`.
    fn turn(&mut self, wait: Duration) -> io::Result<()>;
    /// What has become true since the last call.
    fn reports(&mut self) -> Vec<Report>;
}

/// Serves orders until standard input closes.
pub(crate) fn run(role: Role) -> Result<(), BenchError> {
    let epoll = || BenchError::system("epoll");
    match role {
        Role::Swarm => play(Swarm::new().map_err(epoll())?),
        Role::Churner => play(Churner::new().map_err(epoll())?),
        _ => play(Crew::new().map_err(epoll())?),
    }
}

fn play(mut crew: impl Play) -> Result<(), BenchError> {
    let waker = Arc::new(crew.waker(WAKE).map_err(BenchError::system("eventfd"))?);
    let orders = listen(waker);
    let mut sweep = Duration::ZERO;
    let mut next_sweep = Instant::now();
    loop {
        loop {
            match orders.try_recv() {
                Ok(Order::Sweep { interval_ms }) => {
                    sweep = Duration::from_millis(interval_ms);
                    say(&Report::Armed);
                }
                Ok(order) => crew.follow(order).iter().for_each(say),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
        }
        let wait = if sweep.is_zero() {
            if crew.is_hurried() { SHORT_NAP } else { NAP }
        } else {
            std::thread::sleep(next_sweep.saturating_duration_since(Instant::now()));
            next_sweep = Instant::now() + sweep;
            Duration::ZERO
        };
        crew.turn(wait).map_err(BenchError::system("epoll"))?;
        crew.reports().iter().for_each(say);
    }
}

fn listen(waker: Arc<Waker>) -> Receiver<Order> {
    let (post, orders) = sync_channel(ORDERS_MAX);
    std::thread::spawn(move || {
        for line in stdin().lock().lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(order) => {
                    if post.send(order).is_err() {
                        break;
                    }
                }
                Err(error) => say(&Report::Failed { text: format!("unreadable order: {error}") }),
            }
            let _ = waker.wake();
        }
        // Dropping the sender ends the loop; the wake makes it look.
        drop(post);
        let _ = waker.wake();
    });
    orders
}

fn say(report: &Report) {
    println!("{}", serde_json::to_string(report).unwrap_or_default());
}

/// Begins a connection. On the loopback it comes from `source`: 28,000 ports for each address.
pub(crate) fn connect(source: Ipv4Addr, target: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    // A source address of its own per process: 28,000 ports each. Only the loopback has so many addresses.
    if target.ip().is_loopback() && target.is_ipv4() {
        socket.bind(&SocketAddr::from((source, 0)).into())?;
    }
    match socket.connect(&target.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}
