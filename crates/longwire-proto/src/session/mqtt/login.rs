//! CONNECT and its answer.

use super::session::Session;
use super::{ALIASES_MAX, Ending, PacketAssembler, RECEIVE_MAX, sayable};
use crate::id::ClientId;
use crate::limit::{BEFORE_LOGIN_BYTES_MAX, DEVICE_NAME_BYTES_MAX};
use crate::session::FeedStart;
use crate::wire::mqtt::{
    ConnAck, Connect, Decoder, Kind, Limits, Packet, Properties, PropertiesBuf, Property, Reason, Side,
    Version, encode,
};

/// Before CONNECT.
#[derive(Debug, Default)]
pub struct Awaiting {
    assembler: PacketAssembler,
    /// What the bytes so far say; a refusal is written in it.
    version: Option<Version>,
    /// The client takes no packet as large as the answer.
    is_deaf: bool,
}

/// A CONNECT holds its protocol level within its first so many bytes: header of 5, name of 6, level.
const LEVEL_WITHIN_BYTES: usize = 12;

/// CONNACK of an accepted login is so large at most, if no expiry was asked for: header and flags, receive maximum, aliases,
/// packet size, keep alive.
const WELCOME_BYTES_MAX: u32 = 5 + 3 + 3 + 5 + 3;
/// Another session expiry in it.
const EXPIRY_BYTES: u32 = 5;
/// The client id in it, where the server chooses one; and longer lengths.
const ASSIGNED_BYTES_MAX: u32 = 3 + DEVICE_NAME_BYTES_MAX as u32 + 2;
/// The front of its own topics in it, where the client asks: `device/`, its name, `/`; and longer lengths.
const RESPONSE_BYTES_MAX: u32 = 3 + 7 + DEVICE_NAME_BYTES_MAX as u32 + 1 + 2;
/// CONNACK with a refusal.
const REFUSAL_BYTES: u32 = 5;

fn welcome_bytes_max(connect: &Connect<'_>) -> u32 {
    let expiry = connect.properties.session_expiry().map_or(0, |_| EXPIRY_BYTES);
    let response =
        if connect.properties.request_response_information() == Some(true) { RESPONSE_BYTES_MAX } else { 0 };
    WELCOME_BYTES_MAX + expiry + response + if connect.client_id.is_empty() { ASSIGNED_BYTES_MAX } else { 0 }
}

/// The version that the front of a CONNECT asks for, if it is one of ours.
fn version_of(front: &[u8]) -> Option<Version> {
    let length_bytes = front.get(1..)?.iter().position(|byte| byte & 0x80 == 0)? + 1;
    match front.get(1 + length_bytes..)? {
        [0, 4, b'M', b'Q', b'T', b'T', 4, ..] => Some(Version::V311),
        [0, 4, b'M', b'Q', b'T', b'T', 5, ..] => Some(Version::V5),
        _ => None,
    }
}

/// What a session keeps of its CONNECT.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    /// The version of the session.
    pub version: Version,
    /// Seconds; 0 = off (the server's idle limit holds all the same).
    pub keep_alive_s: u16,
    /// Unfinished messages of QoS 1 and 2 that the client takes.
    pub receive_max: u16,
    /// The largest packet that the client takes, bytes; larger ones are not sent (MQTT-3.1.2-24).
    pub packet_bytes_max: u32,
    /// Aliases that the client takes.
    pub aliases_max: u16,
    /// The session outlives its connection.
    pub is_kept: bool,
    /// The client asks where it may have answers sent (MQTT-3.1.2-28).
    pub wants_response: bool,
}

impl Terms {
    /// The terms of a CONNECT.
    #[must_use]
    pub fn of(connect: &Connect<'_>) -> Terms {
        let properties = &connect.properties;
        let is_kept = match connect.version {
            Version::V311 => !connect.clean_start,
            Version::V5 => properties.session_expiry().unwrap_or(0) > 0,
        };
        Terms {
            version: connect.version,
            keep_alive_s: connect.keep_alive_s,
            receive_max: properties.receive_maximum().unwrap_or(u16::MAX),
            packet_bytes_max: properties.maximum_packet_size().unwrap_or(u32::MAX),
            aliases_max: properties.topic_alias_maximum().unwrap_or(0),
            is_kept,
            wants_response: properties.request_response_information().unwrap_or(false),
        }
    }
}

impl Awaiting {
    /// Takes bytes off the front of `input` until CONNECT is complete. Bytes behind it stay in `input`.
    ///
    /// A client that takes no packet as large as CONNACK cannot be told anything (MQTT-3.1.2-24); all other packets of the
    /// server but PUBLISH are smaller.
    ///
    /// # Errors
    /// Anything but a CONNECT within the limits, or one of a client that takes no packet as large as its CONNACK.
    pub fn receive<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
        limits: &Limits,
    ) -> Result<Option<Connect<'a>>, Ending> {
        let packet_bytes_max = limits.packet_bytes_max.min(BEFORE_LOGIN_BYTES_MAX as u32);
        let limits = Limits { packet_bytes_max, ..*limits };
        let decoder = Decoder::new(Version::V5, Side::Client, &limits);
        let mut front = [0; LEVEL_WITHIN_BYTES];
        let seen = self.assembler.held().iter().chain(*input).zip(&mut front);
        let count = seen.map(|(&byte, place)| *place = byte).count();
        self.version = version_of(&front[..count]);
        match self.assembler.next(input, &decoder, true)? {
            None => Ok(None),
            // An enhanced authentication is refused: there is none (MQTT-4.12.0-1).
            Some(Packet::Connect(connect)) if connect.properties.auth_method().is_some() => Err(Ending {
                reason: Reason::BadAuthenticationMethod,
                close: crate::close::CloseReason::BadToken,
            }),
            Some(Packet::Connect(connect)) => {
                let takes = connect.properties.maximum_packet_size().unwrap_or(u32::MAX);
                if takes >= welcome_bytes_max(&connect) {
                    return Ok(Some(connect));
                }
                // Perhaps not even a refusal.
                self.is_deaf = takes < REFUSAL_BYTES;
                Err(Ending { reason: Reason::PacketTooLarge, close: crate::close::CloseReason::FrameTooLong })
            }
            Some(_) => Err(Ending::protocol_error()),
        }
    }

    /// Bytes held for an unfinished CONNECT.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.assembler.held_bytes()
    }

    /// Says no to what was no valid CONNECT, in the version that it asked for: in 3.1.1 only what has a return code. A
    /// version that is not spoken here is told so in the form that every version knows (MQTT-3.1.2-2); who sent bytes of
    /// which not even that is clear is told nothing.
    pub fn refuse(&self, reason: Reason, out: &mut Vec<u8>) {
        match (self.version, reason) {
            _ if self.is_deaf => {}
            (Some(version), _) => refuse(version, reason, out),
            (None, Reason::UnsupportedProtocolVersion) => refuse(Version::V311, reason, out),
            (None, _) => {}
        }
    }

    /// CONNECT was read; the decision is awaited. `rest`: what the client sent behind it, as it may (MQTT 3.1.4).
    #[must_use]
    pub fn decide(self, terms: Terms, rest: &[u8]) -> Deciding {
        Deciding { terms, rest: rest.into(), mailbox_grew: false }
    }
}

/// CONNECT was read and its login is being decided elsewhere.
#[derive(Debug)]
pub struct Deciding {
    terms: Terms,
    rest: Box<[u8]>,
    mailbox_grew: bool,
}

/// What CONNACK says beside yes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Granted<'a> {
    /// The session was there (MQTT-3.2.2-2).
    pub session_present: bool,
    /// The client id that the server chose.
    pub assigned: Option<&'a str>,
    /// Seconds that the session outlives its connection, if not what was asked.
    pub expiry_s: Option<u32>,
    /// Seconds between packets that the server demands, if not what was asked.
    pub keep_alive_s: Option<u16>,
    /// The largest packet that the server takes, bytes.
    pub packet_bytes_max: u32,
    /// What the topics begin with that are the client's own, for answers to it; only for one that asks.
    pub response: Option<&'a str>,
}

impl Deciding {
    /// The terms of the session to be.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// A live delivery for this device came before the answer: it will be pulled.
    pub fn mailbox_grew(&mut self) {
        self.mailbox_grew = true;
    }

    /// The login was accepted: CONNACK goes to `out`. Also returns what the client sent behind CONNECT, to be received now.
    #[must_use]
    pub fn accept(
        self,
        client: ClientId,
        mailbox: FeedStart,
        log: FeedStart,
        granted: &Granted<'_>,
        out: &mut Vec<u8>,
    ) -> (Session, Box<[u8]>) {
        let mailbox = FeedStart { waiting: mailbox.waiting || self.mailbox_grew, ..mailbox };
        welcome(self.terms.version, granted, out);
        let mut terms = self.terms;
        terms.keep_alive_s = granted.keep_alive_s.unwrap_or(terms.keep_alive_s);
        terms.is_kept = granted.expiry_s.map_or(terms.is_kept, |seconds| seconds > 0);
        (Session::new(client, mailbox, log, terms, granted.session_present), self.rest)
    }

    /// The login was refused: CONNACK goes to `out`; in 3.1.1 only for reasons that have a return code.
    pub fn refuse(&self, reason: Reason, out: &mut Vec<u8>) {
        refuse(self.terms.version, reason, out);
    }
}

/// CONNACK with a refusal. Nothing for a reason that 3.1.1 cannot say.
pub(super) fn refuse(version: Version, reason: Reason, out: &mut Vec<u8>) {
    let reason = sayable(reason, Kind::ConnAck);
    if version == Version::V311 && reason.connect_return().is_none() {
        return;
    }
    let answer = ConnAck { session_present: false, reason, properties: Properties::default() };
    // Without texts nothing can be too long.
    let _ = encode(&Packet::ConnAck(answer), version, out);
}

fn welcome(version: Version, granted: &Granted<'_>, out: &mut Vec<u8>) {
    let mut properties = PropertiesBuf::default();
    if version == Version::V5 {
        properties.push(Property::ReceiveMaximum(RECEIVE_MAX));
        properties.push(Property::TopicAliasMaximum(ALIASES_MAX));
        properties.push(Property::MaximumPacketSize(granted.packet_bytes_max));
        if let Some(seconds) = granted.expiry_s {
            properties.push(Property::SessionExpiry(seconds));
        }
        if let Some(seconds) = granted.keep_alive_s {
            properties.push(Property::ServerKeepAlive(seconds));
        }
        if let Some(client_id) = granted.assigned {
            properties.push(Property::AssignedClientId(client_id));
        }
        if let Some(response) = granted.response {
            properties.push(Property::ResponseInformation(response));
        }
    }
    let answer = ConnAck {
        session_present: granted.session_present,
        reason: Reason::Success,
        properties: properties.as_properties(),
    };
    // The only texts are a client id and a topic within their limits.
    let _ = encode(&Packet::ConnAck(answer), version, out);
}
