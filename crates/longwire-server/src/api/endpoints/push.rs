//! `POST /v1/push`.

use super::push_request::PushRequest;
use crate::api::Api;
use crate::api::exchange::body::Json;
use crate::api::exchange::caller::Caller;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::trace::Trace;
use crate::planted::{Fault as Planted, planted_in};
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use utoipa::ToSchema;

/// An accepted push.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct PushAnswer {
    /// The message's id, 32 hexadecimal digits.
    msg_id: String,
    /// The trace that it belongs to, 32 hexadecimal digits.
    trace_id: String,
    /// Whom it met.
    audience: AudienceCounts,
    /// `local`: synced to this node's disk before this answer; `memory`: online only, not stored.
    durability: &'static str,
    /// Seconds that it lives; less than asked if that was above the limit.
    ttl: u32,
}

/// Whom a push met.
#[derive(Serialize, ToSchema)]
struct AudienceCounts {
    /// Devices addressed; null for `all` and tags, whose members are never counted.
    matched: Option<u64>,
    /// Registration ids and aliases that no device has.
    unknown: u64,
    /// Devices whose mailbox was full: nothing was stored for them.
    refused: u64,
    /// Addressed devices that were connected, by one connection or more; null where that is not known.
    online: Option<u64>,
}

/// Push a message to devices.
#[utoipa::path(
    post, path = "/v1/push", tag = "push", request_body = PushRequest,
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 202, body = PushAnswer, description = "Accepted, and durable unless its ttl is 0."),
        (status = 400, body = FaultBody, description = "A field is not allowed; the message names it."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 408, body = FaultBody, description = "The body did not come in time."),
        (status = 413, body = FaultBody, description = "Content, audience or body is too long."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 422, body = FaultBody, description = "No device matches any address."),
        (status = 429, body = FaultBody, description = "Every mailbox addressed is full, too many requests at once, or the node is overloaded."),
        (status = 500, body = FaultBody, description = "`unknown_outcome`: it is not known whether it was stored."),
        (status = 503, body = FaultBody, description = "Draining, storage full, or the store is unavailable; nothing was stored."),
    )
)]
pub(in crate::api) async fn push(
    State(api): State<Arc<Api>>,
    Extension(trace): Extension<Trace>,
    caller: Caller,
    Json(request): Json<PushRequest>,
) -> Result<(StatusCode, axum::Json<PushAnswer>), Fault> {
    if (api.overloaded)() {
        return Err(Fault::overloaded());
    }
    let push = request.into_push(trace.id)?;
    let receipt = api.hub.push(&caller.app, push).await?;
    if planted_in(Planted::RefusesWhatItStored, 8) {
        return Err(Fault::overloaded());
    }
    api.stats.pushes_accepted.fetch_add(1, Relaxed);
    tracing::debug!(message = %receipt.message, trace = %trace.id, app = caller.app.key.as_str(), "push accepted");
    let answer = PushAnswer {
        msg_id: receipt.message.to_string(),
        trace_id: trace.id.to_string(),
        audience: AudienceCounts {
            matched: receipt.matched,
            unknown: receipt.unknown,
            refused: receipt.refused,
            online: receipt.online,
        },
        durability: receipt.durability,
        ttl: receipt.ttl_s,
    };
    Ok((StatusCode::ACCEPTED, axum::Json(answer)))
}
