//! What the hub keeps in memory. Nothing in here waits, and every map has a bound.
//!
//! - [`senders`]: how fast each device sends.
//! - [`sessions`]: client id → the connections that are the device's now.
//! - `company`: what is kept of a device with more than one connection.
//! - [`deciding`]: logins of one shard that are being decided, and those just decided.
//! - [`guard`]: who displaces or fails too often.
//! - [`returns`]: devices that come back.
//! - [`labels`]: tags and attributes as small numbers.
//! - [`live`]: what became of recent messages on live connections.
//! - [`meters`]: what each app has and does.
//! - [`ids`]: message ids.

mod company;
pub(super) mod deciding;
pub(super) mod guard;
pub(super) mod ids;
pub(super) mod labels;
pub(super) mod live;
pub(super) mod meters;
pub(super) mod returns;
pub(super) mod senders;
pub(super) mod sessions;
