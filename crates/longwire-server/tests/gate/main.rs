//! The gate through its public face: real sockets in front, commands and events behind.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod admission;
mod labels;
mod mqtt;
mod mqtt_aliases;
mod mqtt_crowd;
mod mqtt_life;
mod mqtt_rig;
mod mqtt_stored;
mod native_topics;
mod peers;
mod rates;
mod recalled;
mod rig;
mod transports;
mod upstream;

use longwire_proto::close::CloseReason;
use longwire_proto::id::{MessageId, Position, Source};
use longwire_proto::wire::{AckKind, DeviceFrame, ServerFrame};
use longwire_server::delivery::border::{Command, Event};
use longwire_server::domain::WallMs;
use longwire_server::gate::{GateOptions, HEARTBEAT_BUCKETS_US, Level};
use longwire_server::store::port::{End, Page, PageEntry};
use rig::{Rig, attach, options, outgoing, welcome};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// Requirement 004-10, 004-13: the articles' heartbeat, by hand.
#[test]
fn a_raw_heartbeat_of_16_bytes_is_answered_by_16_bytes() {
    let rig = Rig::new(options(), welcome);
    let mut device = rig.login(0x0102_0304_0506_0708);
    let beat = [0xCA, 0xFE, 0xBA, 0xBE, 1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    // In one piece, byte by byte, and with padding (004-32).
    device.socket.write_all(&beat).unwrap();
    for byte in beat {
        device.socket.write_all(&[byte]).unwrap();
    }
    let mut padded = vec![0xCA, 0xFE, 0xBA, 0xBE, 1, 0, 0, 112, 1, 2, 3, 4, 5, 6, 7, 8];
    padded.extend_from_slice(&[0x5A; 112]);
    device.socket.write_all(&padded).unwrap();
    for _ in 0..3 {
        let mut answer = [0; 16];
        device.socket.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [0xCA, 0xFE, 0xBA, 0xBE, 2, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }
    // A shard counts when the answers have left.
    assert!(rig.until(|rig| (rig.sum(|stats| &stats.heartbeats) == 3).then_some(())).is_some());
    let in_buckets = |rig: &Rig| -> u64 {
        (0..=HEARTBEAT_BUCKETS_US.len()).map(|at| rig.sum(|stats| &stats.heartbeat_us[at])).sum()
    };
    let all = rig.until(|rig| (in_buckets(rig) == 3).then_some(()));
    assert!(all.is_some(), "each is in the histogram, not {}", in_buckets(&rig));
}

#[test]
fn faults_close_with_their_reason_and_the_others_live() {
    let rig = Rig::new(options(), welcome);
    let mut healthy = rig.login(7);
    let faults: [(&[u8], CloseReason); 4] = [
        (b"\xCA\xFE\xBA\xBF push.example\r\n", CloseReason::BadMagic),
        (&[0xCA, 0xFE, 0xBA, 0xBE, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], CloseReason::BadCommand),
        (
            &[0xCA, 0xFE, 0xBA, 0xBE, 0x10, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0],
            CloseReason::FrameTooLong,
        ),
        (&[0xCA, 0xFE, 0xBA, 0xBE, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], CloseReason::OutOfOrder),
    ];
    for (bytes, reason) in faults {
        let mut device = rig.connect();
        device.socket.write_all(bytes).unwrap();
        match device.next() {
            Some(ServerFrame::Refusal(refusal)) => assert_eq!(refusal.reason, reason),
            other => panic!("expected {reason:?}, got {other:?}"),
        }
        assert_eq!(device.next(), None);
        assert_eq!(rig.closed(reason), 1);
    }
    healthy.nothing_before_pong();
}

/// What only native peers can read is said to them alone.
#[test]
fn who_speaks_nothing_known_is_told_nothing() {
    let rig = Rig::new(options(), welcome);
    let mut healthy = rig.login(7);
    let strangers: [&[u8]; 4] = [b"HELO push.example\r\n", &[0x40, 2, 0, 1], &[0, 0], &[0xC0, 0]];
    for (bytes, count) in strangers.into_iter().zip(1..) {
        let mut device = rig.connect();
        device.socket.write_all(bytes).unwrap();
        assert_eq!(device.next(), None);
        assert_eq!(rig.closed(CloseReason::BadMagic), count);
    }
    healthy.nothing_before_pong();
}

#[test]
fn somebody_elses_client_id_closes_the_session() {
    let rig = Rig::new(options(), welcome);
    let mut device = rig.login(7);
    device.client = longwire_proto::id::ClientId(8);
    device.send(&DeviceFrame::Ping);
    assert!(
        matches!(device.next(), Some(ServerFrame::Close(refusal)) if refusal.reason == CloseReason::WrongClientId)
    );
}

#[test]
fn a_connection_that_never_logs_in_is_closed_at_the_deadline() {
    let rig = Rig::new(GateOptions { login_deadline_s: 1, ..options() }, welcome);
    let mut silent = rig.connect();
    let mut slow = rig.connect();
    slow.socket.write_all(&[0xCA, 0xFE]).unwrap();
    assert!(
        matches!(silent.next(), Some(ServerFrame::Refusal(refusal)) if refusal.reason == CloseReason::LoginTimeout)
    );
    assert!(
        matches!(slow.next(), Some(ServerFrame::Refusal(refusal)) if refusal.reason == CloseReason::LoginTimeout)
    );
    assert_eq!(rig.sum(|stats| &stats.connections), 0);
}

#[test]
fn a_frame_that_is_never_finished_and_an_ack_that_never_comes_end_the_session() {
    let rig = Rig::new(GateOptions { frame_deadline_s: 1, ack_deadline_s: 1, ..options() }, welcome);
    let mut unfinished = rig.login(1);
    unfinished.socket.write_all(&[0xCA, 0xFE, 0xBA, 0xBE, 0x30]).unwrap();
    let mut mute = rig.login(2);
    let to = rig.handle(2);
    let deliver = Command::Deliver { to, position: Position::new(1, 1), message: outgoing(5, b"x") };
    rig.shards.post(to.shard(), deliver).unwrap();
    assert_eq!(mute.push(), 5);
    assert!(
        matches!(mute.next(), Some(ServerFrame::Close(refusal)) if refusal.reason == CloseReason::AckTimeout)
    );
    assert!(
        matches!(unfinished.next(), Some(ServerFrame::Close(refusal)) if refusal.reason == CloseReason::FrameTimeout)
    );
    let unacked = rig.until(|rig| {
        rig.events.lock().unwrap().iter().find_map(|event| match event {
            Event::Closed(closed) if closed.reason == CloseReason::AckTimeout => Some(closed.unacked.clone()),
            _ => None,
        })
    });
    assert_eq!(unacked, Some(vec![MessageId(5)]));
}

#[test]
fn a_broadcast_reaches_every_session_and_a_tag_only_its_members() {
    let rig = Rig::new(options(), |to, client| {
        let tags: &[u32] = if client.0 % 2 == 0 { &[4] } else { &[] };
        attach(to, client, tags, Position::START)
    });
    let mut devices: Vec<_> = (1..=40).map(|client| rig.login(client)).collect();
    rig.broadcast(Position::START, &[], 100, b"for all");
    rig.broadcast(Position::START, &[4, 9], 101, b"for even ones");
    for device in &mut devices {
        assert_eq!(device.push(), 100);
        if device.client.0.is_multiple_of(2) {
            assert_eq!(device.push(), 101);
        }
        device.nothing_before_pong();
    }
}

#[test]
fn stored_broadcasts_come_in_order_each_naming_the_one_before() {
    let rig = Rig::new(options(), welcome);
    let mut device = rig.login(3);
    for number in 1..=20_u64 {
        rig.broadcast(Position::new(1, number * 10), &[], number.into(), b"news");
    }
    let mut previous = Position::START;
    for number in 1..=20_u64 {
        let Some(ServerFrame::Push(push)) = device.next() else { panic!("push {number}") };
        assert_eq!((push.message.0, push.previous), (number.into(), previous));
        previous = push.position;
        let mut ack = Vec::new();
        longwire_proto::wire::encode_acks(AckKind::Received, &[push.message], device.client, &mut ack);
        device.socket.write_all(&ack).unwrap();
    }
    let settled = rig.until(|rig| {
        let events = rig.events.lock().unwrap();
        let settled = events.iter().filter(|event| {
            matches!(event, Event::Settled { source: Source::AppLog, end: End::Delivered, .. })
        });
        (settled.count() == 20).then_some(())
    });
    assert!(settled.is_some(), "every ack became an event");
}

/// More connections than a slice of the carousel, and broadcasts that join while others are under way.
#[test]
fn broadcasts_that_overlap_reach_each_connection_once_and_in_order() {
    let rig = Rig::new(options(), |to, client| {
        let tags: &[u32] = if client.0 % 3 == 0 { &[4] } else { &[] };
        attach(to, client, tags, Position::START)
    });
    let mut devices: Vec<_> = (1..=1300).map(|client| rig.login(client)).collect();
    for number in 1..=60_u64 {
        match number % 3 {
            // Twenty stored ones stay within the window.
            0 => rig.broadcast(Position::new(1, number), &[], number.into(), b"stored"),
            1 => rig.broadcast(Position::START, &[], number.into(), b"online only"),
            _ => rig.broadcast(Position::START, &[4], number.into(), b"tagged"),
        }
    }
    for device in &mut devices {
        let tagged = device.client.0.is_multiple_of(3);
        for number in (1..=60_u128).filter(|number| tagged || number % 3 != 2) {
            assert_eq!(device.push(), number, "client {}", device.client.0);
        }
        device.nothing_before_pong();
    }
}

/// Between two slices of a broadcast the shard takes commands: what is for one connection waits for no slice but the one at hand.
#[test]
fn a_unicast_that_comes_behind_a_broadcast_arrives_before_the_broadcast_is_round() {
    const ROUNDS: u64 = 20;
    let rig = Rig::new(GateOptions { shards: 1, ..options() }, welcome);
    let mut devices: Vec<_> = (1..=600).map(|client| rig.login(client)).collect();
    let slot_of = |at: usize| rig.handle(at as u64 + 1).slot();
    // The one that a round comes to last.
    let last = (0..devices.len()).max_by_key(|at| slot_of(*at)).unwrap();
    let to = rig.handle(last as u64 + 1);
    let mut before = 0;
    for round in 1..=ROUNDS {
        let (many, one) = (u128::from(round), 1000 + u128::from(round));
        rig.broadcast(Position::START, &[], many, &[7; 4096]);
        let (position, message) = (Position::new(1, round), outgoing(one, b"for one"));
        rig.shards.post(to.shard(), Command::Deliver { to, position, message }).unwrap();
        let first = devices[last].push();
        before += u64::from(first == one);
        assert_eq!(first + devices[last].push(), many + one);
        let mut ack = Vec::new();
        longwire_proto::wire::encode_acks(
            AckKind::Received,
            &[MessageId(one)],
            devices[last].client,
            &mut ack,
        );
        devices[last].socket.write_all(&ack).unwrap();
        for (_, device) in devices.iter_mut().enumerate().filter(|(at, _)| *at != last) {
            assert_eq!(device.push(), many);
        }
    }
    // The poster may lose its processor between the two commands, but not each time.
    assert!(before > ROUNDS / 2, "in {before} of {ROUNDS} rounds");
}

#[test]
fn beyond_the_window_the_session_pulls_and_gets_the_rest_from_the_store() {
    let rig = Rig::new(options(), welcome);
    let mut device = rig.login(3);
    let to = rig.handle(3);
    for number in 1..=40_u64 {
        let position = Position::new(1, number);
        let deliver = Command::Deliver { to, position, message: outgoing(number.into(), b"m") };
        rig.shards.post(to.shard(), deliver).unwrap();
    }
    let ids: Vec<MessageId> = (1..=32).map(|_| MessageId(device.push())).collect();
    device.nothing_before_pong();
    let mut ack = Vec::new();
    longwire_proto::wire::encode_acks(AckKind::Received, &ids, device.client, &mut ack);
    device.socket.write_all(&ack).unwrap();
    let after = rig.until(|rig| {
        rig.events.lock().unwrap().iter().find_map(|event| match event {
            Event::Pull { pull, .. } => Some(pull.after),
            _ => None,
        })
    });
    assert_eq!(after, Some(Position::new(1, 32)));
    let entries = (33..=40_u64).map(|number| PageEntry::Message {
        position: Position::new(1, number),
        message: MessageId(number.into()),
        deadline: longwire_server::domain::WallMs(65_000),
        shared: outgoing(number.into(), b"m").shared.clone(),
        high: false,
    });
    let page = Some(Box::new(Page { entries: entries.collect(), end: true, ..Page::default() }));
    rig.shards.post(to.shard(), Command::Page { to, source: Source::Mailbox, page }).unwrap();
    for number in 33..=40 {
        assert_eq!(device.push(), number);
    }
    // Level again: the next live one goes straight out.
    let deliver = Command::Deliver { to, position: Position::new(1, 41), message: outgoing(41, b"m") };
    rig.shards.post(to.shard(), deliver).unwrap();
    assert_eq!(device.push(), 41);
}

#[test]
fn a_broadcast_that_the_login_missed_makes_the_session_pull() {
    // The store was read when the log's head was 3; this shard has handed out 4 already.
    let rig = Rig::new(options(), |to, client| attach(to, client, &[], Position::new(1, 3)));
    rig.broadcast(Position::new(1, 4), &[], 4, b"news");
    let _device = rig.login(9);
    let pulled = rig.until(|rig| {
        let events = rig.events.lock().unwrap();
        events
            .iter()
            .any(|event| matches!(event, Event::Pull { pull, .. } if pull.source == Source::AppLog))
            .then_some(())
    });
    assert!(pulled.is_some());
}

#[test]
fn a_stuck_peer_costs_one_outbox_loses_only_online_messages_and_is_closed() {
    let rig = Rig::new(GateOptions { write_stall_s: 2, ..options() }, welcome);
    let stuck = rig.login(1);
    let mut healthy = rig.login(2);
    let payload = vec![7; 1024];
    for number in 0..20_000_u128 {
        rig.broadcast(Position::START, &[], number, &payload);
        if number.is_multiple_of(16) {
            assert_eq!(healthy.push(), number);
        } else {
            healthy.push();
        }
    }
    let held = rig.sum(|stats| &stats.outbox_bytes);
    assert!(held <= 64 * 1024 + 2048, "{held} bytes wait for a stuck peer");
    assert!(rig.sum(|stats| &stats.dropped) > 1000, "what does not fit is dropped and counted");
    assert!(rig.until(|rig| (rig.closed(CloseReason::WriteStall) == 1).then_some(())).is_some());
    assert_eq!(rig.sum(|stats| &stats.outbox_bytes), 0);
    assert_eq!(rig.sum(|stats| &stats.unwritable), 0);
    healthy.nothing_before_pong();
    drop(stuck);
}

#[test]
fn at_the_limit_a_connection_is_told_to_come_back_later() {
    let rig = Rig::new(GateOptions { connections_max: 2, ..options() }, welcome);
    let first = rig.login(1);
    let _second = rig.login(2);
    let mut third = rig.connect();
    match third.next() {
        Some(ServerFrame::Refusal(refusal)) => {
            assert_eq!(refusal.reason, CloseReason::Full);
            assert!(refusal.retry_after_s > 0);
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
    drop(first);
    assert!(rig.until(|rig| (rig.sum(|stats| &stats.connections) == 1).then_some(())).is_some());
    rig.login(3);
}

#[test]
fn a_stop_tells_every_device_and_closes() {
    let rig = Rig::new(options(), welcome);
    let mut devices: Vec<_> = (1..=10).map(|client| rig.login(client)).collect();
    let gate = rig.gate.clone();
    rig.runtime.block_on(async { gate.stop(Duration::from_secs(5), Duration::from_secs(4)).await });
    for device in &mut devices {
        assert!(matches!(device.next(), Some(ServerFrame::GoAway { after_ms, .. }) if after_ms < 1000));
        assert!(
            matches!(device.next(), Some(ServerFrame::Close(refusal)) if refusal.reason == CloseReason::Draining)
        );
        assert_eq!(device.next(), None);
    }
    let closed = rig.until(|rig| {
        let events = rig.events.lock().unwrap();
        (events.iter().filter(|event| matches!(event, Event::Closed(_))).count() == 10).then_some(())
    });
    assert!(closed.is_some(), "the hub hears of every end");
    assert!(std::net::TcpStream::connect(rig.address).is_err(), "nobody listens");
}

#[test]
fn a_handle_of_a_connection_that_is_gone_reaches_nobody() {
    let rig = Rig::new(options(), welcome);
    let first = rig.login(1);
    let old = rig.handle(1);
    drop(first);
    assert!(rig.until(|rig| (rig.sum(|stats| &stats.connections) == 0).then_some(())).is_some());
    let mut devices: Vec<_> = (2..6).map(|client| rig.login(client)).collect();
    let message: Arc<_> = outgoing(66, b"for nobody");
    rig.shards.post(old.shard(), Command::DeliverNow { to: old, message }).unwrap();
    assert!(rig.until(|rig| (rig.sum(|stats| &stats.commands_missed) == 1).then_some(())).is_some());
    for device in &mut devices {
        device.nothing_before_pong();
    }
}

/// P27. The shard asks the test's clock for the time, and that does not come back.
#[test]
fn a_shard_that_stands_still_is_named_and_goes_on_when_it_can() {
    let (asked, was_asked) = sync_channel(1);
    let (let_go, may_go) = sync_channel::<()>(1);
    let may_go = std::sync::Mutex::new(may_go);
    let first = std::sync::atomic::AtomicBool::new(true);
    let clock = move || {
        if first.swap(false, std::sync::atomic::Ordering::SeqCst) {
            asked.send(()).unwrap();
            may_go.lock().unwrap().recv().unwrap();
        }
        WallMs(5_000)
    };
    let rig = Rig::with_clock(options(), welcome, Arc::new(clock));
    let mut device = rig.login(1);
    let to = rig.handle(1);
    assert_eq!(rig.stats.stalled(), None);
    let deliver = Command::Deliver { to, position: Position::new(1, 1), message: outgoing(5, b"x") };
    rig.shards.post(to.shard(), deliver).unwrap();
    was_asked.recv_timeout(rig::PATIENCE).unwrap();
    let stalled = rig.until(|rig| rig.stats.stalled());
    assert_eq!(stalled.map(|(shard, _)| shard), Some(usize::from(to.shard().0)));
    let_go.send(()).unwrap();
    assert_eq!(device.push(), 5);
    assert!(rig.until(|rig| rig.stats.stalled().is_none().then_some(())).is_some());
}

/// 004-34, P13: only monotonic time decides who is silent.
#[test]
fn a_wall_clock_that_jumps_closes_nobody() {
    let wall = Arc::new(AtomicU64::new(1_700_000_000_000));
    let clock = wall.clone();
    let options = GateOptions { shards: 1, login_deadline_s: 1, ..options() };
    let rig = Rig::with_clock(options, welcome, Arc::new(move || WallMs(clock.load(Relaxed))));
    let mut device = rig.login(1);
    for (jumps, wall_ms) in [(1, 4_000_000_000_000), (2, 0), (3, 1_700_000_000_000)] {
        wall.store(wall_ms, Relaxed);
        // A connection that says nothing is closed by its deadline: after the jump the shard has looked at deadlines.
        let silent = std::net::TcpStream::connect(rig.address).unwrap();
        let looked = rig.until(|rig| (rig.closed(CloseReason::LoginTimeout) == jumps).then_some(()));
        assert!(looked.is_some(), "jump {jumps}");
        drop(silent);
        device.nothing_before_pong();
    }
    assert_eq!(rig.closed(CloseReason::Idle) + rig.closed(CloseReason::AckTimeout), 0);
}

/// LIMITS 7.3.
#[test]
fn under_pressure_new_connections_and_online_only_messages_are_shed_and_stored_ones_are_not() {
    let rig = Rig::new(options(), welcome);
    let mut device = rig.login(1);
    let to = rig.handle(1);
    rig.stats.pressure.set(Level::Crowded);
    rig.broadcast(Position::START, &[], 7, b"online only");
    rig.shards.post(to.shard(), Command::DeliverNow { to, message: outgoing(8, b"now") }).unwrap();
    let deliver = Command::Deliver { to, position: Position::new(1, 1), message: outgoing(9, b"stored") };
    rig.shards.post(to.shard(), deliver).unwrap();
    assert_eq!(device.push(), 9);
    assert!(rig.until(|rig| (rig.sum(|stats| &stats.dropped) == 2).then_some(())).is_some());
    let waits: Vec<u16> = (0..20)
        .map(|_| {
            let mut newcomer = rig.connect();
            newcomer.send_connect(2);
            match newcomer.next() {
                Some(ServerFrame::Refusal(refusal)) if refusal.reason == CloseReason::Full => {
                    refusal.retry_after_s
                }
                other => panic!("expected a refusal, got {other:?}"),
            }
        })
        .collect();
    assert!(waits.iter().all(|wait| (30..120).contains(wait)), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait != waits[0]), "spread: {waits:?}");
    rig.stats.pressure.set(Level::Calm);
    rig.login(2);
    device.nothing_before_pong();
}

#[test]
fn an_overloaded_node_closes_who_holds_most() {
    let rig = Rig::new(options(), welcome);
    let stuck = rig.login(1);
    let mut healthy = rig.login(2);
    for number in 0..20_000_u128 {
        rig.broadcast(Position::START, &[], number, &[7; 1024]);
        healthy.push();
        if rig.sum(|stats| &stats.outbox_bytes) > 32 * 1024 {
            break;
        }
    }
    rig.stats.pressure.set(Level::Overloaded);
    assert!(rig.until(|rig| (rig.closed(CloseReason::Shed) == 1).then_some(())).is_some());
    assert_eq!(rig.sum(|stats| &stats.outbox_bytes), 0);
    rig.stats.pressure.set(Level::Calm);
    healthy.nothing_before_pong();
    drop(stuck);
}
