//! Bytes to devices. A frame goes straight to the socket when nothing waits before it; an outbox exists only while the
//! socket is full or several frames of one turn wait for their common write.

use super::Shard;
use crate::delivery::border::Event;
use crate::gate::connection::{Connection, Conversation, Piece, handle, write_slices};
use crate::gate::stats::ShardStats;
use bytes::Bytes;
use longwire_proto::close::CloseReason;
use std::io::IoSlice;
use std::sync::atomic::Ordering::Relaxed;

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
        let offered: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut written = 0;
        if connection.outbox.is_none() {
            match write_slices(&mut connection.socket, slices) {
                Ok(taken) => written = taken,
                Err(_) => return self.close(slot, CloseReason::PeerLost, 0),
            }
            ShardStats::count(&self.stats.own().written_bytes, written as u64);
            if written == offered {
                return;
            }
        }
        for piece in rest(written) {
            self.queue_piece(slot, piece);
        }
    }

    /// Puts a frame into the outbox, to leave with the turn's other frames in one write.
    pub(super) fn send_later(&mut self, slot: u32, piece: Piece) {
        self.queue_piece(slot, piece);
        if let Some(connection) = self.slab.at(slot)
            && !connection.flags.dirty
        {
            connection.flags.dirty = true;
            self.dirty.push(slot);
        }
    }

    fn queue_piece(&mut self, slot: u32, piece: Piece) {
        let now_s = self.time.now_s();
        let Some(connection) = self.slab.at(slot) else { return };
        let is_new = connection.outbox.is_none();
        let outbox = connection.outbox.get_or_insert_with(|| self.pool.take());
        let length = piece.len();
        outbox.push(piece);
        let bytes = outbox.bytes();
        self.stats.own().outbox_bytes.fetch_add(length as u64, Relaxed);
        if bytes > self.options.outbox_high_bytes && !connection.flags.unwritable {
            connection.flags.unwritable = true;
            ShardStats::count(&self.stats.own().unwritable, 1);
        }
        if is_new {
            connection.drained_s = now_s;
            self.wheel.pull_in(&mut self.slab, slot, now_s + self.limits.stall_s);
        }
    }

    pub(super) fn flush_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            if let Some(connection) = self.slab.at(slot)
                && std::mem::take(&mut connection.flags.dirty)
            {
                self.flush(slot);
            }
        }
        self.dirty = dirty;
    }

    /// Writes what waits, as far as the socket takes it.
    pub(super) fn flush(&mut self, slot: u32) {
        let now_s = self.time.now_s();
        let Some(connection) = self.slab.at(slot) else { return };
        let Connection { socket, outbox, flags, drained_s, .. } = connection;
        let Some(waiting) = outbox else { return };
        let drained = waiting.drain(|slices| write_slices(socket, slices));
        let Ok(written) = drained else { return self.close(slot, CloseReason::PeerLost, 0) };
        let stats = self.stats.own();
        stats.outbox_bytes.fetch_sub(written as u64, Relaxed);
        ShardStats::count(&stats.written_bytes, written as u64);
        if written > 0 {
            *drained_s = now_s;
        }
        let left = waiting.bytes();
        if left == 0
            && let Some(empty) = outbox.take()
        {
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
    }

    /// Asks the store for more where a source is behind and there is room.
    pub(super) fn pull(&mut self, slot: u32) {
        let from = handle(self.id, slot, &self.slab);
        let Some(connection) = self.slab.at(slot) else { return };
        if connection.flags.unwritable {
            return;
        }
        let app = connection.app;
        let Conversation::Live(session) = &mut connection.conversation else { return };
        let client = session.client();
        while let Some(pull) = session.deliveries().pull() {
            self.outlet.tell(Event::Pull { from, client, app, pull });
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
