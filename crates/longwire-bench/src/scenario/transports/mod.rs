//! What TLS and WebSocket cost and withstand, and everything on one port.
//!
//! - `handshake`: TLS handshakes of the server, beside those of the bare `library`; `shaking`: its clients.
//! - `stalled`: handshakes that never end (`stalls`), beside devices that mean it (`honest`).
//! - `all`: devices of every protocol through every transport at one listener.

pub(crate) mod all;
pub(crate) mod handshake;
mod honest;
mod library;
mod shaking;
pub(crate) mod stalled;
mod stalls;
