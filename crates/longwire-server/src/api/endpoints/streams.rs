//! `GET /v1/receipts`, `GET /v1/presence/events`, and what an operator sets for them: `PUT /v1/admin/apps/{app_key}/streams`.

use crate::api::Api;
use crate::api::exchange::body::{Json, Segment};
use crate::api::exchange::caller::{Caller, Operator};
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::query::Query;
use crate::delivery::truth::event::{self, PresenceBody, ReceiptBody};
use crate::domain::{AppKey, Position, ReceiptMode};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// Events in a page when nothing is said, and at most.
pub(super) const EVENTS_DEFAULT: u16 = 100;
pub(super) const EVENTS_MAX: u16 = 1000;

/// Which part.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct StreamQuery {
    /// Only what came after this cursor, for example the `next` of the page before. Not given: from the oldest that is kept.
    after: Option<String>,
    /// Events at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u16>,
}

/// Receipts, oldest first.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct ReceiptsAnswer {
    receipts: Vec<ReceiptBody>,
    /// The last one's cursor, or where the page began.
    #[schema(example = "0001000000000007")]
    next: String,
    /// There is more after these.
    more: bool,
    /// Receipts after `after` that are gone: a stream keeps 1,000,000 of an app, for 7 days.
    lost: u64,
}

/// What became of deliveries, in order. Reading takes nothing: the cursor is the caller's.
#[utoipa::path(
    get, path = "/v1/receipts", tag = "receipts", params(StreamQuery),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = ReceiptsAnswer, description = "A page; an empty one if there is nothing."),
        (status = 400, body = FaultBody, description = "A cursor that this app was not given, or another field is not allowed."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 503, body = FaultBody, description = "The store is unavailable."),
    )
)]
pub(in crate::api) async fn receipts(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<StreamQuery>,
) -> Result<axum::Json<ReceiptsAnswer>, Fault> {
    let (after, limit) = query.parse()?;
    let page = api.hub.receipts(&caller.app, after, limit).await?.ok_or_else(not_given)?;
    let next = event::cursor(page.next);
    Ok(axum::Json(ReceiptsAnswer { receipts: page.events, next, more: page.more, lost: page.lost }))
}

/// Who came and went, oldest first.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct PresenceAnswer {
    events: Vec<PresenceBody>,
    /// The last one's cursor, or where the page began.
    #[schema(example = "0001000000000007")]
    next: String,
    /// There is more after these.
    more: bool,
    /// Events after `after` that are gone: a stream keeps 1,000,000 of an app, for 7 days.
    lost: u64,
}

/// Which devices came and went, in order. Reading takes nothing: the cursor is the caller's.
#[utoipa::path(
    get, path = "/v1/presence/events", tag = "presence", params(StreamQuery),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = PresenceAnswer, description = "A page; an empty one if there is nothing."),
        (status = 400, body = FaultBody, description = "A cursor that this app was not given, or another field is not allowed."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 503, body = FaultBody, description = "The store is unavailable."),
    )
)]
pub(in crate::api) async fn presence(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<StreamQuery>,
) -> Result<axum::Json<PresenceAnswer>, Fault> {
    let (after, limit) = query.parse()?;
    let page = api.hub.presence(&caller.app, after, limit).await?.ok_or_else(not_given)?;
    let next = event::cursor(page.next);
    Ok(axum::Json(PresenceAnswer { events: page.events, next, more: page.more, lost: page.lost }))
}

impl StreamQuery {
    fn parse(&self) -> Result<(Option<Position>, u16), Fault> {
        let after = self.after.as_deref().map(|text| cursor("after", text)).transpose()?;
        Ok((after, limit(self.limit, EVENTS_DEFAULT, EVENTS_MAX)?))
    }
}

/// A cursor as callers write it.
pub(super) fn cursor(field: &str, text: &str) -> Result<Position, Fault> {
    let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
    number
        .map(Position)
        .ok_or_else(|| Fault::invalid(format!("{field}: must be a cursor, 16 hexadecimal digits")))
}

/// A limit within its bounds.
pub(super) fn limit(given: Option<u16>, default: u16, max: u16) -> Result<u16, Fault> {
    let limit = given.unwrap_or(default);
    if !(1..=max).contains(&limit) {
        return Err(Fault::invalid(format!("limit: must be 1 to {max}, is {limit}")));
    }
    Ok(limit)
}

pub(super) fn not_given() -> Fault {
    Fault::invalid("after: this app was not given this cursor")
}

/// What goes into the app's streams. What is absent stays as it is.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct StreamsRequest {
    /// `off`: only of messages with `callback`; `ends`: how each delivery ended; `all`: also what devices say of it.
    receipts: Option<ReceiptWord>,
    /// Which devices come and go.
    presence: Option<bool>,
}

/// What goes into the stream of receipts.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::api) enum ReceiptWord {
    Off,
    Ends,
    All,
}

impl From<ReceiptWord> for ReceiptMode {
    fn from(word: ReceiptWord) -> ReceiptMode {
        match word {
            ReceiptWord::Off => ReceiptMode::Off,
            ReceiptWord::Ends => ReceiptMode::Ends,
            ReceiptWord::All => ReceiptMode::All,
        }
    }
}

impl From<ReceiptMode> for ReceiptWord {
    fn from(mode: ReceiptMode) -> ReceiptWord {
        match mode {
            ReceiptMode::Off => ReceiptWord::Off,
            ReceiptMode::Ends => ReceiptWord::Ends,
            ReceiptMode::All => ReceiptWord::All,
        }
    }
}

/// What goes into them now.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct StreamsAnswer {
    receipts: ReceiptWord,
    presence: bool,
}

/// Set what goes into this app's streams of receipts and presence. It is stored, and holds for what happens from now on; presence begins
/// with each device's next login.
#[utoipa::path(
    put, path = "/v1/admin/apps/{app_key}/streams", tag = "admin", request_body = StreamsRequest,
    params(("app_key" = String, Path, description = "The app's key.")),
    security(("admin" = []), ("admin_basic" = [])),
    responses(
        (status = 200, body = StreamsAnswer, description = "It holds."),
        (status = 400, body = FaultBody, description = "A field is not allowed; the message names it."),
        (status = 401, body = FaultBody, description = "Not the admin key."),
        (status = 404, body = FaultBody, description = "No such app."),
        (status = 408, body = FaultBody, description = "The body did not come in time."),
        (status = 413, body = FaultBody, description = "The body is too long."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 503, body = FaultBody, description = "The registry is unavailable."),
    )
)]
pub(in crate::api) async fn set(
    State(api): State<Arc<Api>>,
    _operator: Operator,
    Segment(app_key): Segment,
    Json(request): Json<StreamsRequest>,
) -> Result<axum::Json<StreamsAnswer>, Fault> {
    let app_key = AppKey::parse(&app_key)?;
    let changed = api.hub.set_settings(&app_key, |settings| {
        settings.receipts = request.receipts.map_or(settings.receipts, ReceiptMode::from);
        settings.presence = request.presence.unwrap_or(settings.presence);
    });
    let app = changed.await?.ok_or_else(|| Fault::not_found("no such app"))?;
    let receipts = app.settings.receipts.into();
    Ok(axum::Json(StreamsAnswer { receipts, presence: app.settings.presence }))
}
