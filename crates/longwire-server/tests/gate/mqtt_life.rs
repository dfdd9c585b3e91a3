//! MQTT clients at the gate: how sessions come, go on and end, and what many of them leave behind.

use crate::mqtt_rig::{Client, Hello};
use crate::rig::{APP, PATIENCE, Rig, options, welcome};
use longwire_proto::close::CloseReason;
use longwire_proto::wire::mqtt::{Packet, Property, QoS, Reason, Version};
use longwire_server::delivery::border::topics::TopicEvent;
use longwire_server::delivery::border::{Command, Event};
use longwire_server::gate::{GateOptions, TopicDrop};
use std::time::Duration;

fn free() -> GateOptions {
    let mut options = options();
    options.inbound.messages_per_s = 10_000;
    options.inbound.bytes_per_s = 64 * 1024 * 1024;
    options.inbound.burst_s = 60;
    options
}

fn ending(client: &mut Client) -> Reason {
    match client.next() {
        Some(Packet::Disconnect(end)) => {
            assert_eq!(client.next(), None);
            end.reason
        }
        other => panic!("expected DISCONNECT, got {other:?}"),
    }
}

/// What a session had goes on: its subscriptions, its place in shared groups, what it had not released.
#[test]
fn a_session_that_was_there_is_resumed() {
    let rig = Rig::new(free(), welcome);
    let mut client = rig.mqtt(Version::V5);
    client
        .say_hello(&Hello { user: "demo/resumed", ..Hello::v5(1) }.with(Property::SessionExpiry(1_000_000)));
    match client.next() {
        Some(Packet::ConnAck(answer)) => {
            assert!(answer.session_present);
            assert_eq!(answer.properties.session_expiry(), Some(86_400), "clipped");
            assert_eq!(answer.properties.receive_maximum(), Some(32));
        }
        other => panic!("expected CONNACK, got {other:?}"),
    }
    let rejoined = rig.until(|rig| {
        rig.events.lock().unwrap().iter().find_map(|event| match event {
            Event::Topic(_, event) => match &**event {
                TopicEvent::Subscribe { packet_id: 0, wishes, is_kept: true } => {
                    Some(wishes.iter().map(|(wish, _)| wish.filter.clone()).collect::<Vec<_>>())
                }
                _ => None,
            },
            _ => None,
        })
    });
    assert_eq!(rejoined, Some(vec!["$share/g/work".into()]));
    let mut publisher = rig.v5(2);
    publisher.publish("kept/x", QoS::AtMostOnce, b"for the one that was there");
    let message = client.message();
    assert_eq!(message.properties.subscription_identifiers().collect::<Vec<_>>(), [3]);
    // Identifier 7 was received before: answered, not taken again; then released.
    client.publish_again(7);
    assert_eq!(client.acked(Packet::PubRec, 7), Reason::Success);
    client.ack(Packet::PubRel, 7);
    assert_eq!(client.acked(Packet::PubComp, 7), Reason::Success);
    let events = rig.events.lock().unwrap();
    let topics = events.iter().filter_map(|event| match event {
        Event::Topic(_, event) => Some(&**event),
        _ => None,
    });
    let (mut published, mut released) = (0, 0);
    for event in topics {
        published += u32::from(matches!(event, TopicEvent::Publish { .. }));
        released += u32::from(matches!(event, TopicEvent::Release { packet_id: 7 }));
    }
    assert_eq!((published, released), (0, 1));
}

#[test]
fn the_hub_ends_a_connection_with_its_word() {
    let rig = Rig::new(free(), welcome);
    for (reason, said) in [
        (CloseReason::TakenOver, Reason::SessionTakenOver),
        (CloseReason::Kicked, Reason::AdministrativeAction),
        (CloseReason::Draining, Reason::ServerShuttingDown),
    ] {
        let mut client = rig.hello(&Hello { will: Some(("w", b"gone")), ..Hello::v5(1) });
        let to = rig.last_login();
        rig.shards.post(to.shard(), Command::Close { to, reason, retry_after_s: 0 }).unwrap();
        assert_eq!(ending(&mut client), said);
        let told = rig.until(|rig| {
            rig.events.lock().unwrap().iter().find_map(|event| match event {
                Event::Closed(closed) if closed.reason == reason => Some(closed.will.is_some()),
                _ => None,
            })
        });
        assert_eq!(told, Some(true), "its will is published");
    }
}

#[test]
fn a_stop_ends_every_client() {
    let rig = Rig::new(free(), welcome);
    let mut clients: Vec<Client> = (1..=6).map(|number| rig.v5(number)).collect();
    let gate = rig.gate.clone();
    rig.runtime.block_on(async { gate.stop(Duration::from_secs(1), Duration::from_secs(4)).await });
    for client in &mut clients {
        assert_eq!(ending(client), Reason::ServerShuttingDown);
    }
}

/// Everything that a publisher sent is delivered or counted as dropped, and others are served meanwhile.
#[test]
fn a_flood_is_delivered_or_counted() {
    const MESSAGES: u64 = 20_000;
    let rig = Rig::new(free(), welcome);
    let (mut reader, mut other) = (rig.v5(1), rig.v5(2));
    reader.subscribe("flood", QoS::AtMostOnce);
    let mut publisher = rig.v5(3);
    let flood = std::thread::spawn(move || {
        for _ in 0..MESSAGES {
            publisher.publish("flood", QoS::AtMostOnce, b"drop in a flood");
        }
        publisher.nothing_before_pong();
    });
    for _ in 0..20 {
        other.nothing_before_pong();
    }
    flood.join().unwrap();
    let counted = |rig: &Rig| {
        let dropped = rig.sum(|stats| &stats.topics.dropped[TopicDrop::Outbox as usize])
            + rig.sum(|stats| &stats.topics.dropped[TopicDrop::ShardFull as usize]);
        (rig.sum(|stats| &stats.topics.delivered), dropped)
    };
    let all = rig.until(|rig| {
        let (delivered, dropped) = counted(rig);
        (delivered + dropped == MESSAGES).then_some(delivered)
    });
    let delivered = all.unwrap_or_else(|| panic!("{:?} of {MESSAGES}", counted(&rig)));
    for _ in 0..delivered {
        assert_eq!(reader.message().payload, b"drop in a flood");
    }
    reader.nothing_before_pong();
}

/// A publisher sends what is more than the carousel takes at once; nobody of a large crowd misses anything.
#[test]
fn a_large_crowd_misses_nothing() {
    const CROWD: u64 = 2_000;
    const MESSAGES: u32 = 100;
    let rig = Rig::new(free(), welcome);
    let mut crowd: Vec<Client> = (1..=CROWD).map(|number| rig.v311(number)).collect();
    for subscriber in &mut crowd {
        subscriber.subscribe("news", QoS::AtMostOnce);
    }
    assert_eq!(rig.sum(|stats| &stats.topics.subscriptions), CROWD);
    let mut publisher = rig.v5(CROWD + 1);
    for number in 0..MESSAGES {
        publisher.publish("news", QoS::AtMostOnce, &number.to_be_bytes());
    }
    for subscriber in &mut crowd {
        for number in 0..MESSAGES {
            assert_eq!(subscriber.message().payload, number.to_be_bytes());
        }
    }
    // The slots of those who go are given to others, who get nothing of what rides.
    drop(crowd.split_off(CROWD as usize / 2));
    let half = rig.until(|rig| (rig.sum(|stats| &stats.topics.sessions) == CROWD / 2 + 1).then_some(()));
    assert!(half.is_some());
    for number in 0..20 {
        publisher.publish("news", QoS::AtMostOnce, &[number]);
    }
    let mut newcomers: Vec<Client> = (1..=20).map(|number| rig.v5(10_000 + number)).collect();
    for newcomer in &mut newcomers {
        newcomer.nothing_before_pong();
    }
    for subscriber in &mut crowd {
        for number in 0..20 {
            assert_eq!(subscriber.message().payload, [number]);
        }
    }
}

/// However often clients come and go, in whatever way, nothing stays.
#[test]
fn cycles_leave_nothing_behind() {
    let rig = Rig::new(free(), welcome);
    for round in 0..40_u64 {
        let mut clients: Vec<Client> = (0..5).map(|number| rig.v5(round * 5 + number + 1)).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.subscribe("all", QoS::AtLeastOnce);
            client.subscribe(&format!("own/{round}/{number}"), QoS::AtMostOnce);
            client.subscribe("own/+/x", QoS::ExactlyOnce);
        }
        let id = clients[0].publish("all", QoS::AtLeastOnce, b"x");
        let mut acked = false;
        let mut came = false;
        while !(acked && came) {
            match clients[0].next() {
                Some(Packet::PubAck(ack)) => acked = ack.packet_id == id,
                Some(Packet::Publish(_)) => came = true,
                other => panic!("{other:?}"),
            }
        }
        for (number, client) in clients.into_iter().enumerate() {
            client.leave(number);
        }
    }
    let empty = rig.until(|rig| {
        let left = rig.sum(|stats| &stats.topics.sessions) + rig.sum(|stats| &stats.connections);
        (left == 0).then_some(())
    });
    assert!(empty.is_some(), "within {PATIENCE:?}");
    assert_eq!(rig.sum(|stats| &stats.topics.subscriptions), 0);
    assert_eq!(rig.sum(|stats| &stats.outbox_bytes), 0);
    assert_eq!(rig.sum(|stats| &stats.deciding), 0);
    for interest in &rig.shards.interests().shards {
        assert!(!interest.may_match(APP, "all") && !interest.may_match(APP, "own/1/x"));
    }
}
