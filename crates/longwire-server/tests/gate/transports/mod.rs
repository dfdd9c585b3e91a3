//! What lies between socket and conversation, on one port.

#[allow(dead_code, reason = "shared with the tests of the parts, which use more of it")]
#[path = "../../transport/certificates.rs"]
mod certificates;
mod client;
mod mqtt;
mod proxy;
mod secure;
mod websocket;
