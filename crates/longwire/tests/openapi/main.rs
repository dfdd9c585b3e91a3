//! The OpenAPI document against the server that it describes.
//!
//! - `fuzzed`: schemathesis makes requests from the document, good and bad ones; no answer may be a 5xx, or one that the
//!   document does not have.
//! - `bodies`: lists where objects are meant.
//! - `verbs`: the command has a verb for what people type, and docs/cli.md says which.
//! - `strangers`: what belongs to another app is answered like what is not there.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::print_stderr)]

mod bodies;
mod fuzzed;
mod strangers;
#[path = "../support/mod.rs"]
mod support;
mod verbs;
