//! TLS on the device port, with rustls as the client: alone, under a WebSocket, and with peers that stop half-way.

use super::certificates::{Folder, unasked};
use super::client::{Drip, Framed, Pipe, Talker, socket};
use crate::rig::{Rig, options, outgoing, welcome};
use longwire_proto::close::CloseReason;
use longwire_proto::id::Position;
use longwire_proto::wire::ServerFrame;
use longwire_server::delivery::border::Command;
use longwire_server::gate::GateOptions;
use longwire_server::gate::transport::{Accepts, ListenerTerms};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

pub(super) type Secure<S> = StreamOwned<ClientConnection, S>;

pub(super) fn secured(folder: &Folder, accepts: Accepts) -> GateOptions {
    let tls = Some(Arc::new(folder.terms(unasked)));
    let listeners = Arc::new([ListenerTerms { accepts, tls, ..ListenerTerms::default() }]);
    GateOptions { listeners, ..options() }
}

pub(super) fn secure<S: Read + Write>(stream: S, config: &Arc<ClientConfig>) -> Secure<S> {
    let name = ServerName::try_from("localhost").unwrap();
    StreamOwned::new(ClientConnection::new(config.clone(), name).unwrap(), stream)
}

pub(super) fn settled(rig: &Rig) {
    let gauges = |rig: &Rig| {
        let stats = &rig.stats.shards;
        let left = |of: fn(&longwire_server::gate::ShardStats) -> &std::sync::atomic::AtomicU64| -> u64 {
            stats.iter().map(|shard| of(shard).load(Relaxed)).sum()
        };
        [
            left(|shard| &shard.connections),
            left(|shard| &shard.sessions),
            left(|shard| &shard.awaiting),
            left(|shard| &shard.deciding),
            left(|shard| &shard.outbox_bytes),
            left(|shard| &shard.unwritable),
            left(|shard| &shard.handshakes_waiting),
        ]
    };
    let none = rig.until(|rig| (gauges(rig) == [0; 7]).then_some(()));
    assert!(none.is_some(), "{:?}", gauges(rig));
}

#[test]
fn a_native_device_lives_inside_tls_and_inside_a_websocket_in_it() {
    let folder = Folder::new();
    let rig = Rig::new(secured(&folder, Accepts::default()), welcome);
    for (client, version) in [(10, &TLS12), (20, &TLS13)] {
        let config = folder.client(version, None);
        let mut bare = Talker::login(secure(socket(&rig), &config), client);
        let framed = Framed::open(secure(socket(&rig), &config), "longwire.v1").unwrap();
        let mut framed = Talker::login(framed, client + 1);
        bare.beat();
        framed.beat();
        rig.broadcast(Position::START, &[], client.into(), &[7; 40_000]);
        assert_eq!(bare.push(), (client.into(), 40_000));
        assert_eq!(framed.push(), (client.into(), 40_000));
    }
    settled(&rig);
}

#[test]
fn a_handshake_that_comes_byte_by_byte_is_understood() {
    let folder = Folder::new();
    let rig = Rig::new(secured(&folder, Accepts::default()), welcome);
    let config = folder.client(&TLS13, None);
    let framed = Framed::open(secure(Drip(socket(&rig)), &config), "longwire.v1").unwrap();
    let mut device = Talker::login(framed, 1);
    device.beat();
    rig.broadcast(Position::new(1, 1), &[], 5, &[7; 100]);
    assert_eq!(device.push(), (5, 100));
}

/// The word, the Close of the WebSocket, and the end of TLS: nothing was cut off.
#[test]
fn an_end_is_told_through_all_layers() {
    let folder = Folder::new();
    let rig = Rig::new(secured(&folder, Accepts::default()), welcome);
    let config = folder.client(&TLS13, None);
    let kick = |client: u64| {
        let to = rig.handle(client);
        let close = Command::Close { to, reason: CloseReason::Kicked, retry_after_s: 7 };
        assert!(rig.shards.post(to.shard(), close).is_ok());
    };
    let mut bare = Talker::login(secure(socket(&rig), &config), 1);
    kick(1);
    assert!(matches!(bare.next(), Some(ServerFrame::Close(close)) if close.reason == CloseReason::Kicked));
    assert_eq!(bare.pipe.read(&mut [0]).unwrap(), 0, "a close_notify, else this is an error");
    let framed = Framed::open(secure(socket(&rig), &config), "longwire.v1").unwrap();
    let mut framed = Talker::login(framed, 2);
    kick(2);
    assert!(matches!(framed.next(), Some(ServerFrame::Close(_))));
    let Ok(tungstenite::Message::Close(Some(close))) = framed.pipe.socket.read() else { panic!("a Close") };
    assert_eq!(u16::from(close.code), 1008);
}

#[test]
fn a_slow_reader_inside_tls_gets_every_byte_in_order() {
    let folder = Folder::new();
    let rig = Rig::new(secured(&folder, Accepts::default()), welcome);
    let config = folder.client(&TLS13, None);
    let framed = Framed::open(secure(socket(&rig), &config), "longwire.v1").unwrap();
    let mut device = Talker::login(framed, 1);
    let to = rig.handle(1);
    let sent = |rig: &Rig| rig.sum(|stats| &stats.sent);
    let dropped = |rig: &Rig| rig.sum(|stats| &stats.dropped);
    for number in 0..400_u128 {
        let command = Command::DeliverNow { to, message: outgoing(number, &[7; 32 * 1024]) };
        assert!(rig.shards.post(to.shard(), command).is_ok());
        assert!(rig.until(|rig| (u128::from(sent(rig) + dropped(rig)) > number).then_some(())).is_some());
        if dropped(&rig) > 0 {
            break;
        }
    }
    assert!(rig.sum(|stats| &stats.outbox_bytes) > 0, "the socket is full");
    for number in 0..u128::from(sent(&rig)) {
        assert_eq!(device.push(), (number, 32 * 1024));
    }
    device.beat();
    drop(device);
    settled(&rig);
}

#[test]
fn what_a_listener_does_not_take_is_refused_by_name() {
    let folder = Folder::new();
    let rules = |change: fn(&mut Accepts)| {
        let mut accepts = Accepts::default();
        change(&mut accepts);
        Rig::new(secured(&folder, accepts), welcome)
    };
    let config = folder.client(&TLS13, None);
    let refused = |rig: &Rig, count: u64| {
        let seen = rig.until(|rig| (rig.closed(CloseReason::WrongProtocol) == count).then_some(()));
        assert!(seen.is_some(), "{}", rig.closed(CloseReason::WrongProtocol));
        settled(rig);
    };
    // Nothing outside TLS.
    let rig = rules(|accepts| accepts.plain = false);
    let mut plain = rig.connect();
    plain.send_connect(1);
    match plain.next() {
        Some(ServerFrame::Refusal(refusal)) => assert_eq!(refusal.reason, CloseReason::WrongProtocol),
        other => panic!("{other:?}"),
    }
    assert!(Framed::open(socket(&rig), "longwire.v1").is_err());
    Talker::login(secure(socket(&rig), &config), 1).beat();
    refused(&rig, 2);
    // No WebSocket, no TLS, no native frames.
    let rig = rules(|accepts| accepts.websocket = false);
    assert!(Framed::open(secure(socket(&rig), &config), "longwire.v1").is_err());
    refused(&rig, 1);
    let rig = rules(|accepts| accepts.tls = false);
    assert!(secure(socket(&rig), &config).write_all(b"x").is_err());
    refused(&rig, 1);
    let rig = rules(|accepts| accepts.native = false);
    let mut plain = rig.connect();
    plain.send_connect(1);
    assert!(matches!(plain.next(), Some(ServerFrame::Refusal(_))));
    assert!(Framed::open(socket(&rig), "longwire.v1").is_err());
    refused(&rig, 2);
    // TLS inside TLS.
    let rig = rules(|_| {});
    let mut outer = secure(socket(&rig), &config);
    outer.write_all(&[0x16, 3, 1, 0, 0]).unwrap();
    outer.flush().unwrap();
    refused(&rig, 1);
}

/// Peers that stop in each phase, many of them, and honest devices meanwhile.
#[test]
fn peers_that_stop_half_way_are_ended_and_keep_nobody_out() {
    let folder = Folder::new();
    let rig = Rig::new(GateOptions { login_deadline_s: 3, ..secured(&folder, Accepts::default()) }, welcome);
    let config = folder.client(&TLS13, None);
    let mut hello = Vec::new();
    let name = ServerName::try_from("localhost").unwrap();
    ClientConnection::new(config.clone(), name).unwrap().write_tls(&mut hello).unwrap();
    let mut slow: Vec<Box<dyn Pipe>> = Vec::new();
    for _ in 0..20 {
        let starts: [&[u8]; 5] = [b"", b"\x16", &hello[..60], &hello, b"GET / HTTP/1.1\r\nHo"];
        for start in starts {
            let mut stream = socket(&rig);
            stream.write_all(start).unwrap();
            slow.push(Box::new(stream));
        }
        // Inside TLS: nothing, half a request; and inside a WebSocket half a frame.
        let mut open = secure(socket(&rig), &config);
        open.conn.complete_io(&mut open.sock).unwrap();
        let mut asking = secure(socket(&rig), &config);
        asking.write_all(b"GET /mqtt HT").unwrap();
        asking.flush().unwrap();
        let mut framed = Framed::open(secure(socket(&rig), &config), "longwire.v1").unwrap();
        framed.socket.get_mut().write_all(&[0x82, 0xfe, 1]).unwrap();
        framed.socket.get_mut().flush().unwrap();
        slow.extend([Box::new(open) as Box<dyn Pipe>, Box::new(asking), Box::new(framed)]);
    }
    for client in 1..=20 {
        Talker::login(secure(socket(&rig), &config), client).beat();
        rig.login(100 + client).nothing_before_pong();
    }
    let ended = rig.until(|rig| (rig.closed(CloseReason::LoginTimeout) == slow.len() as u64).then_some(()));
    assert!(ended.is_some(), "{} of {}", rig.closed(CloseReason::LoginTimeout), slow.len());
    // A part of a first record begins no handshake: 20 each of whole ones, of the three kinds of open ones, and of devices.
    let begun: u64 = rig.stats.shards.iter().map(|shard| shard.handshakes.load(Relaxed)).sum();
    assert_eq!(begun, 5 * 20);
    settled(&rig);
}

/// A record or a frame that was begun has a deadline also after login.
#[test]
fn half_a_record_after_login_has_the_deadline_of_a_frame() {
    let folder = Folder::new();
    let rig = Rig::new(GateOptions { frame_deadline_s: 1, ..secured(&folder, Accepts::default()) }, welcome);
    let config = folder.client(&TLS13, None);
    let mut inside = Talker::login(secure(socket(&rig), &config), 1);
    inside.pipe.sock.write_all(&[0x17, 3, 3, 0, 40, 1, 2]).unwrap();
    let mut framed = Talker::login(Framed::open(socket(&rig), "longwire.v1").unwrap(), 2);
    framed.pipe.socket.get_mut().write_all(&[0x82, 0xfe]).unwrap();
    let ended = rig.until(|rig| (rig.closed(CloseReason::FrameTimeout) == 2).then_some(()));
    assert!(ended.is_some(), "{}", rig.closed(CloseReason::FrameTimeout));
    settled(&rig);
}

#[test]
fn garbage_inside_tls_ends_that_connection_with_an_alert() {
    let folder = Folder::new();
    let rig = Rig::new(secured(&folder, Accepts::default()), welcome);
    let config = folder.client(&TLS13, None);
    let mut broken = Talker::login(secure(socket(&rig), &config), 1);
    broken
        .pipe
        .sock
        .write_all(&[0x17, 3, 3, 0, 20, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9])
        .unwrap();
    let answer = broken.pipe.read(&mut [0; 64]).unwrap_err().to_string();
    assert!(answer.contains("BadRecordMac"), "{answer}");
    let mut never = socket(&rig);
    never.write_all(&[0x16, 3, 1, 0, 4, 9, 9, 9, 9]).unwrap();
    assert!(rig.until(|rig| (rig.closed(CloseReason::BadTls) == 2).then_some(())).is_some());
    settled(&rig);
}

/// 200 devices of all kinds on one port; a broadcast reaches them all; then nothing of them is left.
#[test]
fn devices_of_all_kinds_live_on_one_port() {
    let folder = Folder::new();
    let rig = Rig::new(secured(&folder, Accepts::default()), welcome);
    let configs = [folder.client(&TLS12, None), folder.client(&TLS13, None)];
    let mut devices: Vec<Talker<Box<dyn Pipe>>> = Vec::new();
    for client in 0..200_u64 {
        let (stream, config) = (socket(&rig), &configs[client as usize / 4 % 2]);
        let framed = |stream: TcpStream| Framed::open(stream, "longwire.v1").unwrap();
        let pipe: Box<dyn Pipe> = match client % 4 {
            0 => Box::new(stream),
            1 => Box::new(framed(stream)),
            2 => Box::new(secure(stream, config)),
            _ => Box::new(Framed::open(secure(stream, config), "longwire.v1").unwrap()),
        };
        devices.push(Talker::login(pipe, client + 1));
    }
    assert_eq!(rig.sum(|stats| &stats.sessions), 200);
    assert_eq!(rig.sum(|stats| &stats.handshakes), 100);
    rig.broadcast(Position::new(1, 1), &[], 5, &[7; 2000]);
    for device in &mut devices {
        assert_eq!(device.push(), (5, 2000));
        device.beat();
    }
    drop(devices);
    settled(&rig);
}

/// Hundreds of handshakes at the same moment: a shard begins some in each turn, and all come to their end.
#[test]
fn a_crowd_of_handshakes_waits_for_its_turn() {
    let folder = Folder::new();
    let rig = Rig::new(secured(&folder, Accepts::default()), welcome);
    let config = folder.client(&TLS13, None);
    let mut crowd: Vec<_> = (0..150).map(|_| secure(socket(&rig), &config)).collect();
    for peer in &mut crowd {
        peer.conn.write_tls(&mut peer.sock).unwrap();
    }
    // Half of them go before their turn has come, or after it.
    crowd.truncate(100);
    for (client, peer) in crowd.into_iter().enumerate() {
        Talker::login(peer, client as u64 + 1).beat();
    }
    assert!(rig.sum(|stats| &stats.handshakes) >= 100);
    settled(&rig);
}
