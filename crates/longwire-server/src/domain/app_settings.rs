//! What an operator or the app's owner sets for an app beside its credentials; one JSON object in its row of the registry.

use super::Invalid;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Webhooks of one app.
pub const WEBHOOKS_MAX: usize = 4;

/// The settings of an app. A field that is not there has its default, so an older row reads on.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AppSettings {
    /// Devices may bind their own alias, and add and remove their own tags and attributes.
    pub self_service: bool,
    /// What goes into its stream of receipts.
    pub receipts: ReceiptMode,
    /// Its devices' comings and goings are a stream.
    pub presence: bool,
    /// Where its streams are sent, at most [`WEBHOOKS_MAX`].
    pub webhooks: Vec<Webhook>,
    /// How many messages a device gets in a span of time; `None`: as many as come.
    pub frequency_cap: Option<FrequencyCap>,
}

/// What goes into an app's stream of receipts. A message with `callback` has all of it, whatever this says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReceiptMode {
    /// Nothing.
    #[default]
    Off,
    /// How each delivery ended.
    Ends,
    /// That, and what devices say of it: displayed, clicked, dismissed.
    All,
}

/// A place outside that an app's streams are sent to.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Webhook {
    /// Its name within the app: 1 to 32 letters, digits, `-`, `_`.
    pub id: String,
    /// Where to.
    pub url: String,
    /// What its requests are signed with.
    pub secret: WebhookSecret,
    /// Receipts are sent.
    pub receipts: bool,
    /// Presence is sent.
    pub presence: bool,
}

/// What a webhook's requests are signed with; never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WebhookSecret(pub String);

impl std::fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// At most so many stored notifications and messages of normal priority to a device in a span that begins with the first of them. What is
/// over is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FrequencyCap {
    /// Messages, within [`FrequencyCap::MESSAGES`].
    pub messages: u32,
    /// The span, seconds, within [`FrequencyCap::PER_S`].
    pub per_s: u32,
}

impl FrequencyCap {
    /// Messages that may be set.
    pub const MESSAGES: RangeInclusive<u32> = 1..=1000;
    /// Seconds that may be set.
    pub const PER_S: RangeInclusive<u32> = 60..=86_400;

    /// # Errors
    /// Out of its range.
    pub fn new(messages: u64, per_s: u64) -> Result<FrequencyCap, Invalid> {
        let within = |field: &str, value: u64, range: RangeInclusive<u32>| {
            let problem = || Invalid::new(field, format!("must be {} to {}", range.start(), range.end()));
            u32::try_from(value).ok().filter(|value| range.contains(value)).ok_or_else(problem)
        };
        Ok(FrequencyCap {
            messages: within("frequency_cap.messages", messages, Self::MESSAGES)?,
            per_s: within("frequency_cap.per_s", per_s, Self::PER_S)?,
        })
    }
}
