//! Broadcasts go round like a carousel: a cursor runs over the shard's connections in slices, and each connection gets all
//! broadcasts under way that it has not had in one write. A broadcast joins where the cursor is and leaves when the cursor has
//! come back to that place, so it waits for nobody, those that come together leave together, and on every connection
//! they keep their order. Between slices heartbeats and unicasts are served.

use super::Shard;
use super::commands::ONLINE_ONLY;
use crate::delivery::border::{Broadcast, Event};
use crate::domain::{Position, Source};
use crate::gate::connection::{Connection, Piece, Slab};
use crate::gate::pressure::Level;
use crate::gate::stats::ShardStats;
use bytes::Bytes;
use longwire_proto::session::Offer;
use longwire_proto::wire::{PushHead, push_frame};
use roaring::RoaringBitmap;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

/// Connections served in one slice: about 0.9 ms of sends, which is what a heartbeat may wait for behind a broadcast. A look at
/// epoll and at the commands between two slices costs less than one send.
const SLICE: usize = 128;
/// The same while the node is pressed.
const SLICE_WHEN_BUSY: usize = 64;
/// Slots looked up, and their records loaded, at once.
const AHEAD: usize = 32;
/// Broadcasts under way at once; the next waits until one has gone round.
const RIDERS_MAX: usize = 16;
/// Broadcasts that may wait; at the bound the shard takes no commands until one is under way.
const WAITING_MAX: usize = 64;

#[derive(Default)]
pub(super) struct Fanout {
    waiting: VecDeque<Arc<Broadcast>>,
    riders: Vec<Rider>,
    /// The slots that any rider concerned when it joined.
    slots: RoaringBitmap,
    /// The next slot to be served.
    cursor: u32,
    /// The slots of `slots` that come at the cursor, the next one last; empty: to be looked up.
    ahead: Vec<u32>,
    /// What the connection at hand gets: index of the rider, and the head of a stored delivery.
    plan: Vec<(usize, Option<[u8; PushHead::BYTES]>)>,
}

/// A broadcast under way.
struct Rider {
    broadcast: Arc<Broadcast>,
    /// The whole frame of an online-only message, the shared part of a stored one.
    bytes: Bytes,
    online_only: bool,
    /// The slot at which it joined: it leaves when the cursor has been at the end and is here again.
    joined: u32,
    turned: bool,
    sent: u32,
    dropped: u32,
}

impl Fanout {
    pub(super) fn queue(&mut self, broadcast: Arc<Broadcast>) {
        self.waiting.push_back(broadcast);
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

    /// Other slots are concerned from now on.
    fn concern(&mut self, slots: RoaringBitmap) {
        self.slots = slots;
        self.ahead.clear();
    }
}

impl Rider {
    fn new(broadcast: Arc<Broadcast>, joined: u32) -> Rider {
        let online_only = broadcast.position == Position::START;
        let shared = &broadcast.message.shared;
        let bytes = if online_only { Bytes::from(push_frame(&ONLINE_ONLY, shared)) } else { shared.clone() };
        Rider { broadcast, bytes, online_only, joined, turned: false, sent: 0, dropped: 0 }
    }
}

impl Shard {
    /// Serves the next slice of connections.
    pub(super) fn sweep_slice(&mut self) {
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
        self.report(&mut riders);
        self.fanout.riders = riders;
    }

    /// Takes waiting broadcasts on.
    fn board(&mut self) {
        while self.fanout.riders.len() < RIDERS_MAX {
            let Some(broadcast) = self.fanout.waiting.pop_front() else { return };
            let slots = std::mem::take(&mut self.fanout.slots) | self.members.matching(&broadcast);
            self.fanout.concern(slots);
            let rider = Rider::new(broadcast, self.fanout.cursor);
            self.fanout.riders.push(rider);
        }
    }

    /// The cursor is at the end: it goes back to the first slot, and who was at the end before is round.
    fn turn_round(&mut self, riders: &mut Vec<Rider>) {
        self.alight(riders, |rider| rider.turned || rider.joined == 0);
        self.fanout.cursor = 0;
        let mut slots = RoaringBitmap::new();
        for rider in riders {
            rider.turned = true;
            slots |= self.members.matching(&rider.broadcast);
        }
        self.fanout.concern(slots);
    }

    fn alight(&mut self, riders: &mut Vec<Rider>, is_round: impl Fn(&Rider) -> bool) {
        if riders.iter().any(&is_round) {
            self.report(riders);
            riders.retain(|rider| !is_round(rider));
        }
    }

    /// Gives one connection all that concerns it.
    fn serve(&mut self, slot: u32, riders: &mut [Rider]) {
        let Some(connection) = self.slab.at(slot) else { return };
        let (app, unwritable) = (connection.app, connection.flags.unwritable);
        let shed = self.stats.0.pressure.level() >= Level::Crowded;
        let room = self.options.outbox_high_bytes.saturating_sub(connection.outbox_bytes());
        let mut plan = std::mem::take(&mut self.fanout.plan);
        plan.clear();
        let (mut planned, mut stored) = (0, false);
        for (index, rider) in riders.iter_mut().enumerate() {
            // A slot may have a new owner since the broadcast joined.
            if !self.members.concerns(&rider.broadcast, app, slot) {
                continue;
            }
            if rider.online_only {
                if unwritable || shed || planned + rider.bytes.len() > room {
                    rider.dropped += 1;
                    continue;
                }
                plan.push((index, None));
            } else if let Some(head) = self.offer_log(slot, rider, unwritable || planned > room) {
                plan.push((index, Some(head)));
                stored = true;
            } else {
                continue;
            }
            planned += rider.bytes.len();
            rider.sent += 1;
        }
        if !plan.is_empty() {
            self.send_plan(slot, &plan, riders);
        }
        self.fanout.plan = plan;
        if stored {
            self.await_ack(slot);
        }
    }

    /// The head of a stored broadcast for this connection; `None`: it has it, or will pull it.
    fn offer_log(&mut self, slot: u32, rider: &Rider, full: bool) -> Option<[u8; PushHead::BYTES]> {
        let session = self.slab.at(slot).and_then(Connection::live)?;
        let (position, message) = (rider.broadcast.position, &rider.broadcast.message);
        if full {
            session.defer(Source::AppLog, position);
            return None;
        }
        match session.offer(Source::AppLog, position, message.message, message.shared.len() as u32) {
            Offer::Send { previous } => {
                self.tell_held(slot, message.message);
                let head = self.head(Source::AppLog, position, previous, message.deadline, 0);
                Some(head.encode(message.shared.len()))
            }
            Offer::Later => {
                self.pull(slot);
                None
            }
            Offer::Skip => None,
        }
    }

    fn send_plan(&mut self, slot: u32, plan: &[(usize, Option<[u8; PushHead::BYTES]>)], riders: &[Rider]) {
        if let [(index, None)] = plan {
            let frame = [IoSlice::new(&riders[*index].bytes)];
            return self.send_slices(slot, &frame, |written| rest_of(plan, riders, written));
        }
        let mut slices = [IoSlice::new(&[]); 2 * RIDERS_MAX];
        let mut count = 0;
        for (index, head) in plan {
            for part in [head.as_ref().map_or(&[][..], |head| &head[..]), &riders[*index].bytes[..]] {
                if !part.is_empty() {
                    slices[count] = IoSlice::new(part);
                    count += 1;
                }
            }
        }
        self.send_slices(slot, &slices[..count], |written| rest_of(plan, riders, written));
    }

    fn report(&mut self, riders: &mut [Rider]) {
        for rider in riders {
            let (sent, dropped) = (std::mem::take(&mut rider.sent), std::mem::take(&mut rider.dropped));
            if sent > 0 || dropped > 0 {
                ShardStats::count(&self.stats.own().sent, sent.into());
                ShardStats::count(&self.stats.own().dropped, dropped.into());
                self.outlet.tell(Event::Sent { message: rider.broadcast.message.message, sent, dropped });
            }
        }
    }
}

/// The pieces that are left of a plan after `written` bytes.
fn rest_of(
    plan: &[(usize, Option<[u8; PushHead::BYTES]>)],
    riders: &[Rider],
    mut written: usize,
) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(plan.len());
    for (index, head) in plan {
        let shared = &riders[*index].bytes;
        let head_bytes = head.map_or(0, |head| head.len());
        if written >= head_bytes + shared.len() {
            written -= head_bytes + shared.len();
            continue;
        }
        match head {
            Some(head) if written == 0 => pieces.push(Piece::push(*head, shared.clone())),
            Some(head) if written < head_bytes => {
                pieces.push(Piece::whole(Bytes::copy_from_slice(&head[written..])));
                pieces.push(Piece::whole(shared.clone()));
            }
            _ => pieces.push(Piece::whole(shared.slice(written - head_bytes..))),
        }
        written = 0;
    }
    pieces
}
