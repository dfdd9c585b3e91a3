//! What the hub holds of topics in memory; each behind a lock of its own.
//!
//! - `kept`: sessions that outlive their connections, and who of them wants what.
//! - `groups`: shared subscriptions.
//! - `retained`: retained messages.
//! - `wills`: wills that wait.
//! - `resent`: messages for the business that may come again.

pub(super) mod groups;
pub(super) mod kept;
pub(super) mod resent;
pub(super) mod retained;
pub(super) mod wills;
