//! Devices with several connections, as their shards see them.
#![allow(clippy::unwrap_used, missing_docs)]

mod hub_rig;

use hub_rig::{Rig, devices, until};
use longwire_proto::close::CloseReason;
use longwire_proto::id::{Position, Source};
use longwire_proto::wire::Class;
use longwire_server::delivery::border::{Attach, Command, Event, Handle};
use longwire_server::delivery::hub::Registered;
use longwire_server::domain::{Audience, DeviceName, DuplicateLogin, MessageId};
use longwire_server::store::port::End;
use std::sync::atomic::Ordering::SeqCst;

/// Logs in a further connection on a shard of its own.
async fn join(rig: &Rig, shard: u8, device: &Registered, class: Class) -> (Handle, Box<Attach>) {
    resume(rig, shard, device, class, Position::START).await
}

/// The same, of one that stands at this place in its mailbox.
async fn resume(
    rig: &Rig,
    shard: u8,
    device: &Registered,
    class: Class,
    mailbox: Position,
) -> (Handle, Box<Attach>) {
    let from = rig.handle(shard);
    let mut wish = rig.wish(from, &device.token);
    wish.class = class;
    wish.resume = [mailbox, Position::START];
    rig.tell(shard, Event::Login(Box::new(wish))).await;
    loop {
        match rig.shards.next(shard).await {
            Command::Share { .. } | Command::Close { .. } => {}
            Command::Attach(attach) => return (from, attach),
            other => panic!("{other:?}"),
        }
    }
}

async fn books(rig: &Rig, message: MessageId) -> (u64, u64, u64) {
    let story = rig.hub.message(&rig.app, message).await.unwrap().unwrap();
    let counts = story.view.counts;
    (counts.created, counts.delivered, counts.pending())
}

async fn until_books(rig: &Rig, message: MessageId, expected: (u64, u64, u64)) {
    until(async || books(rig, message).await == expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_class_enters_beside_the_first_and_both_shards_are_told() {
    let rig = Rig::with_policy(3, DuplicateLogin::OnePerClass).await;
    let device = rig.register("d1", None, &[]).await;
    let (phone, _) = rig.login(0, &device).await;
    let (pc, _) = join(&rig, 1, &device, Class::Pc).await;
    assert!(matches!(rig.shards.next(0).await, Command::Share { to } if to == phone));
    let receipt = rig.hub.push(&rig.app, rig.push(devices(&["d1"]), 60)).await.unwrap();
    assert_eq!(
        (receipt.audience.matched, receipt.audience.online),
        (Some(1), Some(1)),
        "devices, not connections"
    );
    let Command::Deliver { to, position, .. } = rig.shards.next(0).await else { panic!() };
    assert_eq!(to, phone);
    assert!(matches!(rig.shards.next(1).await, Command::Deliver { to, .. } if to == pc));

    // The pc's ack ends the delivery, the phone's changes nothing.
    rig.ack(pc, device.client, Source::Mailbox, position, receipt.message).await;
    until_books(&rig, receipt.message, (1, 1, 0)).await;
    rig.ack(phone, device.client, Source::Mailbox, position, receipt.message).await;
    until(async || rig.hub.stats().late_acks.load(SeqCst) == 1).await;
    assert_eq!(books(&rig, receipt.message).await, (1, 1, 0));
    let stats = rig.hub.stats();
    assert_eq!((stats.devices_online.load(SeqCst), stats.sessions_online.load(SeqCst)), (1, 2));
    assert_eq!((stats.takeovers.load(SeqCst), stats.deliveries_acked.load(SeqCst)), (0, 1));

    // A second pc takes the place of the first.
    let (newer, _) = join(&rig, 2, &device, Class::Pc).await;
    match rig.shards.next(1).await {
        Command::Close { to, reason, .. } => assert_eq!((to, reason), (pc, CloseReason::TakenOver)),
        other => panic!("{other:?}"),
    }
    // A kick ends both.
    let name = DeviceName::parse("registration_id", "d1").unwrap();
    assert_eq!(rig.hub.device(&rig.app, name.clone()).await.unwrap().unwrap().1, 2);
    assert_eq!(rig.hub.disconnect(&rig.app, name).await.unwrap(), Some(true));
    assert!(matches!(rig.shards.next(0).await, Command::Share { to } if to == phone));
    for (shard, handle) in [(0, phone), (2, newer)] {
        let kicked = rig.shards.next(shard).await;
        let Command::Close { to, reason, .. } = kicked else { panic!("{kicked:?}") };
        assert_eq!((to, reason), (handle, CloseReason::Kicked));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_are_bounded_and_the_oldest_goes() {
    let rig = Rig::with_policy(4, DuplicateLogin::Many).await;
    let device = rig.register("d1", None, &[]).await;
    let (first, _) = rig.login(0, &device).await;
    for shard in 1..4 {
        join(&rig, shard, &device, Class::Phone).await;
    }
    let stats = rig.hub.stats();
    assert_eq!((stats.devices_online.load(SeqCst), stats.sessions_online.load(SeqCst)), (1, 3));
    assert_eq!(stats.displaced_at_bound.load(SeqCst), 1);
    loop {
        match rig.shards.next(0).await {
            Command::Share { .. } => {}
            Command::Close { to, reason, .. } => {
                break assert_eq!((to, reason), (first, CloseReason::TakenOver));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chain_goes_on_where_the_connection_stands_not_where_the_others_do() {
    let rig = Rig::with_policy(2, DuplicateLogin::Many).await;
    let device = rig.register("d1", None, &[]).await;
    let (phone, _) = rig.login(0, &device).await;
    let mut places = Vec::new();
    for _ in 0..3 {
        let message = rig.hub.push(&rig.app, rig.push(devices(&["d1"]), 60)).await.unwrap().message;
        let Command::Deliver { position, .. } = rig.shards.next(0).await else { panic!() };
        places.push(position);
        rig.ack(phone, device.client, Source::Mailbox, position, message).await;
        until_books(&rig, message, (1, 1, 0)).await;
    }
    // It had the first only; the phone has ended the other two.
    let (_, attach) = resume(&rig, 1, &device, Class::Pc, places[0]).await;
    assert_eq!((attach.mailbox.last, attach.mailbox.waiting), (places[0], false));
    // A place that was never given, and one of another incarnation, are not believed.
    for said in [Position(places[2].0 + 9), Position(1), Position::START] {
        let (_, attach) = resume(&rig, 1, &device, Class::Web, said).await;
        assert_eq!(attach.mailbox.last, places[2], "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_in_several_windows_of_a_device_is_one_delivery() {
    let rig = Rig::with_policy(2, DuplicateLogin::Many).await;
    let device = rig.register("d1", None, &[]).await;
    let (one, _) = rig.login(0, &device).await;
    let (two, _) = join(&rig, 1, &device, Class::Phone).await;
    let message = rig.hub.push(&rig.app, rig.push(Audience::all(), 60)).await.unwrap().message;
    let Command::Broadcast(broadcast) = rig.shards.next(1).await else { panic!() };
    let position = broadcast.position;
    let client = device.client;
    for shard in [0, 1] {
        rig.tell(shard, Event::Held { client, message }).await;
        rig.tell(shard, Event::Sent { message, sent: 1, dropped: 0 }).await;
    }
    until_books(&rig, message, (1, 0, 1)).await;
    // One vanishes: the other still holds it. Then that one acks.
    let closed = |from, unacked| longwire_server::delivery::border::Closed {
        will: None,
        from,
        client: Some(client),
        app: rig.app.id,
        reason: CloseReason::PeerLost,
        sent: [Position::START; 2],
        unacked,
        shared: true,
        lived_s: 1,
    };
    rig.tell(0, Event::Closed(Box::new(closed(one, vec![message])))).await;
    until(async || rig.hub.stats().sessions_online.load(SeqCst) == 1).await;
    until_books(&rig, message, (1, 0, 1)).await;
    let (app, source, end) = (rig.app.id, Source::AppLog, End::Delivered);
    let ack = Event::Settled {
        from: two,
        client,
        app,
        source,
        position,
        message,
        end,
        shared: true,
        sent: longwire_server::domain::WallMs(0),
    };
    rig.tell(1, ack).await;
    until_books(&rig, message, (1, 1, 0)).await;
}
