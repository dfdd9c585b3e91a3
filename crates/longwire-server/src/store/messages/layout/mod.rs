//! How the message store lies in the engine.
//!
//! - [`space`]: the keyspaces, and how much memory each may buffer.
//! - [`keys`]: keys; fixed fields first, at most one field of free length, so that no two things share a key.
//! - [`rows`]: the values under these keys; [`filters`]: those of the log.

pub(crate) mod filters;
pub(crate) mod keys;
pub(crate) mod rows;
pub(crate) mod space;
