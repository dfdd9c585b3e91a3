//! Topics as the hub serves them: kept sessions, retained messages, wills, upstream, and what is refused.
#![allow(clippy::unwrap_used, missing_docs)]

mod hub_rig;
mod hub_topics_rig;

use hub_rig::until;
use hub_topics_rig::{Client, TopicRig, content, message, retained, wish};
use longwire_proto::close::CloseReason;
use longwire_proto::id::{ClientId, Kind, Position, Source, TraceId};
use longwire_proto::wire::TopicBody;
use longwire_proto::wire::mqtt::Version;
use longwire_server::delivery::border::topics::{
    MqttLogin, PublishOutcome, SubscribeOutcome, TopicCommand, TopicEvent, Will,
};
use longwire_server::delivery::border::{Closed, Command, Event, Login, Shards};
use longwire_server::delivery::hub::{Publication, PushError};
use longwire_server::domain::topic::TopicName;
use longwire_server::domain::{Audience, WallMs};
use longwire_server::store::port::PageEntry;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_session_gets_what_was_published_while_it_was_away_also_after_a_restart() {
    let mut rig = TopicRig::new(1).await;
    let phone = rig.connect("phone", 3600).await;
    assert_eq!(rig.subscribe(&phone, &[("a/+", 1)]).await, [SubscribeOutcome::Done]);
    rig.close(&phone).await;
    let sender = rig.connect("sender", 0).await;
    assert_eq!(rig.publish(&sender, message(&rig, &sender, "a/b", 1)).await, PublishOutcome::Taken);
    assert_eq!(rig.publish(&sender, message(&rig, &sender, "b", 1)).await, PublishOutcome::Nobody);
    rig = rig.restarted().await;
    let sender = rig.connect("sender", 0).await;
    assert_eq!(rig.publish(&sender, message(&rig, &sender, "a/c", 2)).await, PublishOutcome::Taken);
    assert_eq!(rig.publish(&sender, message(&rig, &sender, "a/d", 0)).await, PublishOutcome::Nobody);
    let start = rig.begin("phone", false, 3600).await;
    assert!(start.present && start.subscriptions.len() == 1);
    let page = rig.mailbox(phone.client).await;
    let topics: Vec<(Kind, String, u8)> = page
        .iter()
        .map(|entry| match entry {
            PageEntry::Message { shared, .. } => {
                // Message id, kind, trace, an empty key, payload.
                let body = TopicBody::decode(&shared[34..]).unwrap();
                (Kind::from_code(shared[16]).unwrap(), body.topic.to_owned(), body.qos)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(topics, [(Kind::Topic, "a/b".into(), 1), (Kind::Topic, "a/c".into(), 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_connected_is_delivered_to_before_the_publisher_is_answered() {
    let rig = TopicRig::new(2).await;
    let phone = rig.connect_to(1, "phone", 60).await;
    rig.subscribe(&phone, &[("a", 2)]).await;
    let sender = rig.connect("sender", 0).await;
    assert_eq!(rig.publish(&sender, message(&rig, &sender, "a", 1)).await, PublishOutcome::Taken);
    let Command::Deliver { to, .. } = rig.shards.next(1).await else { panic!() };
    assert_eq!(to, phone.handle);
    assert_eq!(
        rig.unsubscribe(&phone, &["a", "b"]).await,
        [SubscribeOutcome::Done, SubscribeOutcome::NotThere]
    );
    assert_eq!(rig.publish(&sender, message(&rig, &sender, "a", 1)).await, PublishOutcome::Nobody);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_local_leaves_out_the_publisher_alone() {
    let rig = TopicRig::new(1).await;
    let phone = rig.connect("phone", 60).await;
    let mut own = wish("a", 1);
    own.no_local = true;
    rig.ask(&phone, TopicEvent::Subscribe { packet_id: 9, wishes: vec![(own, 2)], is_kept: true }).await;
    rig.answered(&phone, 9).await;
    assert_eq!(rig.publish(&phone, message(&rig, &phone, "a", 1)).await, PublishOutcome::Nobody);
    let other = rig.connect("other", 0).await;
    rig.tell_publish(&other, message(&rig, &other, "a", 1), Some(5), false).await;
    assert!(matches!(rig.shards.next(0).await, Command::Deliver { to, .. } if to == phone.handle));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_start_and_an_expiry_that_has_passed_end_the_session_and_leave_pushes() {
    let rig = TopicRig::new(1).await;
    let sender = rig.connect("sender", 0).await;
    for round in 0..2 {
        let phone = rig.connect("phone", 60).await;
        rig.subscribe(&phone, &[("a", 1)]).await;
        rig.close(&phone).await;
        assert_eq!(rig.publish(&sender, message(&rig, &sender, "a", 1)).await, PublishOutcome::Taken);
        rig.hub.push(&rig.app, rig.push(hub_rig::devices(&["phone"]), 3600)).await.unwrap();
        if round == 0 {
            assert!(!rig.begin("phone", true, 0).await.present);
        } else {
            rig.pass(60_000);
        }
        until(async || rig.hub.topic_census().sessions == 0).await;
        assert_eq!(rig.publish(&sender, message(&rig, &sender, "a", 1)).await, PublishOutcome::Nobody);
        until(async || rig.mailbox(phone.client).await.len() == round + 1).await;
        assert!(!rig.begin("phone", false, 0).await.present);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expiry_given_at_the_end_holds_and_one_of_zero_ends_it() {
    let rig = TopicRig::new(1).await;
    for (name, seconds) in [("short", 5), ("over", 0), ("long", 50)] {
        let phone = rig.connect(name, 20).await;
        rig.subscribe(&phone, &[("a", 1)]).await;
        rig.ask(&phone, TopicEvent::Expiry { seconds }).await;
        rig.close(&phone).await;
    }
    until(async || rig.hub.topic_census().sessions == 2).await;
    rig.pass(5_000);
    until(async || rig.hub.topic_census().sessions == 1).await;
    let rig = rig.restarted().await;
    assert!(rig.begin("long", false, 20).await.present);
    assert!(!rig.begin("over", false, 20).await.present);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_resumed_without_expiry_keeps_what_waits_until_it_ends() {
    let rig = TopicRig::new(1).await;
    let sender = rig.connect("sender", 0).await;
    let phone = rig.connect("phone", 60).await;
    rig.subscribe(&phone, &[("a", 1)]).await;
    rig.close(&phone).await;
    rig.publish(&sender, message(&rig, &sender, "a", 1)).await;
    let phone = rig.connect("phone", 0).await;
    assert_eq!(
        rig.publish(&sender, message(&rig, &sender, "a", 1)).await,
        PublishOutcome::Nobody,
        "live now"
    );
    assert_eq!(rig.mailbox(phone.client).await.len(), 1);
    rig.close(&phone).await;
    until(async || rig.mailbox(phone.client).await.is_empty()).await;
    assert!(!rig.begin("phone", false, 60).await.present);
}

#[tokio::test(flavor = "multi_thread")]
async fn identifiers_of_qos_2_outlive_the_connection_and_the_process() {
    let mut rig = TopicRig::new(1).await;
    let phone = rig.connect("phone", 60).await;
    rig.subscribe(&phone, &[("a", 1)]).await;
    rig.close(&phone).await;
    let sender = rig.connect("sender", 60).await;
    for topic in ["a", "a", "nobody", "$up/alarm", "$up/alarm"] {
        let packet_id = if topic == "a" { 7 } else { topic.len() as u16 + 10 };
        rig.tell_publish(&sender, message(&rig, &sender, topic, 2), Some(packet_id), true).await;
        let outcome = rig.published(&sender, packet_id).await;
        let expected = if topic == "nobody" { PublishOutcome::Nobody } else { PublishOutcome::Taken };
        assert_eq!(outcome, expected, "{topic}");
    }
    assert_eq!(rig.mailbox(phone.client).await.len(), 1, "the second was a resend");
    assert_eq!(rig.upstream().await.len(), 1);
    rig = rig.restarted().await;
    let start = rig.begin("sender", false, 60).await;
    assert_eq!(start.awaiting_release, [7, 16, 19]);
    let sender = rig.connect("sender", 60).await;
    rig.ask(&sender, TopicEvent::Release { packet_id: 7 }).await;
    match rig.shards.next(0).await {
        Command::Topic(TopicCommand::Released { to, packet_id: 7 }) => assert_eq!(to, sender.handle),
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.begin("sender", false, 60).await.awaiting_release, [16, 19]);
}

/// What a session was sent on its connections, as its next login is told (MQTT-3.3.1-1, MQTT-3.3.1-2).
#[tokio::test(flavor = "multi_thread")]
async fn a_session_knows_what_it_was_sent_also_after_a_restart() {
    let mut rig = TopicRig::new(2).await;
    let nothing = [Position::START; 2];
    let phone = rig.connect_to(1, "phone", 3600).await;
    rig.subscribe(&phone, &[("a", 1)]).await;
    let sender = rig.connect("sender", 0).await;
    for _ in 0..3 {
        rig.publish(&sender, message(&rig, &sender, "a", 1)).await;
    }
    let place = |entry: &PageEntry| match entry {
        PageEntry::Message { position, .. } => *position,
        other => panic!("{other:?}"),
    };
    let places: Vec<Position> = rig.mailbox(phone.client).await.iter().map(place).collect();
    let sent = [places[1], Position::START];
    rig.close_having_sent(&phone, sent).await;
    let stored = async || rig.store.session(phone.client).await.unwrap().unwrap().session;
    until(async || stored().await.ended_at != WallMs(0)).await;
    rig = rig.restarted().await;
    assert_eq!(rig.begin("phone", false, 3600).await.sent, sent);
    // A connection that is displaced may have sent all that is there.
    let all = rig.begin("phone", false, 3600).await.sent;
    assert_eq!(all[0], places[2]);
    rig = rig.restarted().await;
    assert_eq!(rig.begin("phone", false, 3600).await.sent, all, "its connection died with the process");
    assert_eq!(rig.begin("phone", true, 3600).await.sent, nothing, "another session");
    assert_eq!(rig.begin("tablet", false, 3600).await.sent, nothing);
}

/// The ends of connections are written now and then; a stop in order does not wait for that, and loses none.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_order_forgets_no_end_of_a_connection() {
    let mut rig = TopicRig::new(2).await;
    for name in ["one", "two", "three", "four", "five"] {
        let phone = rig.connect_to(1, name, 3600).await;
        rig.subscribe(&phone, &[("a", 1)]).await;
        rig.close(&phone).await;
        let ended = rig.now.load(SeqCst);
        rig.pass(1000);
        let sender = rig.connect("sender", 0).await;
        rig.publish(&sender, message(&rig, &sender, "a", 1)).await;
        rig = rig.restarted().await;
        let stored = rig.store.session(phone.client).await.unwrap().unwrap().session;
        assert_eq!(stored.ended_at, WallMs(ended));
        assert_eq!(rig.begin(name, false, 3600).await.sent, [Position::START; 2]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_received_delivery_waits_for_its_completion_across_connections() {
    let rig = TopicRig::new(1).await;
    let phone = rig.connect("phone", 60).await;
    rig.subscribe(&phone, &[("a", 2)]).await;
    let sender = rig.connect_to(0, "sender", 0).await;
    rig.tell_publish(&sender, message(&rig, &sender, "a", 2), Some(5), false).await;
    let Command::Deliver { position, message, .. } = rig.shards.next(0).await else { panic!() };
    assert_eq!(rig.published(&sender, 5).await, PublishOutcome::Taken);
    let (source, id) = (Source::Mailbox, message.message);
    rig.ask(&phone, TopicEvent::Received { source, position, message: id }).await;
    match rig.shards.next(0).await {
        Command::Topic(TopicCommand::Recorded { to, position: at, .. }) => {
            assert_eq!((to, at), (phone.handle, position));
        }
        other => panic!("{other:?}"),
    }
    assert!(
        matches!(rig.mailbox(phone.client).await[..], [PageEntry::Released { message, .. }] if message == id)
    );
    let story = rig.hub.message(&rig.app, id).await.unwrap().unwrap();
    assert_eq!((story.view.counts.delivered, story.view.counts.pending()), (1, 0));
    rig.ack(phone.handle, phone.client, source, position, id).await;
    until(async || rig.mailbox(phone.client).await.is_empty()).await;
    let story = rig.hub.message(&rig.app, id).await.unwrap().unwrap();
    assert_eq!(story.view.counts.delivered, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_mailbox_refuses_only_if_nobody_else_gets_it() {
    let rig = TopicRig::new(1).await;
    let phone = rig.connect("phone", 60).await;
    rig.subscribe(&phone, &[("a", 1), ("b", 1)]).await;
    rig.close(&phone).await;
    let sender = rig.connect("sender", 0).await;
    for _ in 0..16 {
        let large = content(&rig, &sender, "a", 1, &vec![0; 64 * 1024]);
        rig.tell_publish(&sender, large, Some(3), false).await;
        rig.published(&sender, 3).await;
    }
    let large = || content(&rig, &sender, "a", 1, &vec![0; 64 * 1024]);
    assert_eq!(rig.publish(&sender, large()).await, PublishOutcome::Quota);
    let other = rig.connect("other", 60).await;
    rig.subscribe(&other, &[("a", 1)]).await;
    rig.close(&other).await;
    assert_eq!(rig.publish(&sender, large()).await, PublishOutcome::Taken);
    assert_eq!(rig.mailbox(other.client).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_answer_takes_nothing() {
    let rig = TopicRig::new(1).await;
    let phone = rig.connect("phone", 60).await;
    rig.subscribe(&phone, &[("a", 1)]).await;
    rig.store.close().await;
    assert_eq!(rig.publish(&phone, message(&rig, &phone, "a", 1)).await, PublishOutcome::Unavailable);
    assert_eq!(rig.publish(&phone, message(&rig, &phone, "$up/x", 1)).await, PublishOutcome::Unavailable);
    assert_eq!(rig.subscribe(&phone, &[("b", 1), ("c", 1)]).await, [SubscribeOutcome::Unavailable; 2]);
    assert_eq!(rig.hub.topic_census().subscriptions, 1, "what was not stored is not there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_gets_what_is_retained_as_it_asked_also_after_a_restart() {
    let mut rig = TopicRig::new(1).await;
    let sender = rig.connect("sender", 0).await;
    for topic in ["r/1", "r/2", "r/gone", "other"] {
        assert_eq!(
            rig.publish(&sender, retained(&rig, &sender, topic, b"state")).await,
            PublishOutcome::Nobody
        );
    }
    rig.publish(&sender, retained(&rig, &sender, "r/gone", b"")).await;
    rig = rig.restarted().await;
    let page = |filter: &str, after: Option<&str>| rig.hub.retained(rig.app.id, filter, after, 2).len();
    assert_eq!((page("#", None), page("#", Some("r/1")), page("r/2", None)), (2, 1, 1));
    assert!(rig.hub.clear_retained(rig.app.id, "other").await.unwrap());
    assert!(!rig.hub.clear_retained(rig.app.id, "other").await.unwrap());
    let phone = rig.connect("phone", 60).await;
    for (handling, expected) in [(0, 2), (0, 2), (1, 0), (2, 0)] {
        let wishes = vec![(wish("r/+", 1), handling)];
        rig.ask(&phone, TopicEvent::Subscribe { packet_id: 4, wishes, is_kept: true }).await;
        let (outcomes, retained) = rig.answered_with(&phone, 4).await;
        assert_eq!((outcomes, retained.len()), (vec![SubscribeOutcome::Done], expected), "{handling}");
        for (at, copy) in retained.iter().enumerate() {
            assert_eq!(copy.qos, 1);
            assert_eq!(copy.message.shared.topic(), format!("r/{}", at + 1));
        }
    }
    assert_eq!(rig.subscribe(&phone, &[("$share/g/r/+", 1)]).await, [SubscribeOutcome::Done]);
    assert_eq!(rig.subscribe(&phone, &[("none", 1)]).await, [SubscribeOutcome::Done]);
    assert_eq!(rig.shards.waiting(0), 0, "a shared subscription gets none");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_retained_messages_are_cut_and_the_last_says_so() {
    let rig = TopicRig::new(1).await;
    let sender = rig.connect("sender", 0).await;
    for number in 0..101 {
        rig.tell_publish(&sender, retained(&rig, &sender, &format!("r/{number:03}"), b"x"), None, false)
            .await;
    }
    until(async || rig.hub.topic_census().retained == 101).await;
    let wishes = vec![(wish("r/#", 0), 0)];
    rig.ask(&sender, TopicEvent::Subscribe { packet_id: 4, wishes, is_kept: false }).await;
    let (_, retained) = rig.answered_with(&sender, 4).await;
    assert_eq!(retained.len(), 100);
    for (number, copy) in retained.iter().enumerate() {
        assert_eq!(copy.qos, 0);
        let says_so = copy.message.shared.properties().windows(18).any(|part| part == b"longwire-truncated");
        assert_eq!(says_so, number == 99);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_will_is_published_after_its_delay_unless_the_session_goes_on() {
    let rig = TopicRig::new(1).await;
    let watcher = rig.connect("watcher", 60).await;
    rig.subscribe(&watcher, &[("will/+", 1)]).await;
    rig.close(&watcher).await;
    let said = async || rig.mailbox(watcher.client).await.len();
    let end = async |client: &Client, topic: &str, delay_s| {
        let will = Will { message: Arc::new(message(&rig, client, topic, 1)), delay_s };
        let closed = Closed {
            from: client.handle,
            client: Some(client.client),
            app: rig.app.id,
            reason: CloseReason::PeerLost,
            shared: false,
            sent: [Position::START; 2],
            unacked: vec![],
            lived_s: 1,
            will: Some(Box::new(will)),
        };
        rig.tell(0, Event::Closed(Box::new(closed))).await;
    };
    let phone = rig.connect("phone", 60).await;
    end(&phone, "will/1", 0).await;
    until(async || said().await == 1).await;
    let phone = rig.connect("phone", 60).await;
    end(&phone, "will/2", 10).await;
    until(async || rig.hub.topic_census().wills == 1).await;
    let phone = rig.connect("phone", 60).await;
    assert_eq!(rig.hub.topic_census().wills, 0, "called back");
    end(&phone, "will/3", 10).await;
    until(async || rig.hub.topic_census().wills == 1).await;
    rig.pass(9_999);
    assert_eq!(said().await, 1);
    rig.pass(1);
    until(async || said().await == 2).await;
    let live = rig.connect("live", 0).await;
    end(&live, "will/4", 10).await;
    until(async || said().await == 3).await;
    let phone = rig.connect("phone", 60).await;
    end(&phone, "will/5", 10).await;
    until(async || rig.hub.topic_census().wills == 1).await;
    rig.begin("phone", true, 60).await;
    until(async || said().await == 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_for_the_business_is_stored_once_if_it_is_marked_as_sent_again() {
    let rig = TopicRig::new(1).await;
    let phone = rig.connect("phone", 0).await;
    let up = |dup: bool, text: &[u8]| {
        let message = content(&rig, &phone, "$up/alarm", 1, text);
        if dup { message.sent_before() } else { message }
    };
    for (dup, text, stored) in
        [(false, b"fire", 1), (true, b"fire", 1), (false, b"fire", 2), (true, b"rain", 3), (true, b"rain", 3)]
    {
        assert_eq!(rig.publish(&phone, up(dup, text)).await, PublishOutcome::Taken);
        assert_eq!(rig.upstream().await.len(), stored);
    }
    let first = rig.upstream().await.remove(0);
    assert_eq!((&*first.kind, &first.payload[..]), ("alarm", &b"fire"[..]));
    assert_eq!(first.device.unwrap().as_str(), "phone");
    for (topic, size, expected) in [
        ("$up/", 1, PublishOutcome::NotAllowed),
        ("$SYS/x", 1, PublishOutcome::NotAllowed),
        ("$up/large", 10 * 1024 + 1, PublishOutcome::Quota),
    ] {
        let message = content(&rig, &phone, topic, 1, &vec![0; size]);
        assert_eq!(rig.publish(&phone, message).await, expected, "{topic}");
    }
    let long = format!("$up/{}", "x".repeat(65));
    assert_eq!(rig.publish(&phone, message(&rig, &phone, &long, 1)).await, PublishOutcome::NotAllowed);
    assert_eq!(rig.upstream().await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_publishes_to_the_business_too_fast_is_told() {
    let rig = TopicRig::new(1).await;
    let phone = rig.connect("phone", 0).await;
    let mut refused = 0;
    for _ in 0..300 {
        let outcome = rig.publish(&phone, message(&rig, &phone, "$up/x", 1)).await;
        refused += u32::from(outcome == PublishOutcome::Quota);
    }
    assert_eq!(refused, 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_business_publishes_reaches_live_and_kept_subscribers() {
    let rig = TopicRig::new(2).await;
    let phone = rig.connect("phone", 60).await;
    rig.subscribe(&phone, &[("a/#", 1)]).await;
    rig.close(&phone).await;
    rig.shards.interests().shards[1].add(rig.app.id, "a/b");
    let publication = |topic: &str, qos| Publication {
        app: rig.app.id,
        topic: TopicName::parse("topic", topic).unwrap(),
        payload: bytes::Bytes::from_static(b"news"),
        qos,
        retain: false,
        ttl_s: None,
        is_text: true,
        content_type: Some("text/plain".into()),
        user_properties: vec![("k".into(), "v".into())],
        trace: TraceId(5),
    };
    let sent = rig.hub.publish(&publication("a/b", 1)).await.unwrap();
    assert_eq!((sent.stored_for, sent.shards, sent.outcome), (1, 1, PublishOutcome::Taken));
    let Command::Topic(TopicCommand::Publish(message)) = rig.shards.next(1).await else { panic!() };
    assert_eq!((message.shared.payload(), message.publisher), (&b"news"[..], ClientId(0)));
    assert!(message.shared.properties().windows(10).any(|part| part == b"text/plain"));
    assert_eq!(rig.shards.waiting(0), 0);
    let story = rig.hub.message(&rig.app, sent.message).await.unwrap().unwrap();
    assert_eq!((story.view.record.trace, story.view.counts.created), (TraceId(5), 1));
    let sent = rig.hub.publish(&publication("b", 1)).await.unwrap();
    assert_eq!((sent.stored_for, sent.outcome), (0, PublishOutcome::Nobody));
    assert!(rig.hub.message(&rig.app, sent.message).await.unwrap().is_none());
    let to_topic = Audience::topic(TopicName::parse("topic", "a/b").unwrap());
    let receipt = rig.hub.push(&rig.app, rig.push(to_topic, 60)).await.unwrap();
    assert_eq!((receipt.audience.matched, receipt.durability), (None, "local"));
    assert_eq!(rig.mailbox(phone.client).await.len(), 2);
    rig.store.close().await;
    assert!(rig.hub.publish(&publication("a/b", 1)).await.is_err());
    rig.hub.drain();
    assert!(matches!(rig.hub.publish(&publication("b", 0)).await, Err(PushError::Draining)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_says_when_it_expires_does_and_one_that_does_not_waits_72_hours() {
    let rig = TopicRig::new(1).await;
    let phone = rig.connect("phone", 30 * 86_400).await;
    rig.subscribe(&phone, &[("a", 1)]).await;
    rig.close(&phone).await;
    let sender = rig.connect("sender", 0).await;
    let mut short = message(&rig, &sender, "a", 1);
    short.deadline = WallMs(rig.now.load(SeqCst) + 5000);
    rig.publish(&sender, short).await;
    rig.publish(&sender, message(&rig, &sender, "a", 1)).await;
    let there = async || {
        let entries = rig.mailbox(phone.client).await;
        entries.iter().filter(|entry| matches!(entry, PageEntry::Message { .. })).count()
    };
    assert_eq!(there().await, 2);
    rig.pass(5000);
    assert_eq!(there().await, 1);
    rig.pass(72 * 3600 * 1000);
    assert_eq!(there().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_what_may_wait_the_answer_is_unavailable() {
    let rig = TopicRig::new(1).await;
    let phone = rig.connect("phone", 0).await;
    rig.shards.room.store(1, SeqCst);
    let sent = 20_000;
    for _ in 0..sent {
        rig.tell_publish(&phone, message(&rig, &phone, "a", 0), Some(8), false).await;
    }
    rig.shards.room.store(100_000, SeqCst);
    let unanswered = || rig.hub.topic_stats().unanswered.load(SeqCst);
    let mut answered = 0;
    while answered + unanswered() < sent {
        if rig.shards.waiting(0) > 0 {
            rig.published(&phone, 8).await;
            answered += 1;
        } else {
            tokio::task::yield_now().await;
        }
    }
    assert!(unanswered() > 0, "a queue without a bound");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_resumes_what_is_kept_and_one_that_is_refused_disturbs_nothing() {
    let rig = TopicRig::new(1).await;
    let device = rig.register("pump", None, &[]).await;
    let login = |client_id: &str, clean_start, expiry_s| {
        let mqtt = MqttLogin {
            version: Version::V5,
            client_id: client_id.into(),
            user_name: Some("shop".into()),
            password: Some(device.token.as_bytes().into()),
            clean_start,
            expiry_s,
            certificate: None,
            will: None,
        };
        Login { mqtt: Some(Box::new(mqtt)), ..rig.wish(rig.handle(0), "") }
    };
    let attached = async |login: Login| {
        let handle = login.from;
        rig.tell(0, Event::Login(Box::new(login))).await;
        let Command::Attach(attach) = rig.shards.next(0).await else { panic!() };
        (Client { handle, client: attach.client, shard: 0 }, attach.mqtt.unwrap())
    };
    let (pump, given) = attached(login("pump", false, 90 * 86_400)).await;
    assert!(!given.session_present && given.expiry_s == 28 * 86_400, "clipped");
    let wishes = vec![(wish("a", 1), 2)];
    rig.ask(&pump, TopicEvent::Subscribe { packet_id: 3, wishes, is_kept: true }).await;
    assert_eq!(rig.answered(&pump, 3).await, [SubscribeOutcome::Done]);
    rig.close(&pump).await;
    let told = rig.refused(login("other", true, 0)).await;
    assert_eq!(told.0, CloseReason::BadClientId);
    assert_eq!(rig.hub.topic_census().subscriptions, 1, "a clean start that is refused ends nothing");
    let (pump, given) = attached(login("pump", false, 60)).await;
    assert!(given.session_present && given.subscriptions.len() == 1 && given.expiry_s == 60);
    rig.close(&pump).await;
    let (pump, given) = attached(login("pump", true, 0)).await;
    assert!(!given.session_present && given.subscriptions.is_empty());
    assert_eq!(rig.hub.topic_census().sessions, 0);
    rig.close(&pump).await;
    let (_, given) = attached(login("pump", false, 60)).await;
    assert!(!given.session_present);
}
