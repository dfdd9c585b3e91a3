//! The bad minute, and the many: what the connection layer does with crowds of devices.
//!
//! - `heartbeat`: heartbeats beside a bare echo loop.
//! - `storm`: all devices lose the server at once and come back; `probing`: the API asked meanwhile.
//! - `churn`: connections ended in every way, and what is left of them; `census`: what is compared.
//! - `stall`: devices that do not read, beside devices that do.
//! - `mixed`: everything at once at stated rates.
//! - `total`: as many idle connections as the memory holds, over many servers.

mod census;
pub(crate) mod churn;
pub(crate) mod heartbeat;
pub(crate) mod mixed;
mod probing;
pub(crate) mod stall;
pub(crate) mod storm;
pub(crate) mod total;
