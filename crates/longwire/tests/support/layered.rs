//! Devices behind layers: TLS by rustls, WebSocket by tungstenite, certificates made for the test.

use super::PATIENCE;
use super::raw::{client_id, connect_bytes};
use longwire_proto::close::CloseReason;
use longwire_proto::id::ClientId;
use longwire_proto::limit::HEADER_BYTES;
use longwire_proto::wire::mqtt::RetainHandling;
use longwire_proto::wire::{
    AckKind, Command, DeviceFrame, Header, ResultCode, SelfService, ServerFrame, Subscribe, encode_acks,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

/// Bytes both ways.
pub trait Pipe: Read + Write {}
impl<P: Read + Write> Pipe for P {}

/// A socket to the server.
pub fn socket(to: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(to).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// A certificate for `localhost` in `folder`, of an authority of its own, as `cert.pem` and `key.pem`; what a client trusts then.
pub fn certify(folder: &Path) -> Arc<ClientConfig> {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "Test CA");
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("cert.pem"), own.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    // A ticket of an earlier certificate would hide that there is a newer one.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// Inside TLS; the handshake is over.
///
/// # Errors
/// The server is not trusted, or refuses.
pub fn secure(mut stream: TcpStream, config: &Arc<ClientConfig>) -> io::Result<impl Pipe + use<>> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut tls = ClientConnection::new(config.clone(), name).unwrap();
    while tls.is_handshaking() {
        tls.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(tls, stream))
}

/// The stream inside a WebSocket's binary messages.
pub struct Framed<S> {
    socket: WebSocket<S>,
    waiting: Vec<u8>,
}

/// Asks for a WebSocket at `/mqtt`.
#[track_caller]
pub fn framed<S: Pipe>(stream: S, subprotocol: &str) -> Framed<S> {
    let mut request = "ws://localhost/mqtt".into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", subprotocol.parse().unwrap());
    match tungstenite::client(request, stream) {
        Ok((socket, _)) => Framed { socket, waiting: Vec::new() },
        Err(error) => panic!("no WebSocket: {error}"),
    }
}

impl<S: Pipe> Read for Framed<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.waiting.is_empty() {
            match self.socket.read() {
                Ok(Message::Binary(bytes)) => self.waiting.extend_from_slice(&bytes),
                Ok(Message::Close(_)) | Err(tungstenite::Error::ConnectionClosed) => return Ok(0),
                Ok(_) => {}
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        let count = into.len().min(self.waiting.len());
        into[..count].copy_from_slice(&self.waiting[..count]);
        self.waiting.drain(..count);
        Ok(count)
    }
}

impl<S: Pipe> Write for Framed<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.send(Message::binary(bytes.to_vec())).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A native device behind layers.
pub struct LayeredDevice {
    pipe: Box<dyn Pipe>,
    client: ClientId,
}

impl LayeredDevice {
    /// Logs in with what the registration answered.
    #[track_caller]
    pub fn login(pipe: Box<dyn Pipe>, app_key: &str, registered: &Value) -> LayeredDevice {
        let mut device = LayeredDevice { pipe, client: client_id(registered) };
        device.pipe.write_all(&connect_bytes(app_key, registered, 60)).unwrap();
        device.pipe.flush().unwrap();
        match device.next() {
            (Command::ConnAck, body) if body.first() == Some(&0) => device,
            other => panic!("login: {other:?}"),
        }
    }

    /// A heartbeat and its answer.
    #[track_caller]
    pub fn beat(&mut self) {
        self.send(&DeviceFrame::Ping);
        assert_eq!(self.next().0, Command::Pong);
    }

    /// Subscribes to a topic filter; how it went.
    #[track_caller]
    pub fn subscribe(&mut self, filter: &str, kept: bool) -> ResultCode {
        let wanted = Subscribe { filter, kept, no_local: false, retained: RetainHandling::Send };
        self.send(&DeviceFrame::SelfService { request: 1, what: SelfService::Subscribe(wanted) });
        let (command, body) = self.next();
        let header = Header { command, body_bytes: body.len(), client: self.client };
        match ServerFrame::decode(&header, &body) {
            Ok(ServerFrame::Result { request: 1, code }) => code,
            other => panic!("a result, not {other:?}"),
        }
    }

    /// The payload of the next delivery, which is acked.
    #[track_caller]
    pub fn push(&mut self) -> Vec<u8> {
        let (command, body) = self.next();
        let header = Header { command, body_bytes: body.len(), client: self.client };
        let Ok(ServerFrame::Push(push)) = ServerFrame::decode(&header, &body) else { panic!("a push") };
        let mut ack = Vec::new();
        encode_acks(AckKind::Received, &[push.message], self.client, &mut ack);
        self.pipe.write_all(&ack).unwrap();
        self.pipe.flush().unwrap();
        push.payload.to_vec()
    }

    /// The reason for which the server ends the connection.
    #[track_caller]
    pub fn ended(&mut self) -> CloseReason {
        loop {
            let (command, body) = self.next();
            let header = Header { command, body_bytes: body.len(), client: self.client };
            match ServerFrame::decode(&header, &body) {
                Ok(ServerFrame::Close(refusal) | ServerFrame::Refusal(refusal)) => return refusal.reason,
                Ok(ServerFrame::GoAway { .. }) => {}
                other => panic!("expected the end, got {other:?}"),
            }
        }
    }

    fn send(&mut self, frame: &DeviceFrame<'_>) {
        let mut bytes = Vec::new();
        frame.encode(self.client, &mut bytes);
        self.pipe.write_all(&bytes).unwrap();
        self.pipe.flush().unwrap();
    }

    #[track_caller]
    fn next(&mut self) -> (Command, Vec<u8>) {
        let mut header = [0; HEADER_BYTES];
        self.pipe.read_exact(&mut header).unwrap();
        let judged = Header::decode(&header, 1 << 20).unwrap();
        let mut body = vec![0; judged.body_bytes];
        self.pipe.read_exact(&mut body).unwrap();
        (judged.command, body)
    }
}

/// A client of MQTT 3.1.1 without credentials says CONNECT, and PINGREQ when it is let in.
#[track_caller]
pub fn mqtt_lives(mut pipe: impl Pipe, client_id: &str) {
    let body = [b"\0\x04MQTT\x04\x02\0\x3c\0", &[client_id.len() as u8][..], client_id.as_bytes()].concat();
    pipe.write_all(&[&[0x10, body.len() as u8], &body[..], &[0xc0, 0]].concat()).unwrap();
    pipe.flush().unwrap();
    let mut answer = [0; 6];
    pipe.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0x20, 2, 0, 0, 0xd0, 0], "CONNACK and PINGRESP");
}
