//! Devices through the HTTP API of a running server, and through the devices themselves.
//!
//! - `manage`: what a caller of the API changes, lists and removes.
//! - `refused`: what it may not, and what is not its own.
//! - `command`: the same by the command.
//! - `own`: what devices change of themselves, native and MQTT, where their app lets them.

#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod command;
mod manage;
mod own;
mod refused;

use serde_json::{Value, json};
use support::{Answer, TestServer};

/// A request without a body, or with one.
#[track_caller]
fn ask(server: &TestServer, method: &str, path: &str, body: Option<&Value>) -> Answer {
    let body = body.map(Value::to_string);
    server.api.request(method, path, body.as_deref().map(str::as_bytes)).unwrap()
}

#[track_caller]
fn good(server: &TestServer, method: &str, path: &str, body: Option<&Value>) -> Value {
    let answer = ask(server, method, path, body);
    assert!((200..300).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.text);
    answer.json
}

/// Changes a device.
#[track_caller]
fn change(server: &TestServer, name: &str, body: &Value) -> Value {
    good(server, "POST", &format!("/v1/devices/{name}"), Some(body))
}

/// The names of a page's devices.
fn names(page: &Value) -> Vec<&str> {
    let devices = page["devices"].as_array().unwrap();
    devices.iter().map(|device| device["registration_id"].as_str().unwrap()).collect()
}

fn tag(tag: &str) -> Value {
    json!({ "tag": [tag] })
}
