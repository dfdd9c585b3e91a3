//! `GET /v1/books`.

use super::messages::by_reason;
use crate::api::Api;
use crate::api::exchange::caller::Caller;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::rfc3339::rfc3339;
use axum::extract::State;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// An app's books: created = delivered + expired + collapsed + recalled + dropped + pending, of all its messages since its first,
/// those that are past retention included.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct BooksAnswer {
    /// Deliveries that were ever created.
    #[schema(example = 1204)]
    created: u64,
    /// Devices said that they have it.
    #[schema(example = 1190)]
    delivered: u64,
    /// Expired before that.
    #[schema(example = 4)]
    expired: u64,
    /// Replaced before that by a newer message.
    #[schema(example = 2)]
    collapsed: u64,
    /// Recalled before that.
    #[schema(example = 1)]
    recalled: u64,
    /// Dropped, by reason; what is not here is 0.
    #[schema(example = json!({"session_ended": 1}))]
    dropped: BTreeMap<&'static str, u64>,
    /// Without an end.
    #[schema(example = 6)]
    pending: u64,
    /// Deliveries of messages for `all` and tags that are in windows of live connections: they are created with their end.
    #[schema(example = 3)]
    in_flight: u64,
    /// Deliveries that were missing or too many in the last check, which counts what is pending in the mailboxes; 0 is right. Null
    /// before the first.
    #[schema(example = 0)]
    gap: Option<u64>,
    /// When the last check read; null before the first.
    #[schema(format = DateTime, example = "2026-06-01T12:00:00Z")]
    checked_at: Option<String>,
}

/// The books of the caller's app.
#[utoipa::path(
    get, path = "/v1/books", tag = "messages",
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = BooksAnswer, description = "The books as they are now, and whether the last check found them right."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 503, body = FaultBody, description = "The store is unavailable."),
    )
)]
pub(in crate::api) async fn books(
    State(api): State<Arc<Api>>,
    caller: Caller,
) -> Result<axum::Json<BooksAnswer>, Fault> {
    let (totals, in_flight) = api.hub.books(&caller.app).await?;
    let report = api.hub.books_report();
    let checked = report.checks > 0;
    let gap = || report.apps.get(&caller.app.id).map_or(0, |book| book.gap);
    Ok(axum::Json(BooksAnswer {
        created: totals.created,
        delivered: totals.delivered,
        expired: totals.expired,
        collapsed: totals.collapsed,
        recalled: totals.recalled,
        dropped: by_reason(&totals.dropped),
        pending: totals.pending(),
        in_flight,
        gap: checked.then(gap),
        checked_at: checked.then(|| rfc3339(report.checked_at)),
    }))
}
