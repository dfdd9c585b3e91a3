//! `GET /v1/messages/{msg_id}`.

use super::spread::SpreadAnswer;
use crate::api::Api;
use crate::api::exchange::body::Segment;
use crate::api::exchange::caller::Caller;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::rfc3339::rfc3339;
use crate::delivery::hub::MessageStory;
use crate::domain::{DropReason, Dropped, Kind, MessageId, Position};
use axum::extract::State;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// A message and what became of it.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct MessageAnswer {
    /// Its id.
    msg_id: String,
    /// The trace that it belongs to.
    trace_id: String,
    /// `notification`, `text`, `custom`, `topic` or `recall`.
    kind: &'static str,
    /// `addressed` (registration ids, aliases) or `log` (all, tags).
    audience: &'static str,
    /// When it was accepted.
    #[schema(format = DateTime)]
    accepted_at: String,
    /// When it expires.
    #[schema(format = DateTime)]
    expires_at: String,
    /// Its ttl is 0: it was never stored, and these counts are lost when the node stops.
    online_only: bool,
    /// Its collapse key; empty: none.
    collapse_key: String,
    /// The message that it replaces; null: none.
    #[schema(example = json!(null))]
    replaces: Option<String>,
    /// It was recalled.
    recalled: bool,
    /// Deliveries by state.
    counts: DeliveryCounts,
    /// How far it is, if it is spread over time.
    #[serde(skip_serializing_if = "Option::is_none")]
    spread: Option<SpreadAnswer>,
}

/// Deliveries by state: created = delivered + expired + collapsed + recalled +
/// dropped + pending. A delivery is created when a message meets a
/// device: at acceptance for addressed audiences, when the device reads it for the others.
#[derive(Serialize, ToSchema)]
struct DeliveryCounts {
    /// Deliveries that exist.
    #[schema(example = 41)]
    created: u64,
    /// The same: a delivery that exists was accepted.
    #[schema(example = 41)]
    accepted: u64,
    /// Devices that it was refused for at once, because their mailbox was full: no delivery.
    #[schema(example = 0)]
    rejected: u64,
    /// Pending, and in no live window.
    #[schema(example = 3)]
    held: u64,
    /// Times that it was given to a connection, repeats included, since the node started.
    #[schema(example = 40)]
    sent: u64,
    /// The same as delivered: a device says it once.
    #[schema(example = 38)]
    acked: u64,
    /// The device said that it has it.
    #[schema(example = 38)]
    delivered: u64,
    /// Expired before that.
    expired: u64,
    /// Replaced before that by a newer one.
    collapsed: u64,
    /// Recalled before that.
    recalled: u64,
    /// Dropped.
    dropped: u64,
    /// Dropped, by reason; what is not here is 0.
    #[schema(example = json!({"session_ended": 1}))]
    dropped_by_reason: BTreeMap<&'static str, u64>,
    /// Devices that said that a person could see it.
    displayed: u64,
    /// Devices that said that a person acted on it.
    clicked: u64,
    /// Devices that said that a person put it away.
    dismissed: u64,
    /// Without an end.
    pending: u64,
}

/// A message and what became of it.
#[utoipa::path(
    get, path = "/v1/messages/{msg_id}", tag = "messages",
    params(("msg_id" = String, Path, description = "32 hexadecimal digits.")),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = MessageAnswer, description = "The message."),
        (status = 400, body = FaultBody, description = "Not a message id."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 404, body = FaultBody, description = "This app has no such message, or its record is past retention."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 503, body = FaultBody, description = "The store is unavailable."),
    )
)]
pub(in crate::api) async fn message(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<axum::Json<MessageAnswer>, Fault> {
    let id = message_id(&id)?;
    let found = api.hub.message(&caller.app, id).await?;
    let story = found.ok_or_else(|| Fault::not_found("no such message"))?;
    let spread = story.view.spreading.as_ref().map(|spread| SpreadAnswer::of(api.hub.spread_state(spread)));
    Ok(axum::Json(answer(id, &story, spread)))
}

/// A message id in a path.
pub(super) fn message_id(text: &str) -> Result<MessageId, Fault> {
    MessageId::parse(text).ok_or_else(|| Fault::invalid("msg_id: must be 32 hexadecimal digits"))
}

fn answer(id: MessageId, story: &MessageStory, spread: Option<SpreadAnswer>) -> MessageAnswer {
    let record = &story.view.record;
    // Of one that is spread, nothing may be in the log yet.
    let in_log = record.log_position != Position::START || spread.is_some();
    MessageAnswer {
        msg_id: id.to_string(),
        trace_id: record.trace.to_string(),
        kind: match record.kind {
            Kind::Notification => "notification",
            Kind::Text => "text",
            Kind::Custom => "custom",
            Kind::Topic => "topic",
            Kind::Recall => "recall",
        },
        audience: if in_log { "log" } else { "addressed" },
        accepted_at: rfc3339(record.accepted_at),
        expires_at: rfc3339(record.deadline),
        online_only: story.online_only,
        collapse_key: record.collapse_key.to_string(),
        replaces: record.replaces.map(|replaced| replaced.to_string()),
        recalled: record.recalled.is_some(),
        counts: counts(story),
        spread,
    }
}

/// What was dropped, by reason.
pub(super) fn by_reason(dropped: &Dropped) -> BTreeMap<&'static str, u64> {
    let reasons = DropReason::ALL.into_iter().zip(dropped.0).filter(|(_, count)| *count > 0);
    reasons.map(|(reason, count)| (reason.label(), count)).collect()
}

fn counts(story: &MessageStory) -> DeliveryCounts {
    // The hub has added what it alone knows: log deliveries in live windows, and what was dropped of an online-only message.
    let known = &story.view.counts;
    DeliveryCounts {
        created: known.created,
        accepted: known.created,
        rejected: story.view.record.refused.into(),
        held: known.pending().saturating_sub(story.in_flight),
        sent: story.sent,
        acked: known.delivered,
        delivered: known.delivered,
        expired: known.expired,
        collapsed: known.collapsed,
        recalled: known.recalled,
        dropped: known.dropped.total(),
        dropped_by_reason: by_reason(&known.dropped),
        displayed: known.displayed,
        clicked: known.clicked,
        dismissed: known.dismissed,
        pending: known.pending(),
    }
}
