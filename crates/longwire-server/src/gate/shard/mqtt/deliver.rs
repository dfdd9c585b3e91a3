//! Messages to the subscribers of this shard.

use super::super::Shard;
use crate::delivery::border::topics::{TopicEvent, TopicMessage};
use crate::domain::ClientId;
use crate::domain::topic::FilterId;
use crate::gate::connection::{Connection, Conversation, Piece, Queued};
use crate::gate::pressure::Level;
use crate::gate::stats::{ShardStats, TopicDrop};
use crate::gate::topics::Wish;
use bytes::Bytes;
use longwire_proto::wire::mqtt::{
    Aliasing, Packet, Properties, PropertiesBuf, Property, Publish, PublishHead, QoS, Stamp, Version, encode,
};
use std::sync::Arc;

/// A subscriber of a message that is being matched: its slot, and one filter by which it gets it.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Listener {
    slot: u32,
    filter: FilterId,
    wish: Wish,
}

impl Shard {
    /// A message for the live subscribers of this shard: at once for few, on the carousel for a crowd.
    pub(in super::super) fn topic_published(&mut self, message: &Arc<TopicMessage>) {
        if self.fanout.knows(message.app, message.shared.topic(), self.topics.revision()) {
            return self.fanout.queue_topic(message.clone());
        }
        let (mut filters, mut audience) =
            (std::mem::take(&mut self.scratch.filters), std::mem::take(&mut self.scratch.audience));
        filters.clear();
        audience.clear();
        if self.topics.matching(message.app, message.shared.topic(), &mut filters).is_err() {
            self.drop_topic(TopicDrop::TooWide, 1);
        }
        // Behind an earlier message to the same topic that still rides, it has to ride too (MQTT-4.6.0-6).
        let mut rides = self.fanout.carries(message.app, message.shared.topic());
        for filter in &filters {
            let Some(subscribers) = self.topics.of(message.app, *filter) else { continue };
            match subscribers.few() {
                Some(few) if !rides => {
                    audience.extend(few.map(|(slot, wish)| Listener { slot, filter: *filter, wish }));
                }
                _ => rides = true,
            }
        }
        if rides {
            self.fanout.queue_topic(message.clone());
        } else {
            if filters.len() > 1 {
                audience.sort_by_key(|listener| listener.slot);
            }
            for group in audience.chunk_by(|one, other| one.slot == other.slot) {
                self.offer_topic(group[0].slot, message, group);
            }
        }
        (self.scratch.filters, self.scratch.audience) = (filters, audience);
    }

    /// The subscriptions of one slot by which it gets a message that rides.
    pub(in super::super) fn topic_for(
        &mut self,
        slot: u32,
        message: &Arc<TopicMessage>,
        filters: &[FilterId],
    ) {
        let mut audience = std::mem::take(&mut self.scratch.audience);
        audience.clear();
        for filter in filters {
            let subscribers = self.topics.of(message.app, *filter);
            if let Some(wish) = subscribers.and_then(|subscribers| subscribers.of(slot)) {
                audience.push(Listener { slot, filter: *filter, wish });
            }
        }
        if !audience.is_empty() {
            self.offer_topic(slot, message, &audience);
        }
        self.scratch.audience = audience;
    }

    /// Gives one subscriber a message, by all of its subscriptions that match, taken together (MQTT-3.3.4-2).
    fn offer_topic(&mut self, slot: u32, message: &Arc<TopicMessage>, group: &[Listener]) {
        let Some(connection) = self.slab.at(slot) else { return };
        let Some((client, _)) = connection.deliveries() else { return };
        let Some(topical) = connection.topical() else { return };
        let Some((qos, retain)) = manner_of(message, group, client) else { return };
        if message.retain
            && let Some(burden) = &mut topical.burden
        {
            burden.passes(message.shared.topic());
        }
        let identified = group.iter().filter(|listener| listener.wish.is_identified());
        let identifiers = identified.filter_map(|listener| topical.subscription(listener.filter));
        let queued = Queued {
            message: message.clone(),
            qos,
            retain,
            identifiers: identifiers.map(|subscription| subscription.identifier).collect(),
            number: 0,
        };
        self.give(slot, queued);
    }

    /// Gives one session a message that no store holds: now, or for QoS 1 and 2 when there is room.
    pub(super) fn give(&mut self, slot: u32, queued: Queued) {
        let shed = self.stats.0.pressure.level() >= Level::Crowded;
        let Some(connection) = self.slab.at(slot) else { return };
        let unwritable = connection.flags.unwritable;
        if matches!(connection.conversation, Conversation::Topics(_)) {
            return self.give_native(slot, queued, unwritable, shed);
        }
        let Some(live) = connection.mqtt() else { return };
        if queued.qos == QoS::AtMostOnce {
            return if unwritable || shed {
                self.lost(slot, queued.number, TopicDrop::Outbox);
            } else {
                self.send_topic(slot, queued, 0);
            };
        }
        let packet_id = if unwritable || live.topical.has_queued() {
            None
        } else {
            live.session.send_unstored(queued.qos, queued.number)
        };
        match packet_id {
            Some(packet_id) => self.send_topic(slot, queued, packet_id),
            None => {
                let number = queued.number;
                if !live.topical.burden.get_or_insert_with(Box::default).queue.push(queued) {
                    self.lost(slot, number, TopicDrop::Queue);
                }
            }
        }
    }

    /// Sends what waits, as far as there is room.
    pub(in super::super) fn send_queued(&mut self, slot: u32) {
        loop {
            let Some(connection) = self.slab.at(slot) else { return };
            if connection.flags.unwritable {
                return;
            }
            if matches!(connection.conversation, Conversation::Topics(_)) {
                return self.send_queued_native(slot);
            }
            let Some(live) = connection.mqtt() else { return };
            let Some(burden) = &mut live.topical.burden else { return };
            let Some(next) = burden.queue.first() else { return live.topical.unburden() };
            let Some(packet_id) = live.session.send_unstored(next.qos, next.number) else { return };
            if let Some(queued) = burden.queue.pop() {
                self.send_topic(slot, queued, packet_id);
            }
        }
    }

    /// Sends one message; its place in the window is taken already.
    fn send_topic(&mut self, slot: u32, queued: Queued, packet_id: u16) {
        let Queued { message, qos, retain, identifiers, number } = queued;
        let left_s = match message.deadline.0 {
            0 => None,
            deadline => Some(deadline.saturating_sub((self.wall)().0).div_ceil(1000) as u32),
        };
        let Some(live) = self.slab.at(slot).and_then(Connection::mqtt) else { return };
        let (version, bytes_max) = (live.session.terms().version, live.session.terms().packet_bytes_max);
        let own = &mut self.scratch.properties;
        own.clear();
        if version == Version::V5 {
            if let Some(left_s) = left_s {
                own.push(Property::MessageExpiry(left_s));
            }
            identifiers.iter().for_each(|id| own.push(Property::SubscriptionIdentifier(*id)));
        }
        let aliasing = live.session.aliasing(message.shared.topic());
        let stamp = Stamp { version, dup: false, qos, retain, packet_id, aliasing };
        let sent = if left_s == Some(0) {
            Err(TopicDrop::Expired)
        } else {
            pieces(&message, &stamp, &own.as_properties(), bytes_max).ok_or(TopicDrop::TooLarge)
        };
        match sent {
            Ok(pieces) => {
                if let Aliasing::Introduce(_) = aliasing {
                    live.session.introduced(message.shared.topic());
                }
                pieces.for_each(|piece| self.send_later(slot, piece));
                ShardStats::count(&self.stats.own().topics.delivered, 1);
                if packet_id != 0 {
                    self.await_ack(slot);
                }
                if packet_id == 0 && number != 0 {
                    self.tell_shared(slot, number, true);
                }
            }
            Err(why) => {
                live.session.unsent(packet_id);
                // It is over for everybody, or for a client that would refuse it again: nobody else gets it.
                self.drop_topic(why, 1);
                self.tell_shared(slot, number, true);
            }
        }
    }

    /// There was no room for a message.
    pub(in super::super) fn lost(&mut self, slot: u32, number: u64, why: TopicDrop) {
        self.drop_topic(why, 1);
        self.tell_shared(slot, number, false);
    }

    pub(in super::super) fn tell_shared(&mut self, slot: u32, number: u64, acked: bool) {
        if number != 0
            && let Some(from) = self.from(slot)
        {
            self.tell_topic(from, TopicEvent::Shared { number, acked });
        }
    }
}

/// QoS and retain flag for a subscriber; `None`: it does not get the message, or not from here.
fn manner_of(message: &TopicMessage, group: &[Listener], client: ClientId) -> Option<(QoS, bool)> {
    let own = message.publisher == client;
    let mut manner: Option<(QoS, bool)> = None;
    for Listener { wish, .. } in group {
        if wish.is_no_local() && own {
            continue;
        }
        // Its mailbox has it, for all of its subscriptions together.
        if wish.is_kept() && message.qos > 0 {
            return None;
        }
        let qos = QoS::from_bits(wish.qos().min(message.qos)).unwrap_or(QoS::AtMostOnce);
        let retain = message.retain && wish.is_retain_as_published();
        let known = manner.get_or_insert((qos, retain));
        *known = (known.0.max(qos), known.1 | retain);
    }
    manner
}

/// What stands in the place of a topic name; the alias goes to the properties.
pub(super) fn named<'t>(topic: &'t str, aliasing: Aliasing, properties: &mut PropertiesBuf) -> &'t str {
    match aliasing {
        Aliasing::Spelled => topic,
        Aliasing::Introduce(alias) => {
            properties.push(Property::TopicAlias(alias));
            topic
        }
        Aliasing::Use(alias) => {
            properties.push(Property::TopicAlias(alias));
            ""
        }
    }
}

/// A packet as pieces of an outbox; `None`: larger than the client takes (MQTT-3.1.2-24).
fn pieces(
    message: &TopicMessage,
    stamp: &Stamp,
    own: &Properties<'_>,
    bytes_max: u32,
) -> Option<impl Iterator<Item = Piece> + use<>> {
    let within = |bytes: usize| bytes as u64 <= u64::from(bytes_max);
    let mut pieces = [None, None];
    let spelled = stamp.aliasing == Aliasing::Spelled;
    if stamp.qos == QoS::AtMostOnce && !stamp.retain && own.is_empty() && spelled {
        let frame = message.frame(stamp.version);
        pieces[0] = within(frame.len()).then(|| Piece::whole(frame.clone()));
        pieces[0].as_ref()?;
        return Some(pieces.into_iter().flatten());
    }
    let shared = message.shared.bytes();
    if let Some(head) = PublishHead::new(&message.shared, stamp, own) {
        within(head.packet_bytes() as usize).then_some(())?;
        let [start, topic, middle, tail] = head.slices(&message.shared);
        pieces[0] = match stamp.aliasing {
            // An empty name, two zeros that are not the message's.
            Aliasing::Use(_) => {
                let mut front = [0; 8];
                let bytes = start.len() + topic.len();
                front.get_mut(..start.len())?.copy_from_slice(start);
                Piece::headed(front.get(..bytes)?, Bytes::new())
            }
            _ => Piece::headed(start, shared.slice_ref(topic)),
        };
        pieces[1] = Piece::headed(middle, shared.slice_ref(tail));
        if pieces.iter().all(Option::is_some) {
            return Some(pieces.into_iter().flatten());
        }
    }
    // More of its own than a head holds: as a packet for itself.
    let mut all = PropertiesBuf::from_wire(message.shared.properties());
    own.iter().for_each(|property| all.push(property));
    let publish = Publish {
        dup: stamp.dup,
        qos: stamp.qos,
        retain: stamp.retain,
        topic: named(message.shared.topic(), stamp.aliasing, &mut all),
        packet_id: stamp.packet_id,
        properties: all.as_properties(),
        payload: message.shared.payload(),
    };
    let mut packet = Vec::new();
    encode(&Packet::Publish(publish), stamp.version, &mut packet).ok()?;
    within(packet.len()).then_some(())?;
    Some([Some(Piece::whole(packet.into())), None].into_iter().flatten())
}
