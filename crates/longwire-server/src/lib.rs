//! The Longwire server, as rooms in data-path order. Arrows go down only (`tests/house.rs` holds them).
//!
//! - [`node`]: configuration, start order, drain, telemetry; it puts the other rooms together.
//! - [`api`]: HTTP: push, devices, messages, probes, metrics.
//! - [`gate`]: listeners, shards, connections, outboxes, timing wheel.
//! - [`delivery`]: the hub: login, takeover, push, fan-out, ack, backlog; the only caller of the store.
//! - [`store`]: mailboxes and logs (fjall), registry (SQL).
//! - [`planted`]: faults for the tests of tests; not in a build that anybody runs.
//! - [`domain`]: app, device, audience, message, outcome: business words, no async, no clock.

pub mod api;
pub mod delivery;
pub mod domain;
pub mod gate;
pub mod node;
pub mod planted;
pub mod store;
