//! The readers: a few threads that answer from snapshots, so that no task of the runtime waits for a disk.
//!
//! - [`reader`]: the threads and their questions.
//! - [`login`]: where a device stands.
//! - [`page`]: what waits after a position; `ahead`: what comes ahead of its turn.
//! - [`lookup`]: names, aliases, messages, devices.
//! - [`devices`]: lists of devices and tags.

mod ahead;
pub(crate) mod devices;
pub(crate) mod login;
pub(crate) mod lookup;
pub(crate) mod page;
pub(crate) mod reader;
