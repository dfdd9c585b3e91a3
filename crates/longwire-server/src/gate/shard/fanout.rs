//! Broadcasts. Those that wait together are swept together: one pass over the connections gives each of them all that
//! concerns it in one write. A pass goes in slices, so that heartbeats and unicasts are served between them.

use super::Shard;
use super::commands::ONLINE_ONLY;
use crate::delivery::border::{Broadcast, Event};
use crate::domain::{Position, Source};
use crate::gate::connection::{Connection, Piece};
use crate::gate::stats::ShardStats;
use bytes::Bytes;
use longwire_proto::session::Offer;
use longwire_proto::wire::{PushHead, push_frame};
use roaring::RoaringBitmap;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

/// Connections served in one slice.
const SLICE: usize = 512;
/// Broadcasts in one pass.
const PASS_MAX: usize = 16;
/// Broadcasts that may wait here; at the bound the shard takes no commands until a pass begins.
const WAITING_MAX: usize = 64;

#[derive(Default)]
pub(super) struct Fanout {
    waiting: VecDeque<Arc<Broadcast>>,
    pass: Option<Pass>,
    /// What the connection at hand gets: index into the pass, and the head of a stored delivery.
    plan: Vec<(usize, Option<[u8; PushHead::BYTES]>)>,
}

struct Pass {
    entries: Vec<Entry>,
    slots: RoaringBitmap,
    next: u32,
}

struct Entry {
    broadcast: Arc<Broadcast>,
    /// The whole frame of an online-only message, the shared part of a stored one.
    bytes: Bytes,
    online_only: bool,
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
        self.pass.is_some() || !self.waiting.is_empty()
    }
}

impl Entry {
    fn new(broadcast: Arc<Broadcast>) -> Entry {
        let online_only = broadcast.position == Position::START;
        let shared = &broadcast.message.shared;
        let bytes = if online_only { Bytes::from(push_frame(&ONLINE_ONLY, shared)) } else { shared.clone() };
        Entry { broadcast, bytes, online_only, sent: 0, dropped: 0 }
    }
}

impl Shard {
    /// Serves the next slice of the running pass, or begins one.
    pub(super) fn sweep_slice(&mut self) {
        let Some(mut pass) = self.fanout.pass.take().or_else(|| self.begin_pass()) else { return };
        let mut left = SLICE;
        let mut slots = pass.slots.iter();
        slots.advance_to(pass.next);
        let mut over = true;
        for slot in slots {
            if left == 0 || self.outlet.is_backed_up() {
                over = false;
                break;
            }
            pass.next = slot + 1;
            left -= 1;
            self.serve(slot, &mut pass.entries);
        }
        self.report(&mut pass.entries);
        if !over {
            self.fanout.pass = Some(pass);
        }
    }

    fn begin_pass(&mut self) -> Option<Pass> {
        let count = self.fanout.waiting.len().min(PASS_MAX);
        if count == 0 {
            return None;
        }
        let entries: Vec<Entry> = self.fanout.waiting.drain(..count).map(Entry::new).collect();
        let mut slots = RoaringBitmap::new();
        for entry in &entries {
            slots |= self.members.matching(&entry.broadcast);
        }
        Some(Pass { entries, slots, next: 0 })
    }

    /// Gives one connection all that concerns it.
    fn serve(&mut self, slot: u32, entries: &mut [Entry]) {
        let Some(connection) = self.slab.at(slot) else { return };
        let (app, unwritable) = (connection.app, connection.flags.unwritable);
        let room = self.options.outbox_high_bytes.saturating_sub(connection.outbox_bytes());
        let mut plan = std::mem::take(&mut self.fanout.plan);
        plan.clear();
        let (mut planned, mut stored) = (0, false);
        for (index, entry) in entries.iter_mut().enumerate() {
            // A slot may have a new owner since the pass began.
            if !self.members.concerns(&entry.broadcast, app, slot) {
                continue;
            }
            if entry.online_only {
                if unwritable || planned + entry.bytes.len() > room {
                    entry.dropped += 1;
                    continue;
                }
                plan.push((index, None));
            } else if let Some(head) = self.offer_log(slot, entry, unwritable || planned > room) {
                plan.push((index, Some(head)));
                stored = true;
            } else {
                continue;
            }
            planned += entry.bytes.len();
            entry.sent += 1;
        }
        if !plan.is_empty() {
            self.send_plan(slot, &plan, entries);
        }
        self.fanout.plan = plan;
        if stored {
            self.await_ack(slot);
        }
    }

    /// The head of a stored broadcast for this connection; `None`: it has it, or will pull it.
    fn offer_log(&mut self, slot: u32, entry: &Entry, full: bool) -> Option<[u8; PushHead::BYTES]> {
        let session = self.slab.at(slot).and_then(Connection::live)?;
        let (position, message) = (entry.broadcast.position, &entry.broadcast.message);
        if full {
            session.defer(Source::AppLog, position);
            return None;
        }
        match session.offer(Source::AppLog, position, message.message, message.shared.len() as u32) {
            Offer::Send { previous } => {
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

    fn send_plan(&mut self, slot: u32, plan: &[(usize, Option<[u8; PushHead::BYTES]>)], entries: &[Entry]) {
        let mut slices = [IoSlice::new(&[]); 2 * PASS_MAX];
        let mut count = 0;
        for (index, head) in plan {
            for part in [head.as_ref().map_or(&[][..], |head| &head[..]), &entries[*index].bytes[..]] {
                if !part.is_empty() {
                    slices[count] = IoSlice::new(part);
                    count += 1;
                }
            }
        }
        self.send_slices(slot, &slices[..count], |written| rest_of(plan, entries, written));
    }

    fn report(&mut self, entries: &mut [Entry]) {
        for entry in entries {
            let (sent, dropped) = (std::mem::take(&mut entry.sent), std::mem::take(&mut entry.dropped));
            if sent > 0 || dropped > 0 {
                ShardStats::count(&self.stats.own().sent, sent.into());
                ShardStats::count(&self.stats.own().dropped, dropped.into());
                self.outlet.tell(Event::Sent { message: entry.broadcast.message.message, sent, dropped });
            }
        }
    }
}

/// The pieces that are left of a plan after `written` bytes.
fn rest_of(
    plan: &[(usize, Option<[u8; PushHead::BYTES]>)],
    entries: &[Entry],
    mut written: usize,
) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(plan.len());
    for (index, head) in plan {
        let shared = &entries[*index].bytes;
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
