//! The properties of MQTT 5.0 (2.2.2): validated once, kept as the bytes that came, read when somebody asks.

use super::decode::read::Reader;
use super::{Fault, Kind, Limits, topic};

/// Where properties stand: in a packet, or in the will inside CONNECT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The properties of the packet itself.
    In(Kind),
    /// The properties of a will.
    Will,
}

impl Place {
    const fn bit(self) -> u16 {
        match self {
            Place::In(kind) => 1 << kind as u8,
            Place::Will => 1,
        }
    }
}

const WILL: u16 = Place::Will.bit();
const CONNECT: u16 = Place::In(Kind::Connect).bit();
const CONNACK: u16 = Place::In(Kind::ConnAck).bit();
const PUBLISH: u16 = Place::In(Kind::Publish).bit();
const SUBSCRIBE: u16 = Place::In(Kind::Subscribe).bit();
const DISCONNECT: u16 = Place::In(Kind::Disconnect).bit();
const AUTH: u16 = Place::In(Kind::Auth).bit();
const ACKS: u16 = Place::In(Kind::PubAck).bit()
    | Place::In(Kind::PubRec).bit()
    | Place::In(Kind::PubRel).bit()
    | Place::In(Kind::PubComp).bit()
    | Place::In(Kind::SubAck).bit()
    | Place::In(Kind::UnsubAck).bit();
const ANYWHERE: u16 = WILL
    | CONNECT
    | CONNACK
    | PUBLISH
    | SUBSCRIBE
    | DISCONNECT
    | AUTH
    | ACKS
    | Place::In(Kind::Unsubscribe).bit();

// One row per property keeps its identifier, form and places together; reader, writer and table cannot disagree.
macro_rules! properties {
    ($($(#[$doc:meta])* $name:ident = $key:literal, $form:ident $(<$life:lifetime>)?, $places:expr;)*) => {
        /// One property.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Property<'a> { $($(#[$doc])* $name(properties!(@value $form)),)* }

        /// The identifier of a property (2.2.2.2).
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum PropertyKey { $($(#[$doc])* $name = $key,)* }

        impl PropertyKey {
            /// Every identifier, rising.
            pub const ALL: &'static [PropertyKey] = &[$(PropertyKey::$name,)*];

            /// Whether the property may stand there.
            #[must_use]
            pub const fn fits(self, place: Place) -> bool {
                let places = match self { $(PropertyKey::$name => $places,)* };
                places & place.bit() != 0
            }
        }

        impl<'a> Property<'a> {
            /// Which property this is.
            #[must_use]
            pub const fn key(&self) -> PropertyKey {
                match self { $(Property::$name(_) => PropertyKey::$name,)* }
            }

            /// Reads one property; its place and range are not judged.
            fn read(key: u32, reader: &mut Reader<'a>) -> Result<Property<'a>, Fault> {
                Ok(match key {
                    $($key => Property::$name(properties!(@read $form, reader, $key)),)*
                    other => return Err(Fault::PropertyUnknown(other)),
                })
            }

            /// Appends the property.
            fn write(&self, out: &mut Vec<u8>) {
                match *self {
                    $(Property::$name(value) => { out.push($key); properties!(@write $form, out, value); })*
                }
            }
        }
    };
    (@value Bit) => { bool };
    (@value U16) => { u16 };
    (@value U32) => { u32 };
    (@value Variable) => { u32 };
    (@value Text) => { &'a str };
    (@value Binary) => { &'a [u8] };
    (@value Pair) => { (&'a str, &'a str) };
    (@read Bit, $r:ident, $key:literal) => {
        match $r.u8()? { 0 => false, 1 => true, _ => return Err(Fault::PropertyValue($key)) }
    };
    (@read U16, $r:ident, $key:literal) => { $r.u16()? };
    (@read U32, $r:ident, $key:literal) => { $r.u32()? };
    (@read Variable, $r:ident, $key:literal) => { $r.variable()? };
    (@read Text, $r:ident, $key:literal) => { $r.text()? };
    (@read Binary, $r:ident, $key:literal) => { $r.binary()? };
    (@read Pair, $r:ident, $key:literal) => { ($r.text()?, $r.text()?) };
    (@write Bit, $out:ident, $v:ident) => { $out.push(u8::from($v)) };
    (@write U16, $out:ident, $v:ident) => { $out.extend_from_slice(&$v.to_be_bytes()) };
    (@write U32, $out:ident, $v:ident) => { $out.extend_from_slice(&$v.to_be_bytes()) };
    (@write Variable, $out:ident, $v:ident) => { super::encode::put_variable($out, $v) };
    (@write Text, $out:ident, $v:ident) => { write_binary($out, $v.as_bytes()) };
    (@write Binary, $out:ident, $v:ident) => { write_binary($out, $v) };
    (@write Pair, $out:ident, $v:ident) => {{
        write_binary($out, $v.0.as_bytes());
        write_binary($out, $v.1.as_bytes());
    }};
}

properties! {
    /// Whether the payload is UTF-8; the codec does not look at the payload.
    PayloadIsUtf8 = 0x01, Bit, PUBLISH | WILL;
    /// Seconds.
    MessageExpiry = 0x02, U32, PUBLISH | WILL;
    /// Text for the receiving application.
    ContentType = 0x03, Text, PUBLISH | WILL;
    /// A topic name (MQTT-3.3.2-14).
    ResponseTopic = 0x08, Text, PUBLISH | WILL;
    /// Bytes for the requester.
    CorrelationData = 0x09, Binary, PUBLISH | WILL;
    /// 1 to 268,435,455; may come several times in a server's PUBLISH.
    SubscriptionIdentifier = 0x0B, Variable, PUBLISH | SUBSCRIBE;
    /// Seconds; `u32::MAX` is for ever.
    SessionExpiry = 0x11, U32, CONNECT | CONNACK | DISCONNECT;
    /// The client id that the server chose.
    AssignedClientId = 0x12, Text, CONNACK;
    /// Seconds.
    ServerKeepAlive = 0x13, U16, CONNACK;
    /// Name of the method.
    AuthMethod = 0x15, Text, CONNECT | CONNACK | AUTH;
    /// Bytes of the method.
    AuthData = 0x16, Binary, CONNECT | CONNACK | AUTH;
    /// Whether reason strings and user properties are wanted on failures.
    RequestProblemInformation = 0x17, Bit, CONNECT;
    /// Seconds.
    WillDelay = 0x18, U32, WILL;
    /// Whether response information is wanted.
    RequestResponseInformation = 0x19, Bit, CONNECT;
    /// What a client builds response topics from.
    ResponseInformation = 0x1A, Text, CONNACK;
    /// Other servers.
    ServerReference = 0x1C, Text, CONNACK | DISCONNECT;
    /// For people.
    ReasonString = 0x1F, Text, CONNACK | ACKS | DISCONNECT | AUTH;
    /// QoS 1 and 2 publications at once, not 0.
    ReceiveMaximum = 0x21, U16, CONNECT | CONNACK;
    /// The highest alias that is accepted.
    TopicAliasMaximum = 0x22, U16, CONNECT | CONNACK;
    /// Not 0 (MQTT-3.3.2-8).
    TopicAlias = 0x23, U16, PUBLISH;
    /// Absent: 2; here: false is 0 and true is 1.
    MaximumQoS = 0x24, Bit, CONNACK;
    /// Whether retained messages are served.
    RetainAvailable = 0x25, Bit, CONNACK;
    /// Name and value; may come several times, in order.
    UserProperty = 0x26, Pair, ANYWHERE;
    /// Bytes of a whole packet, not 0.
    MaximumPacketSize = 0x27, U32, CONNECT | CONNACK;
    /// Whether wildcards are served.
    WildcardAvailable = 0x28, Bit, CONNACK;
    /// Whether subscription identifiers are served.
    SubscriptionIdsAvailable = 0x29, Bit, CONNACK;
    /// Whether shared subscriptions are served.
    SharedAvailable = 0x2A, Bit, CONNACK;
}

fn write_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    debug_assert!(bytes.len() <= usize::from(u16::MAX));
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Validated properties: the bytes behind the property length, and which keys are among them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Properties<'a> {
    bytes: &'a [u8],
    /// Bit `n`: property `n` is present. The highest identifier is 0x2A.
    seen: u64,
}

macro_rules! single {
    ($($(#[$doc:meta])* $method:ident: $variant:ident -> $value:ty;)*) => {
        impl<'a> Properties<'a> {
            $($(#[$doc])*
            #[must_use]
            pub fn $method(&self) -> Option<$value> {
                match self.find(PropertyKey::$variant)? {
                    Property::$variant(value) => Some(value),
                    _ => None,
                }
            })*
        }
    };
}

single! {
    /// Whether the payload is announced as UTF-8.
    payload_is_utf8: PayloadIsUtf8 -> bool;
    /// Seconds.
    message_expiry: MessageExpiry -> u32;
    /// Text for the receiving application.
    content_type: ContentType -> &'a str;
    /// A topic name without wildcards.
    response_topic: ResponseTopic -> &'a str;
    /// Bytes for the requester.
    correlation: CorrelationData -> &'a [u8];
    /// Seconds; `u32::MAX` is for ever.
    session_expiry: SessionExpiry -> u32;
    /// The client id that the server chose.
    assigned_client_id: AssignedClientId -> &'a str;
    /// Seconds.
    server_keep_alive: ServerKeepAlive -> u16;
    /// Name of the method of enhanced authentication.
    auth_method: AuthMethod -> &'a str;
    /// Bytes of the method.
    auth_bytes: AuthData -> &'a [u8];
    /// Absent means true.
    request_problem_information: RequestProblemInformation -> bool;
    /// Seconds.
    will_delay: WillDelay -> u32;
    /// Absent means false.
    request_response_information: RequestResponseInformation -> bool;
    /// What a client builds response topics from.
    response_information: ResponseInformation -> &'a str;
    /// Other servers.
    server_reference: ServerReference -> &'a str;
    /// For people.
    reason_string: ReasonString -> &'a str;
    /// Never 0; absent means 65,535.
    receive_maximum: ReceiveMaximum -> u16;
    /// Absent means 0.
    topic_alias_maximum: TopicAliasMaximum -> u16;
    /// Never 0.
    topic_alias: TopicAlias -> u16;
    /// False is QoS 0, true QoS 1; absent means 2.
    maximum_qos: MaximumQoS -> bool;
    /// Absent means true.
    retain_available: RetainAvailable -> bool;
    /// Never 0; absent means no limit.
    maximum_packet_size: MaximumPacketSize -> u32;
    /// Absent means true.
    wildcard_available: WildcardAvailable -> bool;
    /// Absent means true.
    subscription_ids_available: SubscriptionIdsAvailable -> bool;
    /// Absent means true.
    shared_available: SharedAvailable -> bool;
}

impl<'a> Properties<'a> {
    /// Whether the property is present; costs nothing.
    #[must_use]
    pub const fn has(&self, key: PropertyKey) -> bool {
        self.seen >> key as u8 & 1 == 1
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The encoded properties without their length.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// All properties in the order of the wire.
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes, Kind::Publish);
        std::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            let key = reader.variable().ok()?;
            Property::read(key, &mut reader).ok()
        })
    }

    /// User properties in the order of the wire.
    pub fn user_properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.if_any(PropertyKey::UserProperty).iter().filter_map(|property| match property {
            Property::UserProperty(pair) => Some(pair),
            _ => None,
        })
    }

    /// Subscription identifiers in the order of the wire.
    pub fn subscription_identifiers(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.if_any(PropertyKey::SubscriptionIdentifier).iter().filter_map(|property| match property {
            Property::SubscriptionIdentifier(id) => Some(id),
            _ => None,
        })
    }

    fn if_any(&self, key: PropertyKey) -> Properties<'a> {
        if self.has(key) { *self } else { Properties::default() }
    }

    fn find(&self, key: PropertyKey) -> Option<Property<'a>> {
        if !self.has(key) {
            return None;
        }
        self.iter().find(|property| property.key() == key)
    }

    /// Reads a property length and what it announces, and judges every property.
    #[inline]
    pub(super) fn read(
        reader: &mut Reader<'a>,
        place: Place,
        repeated_ids: bool,
        limits: &Limits,
    ) -> Result<Properties<'a>, Fault> {
        let length = reader.variable()? as usize;
        if length == 0 {
            return Ok(Properties::default());
        }
        let bytes = reader.bytes(length).map_err(|_| Fault::PropertyLength)?;
        Ok(Properties { bytes, seen: judge(bytes, place, repeated_ids, limits)? })
    }
}

/// Judges all properties; the keys that are present.
fn judge(bytes: &[u8], place: Place, repeated_ids: bool, limits: &Limits) -> Result<u64, Fault> {
    let mut seen = 0u64;
    let (mut pairs, mut pair_bytes) = (0u32, 0usize);
    let mut reader = Reader::new(bytes, Kind::Publish);
    while !reader.is_empty() {
        let key = reader.variable().map_err(cut_short)?;
        let property = Property::read(key, &mut reader).map_err(cut_short)?;
        let key = property.key();
        if !key.fits(place) {
            return Err(Fault::PropertyUnknown(key as u32));
        }
        let bit = 1 << key as u8;
        let repeats =
            key == PropertyKey::UserProperty || (key == PropertyKey::SubscriptionIdentifier && repeated_ids);
        if seen & bit != 0 && !repeats {
            return Err(Fault::PropertyTwice(key as u8));
        }
        seen |= bit;
        match property {
            Property::SubscriptionIdentifier(0)
            | Property::ReceiveMaximum(0)
            | Property::MaximumPacketSize(0) => return Err(Fault::PropertyValue(key as u8)),
            Property::TopicAlias(0) => return Err(Fault::TopicAlias),
            Property::ResponseTopic(name) => {
                topic::name(name.as_bytes(), limits)?;
            }
            Property::UserProperty((name, value)) => {
                pairs += 1;
                pair_bytes += name.len() + value.len();
                if pairs > u32::from(limits.user_properties_max)
                    || pair_bytes > limits.user_property_bytes_max as usize
                {
                    return Err(Fault::UserProperties);
                }
            }
            _ => {}
        }
    }
    Ok(seen)
}

/// A value that reaches behind the properties' end.
fn cut_short(fault: Fault) -> Fault {
    if matches!(fault, Fault::BodyLength(_)) { Fault::PropertyLength } else { fault }
}

/// Properties to be sent. Which may stand where is the caller's duty; [`PropertyKey::fits`] says.
#[derive(Clone, Default, Debug)]
pub struct PropertiesBuf {
    bytes: Vec<u8>,
    seen: u64,
}

impl PropertiesBuf {
    /// Those of a wire form that was valid once: what [`Properties::as_bytes`] gave. What follows a fault is left out.
    #[must_use]
    pub fn from_wire(bytes: &[u8]) -> PropertiesBuf {
        Properties { bytes, seen: u64::MAX }.iter().collect()
    }

    /// Appends one. Texts and binaries are at most 65,535 bytes.
    pub fn push(&mut self, property: Property<'_>) {
        self.seen |= 1 << property.key() as u8;
        property.write(&mut self.bytes);
    }

    /// What was appended.
    #[must_use]
    pub fn as_properties(&self) -> Properties<'_> {
        Properties { bytes: &self.bytes, seen: self.seen }
    }

    /// Forgets all and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.seen = 0;
    }
}

impl<'a> FromIterator<Property<'a>> for PropertiesBuf {
    fn from_iter<I: IntoIterator<Item = Property<'a>>>(properties: I) -> PropertiesBuf {
        let mut buf = PropertiesBuf::default();
        properties.into_iter().for_each(|property| buf.push(property));
        buf
    }
}
