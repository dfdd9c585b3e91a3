//! Devices that send too much, too often or too slowly (LIMITS 7.1).

use crate::rig::{Device, Rig, options, welcome};
use longwire_proto::close::CloseReason;
use longwire_proto::session::InboundLimits;
use longwire_proto::wire::{DeviceFrame, ServerFrame, Upstream, heartbeat};
use longwire_server::delivery::border::Event;
use longwire_server::gate::GateOptions;
use std::io::{Read, Write};

/// As many upstream messages as a device may send at once, by default.
const BURST: u64 = 200;

fn send_messages(device: &mut Device, numbers: std::ops::Range<u64>) {
    let mut bytes = Vec::new();
    for client_message in numbers {
        let message = Upstream { client_message, mode: 0, kind: "k", to: "", payload: b"x" };
        DeviceFrame::Upstream(message).encode(device.client, &mut bytes);
    }
    // The server may close before it has read all.
    let _ = device.socket.write_all(&bytes);
}

fn messages_told(rig: &Rig) -> u64 {
    let events = rig.events.lock().unwrap();
    events.iter().filter(|event| matches!(event, Event::Upstream(_))).count() as u64
}

fn closing(device: &mut Device) -> (CloseReason, u16) {
    loop {
        match device.next() {
            Some(ServerFrame::Close(refusal)) => return (refusal.reason, refusal.retry_after_s),
            Some(_) => {}
            None => panic!("closed without a word"),
        }
    }
}

#[test]
fn a_device_that_sends_a_little_too_much_is_read_later_and_loses_nothing() {
    let rig = Rig::new(options(), welcome);
    let mut device = rig.login(1);
    // A second's worth beyond the burst, then a heartbeat that has to wait behind it.
    send_messages(&mut device, 0..BURST + 50);
    let paused = rig.until(|rig| (rig.sum(|stats| &stats.inbound_pauses) > 0).then_some(()));
    assert!(paused.is_some(), "it is paused");
    send_messages(&mut device, BURST + 50..BURST + 60);
    device.nothing_before_pong();
    let all = rig.until(|rig| (messages_told(rig) == BURST + 60).then_some(()));
    assert!(all.is_some(), "all arrived, none was refused: {}", messages_told(&rig));
    assert_eq!(rig.closed(CloseReason::InboundRate), 0);
}

#[test]
fn a_device_that_sends_far_too_much_is_closed_and_asked_to_stay_away() {
    let rig = Rig::new(options(), welcome);
    let mut healthy = rig.login(7);
    let mut flooding = rig.login(1);
    send_messages(&mut flooding, 0..1_000);
    assert_eq!(closing(&mut flooding), (CloseReason::InboundRate, 60));
    assert_eq!(rig.closed(CloseReason::InboundRate), 1);
    // 4 s of burst and 5 s of pause at 50 a second, less what the bytes of the first read cost.
    let taken = rig.until(|rig| Some(messages_told(rig)).filter(|taken| *taken >= 400));
    assert!(taken.is_some_and(|taken| taken < 1_000), "{} were taken before the end", messages_told(&rig));
    healthy.nothing_before_pong();
}

#[test]
fn a_heartbeat_flood_is_counted_and_then_ended() {
    let rig = Rig::new(options(), welcome);
    let mut healthy = rig.login(7);
    let mut flooding = rig.login(1);
    let beat = heartbeat(longwire_proto::wire::Command::Ping, flooding.client);
    flooding.socket.write_all(&beat.repeat(20)).unwrap();
    for _ in 0..20 {
        assert_eq!(flooding.next(), Some(ServerFrame::Pong), "beyond the burst it is still answered");
    }
    let early = rig.until(|rig| (rig.sum(|stats| &stats.heartbeats_early) > 0).then_some(()));
    assert!(early.is_some(), "and counted");
    flooding.socket.write_all(&beat.repeat(100)).unwrap();
    assert_eq!(closing(&mut flooding), (CloseReason::PingRate, 60));
    assert_eq!(rig.closed(CloseReason::PingRate), 1);
    healthy.nothing_before_pong();
}

#[test]
fn without_limits_nobody_is_slowed() {
    let inbound = InboundLimits { messages_per_s: 0, bytes_per_s: 0, ping_s: 0, ..InboundLimits::default() };
    let rig = Rig::new(GateOptions { inbound, ..options() }, welcome);
    let mut device = rig.login(1);
    let beat = heartbeat(longwire_proto::wire::Command::Ping, device.client);
    send_messages(&mut device, 0..3_000);
    device.socket.write_all(&beat.repeat(500)).unwrap();
    for _ in 0..500 {
        assert_eq!(device.next(), Some(ServerFrame::Pong));
    }
    let all = rig.until(|rig| (messages_told(rig) == 3_000).then_some(()));
    assert!(all.is_some(), "{}", messages_told(&rig));
    assert_eq!(rig.sum(|stats| &stats.inbound_pauses) + rig.sum(|stats| &stats.heartbeats_early), 0);
}

/// A peer that dribbles keeps its connection until the deadline, which counts from the accept or the frame's first byte and
/// not from its last byte.
#[test]
fn three_hundred_slow_peers_are_closed_at_their_deadlines_and_every_honest_login_is_served() {
    const SLOW: u64 = 300;
    let rig = Rig::new(GateOptions { login_deadline_s: 2, frame_deadline_s: 2, ..options() }, welcome);
    let connect = [0xCA, 0xFE, 0xBA, 0xBE, 0x10, 0, 0, 40, 0, 0, 0, 0, 0, 0, 0, 9];
    let mut before_login: Vec<Device> = (0..SLOW / 2).map(|_| rig.connect()).collect();
    let mut in_a_frame: Vec<Device> = (0..SLOW / 2).map(|client| rig.login(1_000 + client)).collect();
    let ended = |rig: &Rig| rig.closed(CloseReason::LoginTimeout) + rig.closed(CloseReason::FrameTimeout);
    // One byte each in turn, again and again, and an honest login between; a header of 24 bytes and more never ends here.
    let (mut round, mut honest) = (0, 0);
    let done = rig.until(|rig| {
        for device in &mut before_login {
            let _ = device.socket.write_all(&connect[round.min(15)..=round.min(15)]);
        }
        for device in &mut in_a_frame {
            let mut frame = heartbeat(longwire_proto::wire::Command::Ping, device.client);
            frame[7] = 112;
            let _ = device.socket.write_all(&frame[round.min(15)..=round.min(15)]);
        }
        // Fewer rounds than a frame has bytes: who is slow never completes one.
        round = (round + 1).min(15 + 30);
        honest += 1;
        rig.login(10_000 + honest).nothing_before_pong();
        (round == 45 || ended(rig) == SLOW).then_some(())
    });
    assert!(done.is_some());
    let all = rig.until(|rig| (ended(rig) == SLOW).then_some(()));
    assert!(all.is_some(), "{} of {SLOW} are closed", ended(&rig));
    assert_eq!(rig.closed(CloseReason::LoginTimeout), SLOW / 2);
    assert_eq!(rig.closed(CloseReason::FrameTimeout), SLOW / 2);
    assert!(honest > 0);
    rig.login(9).nothing_before_pong();
}

#[test]
fn a_thousand_giant_announcements_are_refused_at_the_header() {
    let rig = Rig::new(options(), welcome);
    for _ in 0..1_000 {
        let mut device = rig.connect();
        device
            .socket
            .write_all(&[0xCA, 0xFE, 0xBA, 0xBE, 0x10, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 1])
            .unwrap();
        // Not one byte of the body was sent, and the answer is there.
        match device.next() {
            Some(ServerFrame::Refusal(refusal)) => assert_eq!(refusal.reason, CloseReason::FrameTooLong),
            other => panic!("expected a refusal, got {other:?}"),
        }
        assert_eq!(device.socket.read(&mut [0; 1]).unwrap_or(0), 0);
    }
    assert_eq!(rig.closed(CloseReason::FrameTooLong), 1_000);
    rig.login(9).nothing_before_pong();
}
