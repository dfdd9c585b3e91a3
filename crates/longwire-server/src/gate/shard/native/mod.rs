//! Conversations of devices that speak the native protocol.
//!
//! - `frames`: CONNECT, and frames of devices that are logged in.
//! - `topics`: what they subscribe to and publish, and what they get of it.

mod frames;
mod topics;
