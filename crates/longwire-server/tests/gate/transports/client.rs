//! A device that speaks native frames through any layers.

use crate::rig::{PATIENCE, Rig};
use longwire_proto::id::{ClientId, Position};
use longwire_proto::wire::{
    Assembler, Class, Command, Connect, DeviceFrame, Header, Network, ServerFrame, VERSION,
};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

pub(crate) trait Pipe: Read + Write {}
impl<P: Read + Write> Pipe for P {}

/// A socket that sends each byte by itself.
pub(crate) struct Drip(pub(crate) TcpStream);

impl Read for Drip {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Drip {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The stream inside a WebSocket's binary messages.
pub(crate) struct Framed<S> {
    pub(crate) socket: WebSocket<S>,
    waiting: Vec<u8>,
}

impl<S: Read + Write> Framed<S> {
    pub(crate) fn open(stream: S, subprotocol: &str) -> Result<Framed<S>, Box<tungstenite::Error>> {
        let mut request = "ws://push.example/".into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", subprotocol.parse().unwrap());
        match tungstenite::client(request, stream) {
            Ok((socket, answer)) => {
                assert_eq!(answer.headers()["Sec-WebSocket-Protocol"], subprotocol);
                Ok(Framed { socket, waiting: Vec::new() })
            }
            Err(tungstenite::HandshakeError::Failure(error)) => Err(Box::new(error)),
            Err(tungstenite::HandshakeError::Interrupted(_)) => panic!("the upgrade is not answered"),
        }
    }
}

impl<S: Read + Write> Read for Framed<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.waiting.is_empty() {
            match self.socket.read() {
                Ok(Message::Binary(bytes)) => self.waiting.extend_from_slice(&bytes),
                Ok(Message::Close(_)) | Err(tungstenite::Error::ConnectionClosed) => return Ok(0),
                Ok(other) => panic!("unexpected {other:?}"),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let count = into.len().min(self.waiting.len());
        into[..count].copy_from_slice(&self.waiting[..count]);
        self.waiting.drain(..count);
        Ok(count)
    }
}

impl<S: Read + Write> Write for Framed<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.send(Message::binary(bytes.to_vec())).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn socket(rig: &Rig) -> TcpStream {
    let socket = TcpStream::connect(rig.address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

pub(crate) fn connect_frame(client: u64) -> Vec<u8> {
    let connect = Connect {
        version: VERSION,
        network: Network::Wifi,
        class: Class::Phone,
        heartbeat_s: 60,
        resume_mailbox: Position::START,
        resume_log: Position::START,
        app_key: "demo",
        token: b"token",
    };
    let mut bytes = Vec::new();
    DeviceFrame::Connect(connect).encode(ClientId(client), &mut bytes);
    bytes
}

/// A device behind whatever lies between.
pub(crate) struct Talker<P> {
    pub(crate) pipe: P,
    client: ClientId,
    assembler: Assembler,
    waiting: Vec<u8>,
}

impl<P: Pipe> Talker<P> {
    pub(crate) fn new(pipe: P, client: u64) -> Talker<P> {
        Talker { pipe, client: ClientId(client), assembler: Assembler::default(), waiting: Vec::new() }
    }

    pub(crate) fn login(pipe: P, client: u64) -> Talker<P> {
        let mut talker = Talker::new(pipe, client);
        talker.pipe.write_all(&connect_frame(client)).unwrap();
        assert!(matches!(talker.next(), Some(ServerFrame::Welcome(_))), "welcome of {client}");
        talker
    }

    pub(crate) fn send(&mut self, frame: &DeviceFrame<'_>) {
        let mut bytes = Vec::new();
        frame.encode(self.client, &mut bytes);
        self.pipe.write_all(&bytes).unwrap();
    }

    pub(crate) fn beat(&mut self) {
        self.send(&DeviceFrame::Ping);
        assert_eq!(self.next_raw().expect("a pong").0.command, Command::Pong);
    }

    pub(crate) fn push(&mut self) -> (u128, usize) {
        match self.next() {
            Some(ServerFrame::Push(push)) => (push.message.0, push.payload.len()),
            other => panic!("expected a push, got {other:?}"),
        }
    }

    pub(crate) fn next(&mut self) -> Option<ServerFrame<'static>> {
        let (header, body) = self.next_raw()?;
        let body: &'static [u8] = Vec::leak(body);
        Some(ServerFrame::decode(&header, body).unwrap())
    }

    pub(crate) fn next_raw(&mut self) -> Option<(Header, Vec<u8>)> {
        loop {
            let mut input = &self.waiting[..];
            if let Some(frame) = self.assembler.next(&mut input, 1 << 20).unwrap() {
                let found = (frame.header, frame.body.to_vec());
                let left = input.len();
                self.waiting.drain(..self.waiting.len() - left);
                return Some(found);
            }
            self.waiting.clear();
            let mut buffer = [0; 4096];
            match self.pipe.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.waiting.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("reading: {error}"),
            }
        }
    }
}
