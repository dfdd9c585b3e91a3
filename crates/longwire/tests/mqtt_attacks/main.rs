//! Peers that mean harm to MQTT, its transports and its topics (`docs/attacks.md`): each is bounded, its end has a named reason,
//! an honest device beside it gets its messages, and the server holds nothing of it when it is over. What single packets can
//! do wrong is in `mqtt_conformance`.
//!
//! - `slow`: peers that stop half way, in every phase.
//! - `sizes`: lengths that are announced, and wills.
//! - `topics`: many subscriptions, wildcards, deep topics, what is retained.
//! - `growth`: state that a peer could make grow: QoS 2, windows, groups, sessions.
//! - `wills`: many at once, and to topics that are not the device's.
//! - `rates`: floods.
//! - `text`: what is no text, or looks like other text.
//! - `frames`: WebSocket.
//! - `door`: refusals before the login, each in the words of who is refused.
//! - `kit`: peers that speak bytes, honest clients, what a server shows.
//! - `packets`: packets as bytes.

#![allow(clippy::unwrap_used)]

mod door;
mod frames;
mod growth;
mod kit;
mod packets;
mod rates;
mod sizes;
mod slow;
mod text;
mod topics;
mod wills;

#[path = "../support/mod.rs"]
mod support;
