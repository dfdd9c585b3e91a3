//! Puts the rooms together: configuration, start order, drain, telemetry.
//!
//! - [`config`]: the configuration: where it comes from, what it may be, how it is told.
//! - `credentials`: the app and the admin key that are there before the ports open.
//! - [`start`]: rooms opened in order, and closed in the opposite one.
//! - [`stores`]: what must survive, opened.
//! - [`telemetry`]: logs, through `log_queue`; `metrics`: what `/metrics` shows.
//! - `operator`: the node as its operator reaches it.
//! - `watch`: the watchdog over the shards.
//! - `clock`, `descriptors`: what a node takes from the system.
//! - [`machine`]: what the kernel tells about the machine; [`capacity`]: how many connections it carries.
//! - `service`: words to the service manager.

pub mod capacity;
mod clock;
pub mod config;
mod credentials;
mod descriptors;
mod log_queue;
pub mod machine;
mod metrics;
mod operator;
mod service;
pub mod start;
pub mod stores;
pub mod telemetry;
mod watch;

pub use config::{Config, Layers};
pub use credentials::{AppSeed, fresh_secret};
pub use start::{Running, ServeError, ServeOptions, open_certificates, runtime, serve};
