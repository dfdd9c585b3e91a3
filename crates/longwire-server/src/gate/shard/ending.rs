//! How connections end: deadlines, closing with a named reason, and the stop of the shard.

use super::Shard;
use super::layered::seal_outbox;
use crate::delivery::border::{Closed, Event, Handle, SILENCE_GRACE_S};
use crate::domain::{AppId, Position};
use crate::gate::connection::{Connection, Conversation, write_slices};
use crate::gate::stats::ShardStats;
use longwire_proto::close::CloseReason;
use longwire_proto::id::ClientId;
use longwire_proto::session::mqtt::{Ending, reason_of};
use longwire_proto::wire::mqtt::Reason;
use longwire_proto::wire::{Refusal, ServerFrame};
use std::io::{IoSlice, Read};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// How long a device that was told to go may still take what is on its way to it, and ack it.
const GOODBYE_MAX: Duration = Duration::from_secs(2);
/// Devices of one shard that are told to go in a second, where the drain has time for more.
const GOAWAYS_PER_S: u64 = 500;
/// Random part of the delay that a GOAWAY asks for, milliseconds; the drain itself is what spreads the devices.
const GOAWAY_JITTER_MS: u64 = 1000;

/// Connections that a shard ends in one turn because their deadline has come, a dozen microseconds and four system calls each: a crowd that
/// came together comes due together.
const CLOSINGS_PER_TURN: usize = 64;

/// A stop under way.
#[derive(Clone, Copy)]
pub(super) struct Stopping {
    began: Instant,
    spread: Duration,
    until: Instant,
    /// Slots below were told.
    told: u32,
    /// Slots below are closed.
    done: u32,
}

impl Shard {
    /// Once a second: looks at the connections whose deadline may have come.
    pub(super) fn tick(&mut self) {
        let mut due = std::mem::take(&mut self.scratch.due);
        let now_s = self.time.now_s();
        let before = self.wheel.now_s();
        self.wheel.advance(&mut self.slab, now_s, &mut due);
        // Those of an earlier second that are still not ended go first; others are looked at again in a second.
        let (none_waits, mut closed) = (self.overdue.is_empty(), 0);
        for slot in due.drain(..) {
            let Some(connection) = self.slab.at(slot) else { continue };
            let (due_s, reason) = connection.deadline(&self.limits);
            let mut look_s = self.next_reading_s(slot);
            if self.still_paused(slot) {
                look_s = Some(look_s.map_or(now_s + 1, |look_s| look_s.min(now_s + 1)));
            }
            // Out of the wheel now, in again before anything else: closing unlinks it.
            self.wheel.insert(&mut self.slab, slot, look_s.map_or(due_s, |look_s| look_s.min(due_s)));
            if due_s > now_s {
                self.look(slot, look_s);
            } else if reason == CloseReason::WriteStall {
                if !self.is_read_first(slot, due_s) {
                    self.close(slot, reason, 0);
                }
            } else if closed < CLOSINGS_PER_TURN {
                closed += 1;
                self.close(slot, reason, 0);
            } else if none_waits {
                self.overdue.push_back(self.handle(slot));
            }
        }
        self.scratch.due = due;
        if before != now_s {
            self.retry_failed_pages();
            self.tell_turned_away(now_s);
            self.scan_some();
            self.count_holders();
            self.shed_heaviest();
        }
    }

    /// Ends more of the connections whose deadline has come.
    pub(super) fn close_overdue(&mut self) {
        for _ in 0..CLOSINGS_PER_TURN {
            let Some(handle) = self.overdue.pop_front() else { return };
            let Some(slot) = self.slab.find(handle) else { continue };
            let Some(connection) = self.slab.at(slot) else { continue };
            let (due_s, reason) = connection.deadline(&self.limits);
            // What has stalled meanwhile is judged by the next tick.
            if due_s <= self.time.now_s() && reason != CloseReason::WriteStall {
                self.close(slot, reason, 0);
            }
        }
    }

    /// Reads a stuck connection's kernel queue if it is time to.
    fn look(&mut self, slot: u32, look_s: Option<u32>) {
        let now_s = self.time.now_s();
        if look_s.is_some_and(|look_s| look_s <= now_s)
            && self.ask(slot)
            && let Some(next_s) = self.next_reading_s(slot)
        {
            self.wheel.pull_in(&mut self.slab, slot, next_s);
        }
    }

    /// Ends a connection: says why if the socket takes it, forgets it everywhere, tells the hub if it had begun to log
    /// in.
    pub(super) fn close(&mut self, slot: u32, reason: CloseReason, retry_after_s: u16) {
        self.end(slot, reason, retry_after_s, None);
    }

    /// The same; `said`: what an MQTT client is told, if not the usual word for `reason`.
    pub(super) fn end(&mut self, slot: u32, reason: CloseReason, retry_after_s: u16, said: Option<Reason>) {
        let from = self.handle(slot);
        let Some(mut connection) = self.slab.remove(slot) else { return };
        self.wheel.unlink(&mut self.slab, connection.link);
        let awaiting = connection.is_awaiting();
        self.door.left(&connection, awaiting, self.stats.own());
        let stats = self.stats.own();
        stats.connections.store(self.slab.len() as u64, Relaxed);
        ShardStats::count(&stats.closed[reason], 1);
        if connection.flags.unwritable {
            stats.unwritable.fetch_sub(1, Relaxed);
        }
        stats.outbox_bytes.fetch_sub(connection.outbox_bytes() as u64, Relaxed);
        if connection.is_deciding() {
            stats.deciding.fetch_sub(1, Relaxed);
            ShardStats::count(&stats.decided, 1);
        }
        let (labelled, capped) = (connection.flags.labelled, connection.flags.capped);
        let (client, sent, unacked) = match connection.deliveries() {
            Some((client, deliveries)) => {
                let unacked = deliveries.unacked().filter(|delivery| delivery.gap.is_none());
                let unacked = unacked.map(|delivery| delivery.message).collect();
                (Some(client), deliveries.sent_until(), unacked)
            }
            None => (None, [Position::START; 2], Vec::new()),
        };
        if client.is_some() {
            stats.sessions.fetch_sub(1, Relaxed);
            self.members.leave(connection.app, slot, labelled);
            if capped {
                self.frequencies.remove(&slot);
            }
        }
        let will = self.leave_topics(slot, from, &mut connection);
        if !awaiting {
            let lived_s = self.time.now_s() - connection.accepted_s;
            let (app, shared) = (connection.app, connection.flags.shared);
            let closed = Closed { from, client, app, reason, sent, unacked, shared, lived_s, will };
            self.outlet.tell(Event::Closed(Box::new(closed)));
        }
        if !matches!(reason, CloseReason::PeerClosed | CloseReason::PeerLost) {
            // Before login every end is a refusal, and says when to come again if coming again can help.
            let unsaid = client.is_none() && retry_after_s == 0 && reason.may_retry();
            let retry_after_s = if unsaid { self.door.admission.retry_soon_s() } else { retry_after_s };
            let said = said.unwrap_or(reason_of(reason));
            self.say_goodbye(&mut connection, client, Refusal { reason, retry_after_s }, said);
        }
        if let Some(outbox) = connection.outbox.take() {
            if outbox.standing.is_some() {
                self.holders.remove(slot);
            }
            self.pool.give(outbox);
        }
    }

    /// A newer connection of the device waits: a connection that the peer has left is not given its whole idle limit.
    pub(super) fn end_if_silent(&mut self, to: Handle, client: ClientId, app: AppId) {
        let Some(slot) = self.slab.find(to) else {
            // The hub believes in a connection that is gone.
            let (reason, unacked) = (CloseReason::PeerLost, Vec::new());
            let closed = Closed {
                from: to,
                client: Some(client),
                app,
                reason,
                sent: [Position(u64::MAX); 2],
                unacked,
                shared: false,
                lived_s: 0,
                will: None,
            };
            return self.outlet.tell(Event::Closed(Box::new(closed)));
        };
        let now_s = self.time.now_s();
        let Some(connection) = self.slab.at(slot) else { return };
        let Some(heartbeat_s) = connection.heartbeat_s() else { return };
        if now_s - connection.read_s > heartbeat_s + SILENCE_GRACE_S {
            self.close(slot, CloseReason::Idle, 0);
        }
    }

    fn say_goodbye(
        &mut self,
        connection: &mut Connection,
        client: Option<ClientId>,
        refusal: Refusal,
        said: Reason,
    ) {
        if seal_outbox(connection, &mut self.scratch.layers).is_err() {
            return;
        }
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
        match (&connection.conversation, client) {
            (Conversation::Mqtt(live), _) => {
                live.session.end(Ending { reason: said, close: refusal.reason }, &mut frame);
            }
            (Conversation::MqttDeciding(waiting), _) => waiting.deciding.refuse(said, &mut frame),
            (Conversation::MqttAwaiting(awaiting), _) => awaiting.refuse(said, &mut frame),
            (_, Some(client)) => ServerFrame::Close(refusal).encode(client, &mut frame),
            (_, None) => ServerFrame::Refusal(refusal).encode(ClientId(0), &mut frame),
        }
        let last = match &mut connection.layers {
            None => &frame,
            Some(layers) => {
                layers.end(&frame, refusal.reason, &mut self.scratch.layers);
                &self.scratch.layers.wire
            }
        };
        if !last.is_empty() {
            let _ = write_slices(&mut connection.socket, &[IoSlice::new(last)]);
        }
        let _ = connection.socket.shutdown(std::net::Shutdown::Write);
    }

    /// Stops accepting. Devices are told one by one over `spread`; each is closed when nothing is on its way to it any more,
    /// at the latest [`GOODBYE_MAX`] after it was told.
    pub(super) fn begin_stop(&mut self, spread: Duration, patience: Duration) {
        self.shut_door();
        let now = Instant::now();
        // Few devices need no spread, and the last one told must have time to go.
        let enough = Duration::from_millis(u64::from(self.slab.end()) * 1000 / GOAWAYS_PER_S);
        let spread = spread.min(enough).min(patience.saturating_sub(GOODBYE_MAX));
        self.stopping = Some(Stopping { began: now, spread, until: now + patience, told: 0, done: 0 });
    }

    /// Whether the shard has been told to stop and may: everybody was told and is gone, or the patience is over.
    pub(super) fn is_over(&self) -> bool {
        let Some(stopping) = &self.stopping else { return false };
        let done = stopping.done >= self.slab.end() && !self.has_turned_away();
        done || Instant::now() >= stopping.until
    }

    /// Goes on with a stop: tells those whose time has come, closes those who are done.
    pub(super) fn go_on_stopping(&mut self) {
        let Some(mut stopping) = self.stopping else { return };
        let (end, elapsed) = (self.slab.end(), stopping.began.elapsed());
        let share = elapsed.as_secs_f64() / stopping.spread.as_secs_f64().max(0.000_001);
        let due = if share >= 1.0 { end } else { (f64::from(end) * share) as u32 };
        for slot in stopping.told..due {
            self.tell_to_go(slot);
        }
        stopping.told = stopping.told.max(due);
        // Slots are told in order, so those told longest ago come first.
        let slot_s = stopping.spread.as_secs_f64() / f64::from(end.max(1));
        while stopping.done < stopping.told {
            let told_for = elapsed.as_secs_f64() - f64::from(stopping.done) * slot_s;
            let waits = self
                .slab
                .at(stopping.done)
                .is_some_and(|connection| connection.outbox.is_some() || connection.flags.waits_for_ack);
            if waits && told_for < GOODBYE_MAX.as_secs_f64() {
                break;
            }
            self.close(stopping.done, CloseReason::Draining, 0);
            stopping.done += 1;
        }
        self.stopping = Some(stopping);
    }

    fn tell_to_go(&mut self, slot: u32) {
        let Some(session) = self.slab.at(slot).and_then(Connection::live) else { return };
        let client = session.client();
        // A multiplicative hash of the client id: even over the jitter, and needs no source of randomness.
        let after_ms = (client.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % GOAWAY_JITTER_MS;
        self.scratch.reply.clear();
        ServerFrame::GoAway { after_ms: after_ms as u32, to: "" }.encode(client, &mut self.scratch.reply);
        self.reply(slot);
    }

    pub(super) fn close_all(&mut self, reason: CloseReason) {
        for slot in 0..self.slab.end() {
            self.close(slot, reason, 0);
        }
    }
}
