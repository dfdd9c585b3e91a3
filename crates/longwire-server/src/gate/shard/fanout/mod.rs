//! Broadcasts go round like a carousel: a cursor runs over the shard's connections in slices, and each connection gets all
//! broadcasts under way that it has not had in one write. A broadcast joins where the cursor is and leaves when the cursor has
//! come back to that place, so it waits for nobody, those that come together leave together, and on every connection
//! they keep their order. Between slices heartbeats and unicasts are served. Messages to topics with a crowd of subscribers ride
//! along.

mod audience;
mod batch;
mod serving;

use self::audience::{Audience, Audiences};
use self::batch::Batch;
use super::Shard;
use super::commands::{ONLINE_ONLY, flags_of};
use crate::delivery::border::Broadcast;
use crate::delivery::border::topics::TopicMessage;
use crate::domain::topic::FilterId;
use crate::domain::{AppId, Position};
use crate::gate::connection::Slab;
use crate::gate::pressure::Level;
use crate::gate::stats::TopicDrop;
use bytes::Bytes;
use longwire_proto::wire::{PushHead, push_frame};
use roaring::RoaringBitmap;
use std::collections::VecDeque;
use std::sync::Arc;

/// Connections served in one slice: about 0.2 ms of sends, which is what a heartbeat may wait for behind a broadcast. A look at
/// epoll and at the commands between two slices costs less than one send.
const SLICE: usize = 32;
/// The same while the node is pressed.
const SLICE_WHEN_BUSY: usize = 16;
/// Deliveries of a broadcast after which the hub is told how many there were, before it is round.
const TOLD_EVERY: u32 = 512;
/// Slots looked up, and their records loaded, at once.
const AHEAD: usize = 32;
/// Broadcasts and topic messages under way at once, as many as a mask has bits; the next waits until one has gone round. What is
/// under way together leaves in one write for each connection, so that messages at the machine's limit cost less each.
const RIDERS_MAX: usize = 64;
/// Their bytes, but for one that is alone: what one write gives a connection fits its outbox.
const RIDING_BYTES_MAX: usize = 48 * 1024;
/// Those that may wait; at the bound the shard takes no commands and reads no publishers until one is under way. What one
/// read of a publisher brought may stand beyond it.
const WAITING_MAX: usize = 64;

#[derive(Default)]
pub(super) struct Fanout {
    waiting: VecDeque<Load>,
    riders: Vec<Rider>,
    riding_bytes: usize,
    audiences: Audiences,
    batch: Batch,
    /// Topic messages among those that wait and ride.
    topics: usize,
    /// Slots whose connection went, and filters that ended, since the last slice, while topic messages ride: who has the slot or the
    /// filter's id next is not concerned.
    left: Vec<u32>,
    ended: Vec<(AppId, FilterId)>,
    /// The slots that any rider concerned when it joined.
    slots: RoaringBitmap,
    /// The next slot to be served.
    cursor: u32,
    /// The slots of `slots` that come at the cursor, the next one last; empty: to be looked up.
    ahead: Vec<u32>,
    /// What the connection at hand gets: index of the rider, and the head of a stored delivery.
    plan: Vec<(usize, Option<[u8; PushHead::BYTES]>)>,
}

/// What goes round.
enum Load {
    Broadcast(Arc<Broadcast>),
    Topic(Arc<TopicMessage>),
}

/// What is under way.
enum Ride {
    Broadcast {
        broadcast: Arc<Broadcast>,
        /// The whole frame of an online-only message, the shared part of a stored one.
        bytes: Bytes,
        online_only: bool,
        /// Every connection of the app is meant: none is judged.
        everyone: bool,
    },
    Topic {
        message: Arc<TopicMessage>,
        /// The place of its audience.
        audience: usize,
    },
}

/// A broadcast or a topic message under way.
struct Rider {
    ride: Ride,
    /// The slot at which it joined: it leaves when the cursor has been at the end and is here again.
    joined: u32,
    turned: bool,
    sent: u32,
    dropped: u32,
}

impl Fanout {
    pub(super) fn queue(&mut self, broadcast: Arc<Broadcast>) {
        self.waiting.push_back(Load::Broadcast(broadcast));
    }

    pub(super) fn queue_topic(&mut self, message: Arc<TopicMessage>) {
        self.topics += 1;
        self.waiting.push_back(Load::Topic(message));
    }

    /// Whether a message to this topic waits or rides.
    pub(super) fn carries(&self, app: AppId, topic: &str) -> bool {
        let same = |message: &TopicMessage| message.app == app && message.shared.topic() == topic;
        self.topics > 0
            && (self.audiences.carries(app, topic)
                || self.waiting.iter().any(|load| matches!(load, Load::Topic(message) if same(message))))
    }

    /// Whether a message to this topic would have the audience of one that rode before, so that there is nothing to look up.
    pub(super) fn knows(&self, app: AppId, topic: &str, revision: u64) -> bool {
        self.audiences.find(app, topic, revision).is_some()
    }

    /// The connection of a slot went.
    pub(super) fn slot_left(&mut self, slot: u32) {
        if self.topics > 0 {
            self.left.push(slot);
        }
    }

    /// A filter's id is free.
    pub(super) fn filter_ended(&mut self, app: AppId, filter: FilterId) {
        if self.topics > 0 {
            self.ended.push((app, filter));
        }
    }

    /// Nobody gets what the owner of a slot or filter before it was meant to get.
    fn forget_the_gone(&mut self) {
        if !self.left.is_empty() || !self.ended.is_empty() {
            self.audiences.forget(&self.left, &self.ended);
            self.left.clear();
            self.ended.clear();
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= WAITING_MAX
    }

    pub(super) fn is_running(&self) -> bool {
        !self.riders.is_empty() || !self.waiting.is_empty()
    }

    /// The next slot that a rider may concern, at or after the cursor. The records of those behind it are loaded together, so that
    /// their cache misses overlap: between two sends the kernel fills the cache with its own.
    fn next_slot(&mut self, slab: &Slab) -> Option<u32> {
        if self.ahead.is_empty() {
            let mut slots = self.slots.iter();
            slots.advance_to(self.cursor);
            self.ahead.extend(slots.take(AHEAD));
            self.ahead.reverse();
            slab.load(&self.ahead);
        }
        self.ahead.last().copied()
    }

    fn step_past(&mut self, slot: u32) {
        self.ahead.pop();
        self.cursor = slot + 1;
    }

    /// Riders came or went.
    fn seat(&mut self, riders: &[Rider]) {
        self.batch.forget();
        self.riding_bytes = riders.iter().map(|rider| rider.bytes().len()).sum();
        self.audiences.seat(riders.iter().enumerate().filter_map(|(place, rider)| match &rider.ride {
            Ride::Topic { message, audience } => Some((place, *audience, message)),
            Ride::Broadcast { .. } => None,
        }));
    }

    /// Other slots are concerned from now on.
    fn concern(&mut self, slots: RoaringBitmap) {
        self.slots = slots;
        self.ahead.clear();
    }
}

impl Rider {
    fn new(ride: Ride, joined: u32) -> Rider {
        Rider { ride, joined, turned: false, sent: 0, dropped: 0 }
    }

    /// What of it is shared by all who get it as native devices.
    fn bytes(&self) -> &Bytes {
        match &self.ride {
            Ride::Broadcast { bytes, .. } => bytes,
            Ride::Topic { message, .. } => message.shared.bytes(),
        }
    }
}

impl Shard {
    /// Serves the next slice of connections.
    pub(super) fn sweep_slice(&mut self) {
        self.fanout.forget_the_gone();
        self.board();
        let mut riders = std::mem::take(&mut self.fanout.riders);
        let slice = if self.stats.0.pressure.level() >= Level::Busy { SLICE_WHEN_BUSY } else { SLICE };
        for _ in 0..slice {
            if riders.is_empty() || self.outlet.is_backed_up() {
                break;
            }
            match self.fanout.next_slot(&self.slab) {
                Some(slot) => {
                    self.alight(&mut riders, |rider| rider.turned && slot >= rider.joined);
                    self.serve(slot, &mut riders);
                    self.fanout.step_past(slot);
                }
                None => self.turn_round(&mut riders),
            }
        }
        self.report(&mut riders, TOLD_EVERY);
        self.fanout.riders = riders;
    }

    /// Takes on what waits.
    fn board(&mut self) {
        let before = self.fanout.riders.len();
        while self.fanout.riders.len() < RIDERS_MAX && self.fanout.riding_bytes < RIDING_BYTES_MAX {
            let Some(load) = self.fanout.waiting.pop_front() else { break };
            let ride = match load {
                Load::Broadcast(broadcast) => {
                    let online_only = broadcast.position == Position::START;
                    let shared = &broadcast.message.shared;
                    let bytes = if online_only {
                        let flags = flags_of(broadcast.message.high);
                        Bytes::from(push_frame(&PushHead { flags, ..ONLINE_ONLY }, shared))
                    } else {
                        shared.clone()
                    };
                    let everyone = broadcast.reach.is_everyone();
                    Ride::Broadcast { broadcast, bytes, online_only, everyone }
                }
                Load::Topic(message) => {
                    let audience = self.audience_of(&message);
                    Ride::Topic { message, audience }
                }
            };
            let is_seen = match &ride {
                Ride::Topic { audience, .. } => !self.fanout.audiences.board(*audience),
                Ride::Broadcast { .. } => false,
            };
            if !is_seen {
                let mut slots = std::mem::take(&mut self.fanout.slots);
                self.concern(&ride, &mut slots);
                self.fanout.concern(slots);
            }
            let rider = Rider::new(ride, self.fanout.cursor);
            self.fanout.riding_bytes += rider.bytes().len();
            self.fanout.riders.push(rider);
        }
        if self.fanout.riders.len() > before {
            let riders = std::mem::take(&mut self.fanout.riders);
            self.fanout.seat(&riders);
            self.fanout.riders = riders;
        }
    }

    /// Who subscribed is asked only now, and once for messages to one topic: what waits costs no bitmap.
    fn audience_of(&mut self, message: &TopicMessage) -> usize {
        let (app, topic) = (message.app, message.shared.topic());
        let revision = self.topics.revision();
        if let Some(at) = self.fanout.audiences.find(app, topic, revision) {
            return at;
        }
        let (mut filters, mut slots) = (Vec::new(), RoaringBitmap::new());
        if self.topics.matching(app, topic, &mut filters).is_err() {
            self.drop_topic(TopicDrop::TooWide, 1);
        }
        for filter in &filters {
            if let Some(subscribers) = self.topics.of(app, *filter) {
                subscribers.add_to(&mut slots);
            }
        }
        self.fanout.audiences.keep(Audience::new(message, filters, slots, revision))
    }

    /// Adds the slots that a rider may concern now.
    fn concern(&self, ride: &Ride, slots: &mut RoaringBitmap) {
        match ride {
            Ride::Broadcast { broadcast, .. } => {
                *slots |= self.members.matching(broadcast.app, &broadcast.reach)
            }
            Ride::Topic { audience, .. } => {
                if let Some(audience) = self.fanout.audiences.get(*audience) {
                    *slots |= &audience.slots;
                }
            }
        }
    }

    /// The cursor is at the end: it goes back to the first slot, and who was at the end before is round.
    fn turn_round(&mut self, riders: &mut Vec<Rider>) {
        self.alight(riders, |rider| rider.turned || rider.joined == 0);
        self.fanout.cursor = 0;
        let mut slots = RoaringBitmap::new();
        for rider in riders {
            rider.turned = true;
            if let Ride::Broadcast { .. } = rider.ride {
                self.concern(&rider.ride, &mut slots);
            }
        }
        for audience in self.fanout.audiences.riding() {
            slots |= &audience.slots;
        }
        self.fanout.concern(slots);
    }

    fn alight(&mut self, riders: &mut Vec<Rider>, is_round: impl Fn(&Rider) -> bool) {
        if riders.iter().any(&is_round) {
            self.report(riders, 1);
            riders.retain(|rider| {
                let stays = !is_round(rider);
                if let Ride::Topic { audience, .. } = rider.ride
                    && !stays
                {
                    self.fanout.topics -= 1;
                    self.fanout.audiences.leave(audience);
                }
                stays
            });
            if riders.is_empty() {
                self.fanout.audiences.rest();
            }
            self.fanout.seat(riders);
        }
    }
}
