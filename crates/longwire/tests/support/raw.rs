//! A connection that speaks bytes: for what a well-behaved device never sends.

use super::PATIENCE;
use longwire_proto::id::{ClientId, Position};
use longwire_proto::limit::HEADER_BYTES;
use longwire_proto::wire::{Class, Connect, DeviceFrame, Header, Network, VERSION};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

/// A socket with frames cut out of it.
pub struct RawDevice {
    /// The socket.
    pub stream: TcpStream,
    /// The device's number.
    pub client: ClientId,
}

impl RawDevice {
    /// Connects and says nothing.
    #[track_caller]
    pub fn connect(to: SocketAddr) -> RawDevice {
        RawDevice::over(TcpStream::connect(to).unwrap())
    }

    fn over(stream: TcpStream) -> RawDevice {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        RawDevice { stream, client: ClientId(0) }
    }

    /// Logs in with what the registration answered and waits for the CONNACK.
    #[track_caller]
    pub fn login(to: SocketAddr, app_key: &str, registered: &Value) -> RawDevice {
        RawDevice::connect(to).logged_in(app_key, registered)
    }

    /// The same from an address of the loopback network.
    #[track_caller]
    pub fn login_from(from: Ipv4Addr, to: SocketAddr, app_key: &str, registered: &Value) -> RawDevice {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
        socket.connect(&to.into()).unwrap();
        RawDevice::over(socket.into()).logged_in(app_key, registered)
    }

    #[track_caller]
    fn logged_in(self, app_key: &str, registered: &Value) -> RawDevice {
        let mut device = self;
        device.client = client_id(registered);
        device.send(&connect_bytes(app_key, registered, 60));
        let (header, body) = device.frame().expect("an answer to CONNECT");
        assert_eq!(header[4], 0x11, "CONNACK, not {header:02x?}");
        assert_eq!(body.first(), Some(&0), "login refused: {body:02x?}");
        device
    }

    /// Writes bytes; a peer that has closed is not an error here, the test will see the end when it reads.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).ok();
    }

    /// The next frame: its 16 header bytes and its body; `None` at the end of the stream.
    #[track_caller]
    pub fn frame(&mut self) -> Option<([u8; HEADER_BYTES], Vec<u8>)> {
        let mut header = [0; HEADER_BYTES];
        self.stream.read_exact(&mut header).ok()?;
        let judged = Header::decode(&header, 1 << 20).expect("a frame of ours");
        let mut body = vec![0; judged.body_bytes];
        self.stream.read_exact(&mut body).ok()?;
        Some((header, body))
    }

    /// Reads to the end of the stream. False: the server said nothing more, but did not close either.
    pub fn closes(&mut self) -> bool {
        let mut rest = [0; 4096];
        loop {
            match self.stream.read(&mut rest) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => {
                    use std::io::ErrorKind::{TimedOut, WouldBlock};
                    return !matches!(error.kind(), TimedOut | WouldBlock);
                }
            }
        }
    }
}

/// A CONNECT frame for a registered device.
pub fn connect_bytes(app_key: &str, registered: &Value, heartbeat_s: u16) -> Vec<u8> {
    let token = registered["token"].as_str().expect("a token");
    let connect = Connect {
        version: VERSION,
        network: Network::Wired,
        class: Class::Iot,
        heartbeat_s,
        resume_mailbox: Position::START,
        resume_log: Position::START,
        app_key,
        token: token.as_bytes(),
    };
    let mut bytes = Vec::new();
    DeviceFrame::Connect(connect).encode(client_id(registered), &mut bytes);
    bytes
}

/// The device's number, given as a number or as decimal text.
pub fn client_id(registered: &Value) -> ClientId {
    let id = &registered["client_id"];
    let number = id.as_u64().or_else(|| id.as_str()?.parse().ok());
    ClientId(number.expect("client_id in the registration"))
}
