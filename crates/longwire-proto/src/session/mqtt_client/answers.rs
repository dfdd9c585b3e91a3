//! What packets of the server mean for identifiers under way, and what is answered.

use super::client::FromServer;
use super::flight::{Flight, Stage};
use super::{Broken, is_refusal};
use crate::wire::mqtt::{ConnAck, Kind, Publish, QoS, Reason, Version, ack_frame};

/// The client beside its assembler.
pub(super) struct Rest<'c> {
    pub(super) flight: &'c mut Option<Box<Flight>>,
    pub(super) version: Version,
    pub(super) out: &'c mut Vec<u8>,
}

impl Rest<'_> {
    fn ack(&mut self, kind: Kind, packet_id: u16, reason: Reason) {
        self.out.extend_from_slice(ack_frame(kind, self.version, packet_id, reason).as_bytes());
    }

    pub(super) fn publish<'a>(&mut self, publish: Publish<'a>) -> Result<FromServer<'a>, Broken> {
        if publish.topic.is_empty() || publish.properties.topic_alias().is_some() {
            return Err(Broken::Alias);
        }
        let mut repeated = false;
        match publish.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.ack(Kind::PubAck, publish.packet_id, Reason::Success),
            QoS::ExactlyOnce => {
                let flight = self.flight.get_or_insert_default();
                repeated = flight.arrives(publish.packet_id).ok_or(Broken::ReceiveMaximum)?;
                self.ack(Kind::PubRec, publish.packet_id, Reason::Success);
            }
        }
        Ok(FromServer::Message { publish, repeated })
    }

    pub(super) fn end(&mut self, packet_id: u16, stage: Stage) -> bool {
        self.flight.as_mut().is_some_and(|flight| flight.end(packet_id, stage))
    }

    pub(super) fn ended(&mut self, packet_id: u16, reason: Reason, stage: Stage) -> FromServer<'static> {
        if self.end(packet_id, stage) {
            FromServer::Published { packet_id, reason }
        } else {
            FromServer::Stray
        }
    }

    /// PUBREC.
    pub(super) fn received(&mut self, packet_id: u16, reason: Reason) -> FromServer<'static> {
        if is_refusal(reason) {
            return self.ended(packet_id, reason, Stage::Received);
        }
        let stage = self.flight.as_mut().and_then(|flight| flight.stage(packet_id));
        let answer = match stage {
            Some(stage @ (Stage::Received | Stage::Complete)) => {
                *stage = Stage::Complete;
                Reason::Success
            }
            // A PUBREL answers every PUBREC, or the server keeps the identifier for ever.
            _ => Reason::PacketIdNotFound,
        };
        self.ack(Kind::PubRel, packet_id, answer);
        FromServer::Answered
    }

    /// PUBREL.
    pub(super) fn release(&mut self, packet_id: u16) -> FromServer<'static> {
        let known = self.flight.as_mut().is_some_and(|flight| flight.release(packet_id));
        let answer = if known { Reason::Success } else { Reason::PacketIdNotFound };
        self.ack(Kind::PubComp, packet_id, answer);
        FromServer::Answered
    }
}

/// Keep alive, window and packet size after CONNACK (MQTT-3.1.2-21, MQTT-3.2.2-15, MQTT-3.3.4-7).
pub(super) fn agreed(connack: &ConnAck<'_>, keep_alive_s: u16, in_flight_max: u16) -> (u16, u16, u32) {
    let said = &connack.properties;
    let in_flight_max = in_flight_max.min(said.receive_maximum().unwrap_or(u16::MAX));
    let packet_bytes_max = said.maximum_packet_size().unwrap_or(u32::MAX);
    (said.server_keep_alive().unwrap_or(keep_alive_s), in_flight_max, packet_bytes_max)
}
