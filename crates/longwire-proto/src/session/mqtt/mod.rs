//! The server's end of an MQTT conversation, 3.1.1 and 5.0: [`Awaiting`] → [`Deciding`] → [`Session`].
//!
//! - `assemble`: whole packets out of bytes that arrive in any cut.
//! - `login`: CONNECT, and what of it the session keeps.
//! - `session`: packets of a client that is logged in.
//! - `outbound`: what goes to the client: QoS, packet identifiers, stages.
//! - `flows`: identifiers and aliases under way; an idle session has none.

mod assemble;
mod flows;
mod login;
mod outbound;
mod session;

pub use assemble::PacketAssembler;
pub use login::{Awaiting, Deciding, Granted, Terms};
pub use session::{FromClient, Incoming, Session};

use crate::close::CloseReason;
use crate::wire::mqtt::{Fault, Kind, Reason, Side};

/// Topic aliases that a client may use, and that it is given of what it can take (LIMITS 7.1).
pub const ALIASES_MAX: u16 = 16;
/// Messages of QoS 1 and 2 from a client of 5.0 that are not finished, as CONNACK tells it; one more ends the connection
/// with 0x93 (MQTT-3.3.4-7). 3.1.1 has no such word: there it bounds QoS 2, and of QoS 1 the reading (see [`UNDECIDED_MAX`]).
pub const RECEIVE_MAX: u16 = 32;
/// Messages of QoS 1 from a client of 3.1.1 that are being decided; one more ends the connection. Above [`RECEIVE_MAX`] the
/// caller reads no further, so these are what came in one read.
pub const UNDECIDED_MAX: usize = 1024;
/// Filters of one SUBSCRIBE; those beyond it are refused with 0x97.
pub const FILTERS_PER_PACKET_MAX: usize = 10;

/// Why a conversation ends: what the client is told, and our name for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ending {
    /// For DISCONNECT (5.0) or CONNACK.
    pub reason: Reason,
    /// For metrics and log.
    pub close: CloseReason,
}

impl Ending {
    /// A breach of the protocol.
    pub(super) const fn protocol_error() -> Ending {
        Ending { reason: Reason::ProtocolError, close: CloseReason::OutOfOrder }
    }
}

impl From<Fault> for Ending {
    fn from(fault: Fault) -> Ending {
        let close = match fault {
            Fault::TooLarge { .. } => CloseReason::FrameTooLong,
            Fault::ReservedType(_) | Fault::HeaderFlags(_) => CloseReason::BadCommand,
            Fault::ProtocolName | Fault::ProtocolLevel(_) => CloseReason::UnsupportedVersion,
            Fault::NotConnect(_) | Fault::Direction(_) => CloseReason::OutOfOrder,
            _ => CloseReason::BadBody,
        };
        Ending { reason: fault.reason(), close }
    }
}

/// What an ending that the server decides is called in MQTT 5.0.
#[must_use]
pub const fn reason_of(close: CloseReason) -> Reason {
    match close {
        CloseReason::Idle => Reason::KeepAliveTimeout,
        CloseReason::TakenOver => Reason::SessionTakenOver,
        CloseReason::Kicked | CloseReason::RevokedToken | CloseReason::AppDisabled => {
            Reason::AdministrativeAction
        }
        CloseReason::Draining => Reason::ServerShuttingDown,
        CloseReason::Full | CloseReason::Shed => Reason::ServerBusy,
        CloseReason::StoreUnavailable | CloseReason::AuthUnavailable => Reason::ServerUnavailable,
        CloseReason::UnknownApp | CloseReason::BadToken | CloseReason::ExpiredToken => {
            Reason::BadUserNameOrPassword
        }
        CloseReason::AlreadyConnected | CloseReason::BadClientId => Reason::ClientIdNotValid,
        CloseReason::DeviceQuota | CloseReason::AppQuota => Reason::QuotaExceeded,
        CloseReason::Conflict => Reason::ConnectionRateExceeded,
        CloseReason::FrameTooLong | CloseReason::TooMuchBeforeLogin => Reason::PacketTooLarge,
        CloseReason::BadCommand | CloseReason::BadBody | CloseReason::BadMagic => Reason::MalformedPacket,
        CloseReason::OutOfOrder | CloseReason::WrongClientId => Reason::ProtocolError,
        CloseReason::UnsupportedVersion => Reason::UnsupportedProtocolVersion,
        _ => Reason::Unspecified,
    }
}

/// The reason as a CONNACK or DISCONNECT of a server may say it: each has reasons that the other has not (MQTT-3.2.2-8,
/// MQTT-3.14.2-1).
const fn sayable(reason: Reason, kind: Kind) -> Reason {
    if reason.fits(kind, Side::Server) {
        return reason;
    }
    match (kind, reason) {
        (Kind::ConnAck, Reason::ServerShuttingDown | Reason::SessionTakenOver) => Reason::ServerUnavailable,
        (Kind::ConnAck, Reason::AdministrativeAction) => Reason::NotAuthorized,
        (Kind::Disconnect, Reason::ServerUnavailable) => Reason::ServerBusy,
        (Kind::Disconnect, Reason::BadUserNameOrPassword | Reason::ClientIdNotValid | Reason::Banned) => {
            Reason::NotAuthorized
        }
        _ => Reason::Unspecified,
    }
}
