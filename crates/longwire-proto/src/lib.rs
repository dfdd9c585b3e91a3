//! Bytes ⇄ frames ⇄ conversation, for both ends of the Longwire device protocols.
//!
//! In data-path order:
//!
//! - [`limit`]: every size limit of the wire, with what happens at it.
//! - [`id`]: the ids that cross the wire.
//! - [`wire`]: one frame at a time, bytes in and out.
//! - [`session`]: what a conversation may do next: login, window, acks, heartbeats.
//! - [`close`]: the one list of reasons for which a connection ends.
//!
//! Nothing here sleeps, spawns, reads a clock, logs, or allocates in proportion to a length that a peer
//! merely announced. Time is an argument.

pub mod close;
pub mod id;
pub mod limit;
pub mod session;
pub mod wire;
