//! Messages out of the store, and pushes, to MQTT clients. The window and the feeds are those of native sessions; here a message
//! becomes a PUBLISH.

use super::super::Shard;
use crate::delivery::border::Event;
use crate::domain::AppId;
use crate::gate::connection::{Connection, Conversation, MqttLive, Piece};
use crate::gate::stats::{ShardStats, TopicDrop};
use crate::gate::topics::Topics;
use longwire_proto::id::{Kind, MessageId, Position, Source};
use longwire_proto::session::mqtt::packet_id_of;
use longwire_proto::wire::mqtt::{
    Packet, Properties, PropertiesBuf, Property, Publish, QoS, Version, encode, topic,
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
    /// Sends a stored delivery, which is in the window already; what needs no ack, or cannot be sent, ends at once.
    pub(in super::super) fn send_stored_publish(
        &mut self,
        slot: u32,
        message: MessageId,
        shared: &[u8],
        head: &PushHead,
    ) {
        let Some(source) = head.source else { return };
        let Some(connection) = self.slab.at(slot) else { return };
        let app = connection.app;
        let Conversation::Mqtt(live) = &mut connection.conversation else { return };
        let place = (source, head.position, head.previous);
        let parts = PushShared::decode(shared)
            .and_then(|push| parts_of(&push, app, live, &self.topics, Some((place, head.ttl_s))));
        let Some(parts) = parts else {
            self.drop_topic(TopicDrop::TooLarge, 1);
            return self.ends_at_once(slot, message);
        };
        let packet_id = packet_id_of(source, head.position);
        let may_repeat = head.flags & push_flags::MAY_REPEAT != 0;
        let Some(packet) = packet_of(&parts, packet_id, may_repeat, live) else {
            self.drop_topic(TopicDrop::TooLarge, 1);
            return self.ends_at_once(slot, message);
        };
        let qos = parts.qos;
        if qos == QoS::ExactlyOnce {
            live.session.sends_twice(message);
        }
        self.send_later(slot, Piece::whole(packet.into()));
        match qos {
            QoS::AtMostOnce => self.ends_at_once(slot, message),
            _ => self.await_ack(slot),
        }
    }

    /// Sends a message that is stored nowhere; there was room for it.
    pub(in super::super) fn send_push_now(&mut self, slot: u32, shared: &[u8]) {
        let Some(connection) = self.slab.at(slot) else { return };
        let app = connection.app;
        let Conversation::Mqtt(live) = &mut connection.conversation else { return };
        let packet = PushShared::decode(shared)
            .and_then(|push| parts_of(&push, app, live, &self.topics, None))
            .and_then(|parts| packet_of(&Parts { qos: QoS::AtMostOnce, ..parts }, 0, false, live));
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

    /// A delivery for which nothing is awaited, a gap among them, is settled by being passed.
    pub(in super::super) fn ends_at_once(&mut self, slot: u32, message: MessageId) {
        let Some(from) = self.from(slot) else { return };
        let deliveries = self.slab.at(slot).and_then(Connection::deliveries);
        let Some(settled) = deliveries.and_then(|(_, deliveries)| deliveries.settle(message)) else { return };
        ShardStats::count(&self.stats.own().acked, 1);
        let shared = self.slab.at(slot).is_some_and(|connection| connection.flags.shared);
        self.outlet.tell(Event::Settled {
            from: from.handle,
            client: from.client,
            app: from.app,
            source: settled.source,
            position: settled.position,
            message,
            gap: settled.gap,
            shared,
        });
    }
}

type Place = (Source, Position, Position);

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
        let granted = granted(app, live, topics, body.topic, &mut properties);
        let qos = granted.map_or(body.qos, |(qos, _)| body.qos.min(qos));
        if let Some((_, ttl_s)) = stored {
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
    };
    Some(Parts { qos: QoS::AtLeastOnce, retain: false, topic, properties, content: push.payload })
}

/// Message id, place and trace as user properties.
fn tell_place(push: &PushShared<'_>, place: Option<Place>, properties: &mut PropertiesBuf) {
    properties.push(Property::UserProperty(("longwire-id", &format!("{:032x}", push.message.0))));
    if let Some((source, position, previous)) = place {
        let source = match source {
            Source::Mailbox => "mailbox",
            Source::AppLog => "log",
        };
        properties.push(Property::UserProperty(("longwire-position", &format!("{source}:{}", position.0))));
        properties.push(Property::UserProperty(("longwire-previous", &format!("{source}:{}", previous.0))));
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
fn packet_of(parts: &Parts<'_>, packet_id: u16, may_repeat: bool, live: &MqttLive) -> Option<Vec<u8>> {
    let acked = parts.qos != QoS::AtMostOnce;
    let is_v5 = live.session.terms().version == Version::V5;
    let publish = Publish {
        dup: may_repeat && acked,
        qos: parts.qos,
        retain: parts.retain,
        topic: parts.topic,
        packet_id: if acked { packet_id } else { 0 },
        properties: if is_v5 { parts.properties.as_properties() } else { Properties::default() },
        payload: parts.content,
    };
    let mut packet = Vec::with_capacity(64 + parts.topic.len() + parts.content.len());
    encode(&Packet::Publish(publish), live.session.terms().version, &mut packet).ok()?;
    (packet.len() as u64 <= u64::from(live.session.terms().packet_bytes_max)).then_some(packet)
}
