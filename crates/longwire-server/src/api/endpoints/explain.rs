//! `GET /v1/messages/{msg_id}/explain/{registration_id}` and `GET /v1/messages/{msg_id}/targets`.

use crate::api::Api;
use crate::api::exchange::body::{Segment, Segments};
use crate::api::exchange::caller::Caller;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::query::Query;
use crate::api::exchange::rfc3339::rfc3339;
use crate::delivery::truth::{Step, TargetState};
use crate::domain::{ClientId, DeviceName, MessageId, WallMs};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Devices in a page when nothing is said, and at most.
const TARGETS_DEFAULT: u16 = 100;
const TARGETS_MAX: u16 = 1000;

/// What happened to a message on its way to a device.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct ExplainAnswer {
    msg_id: String,
    #[schema(example = "device-1")]
    registration_id: String,
    /// How it stands. An end: `delivered`, `expired`, `collapsed`, `recalled`, `dropped`; of a delivered one what the device said last:
    /// `displayed`, `clicked`, `dismissed`. `pending`: it waits. `not_matched`: it is not for this device. `passed`: the device has read
    /// the log beyond it without it. `ended`: it has, but its story is not kept. `forgotten`: past `storage.retention`.
    #[schema(example = "delivered")]
    verdict: &'static str,
    /// In the order in which it happened.
    steps: Vec<ExplainStep>,
}

/// One step.
#[derive(Serialize, ToSchema)]
struct ExplainStep {
    /// `accepted`, `stored`, `matched`, `not_matched`, `online`, `offline`, `waiting`, `not_due`, `sent`, `acked`, `displayed`, `clicked`,
    /// `dismissed`, `expired`, `collapsed`, `recalled`, `dropped`, `passed`, `ended`, `forgotten`.
    #[schema(example = "acked")]
    step: &'static str,
    /// When; null: not known, or it is how things are now.
    #[schema(format = DateTime)]
    at: Option<String>,
    /// More about it, for people.
    detail: Option<String>,
}

/// Why a device got a message, or did not.
#[utoipa::path(
    get, path = "/v1/messages/{msg_id}/explain/{registration_id}", tag = "messages",
    params(
        ("msg_id" = String, Path, description = "32 hexadecimal digits."),
        ("registration_id" = String, Path, description = "The device."),
    ),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = ExplainAnswer, description = "What is known of it."),
        (status = 400, body = FaultBody, description = "Not a message id, or not a name."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 404, body = FaultBody, description = "This app has no such message (any more), or no such device."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 503, body = FaultBody, description = "The store is unavailable."),
    )
)]
pub(in crate::api) async fn explain(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segments(id, name): Segments,
) -> Result<axum::Json<ExplainAnswer>, Fault> {
    let id = message_id(&id)?;
    let name = DeviceName::parse("registration_id", &name)?;
    let found = api.hub.explain(&caller.app, id, name.clone()).await?;
    let story = found.ok_or_else(|| Fault::not_found("no such message, or no such device"))?;
    Ok(axum::Json(ExplainAnswer {
        msg_id: id.to_string(),
        registration_id: name.as_str().to_owned(),
        verdict: story.verdict,
        steps: story.steps.into_iter().map(step).collect(),
    }))
}

fn step(step: Step) -> ExplainStep {
    ExplainStep { step: step.step, at: step.at.map(rfc3339), detail: step.detail }
}

fn message_id(text: &str) -> Result<MessageId, Fault> {
    MessageId::parse(text).ok_or_else(|| Fault::invalid("msg_id: must be 32 hexadecimal digits"))
}

/// Which part.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct TargetsQuery {
    /// After this cursor, the `next` of the page before.
    after: Option<String>,
    /// Devices looked at, at most: with `state`, a page may hold fewer, or none, and there may be more.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u16>,
    /// Only those in this state.
    #[param(inline)]
    state: Option<TargetWord>,
}

/// How a device of a message stands.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum TargetWord {
    Pending,
    Delivered,
    Expired,
    Collapsed,
    Recalled,
    Dropped,
    Ended,
}

impl TargetWord {
    fn label(self) -> &'static str {
        match self {
            TargetWord::Pending => "pending",
            TargetWord::Delivered => "delivered",
            TargetWord::Expired => "expired",
            TargetWord::Collapsed => "collapsed",
            TargetWord::Recalled => "recalled",
            TargetWord::Dropped => "dropped",
            TargetWord::Ended => "ended",
        }
    }
}

/// Devices of a message: of an addressed one all, of another those whose delivery has ended and whose story is kept.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct TargetsAnswer {
    targets: Vec<TargetRow>,
    /// For `after`; null: there are no more.
    #[schema(example = "000000000000002a")]
    next: Option<String>,
}

/// A device of a message.
#[derive(Serialize, ToSchema)]
struct TargetRow {
    /// Null if the device is gone.
    #[schema(example = "device-1")]
    registration_id: Option<String>,
    /// `pending`, `delivered`, `expired`, `collapsed`, `recalled`, `dropped`; `ended`: the story is not kept.
    #[schema(example = "delivered")]
    state: &'static str,
    /// Why it was dropped; else null.
    reason: Option<&'static str>,
    /// When it was sent; null: it was not, or that is not known.
    #[schema(format = DateTime)]
    sent_at: Option<String>,
    /// When it ended.
    #[schema(format = DateTime)]
    ended_at: Option<String>,
    /// When the device said that a person could see it.
    #[schema(format = DateTime)]
    displayed_at: Option<String>,
    /// When the device said that a person acted on it.
    #[schema(format = DateTime)]
    clicked_at: Option<String>,
    /// When the device said that a person put it away.
    #[schema(format = DateTime)]
    dismissed_at: Option<String>,
}

/// The devices of a message, one by one.
#[utoipa::path(
    get, path = "/v1/messages/{msg_id}/targets", tag = "messages",
    params(("msg_id" = String, Path, description = "32 hexadecimal digits."), TargetsQuery),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = TargetsAnswer, description = "A page."),
        (status = 400, body = FaultBody, description = "Not a message id, or a field is not allowed."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 404, body = FaultBody, description = "This app has no such message (any more)."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 503, body = FaultBody, description = "The store is unavailable."),
    )
)]
pub(in crate::api) async fn targets(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segment(id): Segment,
    Query(query): Query<TargetsQuery>,
) -> Result<axum::Json<TargetsAnswer>, Fault> {
    let id = message_id(&id)?;
    let after = query.after.as_deref().map(|text| super::streams::cursor("after", text)).transpose()?;
    let limit = super::streams::limit(query.limit, TARGETS_DEFAULT, TARGETS_MAX)?;
    let after = after.map(|position| ClientId(position.0));
    let found = api.hub.targets(&caller.app, id, after, limit).await?;
    let (rows, next) = found.ok_or_else(|| Fault::not_found("no such message"))?;
    let wanted = query.state.map(TargetWord::label);
    let rows = rows.iter().filter(|row| wanted.is_none_or(|wanted| row.state == wanted));
    let next = next.map(|client| format!("{:016x}", client.0));
    Ok(axum::Json(TargetsAnswer { targets: rows.map(row).collect(), next }))
}

fn row(target: &TargetState) -> TargetRow {
    let at = |time: Option<WallMs>| time.filter(|time| time.0 != 0).map(rfc3339);
    let story = target.story.as_ref();
    TargetRow {
        registration_id: target.name.as_ref().map(|name| name.as_str().to_owned()),
        state: target.state,
        reason: target.reason,
        sent_at: at(story.map(|story| story.sent)),
        ended_at: at(story.map(|story| story.ended)),
        displayed_at: at(story.map(|story| story.displayed)),
        clicked_at: at(story.map(|story| story.clicked)),
        dismissed_at: at(story.map(|story| story.dismissed)),
    }
}
