//! What the server promises, shown through the real binary: real sockets, real files, real signals.
//!
//! - `heartbeat`, `hostile`: bytes in and out, good and bad.
//! - `delivery`, `window`, `high`, `frequency`: what reaches a device, when, and in which order.
//! - `lifecycle`: start, stop, and data directories that cannot be used.
//! - `service`: life under a service manager, and orders to stop.
//! - `storage`, `descriptors`, `pressure`: what happens when disk, descriptors or memory run out.
//! - `api`: what is refused.
//! - `once`, `batch`: keys of callers, and many pushes at once.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod api;
mod batch;
mod delivery;
mod descriptors;
mod frequency;
mod heartbeat;
mod high;
mod hostile;
mod lifecycle;
mod once;
mod pressure;
mod service;
mod storage;
#[path = "../support/mod.rs"]
mod support;
mod window;

/// Connections that ended, by reason.
const CLOSED: &str = "longwire_connections_closed_total";
/// Connections refused at the door, by limit.
const REJECTED: &str = "longwire_accept_rejected_total";
