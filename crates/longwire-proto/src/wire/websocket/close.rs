//! Why a WebSocket connection is refused or ended, as the codes of RFC 6455 section 7.4.

use crate::close::CloseReason;

/// The peer broke the framing; the connection ends with a Close frame of [`WebSocketError::code`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WebSocketError {
    /// A reserved bit is set, though no extension was agreed (section 5.2).
    #[error("a reserved bit is set; no extension was agreed")]
    ReservedBits,
    /// An opcode that RFC 6455 does not define.
    #[error("opcode {0:#x} is reserved")]
    ReservedOpcode(u8),
    /// A frame from a client without mask (section 5.1).
    #[error("a client's frame is not masked")]
    Unmasked,
    /// A frame from a server with mask (section 5.1).
    #[error("a server's frame is masked")]
    Masked,
    /// A text message; only bytes are spoken here [MQTT-6.0.0-1].
    #[error("text message; only binary messages are taken")]
    NotBinary,
    /// A continuation without a message, or a message begun within another (section 5.4).
    #[error("fragments out of order")]
    FragmentOrder,
    /// A control frame in fragments (section 5.5).
    #[error("a control frame is fragmented")]
    FragmentedControl,
    /// A control frame of more than 125 bytes (section 5.5).
    #[error("a control frame announces more than 125 bytes")]
    LongControl,
    /// A length in more bytes than it needs, or with its highest bit set (section 5.2).
    #[error("the length is not written in the shortest way")]
    BadLength,
    /// The frame, or the frames of its message together, announce more than the limit.
    #[error("the message exceeds {0} bytes")]
    TooLong(u32),
    /// More Ping and Pong frames in an interval than the limit.
    #[error("more than {0} pings in one interval")]
    TooManyControls(u8),
    /// A Close frame of one byte, or with a code that must not be sent (section 7.4).
    #[error("a Close frame without a valid code")]
    BadClose,
    /// The text of a Close frame is not UTF-8 (section 5.5.1).
    #[error("the text of a Close frame is not UTF-8")]
    BadCloseText,
}

impl WebSocketError {
    /// The code for the Close frame that answers it.
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            WebSocketError::NotBinary => 1003,
            WebSocketError::BadCloseText => 1007,
            WebSocketError::TooManyControls(_) => 1008,
            WebSocketError::TooLong(_) => 1009,
            _ => 1002,
        }
    }

    /// The close reason that this fault has.
    #[must_use]
    pub const fn reason(self) -> CloseReason {
        match self {
            WebSocketError::TooLong(_) => CloseReason::FrameTooLong,
            _ => CloseReason::BadWebSocket,
        }
    }
}

/// The code of the Close frame with which a server ends a connection for `reason`.
#[must_use]
pub const fn close_code(reason: CloseReason) -> u16 {
    match reason {
        CloseReason::PeerClosed | CloseReason::PeerLost => 1000,
        CloseReason::Draining => 1001,
        CloseReason::BadMagic
        | CloseReason::BadCommand
        | CloseReason::BadBody
        | CloseReason::OutOfOrder
        | CloseReason::WrongClientId
        | CloseReason::UnsupportedVersion
        | CloseReason::BadWebSocket
        | CloseReason::BadTls
        | CloseReason::BadProxyHeader
        | CloseReason::UpgradeRefused
        | CloseReason::WrongProtocol => 1002,
        CloseReason::FrameTooLong | CloseReason::TooMuchBeforeLogin => 1009,
        CloseReason::Internal => 1011,
        CloseReason::Full
        | CloseReason::StoreUnavailable
        | CloseReason::AuthUnavailable
        | CloseReason::Shed => 1013,
        CloseReason::Idle
        | CloseReason::LoginTimeout
        | CloseReason::WriteStall
        | CloseReason::FrameTimeout
        | CloseReason::UnknownApp
        | CloseReason::BadToken
        | CloseReason::ExpiredToken
        | CloseReason::RevokedToken
        | CloseReason::BadClientId
        | CloseReason::DeviceQuota
        | CloseReason::AppQuota
        | CloseReason::AppDisabled
        | CloseReason::TakenOver
        | CloseReason::Kicked
        | CloseReason::AckTimeout
        | CloseReason::InboundRate
        | CloseReason::PingRate
        | CloseReason::AlreadyConnected
        | CloseReason::Conflict => 1008,
    }
}

/// Whether a peer may send this code: those of RFC 6455 section 7.4.1, the three registered since, and the two ranges for
/// libraries and applications.
pub(super) const fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}
