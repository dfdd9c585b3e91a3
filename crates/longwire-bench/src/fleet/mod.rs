//! Many connections in one loop: devices that talk to a server, or bare readers of the writer.
//!
//! - `peer`: one connection and what it does with the bytes it gets.
//! - `crew`: all connections of this process, opening them, reading them, the tally.
//! - `conversation`: tests against a server's end of the protocol.
//! - here: orders from standard input, reports to standard output, and the two ways to wait.
//!
//! A fleet either sleeps in epoll or *sweeps*: it sleeps by the clock and then asks epoll without waiting. A reader that
//! sleeps in epoll costs the sender a wake per message and hides the server behind it.

#[cfg(test)]
mod conversation;
mod crew;
mod peer;

use std::io::{BufRead, stdin};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use mio::{Token, Waker};

use crate::error::BenchError;
use crate::order::{Order, Report};
use crew::Crew;

/// Orders that may wait; the process that gives them waits for answers anyway.
const ORDERS_MAX: usize = 16;
/// Longest sleep between two looks at deadlines.
const NAP: Duration = Duration::from_millis(200);
/// Longest sleep while connections are being opened or rounds are under way.
const SHORT_NAP: Duration = Duration::from_millis(2);
/// The token of the waker.
const WAKE: Token = Token(usize::MAX);

/// Serves orders until standard input closes.
pub(crate) fn run() -> Result<(), BenchError> {
    let mut crew = Crew::new().map_err(BenchError::system("epoll"))?;
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
