//! Bytes to devices. A frame goes straight to the socket when nothing waits before it; an outbox exists only while the
//! socket is full or several frames of one turn wait for their common write.
//!
//! A peer whose socket stays full is judged by progress, not by that state: as long as its kernel takes bytes out of ours, though
//! too few for the socket to become writable, it is slow and not dead. So the kernel's queue is read several times
//! within the write-stall deadline, and once more before the peer is closed.

use super::Shard;
use crate::delivery::border::Event;
use crate::gate::connection::{
    Connection, Outbox, Piece, Standing, broken_reason, handle, kernel_judges, shard_judges, write_slices,
};
use crate::gate::judge::{Question, Reading};
use crate::gate::stats::ShardStats;
use bytes::Bytes;
use longwire_proto::close::CloseReason;
use std::io::IoSlice;
use std::sync::atomic::Ordering::Relaxed;

/// Readings of the kernel's queue within one write-stall deadline, at most one a second: what a peer took is known so
/// much too late at most.
const READINGS_PER_STALL: u32 = 15;
/// How long a shard waits for a reading that decides, seconds; then what the socket took decides.
const READING_MAX_S: u32 = 2;
/// Readings taken in one turn.
const READINGS_PER_TURN: usize = 256;

impl Shard {
    /// Sends the scratch's reply bytes, whole frames, behind whatever waits already.
    pub(super) fn reply(&mut self, slot: u32) {
        if self.scratch.reply.is_empty() {
            return;
        }
        let reply = std::mem::take(&mut self.scratch.reply);
        self.send_slices(slot, &[IoSlice::new(&reply)], |written| {
            vec![Piece::whole(Bytes::copy_from_slice(&reply[written..]))]
        });
        self.scratch.reply = reply;
    }

    /// Writes slices now if nothing waits; `rest` makes the pieces of what the socket did not take, after so many bytes.
    pub(super) fn send_slices(
        &mut self,
        slot: u32,
        slices: &[IoSlice<'_>],
        rest: impl FnOnce(usize) -> Vec<Piece>,
    ) {
        let Some(connection) = self.slab.at(slot) else { return };
        if connection.layers.is_some() && connection.outbox.is_none() {
            return self.send_sealed(slot, slices);
        }
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut written = 0;
        if connection.outbox.is_none() {
            match write_slices(&mut connection.socket, slices) {
                Ok(taken) => written = taken,
                Err(error) => return self.close(slot, broken_reason(&error), 0),
            }
            ShardStats::count(&self.stats.own().written_bytes, written as u64);
            if written == offered {
                return;
            }
        }
        for piece in rest(written) {
            self.queue(slot, piece, Outbox::push);
        }
        if written < offered {
            self.stand(slot);
        }
    }

    /// Puts a frame into the outbox, to leave with the turn's other frames in one write.
    pub(super) fn send_later(&mut self, slot: u32, piece: Piece) {
        self.queue(slot, piece, Outbox::push);
        if let Some(connection) = self.slab.at(slot)
            && !connection.flags.dirty
        {
            connection.flags.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Puts a piece into the outbox with `push`.
    pub(super) fn queue(&mut self, slot: u32, piece: Piece, push: fn(&mut Outbox, Piece)) {
        let now_s = self.time.now_s();
        let Some(connection) = self.slab.at(slot) else { return };
        let is_new = connection.outbox.is_none();
        let outbox = connection.outbox.get_or_insert_with(|| self.pool.take());
        let length = piece.len();
        push(outbox, piece);
        let bytes = outbox.bytes();
        self.stats.own().outbox_bytes.fetch_add(length as u64, Relaxed);
        if bytes > self.options.outbox_high_bytes && !connection.flags.unwritable {
            connection.flags.unwritable = true;
            ShardStats::count(&self.stats.own().unwritable, 1);
            ShardStats::count(&self.stats.own().slow_consumers, 1);
        }
        if is_new {
            connection.drained_s = now_s;
        }
    }

    pub(super) fn flush_dirty(&mut self) {
        // A flush may make room for messages that waited: those connections are in the list again, until their queues are empty or
        // their sockets full.
        while !self.dirty.is_empty() {
            let mut dirty = std::mem::take(&mut self.dirty);
            for slot in dirty.drain(..) {
                if let Some(connection) = self.slab.at(slot)
                    && std::mem::take(&mut connection.flags.dirty)
                {
                    self.flush(slot);
                }
            }
            if self.dirty.is_empty() {
                self.dirty = dirty;
                return;
            }
        }
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self, slot: u32) {
        let now_s = self.time.now_s();
        let Some(connection) = self.slab.at(slot) else { return };
        if connection.layers.is_some() && !self.seal_outbox(slot) {
            return;
        }
        let Some(connection) = self.slab.at(slot) else { return };
        let Connection { socket, outbox, flags, drained_s, .. } = connection;
        let Some(waiting) = outbox else { return };
        let drained = waiting.drain(|slices| write_slices(socket, slices));
        let written = match drained {
            Ok(written) => written,
            Err(error) => return self.close(slot, broken_reason(&error), 0),
        };
        let stats = self.stats.own();
        stats.outbox_bytes.fetch_sub(written as u64, Relaxed);
        ShardStats::count(&stats.written_bytes, written as u64);
        if written > 0 {
            *drained_s = now_s;
            if let Some(standing) = &mut waiting.standing {
                // More entered the kernel's queue: what was read of it says nothing any more.
                standing.unacked = None;
            }
        }
        let left = waiting.bytes();
        if left == 0
            && let Some(empty) = outbox.take()
        {
            if let Some(standing) = empty.standing {
                self.holders.remove(slot);
                if standing.is_ours {
                    kernel_judges(socket, self.limits.stall_s);
                }
            }
            self.pool.give(empty);
        }
        if flags.unwritable && left < self.options.outbox_low_bytes.max(1) {
            flags.unwritable = false;
            stats.unwritable.fetch_sub(1, Relaxed);
            if std::mem::take(&mut flags.unread) {
                self.list(slot);
            }
            self.pull(slot);
        }
        if left > 0 {
            self.stand(slot);
        }
    }

    /// The socket is full: from now on the connection is among the holders, and its kernel queue is looked at.
    pub(super) fn stand(&mut self, slot: u32) {
        let now_s = self.time.now_s();
        let Some(connection) = self.slab.at(slot) else { return };
        let Some(outbox) = connection.outbox.as_mut() else { return };
        if outbox.standing.is_none() {
            let is_ours = !self.judge.is_absent();
            outbox.standing = Some(Standing { since_s: now_s, unacked: None, asked_s: now_s, is_ours });
            if is_ours {
                shard_judges(&connection.socket, self.limits.stall_s);
            }
            self.holders.insert(slot);
            self.wheel.pull_in(&mut self.slab, slot, now_s + 1);
        }
    }

    /// When the kernel's queue of a stuck connection is to be read next; `None`: nothing stands there.
    pub(super) fn next_reading_s(&mut self, slot: u32) -> Option<u32> {
        let every_s = self.limits.stall_s.div_ceil(READINGS_PER_STALL);
        let connection = self.slab.at(slot)?;
        let standing = connection.outbox.as_ref()?.standing?;
        // The first reading comes a second after the last write: what comes later is compared with it.
        let due_s =
            if standing.unacked.is_some() { standing.asked_s + every_s } else { standing.asked_s + 1 };
        Some(due_s)
    }

    /// Asks what the kernel holds for a stuck connection. False: nobody can be asked now.
    pub(super) fn ask(&mut self, slot: u32) -> bool {
        let (now_s, from) = (self.time.now_s(), self.handle(slot));
        if self.judge.is_absent() || self.judge.is_busy() {
            return false;
        }
        let Some(connection) = self.slab.at(slot) else { return false };
        let (Ok(local), Ok(peer)) = (connection.socket.local_addr(), connection.socket.peer_addr()) else {
            return false;
        };
        let Some(standing) = connection.outbox.as_mut().and_then(|outbox| outbox.standing.as_mut()) else {
            return false;
        };
        let asked = self.judge.ask(Question { from, local, peer });
        if asked {
            standing.asked_s = now_s;
        }
        asked
    }

    /// The write-stall deadline of a connection came at `due_s`. True: it is not closed yet, its kernel queue is read first.
    pub(super) fn is_read_first(&mut self, slot: u32, due_s: u32) -> bool {
        let now_s = self.time.now_s();
        let asked_s = self.slab.at(slot).and_then(|connection| connection.outbox.as_ref()?.standing);
        match asked_s.map(|standing| standing.asked_s) {
            None => false,
            _ if self.judge.is_absent() || now_s >= due_s + READING_MAX_S => false,
            Some(asked_s) => {
                if asked_s < due_s {
                    self.ask(slot);
                }
                true
            }
        }
    }

    /// Compares what the kernel holds for stuck peers with what it held before.
    pub(super) fn take_readings(&mut self) {
        for _ in 0..READINGS_PER_TURN {
            let Some(reading) = self.queue.next_reading() else { return };
            self.take_reading(&reading);
        }
        self.commands_waiting = true;
    }

    fn take_reading(&mut self, reading: &Reading) {
        let (now_s, stall_s) = (self.time.now_s(), self.limits.stall_s);
        let Some(slot) = self.slab.find(reading.of) else { return };
        let Some(connection) = self.slab.at(slot) else { return };
        let Some(standing) = connection.outbox.as_mut().and_then(|outbox| outbox.standing.as_mut()) else {
            return;
        };
        let before = standing.unacked.replace(reading.unacked);
        let progress = before.is_some_and(|before| reading.unacked < before);
        // A peer that takes something, or answers and has no room, is judged here, and the kernel's deadline, which counts from the
        // first full window, is put far behind. One that does not answer is the kernel's: it knows since when, which may be long
        // before the socket was full.
        let is_ours = progress || !reading.unanswered;
        if standing.is_ours != is_ours {
            standing.is_ours = is_ours;
            match is_ours {
                true => shard_judges(&connection.socket, stall_s),
                false => kernel_judges(&connection.socket, stall_s),
            }
        }
        if progress {
            connection.drained_s = now_s;
            ShardStats::count(&self.stats.own().slow_progress, 1);
            return;
        }
        let due_s = connection.drained_s + stall_s;
        if standing.asked_s >= due_s && now_s >= due_s {
            self.close(slot, CloseReason::WriteStall, 0);
        }
    }

    /// Asks the store for more where a source is behind and there is room.
    pub(super) fn pull(&mut self, slot: u32) {
        let from = handle(self.id, slot, &self.slab);
        let Some(connection) = self.slab.at(slot) else { return };
        if connection.flags.unwritable {
            return;
        }
        let app = connection.app;
        if connection.topical().is_some_and(|topical| topical.burden.is_some()) {
            self.send_queued(slot);
        }
        let Some(connection) = self.slab.at(slot) else { return };
        let Some((client, deliveries)) = connection.deliveries() else { return };
        while let Some(pull) = deliveries.pull() {
            let ahead = deliveries.ahead(pull.source).collect();
            self.outlet.tell(Event::Pull { from, client, app, pull, ahead });
        }
    }

    /// The session's window is not empty: the ack deadline counts from now if it did not already.
    pub(super) fn await_ack(&mut self, slot: u32) {
        let now_s = self.time.now_s();
        let Some(connection) = self.slab.at(slot) else { return };
        if !connection.flags.waits_for_ack {
            connection.flags.waits_for_ack = true;
            connection.window_s = now_s;
            self.wheel.pull_in(&mut self.slab, slot, now_s + self.limits.ack_s);
        }
    }
}
