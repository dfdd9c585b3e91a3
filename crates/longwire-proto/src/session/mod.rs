//! What a conversation may do next, with no socket and no clock.
//!
//! - `server`: the server's end. The login states are types: [`AwaitingConnect`] → [`Deciding`] → [`Established`].
//! - `deliveries`: what is on its way to a device, native or MQTT.
//! - `ahead`: high messages that go ahead of their turn.
//! - `feed`: how far one source has been sent in this session, and whether more waits in the store.
//! - `window`: what was sent and not yet acked.
//! - `rate`: how much a device may send.
//! - `client`: the device's end; `talk` is what each frame means for it (login, dedup, order), `heartbeat` when it beats,
//!   `memory` what outlives its connection.
//! - [`mqtt`]: the server's end of an MQTT conversation; [`mqtt_client`]: the client's.

mod ahead;
mod client;
mod deliveries;
mod feed;
mod heartbeat;
mod memory;
pub mod mqtt;
pub mod mqtt_client;
mod rate;
mod server;
mod talk;
mod window;

pub use client::{ClientSession, Credentials, FromServer, Tick};
pub use deliveries::{Deliveries, Offer, PageEntry, Settled};
pub use feed::{FeedStart, Pull};
pub use heartbeat::HeartbeatPlan;
pub use memory::Memory;
pub use rate::{InboundLimits, InboundRate, Pace, Ping};
pub use server::{AwaitingConnect, Deciding, Established, FromDevice};

/// Monotonic milliseconds since any fixed moment; the caller's clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Millis(pub u64);
