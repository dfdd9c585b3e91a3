//! Puts the rooms together: configuration, start order, drain, telemetry.
//!
//! - [`config`]: the configuration: where it comes from, what it may be, how it is told.
//! - `credentials`: the app and the admin key that are there before the ports open.
//! - [`start`]: rooms opened in order, and closed in the opposite one.
//! - [`telemetry`]: logs; `metrics`: what `/metrics` shows.
//! - `operator`: the node as its operator reaches it.
//! - `clock`, `descriptors`: what a node takes from the system.

mod clock;
pub mod config;
mod credentials;
mod descriptors;
mod metrics;
mod operator;
pub mod start;
pub mod telemetry;

pub use config::{Config, Layers};
pub use credentials::{AppSeed, fresh_secret};
pub use start::{Running, ServeError, ServeOptions, runtime, serve};
