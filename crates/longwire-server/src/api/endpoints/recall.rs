//! `DELETE /v1/messages/{msg_id}`.

use super::messages::message_id;
use crate::api::Api;
use crate::api::exchange::body::Segment;
use crate::api::exchange::caller::Caller;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::trace::Trace;
use axum::Extension;
use axum::extract::State;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// A recalled message.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct RecallAnswer {
    /// Its id.
    #[schema(example = "0198f3a1b2c37d4e8f90a1b2c3d4e5f6")]
    msg_id: String,
    /// Deliveries that ended by it at once; of a message for `all` or tags none: each ends when its device takes note.
    #[schema(example = 3)]
    recalled_now: u32,
    /// Devices that have the message or may have it in hand, and are told to forget it by a message that follows; null: all
    /// whom it was for.
    #[schema(example = 1)]
    following: Option<u32>,
    /// Such devices whose mailbox has no room for that: they are not told.
    #[schema(example = 0)]
    refused: u32,
}

/// Recall a message: deliveries without an end end, and devices that have it are told to forget it. Once more changes nothing
/// and answers the same. An online-only message waits nowhere: nothing is recalled.
#[utoipa::path(
    delete, path = "/v1/messages/{msg_id}", tag = "messages",
    params(("msg_id" = String, Path, description = "32 hexadecimal digits.")),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = RecallAnswer, description = "Recalled: it is sent to nobody any more."),
        (status = 400, body = FaultBody, description = "Not a message id."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 404, body = FaultBody, description = "This app has no such message, or its record is past retention."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 500, body = FaultBody, description = "`unknown_outcome`: it is not known whether it was recalled."),
        (status = 503, body = FaultBody, description = "Draining, or the store is unavailable."),
    )
)]
pub(in crate::api) async fn recall(
    State(api): State<Arc<Api>>,
    Extension(trace): Extension<Trace>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<axum::Json<RecallAnswer>, Fault> {
    let id = message_id(&id)?;
    let recalled = api.hub.recall(&caller.app, id, trace.id).await?;
    let recalled = recalled.ok_or_else(|| Fault::not_found("no such message"))?;
    Ok(axum::Json(RecallAnswer {
        msg_id: id.to_string(),
        recalled_now: recalled.now,
        following: recalled.following,
        refused: recalled.refused,
    }))
}
