//! Our WebSocket framing against `tungstenite`, in both directions and both roles, in random cuts and with random damage.
#![allow(clippy::unwrap_used, missing_docs)]

use longwire_proto::wire::websocket::*;
use proptest::prelude::*;
use std::io::{self, Read, Write};
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

/// What one end says.
#[derive(Clone, Debug)]
enum Say {
    Message(Vec<u8>),
    Fragments(Vec<Vec<u8>>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

/// What the other end hears: the stream of all payload, and control frames in order.
#[derive(Default, PartialEq, Eq, Debug)]
struct Heard {
    stream: Vec<u8>,
    controls: Vec<(char, Vec<u8>)>,
    closed: Option<Option<u16>>,
}

/// Reads what was put in, then would block; keeps what is written.
#[derive(Default)]
struct Pipe {
    input: Vec<u8>,
    read: usize,
    output: Vec<u8>,
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = &self.input[self.read..];
        if left.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let taken = left.len().min(into.len());
        into[..taken].copy_from_slice(&left[..taken]);
        self.read += taken;
        Ok(taken)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn say() -> impl Strategy<Value = Say> {
    let bytes = |max| prop::collection::vec(any::<u8>(), 0..max);
    let long = (120usize..70_000).prop_map(|length| (0..length).map(|at| at as u8).collect());
    prop_oneof![
        3 => bytes(300).prop_map(Say::Message),
        1 => long.prop_map(Say::Message),
        2 => prop::collection::vec(bytes(200), 2..5).prop_map(Say::Fragments),
        1 => bytes(126).prop_map(Say::Ping),
        1 => bytes(126).prop_map(Say::Pong),
    ]
}

fn script() -> impl Strategy<Value = (Vec<Say>, Option<u16>)> {
    (prop::collection::vec(say(), 0..8), prop_oneof![Just(None), (3000u16..5000).prop_map(Some)])
}

fn rules(peer: Peer) -> Rules {
    Rules { peer, message_bytes_max: 1 << 20, controls_max: 200 }
}

fn expected(script: &[Say], code: Option<u16>) -> Heard {
    let mut heard = Heard { closed: Some(code), ..Heard::default() };
    for say in script {
        match say {
            Say::Message(bytes) => heard.stream.extend(bytes),
            Say::Fragments(pieces) => pieces.iter().for_each(|piece| heard.stream.extend(piece)),
            Say::Ping(bytes) => heard.controls.push(('i', bytes.clone())),
            Say::Pong(bytes) => heard.controls.push(('o', bytes.clone())),
        }
    }
    heard
}

/// The script as tungstenite writes it.
fn said_by_tungstenite(script: &[Say], code: Option<u16>, role: Role) -> Vec<u8> {
    let mut socket = WebSocket::from_raw_socket(Pipe::default(), role, None);
    for say in script {
        match say {
            Say::Message(bytes) => socket.send(Message::Binary(bytes.clone().into())).unwrap(),
            Say::Ping(bytes) => socket.send(Message::Ping(bytes.clone().into())).unwrap(),
            Say::Pong(bytes) => socket.send(Message::Pong(bytes.clone().into())).unwrap(),
            Say::Fragments(pieces) => {
                for (at, piece) in pieces.iter().enumerate() {
                    let kind = if at == 0 { Data::Binary } else { Data::Continue };
                    let last = at + 1 == pieces.len();
                    let frame = Frame::message(piece.clone(), OpCode::Data(kind), last);
                    socket.send(Message::Frame(frame)).unwrap();
                }
            }
        }
    }
    let frame = code.map(|code| CloseFrame { code: CloseCode::from(code), reason: "well".into() });
    socket.close(frame).unwrap();
    socket.get_ref().output.clone()
}

/// The script as we write it; fragments become messages of their own, which the stream does not show.
fn said_by_us(script: &[Say], code: Option<u16>, masks: Option<Mask>) -> Vec<u8> {
    let mut out = Vec::new();
    let message = |bytes: &[u8], out: &mut Vec<u8>| {
        out.extend(data_head(bytes.len() as u64, masks).bytes());
        let at = out.len();
        out.extend(bytes);
        if let Some(mut mask) = masks {
            mask.apply(&mut out[at..]);
        }
    };
    for say in script {
        match say {
            Say::Message(bytes) => message(bytes, &mut out),
            Say::Fragments(pieces) => pieces.iter().for_each(|piece| message(piece, &mut out)),
            Say::Ping(bytes) => out.extend(ping(bytes, masks).bytes()),
            Say::Pong(bytes) => {
                let mut asked = ping(bytes, None).bytes().to_vec();
                let Ok(Some(Event::Ping(body))) =
                    Decoder::default().next(&mut &mut asked[..], &rules(Peer::Server))
                else {
                    panic!("our own ping decodes")
                };
                out.extend(pong(&body, masks).bytes());
            }
        }
    }
    out.extend(close(code, "well", masks).bytes());
    out
}

fn heard_by_us(bytes: &[u8], cuts: &[usize], peer: Peer) -> Result<Heard, WebSocketError> {
    let (mut decoder, mut heard) = (Decoder::default(), Heard::default());
    let mut rest = bytes.to_vec();
    let mut cuts = cuts.iter().cycle();
    while !rest.is_empty() {
        let cut = (*cuts.next().unwrap()).min(rest.len());
        let mut piece: Vec<u8> = rest.drain(..cut).collect();
        let mut input = &mut piece[..];
        while let Some(event) = decoder.next(&mut input, &rules(peer))? {
            match event {
                Event::Payload(bytes) => heard.stream.extend_from_slice(bytes),
                Event::Ping(body) => heard.controls.push(('i', body.bytes().to_vec())),
                Event::Pong(body) => heard.controls.push(('o', body.bytes().to_vec())),
                Event::Close { code } => heard.closed = Some(code),
            }
        }
    }
    Ok(heard)
}

fn heard_by_tungstenite(bytes: &[u8], role: Role) -> Result<Heard, Error> {
    let pipe = Pipe { input: bytes.to_vec(), ..Pipe::default() };
    let mut socket = WebSocket::from_raw_socket(pipe, role, Some(WebSocketConfig::default()));
    let mut heard = Heard::default();
    loop {
        match socket.read() {
            Ok(Message::Binary(bytes)) => heard.stream.extend_from_slice(&bytes),
            Ok(Message::Ping(bytes)) => heard.controls.push(('i', bytes.to_vec())),
            Ok(Message::Pong(bytes)) => heard.controls.push(('o', bytes.to_vec())),
            Ok(Message::Close(frame)) => {
                heard.closed = Some(frame.map(|frame| u16::from(frame.code)));
                return Ok(heard);
            }
            Ok(other) => panic!("unexpected {other:?}"),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return Ok(heard),
            Err(Error::ConnectionClosed) => return Ok(heard),
            Err(error) => return Err(error),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(160) })]

    #[test]
    fn we_hear_what_tungstenite_says(
        (script, code) in script(),
        cuts in prop::collection::vec(1usize..500, 1..20),
        client in any::<bool>(),
    ) {
        let (role, peer) = if client { (Role::Client, Peer::Client) } else { (Role::Server, Peer::Server) };
        let bytes = said_by_tungstenite(&script, code, role);
        prop_assert_eq!(heard_by_us(&bytes, &cuts, peer), Ok(expected(&script, code)));
    }

    #[test]
    fn tungstenite_hears_what_we_say(
        (script, code) in script(),
        key in any::<[u8; 4]>(),
        client in any::<bool>(),
    ) {
        let (role, masks) = if client { (Role::Server, Some(Mask::new(key))) } else { (Role::Client, None) };
        let bytes = said_by_us(&script, code, masks);
        prop_assert_eq!(heard_by_tungstenite(&bytes, role).unwrap(), expected(&script, code));
    }

    /// We are never laxer: what we take without complaint, tungstenite takes too, and hears the same control frames.
    #[test]
    fn what_we_take_tungstenite_takes(
        (script, code) in script(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..3),
        client in any::<bool>(),
    ) {
        let (role, other, peer) =
            if client { (Role::Client, Role::Server, Peer::Client) } else { (Role::Server, Role::Client, Peer::Server) };
        let mut bytes = said_by_tungstenite(&script, code, role);
        for (index, byte) in damage {
            let at = index.index(bytes.len().min(200));
            bytes[at] = byte;
        }
        if let Ok(ours) = heard_by_us(&bytes, &[64], peer) {
            let theirs = heard_by_tungstenite(&bytes, other);
            prop_assert!(theirs.is_ok(), "we take what is refused by tungstenite: {:?}", theirs);
            let theirs = theirs.unwrap();
            prop_assert_eq!(ours.controls, theirs.controls);
            prop_assert_eq!(ours.closed, theirs.closed);
            prop_assert!(ours.stream.starts_with(&theirs.stream), "a message under way may be heard by us only");
        }
    }
}
