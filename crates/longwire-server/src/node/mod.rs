//! Puts the rooms together: configuration, start order, drain, telemetry.
//!
//! - [`config`]: the configuration: where it comes from, what it may be, how it is told.
//! - [`start`]: rooms opened in order, and closed in the opposite one.
//! - [`telemetry`]: logs; `metrics`: what `/metrics` shows.
//! - `watch`: the watchdog over the shards.
//! - `clock`, `descriptors`: what a node takes from the system.

mod clock;
pub mod config;
mod descriptors;
mod metrics;
pub mod start;
pub mod telemetry;
mod watch;

pub use config::{Config, Layers};
pub use start::{AppSeed, Running, ServeError, ServeOptions, runtime, serve};
