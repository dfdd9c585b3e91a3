//! The task behind a device: connect, talk, wait, again, until the application leaves or the server refuses for good.

use std::collections::VecDeque;
use std::time::Duration;

use longwire_proto::id::MessageId;
use longwire_proto::session::{Credentials, Memory};
use longwire_proto::wire::{AckKind, BackOff};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::back_off::{Next, next};
use crate::connection::talk;
use crate::incoming::{Ended, Incoming, State};
use crate::unacked::Unacked;

/// Time for TCP to connect (004-26).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What the application asks for. That the channel ends means: close.
#[derive(Debug)]
pub(crate) enum Order {
    /// Say what became of a message.
    Say(AckKind, MessageId),
    /// Forget the back-off.
    NetworkChanged,
}

/// The application as the driver sees it; it outlives connections.
#[derive(Debug)]
pub(crate) struct Application {
    pub(crate) incoming: mpsc::Sender<Incoming>,
    pub(crate) orders: mpsc::Receiver<Order>,
    /// What the queue had no room for: at most what one read of the socket gave, as nothing is read before it is empty.
    pub(crate) backlog: VecDeque<Incoming>,
    pub(crate) unacked: Unacked,
}

/// What ended a wait.
enum Told {
    Close,
    NetworkChanged,
}

impl Application {
    pub(crate) fn tell(&mut self, incoming: Incoming) {
        self.backlog.push_back(incoming);
    }

    /// Notes orders while there is no connection, until one of them ends the wait. Cancel-safe: `recv` is, and nothing
    /// else waits.
    async fn told(&mut self) -> Told {
        loop {
            match self.orders.recv().await {
                None => return Told::Close,
                Some(Order::NetworkChanged) => return Told::NetworkChanged,
                Some(Order::Say(kind, message)) => self.note(kind, message),
            }
        }
    }

    /// The application's word while nobody can be told.
    pub(crate) fn note(&mut self, kind: AckKind, message: MessageId) {
        if kind == AckKind::Received {
            self.unacked.settle(message);
        }
        self.unacked.keep(kind, message);
    }

    /// Waits until the application has taken the backlog; false if it left.
    async fn drain(&mut self) -> bool {
        while !self.backlog.is_empty() {
            // Cancel-safe: `recv` and `reserve` both are, and the entry is taken only when its place is there.
            let order = tokio::select! {
                order = self.orders.recv() => order,
                place = self.incoming.reserve() => {
                    let Ok(place) = place else { return false };
                    if let Some(incoming) = self.backlog.pop_front() {
                        place.send(incoming);
                    }
                    continue;
                }
            };
            match order {
                None => return false,
                Some(Order::Say(kind, message)) => self.note(kind, message),
                Some(Order::NetworkChanged) => {}
            }
        }
        true
    }
}

/// The whole life of a device.
pub(crate) struct Driver {
    credentials: Credentials,
    entry_nodes: Vec<String>,
    back_off: BackOff,
    /// Attempts since the last success.
    attempt: u32,
    /// The last connection logged in, or was given up because the network changed.
    moving: bool,
    /// The beginning of this device's clock.
    start: Instant,
    memory: Memory,
    application: Application,
}

impl Driver {
    pub(crate) fn new(
        credentials: Credentials,
        entry_nodes: Vec<String>,
        back_off: BackOff,
        incoming: mpsc::Sender<Incoming>,
        orders: mpsc::Receiver<Order>,
    ) -> Driver {
        let (backlog, unacked) = (VecDeque::new(), Unacked::default());
        Driver {
            credentials,
            entry_nodes,
            back_off,
            attempt: 0,
            moving: false,
            start: Instant::now(),
            memory: Memory::default(),
            application: Application { incoming, orders, backlog, unacked },
        }
    }

    pub(crate) async fn run(mut self) {
        let mut address = self.entry_node();
        loop {
            let connecting = State::Connecting { address: address.clone(), attempt: self.attempt };
            self.application.tell(Incoming::State(connecting));
            if !self.application.drain().await {
                return;
            }
            let Some(ended) = self.connect_and_talk(&address).await else { return };
            tracing::debug!(%address, reason = %ended, "connection ended");
            let delay = match next(&ended, &self.back_off, self.attempt, random()) {
                Next::Reconnect(delay) => delay,
                Next::Stop(reason) => {
                    self.application.tell(Incoming::State(State::Stopped(reason)));
                    self.application.drain().await;
                    return;
                }
            };
            // To be moved from a node that worked is no failure: the next attempt is the first.
            if !(self.moving && matches!(ended, Ended::GoAway { .. })) {
                self.attempt = self.attempt.saturating_add(1);
            }
            address = match &ended {
                Ended::Redirected { to } | Ended::GoAway { to, .. } if !to.is_empty() => to.clone(),
                _ => self.entry_node(),
            };
            self.application.tell(Incoming::State(State::Waiting { delay, ended }));
            let begun = Instant::now();
            if !self.application.drain().await {
                return;
            }
            // Cancel-safe: `told` says so itself, and a sleep loses nothing.
            tokio::select! {
                () = sleep(delay.saturating_sub(begun.elapsed())) => {}
                told = self.application.told() => match told {
                    Told::Close => return,
                    Told::NetworkChanged => self.attempt = 0,
                },
            }
        }
    }

    /// `None`: the application left.
    async fn connect_and_talk(&mut self, address: &str) -> Option<Ended> {
        self.moving = false;
        // Cancel-safe: an unfinished connect is dropped with its socket.
        let stream = tokio::select! {
            connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)) => match connected {
                Err(_) => return Some(Ended::ConnectTimeout),
                Ok(Err(error)) => return Some(Ended::Unreachable(error.kind())),
                Ok(Ok(stream)) => stream,
            },
            told = self.application.told() => match told {
                Told::Close => return None,
                Told::NetworkChanged => {
                    self.attempt = 0;
                    self.moving = true;
                    return Some(Ended::GoAway { wait: Duration::ZERO, to: String::new() });
                }
            },
        };
        // Acks are small and somebody waits for them; a socket that cannot be told so works all the same.
        let _ = stream.set_nodelay(true);
        let memory = std::mem::take(&mut self.memory);
        let report =
            talk(stream, address, &self.credentials, memory, self.start, &mut self.application).await;
        self.memory = report.memory;
        if let Some(back_off) = report.back_off {
            self.back_off = back_off;
            self.moving = true;
            // Two nodes that redirect to each other after login must not make a device spin.
            if !matches!(report.ended, Some(Ended::Redirected { .. })) {
                self.attempt = 0;
            }
        }
        report.ended
    }

    fn entry_node(&self) -> String {
        let count = self.entry_nodes.len() as u64;
        self.entry_nodes[(random() % count) as usize].clone()
    }
}

/// Spreads devices over nodes and time; without the system's random source they are merely not spread.
fn random() -> u64 {
    getrandom::u64().unwrap_or(0)
}
