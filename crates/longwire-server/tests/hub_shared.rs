//! Shared groups in the hub: who gets what, and what becomes of it when a member goes.
#![allow(clippy::unwrap_used, missing_docs)]

mod hub_rig;
mod hub_topics_rig;

use hub_rig::until;
use hub_topics_rig::{TopicRig, message, wish};
use longwire_proto::wire::TopicBody;
use longwire_server::delivery::border::Command;
use longwire_server::delivery::border::topics::{PublishOutcome, SubscribeOutcome, TopicCommand, TopicEvent};
use longwire_server::store::port::PageEntry;

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_group_gives_each_message_to_one_member_and_again_when_that_one_goes() {
    let rig = TopicRig::new(2).await;
    let sender = rig.connect("sender", 0).await;
    let (one, two) = (rig.connect_to(1, "one", 0).await, rig.connect_to(1, "two", 60).await);
    for member in [&one, &two] {
        assert_eq!(rig.subscribe(member, &[("$share/g/jobs/+", 2)]).await, [SubscribeOutcome::Done]);
    }
    assert_eq!(rig.hub.topic_census().members, 2);
    let delivered = async || match rig.shards.next(1).await {
        Command::Topic(TopicCommand::Deliver { to, qos: 1, number, .. }) => (to, number),
        other => panic!("{other:?}"),
    };
    assert_eq!(rig.publish(&sender, message(&rig, &sender, "jobs/1", 1)).await, PublishOutcome::Taken);
    let (first, number) = delivered().await;
    let (holder, other) = if first == one.handle { (&one, &two) } else { (&two, &one) };
    rig.ask(holder, TopicEvent::Shared { number, acked: false }).await;
    rig.close(holder).await;
    let (second, number) = delivered().await;
    assert_eq!(second, other.handle);
    rig.ask(other, TopicEvent::Shared { number, acked: true }).await;
    rig.close(other).await;
    until(async || rig.hub.topic_census().groups == 0).await;
    assert_eq!(rig.publish(&sender, message(&rig, &sender, "jobs/1", 1)).await, PublishOutcome::Nobody);
    assert_eq!(rig.shards.waiting(1), 0);
    let start = rig.begin("two", false, 60).await;
    assert_eq!(&*start.subscriptions[0].filter, "$share/g/jobs/+", "a kept member joins again when it comes");
}

/// MQTT-4.8.2-4: with QoS 2 a member whose session is kept finishes what it was given when it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_a_kept_session_gets_qos_2_by_its_mailbox() {
    let rig = TopicRig::new(2).await;
    let sender = rig.connect("sender", 0).await;
    let member = rig.connect_to(1, "member", 3600).await;
    assert_eq!(rig.subscribe(&member, &[("$share/g/a", 2)]).await, [SubscribeOutcome::Done]);
    assert_eq!(rig.publish(&sender, message(&rig, &sender, "a", 2)).await, PublishOutcome::Taken);
    let Command::Deliver { to, .. } = rig.shards.next(1).await else { panic!() };
    assert_eq!(to, member.handle);
    rig.close(&member).await;
    let other = rig.connect_to(1, "other", 0).await;
    assert_eq!(rig.subscribe(&other, &[("$share/g/a", 2)]).await, [SubscribeOutcome::Done]);
    // It is still the first one's; the next goes to who is there, and QoS 1 takes no mailbox.
    let bodies = |entries: Vec<PageEntry>| -> Vec<(u8, bool)> {
        let body = |entry: &PageEntry| match entry {
            PageEntry::Message { shared, .. } => {
                let body = TopicBody::decode(&shared[34..]).unwrap();
                (body.qos, body.for_member)
            }
            other => panic!("{other:?}"),
        };
        entries.iter().map(body).collect()
    };
    for qos in [2, 1] {
        assert_eq!(rig.publish(&sender, message(&rig, &sender, "a", qos)).await, PublishOutcome::Taken);
        let Command::Topic(TopicCommand::Deliver { to, .. }) = rig.shards.next(1).await else { panic!() };
        assert_eq!(to, other.handle);
    }
    assert_eq!(bodies(rig.mailbox(member.client).await), [(2, true)]);
    assert!(rig.mailbox(other.client).await.is_empty());
    // The session's end is the delivery's.
    rig.begin("member", true, 0).await;
    assert!(rig.mailbox(member.client).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_acked_just_before_its_end_goes_to_no_other() {
    let rig = TopicRig::new(2).await;
    let (sender, stays) = (rig.connect("sender", 0).await, rig.connect_to(1, "stays", 0).await);
    for _ in 0..50 {
        let goes = rig.connect_to(1, "goes", 0).await;
        assert_eq!(rig.subscribe(&goes, &[("$share/g/jobs/+", 1)]).await, [SubscribeOutcome::Done]);
        rig.publish(&sender, message(&rig, &sender, "jobs/1", 1)).await;
        let Command::Topic(TopicCommand::Deliver { number, .. }) = rig.shards.next(1).await else { panic!() };
        assert_eq!(rig.subscribe(&stays, &[("$share/g/jobs/+", 1)]).await, [SubscribeOutcome::Done]);
        // Work of others stands in the queue before the ack.
        for _ in 0..20 {
            rig.tell_publish(&stays, message(&rig, &stays, "elsewhere", 1), None, false).await;
        }
        rig.ask(&goes, TopicEvent::Shared { number, acked: true }).await;
        rig.close(&goes).await;
        until(async || rig.hub.topic_census().members == 1).await;
        assert_eq!(rig.unsubscribe(&stays, &["$share/g/jobs/+"]).await, [SubscribeOutcome::Done]);
        assert_eq!(rig.shards.waiting(1), 0, "it went to the member that stayed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ended_joins_no_group() {
    let rig = TopicRig::new(1).await;
    let gone = rig.connect("gone", 0).await;
    rig.close(&gone).await;
    rig.ask(
        &gone,
        TopicEvent::Subscribe { packet_id: 3, wishes: vec![(wish("$share/g/a", 1), 2)], is_kept: false },
    )
    .await;
    let sender = rig.connect("sender", 0).await;
    assert_eq!(rig.publish(&sender, message(&rig, &sender, "a", 1)).await, PublishOutcome::Nobody);
    assert_eq!(rig.hub.topic_census().groups, 0);
}
