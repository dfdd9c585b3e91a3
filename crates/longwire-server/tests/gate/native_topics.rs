//! Native devices at the gate: what they subscribe to and publish, before and after the hub has said what they may do.

use crate::mqtt_rig::UNANSWERED;
use crate::rig::{Device, Rig, options, welcome};
use longwire_proto::id::{ClientId, Kind};
use longwire_proto::wire::mqtt::{QoS, Reason, RetainHandling, SharedPublish};
use longwire_proto::wire::{
    DeviceFrame, Publish, ResultCode, SelfService, ServerFrame, Subscribe, TopicBody, UpAck, push_flags,
};
use longwire_server::delivery::border::topics::{
    KeptTopics, PublishOutcome, RetainedCopy, SubscribeOutcome, TopicCommand, TopicEvent, TopicMessage,
    TopicRights, TopicWish,
};
use longwire_server::delivery::border::{Command, Event, Handle};
use longwire_server::domain::WallMs;
use longwire_server::domain::topic::Rules;
use longwire_server::gate::{GateOptions, TopicDrop};
use std::io::Write;
use std::sync::Arc;

/// No rate limit stands in the way of what is tested.
fn free() -> GateOptions {
    let mut options = options();
    options.inbound.messages_per_s = 10_000;
    options.inbound.bytes_per_s = 64 * 1024 * 1024;
    options
}

fn rig() -> Rig {
    Rig::new(free(), welcome)
}

fn subscribe(request: u32, filter: &str, kept: bool) -> DeviceFrame<'_> {
    asking(request, filter, kept, RetainHandling::DoNotSend)
}

fn asking(request: u32, filter: &str, kept: bool, retained: RetainHandling) -> DeviceFrame<'_> {
    let wanted = Subscribe { filter, kept, no_local: false, retained };
    DeviceFrame::SelfService { request, what: SelfService::Subscribe(wanted) }
}

fn publish<'a>(client_message: u64, topic: &'a str, payload: &'a [u8]) -> DeviceFrame<'a> {
    let (at_least_once, retain, ttl_s) = (client_message != 0, false, 0);
    DeviceFrame::Publish(Publish { client_message, at_least_once, retain, ttl_s, topic, payload })
}

fn done(request: u32) -> Option<ServerFrame<'static>> {
    Some(ServerFrame::Result { request, code: ResultCode::Done })
}

fn answer(client_message: u64, outcome: ResultCode) -> Option<ServerFrame<'static>> {
    Some(ServerFrame::UpAck(UpAck { client_message, outcome }))
}

impl Device {
    /// The next frame must be a live message of a topic; its content and the flags of its frame.
    #[track_caller]
    fn topic(&mut self, topic: &str) -> (Vec<u8>, u8) {
        match self.next() {
            Some(ServerFrame::Push(push)) => {
                assert_eq!((push.source, push.kind, push.message.0), (None, Kind::Topic, 0));
                let body = TopicBody::decode(push.payload).unwrap();
                assert_eq!(body.topic, topic);
                (body.content.to_vec(), push.flags)
            }
            other => panic!("instead of a message {other:?}"),
        }
    }
}

fn wants(rig: &Rig, client: u64) -> usize {
    let is_meant = |event: &&Event| matches!(event, Event::Topic(from, _) if from.client == ClientId(client));
    rig.events.lock().unwrap().iter().filter(is_meant).count()
}

fn dropped(rig: &Rig, why: TopicDrop) -> u64 {
    rig.sum(|stats| &stats.topics.dropped[why as usize])
}

fn post(rig: &Rig, to: Handle, command: TopicCommand) {
    rig.shards.post(to.shard(), Command::Topic(command)).unwrap();
}

/// The identifiers under which the hub was asked about subscriptions.
fn subscribes(rig: &Rig, client: u64) -> Vec<u16> {
    let events = rig.events.lock().unwrap();
    let asked = events.iter().filter_map(|event| match event {
        Event::Topic(from, event) if from.client == ClientId(client) => match &**event {
            TopicEvent::Subscribe { packet_id, .. } => Some(*packet_id),
            _ => None,
        },
        _ => None,
    });
    asked.collect()
}

fn answered(rig: &Rig, to: Handle, packet_id: u16, outcome: SubscribeOutcome, retained: Vec<RetainedCopy>) {
    let outcomes = vec![outcome];
    post(rig, to, TopicCommand::Answered { to, packet_id, subscribed: true, outcomes, retained });
}

fn rights(rules: Rules) -> Option<Box<TopicRights>> {
    Some(Box::new(TopicRights { rules: Arc::new(rules), name: "pump".into() }))
}

/// Native devices and MQTT clients on both shards, in one read each.
#[test]
fn a_message_reaches_subscribers_of_both_protocols() {
    let rig = rig();
    let mut devices: Vec<Device> = (1..=4).map(|number| rig.login(number)).collect();
    let mut clients = [rig.v5(11), rig.v311(12)];
    for device in &mut devices {
        device.send(&subscribe(7, "room/+/temp", false));
        assert_eq!(device.next(), done(7));
    }
    for client in &mut clients {
        assert_eq!(client.subscribe("room/#", QoS::AtMostOnce), Reason::Success);
    }
    let mut bytes = Vec::new();
    for number in 0..50_u8 {
        publish(0, "room/1/temp", &[number]).encode(devices[0].client, &mut bytes);
    }
    devices[0].socket.write_all(&bytes).unwrap();
    for number in 0..50 {
        for device in &mut devices {
            assert_eq!(device.topic("room/1/temp"), (vec![number], 0));
        }
        for client in &mut clients {
            assert_eq!(client.message().payload, [number]);
        }
    }
    clients[0].publish("room/2/temp", QoS::AtMostOnce, b"by a client");
    for device in &mut devices {
        assert_eq!(device.topic("room/2/temp").0, b"by a client");
    }
    devices[0].send(&publish(9, "nobody/there", b"x"));
    assert_eq!(devices[0].next(), answer(9, ResultCode::Done));
    let unsubscribe = SelfService::Unsubscribe("room/+/temp");
    devices[0].send(&DeviceFrame::SelfService { request: 8, what: unsubscribe });
    assert_eq!(devices[0].next(), done(8));
    clients[0].publish("room/3/temp", QoS::AtMostOnce, b"for the others");
    assert_eq!(devices[1].topic("room/3/temp").0, b"for the others");
    devices[0].nothing_before_pong();
}

/// A crowd rides on the carousel; what is kept is left to the mailbox.
#[test]
fn a_crowd_gets_every_message_once_and_the_kept_get_it_elsewhere() {
    let rig = rig();
    let mut devices: Vec<Device> = (1..=100).map(|number| rig.login(number)).collect();
    for (at, device) in devices.iter_mut().enumerate() {
        device.send(&subscribe(1, "all", at % 10 == 0));
        assert_eq!(device.next(), done(1));
        device.send(&subscribe(2, "#", false));
        assert_eq!(device.next(), done(2));
    }
    let mut publisher = rig.login(200);
    publisher.send(&publish(1, "all", b"at least once"));
    assert_eq!(publisher.next(), answer(1, ResultCode::Done));
    publisher.send(&publish(0, "all", b"at most once"));
    for (at, device) in devices.iter_mut().enumerate() {
        if at % 10 != 0 {
            assert_eq!(device.topic("all").0, b"at least once");
        }
        assert_eq!(device.topic("all").0, b"at most once");
        device.nothing_before_pong();
    }
}

#[test]
fn what_follows_the_first_frame_about_topics_waits_for_the_rights_and_then_goes_its_way() {
    let rig = rig();
    let mut device = rig.login(UNANSWERED);
    let mut bytes = Vec::new();
    for frame in [subscribe(1, "a/pump", false), DeviceFrame::Ping, publish(0, "a/pump", b"own")] {
        frame.encode(device.client, &mut bytes);
    }
    publish(5, "not/its/own", b"x").encode(device.client, &mut bytes);
    let (front, back) = bytes.split_at(bytes.len() - 3);
    device.socket.write_all(front).unwrap();
    assert!(rig.until(|rig| (wants(rig, UNANSWERED) == 1).then_some(())).is_some());
    device.socket.write_all(back).unwrap();
    let to = rig.handle(UNANSWERED);
    let rules = Rules::parse(["allow all a/%c"]).unwrap();
    post(&rig, to, TopicCommand::Rights { to, rights: rights(rules) });
    assert_eq!(device.topic("a/pump").0, b"own");
    assert_eq!((device.next(), device.next()), (done(1), Some(ServerFrame::Pong)));
    assert_eq!(device.next(), answer(5, ResultCode::NotAllowed));
    assert_eq!(dropped(&rig, TopicDrop::NotAllowed), 1);
    device.send(&subscribe(2, "a/other", false));
    assert_eq!(device.next(), Some(ServerFrame::Result { request: 2, code: ResultCode::NotAllowed }));
    assert_eq!(wants(&rig, UNANSWERED), 1, "asked once");
}

#[test]
fn without_rights_the_first_is_busy_and_the_next_asks_again() {
    let rig = rig();
    let mut device = rig.login(UNANSWERED);
    let to = rig.handle(UNANSWERED);
    let mut bytes = Vec::new();
    for frame in [publish(5, "a", b"x"), DeviceFrame::Ping, subscribe(2, "a", false)] {
        frame.encode(device.client, &mut bytes);
    }
    device.socket.write_all(&bytes).unwrap();
    for (asked, answered) in [(1, answer(5, ResultCode::Busy)), (2, Some(ServerFrame::Pong))] {
        assert!(rig.until(|rig| (wants(rig, UNANSWERED) == asked).then_some(())).is_some());
        post(&rig, to, TopicCommand::Rights { to, rights: None });
        assert_eq!(device.next(), answered);
    }
    assert_eq!(device.next(), Some(ServerFrame::Result { request: 2, code: ResultCode::Busy }));
    device.send(&subscribe(3, "a", false));
    assert!(rig.until(|rig| (wants(rig, UNANSWERED) == 3).then_some(())).is_some());
    post(&rig, to, TopicCommand::Rights { to, rights: rights(Rules::open()) });
    post(&rig, to, TopicCommand::Rights { to, rights: None }); // nobody asked
    assert_eq!(device.next(), done(3));
    device.nothing_before_pong();
}

#[test]
fn a_device_that_goes_while_its_rights_are_asked_for_leaves_nothing() {
    let rig = rig();
    let mut device = rig.login(UNANSWERED);
    let to = rig.handle(UNANSWERED);
    device.send(&subscribe(1, "a", false));
    assert!(rig.until(|rig| (wants(rig, UNANSWERED) == 1).then_some(())).is_some());
    drop(device);
    let gone = rig.until(|rig| {
        let events = rig.events.lock().unwrap();
        events.iter().any(|event| matches!(event, Event::Closed(closed) if closed.from == to)).then_some(())
    });
    assert!(gone.is_some());
    post(&rig, to, TopicCommand::Rights { to, rights: rights(Rules::open()) });
    assert!(rig.until(|rig| (rig.sum(|stats| &stats.commands_missed) == 1).then_some(())).is_some());
    assert_eq!(rig.sum(|stats| &stats.topics.subscriptions), 0);
    let mut other = rig.login(1);
    other.send(&subscribe(1, "b", false));
    assert_eq!(other.next(), done(1));
    assert_eq!(rig.sum(|stats| &stats.topics.subscriptions), 1);
    drop(other);
    assert!(rig.until(|rig| (rig.sum(|stats| &stats.topics.subscriptions) == 0).then_some(())).is_some());
}

#[test]
fn more_than_the_hub_may_be_asked_at_once_is_busy() {
    let rig = rig();
    let mut device = rig.login(UNANSWERED);
    let to = rig.handle(UNANSWERED);
    let mut bytes = Vec::new();
    for request in 1..=33 {
        subscribe(request, &format!("f/{request}"), true).encode(device.client, &mut bytes);
    }
    publish(77, "f/1", b"x").encode(device.client, &mut bytes);
    device.socket.write_all(&bytes).unwrap();
    assert!(rig.until(|rig| (wants(rig, UNANSWERED) == 1).then_some(())).is_some());
    post(&rig, to, TopicCommand::Rights { to, rights: rights(Rules::open()) });
    assert_eq!(device.next(), Some(ServerFrame::Result { request: 33, code: ResultCode::Busy }));
    assert_eq!(device.next(), answer(77, ResultCode::Busy));
    // Each is told that the device keeps a session, then what it wants.
    assert!(rig.until(|rig| (wants(rig, UNANSWERED) == 1 + 2 * 32).then_some(())).is_some());
    let ids = subscribes(&rig, UNANSWERED);
    use SubscribeOutcome::{Done, Quota, Unavailable};
    for (at, (outcome, code)) in
        [(Done, ResultCode::Done), (Quota, ResultCode::Quota), (Unavailable, ResultCode::Busy)]
            .into_iter()
            .enumerate()
    {
        answered(&rig, to, ids[at], outcome, vec![]);
        let request = at as u32 + 1;
        assert_eq!(device.next(), Some(ServerFrame::Result { request, code }));
    }
    assert_eq!(rig.sum(|stats| &stats.topics.subscriptions), 30, "what the hub refused is gone here too");
    device.send(&publish(78, "nobody", b"x"));
    assert_eq!(device.next(), answer(78, ResultCode::Done), "there is room again");
    let unknown = TopicCommand::Published { to, packet_id: 999, outcome: PublishOutcome::Taken };
    post(&rig, to, unknown);
    device.nothing_before_pong();
}

fn retained(payload: &[u8], deadline: WallMs) -> Arc<TopicMessage> {
    let shared = SharedPublish::encode("state", &Default::default(), payload).unwrap();
    let message = TopicMessage::new(
        longwire_server::domain::AppId(1),
        ClientId(0),
        shared.map(bytes::Bytes::from),
        (1, true),
        deadline,
    );
    Arc::new(message)
}

/// A device whose every subscription asks for what is retained, and has no answer yet.
fn awaiting(rig: &Rig, mut device: Device, subscriptions: usize) -> (Device, Handle, Vec<u16>) {
    let to = rig.handle(UNANSWERED);
    for request in 1..=subscriptions {
        device.send(&asking(request as u32, "state", false, RetainHandling::Send));
    }
    assert!(rig.until(|rig| (wants(rig, UNANSWERED) == 1).then_some(())).is_some());
    post(rig, to, TopicCommand::Rights { to, rights: rights(Rules::open()) });
    assert!(rig.until(|rig| (wants(rig, UNANSWERED) == 1 + subscriptions).then_some(())).is_some());
    (device, to, subscribes(rig, UNANSWERED))
}

/// Retained messages for a kept subscription wait for the outbox; those of QoS 0 do not.
#[test]
fn retained_messages_wait_for_room_or_are_counted() {
    let rig = rig();
    let device = rig.login_with_small_buffer(UNANSWERED, 4096);
    let (mut device, to, ids) = awaiting(&rig, device, 3);
    let payload = vec![7; 60_000];
    let copy = |qos, payload: &[u8], deadline| {
        let message = retained(payload, deadline);
        RetainedCopy { message, qos, identifier: 0 }
    };
    let many = (0..200).map(|_| copy(1, &payload, WallMs(0))).collect();
    answered(&rig, to, ids[0], SubscribeOutcome::Done, many);
    let lost = || dropped(&rig, TopicDrop::Queue);
    assert!(rig.until(|_| (lost() > 0).then_some(())).is_some(), "1 MiB may wait");
    answered(&rig, to, ids[1], SubscribeOutcome::Done, vec![copy(0, b"dropped", WallMs(0))]);
    assert!(rig.until(|rig| (dropped(rig, TopicDrop::Outbox) == 1).then_some(())).is_some());
    assert_eq!(device.next(), done(1), "the answer comes first");
    let (mut messages, mut answers) = (0, 0);
    while answers < 1 || messages < 200 - lost() {
        match device.next() {
            Some(ServerFrame::Result { request: 2, code: ResultCode::Done }) => answers += 1,
            Some(ServerFrame::Push(push)) => {
                let body = TopicBody::decode(push.payload).unwrap();
                assert!((body.topic, push.flags) == ("state", push_flags::RETAINED));
                assert!(body.content == payload);
                messages += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    device.nothing_before_pong();
    let late = vec![copy(1, b"expired", WallMs(1)), copy(1, b"in time", WallMs(u64::MAX))];
    answered(&rig, to, ids[2], SubscribeOutcome::Done, late);
    assert_eq!(device.next(), done(3));
    assert_eq!(device.topic("state"), (b"in time".to_vec(), push_flags::RETAINED));
    assert_eq!(dropped(&rig, TopicDrop::Expired), 1);
}

#[test]
fn what_was_retained_does_not_come_behind_a_newer_message_of_its_topic() {
    let rig = rig();
    let device = rig.login(UNANSWERED);
    let (mut device, to, ids) = awaiting(&rig, device, 1);
    let mut other = rig.login(1);
    let (client_message, at_least_once, retain, ttl_s) = (3, true, true, 0);
    let (topic, payload) = ("state", &b"newer"[..]);
    other.send(&DeviceFrame::Publish(Publish {
        client_message,
        at_least_once,
        retain,
        ttl_s,
        topic,
        payload,
    }));
    assert_eq!(other.next(), answer(3, ResultCode::Done));
    assert_eq!(device.topic("state"), (b"newer".to_vec(), 0));
    let older = RetainedCopy { message: retained(b"older", WallMs(0)), qos: 1, identifier: 0 };
    answered(&rig, to, ids[0], SubscribeOutcome::Done, vec![older]);
    assert_eq!(device.next(), done(1));
    device.nothing_before_pong();
}

/// Of an MQTT client's session some is served from here, and kept all the same.
#[test]
fn what_a_native_device_ends_ends_in_its_session_too() {
    let rig = Rig::new(free(), |to, client| {
        let mut command = welcome(to, client);
        if let Command::Attach(attach) = &mut command {
            let wish = |filter: &str, qos| TopicWish {
                filter: filter.into(),
                qos,
                no_local: false,
                retain_as_published: false,
                identifier: 0,
            };
            let rights = TopicRights { rules: Arc::new(Rules::open()), name: "pump".into() };
            let subscriptions = vec![wish("a", 0), wish("b", 0), wish("c", 1)];
            attach.topics = Some(Box::new(KeptTopics { rights, subscriptions }));
        }
        command
    });
    let mut device = rig.login(1);
    device.send(&publish(0, "a", b"own"));
    assert_eq!(device.topic("a").0, b"own", "QoS 0 is served from here");
    device.send(&publish(1, "c", b"own"));
    assert_eq!(device.next(), answer(1, ResultCode::Done));
    device.nothing_before_pong();
    let unsubscribe = |request, filter| {
        let what = SelfService::Unsubscribe(filter);
        DeviceFrame::SelfService { request, what }
    };
    device.send(&unsubscribe(1, "a"));
    assert_eq!(device.next(), done(1));
    device.send(&subscribe(2, "b", false));
    assert_eq!(device.next(), done(2));
    device.send(&unsubscribe(3, "c"));
    assert_eq!(device.next(), done(3));
    let told = rig.until(|rig| {
        let events = rig.events.lock().unwrap();
        let ended = events.iter().filter_map(|event| match event {
            Event::Topic(_, event) => match &**event {
                TopicEvent::Unsubscribe { filters, is_kept: true, .. } => Some(filters.concat()),
                _ => None,
            },
            _ => None,
        });
        let ended: Vec<String> = ended.collect();
        (ended.len() >= 3).then_some(ended)
    });
    assert_eq!(told, Some(["a", "b", "c"].map(String::from).to_vec()));
}

#[test]
fn a_shared_group_hears_of_each_delivery() {
    let rig = rig();
    let mut device = rig.login(1);
    device.send(&subscribe(1, "$share/g/job", false));
    assert_eq!(device.next(), done(1));
    let (to, message) = (rig.handle(1), retained(b"job", WallMs(0)));
    for number in [5, 6] {
        let (message, identifier) = (message.clone(), 0);
        post(&rig, to, TopicCommand::Deliver { to, message, qos: 0, identifier, number });
        assert_eq!(device.topic("state"), (b"job".to_vec(), 0));
    }
    let told = rig.until(|rig| {
        let events = rig.events.lock().unwrap();
        let told: Vec<(u64, bool)> = events
            .iter()
            .filter_map(|event| match event {
                Event::Topic(_, event) => match **event {
                    TopicEvent::Shared { number, acked } => Some((number, acked)),
                    _ => None,
                },
                _ => None,
            })
            .collect();
        (told.len() == 2).then_some(told)
    });
    assert_eq!(told, Some(vec![(5, true), (6, true)]), "given is done: nobody acks");
}
