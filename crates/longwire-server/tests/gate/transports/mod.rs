//! What lies between socket and conversation, on one port.

mod client;
mod websocket;
