//! The task behind a device: connect, talk, wait, again, until the application leaves or the server refuses for good.
//!
//! - `application`: what waits for the application, what it said, what it sends.
//! - `connection`: one connection from CONNECT to its end.
//! - `unacked`: what the application was shown and has not acked; `withdrawn`: what it is not shown any more.
//! - `outgoing`: which message goes up next; `subscriptions`: which subscription is asked for next; `changes`: which change of the
//!   device.

pub(crate) mod application;
mod changes;
mod connection;
pub(crate) mod outgoing;
mod subscriptions;
mod unacked;
pub(crate) mod withdrawn;

use std::time::Duration;

use longwire_proto::session::{Credentials, HeartbeatPlan, Memory};
use longwire_proto::wire::BackOff;
use tokio::time::{Instant, sleep, timeout};

use crate::back_off::{Next, next};
use crate::entry::{self, EntryNode};
use crate::fleet::Fleet;
use crate::incoming::{Ended, Incoming, State};
use application::{Application, Told};
use connection::talk;

/// Time to find and connect (004-26).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What a device is, apart from the application.
pub(crate) struct Identity {
    pub(crate) credentials: Credentials,
    pub(crate) entry_nodes: Vec<EntryNode>,
    pub(crate) back_off: BackOff,
    pub(crate) heartbeat: HeartbeatPlan,
    pub(crate) fleet: Option<Fleet>,
}

/// The whole life of a device.
pub(crate) struct Driver {
    identity: Identity,
    back_off: BackOff,
    /// The heartbeat for the next connection: what was asked for, and what the network was found to bear.
    heartbeat: HeartbeatPlan,
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
    pub(crate) fn new(identity: Identity, application: Application) -> Driver {
        let memory =
            application.remembered.as_ref().map_or_else(Memory::default, |remembered| remembered.memory());
        Driver {
            back_off: identity.back_off.clone(),
            heartbeat: identity.heartbeat,
            identity,
            attempt: 0,
            moving: false,
            start: Instant::now(),
            memory,
            application,
        }
    }

    pub(crate) async fn run(mut self) {
        let mut address = self.entry_node();
        loop {
            if !self.await_turn().await {
                return;
            }
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
            if !self.wait(delay).await {
                return;
            }
        }
    }

    /// Waits for a token of the fleet; false if the application left.
    async fn await_turn(&mut self) -> bool {
        while let Some(Err(wait)) = self.identity.fleet.as_ref().map(Fleet::take) {
            if !self.wait(wait).await {
                return false;
            }
        }
        true
    }

    /// Waits, less if the network changes; false if the application left.
    async fn wait(&mut self, delay: Duration) -> bool {
        let begun = Instant::now();
        if !self.application.drain().await {
            return false;
        }
        if !self.application.network_changed {
            // Cancel-safe: `told` says so itself, and a sleep loses nothing.
            tokio::select! {
                () = sleep(delay.saturating_sub(begun.elapsed())) => {}
                told = self.application.told() => match told {
                    Told::Close => return false,
                    Told::NetworkChanged => self.application.network_changed = true,
                },
            }
        }
        self.look_at_network();
        true
    }

    /// On another network the back-off begins anew (004-25), and what was learned of the old one counts no more.
    fn look_at_network(&mut self) {
        if std::mem::take(&mut self.application.network_changed) {
            self.attempt = 0;
            self.heartbeat = self.identity.heartbeat;
        }
    }

    /// `None`: the application left.
    async fn connect_and_talk(&mut self, address: &str) -> Option<Ended> {
        self.moving = false;
        // Cancel-safe: an unfinished connect is dropped with its socket.
        let stream = tokio::select! {
            connected = timeout(CONNECT_TIMEOUT, entry::connect(address, random())) => match connected {
                Err(_) => return Some(Ended::ConnectTimeout),
                Ok(Err(error)) => return Some(Ended::Unreachable(error.kind())),
                Ok(Ok(stream)) => stream,
            },
            told = self.application.told() => match told {
                Told::Close => return None,
                Told::NetworkChanged => {
                    self.application.network_changed = true;
                    self.look_at_network();
                    self.moving = true;
                    return Some(Ended::GoAway { wait: Duration::ZERO, to: String::new() });
                }
            },
        };
        // Acks are small and somebody waits for them; a socket that cannot be told so works all the same.
        let _ = stream.set_nodelay(true);
        let memory = std::mem::take(&mut self.memory);
        let credentials = &self.identity.credentials;
        let report =
            talk(stream, address, credentials, self.heartbeat, memory, self.start, &mut self.application)
                .await;
        self.memory = report.memory;
        self.heartbeat = report.heartbeat;
        if let Some(back_off) = report.back_off {
            self.back_off = back_off;
            self.moving = true;
            // Two nodes that redirect to each other after login must not make a device spin.
            if !matches!(report.ended, Some(Ended::Redirected { .. })) {
                self.attempt = 0;
            }
        }
        self.look_at_network();
        report.ended
    }

    fn entry_node(&self) -> String {
        entry::choose(&self.identity.entry_nodes, random())
            .map_or_else(String::new, |node| node.address.clone())
    }
}

/// Spreads devices over nodes and time; without the system's random source they are merely not spread.
pub(crate) fn random() -> u64 {
    getrandom::u64().unwrap_or(0)
}
