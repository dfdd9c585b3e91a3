//! The proxy from outside: a client, a server behind it, and the API between them.
//!
//! - `rig`: a running proxy, the sockets around it, the words to its API.
//! - `toxics`: what each toxic does to bytes and to the end of a stream.
//! - `interface`: the API and the command.
#![allow(clippy::unwrap_used)]

mod interface;
mod rig;
mod toxics;
