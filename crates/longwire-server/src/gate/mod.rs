//! Sockets. A shard is a thread with its own epoll, listener, connections, timing wheel and buffers; it waits for
//! nothing but epoll, never logs and never touches a store.
//!
//! - `admission`: who may come in, and when a device that may not is to come again.
//! - `options`: what a gate is told.
//! - `queue`: commands in, events out: bounded, lock-free, one wake per batch.
//! - `shard`: the loop: accept, read, commands, fan-out, write, deadlines.
//! - `connection`: one connection's record, its outbox, the slab that holds it and the wheel that watches it.
//! - `topics`: what connections subscribed to.
//! - `judge`: asks the kernel what it still holds for peers that take nothing.
//! - [`transport`]: what lies between a socket's bytes and a session: TLS, WebSocket, PROXY, first bytes.
//! - `pressure`: what is shed when memory or time is short.
//! - `stats`: counters, one writer each.

mod admission;
mod connection;
mod judge;
mod options;
mod pressure;
mod queue;
mod shard;
mod stats;
mod topics;
pub mod transport;

pub use admission::Rejection;
pub use connection::{Link, Links, Wheel};
pub use options::{GateError, GateOptions, LISTENERS_MAX};
pub use pressure::{Level, Pressure};
pub use queue::{ShardEvents, Waiting};
pub use shard::Members;
pub use stats::{
    AppOutboxes, GateStats, HEARTBEAT_BUCKETS_US, STALLED_AFTER_MS, ShardStats, TURN_BUCKETS_US, TopicDrop,
    TopicStats,
};

use crate::delivery::border::{Command, ShardId, Shards};
use crate::domain::WallMs;
use crate::domain::topic::Interests;
use admission::Admission;
use judge::Judge;
use parking_lot::Mutex;
use queue::{Control, ShardQueue};
use shard::{Shard, ShardParts};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Tells the shards the wall time; see [`WallMs`].
pub type Clock = Arc<dyn Fn() -> WallMs + Send + Sync>;

/// The shards of this process. Made closed: nothing listens until [`Gate::open`].
pub struct Gate {
    queues: Arc<Queues>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    judge: Arc<Judge>,
    stats: Arc<GateStats>,
    options: GateOptions,
}

/// A gate that is made but closed: itself, the shards as the hub reaches them, and the events of each.
pub type Prepared = (Gate, Arc<dyn Shards>, Vec<ShardEvents>);

/// The queues of all shards, and who may want which topic.
struct Queues {
    shards: Vec<Arc<ShardQueue>>,
    interests: Arc<Interests>,
}

impl Shards for Queues {
    fn count(&self) -> usize {
        self.shards.len()
    }

    fn interests(&self) -> &Arc<Interests> {
        &self.interests
    }

    fn post(&self, shard: ShardId, command: Command) -> Result<(), Command> {
        match self.shards.get(usize::from(shard.0)) {
            Some(queue) => queue.post(command),
            None => Ok(()),
        }
    }
}

impl Gate {
    /// The read buffer that the connections of one shard use in turn, bytes.
    pub const SCRATCH_BYTES: usize = shard::READ_BUFFER_BYTES;

    /// Makes the shards and their queues and starts their threads; nothing listens yet. Call inside a tokio runtime.
    ///
    /// # Errors
    /// No descriptor or thread to be had.
    pub fn prepare(options: GateOptions, clock: Clock) -> Result<Prepared, GateError> {
        let count = options.shards.clamp(1, 64);
        let stats = Arc::new(GateStats::new(count));
        let interests = Arc::new(Interests::new(count));
        let admission = Arc::new(Admission::new(&options));
        let judge = Arc::new(Judge::new());
        let (mut shards, mut polls, mut events, mut threads) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for _ in 0..count {
            let poll = mio::Poll::new().map_err(GateError::Shard)?;
            let (queue, shard_events) = ShardQueue::new(&poll, options.command_queue, options.event_queue)
                .map_err(GateError::Shard)?;
            shards.push(queue);
            polls.push(poll);
            events.push(shard_events);
        }
        let queues = Arc::new(Queues { shards, interests });
        for (index, poll) in polls.into_iter().enumerate() {
            let parts = ShardParts {
                id: ShardId(index as u8),
                queues: queues.clone(),
                stats: stats.clone(),
                clock: clock.clone(),
                admission: admission.clone(),
                options: options.clone(),
                judge: judge.clone(),
            };
            let thread = std::thread::Builder::new()
                .name(format!("shard-{index}"))
                .spawn(move || Shard::new(parts, poll).run())
                .map_err(GateError::Shard)?;
            threads.push(thread);
        }
        threads.push(judge.start(queues.shards.clone()).map_err(GateError::Shard)?);
        let gate = Gate { queues: queues.clone(), threads: Mutex::new(threads), judge, stats, options };
        Ok((gate, queues, events))
    }

    /// Listens on `address` (port 0: the kernel chooses) on every shard, on the terms of [`GateOptions::listeners`] of that number; returns
    /// the address that devices can use. Each listener is opened once.
    ///
    /// # Errors
    /// The address is taken or not ours.
    ///
    /// # Panics
    /// There is no listener of that number.
    pub fn open(&self, listener: usize, address: SocketAddr) -> Result<SocketAddr, GateError> {
        assert!(
            listener < self.options.listeners.len().min(LISTENERS_MAX),
            "no terms for listener {listener}"
        );
        let failed = |cause| GateError::Bind { address, cause };
        // Without this probe SO_REUSEPORT would let a second server share the port with the first.
        let probe = std::net::TcpListener::bind(address).map_err(failed)?;
        let address = probe.local_addr().map_err(failed)?;
        drop(probe);
        let listeners: Result<Vec<_>, _> =
            self.queues.shards.iter().map(|_| connection::listen(address, &self.options)).collect();
        for (queue, socket) in self.queues.shards.iter().zip(listeners.map_err(failed)?) {
            queue.control(Control::Listen(listener as u8, socket));
        }
        Ok(address)
    }

    /// The counters of all shards.
    #[must_use]
    pub fn stats(&self) -> Arc<GateStats> {
        self.stats.clone()
    }

    /// What waits between each shard and the hub.
    #[must_use]
    pub fn waiting(&self) -> Vec<Waiting> {
        self.queues.shards.iter().map(|queue| queue.waiting()).collect()
    }

    /// Stops accepting; tells every device to go (GOAWAY), one after the other over `spread` at most; closes each with
    /// `draining` when nothing is on its way to it any more, or 2 s after it was told; ends the shards, at the latest after
    /// `patience`.
    pub async fn stop(&self, spread: Duration, patience: Duration) {
        self.judge.end();
        for queue in &self.queues.shards {
            queue.control(Control::Stop { spread, patience });
        }
        let threads = std::mem::take(&mut *self.threads.lock());
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a shard ended by a panic");
                }
            }
        });
        let _ = joined.await;
    }
}
