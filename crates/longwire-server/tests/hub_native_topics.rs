//! Topics of native devices as the hub serves them: what they may do, and how long what they keep is kept.
#![allow(clippy::unwrap_used, missing_docs)]

mod hub_rig;
mod hub_topics_rig;

use hub_rig::until;
use hub_topics_rig::{Client, TopicRig, message, wish};
use longwire_proto::id::ClientId;
use longwire_server::delivery::border::Command;
use longwire_server::delivery::border::topics::{
    KeptTopics, PublishOutcome, SubscribeOutcome, TopicCommand, TopicEvent, TopicRights,
};
use longwire_server::domain::topic::{Act, Rules};

const DAY_MS: u64 = 86_400_000;

/// A native login of the device `phone`, with a token that is fresh, and what it goes on with.
async fn login(rig: &TopicRig) -> (Client, Option<Box<KeptTopics>>) {
    let device = rig.register("phone", None, &[]).await;
    let (handle, attach) = rig.login(0, &device).await;
    (Client { handle, client: device.client, shard: 0 }, attach.topics)
}

async fn keep(rig: &TopicRig, client: &Client, filters: &[&str]) -> Vec<SubscribeOutcome> {
    rig.ask(client, TopicEvent::Keep).await;
    let wishes = filters.iter().map(|filter| (wish(filter, 1), 2)).collect();
    rig.ask(client, TopicEvent::Subscribe { packet_id: 5, wishes, is_kept: true }).await;
    rig.answered(client, 5).await
}

async fn rights(rig: &TopicRig, client: &Client) -> Option<Box<TopicRights>> {
    rig.ask(client, TopicEvent::Rights).await;
    match rig.shards.next(client.shard).await {
        Command::Topic(TopicCommand::Rights { to, rights }) if to == client.handle => rights,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_told_its_name_and_the_rules_of_its_app() {
    let rig = TopicRig::new(1).await;
    let (phone, topics) = login(&rig).await;
    assert!(topics.is_none(), "a device without a session has nothing to do with topics");
    let told = rights(&rig, &phone).await.unwrap();
    assert_eq!(&*told.name, "phone");
    let may = |topic: &str| told.rules.allow(Act::Publish, topic, &told.name, "");
    assert!(may("device/phone/x") && !may("device/other/x") && !may("news"));
    let newer = Rules::parse(["allow all news/#"]).unwrap();
    rig.app.topic_rules.replace(newer);
    assert!(may("news/today") && !may("device/phone/x"), "also those that were told before");
    let nobody = Client { client: ClientId(999_999), ..phone };
    assert!(rights(&rig, &nobody).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_device_keeps_is_there_for_thirty_days_after_its_last_connection() {
    let mut rig = TopicRig::new(2).await;
    let sender = rig.connect_to(1, "sender", 0).await;
    let (phone, _) = login(&rig).await;
    let wishes = vec![(wish("early", 1), 2)];
    rig.ask(&phone, TopicEvent::Subscribe { packet_id: 5, wishes, is_kept: true }).await;
    assert_eq!(rig.answered(&phone, 5).await, [SubscribeOutcome::Quota], "it has no session to keep it in");
    let done = [SubscribeOutcome::Done; 2];
    assert_eq!(keep(&rig, &phone, &["a/+", "b"]).await, done);
    rig.pass(40 * DAY_MS);
    assert_eq!(rig.publish(&sender, message(&rig, &sender, "a/1", 1)).await, PublishOutcome::Taken);
    rig.close(&phone).await;
    rig.pass(29 * DAY_MS);
    rig = rig.restarted().await;
    let (phone, topics) = login(&rig).await;
    let topics = topics.expect("its session");
    let filters: Vec<&str> = topics.subscriptions.iter().map(|wish| &*wish.filter).collect();
    assert_eq!((filters, &*topics.rights.name), (vec!["a/+", "b"], "phone"));
    rig.close(&phone).await;
    rig.pass(29 * DAY_MS);
    let (phone, topics) = login(&rig).await;
    assert!(topics.is_some(), "counted from the end of the last connection");
    rig.close(&phone).await;
    rig.pass(31 * DAY_MS);
    let (_, topics) = login(&rig).await;
    assert!(topics.is_none());
    until(async || rig.hub.topic_census().sessions == 0).await;
    assert_eq!(rig.publish(&sender, message(&rig, &sender, "a/1", 1)).await, PublishOutcome::Nobody);
}

/// A native login goes on with what an MQTT client keeps, for as long as that client asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_native_connection_shortens_and_lengthens_nothing_until_it_keeps_something_itself() {
    let rig = TopicRig::new(1).await;
    let mqtt = rig.connect("phone", 3600).await;
    assert_eq!(rig.subscribe(&mqtt, &[("a", 1), ("$share/g/b", 1)]).await.len(), 2);
    rig.close(&mqtt).await;
    let (phone, topics) = login(&rig).await;
    assert_eq!(topics.unwrap().subscriptions.len(), 2);
    rig.pass(2 * 3_600_000);
    rig.close(&phone).await;
    rig.pass(1_800_000);
    let (phone, topics) = login(&rig).await;
    assert!(topics.is_some(), "an hour from the end of the native connection");
    assert_eq!(keep(&rig, &phone, &["c"]).await, [SubscribeOutcome::Done]);
    rig.close(&phone).await;
    rig.pass(DAY_MS);
    let (phone, topics) = login(&rig).await;
    assert_eq!(topics.unwrap().subscriptions.len(), 3, "thirty days from now on");
    rig.close(&phone).await;
    rig.begin("phone", true, 0).await;
    let (_, topics) = login(&rig).await;
    assert!(topics.is_none(), "a clean start ends what either kept");
}
