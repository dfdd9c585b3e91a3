//! Messages out of the store, and pushes, to MQTT clients. The window and the feeds are those of native sessions; here a message
//! becomes a PUBLISH.

use super::super::Shard;
use super::super::inbound::sent_at;
use super::deliver::named;
use crate::delivery::border::Event;
use crate::domain::{AppId, DropReason, WallMs};
use crate::gate::connection::{Connection, Conversation, MqttLive, Piece};
use crate::gate::stats::{ShardStats, TopicDrop};
use crate::gate::topics::Topics;
use crate::store::port::End;
use longwire_proto::id::{Kind, MessageId, Position, Source};
use longwire_proto::wire::mqtt::{
    Aliasing, Packet, Properties, PropertiesBuf, Property, Publish, QoS, Version, encode, topic,
};
use longwire_proto::wire::{PushHead, PushShared, TopicBody, push_flags};

/// A PUBLISH but for its packet identifier.
struct Parts<'a> {
    qos: QoS,
    retain: bool,
    topic: &'a str,
    properties: PropertiesBuf,
    content: &'a [u8],
}

impl Shard {
    /// Sends a stored delivery, which is in the window already; what needs no ack, or cannot be sent, ends at once. False: it
    /// was not sent; the caller counts what was.
    pub(in super::super) fn send_stored_publish(
        &mut self,
        slot: u32,
        message: MessageId,
        shared: &[u8],
        head: &PushHead,
    ) -> bool {
        let Some(source) = head.source else { return false };
        let Some(connection) = self.slab.at(slot) else { return false };
        let app = connection.app;
        let Conversation::Mqtt(live) = &mut connection.conversation else { return false };
        let place = (source, head.position, head.previous, head.flags);
        let parts = PushShared::decode(shared)
            .and_then(|push| parts_of(&push, app, live, &self.topics, Some((place, head.ttl_s))));
        let packet_id = live.session.packet_id_of(source, head.position);
        // Earlier connections of the session may have sent a high message before its turn.
        let high_before = head.flags & (push_flags::HIGH | push_flags::MAY_REPEAT)
            == (push_flags::HIGH | push_flags::MAY_REPEAT)
            && live.session.was_here();
        let may_repeat = high_before || live.session.may_repeat(source, head.position);
        let packet = parts.and_then(|parts| {
            let qos = parts.qos;
            packet_of(parts, packet_id, may_repeat, live).map(|packet| (packet, qos))
        });
        let Some((packet, qos)) = packet else {
            self.drop_topic(TopicDrop::TooLarge, 1);
            self.ends_at_once(slot, message, End::Dropped(DropReason::TooLarge));
            return false;
        };
        if qos == QoS::ExactlyOnce {
            live.session.sends_twice(message);
        }
        self.tell_held(slot, message);
        self.send_later(slot, Piece::whole(packet.into()));
        match qos {
            QoS::AtMostOnce => self.ends_at_once(slot, message, End::Delivered),
            _ => self.await_ack(slot),
        }
        true
    }

    /// Sends a message that is stored nowhere; there was room for it.
    pub(in super::super) fn send_push_now(&mut self, slot: u32, shared: &[u8]) {
        let Some(connection) = self.slab.at(slot) else { return };
        let app = connection.app;
        let Conversation::Mqtt(live) = &mut connection.conversation else { return };
        let packet = PushShared::decode(shared)
            .and_then(|push| parts_of(&push, app, live, &self.topics, None))
            .and_then(|parts| packet_of(Parts { qos: QoS::AtMostOnce, ..parts }, 0, false, live));
        match packet {
            Some(packet) => self.send_later(slot, Piece::whole(packet.into())),
            None => self.drop_topic(TopicDrop::TooLarge, 1),
        }
    }

    /// The device has had a message before, and its record stays until PUBCOMP: PUBREL again.
    pub(in super::super) fn send_release(&mut self, slot: u32, source: Source, position: Position) {
        let mut out = Vec::with_capacity(8);
        if let Some(live) = self.slab.at(slot).and_then(Connection::mqtt) {
            live.session.releases_again(source, position, &mut out);
        }
        self.send_later(slot, Piece::whole(out.into()));
        self.await_ack(slot);
    }

    /// A delivery for which nothing is awaited is settled by being passed.
    pub(in super::super) fn ends_at_once(&mut self, slot: u32, message: MessageId, end: End) {
        let Some(from) = self.from(slot) else { return };
        let deliveries = self.slab.at(slot).and_then(Connection::deliveries);
        let Some(settled) = deliveries.and_then(|(_, deliveries)| deliveries.settle(message)) else { return };
        if !matches!(end, End::Dropped(_)) {
            ShardStats::count(&self.stats.own().acked, 1);
        }
        let shared = self.slab.at(slot).is_some_and(|connection| connection.flags.shared);
        self.outlet.tell(Event::Settled {
            from: from.handle,
            client: from.client,
            app: from.app,
            source: settled.source,
            position: settled.position,
            message,
            end,
            shared,
            sent: if matches!(end, End::Dropped(_)) { WallMs(0) } else { sent_at((self.wall)(), &settled) },
        });
    }
}

type Place = (Source, Position, Position, u8);

/// What a push is as a PUBLISH; `None`: its payload is not of its kind. `stored`: its place, and seconds until it expires.
fn parts_of<'a>(
    push: &PushShared<'a>,
    app: AppId,
    live: &MqttLive,
    topics: &Topics,
    stored: Option<(Place, u32)>,
) -> Option<Parts<'a>> {
    let is_v5 = live.session.terms().version == Version::V5;
    if push.kind == Kind::Topic {
        let body = TopicBody::decode(push.payload)?;
        let mut properties =
            if is_v5 { PropertiesBuf::from_wire(body.properties) } else { PropertiesBuf::default() };
        // What a shared group gave stands in the body; ordinary subscriptions get a copy of their own.
        let granted =
            if body.for_member { None } else { granted(app, live, topics, body.topic, &mut properties) };
        let qos = granted.map_or(body.qos, |(qos, _)| body.qos.min(qos));
        if let Some((_, ttl_s)) = stored.filter(|_| body.expires) {
            properties.push(Property::MessageExpiry(ttl_s));
        }
        return Some(Parts {
            qos: QoS::from_bits(qos)?,
            retain: body.retain && granted.is_some_and(|(_, retain)| retain),
            topic: body.topic,
            properties,
            content: body.content,
        });
    }
    let mut properties = PropertiesBuf::default();
    if is_v5 {
        if let Some((_, ttl_s)) = stored {
            properties.push(Property::MessageExpiry(ttl_s));
        }
        tell_place(push, stored.map(|(place, _)| place), &mut properties);
    }
    let topic = match push.kind {
        Kind::Notification => "$push/notification",
        Kind::Text => "$push/text",
        Kind::Custom | Kind::Topic => "$push/custom",
        Kind::Recall => "$push/recall",
    };
    Some(Parts { qos: QoS::AtLeastOnce, retain: false, topic, properties, content: push.payload })
}

/// Message id, place, what it replaces or recalls, and trace as user properties.
fn tell_place(push: &PushShared<'_>, place: Option<Place>, properties: &mut PropertiesBuf) {
    properties.push(Property::UserProperty(("longwire-id", &format!("{:032x}", push.message.0))));
    if let Some((source, position, previous, flags)) = place {
        let source = match source {
            Source::Mailbox => "mailbox",
            Source::AppLog => "log",
        };
        properties.push(Property::UserProperty(("longwire-position", &format!("{source}:{}", position.0))));
        properties.push(Property::UserProperty(("longwire-previous", &format!("{source}:{}", previous.0))));
        if flags & push_flags::AHEAD != 0 {
            properties.push(Property::UserProperty(("longwire-ahead", "true")));
        }
        if flags & push_flags::HIGH != 0 {
            properties.push(Property::UserProperty(("longwire-priority", "high")));
        }
    }
    if let Some(replaced) = push.replaces {
        properties.push(Property::UserProperty(("replaces", &format!("{:032x}", replaced.0))));
    }
    if push.kind == Kind::Recall
        && let Ok(recalled) = push.payload.try_into().map(u128::from_be_bytes)
    {
        properties.push(Property::UserProperty(("recalls", &format!("{recalled:032x}"))));
    }
    if push.trace.0 != 0 {
        // The parent of what the device does is the message itself.
        let parent = format!("00-{:032x}-{:016x}-01", push.trace.0, (push.message.0 as u64).max(1));
        properties.push(Property::UserProperty(("traceparent", &parent)));
    }
}

/// The highest QoS of the subscriptions that match a topic, and whether one keeps the retain flag; their identifiers are added.
fn granted(
    app: AppId,
    live: &MqttLive,
    topics: &Topics,
    name: &str,
    properties: &mut PropertiesBuf,
) -> Option<(u8, bool)> {
    let mut granted: Option<(u8, bool)> = None;
    for subscription in live.topical.subscriptions() {
        if !topic::matches(topics.text(app, subscription.filter), name) {
            continue;
        }
        if live.session.terms().version == Version::V5 && subscription.identifier != 0 {
            properties.push(Property::SubscriptionIdentifier(subscription.identifier));
        }
        let wish = subscription.wish;
        let known = granted.get_or_insert((0, false));
        *known = (known.0.max(wish.qos()), known.1 | wish.is_retain_as_published());
    }
    granted
}

/// A whole packet; `None`: larger than the client takes (MQTT-3.1.2-24).
fn packet_of(mut parts: Parts<'_>, packet_id: u16, may_repeat: bool, live: &mut MqttLive) -> Option<Vec<u8>> {
    let acked = parts.qos != QoS::AtMostOnce;
    let is_v5 = live.session.terms().version == Version::V5;
    let aliasing = live.session.aliasing(parts.topic);
    let topic = named(parts.topic, aliasing, &mut parts.properties);
    let publish = Publish {
        dup: may_repeat && acked,
        qos: parts.qos,
        retain: parts.retain,
        topic,
        packet_id: if acked { packet_id } else { 0 },
        properties: if is_v5 { parts.properties.as_properties() } else { Properties::default() },
        payload: parts.content,
    };
    let mut packet = Vec::with_capacity(64 + parts.topic.len() + parts.content.len());
    encode(&Packet::Publish(publish), live.session.terms().version, &mut packet).ok()?;
    if packet.len() as u64 > u64::from(live.session.terms().packet_bytes_max) {
        return None;
    }
    if let Aliasing::Introduce(_) = aliasing {
        live.session.introduced(parts.topic);
    }
    Some(packet)
}
