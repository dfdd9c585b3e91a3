//! `GET /v1/upstream` and `POST /v1/upstream/ack`: what devices sent to the business.

use crate::api::Api;
use crate::api::exchange::body::Json;
use crate::api::exchange::caller::Caller;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::query::Query;
use crate::api::exchange::rfc3339::rfc3339;
use crate::delivery::hub::{UpstreamItem, UpstreamPage, UpstreamWaiting};
use crate::domain::Position;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Items in a page when nothing is said, and at most.
const ITEMS_DEFAULT: u16 = 100;
const ITEMS_MAX: u16 = 1000;
/// Contents in a page, bytes; the first item always comes.
const PAGE_BYTES_MAX: u32 = 1024 * 1024;

/// Which part.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct UpstreamQuery {
    /// Only what came after this cursor. Not given: everything that was not acked.
    after: Option<String>,
    /// Items at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u16>,
}

/// What waits for the business, oldest first.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct UpstreamAnswer {
    /// At most `limit`, and at most 1 MiB of contents.
    items: Vec<UpstreamMessage>,
    /// The last item's cursor, or where the page began: ack it when the items are safe, or read on after it.
    cursor: String,
    /// There is more after these items.
    more: bool,
    /// All that waits for this app, these items included.
    waiting: Waiting,
}

/// A message from a device.
#[derive(Serialize, ToSchema)]
struct UpstreamMessage {
    /// Its place: 16 hexadecimal digits, rising within an app.
    cursor: String,
    /// The device; null if it is gone.
    registration_id: Option<String>,
    /// The device's own id of the message, in decimal digits.
    client_message: String,
    /// The type word that the device gave (001-13).
    #[serde(rename = "type")]
    kind: String,
    /// When it was accepted.
    #[schema(format = DateTime)]
    accepted_at: String,
    /// Its trace.
    trace_id: String,
    /// `text`: `msg_content` is the content, which is UTF-8; `binary`: it is in base64.
    content_type: &'static str,
    /// The content, at most 10,240 bytes before base64.
    msg_content: String,
}

/// How much waits.
#[derive(Serialize, ToSchema)]
struct Waiting {
    /// Messages; at most 1,000,000.
    messages: u64,
    /// Bytes of contents and type words; at most 268,435,456.
    bytes: u64,
}

/// Read what devices sent, without taking it.
#[utoipa::path(
    get, path = "/v1/upstream", tag = "upstream", params(UpstreamQuery),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = UpstreamAnswer, description = "What waits; an empty page if nothing does."),
        (status = 400, body = FaultBody, description = "A cursor that this app was not given, or another field is not allowed."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 503, body = FaultBody, description = "The store is unavailable."),
    )
)]
pub(in crate::api) async fn upstream(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<UpstreamQuery>,
) -> Result<axum::Json<UpstreamAnswer>, Fault> {
    let after = query.after.as_deref().map(|text| cursor("after", text)).transpose()?;
    let limit = query.limit.unwrap_or(ITEMS_DEFAULT);
    if !(1..=ITEMS_MAX).contains(&limit) {
        return Err(Fault::invalid(format!("limit: must be 1 to {ITEMS_MAX}, is {limit}")));
    }
    let page = api.hub.upstream(&caller.app, after, limit, PAGE_BYTES_MAX).await?;
    let page = page.ok_or_else(|| not_given("after"))?;
    Ok(axum::Json(answer(page)))
}

/// What the business has.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct AckRequest {
    /// Everything up to this cursor.
    cursor: String,
}

/// What is left.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct AckAnswer {
    /// Of much that was acked, some may be counted for a moment longer.
    waiting: Waiting,
}

/// Say that everything up to a cursor is safe with the business: it is let go. Idempotent.
#[utoipa::path(
    post, path = "/v1/upstream/ack", tag = "upstream", request_body = AckRequest,
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = AckAnswer, description = "Noted, durably."),
        (status = 400, body = FaultBody, description = "A cursor that this app was not given: nothing was let go."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 408, body = FaultBody, description = "The body did not come in time."),
        (status = 413, body = FaultBody, description = "The body is too long."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 500, body = FaultBody, description = "`unknown_outcome`: it is not known whether this was noted; ack again."),
        (status = 503, body = FaultBody, description = "The store is unavailable."),
    )
)]
pub(in crate::api) async fn ack(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(request): Json<AckRequest>,
) -> Result<axum::Json<AckAnswer>, Fault> {
    let cursor = cursor("cursor", &request.cursor)?;
    let left = api.hub.take_upstream(&caller.app, cursor).await?;
    let left = left.ok_or_else(|| not_given("cursor"))?;
    Ok(axum::Json(AckAnswer { waiting: waiting(left) }))
}

fn cursor(field: &str, text: &str) -> Result<Position, Fault> {
    let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
    number
        .map(Position)
        .ok_or_else(|| Fault::invalid(format!("{field}: must be a cursor, 16 hexadecimal digits")))
}

fn not_given(field: &str) -> Fault {
    Fault::invalid(format!("{field}: this app was not given this cursor"))
}

fn written(position: Position) -> String {
    format!("{:016x}", position.0)
}

fn waiting(waiting: UpstreamWaiting) -> Waiting {
    Waiting { messages: waiting.messages, bytes: waiting.bytes }
}

fn answer(page: UpstreamPage) -> UpstreamAnswer {
    UpstreamAnswer {
        cursor: written(page.cursor),
        more: !page.end,
        waiting: waiting(page.waiting),
        items: page.items.iter().map(message).collect(),
    }
}

fn message(item: &UpstreamItem) -> UpstreamMessage {
    let (content_type, msg_content) = match std::str::from_utf8(&item.payload) {
        Ok(text) => ("text", text.to_owned()),
        Err(_) => ("binary", STANDARD.encode(&item.payload)),
    };
    UpstreamMessage {
        cursor: written(item.position),
        registration_id: item.device.as_ref().map(|name| name.as_str().to_owned()),
        client_message: item.client_message.to_string(),
        kind: item.kind.to_string(),
        accepted_at: rfc3339(item.accepted_at),
        trace_id: item.trace.to_string(),
        content_type,
        msg_content,
    }
}
