//! Business words: app, device, audience, message, outcome. No async, no clock, no I/O; every value of these types is
//! valid, because it was parsed into being.

mod app;
pub mod app_settings;
pub mod audience;
mod counts;
pub mod device;
pub mod device_change;
pub mod heartbeat;
pub mod login_ways;
pub mod message;
mod rfc3339;
pub mod schedule;
mod tally;
mod token;
pub mod topic;

pub use app::{App, AppId, AppKey, AppSecret, DuplicateLogin, SecretHash};
pub use app_settings::{AppSettings, FrequencyCap, ReceiptMode, Webhook, WebhookSecret};
pub use audience::{Audience, Condition, Filter};
pub use counts::{Counts, DropReason, Dropped};
pub use device::{Alias, Device, DeviceName, Registration, Tag};
pub use device_change::{AliasChange, ChangeRefused, DeviceChange};
pub use heartbeat::{AssignedHeartbeat, HeartbeatPolicy, HeartbeatProfile, HeartbeatRules};
pub use login_ways::LoginWays;
pub use message::{Content, MessageRecord, Priority, Push, Recalled, Target};
pub use rfc3339::rfc3339;
pub use schedule::{ScheduleId, Trigger};
pub use tally::Tally;
pub use token::{Token, TokenFault, TokenKey};

pub use longwire_proto::id::{ClientId, Kind, MessageId, Position, Source, TraceId};

/// A text from outside does not make a value of the domain; says which field, and why, for the caller.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// The field in the caller's words, for example `audience.tag[0]`.
    pub field: String,
    /// What is wrong and what is allowed.
    pub problem: String,
}

impl Invalid {
    /// A fault of `field`.
    pub fn new(field: impl Into<String>, problem: impl Into<String>) -> Invalid {
        Invalid { field: field.into(), problem: problem.into() }
    }
}

/// Wall-clock milliseconds since 1970, advanced by the monotonic clock while the process lives, so that a jump of the
/// wall clock never expires a message early (P13).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct WallMs(pub u64);
