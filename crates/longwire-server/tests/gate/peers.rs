//! Peers that are slow, stuck or half gone: who is closed, when, and under which name.

use crate::rig::{APP, Device, Rig, options, outgoing, welcome};
use longwire_proto::close::CloseReason;
use longwire_proto::id::{ClientId, Position};
use longwire_proto::wire::DeviceFrame;
use longwire_server::delivery::border::{Command, Event, Handle};
use longwire_server::gate::GateOptions;
use std::io::Read;
use std::net::{Shutdown, SocketAddr};

/// No deadline but the one under test ends a connection, and a socket that is full stays full: the kernel does not enlarge it.
fn patient() -> GateOptions {
    let socket_buffer_bytes = 32 * 1024;
    GateOptions {
        login_deadline_s: 600,
        frame_deadline_s: 600,
        write_stall_s: 600,
        socket_buffer_bytes,
        ..options()
    }
}

/// Pushes online-only messages to these, one at a time, until each drops one: its socket is full and its outbox above the
/// high mark.
fn fill(rig: &Rig, clients: std::ops::RangeInclusive<u64>) {
    let sent = |rig: &Rig| rig.sum(|stats| &stats.sent);
    let dropped = |rig: &Rig| rig.sum(|stats| &stats.dropped);
    for client in clients {
        let (to, before) = (rig.handle(client), dropped(rig));
        for number in 0..2_000_u128 {
            let counted = sent(rig) + dropped(rig);
            let command = Command::DeliverNow { to, message: outgoing(number, &[7; 32 * 1024]) };
            assert!(rig.shards.post(to.shard(), command).is_ok());
            assert!(rig.until(|rig| (sent(rig) + dropped(rig) > counted).then_some(())).is_some());
            if dropped(rig) > before {
                break;
            }
        }
        assert!(dropped(rig) > before, "client {client} takes without end");
    }
}

/// Sockets of the server's port that the peer has ended and the server has not (state 08).
fn close_waits(address: SocketAddr) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{:04X}", address.port());
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.filter(|words| words[1].ends_with(&port) && words[3] == "08").count()
}

/// Its kernel takes bytes all the time, too few for the server's socket to become writable.
#[test]
fn a_slow_reader_lives_until_it_stops() {
    let options = GateOptions { write_stall_s: 2, socket_buffer_bytes: 200 * 1024, ..options() };
    let rig = Rig::new(options, welcome);
    let mut slow = rig.login_with_small_buffer(1, 16 * 1024);
    let mut buffer = [0; 64];
    // More keeps coming. Each round ends when the server has seen the progress; six of them last several write-stall deadlines.
    for round in 0..6 {
        assert_eq!(rig.sum(|stats| &stats.connections), 1);
        let before = rig.sum(|stats| &stats.slow_progress);
        let seen = rig.until(|rig| {
            if rig.sum(|stats| &stats.outbox_bytes) == 0 {
                fill(rig, 1..=1);
            }
            slow.socket.read_exact(&mut buffer).unwrap();
            (rig.sum(|stats| &stats.slow_progress) > before).then_some(())
        });
        assert!(seen.is_some(), "no progress seen in round {round}");
    }
    fill(&rig, 1..=1);
    assert!(rig.until(|rig| (rig.closed(CloseReason::WriteStall) == 1).then_some(())).is_some());
    assert_eq!(rig.sum(|stats| &stats.outbox_bytes), 0);
}

/// All that was sent is in the kernel's queue: the kernel's own deadline ends it, under the same name.
#[test]
fn a_peer_that_takes_nothing_is_closed_though_no_outbox_waits() {
    let rig = Rig::new(GateOptions { write_stall_s: 1, ..options() }, welcome);
    let stuck = rig.login_with_small_buffer(1, 4096);
    for number in 0..4 {
        rig.broadcast(Position::START, &[], number, &[7; 4096]);
    }
    assert!(rig.until(|rig| (rig.sum(|stats| &stats.sent) == 4).then_some(())).is_some());
    assert_eq!(rig.sum(|stats| &stats.outbox_bytes), 0);
    assert!(rig.until(|rig| (rig.closed(CloseReason::WriteStall) == 1).then_some(())).is_some());
    drop(stuck);
}

/// Who holds outbound bytes is told by app while somebody does.
#[test]
fn full_sockets_are_counted_by_app() {
    let rig = Rig::new(patient(), welcome);
    let stuck: Vec<Device> = (1..=3).map(|client| rig.login_with_small_buffer(client, 4096)).collect();
    fill(&rig, 1..=3);
    let held = rig.until(|rig| {
        let held = rig.stats.outboxes();
        let [only] = held[..] else { return None };
        (only.connections == 3 && only.bytes == rig.sum(|stats| &stats.outbox_bytes)).then_some(only)
    });
    assert_eq!(held.map(|held| held.app), Some(APP), "{:?}", rig.stats.outboxes());
    let older = rig.until(|rig| rig.stats.outboxes().first().filter(|held| held.stalled_s >= 1).copied());
    assert!(older.is_some_and(|held| held.oldest_s >= held.stalled_s), "{older:?}");
    drop(stuck);
    assert!(rig.until(|rig| rig.stats.outboxes().is_empty().then_some(())).is_some());
}

fn ends_half_closed(rig: &Rig, device: &mut Device) {
    device.send(&DeviceFrame::Ping);
    device.socket.shutdown(Shutdown::Write).unwrap();
    assert!(rig.until(|rig| (close_waits(rig.address) == 1).then_some(())).is_some());
    assert!(rig.until(|rig| (rig.closed(CloseReason::PeerClosed) == 1).then_some(())).is_some());
    assert!(rig.until(|rig| (close_waits(rig.address) == 0).then_some(())).is_some());
    assert_eq!(rig.sum(|stats| &stats.connections), 0);
}

/// The bytes in front of its end are not read, because it takes none itself.
#[test]
fn a_peer_that_half_closes_while_it_is_stuck_is_let_go() {
    let rig = Rig::new(patient(), welcome);
    let mut stuck = rig.login_with_small_buffer(1, 4096);
    fill(&rig, 1..=1);
    ends_half_closed(&rig, &mut stuck);
    assert_eq!(rig.sum(|stats| &stats.outbox_bytes), 0);
    assert_eq!(rig.sum(|stats| &stats.unwritable), 0);
}

/// A hub that does not decide: its word reaches nobody.
fn undecided(to: Handle, client: ClientId) -> Command {
    Command::EndIfSilent { to: Handle::new(to.shard(), to.slot() + 1, 0), client, app: APP }
}

#[test]
fn a_peer_that_half_closes_while_its_login_is_decided_is_let_go() {
    let rig = Rig::new(patient(), undecided);
    let mut device = rig.connect();
    device.send_connect(1);
    assert!(rig.until(|rig| (rig.sum(|stats| &stats.deciding) == 1).then_some(())).is_some());
    ends_half_closed(&rig, &mut device);
    assert_eq!(rig.sum(|stats| &stats.deciding), 0);
    let told =
        |event: &Event| matches!(event, Event::Closed(closed) if closed.reason == CloseReason::PeerClosed);
    assert!(rig.until(|rig| rig.events.lock().unwrap().iter().any(told).then_some(())).is_some());
}
