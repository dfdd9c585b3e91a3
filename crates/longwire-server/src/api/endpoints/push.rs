//! `POST /v1/push`.

use super::push_request::PushRequest;
use crate::api::Api;
use crate::api::exchange::body::{BODY_BYTES_MAX, Bounded, parse};
use crate::api::exchange::caller::Caller;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::key::{key_of, once};
use crate::api::exchange::trace::Trace;
use crate::delivery::hub::Place;
use crate::domain::{Push, TraceId};
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
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
    /// The key made this message before, and this is what was answered then.
    #[schema(example = false)]
    pub(super) replayed: bool,
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
    params(("Idempotency-Key" = Option<String>, Header, description = "The same as the field `cid`; 400 if both are given and differ.")),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 202, body = PushAnswer, description = "Accepted, and durable unless its ttl is 0; or told again, if its key made it before."),
        (status = 400, body = FaultBody, description = "A field is not allowed; the message names it."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 404, body = FaultBody, description = "`override_msg_id`: this app has no such message; nothing was stored."),
        (status = 408, body = FaultBody, description = "The body did not come in time."),
        (status = 409, body = FaultBody, description = "`conflicting_cid`: the key was used for another request; nothing was stored."),
        (status = 413, body = FaultBody, description = "Content, audience or body is too long."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 422, body = FaultBody, description = "No device matches any address."),
        (status = 429, body = FaultBody, description = "Every mailbox addressed is full, too many requests at once, the app has too many keys (`too_many_cids`), or the node is overloaded."),
        (status = 500, body = FaultBody, description = "`unknown_outcome`: it is not known whether it was stored."),
        (status = 503, body = FaultBody, description = "Draining, storage full, or the store is unavailable; nothing was stored."),
    )
)]
pub(in crate::api) async fn push(
    State(api): State<Arc<Api>>,
    Extension(trace): Extension<Trace>,
    caller: Caller,
    headers: HeaderMap,
    Bounded(body): Bounded<BODY_BYTES_MAX>,
) -> Result<(StatusCode, axum::Json<PushAnswer>), Fault> {
    if (api.overloaded)() {
        return Err(Fault::overloaded());
    }
    let asked = Asked::read(&body, &headers, trace.id)?;
    let answer = push_one(&api, &caller, asked, Place::default()).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(answer)))
}

/// A push as it was asked for: read, judged, with its key.
pub(super) struct Asked {
    push: Push,
}

impl Asked {
    /// # Errors
    /// 400 naming the field, 413 for what is too long.
    pub(super) fn read(body: &[u8], headers: &HeaderMap, trace: TraceId) -> Result<Asked, Fault> {
        let request: PushRequest = parse(body)?;
        let key = key_of(headers, request.cid.as_deref())?;
        let mut push = request.into_push(trace)?;
        push.once = key.map(|key| once(&key, "push", body));
        Ok(Asked { push })
    }
}

/// Pushes, as `POST /v1/push` or one item of a batch.
///
/// # Errors
/// As documented there.
pub(super) async fn push_one(
    api: &Api,
    caller: &Caller,
    asked: Asked,
    place: Place,
) -> Result<PushAnswer, Fault> {
    if (api.overloaded)() {
        place.leave().await;
        return Err(Fault::overloaded());
    }
    let receipt = api.hub.push_at(&caller.app, asked.push, place).await?;
    if !receipt.replayed {
        api.stats.pushes_accepted.fetch_add(1, Relaxed);
    }
    tracing::debug!(message = %receipt.message, trace = %receipt.trace, app = caller.app.key.as_str(), "push accepted");
    Ok(PushAnswer {
        msg_id: receipt.message.to_string(),
        trace_id: receipt.trace.to_string(),
        audience: AudienceCounts {
            matched: receipt.matched,
            unknown: receipt.unknown,
            refused: receipt.refused,
            online: receipt.online,
        },
        durability: receipt.durability,
        ttl: receipt.ttl_s,
        replayed: receipt.replayed,
    })
}
