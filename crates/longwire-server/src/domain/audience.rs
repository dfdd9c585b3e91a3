//! Whom a push is for.

use super::topic::TopicName;
use super::{Alias, DeviceName, Tag};

/// Entries of `registration_id` or `alias` in one push.
pub const ADDRESSES_MAX: usize = 1000;
/// Tags in one expression.
pub const TAGS_IN_AUDIENCE_MAX: usize = 20;

/// Whom a push is for. Addressed audiences (devices, aliases) put references into mailboxes; the others go once to the
/// app's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Audience {
    /// These registration ids, 1 to [`ADDRESSES_MAX`].
    Devices(Vec<DeviceName>),
    /// All devices of these aliases, 1 to [`ADDRESSES_MAX`].
    Aliases(Vec<Alias>),
    /// Devices with at least one of these tags, 1 to [`TAGS_IN_AUDIENCE_MAX`], sorted, without repeats.
    AnyTag(Vec<Tag>),
    /// Every device of the app.
    All,
    /// Whoever subscribed to a topic.
    Topic(TopicName),
}
