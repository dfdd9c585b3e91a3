//! The layers of one connection put together: PROXY, TLS, WebSocket, and what is spoken inside. Bytes in, bytes out.

use super::listener::{FRAMES, ListenerTerms};
use super::proxy::{Origin, read_proxy};
use super::refused::{TLS_ALERT, not_now};
use super::tls::{HANDSHAKE_BYTES_MAX, TLS_RECORD_BYTES_MAX, TlsConnection, TlsProgress};
use super::upgrade::{Subprotocol, Upgrade, read_upgrade};
use super::{Detected, Spoken, detect};
use longwire_proto::close::CloseReason;
use longwire_proto::wire::websocket::{Decoder, Event, close, close_code, data_head, pong};
use std::net::SocketAddr;

/// What lies between a socket and a session. A connection that speaks plainly has none of this.
pub struct Layers {
    stage: Stage,
    tls: Option<TlsConnection>,
    introduced: Option<Box<Introduced>>,
    /// A PROXY header must come first.
    proxy_due: bool,
    /// TLS has been asked for, and waits for its turn; what came is held.
    tls_waits: bool,
    /// TLS has been asked for, and its first record is not whole; what came is held, and nothing else is made for it.
    hello_due: bool,
    /// What the subprotocol said is inside, until the first byte has shown it.
    promised: Option<Spoken>,
    /// The code of the Close frame that a fault of framing asks for; 0: the reason's own.
    close_code: u16,
}

// What an idle connection inside TLS or a WebSocket costs besides TLS itself.
const _: () = assert!(size_of::<Layers>() <= 56);

/// How far the first bytes are judged.
enum Stage {
    /// Not known yet; so much has come. Bounded by the longest thing that is awaited: an HTTP request of 8 KiB, and what one read
    /// brought.
    Undecided(Vec<u8>),
    /// The session's own bytes.
    Stream,
    /// The session's bytes in frames.
    WebSocket(Decoder),
    /// Nothing more is said: an answer in HTTP was.
    Refused,
}

/// Whether a TLS handshake may begin now: its first step costs a shard about a millisecond.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandshakeTurn {
    /// It may.
    Now,
    /// Others are before it.
    Later,
}

/// What a load balancer said.
struct Introduced {
    origin: Option<SocketAddr>,
    common_name: Option<String>,
}

/// Buffers that all connections of a shard use in turn.
#[derive(Default)]
pub struct LayerBuffers {
    /// What came for the session.
    pub plain: Vec<u8>,
    /// What the socket is to send.
    pub wire: Vec<u8>,
    /// What is put together before it is encrypted.
    pub gather: Vec<u8>,
}

impl Layers {
    /// Of a connection from which nothing has come; `proxied`: it begins with a PROXY header.
    #[must_use]
    pub fn new(proxied: bool) -> Layers {
        Layers {
            stage: Stage::Undecided(Vec::new()),
            tls: None,
            introduced: None,
            proxy_due: proxied,
            tls_waits: false,
            hello_due: false,
            promised: None,
            close_code: 0,
        }
    }

    /// Takes all of `raw`. Afterwards `buffers.plain` holds what is the session's, and `buffers.wire` what must be sent at once
    /// (handshake, pongs, answers). A reason says that the connection ends after both. A TLS handshake that would begin is put off
    /// unless `turn` says that it may; see [`Layers::waits_for_tls`].
    pub fn receive(
        &mut self,
        raw: &mut [u8],
        turn: HandshakeTurn,
        terms: &ListenerTerms,
        buffers: &mut LayerBuffers,
    ) -> Option<CloseReason> {
        buffers.plain.clear();
        buffers.wire.clear();
        if let Stage::Undecided(held) = &mut self.stage {
            buffers.plain.append(&mut std::mem::take(held));
        }
        let below = match &mut self.tls {
            None => {
                buffers.plain.extend_from_slice(raw);
                None
            }
            Some(tls) => match tls.receive(raw, &mut buffers.plain, &mut buffers.wire) {
                Ok(TlsProgress::PeerClosed) => Some(CloseReason::PeerClosed),
                Ok(_) => None,
                Err(error) => Some(error.reason()),
            },
        };
        let above = self.unwrap(turn, terms, buffers).err();
        if above == Some(CloseReason::PeerClosed)
            && let Some(tls) = &mut self.tls
        {
            let _ = tls.close(&mut buffers.wire);
        }
        above.or(below)
    }

    /// Brings what a session says into the form that leaves, appended to `wire`: all pieces together, as one message.
    ///
    /// # Errors
    /// TLS takes nothing more.
    pub fn seal<'p>(
        &mut self,
        pieces: impl Iterator<Item = &'p [u8]> + Clone,
        gather: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<(), CloseReason> {
        let Layers { stage, tls, .. } = self;
        gather.clear();
        let to = if tls.is_some() { &mut *gather } else { &mut *wire };
        if let Stage::WebSocket(_) = stage {
            let bytes: usize = pieces.clone().map(<[u8]>::len).sum();
            to.extend_from_slice(data_head(bytes as u64, None).bytes());
        }
        pieces.for_each(|piece| to.extend_from_slice(piece));
        match tls {
            None => Ok(()),
            Some(tls) => tls.send(&[gather], &mut Vec::new(), wire).map_err(|error| error.reason()),
        }
    }

    /// The last bytes, into `buffers.wire`: the session's word, the WebSocket's Close, the end of TLS.
    pub fn end(&mut self, word: &[u8], reason: CloseReason, buffers: &mut LayerBuffers) {
        let LayerBuffers { wire, gather, .. } = buffers;
        wire.clear();
        gather.clear();
        match &self.stage {
            Stage::Refused => {}
            Stage::Undecided(held) => match detect(held) {
                Detected::Is(Spoken::Tls) => gather.extend_from_slice(&TLS_ALERT),
                Detected::Is(Spoken::WebSocket) => gather.extend_from_slice(not_now(reason, 0).as_bytes()),
                _ => gather.extend_from_slice(word),
            },
            Stage::Stream => gather.extend_from_slice(word),
            // A Close that was right has been answered.
            Stage::WebSocket(decoder) if decoder.is_closed() && self.close_code == 0 => {}
            Stage::WebSocket(_) => {
                gather.extend_from_slice(data_head(word.len() as u64, None).bytes());
                gather.extend_from_slice(word);
                let code = if self.close_code == 0 { close_code(reason) } else { self.close_code };
                gather.extend_from_slice(close(Some(code), reason.label(), None).bytes());
            }
        }
        let Some(tls) = &mut self.tls else { return wire.append(gather) };
        // A handshake that is not over leaves nothing to say: its alert has been sent.
        if gather.is_empty() || tls.send(&[gather], &mut Vec::new(), wire).is_ok() {
            let _ = tls.close(wire);
        }
    }

    /// The address that a load balancer gave.
    #[must_use]
    pub fn origin(&self) -> Option<SocketAddr> {
        self.introduced.as_ref()?.origin
    }

    /// The name in the certificate that the client showed, here or to a load balancer, verified.
    #[must_use]
    pub fn certificate_name(&self) -> Option<String> {
        let own = || self.tls.as_ref()?.subject()?.name().map(str::to_owned);
        own().or_else(|| self.introduced.as_ref()?.common_name.clone())
    }

    /// Something is begun and not whole: a record, a frame, a message of several frames.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        let inside = match &self.stage {
            Stage::Undecided(held) => !held.is_empty(),
            Stage::WebSocket(decoder) => !decoder.at_rest(),
            Stage::Stream | Stage::Refused => false,
        };
        inside || self.tls.as_ref().is_some_and(|tls| tls.held_bytes() > 0)
    }

    /// TLS has been asked for and its handshake is not over.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.hello_due || self.tls.as_ref().is_some_and(|tls| tls.progress() == TlsProgress::Handshaking)
    }

    /// The first record of a handshake has come, and cost what a handshake costs.
    #[must_use]
    pub fn has_begun_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// A TLS handshake would begin, and was put off.
    #[must_use]
    pub fn waits_for_tls(&self) -> bool {
        self.tls_waits
    }

    /// Nothing lies between socket and session any more, and a load balancer's word has been read by whoever needs it.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.tls.is_none() && matches!(self.stage, Stage::Stream)
    }

    /// Ping and Pong frames are counted anew.
    pub fn begin_interval(&mut self) {
        if let Stage::WebSocket(decoder) = &mut self.stage {
            decoder.begin_interval();
        }
    }

    fn unwrap(
        &mut self,
        turn: HandshakeTurn,
        terms: &ListenerTerms,
        buffers: &mut LayerBuffers,
    ) -> Result<(), CloseReason> {
        let mut at = 0;
        while let Stage::Undecided(_) = &self.stage {
            match self.decide(at, turn, terms, buffers) {
                Ok(Some(next)) => at = next,
                Err(reason) => {
                    buffers.plain.clear();
                    return Err(reason);
                }
                Ok(None) => {
                    let rest = &buffers.plain[at..];
                    self.stage = Stage::Undecided(rest.to_vec());
                    buffers.plain.clear();
                    return Ok(());
                }
            }
        }
        buffers.plain.drain(..at);
        self.unframe(buffers)
    }

    /// Judges what stands at `at`; where what follows it begins, or `None`: more must come.
    fn decide(
        &mut self,
        at: usize,
        turn: HandshakeTurn,
        terms: &ListenerTerms,
        buffers: &mut LayerBuffers,
    ) -> Result<Option<usize>, CloseReason> {
        if self.proxy_due {
            let proxied = read_proxy(&buffers.plain[at..]).map_err(|_| CloseReason::BadProxyHeader)?;
            let Some(proxied) = proxied else { return Ok(None) };
            let origin = match proxied.origin {
                Origin::Address(address) => Some(address),
                Origin::Local | Origin::Unsaid => None,
            };
            self.proxy_due = false;
            self.introduced = Some(Box::new(Introduced { origin, common_name: proxied.common_name }));
            return Ok(Some(at + proxied.header_bytes));
        }
        let spoken = match detect(&buffers.plain[at..]) {
            Detected::NeedMore => return Ok(None),
            Detected::Unknown => {
                // Only who began like a native frame can read one.
                if buffers.plain.get(at) != Spoken::Native.first_byte().as_ref() {
                    self.stage = Stage::Refused;
                }
                return Err(CloseReason::BadMagic);
            }
            Detected::Is(Spoken::Proxy) => return Err(CloseReason::BadProxyHeader),
            Detected::Is(spoken) => spoken,
        };
        if !terms.takes(spoken, self.tls.is_some()) {
            if spoken != Spoken::Native {
                self.stage = Stage::Refused;
            }
            return Err(CloseReason::WrongProtocol);
        }
        match spoken {
            Spoken::WebSocket => self.upgrade(at, terms, buffers),
            Spoken::Tls if buffers.plain.len() - at > HANDSHAKE_BYTES_MAX => Err(CloseReason::BadTls),
            Spoken::Tls => {
                self.hello_due = !is_whole_record(&buffers.plain[at..]);
                if self.hello_due {
                    return Ok(None);
                }
                self.tls_waits = turn == HandshakeTurn::Later;
                if self.tls_waits { Ok(None) } else { self.begin_tls(at, terms, buffers) }
            }
            Spoken::Native | Spoken::Mqtt | Spoken::Proxy => {
                self.stage = Stage::Stream;
                Ok(Some(at))
            }
        }
    }

    fn begin_tls(
        &mut self,
        at: usize,
        terms: &ListenerTerms,
        buffers: &mut LayerBuffers,
    ) -> Result<Option<usize>, CloseReason> {
        let accepted = terms.tls.as_ref().map(|terms| terms.accept());
        let tls = match accepted {
            Some(Ok(tls)) => self.tls.insert(tls),
            Some(Err(error)) => return Err(error.reason()),
            None => return Err(CloseReason::WrongProtocol),
        };
        let mut raw = buffers.plain.split_off(at);
        buffers.plain.clear();
        tls.receive(&mut raw, &mut buffers.plain, &mut buffers.wire).map_err(|error| error.reason())?;
        Ok(Some(0))
    }

    fn upgrade(
        &mut self,
        at: usize,
        terms: &ListenerTerms,
        buffers: &mut LayerBuffers,
    ) -> Result<Option<usize>, CloseReason> {
        let (answer, outcome) = match read_upgrade(&buffers.plain[at..], &terms.upgrade) {
            Upgrade::NeedMore => return Ok(None),
            Upgrade::Accepted { request_bytes, subprotocol, answer } => {
                let spoken = match subprotocol {
                    Subprotocol::Mqtt => Spoken::Mqtt,
                    Subprotocol::Native => Spoken::Native,
                };
                if !terms.carries(spoken) {
                    return Err(CloseReason::WrongProtocol);
                }
                self.promised = Some(spoken);
                (answer, Ok(Some(at + request_bytes)))
            }
            Upgrade::Refused { answer, .. } => (answer, Err(CloseReason::UpgradeRefused)),
        };
        self.answer(answer.as_bytes(), &mut buffers.wire)?;
        self.stage = match outcome {
            Ok(_) => Stage::WebSocket(Decoder::default()),
            Err(_) => Stage::Refused,
        };
        outcome
    }

    /// Takes the frames off what came; what is left are the session's bytes, moved together.
    fn unframe(&mut self, buffers: &mut LayerBuffers) -> Result<(), CloseReason> {
        let Stage::WebSocket(decoder) = &mut self.stage else { return Ok(()) };
        let LayerBuffers { plain, wire, .. } = buffers;
        let (mut at, mut kept, total) = (0, 0, plain.len());
        let ended = loop {
            let mut rest = &mut plain[at..];
            let event = match decoder.next(&mut rest, &FRAMES) {
                Ok(Some(event)) => event,
                Ok(None) => break Ok(()),
                Err(error) => {
                    self.close_code = error.code();
                    break Err(error.reason());
                }
            };
            let tls = &mut self.tls;
            match event {
                Event::Payload(payload) => {
                    let bytes = payload.len();
                    at = total - rest.len();
                    plain.copy_within(at - bytes..at, kept);
                    kept += bytes;
                }
                Event::Ping(body) => {
                    at = total - rest.len();
                    answer(tls, pong(&body, None).bytes(), wire)?;
                }
                Event::Pong(_) => at = total - rest.len(),
                Event::Close { code } => {
                    answer(tls, close(code, "", None).bytes(), wire)?;
                    break Err(CloseReason::PeerClosed);
                }
            }
        };
        plain.truncate(kept);
        if let Some(first) = plain.first()
            && let Some(promised) = self.promised.take()
            && begins(*first).is_some_and(|spoken| spoken != promised)
        {
            plain.clear();
            return Err(CloseReason::WrongProtocol);
        }
        ended
    }

    fn answer(&mut self, bytes: &[u8], wire: &mut Vec<u8>) -> Result<(), CloseReason> {
        answer(&mut self.tls, bytes, wire)
    }
}

/// Whether a TLS record is there from its first byte to its last. One that is longer than a record may be is whole enough to be
/// refused.
fn is_whole_record(bytes: &[u8]) -> bool {
    let Some(&[_, _, _, high, low]) = bytes.first_chunk() else { return false };
    let bytes_wanted = 5 + usize::from(u16::from_be_bytes([high, low]));
    bytes.len() >= bytes_wanted || bytes_wanted > TLS_RECORD_BYTES_MAX
}

/// What a first byte begins.
fn begins(first: u8) -> Option<Spoken> {
    [Spoken::Native, Spoken::Mqtt].into_iter().find(|spoken| spoken.first_byte() == Some(first))
}

/// Bytes of ours, below the session.
fn answer(tls: &mut Option<TlsConnection>, bytes: &[u8], wire: &mut Vec<u8>) -> Result<(), CloseReason> {
    match tls {
        Some(tls) => tls.send(&[bytes], &mut Vec::new(), wire).map_err(|error| error.reason()),
        None => {
            wire.extend_from_slice(bytes);
            Ok(())
        }
    }
}

impl std::fmt::Debug for Layers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stage = match self.stage {
            Stage::Undecided(_) => "undecided",
            Stage::Stream => "stream",
            Stage::WebSocket(_) => "websocket",
            Stage::Refused => "refused",
        };
        f.debug_struct("Layers").field("stage", &stage).field("tls", &self.tls.is_some()).finish()
    }
}
