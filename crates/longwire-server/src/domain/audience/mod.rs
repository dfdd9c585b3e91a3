//! Whom a push is for.
//!
//! - [`condition`]: an expression over tags and attributes, as a value.
//! - [`parse`]: the expression as people write it.
//! - `estimate`: how many devices it is, and how that was found.
//! - [`filter`]: a condition with the shares of a sample and of a slice; what the log keeps and the shards ask.

pub mod condition;
mod estimate;
pub mod filter;
pub mod parse;

pub use self::condition::{Compare, Condition};
pub use self::estimate::{Estimate, MatchedBy, OnlineBy};
pub use self::filter::{Filter, Slice};

use super::topic::TopicName;
use super::{Alias, DeviceName};

/// Entries of `registration_id` or `alias` in one push.
pub const ADDRESSES_MAX: usize = 1000;
/// Tags in one list of an audience.
pub const TAGS_IN_AUDIENCE_MAX: usize = 20;

/// Whom a push is for: what is given is ANDed. With names or aliases it is *addressed* and puts references into mailboxes;
/// with a topic it goes to whoever subscribed; else it goes once to the app's log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Audience {
    /// These registration ids, 1 to [`ADDRESSES_MAX`].
    pub names: Option<Vec<DeviceName>>,
    /// All devices of these aliases, 1 to [`ADDRESSES_MAX`].
    pub aliases: Option<Vec<Alias>>,
    /// Whoever subscribed to a topic; stands alone.
    pub topic: Option<TopicName>,
    /// And only those whom this fits.
    pub filter: Filter,
    /// Only those who are connected when it is accepted.
    pub online_only: bool,
}

/// What an audience is, as a metric names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AudienceKind {
    /// Registration ids, whatever else.
    Devices,
    /// Aliases, without registration ids.
    Aliases,
    /// A condition over tags and attributes, or a sample.
    Filtered,
    /// Every device of the app.
    All,
    /// A topic.
    Topic,
}

impl Audience {
    /// Every device of the app.
    #[must_use]
    pub fn all() -> Audience {
        Audience::default()
    }

    /// These devices.
    #[must_use]
    pub fn devices(names: Vec<DeviceName>) -> Audience {
        Audience { names: Some(names), ..Audience::default() }
    }

    /// The devices of these aliases.
    #[must_use]
    pub fn aliases(aliases: Vec<Alias>) -> Audience {
        Audience { aliases: Some(aliases), ..Audience::default() }
    }

    /// Whoever subscribed to a topic.
    #[must_use]
    pub fn topic(topic: TopicName) -> Audience {
        Audience { topic: Some(topic), ..Audience::default() }
    }

    /// Devices that a condition fits.
    #[must_use]
    pub fn of(condition: Condition) -> Audience {
        Audience { filter: Filter::of(condition), ..Audience::default() }
    }

    /// What kind it is.
    #[must_use]
    pub fn kind(&self) -> AudienceKind {
        match self {
            Audience { topic: Some(_), .. } => AudienceKind::Topic,
            Audience { names: Some(_), .. } => AudienceKind::Devices,
            Audience { aliases: Some(_), .. } => AudienceKind::Aliases,
            Audience { filter, .. } if *filter == Filter::default() => AudienceKind::All,
            _ => AudienceKind::Filtered,
        }
    }

    /// The ttl of a message for it that was to live so long: what is for whoever is connected, and not addressed, is not stored.
    #[must_use]
    pub fn ttl_s(&self, wanted: u32) -> u32 {
        if self.online_only && !self.is_addressed() { 0 } else { wanted }
    }

    /// Whether it names devices, by registration id or alias.
    #[must_use]
    pub fn is_addressed(&self) -> bool {
        self.names.is_some() || self.aliases.is_some()
    }

    /// Messages for many that a push to it is: one for all, tags and conditions; none for devices that it names, and for topics.
    #[must_use]
    pub fn broadcasts(&self) -> u64 {
        u64::from(!self.is_addressed() && self.topic.is_none())
    }
}
