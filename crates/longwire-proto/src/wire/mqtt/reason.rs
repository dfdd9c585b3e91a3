//! Reason codes of MQTT 5.0 (2.4), which packet may carry which, and the return codes of 3.1.1.

use super::{Kind, Side};

// One row per code keeps number and name together.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal;)*) => {
        /// A reason code. From 0x80 on it says no.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $name = $code,)* }

        impl Reason {
            /// Every code, rising.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The reason of a byte; `None` if MQTT 5.0 knows none.
            #[must_use]
            pub const fn from_byte(byte: u8) -> Option<Reason> {
                Some(match byte { $($code => Reason::$name,)* _ => return None })
            }

            /// The name for people and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// Also "granted QoS 0" and "normal disconnection".
    Success = 0x00, "success";
    /// SUBACK.
    GrantedQoS1 = 0x01, "granted QoS 1";
    /// SUBACK.
    GrantedQoS2 = 0x02, "granted QoS 2";
    /// A client closes and wants its will published.
    DisconnectWithWill = 0x04, "disconnect with will message";
    /// Accepted, and nobody is subscribed.
    NoMatchingSubscribers = 0x10, "no matching subscribers";
    /// UNSUBACK.
    NoSubscriptionExisted = 0x11, "no subscription existed";
    /// AUTH.
    ContinueAuthentication = 0x18, "continue authentication";
    /// AUTH from a client.
    Reauthenticate = 0x19, "re-authenticate";
    /// No better code is wanted.
    Unspecified = 0x80, "unspecified error";
    /// The bytes cannot be parsed.
    MalformedPacket = 0x81, "malformed packet";
    /// The bytes parse and are not allowed.
    ProtocolError = 0x82, "protocol error";
    /// Valid, and not accepted by this server.
    ImplementationSpecific = 0x83, "implementation specific error";
    /// CONNACK.
    UnsupportedProtocolVersion = 0x84, "unsupported protocol version";
    /// CONNACK.
    ClientIdNotValid = 0x85, "client identifier not valid";
    /// CONNACK.
    BadUserNameOrPassword = 0x86, "bad user name or password";
    /// Not allowed for this client.
    NotAuthorized = 0x87, "not authorized";
    /// CONNACK.
    ServerUnavailable = 0x88, "server unavailable";
    /// Try again later.
    ServerBusy = 0x89, "server busy";
    /// CONNACK.
    Banned = 0x8A, "banned";
    /// DISCONNECT.
    ServerShuttingDown = 0x8B, "server shutting down";
    /// The authentication method is not served or not the one of the connection.
    BadAuthenticationMethod = 0x8C, "bad authentication method";
    /// DISCONNECT.
    KeepAliveTimeout = 0x8D, "keep alive timeout";
    /// DISCONNECT: a newer login of the client id.
    SessionTakenOver = 0x8E, "session taken over";
    /// The filter is not accepted.
    TopicFilterInvalid = 0x8F, "topic filter invalid";
    /// The topic name is not accepted.
    TopicNameInvalid = 0x90, "topic name invalid";
    /// The packet identifier is in use.
    PacketIdInUse = 0x91, "packet identifier in use";
    /// The packet identifier is not known.
    PacketIdNotFound = 0x92, "packet identifier not found";
    /// More unacknowledged publications than the receive maximum.
    ReceiveMaximumExceeded = 0x93, "receive maximum exceeded";
    /// 0, or above the topic alias maximum.
    TopicAliasInvalid = 0x94, "topic alias invalid";
    /// Larger than the maximum packet size.
    PacketTooLarge = 0x95, "packet too large";
    /// Too much, too fast.
    MessageRateTooHigh = 0x96, "message rate too high";
    /// A quota of the client is used up.
    QuotaExceeded = 0x97, "quota exceeded";
    /// An operator closed the connection.
    AdministrativeAction = 0x98, "administrative action";
    /// The payload is not of its announced format.
    PayloadFormatInvalid = 0x99, "payload format invalid";
    /// Retained messages are not served.
    RetainNotSupported = 0x9A, "retain not supported";
    /// The QoS is above the maximum.
    QoSNotSupported = 0x9B, "QoS not supported";
    /// For now.
    UseAnotherServer = 0x9C, "use another server";
    /// For good.
    ServerMoved = 0x9D, "server moved";
    /// Shared subscriptions are not served.
    SharedNotSupported = 0x9E, "shared subscriptions not supported";
    /// Connections come too fast.
    ConnectionRateExceeded = 0x9F, "connection rate exceeded";
    /// DISCONNECT.
    MaximumConnectTime = 0xA0, "maximum connect time";
    /// Subscription identifiers are not served.
    SubscriptionIdsNotSupported = 0xA1, "subscription identifiers not supported";
    /// Wildcards are not served.
    WildcardsNotSupported = 0xA2, "wildcard subscriptions not supported";
}

impl Reason {
    /// Whether this is a refusal.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// Whether a packet of this kind from this side may carry the code (MQTT-3.2.2-8, -3.4.2-1, -3.5.2-1,
    /// -3.6.2-1, -3.7.2-1, -3.9.3-2, -3.11.3-2, -3.14.2-1, -3.15.2-1).
    #[must_use]
    pub const fn fits(self, kind: Kind, from: Side) -> bool {
        let code = self as u8;
        match kind {
            Kind::ConnAck => {
                matches!(code, 0x00 | 0x80..=0x8A | 0x8C | 0x90 | 0x95 | 0x97 | 0x99..=0x9D | 0x9F)
            }
            Kind::PubAck | Kind::PubRec => {
                matches!(code, 0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
            }
            Kind::PubRel | Kind::PubComp => matches!(code, 0x00 | 0x92),
            Kind::SubAck => {
                matches!(code, 0x00..=0x02 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91 | 0x97 | 0x9E | 0xA1 | 0xA2)
            }
            Kind::UnsubAck => matches!(code, 0x00 | 0x11 | 0x80 | 0x83 | 0x87 | 0x8F | 0x91),
            Kind::Disconnect => match from {
                Side::Client => matches!(code, 0x00 | 0x04 | 0x80..=0x83 | 0x90 | 0x93..=0x99),
                Side::Server => matches!(
                    code,
                    0x00 | 0x80..=0x83 | 0x87 | 0x89 | 0x8B..=0x90 | 0x93..=0xA2
                ),
            },
            Kind::Auth => match from {
                Side::Client => matches!(code, 0x18 | 0x19),
                Side::Server => matches!(code, 0x00 | 0x18),
            },
            _ => false,
        }
    }

    /// The return code of a 3.1.1 CONNACK; `None` where 3.1.1 closes without a word
    /// (3.1.1 MQTT-3.1.4-1, MQTT-3.2.2-4, -5).
    #[must_use]
    pub const fn connect_return(self) -> Option<u8> {
        Some(match self {
            Reason::Success => 0,
            Reason::UnsupportedProtocolVersion => 1,
            Reason::ClientIdNotValid => 2,
            Reason::ServerUnavailable
            | Reason::ServerBusy
            | Reason::QuotaExceeded
            | Reason::UseAnotherServer
            | Reason::ServerMoved
            | Reason::ConnectionRateExceeded => 3,
            Reason::BadUserNameOrPassword => 4,
            Reason::NotAuthorized | Reason::Banned | Reason::BadAuthenticationMethod => 5,
            _ => return None,
        })
    }

    /// The reason of a 3.1.1 return code.
    #[must_use]
    pub const fn from_connect_return(code: u8) -> Option<Reason> {
        Some(match code {
            0 => Reason::Success,
            1 => Reason::UnsupportedProtocolVersion,
            2 => Reason::ClientIdNotValid,
            3 => Reason::ServerUnavailable,
            4 => Reason::BadUserNameOrPassword,
            5 => Reason::NotAuthorized,
            _ => return None,
        })
    }
}
