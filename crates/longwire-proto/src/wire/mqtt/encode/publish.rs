//! A PUBLISH for many subscribers. Topic, properties and payload are encoded once; what differs from connection to
//! connection is a few bytes on the stack. The packet identifier stands between topic and properties, so a packet leaves
//! in four slices: head, topic, middle, tail.

use super::{Oversized, publish_flags, variable, variable_bytes};
use crate::wire::mqtt::header::REMAINING_MAX;
use crate::wire::mqtt::{Kind, Properties, QoS, Version};

/// Properties of one connection beside those that are shared (remaining expiry, subscription identifiers), bytes. More
/// are sent as a packet of their own by [`encode`](super::encode).
pub const OWN_PROPERTY_BYTES_MAX: usize = 32;

/// Packet identifier, property length, alias and own properties.
const MIDDLE_BYTES_MAX: usize = 2 + 4 + 3 + OWN_PROPERTY_BYTES_MAX;

/// An empty topic name, in place of the shared one.
const NO_TOPIC: &[u8] = &[0, 0];

/// The part of a PUBLISH that all subscribers get: `B` is a `Vec`, or what it was put into to be shared.
#[derive(Clone, Debug)]
pub struct SharedPublish<B = Vec<u8>> {
    /// Topic with its length, properties without, payload.
    bytes: B,
    topic_end: u32,
    payload_at: u32,
}

/// What one connection's PUBLISH has of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The version of the session; 3.1.1 gets no properties.
    pub version: Version,
    /// A resend.
    pub dup: bool,
    /// QoS.
    pub qos: QoS,
    /// Retain.
    pub retain: bool,
    /// Not 0 with QoS 1 and 2; unused with QoS 0.
    pub packet_id: u16,
    /// How the topic is named.
    pub aliasing: Aliasing,
}

/// How a PUBLISH names its topic (5.0, 3.3.2.3.4); 3.1.1 always spells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Aliasing {
    /// The name.
    Spelled,
    /// The name, and an alias for later.
    Introduce(u16),
    /// The alias alone.
    Use(u16),
}

impl SharedPublish {
    /// Encodes the shared part. `properties` are those that every subscriber gets (no alias, no subscription identifier).
    ///
    /// # Errors
    /// [`Oversized`], also when a packet that adds everything a [`PublishHead`] can hold would be.
    pub fn encode(
        topic: &str,
        properties: &Properties<'_>,
        payload: &[u8],
    ) -> Result<SharedPublish, Oversized> {
        let length = u16::try_from(topic.len()).map_err(|_| Oversized)?;
        let topic_end = 2 + topic.len();
        let payload_at = topic_end + properties.as_bytes().len();
        let total = payload_at + payload.len();
        if total > REMAINING_MAX as usize - MIDDLE_BYTES_MAX {
            return Err(Oversized);
        }
        let mut bytes = Vec::with_capacity(total);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(topic.as_bytes());
        bytes.extend_from_slice(properties.as_bytes());
        bytes.extend_from_slice(payload);
        Ok(SharedPublish { bytes, topic_end: topic_end as u32, payload_at: payload_at as u32 })
    }
}

impl<B: AsRef<[u8]>> SharedPublish<B> {
    /// Puts the bytes into something that is cheap to share. `share` keeps them as they are.
    pub fn map<C: AsRef<[u8]>>(self, share: impl FnOnce(B) -> C) -> SharedPublish<C> {
        SharedPublish { bytes: share(self.bytes), topic_end: self.topic_end, payload_at: self.payload_at }
    }

    /// The topic name.
    #[must_use]
    pub fn topic(&self) -> &str {
        let topic = self.bytes.as_ref().get(2..self.topic_end as usize).unwrap_or_default();
        std::str::from_utf8(topic).unwrap_or_default()
    }

    /// The properties in their wire form, without their length.
    #[must_use]
    pub fn properties(&self) -> &[u8] {
        self.bytes.as_ref().get(self.topic_end as usize..self.payload_at as usize).unwrap_or_default()
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        self.bytes.as_ref().get(self.payload_at as usize..).unwrap_or_default()
    }

    /// What holds the shared part; [`PublishHead::slices`] lie in it or in the head.
    #[must_use]
    pub const fn bytes(&self) -> &B {
        &self.bytes
    }

    /// Bytes that the shared part holds.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.bytes.as_ref().len()
    }

    /// A whole packet of QoS 0, the same for every subscriber with this version and retain flag: one slice for all.
    #[must_use]
    pub fn whole_at_most_once(&self, version: Version, retain: bool) -> Vec<u8> {
        let stamp = Stamp {
            version,
            dup: false,
            qos: QoS::AtMostOnce,
            retain,
            packet_id: 0,
            aliasing: Aliasing::Spelled,
        };
        let head = PublishHead::bare(self, &stamp);
        head.slices(self).concat()
    }
}

/// The bytes of one connection's PUBLISH around a [`SharedPublish`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PublishHead {
    head: [u8; 5],
    head_bytes: u8,
    middle: [u8; MIDDLE_BYTES_MAX],
    middle_bytes: u8,
    spelled: bool,
    version: Version,
    packet_bytes: u32,
}

impl PublishHead {
    /// A head without properties of its own.
    #[must_use]
    pub fn bare<B: AsRef<[u8]>>(shared: &SharedPublish<B>, stamp: &Stamp) -> PublishHead {
        PublishHead::build(shared, stamp, &[])
    }

    /// A head with properties of its own; `None` if they exceed [`OWN_PROPERTY_BYTES_MAX`]. Left out in 3.1.1.
    #[must_use]
    pub fn new<B: AsRef<[u8]>>(
        shared: &SharedPublish<B>,
        stamp: &Stamp,
        own: &Properties<'_>,
    ) -> Option<PublishHead> {
        let own = own.as_bytes();
        (own.len() <= OWN_PROPERTY_BYTES_MAX).then(|| PublishHead::build(shared, stamp, own))
    }

    fn build<B: AsRef<[u8]>>(shared: &SharedPublish<B>, stamp: &Stamp, own: &[u8]) -> PublishHead {
        let mut middle = Middle { bytes: [0; MIDDLE_BYTES_MAX], used: 0 };
        if stamp.qos != QoS::AtMostOnce {
            middle.put(&stamp.packet_id.to_be_bytes());
        }
        let (mut spelled, mut tail_at) = (true, shared.payload_at);
        if stamp.version == Version::V5 {
            tail_at = shared.topic_end;
            let alias = match stamp.aliasing {
                Aliasing::Spelled => None,
                Aliasing::Introduce(alias) => Some(alias),
                Aliasing::Use(alias) => {
                    spelled = false;
                    Some(alias)
                }
            };
            let alias_bytes = if alias.is_some() { 3 } else { 0 };
            let shared_bytes = shared.payload_at - shared.topic_end;
            let (length, used) = variable(shared_bytes + alias_bytes + own.len() as u32);
            middle.put(&length[..used]);
            if let Some(alias) = alias {
                let [high, low] = alias.to_be_bytes();
                middle.put(&[0x23, high, low]);
            }
            middle.put(own);
        }
        let topic_bytes = if spelled { shared.topic_end } else { NO_TOPIC.len() as u32 };
        let tail_bytes = shared.bytes.as_ref().len() as u32 - tail_at;
        let body = topic_bytes + middle.used as u32 + tail_bytes;
        let (length, used) = variable(body);
        let mut head = [0; 5];
        head[0] = (Kind::Publish as u8) << 4 | publish_flags(stamp.dup, stamp.qos, stamp.retain);
        head[1..].copy_from_slice(&length);
        PublishHead {
            head,
            head_bytes: 1 + used as u8,
            middle: middle.bytes,
            middle_bytes: middle.used as u8,
            spelled,
            version: stamp.version,
            packet_bytes: 1 + variable_bytes(body) + body,
        }
    }

    /// The whole packet in four slices, for one vectored write. `shared` is the part that the head was made for.
    #[must_use]
    pub fn slices<'s, B: AsRef<[u8]>>(&'s self, shared: &'s SharedPublish<B>) -> [&'s [u8]; 4] {
        let bytes = shared.bytes.as_ref();
        let topic_end = shared.topic_end as usize;
        let tail_at = if self.version == Version::V5 { topic_end } else { shared.payload_at as usize };
        [
            &self.head[..usize::from(self.head_bytes)],
            if self.spelled { &bytes[..topic_end] } else { NO_TOPIC },
            &self.middle[..usize::from(self.middle_bytes)],
            &bytes[tail_at..],
        ]
    }

    /// The whole packet, bytes; to be held against the peer's maximum packet size (MQTT-3.1.2-24).
    #[must_use]
    pub const fn packet_bytes(&self) -> u32 {
        self.packet_bytes
    }
}

struct Middle {
    bytes: [u8; MIDDLE_BYTES_MAX],
    used: usize,
}

impl Middle {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.used..self.used + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
    }
}
