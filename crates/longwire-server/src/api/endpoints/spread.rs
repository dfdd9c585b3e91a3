//! `PATCH /v1/messages/{msg_id}`: a message that is spread over time pauses, goes on, or changes its speed.

use super::push_timing;
use crate::api::Api;
use crate::api::exchange::body::{Json, Segment};
use crate::api::exchange::caller::Caller;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::delivery::over_time::{SpreadAsked, SpreadEdit, SpreadState};
use crate::domain::MessageId;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// What is to be changed; at least one field.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct SpreadChange {
    /// Whether it goes on.
    state: Option<SpreadWord>,
    /// So many devices a second from now on. Not with `big_push_duration`.
    #[schema(minimum = 1, maximum = 1_000_000, example = 500)]
    speed: Option<u32>,
    /// The rest in so many minutes.
    #[schema(minimum = 1, maximum = 1440, example = 30)]
    big_push_duration: Option<u32>,
}

/// Whether a spreading goes on.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum SpreadWord {
    /// Nothing more is sent out until it is resumed; who was sent it has it.
    Paused,
    /// It goes on.
    Running,
}

/// How far a message that is spread is.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct SpreadAnswer {
    /// `running`; `queued`: two older ones of the app run; `paused`; `done`; `expired`: its deadline came first; `stopped`: it was
    /// recalled.
    #[schema(example = "running")]
    state: &'static str,
    /// So many parts are sent out, or wait for those who return.
    #[schema(example = 8192)]
    parts_done: u32,
    /// All parts; each device is in one.
    #[schema(example = 65_536)]
    parts: u32,
    /// Devices a second, about.
    #[schema(example = 500)]
    speed: u64,
    /// Seconds until all is sent out; null unless it is running.
    #[schema(example = 60)]
    eta_s: Option<u64>,
}

impl SpreadAnswer {
    pub(super) fn of(state: SpreadState) -> SpreadAnswer {
        let SpreadState { word, parts_done, parts, speed, eta_s } = state;
        SpreadAnswer { state: word, parts_done, parts, speed, eta_s }
    }
}

/// Pause or resume a message that is spread over time, or change its speed.
#[utoipa::path(
    patch, path = "/v1/messages/{msg_id}", tag = "messages", request_body = SpreadChange,
    params(("msg_id" = String, Path, description = "32 hexadecimal digits.")),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = SpreadAnswer, description = "Changed, durably."),
        (status = 400, body = FaultBody, description = "A field is not allowed; the message names it."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 404, body = FaultBody, description = "This app has no such message, or its record is past retention."),
        (status = 408, body = FaultBody, description = "The body did not come in time."),
        (status = 409, body = FaultBody, description = "`not_spread`: it is not spread over time; `spread_over`: all of it is sent out, it has expired, or it was recalled."),
        (status = 413, body = FaultBody, description = "The body is too long."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 500, body = FaultBody, description = "`unknown_outcome`: it is not known whether it was changed."),
        (status = 503, body = FaultBody, description = "The store is unavailable."),
    )
)]
pub(in crate::api) async fn change(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segment(id): Segment,
    Json(request): Json<SpreadChange>,
) -> Result<axum::Json<SpreadAnswer>, Fault> {
    let id = MessageId::parse(&id).ok_or_else(|| Fault::invalid("msg_id: must be 32 hexadecimal digits"))?;
    let edit = SpreadEdit {
        paused: request.state.map(|state| state == SpreadWord::Paused),
        spread: push_timing::spread(request.speed, request.big_push_duration)?,
    };
    if edit.paused.is_none() && edit.spread.is_none() {
        return Err(Fault::invalid("state, speed, big_push_duration: one of them is needed"));
    }
    match api.hub.edit_spreading(&caller.app, id, edit).await? {
        SpreadAsked::Done(state) => Ok(axum::Json(SpreadAnswer::of(state))),
        SpreadAsked::Unknown => Err(Fault::not_found("no such message")),
        SpreadAsked::NotSpread => Err(Fault::not_spread()),
        SpreadAsked::Over => Err(Fault::spread_over()),
    }
}
