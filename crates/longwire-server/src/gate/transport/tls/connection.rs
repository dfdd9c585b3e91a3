//! One TLS connection, without a socket: it takes what was read and appends what is to be written.

use super::subject::Subject;
use longwire_proto::close::CloseReason;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};
use rustls::{HandshakeKind, ProtocolVersion, ServerConfig};
use std::sync::Arc;

/// All that a peer may send before its handshake is complete, bytes; more ends the connection. Client certificates with
/// their chain fit well.
pub const HANDSHAKE_BYTES_MAX: usize = 32 * 1024;
/// One encrypted record (RFC 5246 section 6.2.3), bytes: what an open connection holds at most, of a record that is not whole.
pub const TLS_RECORD_BYTES_MAX: usize = 5 + RECORD_PLAIN_BYTES + 2048;
const RECORD_PLAIN_BYTES: usize = 16 * 1024;
/// What a record adds to its plaintext at most: header 5, explicit nonce 8 (TLS 1.2) or content type 1 (1.3), tag 16.
const RECORD_OVERHEAD_BYTES: usize = 29;
/// Room for a close_notify or another alert.
const ALERT_BYTES_MAX: usize = 64;

/// The most bytes that `plain_bytes` become when they are sent in one call.
#[must_use]
pub const fn sealed_bytes_max(plain_bytes: usize) -> usize {
    plain_bytes + plain_bytes.div_ceil(RECORD_PLAIN_BYTES) * RECORD_OVERHEAD_BYTES
}

/// How far a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsProgress {
    /// The handshake needs more from the peer; nothing can be sent yet.
    Handshaking,
    /// Plaintext goes both ways.
    Open,
    /// The peer has said that it will send no more (close_notify). Without it an end of the stream is a truncation.
    PeerClosed,
}

/// The connection ends with `bad_tls`; what `outgoing` holds, perhaps an alert, should be sent before.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The peer's fault, in the words of rustls; our own only if the configuration is broken.
    #[error("{0}")]
    Peer(#[from] rustls::Error),
    /// More than [`HANDSHAKE_BYTES_MAX`] before the end of the handshake, or a record that does not end.
    #[error("the peer sent more than {0} bytes without completing what it began")]
    TooLong(usize),
    /// Sent before the handshake was complete, or after the end: the caller's fault.
    #[error("nothing can be sent: the connection is not open")]
    NotOpen,
    /// The keys have encrypted as much as they may, and the peer does not take new ones.
    #[error("the keys of this connection are worn out")]
    Exhausted,
}

impl TlsError {
    /// The close reason that this fault has.
    #[must_use]
    pub const fn reason(&self) -> CloseReason {
        match self {
            TlsError::NotOpen => CloseReason::Internal,
            _ => CloseReason::BadTls,
        }
    }
}

/// One connection: a pointer in the connection's record. Between records it holds no buffer besides what rustls keeps.
pub struct TlsConnection(Box<Inner>);

struct Inner {
    rustls: UnbufferedServerConnection,
    /// The beginning of a record, or of a handshake message in several, that is not whole; no allocation when empty.
    tail: Vec<u8>,
    /// All that came during the handshake, bytes.
    handshake_bytes: usize,
    progress: TlsProgress,
    failed: bool,
}

impl TlsConnection {
    pub(super) fn new(terms: Arc<ServerConfig>) -> Result<TlsConnection, TlsError> {
        Ok(TlsConnection(Box::new(Inner {
            rustls: UnbufferedServerConnection::new(terms)?,
            tail: Vec::new(),
            handshake_bytes: 0,
            progress: TlsProgress::Handshaking,
            failed: false,
        })))
    }

    /// Takes all of `input` (decrypting in its place; what follows a close_notify is dropped), appends the plaintext it holds to `plaintext`, and what must be answered
    /// to `outgoing`. `plaintext` grows by less than what was fed; both are the caller's, so they may be shared scratch.
    ///
    /// # Errors
    /// The peer broke the protocol, or its certificate is not taken; an alert that says so is in `outgoing`. Plaintext that was
    /// appended before is good. The connection cannot go on.
    pub fn receive(
        &mut self,
        input: &mut [u8],
        plaintext: &mut Vec<u8>,
        outgoing: &mut Vec<u8>,
    ) -> Result<TlsProgress, TlsError> {
        let inner = &mut *self.0;
        if inner.failed {
            return Err(TlsError::NotOpen);
        }
        match inner.progress {
            TlsProgress::Handshaking => inner.handshake_bytes += input.len(),
            TlsProgress::Open => {}
            TlsProgress::PeerClosed => return Ok(TlsProgress::PeerClosed),
        }
        let received = inner.take(input, plaintext, outgoing);
        inner.failed = received.is_err();
        received.map(|()| inner.progress)
    }

    /// Encrypts `pieces`, in their order and as few records as they fit in, and appends the records to `outgoing`: at most
    /// [`sealed_bytes_max`] bytes, and a few more when the peer has asked for new keys. `gather` is scratch; it is cleared.
    ///
    /// # Errors
    /// The connection is not open, or its keys are worn out.
    pub fn send(
        &mut self,
        pieces: &[&[u8]],
        gather: &mut Vec<u8>,
        outgoing: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        if let [piece] = pieces {
            return self.0.when_open(outgoing, |traffic, outgoing| encrypt(traffic, piece, outgoing));
        }
        gather.clear();
        pieces.iter().for_each(|piece| gather.extend_from_slice(piece));
        self.0.when_open(outgoing, |traffic, outgoing| encrypt(traffic, gather, outgoing))
    }

    /// Appends the close_notify after which nothing is sent (RFC 8446 section 6.1).
    ///
    /// # Errors
    /// The connection is not open.
    pub fn close(&mut self, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        self.0.when_open(outgoing, |mut traffic, outgoing| {
            append(outgoing, ALERT_BYTES_MAX, |room| traffic.queue_close_notify(room))
        })?;
        self.0.failed = true;
        Ok(())
    }

    /// How far the connection is.
    #[must_use]
    pub fn progress(&self) -> TlsProgress {
        self.0.progress
    }

    /// Bytes held of a record that is not whole; 0 at rest.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.0.tail.len()
    }

    /// The version agreed, as in `TLSv1_3`.
    #[must_use]
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.0.rustls.protocol_version()
    }

    /// The application protocol agreed (ALPN), if the peer named any.
    #[must_use]
    pub fn protocol(&self) -> Option<&[u8]> {
        self.0.rustls.alpn_protocol()
    }

    /// A ticket of an earlier connection was taken, so no certificates were exchanged.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.0.rustls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Whom the peer's certificate names; `None` without one, or while the handshake runs. A ticket carries it over.
    #[must_use]
    pub fn subject(&self) -> Option<Subject> {
        if self.0.progress == TlsProgress::Handshaking {
            return None;
        }
        self.0.rustls.peer_certificates()?.first().and_then(Subject::read)
    }
}

impl Inner {
    fn take(
        &mut self,
        input: &mut [u8],
        plaintext: &mut Vec<u8>,
        outgoing: &mut Vec<u8>,
    ) -> Result<(), TlsError> {
        if self.tail.is_empty() {
            let taken = self.process(input, plaintext, outgoing)?;
            let rest = &input[taken..];
            self.judge_tail(rest.len())?;
            if !rest.is_empty() {
                self.tail = rest.to_vec();
            }
            return Ok(());
        }
        let mut tail = std::mem::take(&mut self.tail);
        tail.extend_from_slice(input);
        let taken = self.process(&mut tail, plaintext, outgoing)?;
        tail.drain(..taken);
        self.judge_tail(tail.len())?;
        if !tail.is_empty() {
            self.tail = tail;
        }
        Ok(())
    }

    /// What is left over may only be the beginning of something.
    fn judge_tail(&self, tail_bytes: usize) -> Result<(), TlsError> {
        if self.progress == TlsProgress::Handshaking && self.handshake_bytes > HANDSHAKE_BYTES_MAX {
            return Err(TlsError::TooLong(HANDSHAKE_BYTES_MAX));
        }
        let limit = match self.progress {
            TlsProgress::Handshaking => HANDSHAKE_BYTES_MAX,
            _ => TLS_RECORD_BYTES_MAX,
        };
        if tail_bytes > limit { Err(TlsError::TooLong(limit)) } else { Ok(()) }
    }

    /// Processes all that is whole in `bytes`; how many of them are done with.
    fn process(
        &mut self,
        bytes: &mut [u8],
        plaintext: &mut Vec<u8>,
        outgoing: &mut Vec<u8>,
    ) -> Result<usize, TlsError> {
        let mut taken = 0;
        loop {
            let UnbufferedStatus { mut discard, state } =
                self.rustls.process_tls_records(&mut bytes[taken..]);
            let goes_on = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        plaintext.extend_from_slice(record.payload);
                        discard += record.discard;
                    }
                    true
                }
                Ok(ConnectionState::EncodeTlsData(data)) => {
                    encode(data, outgoing);
                    true
                }
                Ok(ConnectionState::TransmitTlsData(sent)) => {
                    sent.done();
                    true
                }
                Ok(ConnectionState::WriteTraffic(_)) => {
                    if self.progress == TlsProgress::Handshaking {
                        self.progress = TlsProgress::Open;
                    }
                    false
                }
                Ok(ConnectionState::PeerClosed) => {
                    // What follows a close_notify is not read.
                    self.progress = TlsProgress::PeerClosed;
                    return Ok(bytes.len());
                }
                // Early data is never offered, so what is left is a handshake that waits, or the end.
                Ok(_) => false,
                Err(error) => {
                    self.alert(&mut bytes[taken + discard..], outgoing);
                    return Err(error.into());
                }
            };
            taken += discard;
            if !goes_on {
                return Ok(taken);
            }
        }
    }

    /// The alert that rustls has ready after an error. Once it is taken rustls must not see the faulty bytes again.
    fn alert(&mut self, mut bytes: &mut [u8], outgoing: &mut Vec<u8>) {
        while self.rustls.wants_write() {
            let UnbufferedStatus { discard, state } = self.rustls.process_tls_records(bytes);
            let Ok(ConnectionState::EncodeTlsData(data)) = state else { return };
            encode(data, outgoing);
            bytes = &mut bytes[discard..];
        }
    }

    fn when_open(
        &mut self,
        outgoing: &mut Vec<u8>,
        write: impl FnOnce(
            WriteTraffic<'_, rustls::server::ServerConnectionData>,
            &mut Vec<u8>,
        ) -> Result<(), EncryptError>,
    ) -> Result<(), TlsError> {
        if self.failed || self.progress == TlsProgress::Handshaking {
            return Err(TlsError::NotOpen);
        }
        // What was held is looked at again; it begins something, so nothing but what waits to be sent comes out.
        loop {
            match self.rustls.process_tls_records(&mut self.tail).state {
                Ok(ConnectionState::WriteTraffic(traffic)) => {
                    return write(traffic, outgoing).map_err(|_| TlsError::Exhausted);
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, outgoing),
                Ok(ConnectionState::TransmitTlsData(sent)) => sent.done(),
                Ok(ConnectionState::PeerClosed) => self.progress = TlsProgress::PeerClosed,
                Ok(_) => return Err(TlsError::NotOpen),
                Err(error) => {
                    self.failed = true;
                    return Err(error.into());
                }
            }
        }
    }
}

fn encode(mut data: EncodeTlsData<'_, rustls::server::ServerConnectionData>, outgoing: &mut Vec<u8>) {
    let required = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        _ => return,
    };
    let at = outgoing.len();
    outgoing.resize(at + required, 0);
    let written = data.encode(&mut outgoing[at..]).unwrap_or(0);
    outgoing.truncate(at + written);
}

fn encrypt(
    mut traffic: WriteTraffic<'_, rustls::server::ServerConnectionData>,
    plain: &[u8],
    outgoing: &mut Vec<u8>,
) -> Result<(), EncryptError> {
    append(outgoing, sealed_bytes_max(plain.len()), |room| traffic.encrypt(plain, room))
}

/// Makes `room_bytes` of room at the end, and more if `write` says that it needs more.
fn append(
    outgoing: &mut Vec<u8>,
    room_bytes: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), EncryptError> {
    let at = outgoing.len();
    outgoing.resize(at + room_bytes, 0);
    let written = match write(&mut outgoing[at..]) {
        Err(EncryptError::InsufficientSize(size)) => {
            outgoing.resize(at + size.required_size, 0);
            write(&mut outgoing[at..])
        }
        written => written,
    };
    outgoing.truncate(at + written.as_ref().map_or(0, |written| *written));
    written.map(|_| ())
}
