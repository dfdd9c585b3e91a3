//! Why bytes were refused. Every fault is the peer's; the connection ends with [`Fault::reason`].

use super::{Kind, Reason};

/// A packet that is not accepted. [`Fault::reason`] is what to answer in CONNACK or DISCONNECT before the connection
/// is closed (MQTT-4.13.1-1), [`Fault::statement`] what settles it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// Type 0, or type 15 in 3.1.1.
    #[error("packet type {0} is reserved")]
    ReservedType(u8),
    /// A packet that only the other side may send.
    #[error("{0:?} is not for this side")]
    Direction(Kind),
    /// The first packet of a connection is not CONNECT.
    #[error("the first packet is {0:?}, not CONNECT")]
    NotConnect(Kind),
    /// The flags of the first byte are not those of its type.
    #[error("the flags of the fixed header are not those of {0:?}")]
    HeaderFlags(Kind),
    /// A variable byte integer with a fifth byte, or longer than its value needs.
    #[error("a variable byte integer is too long for its value")]
    VariableInteger,
    /// The announced packet is longer than the limit.
    #[error("announced packet of {announced} bytes exceeds the limit of {limit}")]
    TooLarge {
        /// Bytes of the whole packet, fixed header included.
        announced: u32,
        /// Bytes allowed.
        limit: u32,
    },
    /// The fields of the packet end before or behind its remaining length.
    #[error("the fields of {0:?} do not fill its remaining length")]
    BodyLength(Kind),
    /// A text is not well-formed UTF-8.
    #[error("a text is not well-formed UTF-8")]
    Utf8,
    /// A text contains U+0000.
    #[error("a text contains U+0000")]
    Null,
    /// A topic, filter, client id or user name contains a control character or a non-character.
    #[error("a name contains a control character or a non-character")]
    Control,
    /// The protocol name is not `MQTT`.
    #[error("the protocol name is not MQTT")]
    ProtocolName,
    /// The protocol level is neither 4 nor 5.
    #[error("protocol level {0} is not served")]
    ProtocolLevel(u8),
    /// The reserved bit of the connect flags is set.
    #[error("the reserved connect flag is set")]
    ConnectFlags,
    /// Will QoS 3, or will QoS or retain without a will.
    #[error("the will flags contradict each other")]
    WillFlags,
    /// 3.1.1: a password without a user name.
    #[error("a password without a user name")]
    PasswordAlone,
    /// Longer than the limit, or empty with a session to be kept in 3.1.1.
    #[error("the client id is not accepted")]
    ClientId,
    /// User name or password longer than the limit.
    #[error("user name or password is longer than accepted")]
    Credentials,
    /// The payload of the will is longer than the limit.
    #[error("the will's payload is longer than accepted")]
    WillTooLarge,
    /// Both QoS bits are set, in a PUBLISH or in the options of a subscription.
    #[error("QoS 3 does not exist")]
    QoS,
    /// DUP is set on QoS 0.
    #[error("DUP is set on QoS 0")]
    DupAtMostOnce,
    /// Packet identifier 0.
    #[error("packet identifier 0")]
    PacketId,
    /// A topic name that is empty, has a wildcard, or exceeds a limit.
    #[error("the topic name is not valid")]
    TopicName,
    /// An empty topic name without a topic alias.
    #[error("neither a topic name nor a topic alias")]
    NoTopic,
    /// A topic filter that is empty, has a misplaced wildcard, or exceeds a limit.
    #[error("the topic filter is not valid")]
    TopicFilter,
    /// `$share/` without a group, with a wildcard in the group, or without a filter behind it.
    #[error("the shared subscription is not well-formed")]
    SharedFilter,
    /// No-local on a shared subscription.
    #[error("no-local on a shared subscription")]
    NoLocalShared,
    /// Reserved bits, or retain handling 3, in the options of a subscription.
    #[error("the subscription options are not valid")]
    SubscriptionOptions,
    /// SUBSCRIBE or UNSUBSCRIBE without a filter, SUBACK or UNSUBACK without a code.
    #[error("{0:?} has an empty payload")]
    NoPayload(Kind),
    /// The property is unknown or not for this packet.
    #[error("property {0:#04x} is not for this packet")]
    PropertyUnknown(u32),
    /// The property comes twice.
    #[error("property {0:#04x} comes twice")]
    PropertyTwice(u8),
    /// The value is outside the property's range.
    #[error("the value of property {0:#04x} is out of range")]
    PropertyValue(u8),
    /// The properties do not fill their announced length.
    #[error("the properties do not fill their length")]
    PropertyLength,
    /// Topic alias 0.
    #[error("topic alias 0")]
    TopicAlias,
    /// A subscription identifier in a PUBLISH from a client.
    #[error("a client's PUBLISH has a subscription identifier")]
    SubscriptionIdentifier,
    /// Authentication data without a method, or AUTH without one.
    #[error("no authentication method")]
    NoAuthMethod,
    /// More user properties, or more bytes of them, than the limit.
    #[error("too many user properties")]
    UserProperties,
    /// The code is unknown or not for this packet and sender.
    #[error("reason code {0:#04x} is not for this packet")]
    ReasonCode(u8),
    /// CONNACK with reserved flags, or with a session and a refusal at once.
    #[error("the acknowledge flags of CONNACK are not valid")]
    ConnAckFlags,
}

impl Fault {
    /// The reason code that names this fault to the peer. In 3.1.1 a refused CONNECT has
    /// [`Reason::connect_return`]; every other fault closes without a word.
    #[must_use]
    pub const fn reason(self) -> Reason {
        match self {
            Fault::Direction(_)
            | Fault::NotConnect(_)
            | Fault::NoTopic
            | Fault::NoLocalShared
            | Fault::NoPayload(_)
            | Fault::PropertyTwice(_)
            | Fault::PropertyValue(_)
            | Fault::SubscriptionIdentifier
            | Fault::NoAuthMethod
            | Fault::ReasonCode(_) => Reason::ProtocolError,
            Fault::TooLarge { .. } | Fault::UserProperties | Fault::WillTooLarge => Reason::PacketTooLarge,
            Fault::ProtocolName | Fault::ProtocolLevel(_) => Reason::UnsupportedProtocolVersion,
            Fault::ClientId => Reason::ClientIdNotValid,
            Fault::Credentials => Reason::BadUserNameOrPassword,
            Fault::TopicName => Reason::TopicNameInvalid,
            Fault::TopicFilter | Fault::SharedFilter => Reason::TopicFilterInvalid,
            Fault::TopicAlias => Reason::TopicAliasInvalid,
            Fault::ReservedType(_)
            | Fault::HeaderFlags(_)
            | Fault::VariableInteger
            | Fault::BodyLength(_)
            | Fault::Utf8
            | Fault::Null
            | Fault::Control
            | Fault::ConnectFlags
            | Fault::WillFlags
            | Fault::PasswordAlone
            | Fault::QoS
            | Fault::DupAtMostOnce
            | Fault::PacketId
            | Fault::SubscriptionOptions
            | Fault::PropertyUnknown(_)
            | Fault::PropertyLength
            | Fault::ConnAckFlags => Reason::MalformedPacket,
        }
    }

    /// The statement of the specification that this packet breaks; a section where the rule has no number, `LIMITS`
    /// where the server itself draws the line.
    #[must_use]
    pub const fn statement(self) -> &'static str {
        match self {
            Fault::ReservedType(_) => "MQTT 2.1.2",
            Fault::Direction(_) => "MQTT 2.1.2",
            Fault::NotConnect(_) => "MQTT-3.1.0-1",
            Fault::HeaderFlags(_) => "MQTT-2.1.3-1",
            Fault::VariableInteger => "MQTT-1.5.5-1",
            Fault::TooLarge { .. } => "MQTT 3.2.2.3.6",
            Fault::BodyLength(_) => "MQTT 2.1.4",
            Fault::Utf8 => "MQTT-1.5.4-1",
            Fault::Null => "MQTT-1.5.4-2",
            Fault::Control => "MQTT 1.5.4",
            Fault::ProtocolName => "MQTT-3.1.2-1",
            Fault::ProtocolLevel(_) => "MQTT-3.1.2-2",
            Fault::ConnectFlags => "MQTT-3.1.2-3",
            Fault::WillFlags => "MQTT-3.1.2-12",
            Fault::PasswordAlone => "3.1.1 MQTT-3.1.2-22",
            Fault::ClientId => "MQTT-3.1.3-8",
            Fault::Credentials | Fault::WillTooLarge | Fault::UserProperties => "LIMITS",
            Fault::QoS => "MQTT-3.3.1-4",
            Fault::DupAtMostOnce => "MQTT-3.3.1-2",
            Fault::PacketId => "MQTT-2.2.1-3",
            Fault::TopicName => "MQTT-3.3.2-2",
            Fault::NoTopic => "MQTT 3.3.2.1",
            Fault::TopicFilter => "MQTT-4.7.1-1",
            Fault::SharedFilter => "MQTT-4.8.2-1",
            Fault::NoLocalShared => "MQTT-3.8.3-4",
            Fault::SubscriptionOptions => "MQTT-3.8.3-5",
            Fault::NoPayload(Kind::Unsubscribe) => "MQTT-3.10.3-2",
            Fault::NoPayload(Kind::SubAck) => "MQTT-3.9.3-1",
            Fault::NoPayload(Kind::UnsubAck) => "MQTT-3.11.3-1",
            Fault::NoPayload(_) => "MQTT-3.8.3-2",
            Fault::PropertyUnknown(_) | Fault::PropertyLength => "MQTT 2.2.2.2",
            Fault::PropertyTwice(_) | Fault::PropertyValue(_) => "MQTT 2.2.2.2",
            Fault::TopicAlias => "MQTT-3.3.2-8",
            Fault::SubscriptionIdentifier => "MQTT-3.3.4-6",
            Fault::NoAuthMethod => "MQTT 3.1.2.11.10",
            Fault::ReasonCode(_) => "MQTT 2.4",
            Fault::ConnAckFlags => "MQTT-3.2.2-1",
        }
    }
}
