//! `GET` and `DELETE /v1/aliases/{alias}`.

use super::ListedDevice;
use super::tags::{ClearAnswer, clear_answer};
use crate::api::Api;
use crate::api::exchange::body::Segment;
use crate::api::exchange::caller::Caller;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::page::{self, PageQuery};
use crate::api::exchange::query::Query;
use crate::domain::{Alias, ClientId};
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;

const LIST: &str = "alias";
/// Devices that are counted when a removal is left unfinished; of more, so many are told.
const LEFT_COUNTED_MAX: usize = 1000;

/// Devices of an alias, in pages.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct AliasAnswer {
    /// Those of this page.
    #[schema(max_items = 1000)]
    devices: Vec<ListedDevice>,
    /// Where the next page begins; not given: there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// The devices that have an alias, in the order of their numbers. An alias that none has is no error.
#[utoipa::path(
    get, path = "/v1/aliases/{alias}", tag = "devices",
    params(("alias" = String, Path, description = "The alias, 1 to 64 bytes."), PageQuery),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = AliasAnswer, description = "A page."),
        (status = 400, body = FaultBody, description = "A field is not allowed; the message names it."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 503, body = FaultBody, description = "The store is unavailable."),
    )
)]
pub(in crate::api) async fn devices(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segment(alias): Segment,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<AliasAnswer>, Fault> {
    let alias = Alias::parse("alias", &alias)?;
    let limit = page::limit(query.limit)?;
    let after = page::after::<u64>(LIST, query.after.as_deref())?.unwrap_or(0);
    let found = api.hub.alias_members(&caller.app, alias, ClientId(after), limit + 1).await?;
    let (devices, next) = page::cut(found, limit, LIST, |device| device.client.0);
    Ok(axum::Json(AliasAnswer { devices: devices.into_iter().map(ListedDevice::of).collect(), next }))
}

/// Take an alias from all devices that have it. It works for five seconds at most: 200 when none has it any more, else 202 with
/// how many have it still, at most 1,000 being counted; ask again until it is 200.
#[utoipa::path(
    delete, path = "/v1/aliases/{alias}", tag = "devices",
    params(("alias" = String, Path, description = "The alias, 1 to 64 bytes.")),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = ClearAnswer, description = "No device has it any more."),
        (status = 202, body = ClearAnswer, description = "A part is done, the rest is as it was: ask again."),
        (status = 400, body = FaultBody, description = "Not an alias."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 500, body = FaultBody, description = "`unknown_outcome`: a part may be done; ask again."),
        (status = 503, body = FaultBody, description = "The registry or the store is unavailable; a part may be done; ask again."),
    )
)]
pub(in crate::api) async fn unbind(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segment(alias): Segment,
) -> Result<(StatusCode, axum::Json<ClearAnswer>), Fault> {
    let alias = Alias::parse("alias", &alias)?;
    let cleared = api.hub.clear_alias(&caller.app, &alias).await?;
    let left = match cleared.more {
        true => api.hub.alias_members(&caller.app, alias, ClientId(0), LEFT_COUNTED_MAX).await?.len() as u64,
        false => 0,
    };
    Ok(clear_answer(cleared, left))
}
