//! The loop of one shard: wait, accept and read, take commands, carry broadcasts on, write, look at deadlines.
//!
//! - `accept`: new connections; never ends on an error.
//! - `turned_away`: those that are refused at the door.
//! - `inbound`: bytes from devices.
//! - `native`: conversations of devices that speak the native protocol.
//! - `layered`: the same through TLS and WebSocket, and what a new connection speaks.
//! - `commands`: what the hub says.
//! - `phase`: when in its interval a device beats.
//! - `mqtt`: conversations of MQTT clients, and messages to topics.
//! - `recalled`: which messages are sent no more.
//! - `own`: what devices change of themselves.
//! - `members`: which connections belong to which app and tag.
//! - `fanout`: broadcasts, in slices.
//! - `outbound`: bytes to devices.
//! - `ending`: deadlines, closing, drain.
//! - `scan`: looks at many connections: the zombie ratio, who holds outbound bytes.
//!
//! Budgets per turn bound how long a device waits for its turn; the lengths of turns are a metric.

mod accept;
mod commands;
mod ending;
mod fanout;
mod frequency;
mod inbound;
mod layered;
mod members;
mod mqtt;
mod native;
mod outbound;
mod own;
mod phase;
mod recalled;
mod scan;
mod turned_away;

use super::admission::{Admission, STRAINED_TURN_US};
use super::connection::{Deadlines, OutboxPool, Slab, Wheel};
use super::judge::Judge;
use super::queue::{Control, ShardQueue, WAKE};
use super::stats::{GateStats, ShardStats, TURN_BUCKETS_US};
use super::topics::Topics;
use super::transport::LayerBuffers;
use super::{Clock, GateOptions, Queues};
use crate::delivery::border::{Event, Handle, ShardId};
use crate::domain::topic::FilterId;
use longwire_proto::close::CloseReason;
use longwire_proto::id::{MessageId, Source};
use longwire_proto::session::Millis;
use longwire_proto::wire::mqtt::PropertiesBuf;
pub use members::Members;
use mio::{Events, Poll};
use roaring::RoaringBitmap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Epoll events taken in one turn.
const EVENTS_PER_TURN: usize = 512;
/// The shared read buffer, bytes.
pub(super) const READ_BUFFER_BYTES: usize = 64 * 1024;
/// A gap between two turns above this means that the process itself stood still (SIGSTOP, a paused machine): it is not
/// counted as the devices' silence.
const STALL_MS: u64 = 2500;

/// What a shard is made of.
pub(super) struct ShardParts {
    pub(super) id: ShardId,
    pub(super) queues: Arc<Queues>,
    pub(super) stats: Arc<GateStats>,
    pub(super) clock: Clock,
    pub(super) admission: Arc<Admission>,
    pub(super) options: GateOptions,
    pub(super) judge: Arc<Judge>,
}

pub(super) struct Shard {
    id: ShardId,
    poll: Poll,
    queue: Arc<ShardQueue>,
    outlet: Outlet,
    stats: Stats,
    wall: Clock,
    time: ShardTime,
    options: GateOptions,
    limits: Deadlines,
    door: accept::Door,
    turned_away: turned_away::TurnedAway,
    slab: Slab,
    wheel: Wheel,
    members: Members,
    fanout: fanout::Fanout,
    recalled: recalled::Recalled,
    /// Deliveries of late, of connections whose app has a cap, by slot.
    frequencies: std::collections::HashMap<u32, crate::delivery::border::Frequency>,
    pool: OutboxPool,
    scratch: Scratch,
    /// Slots to read again without a new epoll event.
    unread: VecDeque<u32>,
    /// Slots whose outbox is flushed at the end of the turn.
    dirty: Vec<u32>,
    /// Sessions whose page failed in the store, to ask again at the next tick; each stands here once per failed page.
    failed_pages: Vec<(Handle, Source)>,
    /// Connections whose deadline has come and for which a turn had no room; each stands in the wheel too, and here once, so that they
    /// are no more than there are connections.
    overdue: VecDeque<Handle>,
    commands_waiting: bool,
    stopping: Option<ending::Stopping>,
    /// When this turn began.
    turn_began: Instant,
    /// How long the last turn was.
    last_turn: Duration,
    scan: scan::Scan,
    phases: phase::Phases,
    /// Asked what the kernel holds for a peer.
    judge: Arc<Judge>,
    /// Slots whose socket is full: their outboxes hold what waits.
    holders: RoaringBitmap,
    census: scan::Census,
    handshakes: layered::Handshakes,
    /// What this shard's connections subscribed to.
    topics: Topics,
    /// The other shards, and who may want what.
    queues: Arc<Queues>,
}

/// Buffers that every connection of the shard uses in turn.
struct Scratch {
    read: Vec<u8>,
    layers: LayerBuffers,
    reply: Vec<u8>,
    ids: Vec<MessageId>,
    due: Vec<u32>,
    /// Properties of one packet.
    properties: PropertiesBuf,
    /// Filters that match a topic, and who subscribed to them.
    filters: Vec<FilterId>,
    audience: Vec<mqtt::Listener>,
}

/// Events on their way to the hub. When its queue is full they wait here, and the shard stops taking in anything new
/// until they are gone, so what waits here is at most what one read, command or slice brought.
struct Outlet {
    queue: Arc<ShardQueue>,
    waiting: VecDeque<Event>,
    told: bool,
}

impl Outlet {
    fn tell(&mut self, event: Event) {
        self.told = true;
        if !self.waiting.is_empty() {
            self.waiting.push_back(event);
        } else if let Err(event) = self.queue.tell(event) {
            self.waiting.push_back(event);
        }
    }

    fn is_backed_up(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Hands over what waits, and wakes the hub if there was anything.
    fn flush(&mut self) {
        while let Some(event) = self.waiting.pop_front() {
            self.told = true;
            if let Err(event) = self.queue.tell(event) {
                self.waiting.push_front(event);
                break;
            }
        }
        if std::mem::take(&mut self.told) {
            self.queue.ring();
        }
    }
}

/// This shard's counters.
#[derive(Clone)]
struct Stats(Arc<GateStats>, usize);

impl Stats {
    fn own(&self) -> &ShardStats {
        &self.0.shards[self.1]
    }
}

/// Seconds that the shard has lived through. Only monotonic time, and a stall of the process counts as one second.
struct ShardTime {
    last: Instant,
    counted_ms: u64,
}

impl ShardTime {
    fn advance(&mut self) {
        let now = Instant::now();
        let gap_ms = now.duration_since(self.last).as_millis() as u64;
        if gap_ms > 0 {
            self.counted_ms += if gap_ms > STALL_MS { 1000 } else { gap_ms };
            // What is less than a millisecond counts next time: turns may be that short.
            self.last += Duration::from_millis(gap_ms);
        }
    }

    fn now(&self) -> Millis {
        Millis(self.counted_ms)
    }

    fn now_s(&self) -> u32 {
        (self.counted_ms / 1000) as u32
    }

    fn until_tick(&self) -> Duration {
        Duration::from_millis(1000 - self.counted_ms % 1000)
    }
}

impl Shard {
    pub(super) fn new(parts: ShardParts, poll: Poll) -> Shard {
        let options = parts.options;
        let index = usize::from(parts.id.0);
        let queue = parts.queues.shards[index].clone();
        let limits = Deadlines {
            login_s: options.login_deadline_s,
            frame_s: options.frame_deadline_s,
            ack_s: options.ack_deadline_s,
            stall_s: options.write_stall_s,
        };
        Shard {
            id: parts.id,
            poll,
            outlet: Outlet { queue: queue.clone(), waiting: VecDeque::new(), told: false },
            queue,
            stats: Stats(parts.stats, index),
            wall: parts.clock,
            time: ShardTime { last: Instant::now(), counted_ms: 1000 },
            limits,
            door: accept::Door::new(
                parts.admission,
                options.awaiting_max.div_ceil(options.shards.clamp(1, 64)),
            ),
            turned_away: turned_away::TurnedAway::new(
                options.listeners.clone(),
                options.connections_max,
                options.shards,
            ),
            options,
            slab: Slab::default(),
            wheel: Wheel::new(),
            members: Members::default(),
            fanout: fanout::Fanout::default(),
            frequencies: std::collections::HashMap::new(),
            recalled: recalled::Recalled::default(),
            pool: OutboxPool::default(),
            scratch: Scratch {
                read: vec![0; READ_BUFFER_BYTES],
                layers: LayerBuffers::default(),
                reply: Vec::with_capacity(1024),
                ids: Vec::new(),
                due: Vec::new(),
                properties: PropertiesBuf::default(),
                filters: Vec::new(),
                audience: Vec::new(),
            },
            unread: VecDeque::new(),
            dirty: Vec::new(),
            failed_pages: Vec::new(),
            overdue: VecDeque::new(),
            commands_waiting: false,
            stopping: None,
            turn_began: Instant::now(),
            last_turn: Duration::ZERO,
            scan: scan::Scan::default(),
            phases: phase::Phases::of_shard(parts.id.0.into()),
            judge: parts.judge,
            holders: RoaringBitmap::new(),
            census: scan::Census::default(),
            handshakes: layered::Handshakes::default(),
            topics: Topics::new(parts.queues.interests.shards[index].clone()),
            queues: parts.queues,
        }
    }

    /// Runs until stopped.
    pub(super) fn run(mut self) {
        self.pin();
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        while !self.is_over() {
            if let Err(error) = self.poll.poll(&mut events, Some(self.patience()))
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                // Only a descriptor of our own that is broken can bring this; without epoll there is no shard.
                ShardStats::count(&self.stats.own().accept_errors, 1);
                break;
            }
            self.turn_began = Instant::now();
            self.stats.own().turn_since_ms.store(self.stats.0.now_ms(), Relaxed);
            self.turn(&events);
            self.stats.own().turn_since_ms.store(0, Relaxed);
            self.last_turn = self.turn_began.elapsed();
            self.record_turn(self.last_turn);
        }
        self.close_all(CloseReason::Draining);
        self.tell_turned_away(u32::MAX);
        self.outlet.flush();
        while self.outlet.is_backed_up() {
            std::thread::yield_now();
            self.outlet.flush();
        }
        self.queue.end();
    }

    fn turn(&mut self, events: &Events) {
        self.time.advance();
        self.outlet.flush();
        if self.outlet.is_backed_up() {
            ShardStats::count(&self.stats.own().events_held_back, 1);
        }
        self.begin_handshakes();
        for event in events {
            match event.token() {
                WAKE => self.commands_waiting = true,
                token if accept::is_listener(token) => self.door.ready(token),
                token if self.turned_away.has(token) => self.turned_away_ready(token),
                token => self.socket_ready(token.0 as u32, event),
            }
        }
        if !self.outlet.is_backed_up() {
            self.accept_some();
            self.read_listed();
            self.take_commands();
            self.take_readings();
            self.flush_dirty();
            self.sweep_slice();
        }
        self.flush_dirty();
        self.close_overdue();
        self.tick();
        self.go_on_stopping();
        self.outlet.flush();
    }

    /// How long the shard may sleep.
    fn patience(&self) -> Duration {
        if self.outlet.is_backed_up() || self.door.is_paused() {
            return Duration::from_millis(1);
        }
        let busy = self.commands_waiting
            || self.door.is_ready()
            || !self.unread.is_empty()
            || !self.handshakes.is_empty()
            || !self.overdue.is_empty()
            || self.fanout.is_running();
        if busy {
            Duration::ZERO
        } else if self.stopping.is_some() {
            Duration::from_millis(20)
        } else {
            self.time.until_tick()
        }
    }

    fn take_controls(&mut self) {
        while let Some(control) = self.queue.next_control() {
            match control {
                Control::Listen(number, socket) => self.listen(number, socket),
                Control::Stop { spread, patience } => self.begin_stop(spread, patience),
            }
        }
    }

    fn record_turn(&mut self, length: Duration) {
        let us = length.as_micros() as u64;
        let stats = self.stats.own();
        let bucket = TURN_BUCKETS_US.iter().position(|bound| us <= *bound).unwrap_or(TURN_BUCKETS_US.len());
        ShardStats::count(&stats.turns[bucket], 1);
        ShardStats::count(&stats.turn_us_sum, us);
        if us > STRAINED_TURN_US {
            self.door.admission.pace.turn_was_long();
        }
        if us > stats.turn_us_max.load(Relaxed) {
            stats.turn_us_max.store(us, Relaxed);
        }
    }

    fn pin(&self) {
        if self.options.pin {
            let mut cpus = rustix::thread::CpuSet::new();
            cpus.set(usize::from(self.id.0));
            // A core that we may not use leaves the thread where it is.
            let _ = rustix::thread::sched_setaffinity(None, &cpus);
        }
    }
}
