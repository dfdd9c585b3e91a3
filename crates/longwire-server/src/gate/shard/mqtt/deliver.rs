//! Messages to the subscribers of this shard.

use super::super::Shard;
use crate::delivery::border::topics::TopicMessage;
use crate::domain::topic::FilterId;
use crate::gate::connection::{MqttLive, Piece};
use crate::gate::pressure::Level;
use crate::gate::stats::{ShardStats, TopicDrop};
use crate::gate::topics::Wish;
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

/// How one subscriber gets a message: all its subscriptions that match, taken together (MQTT-3.3.4-2).
#[derive(Clone, Copy)]
struct Manner {
    qos: QoS,
    retain: bool,
}

impl Shard {
    /// A message for the live subscribers of this shard.
    pub(in super::super) fn topic_published(&mut self, message: &Arc<TopicMessage>) {
        let (mut filters, mut audience) =
            (std::mem::take(&mut self.scratch.filters), std::mem::take(&mut self.scratch.audience));
        filters.clear();
        audience.clear();
        if self.topics.matching(message.app, message.shared.topic(), &mut filters).is_err() {
            self.drop_topic(TopicDrop::TooWide, 1);
            filters.clear();
        }
        for filter in &filters {
            if let Some(subscribers) = self.topics.of(message.app, *filter) {
                let listener = |(slot, wish)| Listener { slot, filter: *filter, wish };
                audience.extend(subscribers.iter().map(listener));
            }
        }
        if filters.len() > 1 {
            audience.sort_by_key(|listener| listener.slot);
        }
        for group in audience.chunk_by(|one, other| one.slot == other.slot) {
            self.send_topic(group[0].slot, message, group);
        }
        (self.scratch.filters, self.scratch.audience) = (filters, audience);
    }

    /// Sends a message to one subscriber, by all of its subscriptions that match.
    fn send_topic(&mut self, slot: u32, message: &Arc<TopicMessage>, group: &[Listener]) {
        let shed = self.stats.0.pressure.level() >= Level::Crowded;
        let left_s = match message.deadline.0 {
            0 => None,
            deadline => Some(deadline.saturating_sub((self.wall)().0).div_ceil(1000) as u32),
        };
        let Some(connection) = self.slab.at(slot) else { return };
        let unwritable = connection.flags.unwritable;
        let Some(live) = connection.mqtt() else { return };
        let Some(manner) = manner_of(message, group, live) else { return };
        let dropped = if left_s == Some(0) {
            Some(TopicDrop::Expired)
        } else if unwritable || shed {
            Some(TopicDrop::Outbox)
        } else {
            None
        };
        if let Some(why) = dropped {
            return self.drop_topic(why, 1);
        }
        let packet_id = match manner.qos {
            QoS::AtMostOnce => 0,
            qos => match live.session.send_unstored(qos, 0) {
                Some(packet_id) => packet_id,
                None => return self.drop_topic(TopicDrop::Queue, 1),
            },
        };
        let own = &mut self.scratch.properties;
        own_properties(own, left_s, group, live);
        let (version, most) = (live.session.terms().version, live.session.terms().packet_bytes_max);
        let stamp = Stamp {
            version,
            dup: false,
            qos: manner.qos,
            retain: manner.retain,
            packet_id,
            aliasing: Aliasing::Spelled,
        };
        match pieces(message, &stamp, &own.as_properties(), most) {
            Some(pieces) => {
                for piece in pieces {
                    self.send_later(slot, piece);
                }
                ShardStats::count(&self.stats.own().topics.delivered, 1);
            }
            None => self.drop_topic(TopicDrop::TooLarge, 1),
        }
    }
}

/// How a subscriber gets a message; `None`: not, or not from here.
fn manner_of(message: &TopicMessage, group: &[Listener], live: &MqttLive) -> Option<Manner> {
    let own = message.publisher == live.session.client();
    let mut manner: Option<Manner> = None;
    for Listener { wish, .. } in group {
        if (wish.is_no_local() && own) || (wish.is_kept() && message.qos > 0) {
            continue;
        }
        let qos = QoS::from_bits(wish.qos().min(message.qos)).unwrap_or(QoS::AtMostOnce);
        let retain = message.retain && wish.is_retain_as_published();
        let known = manner.get_or_insert(Manner { qos, retain });
        known.qos = known.qos.max(qos);
        known.retain |= retain;
    }
    manner
}

/// The properties that this subscriber's packet has beside those that all have.
fn own_properties(own: &mut PropertiesBuf, left_s: Option<u32>, group: &[Listener], live: &MqttLive) {
    own.clear();
    if live.session.terms().version == Version::V311 {
        return;
    }
    if let Some(left_s) = left_s {
        own.push(Property::MessageExpiry(left_s));
    }
    for listener in group.iter().filter(|listener| listener.wish.is_identified()) {
        if let Some(subscription) = live.subscription(listener.filter) {
            own.push(Property::SubscriptionIdentifier(subscription.identifier));
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
    if stamp.qos == QoS::AtMostOnce && !stamp.retain && own.is_empty() {
        let frame = message.frame(stamp.version);
        pieces[0] = within(frame.len()).then(|| Piece::whole(frame.clone()));
        pieces[0].as_ref()?;
        return Some(pieces.into_iter().flatten());
    }
    let shared = message.shared.bytes();
    if let Some(head) = PublishHead::new(&message.shared, stamp, own) {
        within(head.packet_bytes() as usize).then_some(())?;
        let [start, topic, middle, tail] = head.slices(&message.shared);
        pieces[0] = Piece::headed(start, shared.slice_ref(topic));
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
        topic: message.shared.topic(),
        packet_id: stamp.packet_id,
        properties: all.as_properties(),
        payload: message.shared.payload(),
    };
    let mut packet = Vec::new();
    encode(&Packet::Publish(publish), stamp.version, &mut packet).ok()?;
    within(packet.len()).then_some(())?;
    Some([Some(Piece::whole(packet.into())), None].into_iter().flatten())
}
