//! Native frames through a WebSocket, with tungstenite as the client.

use super::client::{Drip, Framed, Talker, connect_frame, socket};
use crate::rig::{Rig, options, outgoing, welcome};
use longwire_proto::close::CloseReason;
use longwire_proto::id::Position;
use longwire_proto::wire::{DeviceFrame, ServerFrame};
use longwire_server::delivery::border::Command;
use std::io::{Read, Write};
use std::net::TcpStream;
use tungstenite::Message;
use tungstenite::protocol::frame::coding::CloseCode;

const NATIVE: &str = "longwire.v1";

fn login(rig: &Rig, client: u64) -> Talker<Framed<TcpStream>> {
    Talker::login(Framed::open(socket(rig), NATIVE).unwrap(), client)
}

fn ended(rig: &Rig, reason: CloseReason, count: u64) {
    let seen = rig.until(|rig| (rig.closed(reason) == count).then_some(()));
    assert!(seen.is_some(), "{} of {reason:?}", rig.closed(reason));
}

#[test]
fn a_native_device_lives_in_a_websocket_as_on_a_plain_socket() {
    let rig = Rig::new(options(), welcome);
    let mut device = login(&rig, 7);
    let mut plain = rig.login(8);
    device.beat();
    // A ping of the WebSocket is answered below the conversation.
    device.pipe.socket.send(Message::Ping(b"below".to_vec().into())).unwrap();
    assert_eq!(device.pipe.socket.read().unwrap(), Message::Pong(b"below".to_vec().into()));
    rig.broadcast(Position::new(1, 1), &[], 5, &[7; 3000]);
    assert_eq!(device.push(), (5, 3000));
    assert_eq!(plain.push(), 5);
    device.send(&DeviceFrame::Ping);
    let Message::Binary(pong) = device.pipe.socket.read().unwrap() else { panic!("binary") };
    assert_eq!(pong.len(), 16, "a frame is one message");
    device.pipe.socket.close(None).unwrap();
    assert!(matches!(device.pipe.socket.read(), Ok(Message::Close(_))));
    ended(&rig, CloseReason::PeerClosed, 1);
    plain.nothing_before_pong();
}

/// What leaves in one turn is one message, however many frames it holds.
#[test]
fn the_frames_of_one_read_are_answered_in_one_message() {
    let rig = Rig::new(options(), welcome);
    let mut device = login(&rig, 7);
    let mut beats = Vec::new();
    (0..5).for_each(|_| DeviceFrame::Ping.encode(longwire_proto::id::ClientId(7), &mut beats));
    device.pipe.write_all(&beats).unwrap();
    let Message::Binary(pongs) = device.pipe.socket.read().unwrap() else { panic!("binary") };
    assert_eq!(pongs.len(), 5 * 16);
}

#[test]
fn bytes_that_come_one_by_one_are_understood() {
    let rig = Rig::new(options(), welcome);
    let mut plain = Talker::login(Drip(socket(&rig)), 6);
    plain.beat();
    let mut device = Talker::login(Framed::open(Drip(socket(&rig)), NATIVE).unwrap(), 7);
    device.beat();
    rig.broadcast(Position::new(1, 1), &[], 5, &[7; 100]);
    assert_eq!([plain.push(), device.push()], [(5, 100), (5, 100)]);
}

/// The first frames may come with the request: nothing of them is lost.
#[test]
fn a_client_need_not_wait_for_the_answer() {
    use longwire_proto::wire::websocket::{Mask, data_head};
    let rig = Rig::new(options(), welcome);
    let mut bytes = b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: longwire.v1\r\n\r\n"
        .to_vec();
    for piece in connect_frame(7).chunks(9) {
        let mut mask = Mask::new([9, 8, 7, 6]);
        bytes.extend_from_slice(data_head(piece.len() as u64, Some(mask)).bytes());
        let at = bytes.len();
        bytes.extend_from_slice(piece);
        mask.apply(&mut bytes[at..]);
    }
    let mut stream = socket(&rig);
    stream.write_all(&bytes).unwrap();
    assert!(rig.until(|rig| (rig.sum(|stats| &stats.sessions) == 1).then_some(())).is_some());
    let mut heard = [0; 12];
    stream.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"HTTP/1.1 101");
}

#[test]
fn a_refused_request_is_answered_in_http_and_counted() {
    let rig = Rig::new(options(), welcome);
    let mut healthy = login(&rig, 1);
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", "426"),
        ("GET /elsewhere HTTP/1.1\r\nHost: h\r\n\r\n", "404"),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            "400",
        ),
    ] {
        let mut stream = socket(&rig);
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    ended(&rig, CloseReason::UpgradeRefused, 3);
    healthy.beat();
}

/// The reason is told twice: in a native frame, and as the code of the Close.
#[test]
fn every_end_is_told_inside_and_by_the_close_code() {
    let rig = Rig::new(options(), welcome);
    let told = |device: &mut Talker<Framed<TcpStream>>, reason: CloseReason, code: u16| {
        match device.next() {
            Some(ServerFrame::Close(refusal) | ServerFrame::Refusal(refusal)) => {
                assert_eq!(refusal.reason, reason);
            }
            other => panic!("expected {reason:?}, got {other:?}"),
        }
        let Ok(Message::Close(Some(frame))) = device.pipe.socket.read() else { panic!("a Close") };
        assert_eq!(frame.code, CloseCode::from(code));
        ended(&rig, reason, 1);
    };
    let mut kicked = login(&rig, 1);
    let to = rig.handle(1);
    let close = Command::Close { to, reason: CloseReason::Kicked, retry_after_s: 0 };
    assert!(rig.shards.post(to.shard(), close).is_ok());
    told(&mut kicked, CloseReason::Kicked, 1008);
    // A broken protocol inside, before and after login.
    let mut noisy = Talker::new(Framed::open(socket(&rig), NATIVE).unwrap(), 2);
    noisy.pipe.write_all(b"no frame").unwrap();
    told(&mut noisy, CloseReason::BadMagic, 1002);
    // A broken framing has a code of its own.
    let mut textual = login(&rig, 3);
    textual.pipe.socket.send(Message::text("words")).unwrap();
    told(&mut textual, CloseReason::BadWebSocket, 1003);
}

#[test]
fn garbage_after_the_upgrade_ends_that_connection_only() {
    let rig = Rig::new(options(), welcome);
    let mut healthy = login(&rig, 1);
    for garbage in [&[0x82, 0x05, 1, 2, 3][..], &[0xff; 64], &[0x00; 64], &[0x8a, 0xff]] {
        let mut broken = login(&rig, 2);
        broken.pipe.socket.get_mut().write_all(garbage).unwrap();
        assert!(matches!(broken.next(), Some(ServerFrame::Close(_))));
    }
    ended(&rig, CloseReason::BadWebSocket, 4);
    // More pings than are answered in an interval.
    let mut chatty = login(&rig, 3);
    (0..30).for_each(|_| chatty.pipe.socket.write(Message::Ping(Vec::new().into())).unwrap());
    chatty.pipe.socket.flush().unwrap();
    ended(&rig, CloseReason::BadWebSocket, 5);
    healthy.beat();
}

/// More than a socket takes: what waits is sealed in order, and all of it arrives.
#[test]
fn a_slow_reader_in_a_websocket_gets_every_byte_in_order() {
    let rig = Rig::new(options(), welcome);
    let mut device = login(&rig, 1);
    let to = rig.handle(1);
    let mut sent = 0;
    for number in 0..400_u128 {
        let command = Command::DeliverNow { to, message: outgoing(number, &[7; 32 * 1024]) };
        assert!(rig.shards.post(to.shard(), command).is_ok());
        let all = |rig: &Rig| rig.sum(|stats| &stats.sent) + rig.sum(|stats| &stats.dropped);
        assert!(rig.until(|rig| (u128::from(all(rig)) > number).then_some(())).is_some());
        sent = rig.sum(|stats| &stats.sent);
        if rig.sum(|stats| &stats.dropped) > 0 {
            break;
        }
    }
    assert!(rig.sum(|stats| &stats.outbox_bytes) > 0, "the socket is full");
    for number in 0..u128::from(sent) {
        assert_eq!(device.push(), (number, 32 * 1024));
    }
    device.beat();
    assert!(rig.until(|rig| (rig.sum(|stats| &stats.outbox_bytes) == 0).then_some(())).is_some());
}
