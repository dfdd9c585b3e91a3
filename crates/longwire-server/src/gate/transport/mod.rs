//! What lies between a socket's bytes and a session: each part takes bytes and gives bytes, without sockets and clocks, and
//! holds nothing for a connection at rest. `docs/transports.md` says how a shard puts them together.
//!
//! - [`detect`](detect()): what a peer speaks, from its first bytes.
//! - `proxy`: the header in which a load balancer names the peer.
//! - `tls`: records in, plaintext out, and back; certificates.
//! - `upgrade`: the HTTP request for a WebSocket; its frames are `longwire_proto::wire::websocket`.
//! - `refused`: what a peer is told that is refused before its login.
//! - `listener`: what a listener takes, and from whom.
//! - `layers`: all of it on one connection.

mod detect;
mod layers;
mod listener;
mod proxy;
mod refused;
mod tls;
mod upgrade;

pub use detect::{DETECT_BYTES_MAX, Detected, Spoken, detect};
pub use layers::{HandshakeTurn, LayerBuffers, Layers};
pub(in crate::gate) use listener::CONTROLS_INTERVAL_S;
pub use listener::{Accepts, ListenerTerms};
pub use proxy::{
    Origin, PROXY_BYTES_MAX, PROXY_V1_BYTES_MAX, PROXY_V2_BODY_BYTES_MAX, Proxied, ProxyError, read_proxy,
};
pub(in crate::gate) use refused::{Refused, UNCLEAR_BYTES_MAX};
pub use tls::{
    Clients, HANDSHAKE_BYTES_MAX, Subject, TLS_RECORD_BYTES_MAX, TlsConnection, TlsError, TlsFileError,
    TlsFiles, TlsProgress, TlsTerms, sealed_bytes_max,
};
pub use upgrade::{Subprotocol, UPGRADE_BYTES_MAX, UPGRADE_HEADERS_MAX, Upgrade, UpgradeRules, read_upgrade};
