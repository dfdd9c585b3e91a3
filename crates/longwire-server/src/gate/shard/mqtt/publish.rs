//! What a client publishes, and to whom it goes: to every shard whose subscribers may want it, and to the hub if it is
//! retained, for the business, or wanted by somebody whom the hub serves.

use super::super::Shard;
use super::subscribe::result_of;
use crate::delivery::border::Command;
use crate::delivery::border::topics::{From, TopicCommand, TopicEvent, TopicMessage};
use crate::domain::{AppId, ClientId, WallMs};
use crate::gate::connection::{Connection, Conversation, Owed};
use crate::gate::pressure::Level;
use crate::gate::stats::{ShardStats, TopicDrop};
use bytes::Bytes;
use longwire_proto::close::CloseReason;
use longwire_proto::session::mqtt::{Ending, Incoming};
use longwire_proto::wire::mqtt::{
    Properties, PropertiesBuf, PropertyKey, QoS, Reason, SharedPublish, Version,
};
use longwire_proto::wire::{ServerFrame, UpAck};
use std::sync::Arc;

/// Topics under this are for the business.
const UPSTREAM: &str = "$up/";

impl Shard {
    pub(in super::super) fn publish(
        &mut self,
        slot: u32,
        from: From,
        message: Arc<TopicMessage>,
        packet_id: u16,
        out: &mut Vec<u8>,
    ) -> Result<(), Ending> {
        ShardStats::count(&self.stats.own().topics.published[usize::from(message.qos.min(2))], 1);
        let queues = self.queues.clone();
        let topic = message.shared.topic();
        let is_upstream = topic.starts_with(UPSTREAM);
        let places = queues.interests.hub.places(from.app, topic);
        if is_upstream && self.stats.0.pressure.level() >= Level::Overloaded {
            ShardStats::count(&self.stats.own().upstream_shed, 1);
            return self.answer_publish(slot, packet_id, Reason::QuotaExceeded, out);
        }
        let mut may_reach = false;
        if !is_upstream {
            for (index, interest) in queues.interests.shards.iter().enumerate() {
                if !interest.may_match_at(&places) {
                    continue;
                }
                may_reach = true;
                if index == usize::from(self.id.0) {
                    self.topic_published(&message);
                    continue;
                }
                let command = Command::Topic(TopicCommand::Publish(message.clone()));
                if queues.shards[index].post(command).is_err() {
                    self.drop_topic(TopicDrop::ShardFull, 1);
                    if message.qos > 0 {
                        return self.answer_publish(slot, packet_id, Reason::QuotaExceeded, out);
                    }
                }
            }
        }
        // QoS 2 of a kept session outlives the connection: its identifier is stored, whoever gets the message.
        let remembers = message.qos == QoS::ExactlyOnce as u8
            && self.slab.at(slot).and_then(Connection::mqtt).is_some_and(|live| live.is_kept());
        let concerns_hub = message.retain || is_upstream || remembers;
        if concerns_hub || queues.interests.hub.may_match_at(&places) {
            let awaits = (message.qos > 0).then_some(packet_id);
            self.tell_topic(from, TopicEvent::Publish { message, packet_id: awaits, remembers });
            return Ok(());
        }
        let reason = if may_reach { Reason::Success } else { Reason::NoMatchingSubscribers };
        self.answer_publish(slot, packet_id, reason, out)
    }

    /// A rule refuses a message.
    pub(in super::super) fn refuse_publish(
        &mut self,
        slot: u32,
        packet_id: u16,
        out: &mut Vec<u8>,
    ) -> Result<(), Ending> {
        self.drop_topic(TopicDrop::NotAllowed, 1);
        self.answer_publish(slot, packet_id, Reason::NotAuthorized, out)
    }

    /// Answers a message of QoS 1 or 2.
    ///
    /// # Errors
    /// A refusal in 3.1.1, which has no word for it (3.3.5 there).
    pub(in super::super) fn answer_publish(
        &mut self,
        slot: u32,
        packet_id: u16,
        reason: Reason,
        out: &mut Vec<u8>,
    ) -> Result<(), Ending> {
        let Some(connection) = self.slab.at(slot).filter(|_| packet_id != 0) else { return Ok(()) };
        if let Conversation::Topics(live) = &mut connection.conversation {
            if let Some(Owed::UpAck(client_message)) = live.pay(packet_id) {
                let answer = UpAck { client_message, outcome: result_of(reason) };
                ServerFrame::UpAck(answer).encode(live.session.client(), out);
            }
            return Ok(());
        }
        let Some(live) = connection.mqtt() else { return Ok(()) };
        if reason.is_error() && live.session.terms().version == Version::V311 {
            let close = if reason == Reason::NotAuthorized { CloseReason::Kicked } else { CloseReason::Full };
            return Err(Ending { reason, close });
        }
        live.session.published(packet_id, reason, out);
        Ok(())
    }

    pub(in super::super) fn drop_topic(&self, why: TopicDrop, count: u64) {
        ShardStats::count(&self.stats.own().topics.dropped[why as usize], count);
    }
}

/// A message out of a packet, in one buffer of its own.
///
/// # Errors
/// It would not fit into a packet.
pub(super) fn taken(
    incoming: &Incoming<'_>,
    (app, publisher): (AppId, ClientId),
    now: WallMs,
    room: &mut PropertiesBuf,
) -> Result<TopicMessage, Ending> {
    let properties = forwarded(&incoming.properties, room);
    let shared = SharedPublish::encode(incoming.topic, &properties, incoming.content)
        .map_err(|_| Ending { reason: Reason::PacketTooLarge, close: CloseReason::FrameTooLong })?;
    let deadline = match incoming.properties.message_expiry() {
        // The deadline 0 says never; what expires at once has expired a millisecond after it came.
        Some(seconds) => WallMs((now.0 + u64::from(seconds) * 1000).max(1)),
        None => WallMs(0),
    };
    let flags = (incoming.qos as u8, incoming.retain);
    let message = TopicMessage::new(app, publisher, shared.map(Bytes::from), flags, deadline);
    Ok(if incoming.dup { message.sent_before() } else { message })
}

/// The properties that subscribers get as they are (MQTT-3.3.2-4, -15, -16, -17, -20).
pub(super) fn forwarded<'r>(properties: &Properties<'_>, room: &'r mut PropertiesBuf) -> Properties<'r> {
    room.clear();
    if properties.is_empty() {
        return Properties::default();
    }
    for property in properties.iter() {
        if matches!(
            property.key(),
            PropertyKey::PayloadIsUtf8
                | PropertyKey::ContentType
                | PropertyKey::ResponseTopic
                | PropertyKey::CorrelationData
                | PropertyKey::UserProperty
        ) {
            room.push(property);
        }
    }
    room.as_properties()
}
