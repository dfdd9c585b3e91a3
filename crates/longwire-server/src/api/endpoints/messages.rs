//! `GET /v1/messages/{msg_id}`.

use crate::api::Api;
use crate::api::exchange::body::Segment;
use crate::api::exchange::caller::Caller;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::rfc3339::rfc3339;
use crate::delivery::hub::MessageStory;
use crate::domain::{Kind, MessageId, Position};
use axum::extract::State;
use serde::Serialize;
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
    /// Deliveries by state.
    counts: DeliveryCounts,
}

/// Deliveries by state: created = delivered + expired + collapsed + recalled +
/// dropped + pending. A delivery is created when a message meets a
/// device: at acceptance for addressed audiences, when the device reads it for the others.
#[derive(Serialize, ToSchema)]
struct DeliveryCounts {
    /// Deliveries that exist.
    created: u64,
    /// Times that it was given to a connection, repeats included, since the node started.
    sent: u64,
    /// The device said that it has it.
    delivered: u64,
    /// Expired before that.
    expired: u64,
    /// Replaced before that by a newer one.
    collapsed: u64,
    /// Recalled before that.
    recalled: u64,
    /// Dropped.
    dropped: u64,
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
    let id = MessageId::parse(&id).ok_or_else(|| Fault::invalid("msg_id: must be 32 hexadecimal digits"))?;
    let found = api.hub.message(&caller.app, id).await?;
    let story = found.ok_or_else(|| Fault::not_found("no such message"))?;
    Ok(axum::Json(answer(id, &story)))
}

fn answer(id: MessageId, story: &MessageStory) -> MessageAnswer {
    let record = &story.view.record;
    let in_log = record.log_position != Position::START;
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
        counts: counts(story),
    }
}

fn counts(story: &MessageStory) -> DeliveryCounts {
    // The hub has added what it alone knows: log deliveries in live windows, and what was dropped of an online-only message.
    let known = &story.view.counts;
    DeliveryCounts {
        created: known.created,
        sent: story.sent,
        delivered: known.delivered,
        expired: known.expired,
        collapsed: known.collapsed,
        recalled: known.recalled,
        dropped: known.dropped.total(),
        displayed: known.displayed,
        clicked: known.clicked,
        dismissed: known.dismissed,
        pending: known.pending(),
    }
}
