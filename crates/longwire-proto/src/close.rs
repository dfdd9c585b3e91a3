//! Why a connection ends: one list that gives the native code, the metric label and the log word.

/// Every reason for which a connection ends. The number is the code on the wire (frame CLOSE, and CONNACK for
/// refusals); the label is the word in metrics and logs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum CloseReason {
    /// The peer ended the connection in an orderly way (FIN or CLOSE).
    PeerClosed = 0x01,
    /// The connection was reset or broke (RST, unreachable).
    PeerLost = 0x02,
    /// Nothing was read for 3 × announced heartbeat + 20 s (004-11, 004-14).
    Idle = 0x03,
    /// No complete login within the deadline.
    LoginTimeout = 0x04,
    /// The peer took no byte for the write-stall deadline, or `TCP_USER_TIMEOUT` ended the connection.
    WriteStall = 0x05,
    /// A started frame was not completed within its deadline.
    FrameTimeout = 0x06,
    /// The first four bytes of a frame were not `CA FE BA BE`.
    BadMagic = 0x10,
    /// The command byte is not known, or not allowed to this side.
    BadCommand = 0x11,
    /// The announced body is longer than the limit.
    FrameTooLong = 0x12,
    /// The body does not decode.
    BadBody = 0x13,
    /// The frame is not allowed in this state (for example before login).
    OutOfOrder = 0x14,
    /// More bytes than allowed before login.
    TooMuchBeforeLogin = 0x15,
    /// The client id in the header is not this connection's.
    WrongClientId = 0x16,
    /// The protocol version is not spoken here.
    UnsupportedVersion = 0x17,
    /// The device sent more messages or bytes than allowed, by more than a pause of reading makes up (LIMITS 7.1).
    InboundRate = 0x18,
    /// Heartbeats came far more often than allowed (LIMITS 7.1).
    PingRate = 0x19,
    /// Unknown app key.
    UnknownApp = 0x20,
    /// The token does not verify, or is not for this device.
    BadToken = 0x21,
    /// The token has expired.
    ExpiredToken = 0x22,
    /// The token was revoked (its generation was raised).
    RevokedToken = 0x23,
    /// The client id is not one that this device may use: not a valid name, or another device's.
    BadClientId = 0x24,
    /// The app has as many devices that registered themselves as it may.
    DeviceQuota = 0x25,
    /// The app has as many connections as it may.
    AppQuota = 0x26,
    /// The app is out of service.
    AppDisabled = 0x27,
    /// A newer login of the same device displaced this connection.
    TakenOver = 0x30,
    /// An operator or the API closed it.
    Kicked = 0x31,
    /// The device did not ack a delivery within the ack deadline.
    AckTimeout = 0x32,
    /// The device is connected already, and its app lets the older connection stay.
    AlreadyConnected = 0x33,
    /// Connections of this device displaced each other too often: two devices seem to have one id. Logins of it are
    /// refused for a while (LIMITS 7.1, takeovers of one id).
    Conflict = 0x34,
    /// The node is draining or stopping.
    Draining = 0x40,
    /// The node is at its limit of connections or descriptors.
    Full = 0x41,
    /// The store does not answer, so the login cannot be decided.
    StoreUnavailable = 0x42,
    /// Our own fault; counted, and a defect.
    Internal = 0x43,
    /// The node is short of memory and this connection held more outbound bytes than most.
    Shed = 0x44,
    /// Whoever decides logins for this app does not answer, or too slowly; nobody is let in meanwhile.
    AuthUnavailable = 0x45,
    /// The peer broke the WebSocket framing; the Close frame's code says how.
    BadWebSocket = 0x50,
    /// The TLS handshake failed, or a record did not decrypt.
    BadTls = 0x51,
    /// The PROXY header is missing, malformed or too long.
    BadProxyHeader = 0x52,
    /// The HTTP request for a WebSocket was refused; the answer said why.
    UpgradeRefused = 0x53,
    /// The listener does not take what the peer speaks.
    WrongProtocol = 0x54,
}

impl CloseReason {
    /// Every reason, in the order of the codes.
    pub const ALL: [CloseReason; 40] = [
        CloseReason::PeerClosed,
        CloseReason::PeerLost,
        CloseReason::Idle,
        CloseReason::LoginTimeout,
        CloseReason::WriteStall,
        CloseReason::FrameTimeout,
        CloseReason::BadMagic,
        CloseReason::BadCommand,
        CloseReason::FrameTooLong,
        CloseReason::BadBody,
        CloseReason::OutOfOrder,
        CloseReason::TooMuchBeforeLogin,
        CloseReason::WrongClientId,
        CloseReason::UnsupportedVersion,
        CloseReason::InboundRate,
        CloseReason::PingRate,
        CloseReason::UnknownApp,
        CloseReason::BadToken,
        CloseReason::ExpiredToken,
        CloseReason::RevokedToken,
        CloseReason::BadClientId,
        CloseReason::DeviceQuota,
        CloseReason::AppQuota,
        CloseReason::AppDisabled,
        CloseReason::TakenOver,
        CloseReason::Kicked,
        CloseReason::AckTimeout,
        CloseReason::AlreadyConnected,
        CloseReason::Conflict,
        CloseReason::Draining,
        CloseReason::Full,
        CloseReason::StoreUnavailable,
        CloseReason::Internal,
        CloseReason::Shed,
        CloseReason::AuthUnavailable,
        CloseReason::BadWebSocket,
        CloseReason::BadTls,
        CloseReason::BadProxyHeader,
        CloseReason::UpgradeRefused,
        CloseReason::WrongProtocol,
    ];

    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The reason of a code; `None` for a code this version does not know.
    #[must_use]
    pub fn from_code(code: u8) -> Option<CloseReason> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// The reason's index in [`CloseReason::ALL`], for arrays of counters.
    #[must_use]
    pub fn index(self) -> usize {
        Self::ALL.iter().position(|reason| *reason == self).unwrap_or(0)
    }

    /// The word in metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            CloseReason::PeerClosed => "peer_closed",
            CloseReason::PeerLost => "peer_lost",
            CloseReason::Idle => "idle",
            CloseReason::LoginTimeout => "login_timeout",
            CloseReason::WriteStall => "write_stall",
            CloseReason::FrameTimeout => "frame_timeout",
            CloseReason::BadMagic => "bad_magic",
            CloseReason::BadCommand => "bad_command",
            CloseReason::FrameTooLong => "frame_too_long",
            CloseReason::BadBody => "bad_body",
            CloseReason::OutOfOrder => "out_of_order",
            CloseReason::TooMuchBeforeLogin => "too_much_before_login",
            CloseReason::WrongClientId => "wrong_client_id",
            CloseReason::UnsupportedVersion => "unsupported_version",
            CloseReason::InboundRate => "inbound_rate",
            CloseReason::PingRate => "ping_rate",
            CloseReason::UnknownApp => "unknown_app",
            CloseReason::BadToken => "bad_token",
            CloseReason::ExpiredToken => "expired_token",
            CloseReason::RevokedToken => "revoked_token",
            CloseReason::BadClientId => "bad_client_id",
            CloseReason::DeviceQuota => "device_quota",
            CloseReason::AppQuota => "app_quota",
            CloseReason::AppDisabled => "app_disabled",
            CloseReason::TakenOver => "taken_over",
            CloseReason::Kicked => "kicked",
            CloseReason::AckTimeout => "ack_timeout",
            CloseReason::AlreadyConnected => "already_connected",
            CloseReason::Conflict => "conflict",
            CloseReason::Draining => "draining",
            CloseReason::Full => "full",
            CloseReason::StoreUnavailable => "store_unavailable",
            CloseReason::Internal => "internal",
            CloseReason::Shed => "shed",
            CloseReason::AuthUnavailable => "auth_unavailable",
            CloseReason::BadWebSocket => "bad_websocket",
            CloseReason::BadTls => "bad_tls",
            CloseReason::BadProxyHeader => "bad_proxy_header",
            CloseReason::UpgradeRefused => "upgrade_refused",
            CloseReason::WrongProtocol => "wrong_protocol",
        }
    }

    /// Whether a device that was closed for this reason may try the same credentials again.
    #[must_use]
    pub const fn may_retry(self) -> bool {
        !matches!(
            self,
            CloseReason::UnknownApp
                | CloseReason::BadToken
                | CloseReason::ExpiredToken
                | CloseReason::RevokedToken
                | CloseReason::BadClientId
                | CloseReason::UnsupportedVersion
                | CloseReason::TakenOver
        )
    }
}
