//! Devices that log in twice, devices that displace each other, addresses with bad logins: as a shard sees them.
#![allow(clippy::unwrap_used, missing_docs)]

mod hub_rig;

use hub_rig::{Rig, devices, until};
use longwire_proto::close::CloseReason;
use longwire_server::delivery::border::{Command, Event};
use longwire_server::domain::DuplicateLogin;
use std::sync::atomic::Ordering::SeqCst;

#[tokio::test(flavor = "multi_thread")]
async fn where_the_older_stays_the_newer_login_is_told_when_to_come_again() {
    let rig = Rig::with_policy(2, DuplicateLogin::Reject).await;
    let device = rig.register("phone", None, &[]).await;
    let (older, _) = rig.login(0, &device).await;

    let newer = rig.handle(1);
    let (reason, retry_after_s) = rig.refused(rig.wish(newer, &device.token)).await;
    assert_eq!(reason, CloseReason::AlreadyConnected);
    assert!((5..=15).contains(&retry_after_s), "{retry_after_s}");
    // The older one is asked after, not closed, and stays the device's connection.
    match rig.shards.next(0).await {
        Command::EndIfSilent { to, client, app } => {
            assert_eq!((to, client, app), (older, device.client, rig.app.id));
        }
        other => panic!("{other:?}"),
    }
    rig.hub.push(&rig.app, rig.push(devices(&["phone"]), 60)).await.unwrap();
    assert!(matches!(rig.shards.next(0).await, Command::Deliver { to, .. } if to == older));

    // Its shard says that it is gone: the next login gets in.
    rig.close(older, Some(device.client), Vec::new()).await;
    until(async || rig.hub.stats().sessions_online.load(SeqCst) == 0).await;
    rig.login(1, &device).await;
    assert_eq!(rig.hub.stats().takeovers.load(SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_devices_with_one_id_are_slowed_and_a_third_is_not() {
    let rig = Rig::new(1).await;
    let cloned = rig.register("cloned", None, &[]).await;
    let third = rig.register("third", None, &[]).await;
    let mut last = rig.login(0, &cloned).await.0;
    let mut wait_s = 0;
    for takeovers in 0..20 {
        let from = rig.handle(0);
        rig.tell(0, Event::Login(Box::new(rig.wish(from, &cloned.token)))).await;
        match rig.shards.next(0).await {
            Command::Close { to, reason, .. } => assert_eq!((to, reason), (last, CloseReason::TakenOver)),
            Command::Refuse { to, reason, retry_after_s } => {
                assert_eq!((to, reason), (from, CloseReason::Conflict));
                assert!(takeovers >= 6, "{takeovers} takeovers are not too many");
                wait_s = retry_after_s;
                break;
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(rig.shards.next(0).await, Command::Attach(attach) if attach.to == from));
        // The shard had the older one and closed it.
        rig.close_for(last, Some(cloned.client), Vec::new(), CloseReason::TakenOver).await;
        last = from;
    }
    assert!((1..=60).contains(&wait_s), "{wait_s}");
    let stats = rig.hub.stats();
    assert!(stats.device_id_conflicts.load(SeqCst) >= 1 && stats.takeovers.load(SeqCst) >= 6);

    // The connection that has it keeps it, and others take over as ever.
    rig.hub.push(&rig.app, rig.push(devices(&["cloned"]), 60)).await.unwrap();
    assert!(matches!(rig.shards.next(0).await, Command::Deliver { to, .. } if to == last));
    let (older, _) = rig.login(0, &third).await;
    let newer = rig.handle(0);
    rig.tell(0, Event::Login(Box::new(rig.wish(newer, &third.token)))).await;
    assert!(matches!(rig.shards.next(0).await, Command::Close { to, .. } if to == older));
    assert!(matches!(rig.shards.next(0).await, Command::Attach(attach) if attach.to == newer));

    // Without an older connection to displace nobody waits.
    rig.close(last, Some(cloned.client), Vec::new()).await;
    until(async || stats.sessions_online.load(SeqCst) == 1).await;
    rig.login(0, &cloned).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_reconnects_often_is_not_taken_for_two() {
    let rig = Rig::new(1).await;
    let device = rig.register("phone", None, &[]).await;
    let (mut last, _) = rig.login(0, &device).await;
    for _ in 0..50 {
        let from = rig.handle(0);
        rig.tell(0, Event::Login(Box::new(rig.wish(from, &device.token)))).await;
        // Its older connection ended by itself; that is told after the login, as another shard may.
        rig.close(last, Some(device.client), Vec::new()).await;
        loop {
            match rig.shards.next(0).await {
                Command::Close { to, .. } => assert_eq!(to, last),
                Command::Attach(attach) => break assert_eq!(attach.to, from),
                other => panic!("{other:?}"),
            }
        }
        last = from;
    }
    assert_eq!(rig.hub.stats().device_id_conflicts.load(SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_logins_from_one_network_are_told_to_wait_and_good_ones_are_not() {
    let rig = Rig::new(1).await;
    let device = rig.register("phone", None, &[]).await;
    let bad = |peer: &str| {
        let mut login = rig.wish(rig.handle(0), "no token");
        login.peer = peer.parse().unwrap();
        login
    };
    for number in 0..20 {
        let peer = format!("[2001:db8::{number:x}]:9");
        assert_eq!(rig.refused(bad(&peer)).await, (CloseReason::BadToken, 0), "{number}");
    }
    // On a slow machine a second or two pass, which allow one or two more.
    let mut wait_s = 0;
    for _ in 0..20 {
        let (reason, retry_after_s) = rig.refused(bad("[2001:db8::ffff]:9")).await;
        assert_eq!(reason, CloseReason::BadToken);
        wait_s = wait_s.max(retry_after_s);
    }
    assert!((1..=300).contains(&wait_s), "{wait_s}");
    assert_eq!(rig.refused(bad("[2001:db8:0:1::1]:9")).await, (CloseReason::BadToken, 0), "another network");
    assert!(rig.hub.stats().logins_slowed.load(SeqCst) >= 1);

    let from = rig.handle(0);
    let mut good = rig.wish(from, &device.token);
    good.peer = "[2001:db8::1]:9".parse().unwrap();
    rig.tell(0, Event::Login(Box::new(good))).await;
    assert!(matches!(rig.shards.next(0).await, Command::Attach(attach) if attach.to == from));
}
