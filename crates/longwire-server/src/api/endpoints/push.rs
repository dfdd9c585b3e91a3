//! `POST /v1/push`.

use super::push_request::PushRequest;
use super::schedule_request;
use crate::api::Api;
use crate::api::exchange::body::{BODY_BYTES_MAX, Bounded, parse};
use crate::api::exchange::caller::Caller;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::key::{key_of, once};
use crate::api::exchange::rfc3339::rfc3339;
use crate::api::exchange::trace::Trace;
use crate::delivery::hub::{Place, PushError, Receipt, new_trace};
use crate::delivery::over_time::NewSchedule;
use crate::domain::audience::Estimate;
use crate::domain::{Invalid, MessageId, Push, TraceId, Trigger, WallMs};
use crate::planted::{Fault as Planted, planted, planted_in};
use crate::store::port::StoreError;
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use utoipa::ToSchema;

/// The name of a schedule that `send_at` made.
const SEND_AT_NAME: &str = "send_at";

/// An accepted push, or one that was only checked.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct PushAnswer {
    /// The message's id, 32 hexadecimal digits; null if it was only to be checked.
    #[schema(example = "0190a5f2c3d47e8f9a0b1c2d3e4f5a6b")]
    pub(super) msg_id: Option<String>,
    /// The trace that it belongs to, 32 hexadecimal digits.
    #[schema(example = "4bf92f3577b34da6a3ce929d0e0e4736")]
    trace_id: String,
    /// Whom it meets.
    audience: AudienceCounts,
    /// Until the last connected device was served, milliseconds, if nothing else is under way; null where it is not known.
    #[schema(example = 90)]
    eta_ms: Option<u64>,
    /// `local`: synced to this node's disk before this answer; `memory`: online only, not stored; `none`: only checked.
    #[schema(example = "local")]
    durability: &'static str,
    /// Seconds that it lives; less than asked if that was above the limit, 0 for an audience of whoever is connected.
    #[schema(example = 86400)]
    ttl: u32,
    /// The key made this message before, and this is what was answered then.
    #[schema(example = false)]
    pub(super) replayed: bool,
}

/// What a push came to.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(in crate::api) enum Pushed {
    /// A message.
    Now(PushAnswer),
    /// With `send_at`: a schedule.
    Later(ScheduledAnswer),
}

/// A push that waits for its time. There is no message yet; the schedule's runs will name it.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct ScheduledAnswer {
    /// The schedule's id, 32 hexadecimal digits.
    #[schema(example = "019aa2f0b5c87c3e9f4a6d1e2b3c4d5e")]
    schedule_id: String,
    /// The trace that its message will belong to.
    #[schema(example = "4bf92f3577b34da6a3ce929d0e0e4736")]
    trace_id: String,
    /// When it fires.
    #[schema(format = DateTime, example = "2026-11-21T04:00:00.000Z")]
    send_at: String,
}

/// Whom a push meets.
#[derive(Serialize, ToSchema)]
struct AudienceCounts {
    /// Devices that are meant, connected or not; null where that is not known.
    #[schema(example = 41210)]
    matched: Option<u64>,
    /// `exact`: each was looked up; `counts`: as many as are registered, or have the tag, times the sample; `online_share`: of those registered
    /// the share that fits of those connected, within what the counts allow; `none`.
    #[schema(example = "online_share")]
    matched_by: &'static str,
    /// Devices of them that are connected (by their connections, unless they were looked up); null where that is not known.
    #[schema(example = 9877)]
    online: Option<u64>,
    /// `bitmaps`: asked of the shards, times the sample; `sessions`: looked up; `none`.
    #[schema(example = "bitmaps")]
    online_by: &'static str,
    /// Registration ids and aliases that no device has.
    #[schema(example = 0)]
    unknown: u64,
    /// Devices whose mailbox was full: nothing was stored for them.
    #[schema(example = 0)]
    refused: u64,
}

impl AudienceCounts {
    fn new(estimate: &Estimate, refused: u64) -> AudienceCounts {
        AudienceCounts {
            matched: estimate.matched,
            matched_by: estimate.matched_by.word(),
            online: estimate.online,
            online_by: estimate.online_by.word(),
            unknown: estimate.unknown,
            refused,
        }
    }
}

/// Push a message to devices.
#[utoipa::path(
    post, path = "/v1/push", tag = "push", request_body = PushRequest,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same as the field `cid`; 400 if both are given and differ.")),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = PushAnswer, description = "Checked only (`options.validate_only`): nothing was sent or stored."),
        (status = 202, body = Pushed, description = "Accepted, and durable unless its ttl is 0; or told again, if its key made it before. With `send_at`: a schedule was made, and there is no message yet."),
        (status = 400, body = FaultBody, description = "A field is not allowed; the message names it."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 404, body = FaultBody, description = "`override_msg_id`: this app has no such message; nothing was stored."),
        (status = 408, body = FaultBody, description = "The body did not come in time."),
        (status = 409, body = FaultBody, description = "`conflicting_cid`: the key was used for another request; nothing was stored."),
        (status = 413, body = FaultBody, description = "Content, audience or body is too long."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 422, body = FaultBody, description = "No device matches any address."),
        (status = 429, body = FaultBody, description = "Every mailbox addressed is full, too many requests at once, `app_quota`: the app has as many bytes stored as it may; the app has too many keys (`too_many_cids`), schedules or spread messages, or the node is overloaded."),
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
) -> Result<(StatusCode, axum::Json<Pushed>), Fault> {
    if (api.overloaded)() {
        return Err(Fault::overloaded());
    }
    let asked = Asked::read(&body, &headers, trace.id, api.hub.now())?;
    if let Some(at) = asked.send_at.filter(|_| !asked.validates_only) {
        let schedule = push_later(&api, &caller, trace.id, at, &asked, body).await?;
        return Ok((StatusCode::ACCEPTED, axum::Json(Pushed::Later(schedule))));
    }
    let status = if asked.validates_only { StatusCode::OK } else { StatusCode::ACCEPTED };
    let answer = push_one(&api, &caller, asked, Place::default()).await?;
    Ok((status, axum::Json(Pushed::Now(answer))))
}

/// Makes a schedule of a push with `send_at`.
async fn push_later(
    api: &Api,
    caller: &Caller,
    trace: TraceId,
    at: WallMs,
    asked: &Asked,
    body: Bytes,
) -> Result<ScheduledAnswer, Fault> {
    if asked.push.once.is_some() {
        return Err(Invalid::new("cid", "not with options.send_at").into());
    }
    let push = schedule_request::bounded(body)?;
    let (name, trigger) = (Box::from(SEND_AT_NAME), Trigger::Single(at));
    let schedule = api.hub.add_schedule(&caller.app, NewSchedule { name, trigger, push, trace }).await?;
    Ok(ScheduledAnswer {
        schedule_id: schedule.id.to_string(),
        trace_id: trace.to_string(),
        send_at: rfc3339(at),
    })
}

/// A push as it was asked for: read, judged, with its key.
pub(super) struct Asked {
    push: Push,
    /// It is checked and answered, and not sent.
    pub(super) validates_only: bool,
    /// It is to be pushed then, and was judged as if it were then.
    send_at: Option<WallMs>,
}

impl Asked {
    /// # Errors
    /// 400 naming the field, 413 for what is too long.
    pub(super) fn read(
        body: &[u8],
        headers: &HeaderMap,
        trace: TraceId,
        now: WallMs,
    ) -> Result<Asked, Fault> {
        let request: PushRequest = parse(body)?;
        let key = key_of(headers, request.cid.as_deref())?;
        let validates_only = request.validates_only();
        let send_at = request.send_at()?;
        if send_at.is_some_and(|at| at <= now) {
            return Err(Invalid::new("options.send_at", "has passed").into());
        }
        let mut push = request.into_push(trace, send_at.unwrap_or(now))?;
        push.once = key.map(|key| once(&key, "push", body));
        Ok(Asked { push, validates_only, send_at })
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
    let Asked { push, validates_only, send_at } = asked;
    if validates_only {
        place.leave().await;
        let estimate = api.hub.validate(&caller.app, &push).await?;
        return Ok(PushAnswer {
            msg_id: None,
            trace_id: push.trace.to_string(),
            audience: AudienceCounts::new(&estimate, 0),
            eta_ms: estimate.eta_ms,
            durability: "none",
            ttl: push.audience.ttl_s(push.ttl_s),
            replayed: false,
        });
    }
    if send_at.is_some() {
        place.leave().await;
        return Err(Invalid::new("options.send_at", "not in a batch").into());
    }
    let made = api.hub.push_at(&caller.app, push, place).await;
    let receipt = match made {
        Err(PushError::Store(StoreError::MailboxFull)) if planted(Planted::AcceptsWhatItRefused) => made_up(),
        made => made?,
    };
    if planted_in(Planted::RefusesWhatItStored, 8) {
        return Err(Fault::overloaded());
    }
    if !receipt.replayed {
        api.stats.pushes_accepted.fetch_add(1, Relaxed);
    }
    tracing::debug!(message = %receipt.message, trace = %receipt.trace, app = caller.app.key.as_str(), "push accepted");
    Ok(PushAnswer {
        msg_id: Some(receipt.message.to_string()),
        trace_id: receipt.trace.to_string(),
        audience: AudienceCounts::new(&receipt.audience, receipt.refused),
        eta_ms: receipt.audience.eta_ms,
        durability: receipt.durability,
        ttl: receipt.ttl_s,
        replayed: receipt.replayed,
    })
}

/// A receipt of nothing (a planted fault).
fn made_up() -> Receipt {
    let message = new_trace().0;
    Receipt {
        message: MessageId(message),
        audience: Estimate::default(),
        refused: 0,
        durability: "local",
        ttl_s: 1,
        trace: TraceId(message),
        replayed: false,
    }
}
