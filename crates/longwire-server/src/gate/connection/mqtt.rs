//! What a connection that speaks MQTT holds.

use super::topical::{Identity, Topical};
use crate::delivery::border::topics::{TopicMessage, Will, WillToKeep};
use crate::domain::{AppId, ClientId, WallMs};
use bytes::Bytes;
use longwire_proto::session::mqtt::{Deciding, PacketAssembler, Session};
use longwire_proto::wire::TopicBody;
use longwire_proto::wire::mqtt::SharedPublish;
use std::sync::Arc;

/// CONNECT was read; the login is being decided.
#[derive(Debug)]
pub(in crate::gate) struct MqttDeciding {
    pub(in crate::gate) deciding: Deciding,
    pub(in crate::gate) will: Option<Box<LastWill>>,
    /// Seconds that the session is to outlive its connection, as asked.
    pub(in crate::gate) expiry_s: u32,
}

/// A will as CONNECT brought it.
#[derive(Debug)]
pub(in crate::gate) struct LastWill {
    pub(in crate::gate) shared: SharedPublish<Bytes>,
    pub(in crate::gate) qos: u8,
    pub(in crate::gate) retain: bool,
    /// Seconds from its publication.
    pub(in crate::gate) expiry_s: Option<u32>,
    /// Seconds from the end of the connection to its publication.
    pub(in crate::gate) delay_s: u32,
}

impl LastWill {
    /// As it is stored with a session that outlives its connection.
    pub(in crate::gate) fn to_keep(&self) -> Option<WillToKeep> {
        let mut body = Vec::new();
        let whole = TopicBody {
            for_member: false,
            expires: self.expiry_s.is_some(),
            topic: self.shared.topic(),
            qos: self.qos,
            retain: self.retain,
            properties: self.shared.properties(),
            content: self.shared.payload(),
        };
        whole.encode(&mut body)?;
        Some(WillToKeep { body: body.into(), delay_s: self.delay_s, expiry_s: self.expiry_s })
    }

    /// The will of a connection that ends now.
    pub(in crate::gate) fn due(self, app: AppId, client: ClientId, now: WallMs) -> Will {
        let deadline = self.expiry_s.map_or(WallMs(0), |expiry_s| {
            WallMs(now.0 + (u64::from(self.delay_s) + u64::from(expiry_s)) * 1000)
        });
        let message = TopicMessage::new(app, client, self.shared, (self.qos, self.retain), deadline);
        Will { message: Arc::new(message), delay_s: self.delay_s }
    }
}

/// A session. Idle with one subscription, it owns its two names and that subscription beyond this record.
#[derive(Debug)]
pub(in crate::gate) struct MqttLive {
    pub(in crate::gate) assembler: PacketAssembler,
    pub(in crate::gate) session: Session,
    pub(in crate::gate) topical: Topical,
    pub(in crate::gate) will: Option<Box<LastWill>>,
    /// Seconds that the session outlives its connection.
    pub(in crate::gate) expiry_s: u32,
    /// What the app's devices beat by, seconds; for clients without keep alive.
    otherwise_s: u16,
}

// What every idle MQTT connection costs beside the record of its slot (docs/mqtt-core.md).
const _: () = assert!(size_of::<MqttLive>() <= 168);

impl MqttLive {
    pub(in crate::gate) fn new(
        session: Session,
        identity: Identity<'_>,
        will: Option<Box<LastWill>>,
        expiry_s: u32,
        otherwise_s: u16,
    ) -> MqttLive {
        MqttLive {
            assembler: PacketAssembler::default(),
            session,
            topical: Topical::new(identity),
            will,
            expiry_s,
            otherwise_s,
        }
    }

    /// The session outlives its connection.
    pub(in crate::gate) fn is_kept(&self) -> bool {
        self.expiry_s > 0
    }

    /// Seconds between two signs of life.
    pub(in crate::gate) fn heartbeat_s(&self) -> u32 {
        match self.session.terms().keep_alive_s {
            0 => self.otherwise_s.into(),
            seconds => seconds.into(),
        }
    }

    /// The longest silence that is allowed, seconds.
    pub(in crate::gate) fn idle_limit_s(&self) -> u32 {
        self.session.idle_limit_s(3 * u32::from(self.otherwise_s) + 20)
    }
}
