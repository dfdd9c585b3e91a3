//! What one connection gets of what is under way: all broadcasts in one write, stored ones with a head of their own.

use super::{RIDERS_MAX, Ride, Rider};
use crate::delivery::border::topics::TopicMessage;
use crate::delivery::border::{Broadcast, Event, Meant};
use crate::domain::Source;
use crate::gate::connection::{Connection, Piece};
use crate::gate::pressure::Level;
use crate::gate::shard::Shard;
use crate::gate::shard::commands::{FLAGS_AHEAD, flags_of};
use crate::gate::stats::ShardStats;
use bytes::Bytes;
use longwire_proto::session::Offer;
use longwire_proto::wire::PushHead;
use std::io::IoSlice;
use std::sync::Arc;

impl Shard {
    /// Gives one connection all that concerns it.
    pub(super) fn serve(&mut self, slot: u32, riders: &mut [Rider]) {
        let Some(connection) = self.slab.at(slot) else { return };
        let (app, unwritable) = (connection.app, connection.flags.unwritable);
        let speaks_mqtt = connection.mqtt().is_some();
        let shed = self.stats.0.pressure.level() >= Level::Crowded;
        let room = self.options.outbox_high_bytes.saturating_sub(connection.outbox_bytes());
        let is_batched = self.fanout.topics > 0 && self.serve_batch(slot, riders);
        let mut plan = std::mem::take(&mut self.fanout.plan);
        plan.clear();
        let (mut planned, mut stored) = (0, false);
        for (index, rider) in riders.iter_mut().enumerate() {
            let (broadcast, bytes, online_only, everyone) = match &rider.ride {
                Ride::Broadcast { broadcast, bytes, online_only, everyone } => {
                    (broadcast, bytes, *online_only, *everyone)
                }
                Ride::Topic { .. } if is_batched => continue,
                Ride::Topic { message, audience } => {
                    if message.app == app {
                        self.serve_topic(slot, message, *audience);
                    }
                    continue;
                }
            };
            // A slot may have a new owner since the broadcast joined.
            let meant = match (broadcast.app == app, everyone) {
                (true, true) => Meant::Yes,
                (true, false) => self.judge(slot, broadcast),
                (false, _) => Meant::No,
            };
            if meant == Meant::No {
                continue;
            }
            if online_only {
                if unwritable || shed || meant == Meant::AskStore || planned + bytes.len() > room {
                    rider.dropped += 1;
                    continue;
                }
                if speaks_mqtt {
                    self.send_push_now(slot, &broadcast.message.shared);
                } else {
                    plan.push((index, None));
                }
            } else if let Some(head) = self.offer_log(slot, broadcast, meant, unwritable || planned > room) {
                if speaks_mqtt {
                    if !self.send_stored_publish(slot, broadcast.message.message, bytes, &head) {
                        continue;
                    }
                } else {
                    self.tell_held(slot, broadcast.message.message);
                    plan.push((index, Some(head.encode(bytes.len()))));
                    stored = true;
                }
            } else {
                continue;
            }
            planned += bytes.len();
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

    /// Gives one connection a topic message by all its subscriptions that match.
    fn serve_topic(&mut self, slot: u32, message: &Arc<TopicMessage>, audience: usize) {
        let mut filters = std::mem::take(&mut self.scratch.filters);
        filters.clear();
        if let Some(audience) = self.fanout.audiences.get(audience).filter(|of| of.slots.contains(slot)) {
            filters.extend_from_slice(&audience.filters);
        }
        if !filters.is_empty() {
            self.topic_for(slot, message, &filters);
        }
        self.scratch.filters = filters;
    }

    fn judge(&mut self, slot: u32, broadcast: &Broadcast) -> Meant {
        let deliveries = self.slab.at(slot).and_then(Connection::deliveries);
        deliveries.map_or(Meant::No, |(client, _)| self.members.judge(&broadcast.reach, slot, client))
    }

    /// The head of a stored broadcast for this connection; `None`: it has it, or will pull it.
    fn offer_log(&mut self, slot: u32, broadcast: &Broadcast, meant: Meant, full: bool) -> Option<PushHead> {
        let recalled = self.recalled.contains(broadcast.message.message);
        let sent_ms = ((self.wall)().0 as u32).max(1);
        let over = self.is_over_cap(slot, broadcast.message.high, &broadcast.message.shared);
        let (_, deliveries) = self.slab.at(slot).and_then(Connection::deliveries)?;
        let (position, message) = (broadcast.position, &broadcast.message);
        // What is over a cap is told in its place by the page that brings it.
        if full || meant == Meant::AskStore || recalled || over {
            match message.high {
                true => deliveries.defer_high(Source::AppLog, position),
                false => deliveries.defer(Source::AppLog, position),
            }
            if !full {
                self.pull(slot);
            }
            return None;
        }
        let bytes = message.shared.len() as u32;
        let offer = match message.high {
            true => deliveries.offer_high(Source::AppLog, position, message.message, bytes),
            false => deliveries.offer(Source::AppLog, position, message.message, bytes),
        };
        match offer {
            Offer::Send { previous } => {
                deliveries.stamp(message.message, sent_ms);
                self.count_for_cap(slot, message.high, &message.shared);
                Some(self.head(Source::AppLog, position, previous, message.deadline, flags_of(message.high)))
            }
            Offer::Ahead => {
                deliveries.stamp(message.message, sent_ms);
                self.count_ahead();
                Some(self.head(Source::AppLog, position, position, message.deadline, FLAGS_AHEAD))
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
            let frame = [IoSlice::new(riders[*index].bytes())];
            return self.send_slices(slot, &frame, |written| rest_of(plan, riders, written));
        }
        let mut slices = [IoSlice::new(&[]); 2 * RIDERS_MAX];
        let mut count = 0;
        for (index, head) in plan {
            for part in [head.as_ref().map_or(&[][..], |head| &head[..]), &riders[*index].bytes()[..]] {
                if !part.is_empty() {
                    slices[count] = IoSlice::new(part);
                    count += 1;
                }
            }
        }
        self.send_slices(slot, &slices[..count], |written| rest_of(plan, riders, written));
    }

    /// Tells the hub what went out of those with at least so many deliveries.
    pub(super) fn report(&mut self, riders: &mut [Rider], least: u32) {
        for rider in riders {
            let Ride::Broadcast { broadcast, .. } = &rider.ride else { continue };
            if rider.sent + rider.dropped >= least {
                let (sent, dropped) = (std::mem::take(&mut rider.sent), std::mem::take(&mut rider.dropped));
                ShardStats::count(&self.stats.own().sent, sent.into());
                ShardStats::count(&self.stats.own().dropped, dropped.into());
                self.outlet.tell(Event::Sent { message: broadcast.message.message, sent, dropped });
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
        let shared = riders[*index].bytes();
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
