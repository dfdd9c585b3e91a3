//! The packets of all topic messages under way that a connection gets, one behind the other, when they are the same for
//! every subscriber: QoS 0, without wishes of its own. Made once for all connections that get the same, and written in one
//! call.

use super::{Ride, Rider};
use crate::gate::connection::Piece;
use crate::gate::pressure::Level;
use crate::gate::shard::Shard;
use crate::gate::stats::{ShardStats, TopicDrop};
use bytes::Bytes;
use longwire_proto::wire::mqtt::Version;
use std::io::IoSlice;

/// Packets of several riders.
#[derive(Default)]
pub(super) struct Batch {
    of: Option<(u64, Version)>,
    packets: Bytes,
    longest: usize,
}

impl Batch {
    /// The riders have changed their places.
    pub(super) fn forget(&mut self) {
        self.of = None;
    }

    fn make(&mut self, mask: u64, version: Version, riders: &[Rider]) {
        if self.of == Some((mask, version)) {
            return;
        }
        let mut packets = Vec::with_capacity(self.packets.len());
        self.longest = 0;
        for (place, rider) in riders.iter().enumerate() {
            if mask & (1 << place) != 0
                && let Ride::Topic { message, .. } = &rider.ride
            {
                let packet = message.frame(version);
                self.longest = self.longest.max(packet.len());
                packets.extend_from_slice(packet);
            }
        }
        (self.of, self.packets) = (Some((mask, version)), packets.into());
    }
}

impl Shard {
    /// Gives a connection the topic messages under way, if they are the same packets for it as for others. False: they are not, each
    /// goes for itself.
    pub(super) fn serve_batch(&mut self, slot: u32, riders: &[Rider]) -> bool {
        let shed = self.stats.0.pressure.level() >= Level::Crowded;
        let high = self.options.outbox_high_bytes;
        let Some(connection) = self.slab.at(slot) else { return true };
        let (app, unwritable, waits) =
            (connection.app, connection.flags.unwritable, connection.outbox_bytes());
        let Some(live) = connection.mqtt() else { return false };
        let (version, bytes_max) = (live.session.terms().version, live.session.terms().packet_bytes_max);
        let mut mask = 0;
        for audience in self.fanout.audiences.riding() {
            if audience.app != app || !audience.slots.contains(slot) {
                continue;
            }
            // More than one filter may match, with wishes that are taken together (MQTT-3.3.4-2).
            let [filter] = audience.filters[..] else { return false };
            let Some(wish) = self.topics.of(app, filter).and_then(|subscribers| subscribers.of(slot)) else {
                continue;
            };
            if audience.differing
                || (audience.acked && (wish.qos() > 0 || wish.is_kept()))
                || !wish.is_plain()
            {
                return false;
            }
            mask |= audience.mask;
        }
        let count = mask.count_ones();
        if count == 0 {
            return true;
        }
        if unwritable || shed {
            self.drop_topic(TopicDrop::Outbox, count.into());
            return true;
        }
        let mut batch = std::mem::take(&mut self.fanout.batch);
        batch.make(mask, version, riders);
        let fits = batch.longest as u64 <= u64::from(bytes_max) && waits + batch.packets.len() <= high;
        if fits {
            let packets = &batch.packets;
            let rest = |written: usize| vec![Piece::whole(packets.slice(written..))];
            self.send_slices(slot, &[IoSlice::new(packets)], rest);
            ShardStats::count(&self.stats.own().topics.delivered, count.into());
        }
        self.fanout.batch = batch;
        fits
    }
}
