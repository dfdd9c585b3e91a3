//! `/v1/webhooks`: where an app's streams are sent.

use crate::api::Api;
use crate::api::exchange::body::{Json, Segment};
use crate::api::exchange::caller::Caller;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::rfc3339::rfc3339;
use crate::delivery::truth::webhooks::WebhookView;
use crate::delivery::truth::{Stream, StreamStanding, event};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// A stream of events.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum StreamWord {
    Receipts,
    Presence,
}

/// Where events are sent.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct WebhookRequest {
    /// `https://…` at a public address; at most 1,024 bytes. With `webhooks.private` of the node also `http` and any address.
    #[schema(max_length = 1024, example = "https://shop.example/longwire")]
    url: String,
    /// Which streams. An event is sent only if the app has the stream switched on, or the message has `callback`.
    #[schema(min_items = 1, max_items = 2)]
    events: Vec<StreamWord>,
    /// Make a new secret; the old one signs nothing more.
    #[serde(default)]
    new_secret: bool,
}

/// A webhook that was set.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct WebhookAnswer {
    #[schema(example = "shop")]
    id: String,
    url: String,
    events: Vec<StreamWord>,
    /// What requests are signed with, if it is new: shown this once.
    #[schema(example = "whsec_6fd1…")]
    secret: Option<String>,
}

/// The webhooks of this app.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct WebhooksAnswer {
    /// At most 4.
    #[schema(max_items = 4)]
    webhooks: Vec<WebhookState>,
}

/// A webhook and how it stands. Counters begin with the node's start, or the webhook's last change.
#[derive(Serialize, ToSchema)]
struct WebhookState {
    #[schema(example = "shop")]
    id: String,
    url: String,
    /// Its streams.
    streams: Vec<WebhookStream>,
    /// Requests that were answered with 2xx.
    delivered: u64,
    /// Requests that were not.
    failed: u64,
    /// Failures since the last 2xx.
    failures_in_a_row: u32,
    /// Events given up because they had failed for 24 h.
    skipped: u64,
    /// Events that were gone before they could be sent.
    lost: u64,
    /// The last 2xx.
    #[schema(format = DateTime)]
    delivered_at: Option<String>,
    /// Why the last failure was one.
    #[schema(example = "status 500")]
    last_error: Option<String>,
    /// When that was.
    #[schema(format = DateTime)]
    failed_at: Option<String>,
    /// When it is tried again; null: it does not wait.
    #[schema(format = DateTime)]
    next_try_at: Option<String>,
}

/// A stream of a webhook.
#[derive(Serialize, ToSchema)]
struct WebhookStream {
    stream: StreamWord,
    /// Everything up to here was taken.
    #[schema(example = "0001000000000007")]
    cursor: Option<String>,
    /// Events after it.
    lag: u64,
}

/// The webhooks, and how they stand.
#[utoipa::path(
    get, path = "/v1/webhooks", tag = "webhooks",
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = WebhooksAnswer, description = "All of them, without secrets."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 503, body = FaultBody, description = "The store is unavailable."),
    )
)]
pub(in crate::api) async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
) -> Result<axum::Json<WebhooksAnswer>, Fault> {
    let webhooks = api.hub.webhooks(&caller.app).await?;
    Ok(axum::Json(WebhooksAnswer { webhooks: webhooks.iter().map(state).collect() }))
}

fn state(view: &WebhookView) -> WebhookState {
    let sendings = &view.sendings;
    let stream = |(stream, standing): &(Stream, StreamStanding)| {
        let from = standing.cursor.unwrap_or(standing.gone).max(standing.gone);
        let lag = if from.incarnation() == standing.last.incarnation() {
            standing.last.sequence().saturating_sub(from.sequence())
        } else {
            standing.events
        };
        let stream = match stream {
            Stream::Receipts => StreamWord::Receipts,
            Stream::Presence => StreamWord::Presence,
        };
        WebhookStream { stream, cursor: standing.cursor.map(event::cursor), lag }
    };
    WebhookState {
        id: view.webhook.id.clone(),
        url: view.webhook.url.clone(),
        streams: view.streams.iter().map(stream).collect(),
        delivered: sendings.delivered,
        failed: sendings.failed,
        failures_in_a_row: sendings.failures,
        skipped: sendings.skipped,
        lost: sendings.lost,
        delivered_at: sendings.delivered_at.map(rfc3339),
        last_error: sendings.error.as_ref().map(|(problem, _)| problem.clone()),
        failed_at: sendings.error.as_ref().map(|(_, at)| rfc3339(*at)),
        next_try_at: sendings.next_try.map(rfc3339),
    }
}

/// Make a webhook, or change it. A new one, and a stream that is new to it, begin with what happens from now on.
#[utoipa::path(
    put, path = "/v1/webhooks/{webhook_id}", tag = "webhooks", request_body = WebhookRequest,
    params(("webhook_id" = String, Path, description = "Its name: 1 to 32 letters, digits, - and _.")),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = WebhookAnswer, description = "It holds."),
        (status = 400, body = FaultBody, description = "A URL or name that is not allowed, or a fifth webhook."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 408, body = FaultBody, description = "The body did not come in time."),
        (status = 413, body = FaultBody, description = "The body is too long."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 500, body = FaultBody, description = "`unknown_outcome`: it is not known whether this was stored."),
        (status = 503, body = FaultBody, description = "The store is unavailable."),
    )
)]
pub(in crate::api) async fn set(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segment(id): Segment,
    Json(request): Json<WebhookRequest>,
) -> Result<axum::Json<WebhookAnswer>, Fault> {
    let (receipts, presence) =
        (request.events.contains(&StreamWord::Receipts), request.events.contains(&StreamWord::Presence));
    if request.events.is_empty() || request.events.len() > 2 {
        return Err(Fault::invalid("events: one or both of receipts, presence"));
    }
    let asked = (request.url.clone(), receipts, presence);
    let secret = api.hub.set_webhook(&caller.app, &id, asked, request.new_secret).await?;
    let events = [(receipts, StreamWord::Receipts), (presence, StreamWord::Presence)];
    let events = events.into_iter().filter_map(|(wanted, word)| wanted.then_some(word)).collect();
    Ok(axum::Json(WebhookAnswer { id, url: request.url, events, secret: secret.map(|secret| secret.0) }))
}

/// Take a webhook away.
#[utoipa::path(
    delete, path = "/v1/webhooks/{webhook_id}", tag = "webhooks",
    params(("webhook_id" = String, Path, description = "Its name.")),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 204, description = "It is gone. A request that was under way may still arrive."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 404, body = FaultBody, description = "This app has no such webhook."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 503, body = FaultBody, description = "The store is unavailable."),
    )
)]
pub(in crate::api) async fn remove(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<StatusCode, Fault> {
    if api.hub.remove_webhook(&caller.app, &id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Fault::not_found("no such webhook"))
    }
}

/// What came of a test.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct TestAnswer {
    /// It was answered with 2xx.
    ok: bool,
    /// Why not.
    #[schema(example = "status 500")]
    error: Option<String>,
}

/// Send one signed request without events (`"stream": "test"`), at once and without retry.
#[utoipa::path(
    post, path = "/v1/webhooks/{webhook_id}/test", tag = "webhooks",
    params(("webhook_id" = String, Path, description = "Its name.")),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = TestAnswer, description = "What came of it."),
        (status = 400, body = FaultBody, description = "No name."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 404, body = FaultBody, description = "This app has no such webhook."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
    )
)]
pub(in crate::api) async fn test(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<axum::Json<TestAnswer>, Fault> {
    let tried = api.hub.try_webhook(&caller.app, &id).await?;
    let outcome = tried.ok_or_else(|| Fault::not_found("no such webhook"))?;
    Ok(axum::Json(TestAnswer { ok: outcome.is_ok(), error: outcome.err() }))
}
