//! Changes, removal and status of devices, as the hub makes them and its shards hear of them.
#![allow(clippy::unwrap_used, missing_docs)]

mod hub_rig;

use hub_rig::{Rig, any_tag, devices, until};
use longwire_proto::close::CloseReason;
use longwire_proto::id::ClientId;
use longwire_server::delivery::border::own::{OwnChange, OwnOutcome, OwnRequest, OwnTopic, OwnWanted};
use longwire_server::delivery::border::{Command, Event, Handle, Inspected, topics};
use longwire_server::delivery::hub::Registered;
use longwire_server::domain::{
    AliasChange, AppSettings, ChangeRefused, DeviceChange, DeviceName, Registration, Tag,
};
use longwire_server::store::sessions::Change;
use std::sync::atomic::Ordering::SeqCst;

fn name(name: &str) -> DeviceName {
    DeviceName::parse("name", name).unwrap()
}

fn adds(tags: &[&str]) -> DeviceChange {
    let tags_add = tags.iter().map(|tag| Tag::parse("tag", tag).unwrap()).collect();
    DeviceChange { tags_add, ..DeviceChange::default() }
}

/// With an app whose devices may change themselves.
async fn allowing(shards: usize) -> Rig {
    let rig = Rig::new(shards).await;
    let mut settings = AppSettings::clone(&rig.app.settings);
    settings.self_service = true;
    rig.registry.set_settings(rig.app.id, &settings).await.unwrap();
    rig.restarted().await
}

async fn ask(rig: &Rig, from: Handle, client: ClientId, wanted: OwnWanted, request: OwnRequest) {
    let from = topics::From { handle: from, client, app: rig.app.id };
    let shard = from.handle.shard().0;
    rig.tell(shard, Event::Own(Box::new(OwnChange { from, wanted, request }))).await;
}

async fn answer(rig: &Rig, from: Handle) -> (OwnRequest, OwnOutcome) {
    match rig.shards.next(from.shard().0).await {
        Command::Own(answer) if answer.to == from => (answer.request, answer.outcome),
        other => panic!("instead of an answer to this connection {other:?}"),
    }
}

async fn online(rig: &Rig) -> (Handle, Registered) {
    let device = rig.register("phone", None, &[]).await;
    (rig.login(0, &device).await.0, device)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_hears_of_new_tags_before_the_answer_and_of_a_push_after_it() {
    let rig = allowing(1).await;
    let (from, device) = online(&rig).await;
    let wanted = OwnWanted::Change(Ok(adds(&["news"])));
    ask(&rig, from, device.client, wanted, OwnRequest::Native(7)).await;
    let labels = match rig.shards.next(0).await {
        Command::Retag { to, labels } if to == from => labels,
        other => panic!("instead of the tags {other:?}"),
    };
    assert!(!labels.is_empty());
    assert_eq!(answer(&rig, from).await, (OwnRequest::Native(7), OwnOutcome::Done));
    let pushed = rig.hub.push(&rig.app, rig.push(any_tag(&["news"]), 60)).await.unwrap();
    assert!(
        matches!(rig.shards.next(0).await, Command::Broadcast(one) if one.message.message == pushed.message)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_one_device_are_made_in_their_order() {
    let rig = allowing(1).await;
    let (from, device) = online(&rig).await;
    for (number, json) in [
        &br#"{"add":["a","b"]}"#[..],
        br#"{"add":["c"],"remove":["a"]}"#,
        b"no json",
        br#"{"remove":["b"],"add":["a"]}"#,
    ]
    .into_iter()
    .enumerate()
    {
        let request = OwnRequest::Mqtt(number as u16 + 1);
        ask(&rig, from, device.client, OwnWanted::Json(OwnTopic::Tags, json.into()), request).await;
    }
    let mut answers = Vec::new();
    while answers.len() < 4 {
        match rig.shards.next(0).await {
            Command::Own(answer) => answers.push(answer.outcome),
            Command::Retag { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(answers, [OwnOutcome::Done, OwnOutcome::Done, OwnOutcome::Invalid, OwnOutcome::Done]);
    let (view, _) = rig.hub.device(&rig.app, name("phone")).await.unwrap().unwrap();
    assert_eq!(view.device.tags.iter().map(Tag::as_str).collect::<Vec<_>>(), ["a", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_its_burst_a_device_is_told_to_wait_and_a_dead_registry_is_no_reason_to_close() {
    let rig = allowing(1).await;
    let (from, device) = online(&rig).await;
    for number in 0..21 {
        let wanted = OwnWanted::Change(Ok(DeviceChange::default()));
        ask(&rig, from, device.client, wanted, OwnRequest::Native(number)).await;
    }
    let mut busy = Vec::new();
    for _ in 0..42 {
        match rig.shards.next(0).await {
            Command::Own(answer) if answer.outcome == OwnOutcome::Busy => busy.push(answer.request),
            Command::Own(_) | Command::Retag { .. } => {}
            other => panic!("{other:?}"),
        }
        if rig.shards.waiting(0) == 0 && !busy.is_empty() {
            break;
        }
    }
    assert_eq!(busy, [OwnRequest::Native(20)]);
    rig.pass(60_000);
    rig.registry.close().await;
    while rig.shards.waiting(0) > 0 {
        rig.shards.next(0).await;
    }
    let wanted = OwnWanted::Change(Ok(adds(&["late"])));
    ask(&rig, from, device.client, wanted, OwnRequest::Native(99)).await;
    loop {
        match rig.shards.next(0).await {
            Command::Own(answer) if answer.request == OwnRequest::Native(99) => {
                assert_eq!(answer.outcome, OwnOutcome::Busy);
                break;
            }
            Command::Own(_) | Command::Retag { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_app_s_leave_and_for_another_app_nothing_is_changed() {
    let rig = Rig::new(1).await;
    let (from, device) = online(&rig).await;
    let wanted = OwnWanted::Change(Ok(adds(&["news"])));
    ask(&rig, from, device.client, wanted, OwnRequest::Native(1)).await;
    assert_eq!(answer(&rig, from).await, (OwnRequest::Native(1), OwnOutcome::NotAllowed));
    let (view, _) = rig.hub.device(&rig.app, name("phone")).await.unwrap().unwrap();
    assert!(view.device.tags.is_empty());
    let asked = vec![(name("ghost"), adds(&["t"])), (name("phone"), adds(&["t"]))];
    let outcomes = rig.hub.change_devices(&rig.app, asked).await.unwrap();
    assert_eq!(outcomes[0], Err(ChangeRefused::Unknown));
    assert!(outcomes[1].is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_broke_off_is_ended_by_the_next() {
    let rig = Rig::new(1).await;
    let device = rig.register("phone", Some("ann"), &["t"]).await;
    let message = rig.hub.push(&rig.app, rig.push(devices(&["phone"]), 60)).await.unwrap().message;
    // The server died in between: the registry knows nothing of it, the store still has it.
    rig.registry.remove(device.client).await.unwrap();
    assert!(rig.hub.device(&rig.app, name("phone")).await.unwrap().is_some());
    assert!(rig.hub.remove_device(&rig.app, name("phone")).await.unwrap());
    assert!(!rig.hub.remove_device(&rig.app, name("phone")).await.unwrap());
    let story = rig.hub.message(&rig.app, message).await.unwrap().unwrap();
    assert_eq!((story.view.counts.dropped.total(), story.view.counts.pending()), (1, 0));
    assert_eq!(rig.refused(rig.wish(rig.handle(0), &device.token)).await.0, CloseReason::BadToken);
    // A tag is taken from such a device, too.
    let orphan = rig.register("pad", None, &["t"]).await;
    rig.registry.remove(orphan.client).await.unwrap();
    let tag = Tag::parse("tag", "t").unwrap();
    let cleared = rig.hub.clear_tag(&rig.app, &tag).await.unwrap();
    assert!(!cleared.more);
    assert_eq!(rig.hub.tag_count(&rig.app, tag).await.unwrap(), 0);
    assert_eq!(rig.hub.device_count(&rig.app).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_device_s_kept_session_is_not_written_again() {
    let rig = Rig::new(1).await;
    let device = rig.register("phone", None, &[]).await;
    let keep = Change::Keep {
        client: device.client,
        app: rig.app.id,
        expiry_s: 3600,
        ended_at: longwire_server::domain::WallMs(0),
        sent: Default::default(),
        will: None,
    };
    rig.store.change(vec![keep]).await.unwrap();
    let rig = rig.restarted().await;
    let (from, _) = rig.login(0, &device).await;
    assert!(rig.hub.remove_device(&rig.app, name("phone")).await.unwrap());
    assert!(matches!(
        rig.shards.next(0).await,
        Command::Close { to, reason: CloseReason::RevokedToken, .. } if to == from
    ));
    rig.close(from, Some(device.client), vec![]).await;
    // What the end of its connection leaves to be written is written by the time that another's is.
    let other = rig.register("other", None, &[]).await;
    let (from, _) = rig.login(0, &other).await;
    rig.close(from, Some(other.client), vec![]).await;
    until(async || rig.hub.census().sessions.iter().all(|(.., count)| *count == 0)).await;
    let rig = rig.restarted().await;
    assert!(rig.store.session(device.client).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_tokens_open_nothing_and_the_generation_is_in_the_next() {
    let rig = Rig::new(1).await;
    let (from, device) = online(&rig).await;
    let revoke = DeviceChange { revoke: true, ..DeviceChange::default() };
    let changed = rig.hub.change_devices(&rig.app, vec![(name("phone"), revoke)]).await.unwrap();
    assert_eq!(changed[0].as_ref().unwrap().generation, 1);
    assert!(matches!(
        rig.shards.next(0).await,
        Command::Close { to, reason: CloseReason::RevokedToken, .. } if to == from
    ));
    rig.close(from, Some(device.client), vec![]).await;
    assert_eq!(rig.refused(rig.wish(rig.handle(0), &device.token)).await.0, CloseReason::RevokedToken);
    let renewed = rig.register("phone", None, &[]).await;
    assert_eq!(renewed.client, device.client);
    rig.login(0, &renewed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_is_what_the_shards_say_and_without_them_the_number_of_connections() {
    let rig = Rig::new(2).await;
    let (from, device) = online(&rig).await;
    let names = || vec![name("phone"), name("ghost")];
    let asked = rig.hub.device_status(&rig.app, names());
    let shard = async {
        let Command::Inspect { of, reply } = rig.shards.next(0).await else { panic!("not asked") };
        assert_eq!(of, [from]);
        let seen = Inspected {
            age_s: 60,
            silent_s: 5,
            network: longwire_proto::wire::Network::Wifi,
            class: Some(longwire_proto::wire::Class::Phone),
        };
        reply.send(vec![(from, seen)]).unwrap();
    };
    let (status, ()) = tokio::join!(asked, shard);
    let status = status.unwrap();
    assert_eq!(status[1], None);
    let phone = status[0].as_ref().unwrap();
    let now = rig.now.load(SeqCst);
    assert_eq!((phone.connections, phone.seen.len()), (1, 1));
    assert_eq!((phone.seen[0].since.0, phone.seen[0].heard.0), (now - 60_000, now - 5_000));
    // Shards whose queues are full are not waited for.
    rig.shards.room.store(0, SeqCst);
    let status = rig.hub.status_of(device.client).await;
    assert_eq!((status.connections, status.seen.len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_and_a_registration_of_one_device_leave_what_one_of_them_left_last() {
    let rig = Rig::new(1).await;
    rig.register("phone", None, &[]).await;
    let mut tasks = Vec::new();
    for number in 0..40_u32 {
        let (hub, app) = (rig.hub.clone(), rig.app.clone());
        tasks.push(tokio::spawn(async move {
            let tag = format!("t{number}");
            if number % 2 == 0 {
                let tags = Some(vec![Tag::parse("tag", &tag).unwrap()]);
                let registration =
                    Registration { name: Some(name("phone")), tags, ..Registration::default() };
                hub.register(&app, registration, true).await.unwrap();
            } else {
                let alias = AliasChange::Clear;
                let change = DeviceChange { alias, ..adds(&[&tag]) };
                hub.change_devices(&app, vec![(name("phone"), change)]).await.unwrap().remove(0).unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let registered = rig.registry.device(&rig.app, &name("phone")).await.unwrap().unwrap();
    let (view, _) = rig.hub.device(&rig.app, name("phone")).await.unwrap().unwrap();
    assert_eq!(view.device, registered, "the profile is what the registry says");
    let counts = rig.store.tag_counts(rig.app.id, registered.tags.clone()).await.unwrap();
    assert!(counts.iter().all(|count| *count == 1));
    assert_eq!(rig.hub.tags_after(&rig.app, None, 100).await.unwrap().len(), registered.tags.len());
}
