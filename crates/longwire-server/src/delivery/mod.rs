//! The hub: login, takeover, push, fan-out, ack, backlog, receipts. The only caller of the store.
//!
//! - [`hub`]: what the API asks, and what its parts share.
//! - `audience`: whom it meets, or an estimate.
//! - `push`: a push from audience to receipt.
//! - `recall`: taking one back; `books`: whether every delivery is accounted for; `upstream`: what devices sent; `story`: what became of a message.
//! - `once`: pushes with a key of the caller; `order`: many pushes in their order.
//! - `devices`: registration, changes and removal of devices; profiles kept equal to the registry.
//! - `app_policies`: what is set for an app, one thing at a time.
//! - [`people`]: apps from making to end, keys, the audit log; `quotas`: what apps may have and do.
//! - `dispatcher`: durable messages to the shards, in the order of commits.
//! - `auth`: who an MQTT client is.
//! - [`border`]: commands to the shards and events from them; the port that the gate serves.
//! - `posts`: waiting for room in a shard's queue.
//! - `pump`: events of a shard: logins, pulls, acks, ends of connections.
//! - `memory`: session table, live counts, tags, ids.
//! - `topics`: kept sessions, shared groups, retained messages, wills.
//! - [`truth`]: stories, receipts, presence, and whom they are sent to.
//! - [`over_time`]: schedules, and messages that are spread.
//! - [`HubStats`]: what is counted.

mod app_policies;
mod audience;
mod auth;
mod books;
pub mod border;
mod devices;
mod dispatcher;
pub mod hub;
mod memory;
mod once;
mod order;
pub mod over_time;
pub mod people;
mod posts;
mod pump;
mod push;
mod quotas;
mod recall;
mod stats;
mod story;
mod topics;
pub mod truth;
mod upstream;

pub use quotas::{Allowance, AppMeter, Usage};
pub use topics::PUBLISH_LABELS;

pub use auth::{AUTOMATIC_DEVICES_MAX, AuthOptions, SESSION_EXPIRY_DEFAULT_S, SESSION_EXPIRY_MAX_S};
pub use stats::{
    AUDIENCE_LABELS, CALL_OUT_LABELS, FEEDBACK_LABELS, HubStats, UPSTREAM_LABELS, WEBHOOK_LABELS,
};
