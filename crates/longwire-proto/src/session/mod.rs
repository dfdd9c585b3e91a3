//! What a conversation may do next, with no socket and no clock.
//!
//! - `server`: the server's end. The login states are types: [`AwaitingConnect`] → [`Deciding`] → [`Established`].
//! - `feed`: how far one source has been sent in this session, and whether more waits in the store.
//! - `window`: what was sent and not yet acked.
//! - `rate`: how much a device may send.
//! - `client`: the device's end; `talk` is what each frame means for it (login, dedup, order), `heartbeat` when it beats,
//!   `memory` what outlives its connection.

mod client;
mod feed;
mod heartbeat;
mod memory;
mod rate;
mod server;
mod talk;
mod window;

pub use client::{ClientSession, Credentials, FromServer, Tick};
pub use feed::{FeedStart, Pull};
pub use heartbeat::HeartbeatPlan;
pub use memory::Memory;
pub use rate::{InboundLimits, InboundRate, Pace, Ping};
pub use server::{AwaitingConnect, Deciding, Established, FromDevice, Offer, PageEntry, Settled};

/// Monotonic milliseconds since any fixed moment; the caller's clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Millis(pub u64);
