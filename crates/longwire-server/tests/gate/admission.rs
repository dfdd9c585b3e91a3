//! Who is let in, who is not, and that everybody who is not is told when to come again.

use crate::rig::{Device, Rig, options, welcome};
use longwire_proto::close::CloseReason;
use longwire_proto::wire::{Refusal, ServerFrame};
use longwire_server::delivery::border::Command;
use longwire_server::gate::{GateOptions, Rejection};
use std::io::Write;
use std::net::Shutdown;

const CROWD: [u8; 4] = [127, 0, 0, 5];
const OTHER: [u8; 4] = [127, 0, 0, 6];

fn one_shard() -> GateOptions {
    GateOptions { shards: 1, ..options() }
}

fn rejected(rig: &Rig, reason: Rejection) -> u64 {
    rig.sum(|stats| &stats.rejected[reason as usize])
}

fn refusal(device: &mut Device) -> Refusal {
    match device.next() {
        Some(ServerFrame::Refusal(refusal)) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

fn login_from(rig: &Rig, source: [u8; 4], client: u64) -> Device {
    let mut device = rig.connect_from(source);
    device.send_connect(client);
    assert!(matches!(device.next(), Some(ServerFrame::Welcome(_))), "{source:?} is let in");
    device
}

fn all_gone(rig: &Rig) {
    let gone = rig.until(|rig| {
        (rig.sum(|stats| &stats.connections) + rig.sum(|stats| &stats.awaiting) == 0).then_some(())
    });
    assert!(gone.is_some(), "{} connections are left", rig.sum(|stats| &stats.connections));
}

#[test]
fn an_address_with_all_its_connections_is_refused_and_others_are_not() {
    let rig = Rig::new(GateOptions { address_connections_max: 3, ..options() }, welcome);
    let mut crowd: Vec<_> = (1..=3).map(|client| login_from(&rig, CROWD, client)).collect();
    for _ in 0..5 {
        let refusal = refusal(&mut rig.connect_from(CROWD));
        assert_eq!(refusal.reason, CloseReason::Full);
        assert!(refusal.retry_after_s > 0);
    }
    assert_eq!(rejected(&rig, Rejection::AddressConnections), 5);
    let _other = login_from(&rig, OTHER, 4);
    crowd.pop();
    assert!(rig.until(|rig| (rig.sum(|stats| &stats.connections) == 3).then_some(())).is_some());
    login_from(&rig, CROWD, 5);
}

#[test]
fn a_fleet_behind_one_address_comes_faster_than_its_rate_while_there_is_headroom() {
    let rig = Rig::new(GateOptions { address_rate: 1, address_awaiting_max: 1, ..options() }, welcome);
    let mut fleet: Vec<_> = (0..300).map(|_| rig.connect_from(CROWD)).collect();
    for (client, device) in (1..).zip(&mut fleet) {
        device.send_connect(client);
    }
    for device in &mut fleet {
        assert!(matches!(device.next(), Some(ServerFrame::Welcome(_))));
    }
    assert_eq!(Rejection::ALL.iter().map(|reason| rejected(&rig, *reason)).sum::<u64>(), 0);
}

#[test]
fn beyond_the_pace_devices_wait_and_then_are_told_their_turn() {
    const CROWD_SIZE: usize = 300;
    let paced = GateOptions { login_rate_min: 20, login_rate_max: 20, address_rate: 5, ..one_shard() };
    let rig = Rig::new(paced, welcome);
    let mut crowd: Vec<_> = (0..CROWD_SIZE).map(|_| rig.connect_from(CROWD)).collect();
    for (client, device) in (1..).zip(&mut crowd) {
        device.send_connect(client);
    }
    let mut waits = Vec::new();
    for device in &mut crowd {
        match device.next() {
            Some(ServerFrame::Welcome(_)) => {}
            Some(ServerFrame::Refusal(refusal)) => {
                assert_eq!(refusal.reason, CloseReason::Full);
                waits.push(refusal.retry_after_s);
            }
            other => panic!("{other:?}"),
        }
    }
    waits.sort_unstable();
    let (first, last) = (waits[0], waits[waits.len() - 1]);
    assert!(first > 0 && last <= 60, "{waits:?}");
    // At 20 a second: each second has as many as can come in then, the one at the ends fewer.
    assert!(waits.chunk_by(PartialEq::eq).all(|second| second.len() <= 40), "{waits:?}");
    let counted = rejected(&rig, Rejection::LoginRate) + rejected(&rig, Rejection::AddressRate);
    assert_eq!(counted, waits.len() as u64);
    assert!(rejected(&rig, Rejection::AddressRate) > 0, "the address was beyond its own rate too");
    assert!(rig.sum(|stats| &stats.accepts_held_back) > 0);
    drop(crowd);
    // The flood is over: both get in, at once or when they come again.
    for source in [OTHER, CROWD] {
        let welcomed = rig.until(|rig| {
            let mut device = rig.connect_from(source);
            device.send_connect(1_000);
            matches!(device.next(), Some(ServerFrame::Welcome(_))).then_some(())
        });
        assert!(welcomed.is_some(), "{source:?} gets in");
    }
    all_gone(&rig);
}

/// THREATS, slow logins, from one address.
#[test]
fn silent_peers_of_one_address_leave_the_others_their_logins() {
    let rig = Rig::new(GateOptions { awaiting_max: 40, address_awaiting_max: 5, ..one_shard() }, welcome);
    // The first who is refused meets twenty that are older than a second.
    let mut silent: Vec<_> = (0..20).map(|_| rig.connect_from(CROWD)).collect();
    let binds = rig.until(|rig| {
        silent.push(rig.connect_from(CROWD));
        (rejected(rig, Rejection::AddressAwaiting) > 0).then_some(())
    });
    assert!(binds.is_some());
    let before = rejected(&rig, Rejection::AddressAwaiting);
    for _ in 0..50 {
        // One that speaks is told at once.
        let mut newcomer = rig.connect_from(CROWD);
        newcomer.send_connect(99);
        let refusal = refusal(&mut newcomer);
        assert_eq!(refusal.reason, CloseReason::Full);
        assert!(refusal.retry_after_s > 0);
    }
    assert!(rejected(&rig, Rejection::AddressAwaiting) >= before + 50);
    let others: Vec<_> = (1..=50).map(|client| login_from(&rig, OTHER, client)).collect();
    // Who was let in before may still log in.
    silent[0].send_connect(100);
    assert!(matches!(silent[0].next(), Some(ServerFrame::Welcome(_))));
    drop((silent, others));
    all_gone(&rig);
}

/// THREATS, slow logins, from so many addresses that none has too many.
#[test]
fn of_silent_peers_of_many_addresses_the_oldest_makes_room() {
    let rig = Rig::new(GateOptions { awaiting_max: 20, login_deadline_s: 600, ..one_shard() }, welcome);
    let mut silent: Vec<_> = (0..20).map(|n| rig.connect_from([127, 0, 1, n + 1])).collect();
    assert!(rig.until(|rig| (rig.sum(|stats| &stats.awaiting) == 20).then_some(())).is_some());
    // Young ones make no room: until they are old the newcomer waits.
    let honest = rig.until(|rig| {
        let mut device = rig.connect_from(OTHER);
        device.send_connect(7);
        match device.next() {
            Some(ServerFrame::Welcome(_)) => Some(device),
            Some(ServerFrame::Refusal(refusal)) => {
                assert!(refusal.reason == CloseReason::Full && refusal.retry_after_s > 0);
                None
            }
            other => panic!("{other:?}"),
        }
    });
    assert!(honest.is_some(), "an honest login gets in at last");
    let refusal = refusal(&mut silent[0]);
    assert_eq!(refusal.reason, CloseReason::Full);
    assert!(refusal.retry_after_s > 0);
    // From now on at once, one after the other.
    let more: Vec<_> = (8..=18).map(|client| login_from(&rig, OTHER, client)).collect();
    assert!(rejected(&rig, Rejection::Awaiting) >= 1);
    drop((silent, honest, more));
    all_gone(&rig);
}

#[test]
fn every_refusal_before_login_says_when_to_come_again() {
    let refuse: crate::rig::Answer =
        |to, _| Command::Refuse { to, reason: CloseReason::StoreUnavailable, retry_after_s: 0 };
    let rig = Rig::new(GateOptions { login_deadline_s: 1, ..options() }, refuse);
    let (mut silent, mut noisy, mut refused) = (rig.connect(), rig.connect(), rig.connect());
    noisy.socket.write_all(b"\xCA\xFE\xBA\xBF push.example\r\n").unwrap();
    refused.send_connect(3);
    for (device, reason) in [
        (&mut silent, CloseReason::LoginTimeout),
        (&mut noisy, CloseReason::BadMagic),
        (&mut refused, CloseReason::StoreUnavailable),
    ] {
        let refusal = refusal(device);
        assert_eq!(refusal.reason, reason);
        assert!((5..30).contains(&refusal.retry_after_s), "{refusal:?}");
    }
}

#[test]
fn a_stop_refuses_who_has_not_logged_in_with_a_time_to_come_again() {
    let rig = Rig::new(options(), welcome);
    let mut silent = rig.connect();
    assert!(rig.until(|rig| (rig.sum(|stats| &stats.connections) == 1).then_some(())).is_some());
    let (spread, patience) = (std::time::Duration::ZERO, std::time::Duration::from_secs(5));
    rig.runtime.block_on(rig.gate.stop(spread, patience));
    let refusal = refusal(&mut silent);
    assert!(refusal.reason == CloseReason::Draining && refusal.retry_after_s > 0, "{refusal:?}");
}

#[test]
fn however_a_connection_ends_its_place_is_free_again() {
    const PLACES: usize = 6;
    let most = GateOptions {
        connections_max: PLACES,
        address_connections_max: PLACES as u32,
        login_deadline_s: 1,
        ..one_shard()
    };
    let rig = Rig::new(most, welcome);
    for round in 0..20 {
        let silent = rig.connect();
        let (gone, reset) = (rig.connect(), rig.connect());
        let mut noisy = rig.connect();
        let live = login_from(&rig, [127, 0, 0, 1], 1000 + round);
        let half = login_from(&rig, [127, 0, 0, 1], 2000 + round);
        noisy.socket.write_all(b"nothing of ours, and long enough for a header").unwrap();
        socket2::SockRef::from(&reset.socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        half.socket.shutdown(Shutdown::Write).unwrap();
        // The last round ends one by the login deadline.
        let kept = (round == 19).then_some(silent);
        drop((gone, reset, noisy, live));
        all_gone(&rig);
        drop((half, kept));
    }
    let _all: Vec<_> = (1..=PLACES as u64).map(|client| rig.login(client)).collect();
    assert_eq!(refusal(&mut rig.connect()).reason, CloseReason::Full);
    assert_eq!(rejected(&rig, Rejection::Full), 1);
}
