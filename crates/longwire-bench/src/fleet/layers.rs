//! TLS and WebSocket from the client's side, between a peer's conversation and its socket.

use std::io::{Read, Write};

use longwire_proto::wire::websocket::{Decoder, Event, Mask, Peer, Rules, data_head, pong};
use rustls::ClientConnection;

use super::peer::Over;
use crate::tls::{Version, client};
use crate::transport::Transport;

/// What a server may send; a measurement's messages are far below it.
const FRAMES: Rules = Rules { peer: Peer::Server, message_bytes_max: 16 * 1024 * 1024, controls_max: 20 };
/// The key of every masked frame: it protects caches between, of which there are none here.
const KEY: [u8; 4] = [0x5a, 0xa5, 0x3c, 0xc3];
/// An answer to the request for a WebSocket, bytes; more is none.
const ANSWER_BYTES_MAX: usize = 8 * 1024;

/// What lies below one conversation.
#[derive(Debug)]
pub(super) struct Layers {
    tls: Option<Box<ClientConnection>>,
    web: Web,
    /// What the socket is to send.
    pub(super) wire: Vec<u8>,
}

#[derive(Debug)]
enum Web {
    /// No WebSocket.
    Absent,
    /// It was asked for; so much of the answer has come.
    Asked(Vec<u8>),
    Open(Decoder),
}

impl Layers {
    /// Of a connection that begins; `None` for a bare socket. Their first bytes wait in [`Layers::wire`].
    pub(super) fn begin(transport: Transport, subprotocol: &str) -> Result<Option<Box<Layers>>, Over> {
        if transport == Transport::Tcp {
            return Ok(None);
        }
        let version = if transport == Transport::Tls12 { Version::Tls12 } else { Version::Tls13 };
        let tls = transport.is_secure().then(|| client(version)).transpose();
        let tls = tls.map_err(|error| Over(error.to_string()))?.map(Box::new);
        let mut layers = Layers { tls, web: Web::Absent, wire: Vec::new() };
        if transport.is_web() {
            layers.web = Web::Asked(Vec::new());
            layers.send(request(subprotocol).as_bytes())?;
        } else {
            layers.send(&[])?;
        }
        Ok(Some(Box::new(layers)))
    }

    /// Takes what came: what is the conversation's goes to `plain`, what must be answered to [`Layers::wire`].
    pub(super) fn receive(&mut self, mut bytes: &[u8], plain: &mut Vec<u8>) -> Result<(), Over> {
        plain.clear();
        let Some(tls) = &mut self.tls else {
            plain.extend_from_slice(bytes);
            return self.unframe(plain);
        };
        while !bytes.is_empty() {
            tls.read_tls(&mut bytes)?;
            let state = tls.process_new_packets().map_err(|error| Over(format!("TLS: {error}")))?;
            let at = plain.len();
            plain.resize(at + state.plaintext_bytes_to_read(), 0);
            tls.reader().read_exact(&mut plain[at..])?;
            if state.peer_has_closed() {
                break;
            }
        }
        self.send(&[])?;
        self.unframe(plain)
    }

    /// Brings `plain` into the form that leaves, once everything below the conversation stands; until then it waits.
    pub(super) fn seal(&mut self, plain: &mut Vec<u8>) -> Result<(), Over> {
        if plain.is_empty() || matches!(self.web, Web::Asked(_)) {
            return Ok(());
        }
        if matches!(self.web, Web::Open(_)) {
            let head = data_head(plain.len() as u64, Some(Mask::new(KEY)));
            Mask::new(KEY).apply(plain);
            plain.splice(..0, head.bytes().iter().copied());
        }
        let sent = self.send(plain);
        *plain = Vec::new();
        sent
    }

    /// Encrypts, and takes what TLS has to say besides.
    fn send(&mut self, mut bytes: &[u8]) -> Result<(), Over> {
        let Some(tls) = &mut self.tls else {
            self.wire.extend_from_slice(bytes);
            return Ok(());
        };
        loop {
            let taken = tls.writer().write(bytes)?;
            bytes = &bytes[taken..];
            while tls.wants_write() {
                tls.write_tls(&mut self.wire)?;
            }
            if bytes.is_empty() {
                return Ok(());
            }
            if taken == 0 {
                return Err(Over("more to send than TLS holds before its handshake".into()));
            }
        }
    }

    /// Takes the frames off what came.
    fn unframe(&mut self, plain: &mut Vec<u8>) -> Result<(), Over> {
        if let Web::Asked(answer) = &mut self.web {
            answer.append(plain);
            let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
                let broken = answer.len() > ANSWER_BYTES_MAX;
                return if broken {
                    Err(Over("no answer to the request for a WebSocket".into()))
                } else {
                    Ok(())
                };
            };
            if !answer.starts_with(b"HTTP/1.1 101 ") {
                let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
                return Err(Over(format!("no WebSocket: {}", String::from_utf8_lossy(line))));
            }
            plain.extend_from_slice(&answer[end + 4..]);
            self.web = Web::Open(Decoder::default());
        }
        let Web::Open(decoder) = &mut self.web else { return Ok(()) };
        let (mut kept, mut answers) = (Vec::with_capacity(plain.len()), Vec::new());
        let mut rest = &mut plain[..];
        loop {
            let event = decoder.next(&mut rest, &FRAMES);
            match event.map_err(|error| Over(format!("the server broke the framing: {error:?}")))? {
                None => break,
                Some(Event::Payload(payload)) => kept.extend_from_slice(payload),
                Some(Event::Ping(body)) => {
                    answers.extend_from_slice(pong(&body, Some(Mask::new(KEY))).bytes());
                }
                Some(Event::Pong(_)) => {}
                Some(Event::Close { code }) => return Err(Over(format!("closed by the server: {code:?}"))),
            }
        }
        *plain = kept;
        self.send(&answers)
    }
}

fn request(subprotocol: &str) -> String {
    format!(
        "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bWVhc3VyZWQgYnkgdXMgLg==\r\n\
         Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    )
}
