//! How many devices a push is for, and how that was found.

use serde::{Deserialize, Serialize};

/// How the devices of an audience were counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum MatchedBy {
    /// Each was looked up.
    Exact,
    /// By the devices that are registered, and those that have a tag; times the sample.
    Counts,
    /// Of the devices that are registered, the share that fits of those connected, within what counts allow; times the sample.
    OnlineShare,
    /// Not at all: a topic, nobody is connected, or it took too long.
    #[default]
    None,
}

/// How the connected devices of an audience were counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum OnlineBy {
    /// By the shards, as connections; times the sample.
    Bitmaps,
    /// In the table of sessions: of an addressed audience each device, of `all` the app's connections, times the sample.
    Sessions,
    /// Not at all: a topic, or it took too long.
    #[default]
    None,
}

/// How many devices a push is for, as far as is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Estimate {
    /// Devices that are meant.
    pub matched: Option<u64>,
    /// How that was found.
    pub matched_by: MatchedBy,
    /// Registration ids and aliases that no device has.
    pub unknown: u64,
    /// Of the devices meant, those connected.
    pub online: Option<u64>,
    /// How that was found.
    pub online_by: OnlineBy,
    /// Until the last connected device was served, about, milliseconds.
    pub eta_ms: Option<u64>,
}

impl MatchedBy {
    /// As callers read it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            MatchedBy::Exact => "exact",
            MatchedBy::Counts => "counts",
            MatchedBy::OnlineShare => "online_share",
            MatchedBy::None => "none",
        }
    }
}

impl OnlineBy {
    /// As callers read it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            OnlineBy::Bitmaps => "bitmaps",
            OnlineBy::Sessions => "sessions",
            OnlineBy::None => "none",
        }
    }
}
