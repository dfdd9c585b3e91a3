//! Bytes from devices: one shared buffer, for whatever conversation the connection has.

use super::Shard;
use super::mqtt::CONNECT;
use crate::domain::WallMs;
use crate::gate::connection::{Connection, Conversation, ReadOutcome, broken_reason, read_once};
use crate::gate::stats::{HEARTBEAT_BUCKETS_US, ShardStats};
use crate::store::port::End;
use longwire_proto::close::CloseReason;
use longwire_proto::session::{Pace, Settled};

/// Full buffers read from one connection before the others have their turn.
const READS_PER_TURN: usize = 4;
/// Connections read again without a new epoll event, in one turn.
const LISTED_PER_TURN: usize = 256;
/// What a device that sent far too much is asked to wait, seconds (LIMITS 7.1).
pub(super) const RETRY_AFTER_RATE_S: u16 = 60;

impl Shard {
    /// Epoll says that a connection's socket changed. One rule for its edges: a short read means drained, and whatever
    /// else ends a reading early leaves the connection in the list.
    pub(super) fn socket_ready(&mut self, slot: u32, event: &mio::event::Event) {
        if event.is_writable() && self.slab.at(slot).is_some_and(|connection| connection.outbox.is_some()) {
            self.flush(slot);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            if self.outlet.is_backed_up() {
                self.list(slot);
            } else {
                self.read(slot, event.is_read_closed() || event.is_error());
            }
            if event.is_read_closed() {
                self.half_closed(slot);
            }
        }
    }

    /// The peer has ended its side and the connection is still here: it is not read now, or not to its end. Reading on may find
    /// the end; otherwise the deadline does.
    fn half_closed(&mut self, slot: u32) {
        let now_s = self.time.now_s();
        let Some(connection) = self.slab.at(slot) else { return };
        if !connection.flags.half_closed {
            connection.flags.half_closed = true;
            connection.frame_s = now_s;
            let due_s = connection.deadline(&self.limits).0;
            self.wheel.pull_in(&mut self.slab, slot, due_s);
        }
    }

    pub(super) fn read_listed(&mut self) {
        for _ in 0..self.unread.len().min(LISTED_PER_TURN) {
            if self.outlet.is_backed_up() {
                return;
            }
            let Some(slot) = self.unread.pop_front() else { return };
            let Some(connection) = self.slab.at(slot) else { continue };
            // A slot may have a new owner since it was listed; reading that one early does no harm.
            connection.flags.listed = false;
            self.read(slot, true);
        }
    }

    /// Puts a connection into the list of those to read without a new epoll event.
    pub(super) fn list(&mut self, slot: u32) {
        if let Some(connection) = self.slab.at(slot)
            && !connection.flags.listed
        {
            connection.flags.listed = true;
            self.unread.push_back(slot);
        }
    }

    /// `to_the_end`: there may be an end or an error behind the bytes, so a short read does not mean drained.
    fn read(&mut self, slot: u32, to_the_end: bool) {
        for _ in 0..READS_PER_TURN {
            let Some(connection) = self.slab.at(slot) else { return };
            let flags = &connection.flags;
            if connection.awaits_hub() || flags.unwritable || flags.paused || flags.queued {
                // Not read now: back-pressure (002-19), a brake, a queue, or the hub is asked. A peer that has gone is let go.
                connection.flags.unread = true;
                if to_the_end && let Some(reason) = end_of(connection) {
                    self.close(slot, reason, 0);
                }
                return;
            }
            connection.flags.unread = false;
            if self.fanout.is_full() && connection.topical().is_some() {
                // What it publishes would have nowhere to wait.
                break;
            }
            match read_once(&mut connection.socket, &mut self.scratch.read) {
                ReadOutcome::Bytes(count) => {
                    if connection.flags.layered {
                        self.arrived(slot, count);
                    } else {
                        self.received(slot, count);
                    }
                    if count < self.scratch.read.len() && !to_the_end {
                        return;
                    }
                }
                ReadOutcome::Drained => return,
                ReadOutcome::Ended => return self.close(slot, CloseReason::PeerClosed, 0),
                ReadOutcome::Broken(reason) => return self.close(slot, reason, 0),
            }
            if self.outlet.is_backed_up() {
                break;
            }
        }
        self.list(slot);
    }

    /// So many bytes of the conversation are in the scratch.
    pub(super) fn received(&mut self, slot: u32, count: usize) {
        ShardStats::count(&self.stats.own().read_bytes, count as u64);
        let now_s = self.time.now_s();
        let Some(connection) = self.slab.at(slot) else { return };
        connection.read_s = now_s;
        if connection.is_awaiting() && self.scratch.read[0] == CONNECT {
            self.speaks_mqtt(slot);
        }
        let Some(connection) = self.slab.at(slot) else { return };
        let outcome = match connection.conversation {
            Conversation::Live(_) | Conversation::AwaitingRights(_) | Conversation::Topics(_) => {
                // Messages go out to others while these bytes are gone through.
                let read = std::mem::take(&mut self.scratch.read);
                let outcome = self.received_frames(slot, &read[..count]);
                self.scratch.read = read;
                outcome
            }
            Conversation::Awaiting(_) => self.received_login(slot, count),
            Conversation::Mqtt(_) | Conversation::MqttAwaiting(_) => {
                return self.received_mqtt(slot, count);
            }
            Conversation::Deciding(_) | Conversation::MqttDeciding(_) | Conversation::Over => Ok(()),
        };
        self.frames_taken(slot, outcome);
    }

    fn received_mqtt(&mut self, slot: u32, count: usize) {
        let outcome = if self.slab.at(slot).is_some_and(|connection| connection.is_awaiting()) {
            self.received_mqtt_login(slot, count)
        } else {
            // Messages go out to others while these bytes are gone through.
            let read = std::mem::take(&mut self.scratch.read);
            let outcome = self.received_packets(slot, &read[..count]);
            self.scratch.read = read;
            outcome
        };
        if let Err(ending) = outcome {
            return self.end(slot, ending.close, 0, Some(ending.reason));
        }
        self.watch_frame(slot);
        self.brake(slot);
    }

    /// So many heartbeats of one read are answered: counted by how long they waited in this turn.
    pub(super) fn record_heartbeats(&mut self, count: u64) {
        let us = self.turn_began.elapsed().as_micros() as u64;
        let stats = self.stats.own();
        let bucket = HEARTBEAT_BUCKETS_US.iter().position(|bound| us <= *bound);
        ShardStats::count(&stats.heartbeats, count);
        ShardStats::count(&stats.heartbeat_us[bucket.unwrap_or(HEARTBEAT_BUCKETS_US.len())], count);
        ShardStats::count(&stats.heartbeat_us_sum, us * count);
    }

    /// A device that sent too much is not read until it has caught up.
    pub(super) fn brake(&mut self, slot: u32) {
        let (now, now_s) = (self.time.now(), self.time.now_s());
        let Some(connection) = self.slab.at(slot) else { return };
        match connection.rate.pace(now, &self.options.inbound) {
            Pace::Within => {}
            Pace::Ahead => {
                connection.flags.paused = true;
                ShardStats::count(&self.stats.own().inbound_pauses, 1);
                self.wheel.pull_in(&mut self.slab, slot, now_s + 1);
            }
            Pace::FarAhead => self.close(slot, CloseReason::InboundRate, RETRY_AFTER_RATE_S),
        }
    }

    /// Whether a paused connection must wait on; one that has caught up is read again.
    pub(super) fn still_paused(&mut self, slot: u32) -> bool {
        let now = self.time.now();
        let Some(connection) = self.slab.at(slot) else { return false };
        if !connection.flags.paused || connection.rate.pace(now, &self.options.inbound) != Pace::Within {
            return connection.flags.paused;
        }
        connection.flags.paused = false;
        self.list(slot);
        false
    }

    /// Starts or ends the deadline of an unfinished frame.
    pub(super) fn watch_frame(&mut self, slot: u32) {
        let now_s = self.time.now_s();
        let Some(connection) = self.slab.at(slot) else { return };
        let held = match &connection.conversation {
            Conversation::Mqtt(live) => live.assembler.held_bytes(),
            // Before login its own deadline is shorter.
            other => other.seen_native().map_or(0, |session| session.held_bytes()),
        };
        let begun = connection.layers.as_ref().is_some_and(|layers| layers.is_under_way());
        let live = connection.heartbeat_s().is_some();
        if held == 0 && !(begun && live) {
            connection.flags.in_frame = false;
        } else if !connection.flags.in_frame && !connection.flags.half_closed {
            connection.flags.in_frame = true;
            connection.frame_s = now_s;
            self.wheel.pull_in(&mut self.slab, slot, now_s + self.limits.frame_s);
        }
    }
}

/// How a delivery ended that the device settled.
pub(super) fn end_of_delivery(settled: &Settled) -> End {
    settled.gap.map_or(End::Delivered, End::GapNoted)
}

/// When it was sent: its stamp is the end of the wall clock's number then. What cannot be is told as now.
pub(super) fn sent_at(now: WallMs, settled: &Settled) -> WallMs {
    if settled.sent_ms == 0 {
        return WallMs(0);
    }
    let ago_ms = (now.0 as u32).wrapping_sub(settled.sent_ms);
    if ago_ms > u32::MAX / 2 { now } else { WallMs(now.0.saturating_sub(u64::from(ago_ms))) }
}

/// Why the connection is over, if the peer has closed or it broke, without taking bytes off the socket. Bytes that wait in front
/// of an end hide it from a look at the first byte; then it is found when they are read, or by its deadline.
fn end_of(connection: &mut Connection) -> Option<CloseReason> {
    let mut byte = [0; 1];
    match connection.socket.peek(&mut byte) {
        Ok(0) => Some(CloseReason::PeerClosed),
        Ok(_) => None,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => None,
        Err(error) => Some(broken_reason(&error)),
    }
}
