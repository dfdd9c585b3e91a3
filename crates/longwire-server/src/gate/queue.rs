//! Between a shard and the hub: commands in, events out. Bounded and lock-free, so that a shard never waits; a sleeping
//! side is woken by one write per batch: to the shard's eventfd, or into the pipe that the hub's task listens to (a
//! pipe, because tokio's own wake may wait for a lock, and its way to an eventfd is not safe code).

use super::judge::Reading;
use super::options::LISTENERS_MAX;
use crate::delivery::border::{Command, Event, Events};
use crossbeam_queue::ArrayQueue;
use mio::{Poll, Waker};
use rustix::pipe::{PipeFlags, pipe_with};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::unix::pipe::Receiver;

/// The waker's token; slots of connections stay below.
pub(super) const WAKE: mio::Token = mio::Token(usize::MAX);

/// What the gate itself tells a shard.
pub(super) enum Control {
    /// At the socket of the listener of this number (`GateOptions::listeners`).
    Listen(u8, mio::net::TcpListener),
    Stop {
        spread: Duration,
        patience: Duration,
    },
}

/// Controls that may wait: a Listen for each listener and one Stop in a life.
const CONTROLS_MAX: usize = LISTENERS_MAX + 1;
/// Readings of the kernel's queues that may wait; the shard asks again for one that found no room.
const READINGS_MAX: usize = 1024;

pub(super) struct ShardQueue {
    commands: ArrayQueue<Command>,
    controls: ArrayQueue<Control>,
    readings: ArrayQueue<Reading>,
    waker: Waker,
    /// A wake is on its way; posts until the shard looks need no other.
    woken: AtomicBool,
    events: Arc<EventQueue>,
}

/// How full the queues of one shard are.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// Commands for it.
    pub commands: usize,
    /// How many may wait.
    pub commands_max: usize,
    /// Its events.
    pub events: usize,
    /// How many may wait.
    pub events_max: usize,
}

struct EventQueue {
    queue: ArrayQueue<Event>,
    bell: OwnedFd,
    listener_sleeps: AtomicBool,
    ended: AtomicBool,
}

impl ShardQueue {
    pub(super) fn new(
        poll: &Poll,
        commands_max: usize,
        events_max: usize,
    ) -> io::Result<(Arc<ShardQueue>, ShardEvents)> {
        let (heard, bell) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        let events = Arc::new(EventQueue {
            queue: ArrayQueue::new(events_max.max(64)),
            bell,
            listener_sleeps: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let queue = ShardQueue {
            commands: ArrayQueue::new(commands_max.max(64)),
            controls: ArrayQueue::new(CONTROLS_MAX),
            readings: ArrayQueue::new(READINGS_MAX),
            waker: Waker::new(poll.registry(), WAKE)?,
            woken: AtomicBool::new(false),
            events: events.clone(),
        };
        Ok((Arc::new(queue), ShardEvents { queue: events, bell: Receiver::from_owned_fd(heard)? }))
    }

    pub(super) fn post(&self, command: Command) -> Result<(), Command> {
        self.commands.push(command)?;
        self.wake();
        Ok(())
    }

    pub(super) fn control(&self, control: Control) {
        if self.controls.push(control).is_err() {
            tracing::error!("a shard's control queue is full");
        }
        self.wake();
    }

    /// Gives what the kernel held for a connection; without room it is forgotten.
    pub(super) fn read(&self, reading: Reading) {
        let _ = self.readings.push(reading);
        self.wake();
    }

    fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "a shard cannot be woken");
        }
    }

    pub(super) fn waiting(&self) -> Waiting {
        let (commands, events) = (&self.commands, &self.events.queue);
        Waiting {
            commands: commands.len(),
            commands_max: commands.capacity(),
            events: events.len(),
            events_max: events.capacity(),
        }
    }

    /// The shard looks now: posts from here on wake it again.
    pub(super) fn look(&self) {
        self.woken.store(false, Ordering::Release);
    }

    pub(super) fn next_control(&self) -> Option<Control> {
        self.controls.pop()
    }

    pub(super) fn next_reading(&self) -> Option<Reading> {
        self.readings.pop()
    }

    pub(super) fn next_command(&self) -> Option<Command> {
        self.commands.pop()
    }

    /// Gives an event; back when there is no room.
    pub(super) fn tell(&self, event: Event) -> Result<(), Event> {
        self.events.queue.push(event)
    }

    /// Wakes the hub if it sleeps; once per batch of events.
    pub(super) fn ring(&self) {
        if self.events.listener_sleeps.load(Ordering::SeqCst)
            && self.events.listener_sleeps.swap(false, Ordering::SeqCst)
        {
            self.events.ring();
        }
    }

    /// The shard has ended: the hub's task may end after the last event.
    pub(super) fn end(&self) {
        self.events.ended.store(true, Ordering::SeqCst);
        self.events.ring();
    }
}

impl EventQueue {
    fn ring(&self) {
        // A full pipe means that the bell rings already.
        let _ = rustix::io::write(&self.bell, &[1]);
    }

    fn pop_into(&self, into: &mut Vec<Event>, max: usize) -> bool {
        let before = into.len();
        while into.len() - before < max {
            match self.queue.pop() {
                Some(event) => into.push(event),
                None => break,
            }
        }
        into.len() > before
    }
}

/// One shard's events, for the hub.
pub struct ShardEvents {
    queue: Arc<EventQueue>,
    bell: Receiver,
}

impl Events for ShardEvents {
    async fn take(&mut self, into: &mut Vec<Event>, max: usize) -> bool {
        loop {
            let ended = self.queue.ended.load(Ordering::SeqCst);
            if self.queue.pop_into(into, max) {
                return true;
            }
            if ended {
                return false;
            }
            self.queue.listener_sleeps.store(true, Ordering::SeqCst);
            // An event told between the look and the flag would not ring.
            if self.queue.pop_into(into, max) {
                self.queue.listener_sleeps.store(false, Ordering::SeqCst);
                return true;
            }
            if let Err(error) = self.bell.readable().await {
                tracing::error!(%error, "a shard's bell is broken");
                return false;
            }
            let mut rings = [0; 64];
            let _ = self.bell.try_read(&mut rings);
        }
    }
}
