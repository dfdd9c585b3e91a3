//! Connections with layers between socket and conversation (`gate::transport`), and new ones of which that is not known yet. A
//! conversation sees plain bytes in the scratch, whatever they came through.

use super::Shard;
use crate::delivery::border::Handle;
use crate::gate::admission::Rejection;
use crate::gate::connection::{Connection, HANDSHAKE_S, Outbox, Piece, broken_reason, write_slices};
use crate::gate::stats::ShardStats;
use crate::gate::transport::{CONTROLS_INTERVAL_S, HandshakeTurn, LayerBuffers, Layers};
use bytes::Bytes;
use longwire_proto::close::CloseReason;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::atomic::Ordering::Relaxed;

/// TLS handshakes begun in one turn: about a millisecond of work each, which heartbeats wait for.
const HANDSHAKES_PER_TURN: usize = 8;
/// Handshakes that may wait for their turn, over all shards, each its share; beyond it the newest is refused with `full`.
const HANDSHAKES_WAITING_MAX: usize = 1024;

/// TLS handshakes that are to begin.
#[derive(Default)]
pub(super) struct Handshakes {
    /// In this turn.
    begun: usize,
    waiting: VecDeque<Handle>,
}

impl Handshakes {
    fn may_begin(&self) -> bool {
        self.begun < HANDSHAKES_PER_TURN
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Shard {
    /// `count` bytes of a connection that is new or has layers are in the scratch.
    pub(super) fn arrived(&mut self, slot: u32, count: usize) {
        let now_s = self.time.now_s();
        let Some(connection) = self.slab.at(slot) else { return };
        let terms = &self.options.listeners[usize::from(connection.flags.listener)];
        if connection.layers.is_none() && terms.goes_straight(&self.scratch.read[..count]) {
            connection.flags.layered = false;
            return self.received(slot, count);
        }
        let layers = connection.layers.get_or_insert_with(|| Box::new(Layers::new(false)));
        if connection.read_s / CONTROLS_INTERVAL_S != now_s / CONTROLS_INTERVAL_S {
            layers.begin_interval();
        }
        connection.read_s = now_s;
        let (was_handshaking, had_origin) = (layers.is_handshaking(), layers.origin().is_some());
        let had_begun = layers.has_begun_tls();
        let turn = if self.handshakes.may_begin() { HandshakeTurn::Now } else { HandshakeTurn::Later };
        let read = &mut self.scratch.read[..count];
        let ended = layers.receive(read, turn, terms, &mut self.scratch.layers);
        let (handshaking, waits) = (layers.is_handshaking(), layers.waits_for_tls());
        let origin = layers.origin().filter(|_| !had_origin);
        if !had_begun && layers.has_begun_tls() {
            self.handshakes.begun += 1;
            ShardStats::count(&self.stats.own().handshakes, 1);
        }
        if !was_handshaking && (handshaking || waits) {
            let due_s = connection.accepted_s + self.limits.login_s.min(HANDSHAKE_S);
            self.wheel.pull_in(&mut self.slab, slot, due_s);
        }
        if !self.scratch.layers.wire.is_empty() {
            self.send_wire(slot);
        }
        if let Some(origin) = origin
            && let Err(rejection) = self.move_to(slot, origin.ip())
        {
            self.hear_version(slot);
            return self.turn_out(slot, rejection);
        }
        let plain_bytes = self.hand_over(slot, count);
        match ended {
            Some(reason) => self.close(slot, reason, 0),
            None if waits => self.queue_handshake(slot),
            None => {
                self.watch_frame(slot);
                if plain_bytes == 0 {
                    self.brake(slot);
                }
            }
        }
    }

    /// A handshake waits for its turn; where too many wait already the newest is refused.
    fn queue_handshake(&mut self, slot: u32) {
        let (handle, queue_max) = (self.handle(slot), HANDSHAKES_WAITING_MAX / self.options.shards.max(1));
        if self.handshakes.waiting.len() >= queue_max {
            return self.turn_out(slot, Rejection::Handshakes);
        }
        if let Some(connection) = self.slab.at(slot) {
            connection.flags.queued = true;
            self.handshakes.waiting.push_back(handle);
            self.tell_handshakes();
        }
    }

    /// Begins handshakes that waited, as many as this turn has left.
    pub(super) fn begin_handshakes(&mut self) {
        self.handshakes.begun = 0;
        while self.handshakes.may_begin() {
            let Some(handle) = self.handshakes.waiting.pop_front() else { return };
            self.tell_handshakes();
            let Some(slot) = self.slab.find(handle) else { continue };
            let Some(connection) = self.slab.at(slot) else { continue };
            connection.flags.queued = false;
            let unread = std::mem::take(&mut connection.flags.unread);
            self.arrived(slot, 0);
            if unread {
                self.list(slot);
            }
        }
    }

    fn tell_handshakes(&self) {
        self.stats.own().handshakes_waiting.store(self.handshakes.waiting.len() as u64, Relaxed);
    }

    /// The session's bytes take the place of those that were read; how many they are. What the layers took counts against the
    /// device's rate too, so that frames without content are not free.
    fn hand_over(&mut self, slot: u32, count: usize) -> usize {
        let plain_bytes = self.scratch.layers.plain.len();
        let taken = count.saturating_sub(plain_bytes);
        ShardStats::count(&self.stats.own().read_bytes, taken as u64);
        if let Some(connection) = self.slab.at(slot)
            && connection.heartbeat_s().is_some()
        {
            connection.rate.bytes(self.time.now(), taken, &self.options.inbound);
        }
        if plain_bytes == 0 {
            return 0;
        }
        std::mem::swap(&mut self.scratch.read, &mut self.scratch.layers.plain);
        self.received(slot, plain_bytes);
        std::mem::swap(&mut self.scratch.read, &mut self.scratch.layers.plain);
        plain_bytes
    }

    /// The login has been told: what only it needed goes.
    pub(super) fn settle_layers(connection: &mut Connection) {
        if connection.layers.as_ref().is_some_and(|layers| layers.is_plain()) {
            connection.layers = None;
            connection.flags.layered = false;
        }
    }

    /// Brings what a session says into the form that leaves, and sends it; nothing waits before it.
    pub(super) fn send_sealed(&mut self, slot: u32, slices: &[IoSlice<'_>]) {
        let LayerBuffers { wire, gather, .. } = &mut self.scratch.layers;
        let Some(connection) = self.slab.at(slot) else { return };
        let Some(layers) = &mut connection.layers else { return };
        wire.clear();
        match layers.seal(slices.iter().map(|slice| &slice[..]), gather, wire) {
            Ok(()) => self.send_wire(slot),
            Err(reason) => self.close(slot, reason, 0),
        }
    }

    /// Sends the scratch's wire bytes, behind what is sealed already.
    fn send_wire(&mut self, slot: u32) {
        let wire = std::mem::take(&mut self.scratch.layers.wire);
        let Some(connection) = self.slab.at(slot) else { return };
        let mut written = 0;
        if connection.outbox.is_none() {
            match write_slices(&mut connection.socket, &[IoSlice::new(&wire)]) {
                Ok(taken) => written = taken,
                Err(error) => return self.close(slot, broken_reason(&error), 0),
            }
            ShardStats::count(&self.stats.own().written_bytes, written as u64);
        }
        if written < wire.len() {
            let piece = Piece::whole(Bytes::copy_from_slice(&wire[written..]));
            self.queue(slot, piece, Outbox::push_sealed);
            self.stand(slot);
        }
        self.scratch.layers.wire = wire;
    }

    /// Seals what waits in the outbox of a connection with layers, and sends it if nothing sealed waits before it. False: the
    /// connection was closed.
    pub(super) fn seal_outbox(&mut self, slot: u32) -> bool {
        let now_s = self.time.now_s();
        let Some(connection) = self.slab.at(slot) else { return false };
        let before = connection.outbox_bytes() as u64;
        let written = match seal_outbox(connection, &mut self.scratch.layers) {
            Ok(written) => written,
            Err(reason) => {
                self.close(slot, reason, 0);
                return false;
            }
        };
        if written > 0 {
            connection.drained_s = now_s;
        }
        let (after, stats) = (connection.outbox_bytes() as u64, self.stats.own());
        stats.outbox_bytes.fetch_add(after, Relaxed);
        stats.outbox_bytes.fetch_sub(before, Relaxed);
        ShardStats::count(&stats.written_bytes, written as u64);
        true
    }
}

/// Seals what waits in an outbox. Where nothing sealed waits before it, it is sent from the scratch, and only what the socket does not
/// take is kept; how many bytes it took.
pub(super) fn seal_outbox(
    connection: &mut Connection,
    buffers: &mut LayerBuffers,
) -> Result<usize, CloseReason> {
    let Connection { socket, layers: Some(layers), outbox: Some(outbox), .. } = connection else {
        return Ok(0);
    };
    if outbox.open_parts().next().is_none() {
        return Ok(0);
    }
    let LayerBuffers { wire, gather, .. } = buffers;
    wire.clear();
    layers.seal(outbox.open_parts(), gather, wire)?;
    let written = if outbox.has_sealed() {
        0
    } else {
        write_slices(socket, &[IoSlice::new(wire)]).map_err(|error| broken_reason(&error))?
    };
    outbox.close_with(&wire[written..]);
    Ok(written)
}
