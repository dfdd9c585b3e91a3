//! How connections end: deadlines, closing with a named reason, and the stop of the shard.

use super::Shard;
use crate::delivery::border::{Closed, Event, Handle, SILENCE_GRACE_S};
use crate::domain::AppId;
use crate::gate::connection::{Connection, Conversation, write_slices};
use crate::gate::stats::ShardStats;
use longwire_proto::close::CloseReason;
use longwire_proto::id::ClientId;
use longwire_proto::wire::{Refusal, ServerFrame};
use std::io::{IoSlice, Read};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

impl Shard {
    /// Once a second: looks at the connections whose deadline may have come.
    pub(super) fn tick(&mut self) {
        let mut due = std::mem::take(&mut self.scratch.due);
        let now_s = self.time.now_s();
        let before = self.wheel.now_s();
        self.wheel.advance(&mut self.slab, now_s, &mut due);
        for slot in due.drain(..) {
            let Some(connection) = self.slab.at(slot) else { continue };
            let (due_s, reason) = connection.deadline(&self.limits);
            // Out of the wheel now, in again before anything else: closing unlinks it.
            self.wheel.insert(&mut self.slab, slot, due_s);
            if due_s <= now_s {
                self.close(slot, reason, 0);
            }
        }
        self.scratch.due = due;
        if before != now_s {
            self.retry_failed_pages();
        }
    }

    /// Ends a connection: says why if the socket takes it, forgets it everywhere, tells the hub if it had begun to log
    /// in.
    pub(super) fn close(&mut self, slot: u32, reason: CloseReason, retry_after_s: u16) {
        let from = self.handle(slot);
        let Some(mut connection) = self.slab.remove(slot) else { return };
        self.wheel.unlink(&mut self.slab, connection.link);
        self.door.left();
        let stats = self.stats.own();
        stats.connections.store(self.slab.len() as u64, Relaxed);
        ShardStats::count(&stats.closed[reason.index()], 1);
        if connection.flags.unwritable {
            stats.unwritable.fetch_sub(1, Relaxed);
        }
        stats.outbox_bytes.fetch_sub(connection.outbox_bytes() as u64, Relaxed);
        let (client, unacked) = match &connection.conversation {
            Conversation::Live(session) => {
                stats.sessions.fetch_sub(1, Relaxed);
                self.members.leave(connection.app, slot, connection.flags.tagged);
                let unacked = session.unacked().filter(|delivery| !delivery.gap);
                (Some(session.client()), unacked.map(|delivery| delivery.message).collect())
            }
            _ => (None, Vec::new()),
        };
        if !matches!(connection.conversation, Conversation::Awaiting(_)) {
            let lived_s = self.time.now_s() - connection.accepted_s;
            let app = connection.app;
            self.outlet.tell(Event::Closed(Box::new(Closed { from, client, app, reason, unacked, lived_s })));
        }
        if !matches!(reason, CloseReason::PeerClosed | CloseReason::PeerLost) {
            self.say_goodbye(&mut connection, client, Refusal { reason, retry_after_s });
        }
        if let Some(outbox) = connection.outbox.take() {
            self.pool.give(outbox);
        }
    }

    /// A newer connection of the device waits: a connection that the peer has left is not given its whole idle limit.
    pub(super) fn end_if_silent(&mut self, to: Handle, client: ClientId, app: AppId) {
        let Some(slot) = self.slab.find(to) else {
            // The hub believes in a connection that is gone.
            let (reason, unacked) = (CloseReason::PeerLost, Vec::new());
            let closed = Closed { from: to, client: Some(client), app, reason, unacked, lived_s: 0 };
            return self.outlet.tell(Event::Closed(Box::new(closed)));
        };
        let now_s = self.time.now_s();
        let Some(connection) = self.slab.at(slot) else { return };
        let read_s = connection.read_s;
        let Some(session) = connection.live() else { return };
        if now_s - read_s > session.heartbeat_s() + SILENCE_GRACE_S {
            self.close(slot, CloseReason::Idle, 0);
        }
    }

    fn say_goodbye(&mut self, connection: &mut Connection, client: Option<ClientId>, refusal: Refusal) {
        if connection.outbox.as_mut().is_some_and(|outbox| {
            let drained = outbox.drain(|slices| write_slices(&mut connection.socket, slices));
            drained.is_err() || outbox.bytes() > 0
        }) {
            // A frame is half written: anything after it would not be a frame.
            return;
        }
        // Closing over unread bytes would reset the connection and could destroy the answer on its way.
        let _ = connection.socket.read(&mut self.scratch.read);
        let mut frame = Vec::with_capacity(64);
        match client {
            Some(client) => ServerFrame::Close(refusal).encode(client, &mut frame),
            None => ServerFrame::Refusal(refusal).encode(ClientId(0), &mut frame),
        }
        let _ = write_slices(&mut connection.socket, &[IoSlice::new(&frame)]);
        let _ = connection.socket.shutdown(std::net::Shutdown::Write);
    }

    /// Stops accepting and tells every device to come back after a time of its own within `spread`.
    pub(super) fn begin_stop(&mut self, spread: Duration, patience: Duration) {
        self.door.shut();
        self.stopping = Some(Instant::now() + patience);
        let spread_ms = spread.as_millis().max(1) as u64;
        for slot in 0..self.slab.end() {
            let Some(session) = self.slab.at(slot).and_then(Connection::live) else { continue };
            let client = session.client();
            // A multiplicative hash of the client id: even over the spread, and needs no source of randomness.
            let after_ms = (client.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % spread_ms;
            self.scratch.reply.clear();
            ServerFrame::GoAway { after_ms: after_ms as u32, to: "" }.encode(client, &mut self.scratch.reply);
            self.reply(slot);
        }
    }

    /// Whether the shard has been told to stop and may: nothing waits in outboxes, nobody owes an ack, or the patience is
    /// over.
    pub(super) fn is_over(&mut self) -> bool {
        let Some(until) = self.stopping else { return false };
        if Instant::now() >= until {
            return true;
        }
        (0..self.slab.end()).all(|slot| {
            self.slab
                .at(slot)
                .is_none_or(|connection| connection.outbox.is_none() && !connection.flags.waits_for_ack)
        })
    }

    pub(super) fn close_all(&mut self, reason: CloseReason) {
        for slot in 0..self.slab.end() {
            self.close(slot, reason, 0);
        }
    }
}
