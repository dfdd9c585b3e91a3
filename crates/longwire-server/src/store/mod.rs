//! What must survive: mailboxes, logs, message records and device profiles in the message store; apps and devices in
//! the registry. Only the hub calls this room.
//!
//! - [`port`]: what the message store is asked and answers, as data, so that another engine can take the same questions.
//! - [`messages`]: the embedded engine (fjall) on threads of its own, with group commit.
//! - [`upstream`]: the same for what devices send to the business.
//! - [`sessions`]: the same for sessions that outlive their connections, and retained messages.
//! - [`pace`]: the same for schedules, and messages that are spread over time.
//! - [`truth`]: the same for stories of deliveries, receipts, and presence.
//! - [`registry`]: apps and devices in SQL (SQLite; the dialect apart).

mod lock;
pub mod messages;
pub mod pace;
pub mod port;
pub mod registry;
pub mod sessions;
pub mod truth;
pub mod upstream;
