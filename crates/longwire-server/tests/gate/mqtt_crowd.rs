//! A crowd of subscribers with wishes of many kinds, and messages of many kinds that ride together: each gets what it asked for,
//! in order, whether its packets are everybody's or its own.

use crate::mqtt_rig::{Client, Hello};
use crate::rig::{Rig, options, welcome};
use longwire_proto::wire::mqtt::{Options, PropertiesBuf, Property, QoS, RetainHandling};
use longwire_server::gate::{GateOptions, TopicDrop};

const MESSAGES: u32 = 200;
/// Larger than the packets of clients that take little.
const LARGE: usize = 200;

/// What a member of the crowd asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Member {
    Plain,
    Older,
    Identified,
    TakesLittle,
    NoLocal,
    AsPublished,
    Twice,
    Elsewhere,
}

use Member::{AsPublished, Elsewhere, Identified, NoLocal, Older, Plain, TakesLittle, Twice};

const KINDS: [Member; 8] = [Plain, Older, Identified, TakesLittle, NoLocal, AsPublished, Twice, Elsewhere];

fn free() -> GateOptions {
    let mut options = options();
    options.inbound.messages_per_s = 10_000;
    options.inbound.bytes_per_s = 64 * 1024 * 1024;
    options
}

fn join(rig: &Rig, kind: Member, number: u64) -> Client {
    let mut client = match kind {
        Older => rig.v311(number),
        TakesLittle => rig.hello(&Hello::v5(number).with(Property::MaximumPacketSize(64))),
        _ => rig.v5(number),
    };
    let mut properties = PropertiesBuf::default();
    if kind == Identified {
        properties.push(Property::SubscriptionIdentifier(77));
    }
    let wanted = Options {
        qos: QoS::AtMostOnce,
        no_local: kind == NoLocal,
        retain_as_published: kind == AsPublished,
        retain_handling: RetainHandling::DoNotSend,
    };
    let topic = if kind == Elsewhere { "other" } else { "news" };
    client.subscribe_with(&[(topic, wanted)], &properties);
    if kind == Twice {
        client.subscribe("+/#", QoS::AtMostOnce);
        client.subscribe("+", QoS::AtMostOnce);
    }
    client
}

/// Every tenth is too large for some, every seventh is retained, every eleventh expires.
fn kind_of(number: u32) -> (usize, bool, bool) {
    (if number % 10 == 3 { LARGE } else { 4 }, number % 7 == 2, number % 11 == 5)
}

fn check(client: &mut Client, kind: Member) {
    for number in 0..MESSAGES {
        let (bytes, retain, expires) = kind_of(number);
        if kind == Elsewhere || (kind == TakesLittle && bytes == LARGE) {
            continue;
        }
        let message = client.message();
        assert_eq!((message.topic, message.qos), ("news", QoS::AtMostOnce), "{kind:?} {number}");
        assert_eq!(message.payload[..4], number.to_be_bytes(), "{kind:?}");
        assert_eq!(message.payload.len(), bytes);
        assert_eq!(message.retain, retain && kind == AsPublished, "{kind:?} {number}");
        let ids: Vec<u32> = message.properties.subscription_identifiers().collect();
        assert_eq!(ids, if kind == Identified { vec![77] } else { vec![] });
        let told = message.properties.message_expiry().is_some();
        assert_eq!(told, expires && kind != Older, "{kind:?} {number}");
    }
    client.nothing_before_pong();
}

#[test]
fn each_of_a_mixed_crowd_gets_what_it_asked_for() {
    let rig = Rig::new(free(), welcome);
    let kinds = KINDS.iter().cycle().take(96).copied();
    let mut crowd: Vec<(Member, Client)> =
        kinds.zip(1..).map(|(kind, number)| (kind, join(&rig, kind, number))).collect();
    let mut publisher = rig.v5(1000);
    for number in 0..MESSAGES {
        let (bytes, retain, expires) = kind_of(number);
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(bytes, 0);
        let mut properties = PropertiesBuf::default();
        if expires {
            properties.push(Property::MessageExpiry(60));
        }
        publisher.publish_with("news", QoS::AtMostOnce, retain, &properties, &payload);
    }
    for (kind, client) in &mut crowd {
        check(client, *kind);
    }
    let small = crowd.iter().filter(|(kind, _)| *kind == TakesLittle).count() as u64;
    let large = (0..MESSAGES).filter(|number| kind_of(*number).0 == LARGE).count() as u64;
    let dropped = |rig: &Rig| rig.sum(|stats| &stats.topics.dropped[TopicDrop::TooLarge as usize]);
    assert!(rig.until(|rig| (dropped(rig) == small * large).then_some(())).is_some());
    let delivered = 84 * u64::from(MESSAGES) - small * large;
    assert_eq!(rig.sum(|stats| &stats.topics.delivered), delivered);
}

/// Who leaves while messages ride takes nothing with it, and who comes into its place gets nothing of what was before.
#[test]
fn a_crowd_that_changes_meanwhile_gets_no_others_messages() {
    let rig = Rig::new(free(), welcome);
    let mut stays: Vec<Client> = (1..=60).map(|number| join(&rig, Plain, number)).collect();
    let mut publisher = rig.v5(1000);
    for round in 0..10_u64 {
        let goes: Vec<Client> =
            (0..20).map(|number| join(&rig, Plain, 2000 + round * 100 + number)).collect();
        for number in 0..MESSAGES {
            publisher.publish("news", QoS::AtMostOnce, &number.to_be_bytes());
        }
        drop(goes);
        let mut comes: Vec<Client> =
            (0..20).map(|number| join(&rig, Elsewhere, 5000 + round * 100 + number)).collect();
        for client in &mut stays {
            (0..MESSAGES).for_each(|number| assert_eq!(client.message().payload, number.to_be_bytes()));
        }
        comes.iter_mut().for_each(Client::nothing_before_pong);
    }
}
