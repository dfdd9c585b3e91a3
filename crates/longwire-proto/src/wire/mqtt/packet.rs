//! The fifteen packets. All borrow from the input and are `Copy`; fields that 3.1.1 does not have are empty there.

use super::decode::read::Reader;
use super::{Kind, Properties, Reason, Version, topic};

/// Quality of service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0.
    AtMostOnce = 0,
    /// QoS 1.
    AtLeastOnce = 1,
    /// QoS 2.
    ExactlyOnce = 2,
}

impl QoS {
    /// The QoS of two bits; 3 does not exist (MQTT-3.3.1-4).
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<QoS> {
        Some(match bits {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            2 => QoS::ExactlyOnce,
            _ => return None,
        })
    }
}

/// One packet of either version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a packet lives on the stack for one turn; boxing would allocate"
)]
pub enum Packet<'a> {
    /// 3.1.
    Connect(Connect<'a>),
    /// 3.2.
    ConnAck(ConnAck<'a>),
    /// 3.3.
    Publish(Publish<'a>),
    /// 3.4.
    PubAck(Ack<'a>),
    /// 3.5.
    PubRec(Ack<'a>),
    /// 3.6.
    PubRel(Ack<'a>),
    /// 3.7.
    PubComp(Ack<'a>),
    /// 3.8.
    Subscribe(Subscribe<'a>),
    /// 3.9.
    SubAck(SubAck<'a>),
    /// 3.10.
    Unsubscribe(Unsubscribe<'a>),
    /// 3.11; in 3.1.1 without codes.
    UnsubAck(SubAck<'a>),
    /// 3.12.
    PingReq,
    /// 3.13.
    PingResp,
    /// 3.14.
    Disconnect(Disconnect<'a>),
    /// 3.15.
    Auth(Auth<'a>),
}

impl Packet<'_> {
    /// The type of the packet.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Packet::Connect(_) => Kind::Connect,
            Packet::ConnAck(_) => Kind::ConnAck,
            Packet::Publish(_) => Kind::Publish,
            Packet::PubAck(_) => Kind::PubAck,
            Packet::PubRec(_) => Kind::PubRec,
            Packet::PubRel(_) => Kind::PubRel,
            Packet::PubComp(_) => Kind::PubComp,
            Packet::Subscribe(_) => Kind::Subscribe,
            Packet::SubAck(_) => Kind::SubAck,
            Packet::Unsubscribe(_) => Kind::Unsubscribe,
            Packet::UnsubAck(_) => Kind::UnsubAck,
            Packet::PingReq => Kind::PingReq,
            Packet::PingResp => Kind::PingResp,
            Packet::Disconnect(_) => Kind::Disconnect,
            Packet::Auth(_) => Kind::Auth,
        }
    }
}

/// CONNECT. It names its version itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connect<'a> {
    /// The version of the session to be.
    pub version: Version,
    /// Clean start; in 3.1.1 clean session.
    pub clean_start: bool,
    /// Seconds; 0 is off.
    pub keep_alive_s: u16,
    /// May be empty: the server then chooses one (MQTT-3.1.3-6).
    pub client_id: &'a str,
    /// What to publish when the connection ends without a DISCONNECT.
    pub will: Option<Will<'a>>,
    /// User name.
    pub user_name: Option<&'a str>,
    /// Password; in 3.1.1 only with a user name.
    pub password: Option<&'a [u8]>,
    /// Properties.
    pub properties: Properties<'a>,
}

/// The will of a CONNECT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Will<'a> {
    /// QoS of the publication.
    pub qos: QoS,
    /// Whether it is retained.
    pub retain: bool,
    /// Topic name.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a [u8],
    /// Properties of the will.
    pub properties: Properties<'a>,
}

/// CONNACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnAck<'a> {
    /// Whether the server has a session of this client; never with a refusal (MQTT-3.2.2-6).
    pub session_present: bool,
    /// In 3.1.1 sent as [`Reason::connect_return`].
    pub reason: Reason,
    /// Properties.
    pub properties: Properties<'a>,
}

/// PUBLISH.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Publish<'a> {
    /// A resend; never with QoS 0 (MQTT-3.3.1-2).
    pub dup: bool,
    /// QoS.
    pub qos: QoS,
    /// Retain.
    pub retain: bool,
    /// Empty only with a topic alias in 5.0.
    pub topic: &'a str,
    /// Not 0 with QoS 1 and 2, 0 with QoS 0, which has none (MQTT-2.2.1-2).
    pub packet_id: u16,
    /// Properties.
    pub properties: Properties<'a>,
    /// Payload.
    pub payload: &'a [u8],
}

/// PUBACK, PUBREC, PUBREL, PUBCOMP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack<'a> {
    /// Not 0.
    pub packet_id: u16,
    /// Always success in 3.1.1.
    pub reason: Reason,
    /// Properties.
    pub properties: Properties<'a>,
}

/// SUBSCRIBE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscribe<'a> {
    /// Not 0.
    pub packet_id: u16,
    /// Properties.
    pub properties: Properties<'a>,
    /// At least one filter (MQTT-3.8.3-2).
    pub filters: Filters<'a>,
}

/// UNSUBSCRIBE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unsubscribe<'a> {
    /// Not 0.
    pub packet_id: u16,
    /// Properties.
    pub properties: Properties<'a>,
    /// At least one filter, without options (MQTT-3.10.3-2).
    pub filters: Filters<'a>,
}

/// SUBACK and UNSUBACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SubAck<'a> {
    /// Not 0.
    pub packet_id: u16,
    /// Properties.
    pub properties: Properties<'a>,
    /// One for each filter, in their order (MQTT-3.9.3-1); none in an UNSUBACK of 3.1.1.
    pub reasons: ReasonList<'a>,
}

/// DISCONNECT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Disconnect<'a> {
    /// Always success in 3.1.1.
    pub reason: Reason,
    /// Properties.
    pub properties: Properties<'a>,
}

/// AUTH, only in 5.0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Auth<'a> {
    /// Success, continue, or re-authenticate.
    pub reason: Reason,
    /// Properties.
    pub properties: Properties<'a>,
}

/// What to send of the retained messages at a subscription (5.0, 3.8.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum RetainHandling {
    /// Always; the only way of 3.1.1.
    Send = 0,
    /// Only if the subscription is new.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

/// The options of a subscription (3.8.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Options {
    /// The highest QoS that is wanted.
    pub qos: QoS,
    /// Not what this client publishes itself; not with a shared subscription (MQTT-3.8.3-4).
    pub no_local: bool,
    /// Keep the retain flag of the publisher.
    pub retain_as_published: bool,
    /// Retained messages at the subscription.
    pub retain_handling: RetainHandling,
}

impl Options {
    /// What 3.1.1 can say.
    #[must_use]
    pub const fn plain(qos: QoS) -> Options {
        Options { qos, no_local: false, retain_as_published: false, retain_handling: RetainHandling::Send }
    }

    /// The options of a byte; `None` for reserved bits, QoS 3 and retain handling 3 (MQTT-3.8.3-5).
    #[must_use]
    pub const fn from_byte(byte: u8, version: Version) -> Option<Options> {
        let reserved = match version {
            Version::V311 => 0b1111_1100,
            Version::V5 => 0b1100_0000,
        };
        let (Some(qos), true) = (QoS::from_bits(byte & 0b11), byte & reserved == 0) else { return None };
        let retain_handling = match byte >> 4 & 0b11 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return None,
        };
        let (no_local, retain_as_published) = (byte & 0b0100 != 0, byte & 0b1000 != 0);
        Some(Options { qos, no_local, retain_as_published, retain_handling })
    }

    /// The byte of these options.
    #[must_use]
    pub const fn to_byte(self, version: Version) -> u8 {
        match version {
            Version::V311 => self.qos as u8,
            Version::V5 => {
                self.qos as u8
                    | (self.no_local as u8) << 2
                    | (self.retain_as_published as u8) << 3
                    | (self.retain_handling as u8) << 4
            }
        }
    }
}

/// One entry of a SUBSCRIBE.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscription<'a> {
    /// The filter.
    pub filter: topic::Filter<'a>,
    /// Its options; [`Options::plain`] QoS 0 in an UNSUBSCRIBE.
    pub options: Options,
}

/// The filters of a SUBSCRIBE or UNSUBSCRIBE: validated, and read when somebody asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filters<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) with_options: bool,
}

impl<'a> Filters<'a> {
    /// The entries in the order of the packet.
    pub fn iter(&self) -> impl Iterator<Item = Subscription<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes, Kind::Subscribe);
        let with_options = self.with_options;
        std::iter::from_fn(move || {
            if reader.is_empty() {
                return None;
            }
            let filter = topic::Filter::split(reader.text().ok()?).ok()?;
            // Options were judged by their version; that of 5.0 reads both.
            let options = if with_options {
                Options::from_byte(reader.u8().ok()?, Version::V5)?
            } else {
                Options::plain(QoS::AtMostOnce)
            };
            Some(Subscription { filter, options })
        })
    }
}

/// The filters of a SUBSCRIBE or UNSUBSCRIBE to be sent.
#[derive(Clone, Default, Debug)]
pub struct FiltersBuf {
    bytes: Vec<u8>,
}

impl FiltersBuf {
    /// Appends an entry of a SUBSCRIBE. The filter is at most 65,535 bytes.
    pub fn subscribe(&mut self, filter: &str, options: Options, version: Version) {
        self.unsubscribe(filter);
        self.bytes.push(options.to_byte(version));
    }

    /// Appends an entry of an UNSUBSCRIBE. The filter is at most 65,535 bytes.
    pub fn unsubscribe(&mut self, filter: &str) {
        debug_assert!(filter.len() <= usize::from(u16::MAX));
        self.bytes.extend_from_slice(&(filter.len() as u16).to_be_bytes());
        self.bytes.extend_from_slice(filter.as_bytes());
    }

    /// The payload of a SUBSCRIBE; only [`subscribe`](Self::subscribe) was called before.
    #[must_use]
    pub fn subscriptions(&self) -> Filters<'_> {
        Filters { bytes: &self.bytes, with_options: true }
    }

    /// The payload of an UNSUBSCRIBE; only [`unsubscribe`](Self::unsubscribe) was called before.
    #[must_use]
    pub fn unsubscriptions(&self) -> Filters<'_> {
        Filters { bytes: &self.bytes, with_options: false }
    }
}

/// The reason codes of a SUBACK or UNSUBACK.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReasonList<'a>(ReasonBytes<'a>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ReasonBytes<'a> {
    Judged(&'a [u8]),
    Own(&'a [Reason]),
}

impl<'a> ReasonList<'a> {
    /// Codes to be sent.
    #[must_use]
    pub const fn new(reasons: &'a [Reason]) -> ReasonList<'a> {
        ReasonList(ReasonBytes::Own(reasons))
    }

    /// Codes that were judged.
    pub(super) const fn judged(bytes: &'a [u8]) -> ReasonList<'a> {
        ReasonList(ReasonBytes::Judged(bytes))
    }

    /// How many.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self.0 {
            ReasonBytes::Judged(bytes) => bytes.len(),
            ReasonBytes::Own(reasons) => reasons.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The codes in the order of the filters.
    pub fn iter(&self) -> impl Iterator<Item = Reason> + use<'a> {
        let (bytes, own): (&[u8], &[Reason]) = match self.0 {
            ReasonBytes::Judged(bytes) => (bytes, &[]),
            ReasonBytes::Own(reasons) => (&[], reasons),
        };
        bytes.iter().filter_map(|&byte| Reason::from_byte(byte)).chain(own.iter().copied())
    }
}
