//! Puts the rooms together: configuration, start order, drain, telemetry.
//!
//! - [`settings`]: the one table of settings.
//! - [`layers`]: file, environment and flags over the defaults.
//! - [`config`]: the configuration, typed and checked as a whole.
//! - [`manual`]: the settings told to people.
//! - [`start`]: rooms opened in order, and closed in the opposite one.
//! - [`telemetry`]: logs; `metrics`: what `/metrics` shows.
//! - `clock`, `descriptors`: what a node takes from the system.

mod clock;
pub mod config;
mod descriptors;
pub mod layers;
pub mod manual;
mod metrics;
pub mod settings;
pub mod start;
pub mod telemetry;

pub use config::Config;
pub use layers::Layers;
pub use start::{AppSeed, Running, ServeError, ServeOptions, runtime, serve};
