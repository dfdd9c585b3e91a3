//! The hub: login, takeover, push, fan-out, ack, backlog, receipts. The only caller of the store.
//!
//! - [`border`]: commands to the shards and events from them; the port that the gate serves.
//! - [`hub`]: what the API asks.

pub mod border;
pub mod hub;
