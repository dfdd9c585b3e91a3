//! MQTT clients of others against a real server: mosquitto_pub and mosquitto_sub, paho-mqtt and aiomqtt (Python), MQTT.js (Node)
//! and rumqttc (Rust). `cargo xtask clients` installs them under `target/mqtt-clients`; `cargo xtask test` calls it.
//!
//! - `kit`: where the clients are, and how a flow of one is run.
//! - `scripts`: the flows of Python and Node clients; each test runs one flow of one client in both versions.
//! - `mosquitto`, `rust`: the flows of the others.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod kit;
mod mosquitto;
mod rust;
mod scripts;

#[path = "../support/mod.rs"]
mod support;
