//! An event as callers read it: the same in pages, in SSE and in webhooks.

use crate::domain::{Position, rfc3339};
use crate::store::truth::{PresenceEvent, PresenceState, Receipt};
use serde::Serialize;
use utoipa::ToSchema;

/// A place in a stream as callers write it: 16 hexadecimal digits.
#[must_use]
pub fn cursor(position: Position) -> String {
    format!("{:016x}", position.0)
}

/// What became of a delivery, or what its device says of it.
#[derive(Serialize, ToSchema)]
pub struct ReceiptBody {
    /// Its place: 16 hexadecimal digits, rising within an app.
    #[schema(example = "0001000000000007")]
    pub cursor: String,
    /// The message.
    pub msg_id: String,
    /// The device; null if it is gone.
    #[schema(example = "device-1")]
    pub registration_id: Option<String>,
    /// `delivered`, `expired`, `collapsed`, `recalled`, `dropped`; `displayed`, `clicked`, `dismissed`.
    #[schema(example = "delivered")]
    pub state: &'static str,
    /// Why it was dropped; else null.
    pub reason: Option<&'static str>,
    /// When.
    #[schema(format = DateTime)]
    pub at: String,
    /// The message's trace.
    pub trace_id: String,
    /// The caller's word for the message; null if there was none.
    pub analytics_label: Option<String>,
}

impl From<&Receipt> for ReceiptBody {
    fn from(receipt: &Receipt) -> ReceiptBody {
        ReceiptBody {
            cursor: cursor(receipt.position),
            msg_id: receipt.message.to_string(),
            registration_id: receipt.device.as_ref().map(|name| name.as_str().to_owned()),
            state: receipt.told.label(),
            reason: receipt.told.reason(),
            at: rfc3339(receipt.at),
            trace_id: receipt.trace.to_string(),
            analytics_label: Some(receipt.label.to_string()).filter(|label| !label.is_empty()),
        }
    }
}

/// A device came or went.
#[derive(Serialize, ToSchema)]
pub struct PresenceBody {
    /// Its place: 16 hexadecimal digits, rising within an app.
    #[schema(example = "0001000000000007")]
    pub cursor: String,
    /// `online`, `offline`; `lost`: events were not written, because too many came at once.
    #[schema(example = "online")]
    pub state: &'static str,
    /// The device; null if it is gone, and for `lost`.
    #[schema(example = "device-1")]
    pub registration_id: Option<String>,
    /// Rises with each login of the device; an `offline` has that of the login that it ends. Null for `lost`.
    pub epoch: Option<u64>,
    /// How many events `lost` stands for.
    pub lost: Option<u64>,
    /// `login`; of `offline`, why its last connection ended, or `not_seen_since_restart`. Null for `lost`.
    #[schema(example = "login")]
    pub reason: Option<String>,
    /// Where it was connected.
    pub node: String,
    /// When.
    #[schema(format = DateTime)]
    pub at: String,
}

impl PresenceBody {
    /// An event of this node.
    #[must_use]
    pub fn new(event: &PresenceEvent, node: &str) -> PresenceBody {
        let lost = event.state == PresenceState::Lost;
        PresenceBody {
            cursor: cursor(event.position),
            state: event.state.label(),
            registration_id: event.device.as_ref().map(|name| name.as_str().to_owned()),
            epoch: (!lost).then_some(event.epoch),
            lost: lost.then_some(event.epoch),
            reason: (!lost).then(|| event.reason.to_string()),
            node: node.to_owned(),
            at: rfc3339(event.at),
        }
    }
}
