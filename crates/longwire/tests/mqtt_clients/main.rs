//! MQTT clients of others against a real server: mosquitto_pub and mosquitto_sub, paho-mqtt and aiomqtt (Python), MQTT.js (Node,
//! and a page in headless Chromium) and rumqttc (Rust). `cargo xtask clients` installs them; `cargo xtask test` calls it.
//!
//! Each client goes through: every QoS, retained messages, wills, a session that outlives a `kill -9` of the server, a shared
//! subscription, TLS with its own certificate, and nginx with PROXY headers; in 3.1.1 and 5.0.
//!
//! - `kit`: where the clients are, and how a flow of one is run.
//! - `stage`: servers for TLS and nginx; `loopback`: a small HTTP server beside them.
//! - `scripts`: Python and Node; `browser`: the page; `mosquitto`, `rumqttc`: the others.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod browser;
mod kit;
mod loopback;
mod mosquitto;
mod rumqttc;
mod scripts;
mod stage;

#[path = "../support/mod.rs"]
mod support;
