//! What a listener takes, and from whom.

use super::detect::Spoken;
use super::tls::TlsTerms;
use super::upgrade::UpgradeRules;
use super::{Detected, detect};
use longwire_proto::wire::websocket::{Peer, Rules};
use std::net::IpAddr;
use std::sync::Arc;

/// Payload of one WebSocket message, bytes; more is refused with 1009 at its header. Nothing is held of a message, and frames and
/// packets have limits of their own.
const MESSAGE_BYTES_MAX: u32 = 1024 * 1024;
/// Ping and Pong frames within [`CONTROLS_INTERVAL_S`]; one more is refused with 1008.
const CONTROLS_MAX: u8 = 20;
/// The interval of the bound on Ping and Pong frames, seconds.
pub(in crate::gate) const CONTROLS_INTERVAL_S: u32 = 10;

/// What frames of a WebSocket may be.
pub(super) const FRAMES: Rules =
    Rules { peer: Peer::Client, message_bytes_max: MESSAGE_BYTES_MAX, controls_max: CONTROLS_MAX };

/// What a listener takes; shared by all shards.
#[derive(Clone, Debug, Default)]
pub struct ListenerTerms {
    /// Protocols taken; others are closed with `wrong_protocol`.
    pub accepts: Accepts,
    /// Addresses of load balancers: what comes from them begins with a PROXY header; what comes from elsewhere must not.
    pub proxies: Vec<IpAddr>,
    /// Which WebSocket requests are taken.
    pub upgrade: UpgradeRules,
    /// Certificates; without them TLS is not taken.
    pub tls: Option<Arc<TlsTerms>>,
}

/// Protocols that a listener takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepts {
    /// Native frames, plain or inside what else is taken.
    pub native: bool,
    /// MQTT, the same.
    pub mqtt: bool,
    /// WebSocket, plain or inside TLS.
    pub websocket: bool,
    /// TLS, if there are certificates.
    pub tls: bool,
    /// Native frames, MQTT and WebSocket outside TLS too.
    pub plain: bool,
    /// Native frames and MQTT outside a WebSocket too.
    pub bare: bool,
}

impl Default for Accepts {
    fn default() -> Self {
        Accepts { native: true, mqtt: true, websocket: true, tls: true, plain: true, bare: true }
    }
}

impl ListenerTerms {
    /// Whether this peer must say with a PROXY header for whom it stands.
    #[must_use]
    pub fn is_proxy(&self, peer: IpAddr) -> bool {
        !self.proxies.is_empty() && self.proxies.contains(&peer.to_canonical())
    }

    /// Whether these first bytes are a session's own: then the connection has no layers.
    #[must_use]
    pub fn goes_straight(&self, bytes: &[u8]) -> bool {
        match detect(bytes) {
            Detected::Is(spoken @ (Spoken::Native | Spoken::Mqtt)) => self.takes(spoken, false),
            _ => false,
        }
    }

    /// Whether a WebSocket may carry this.
    pub(super) fn carries(&self, spoken: Spoken) -> bool {
        match spoken {
            Spoken::Native => self.accepts.native,
            Spoken::Mqtt => self.accepts.mqtt,
            Spoken::WebSocket | Spoken::Tls | Spoken::Proxy => false,
        }
    }

    /// Whether this may begin a connection, or what is inside its TLS.
    pub(super) fn takes(&self, spoken: Spoken, inside_tls: bool) -> bool {
        let taken = match spoken {
            Spoken::Native => self.accepts.native && self.accepts.bare,
            Spoken::Mqtt => self.accepts.mqtt && self.accepts.bare,
            Spoken::WebSocket => self.accepts.websocket,
            Spoken::Tls => return self.accepts.tls && self.tls.is_some() && !inside_tls,
            Spoken::Proxy => return false,
        };
        taken && (inside_tls || self.accepts.plain)
    }
}
