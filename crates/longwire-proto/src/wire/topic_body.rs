//! The payload of a message of kind `topic`: what was published, in a form that no protocol version owns.
//!
//! `u16 topic length · topic · u8 flags (bits 0–1 QoS, bit 2 retain, bit 3 for one member, bit 4 expires) · u16 properties
//! length · properties · content`; the properties are those of an MQTT 5.0 PUBLISH that a subscriber gets as they were
//! sent (payload format, content type, response topic, correlation data, user properties), in their wire form.

/// What was published to a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TopicBody<'a> {
    /// The topic name; valid as the publisher's packet was.
    pub topic: &'a str,
    /// QoS of the publish, 0 to 2.
    pub qos: u8,
    /// The publisher asked to keep it for later subscribers.
    pub retain: bool,
    /// It is for one member of a shared group: QoS is what that one gets, and its subscription identifier, if it has one,
    /// stands among the properties.
    pub for_member: bool,
    /// The publisher said when it expires, so subscribers are told (MQTT-3.3.2-6); else only the server's own limit holds.
    pub expires: bool,
    /// Forwarded properties in their MQTT 5.0 wire form, without length and expiry.
    pub properties: &'a [u8],
    /// The application's bytes.
    pub content: &'a [u8],
}

impl<'a> TopicBody<'a> {
    /// Bytes in front of the content that are neither topic nor properties.
    pub const OVERHEAD_BYTES: usize = 2 + 1 + 2;

    /// Appends the payload. Topic and properties longer than 65,535 bytes are not published by any protocol; they are
    /// refused with `None`, and nothing is appended.
    #[must_use]
    pub fn encode(&self, out: &mut Vec<u8>) -> Option<()> {
        let topic = u16::try_from(self.topic.len()).ok()?;
        let properties = u16::try_from(self.properties.len()).ok()?;
        out.reserve(Self::OVERHEAD_BYTES + self.topic.len() + self.properties.len() + self.content.len());
        out.extend_from_slice(&topic.to_be_bytes());
        out.extend_from_slice(self.topic.as_bytes());
        let (retain, for_member, expires) = (self.retain, self.for_member, self.expires);
        out.push(self.qos & 3 | u8::from(retain) << 2 | u8::from(for_member) << 3 | u8::from(expires) << 4);
        out.extend_from_slice(&properties.to_be_bytes());
        out.extend_from_slice(self.properties);
        out.extend_from_slice(self.content);
        Some(())
    }

    /// Reads what [`TopicBody::encode`] wrote; `None` for other bytes.
    #[must_use]
    pub fn decode(payload: &'a [u8]) -> Option<TopicBody<'a>> {
        let (topic, rest) = prefixed(payload)?;
        let (&flags, rest) = rest.split_first()?;
        let (properties, content) = prefixed(rest)?;
        let topic = std::str::from_utf8(topic).ok()?;
        if flags > 0b1_1111 || flags & 3 == 3 || topic.is_empty() {
            return None;
        }
        let (retain, for_member, expires) = (flags & 4 != 0, flags & 8 != 0, flags & 16 != 0);
        Some(TopicBody { topic, qos: flags & 3, retain, for_member, expires, properties, content })
    }
}

fn prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}
