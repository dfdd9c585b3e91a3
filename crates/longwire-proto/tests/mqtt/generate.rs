//! Valid packets from a seed.

use longwire_proto::wire::mqtt::{
    Ack, Auth, ConnAck, Connect, Disconnect, FiltersBuf, Kind, Options, Packet, Place, PropertiesBuf,
    Property, PropertyKey, Publish, QoS, Reason, ReasonList, Side, SubAck, Subscribe, Unsubscribe, Version,
    Will, encode,
};

/// SplitMix64.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.roll() % bound as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    fn id(&mut self) -> u16 {
        1 + self.below(65_535) as u16
    }

    fn qos(&mut self) -> QoS {
        self.of(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce])
    }
}

const TOPICS: &[&str] = &["a", "a/b", "/", "$SYS/x", "日本/語", "a//b", "level/of/some/length"];
const FILTERS: &[&str] = &["a", "a/+", "#", "+/+/#", "/", "$share/g/a/#", "$SYS/#", "日本/+"];
const TEXTS: &[&str] = &["", "x", "some words", "日本語", "\u{1F600}"];
const BYTES: &[&[u8]] = &[b"", b"\x00", b"bytes", &[0xFF; 40]];

fn property(key: PropertyKey, dice: &mut Dice) -> Property<'static> {
    let text = dice.of(TEXTS);
    let bytes = dice.of(BYTES);
    let (bit, number) = (dice.one_in(2), 1 + dice.below(65_535) as u16);
    let wide = u32::from(number) << dice.below(12);
    match key {
        PropertyKey::PayloadIsUtf8 => Property::PayloadIsUtf8(false),
        PropertyKey::MessageExpiry => Property::MessageExpiry(wide),
        PropertyKey::ContentType => Property::ContentType(text),
        PropertyKey::ResponseTopic => Property::ResponseTopic(dice.of(TOPICS)),
        PropertyKey::CorrelationData => Property::CorrelationData(bytes),
        PropertyKey::SubscriptionIdentifier => Property::SubscriptionIdentifier(wide),
        PropertyKey::SessionExpiry => Property::SessionExpiry(wide),
        PropertyKey::AssignedClientId => Property::AssignedClientId(text),
        PropertyKey::ServerKeepAlive => Property::ServerKeepAlive(number),
        PropertyKey::AuthMethod => Property::AuthMethod("method"),
        PropertyKey::AuthData => Property::AuthData(bytes),
        PropertyKey::RequestProblemInformation => Property::RequestProblemInformation(bit),
        PropertyKey::WillDelay => Property::WillDelay(wide),
        PropertyKey::RequestResponseInformation => Property::RequestResponseInformation(bit),
        PropertyKey::ResponseInformation => Property::ResponseInformation(text),
        PropertyKey::ServerReference => Property::ServerReference(text),
        PropertyKey::ReasonString => Property::ReasonString(text),
        PropertyKey::ReceiveMaximum => Property::ReceiveMaximum(number),
        PropertyKey::TopicAliasMaximum => Property::TopicAliasMaximum(number),
        PropertyKey::TopicAlias => Property::TopicAlias(number),
        PropertyKey::MaximumQoS => Property::MaximumQoS(bit),
        PropertyKey::RetainAvailable => Property::RetainAvailable(bit),
        PropertyKey::UserProperty => Property::UserProperty((text, dice.of(TEXTS))),
        PropertyKey::MaximumPacketSize => Property::MaximumPacketSize(wide),
        PropertyKey::WildcardAvailable => Property::WildcardAvailable(bit),
        PropertyKey::SubscriptionIdsAvailable => Property::SubscriptionIdsAvailable(bit),
        PropertyKey::SharedAvailable => Property::SharedAvailable(bit),
    }
}

/// Some of the properties that may stand there.
fn properties(place: Place, from: Side, version: Version, dice: &mut Dice) -> PropertiesBuf {
    let mut buf = PropertiesBuf::default();
    if version == Version::V311 {
        return buf;
    }
    let auth = place == Place::In(Kind::Auth) || dice.one_in(4);
    for &key in PropertyKey::ALL.iter().filter(|key| key.fits(place)) {
        let times = match key {
            PropertyKey::AuthMethod => usize::from(auth),
            PropertyKey::AuthData => usize::from(auth && dice.one_in(2)),
            PropertyKey::SessionExpiry if place == Place::In(Kind::Disconnect) && from == Side::Server => 0,
            PropertyKey::SubscriptionIdentifier if place == Place::In(Kind::Publish) => {
                if from == Side::Client { 0 } else { dice.below(3) }
            }
            PropertyKey::UserProperty => dice.below(3),
            _ => usize::from(dice.one_in(3)),
        };
        for _ in 0..times {
            buf.push(property(key, dice));
        }
    }
    buf
}

fn reason(kind: Kind, from: Side, version: Version, dice: &mut Dice) -> Reason {
    let fitting: Vec<Reason> = Reason::ALL
        .iter()
        .copied()
        .filter(|reason| match version {
            Version::V5 => reason.fits(kind, from),
            Version::V311 => match kind {
                Kind::ConnAck => (0..=5).any(|code| Reason::from_connect_return(code) == Some(*reason)),
                Kind::SubAck => matches!(*reason as u8, 0..=2 | 0x80),
                _ => *reason == Reason::Success,
            },
        })
        .collect();
    dice.of(&fitting)
}

/// The kinds that a side may send.
fn kinds(version: Version, from: Side) -> Vec<Kind> {
    let mut kinds = vec![Kind::Publish, Kind::PubAck, Kind::PubRec, Kind::PubRel, Kind::PubComp];
    match from {
        Side::Client => {
            kinds.extend([Kind::Connect, Kind::Subscribe, Kind::Unsubscribe, Kind::PingReq, Kind::Disconnect])
        }
        Side::Server => kinds.extend([Kind::ConnAck, Kind::SubAck, Kind::UnsubAck, Kind::PingResp]),
    }
    if version == Version::V5 {
        kinds.push(Kind::Auth);
        if from == Side::Server {
            kinds.push(Kind::Disconnect);
        }
    }
    kinds
}

/// The bytes of a valid packet.
pub(crate) fn packet(version: Version, from: Side, dice: &mut Dice) -> Vec<u8> {
    let mut out = Vec::new();
    let kind = dice.of(&kinds(version, from));
    let buf = properties(Place::In(kind), from, version, dice);
    let properties = buf.as_properties();
    let reason_code = reason_or_success(kind, from, version, dice);
    let will_buf = self::properties(Place::Will, from, version, dice);
    let mut filters = FiltersBuf::default();
    for _ in 0..=dice.below(3) {
        let filter = dice.of(FILTERS);
        if kind == Kind::Unsubscribe {
            filters.unsubscribe(filter);
            continue;
        }
        let mut byte = dice.qos() as u8;
        if version == Version::V5 {
            let no_local = if filter.starts_with("$share") { 0 } else { dice.below(2) as u8 };
            byte |= no_local << 2 | (dice.below(2) as u8) << 3 | (dice.below(3) as u8) << 4;
        }
        filters.subscribe(filter, Options::from_byte(byte, version).unwrap(), version);
    }
    let mut reasons = Vec::new();
    if version == Version::V5 || kind == Kind::SubAck {
        reasons = (0..=dice.below(3)).map(|_| reason_or_success(kind, from, version, dice)).collect();
    }
    let reasons = ReasonList::new(&reasons);
    let ack = Ack { packet_id: dice.id(), reason: reason_code, properties };
    let packet_id = ack.packet_id;
    let packet = match kind {
        Kind::Connect => Packet::Connect(connect(version, dice, properties, will_buf.as_properties())),
        Kind::ConnAck => {
            let session_present = reason_code == Reason::Success && dice.one_in(2);
            Packet::ConnAck(ConnAck { session_present, reason: reason_code, properties })
        }
        Kind::Publish => Packet::Publish(publish(dice, properties)),
        Kind::PubAck => Packet::PubAck(ack),
        Kind::PubRec => Packet::PubRec(ack),
        Kind::PubRel => Packet::PubRel(ack),
        Kind::PubComp => Packet::PubComp(ack),
        Kind::Subscribe => {
            Packet::Subscribe(Subscribe { packet_id, properties, filters: filters.subscriptions() })
        }
        Kind::Unsubscribe => {
            Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters: filters.unsubscriptions() })
        }
        Kind::SubAck => Packet::SubAck(SubAck { packet_id, properties, reasons }),
        Kind::UnsubAck => Packet::UnsubAck(SubAck { packet_id, properties, reasons }),
        Kind::PingReq => Packet::PingReq,
        Kind::PingResp => Packet::PingResp,
        Kind::Disconnect => Packet::Disconnect(Disconnect { reason: reason_code, properties }),
        Kind::Auth => Packet::Auth(Auth { reason: reason_code, properties }),
    };
    encode(&packet, version, &mut out).unwrap();
    out
}

fn reason_or_success(kind: Kind, from: Side, version: Version, dice: &mut Dice) -> Reason {
    let coded = matches!(kind, Kind::ConnAck | Kind::SubAck | Kind::UnsubAck | Kind::Disconnect | Kind::Auth)
        || matches!(kind, Kind::PubAck | Kind::PubRec | Kind::PubRel | Kind::PubComp);
    if coded { reason(kind, from, version, dice) } else { Reason::Success }
}

fn connect<'a>(
    version: Version,
    dice: &mut Dice,
    properties: longwire_proto::wire::mqtt::Properties<'a>,
    will: longwire_proto::wire::mqtt::Properties<'a>,
) -> Connect<'a> {
    let user_name = dice.one_in(2).then(|| dice.of(TEXTS));
    let client_id = dice.of(TEXTS);
    Connect {
        version,
        clean_start: client_id.is_empty() || dice.one_in(2),
        keep_alive_s: dice.id(),
        client_id,
        will: dice.one_in(2).then(|| Will {
            qos: dice.qos(),
            retain: dice.one_in(2),
            topic: dice.of(TOPICS),
            payload: dice.of(BYTES),
            properties: will,
        }),
        user_name,
        password: (user_name.is_some() && dice.one_in(2)).then(|| dice.of(BYTES)),
        properties,
    }
}

fn publish<'a>(dice: &mut Dice, properties: longwire_proto::wire::mqtt::Properties<'a>) -> Publish<'a> {
    let qos = dice.qos();
    let aliased = properties.has(PropertyKey::TopicAlias) && dice.one_in(2);
    Publish {
        dup: qos != QoS::AtMostOnce && dice.one_in(2),
        qos,
        retain: dice.one_in(2),
        topic: if aliased { "" } else { dice.of(TOPICS) },
        packet_id: if qos == QoS::AtMostOnce { 0 } else { dice.id() },
        properties,
        payload: dice.of(BYTES),
    }
}

/// One to three bytes of the body changed, cut or added; the length is put right again.
pub(crate) fn mutated(packet: &[u8], dice: &mut Dice) -> Vec<u8> {
    let header = 1 + packet[1..].iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let mut body = packet[header..].to_vec();
    for _ in 0..=dice.below(3) {
        if body.is_empty() {
            break;
        }
        let at = dice.below(body.len());
        match dice.below(6) {
            0 => body[at] = dice.roll() as u8,
            1 => body[at] ^= 1 << dice.below(8),
            2 => body[at] = body[at].wrapping_add(1),
            3 => drop(body.remove(at)),
            4 => body.insert(at, dice.roll() as u8),
            _ => body.truncate(at),
        }
    }
    let mut out = vec![packet[0]];
    let mut length = body.len();
    loop {
        let more = length > 0x7F;
        out.push((length & 0x7F) as u8 | u8::from(more) << 7);
        length >>= 7;
        if !more {
            break;
        }
    }
    out.extend(body);
    out
}
