//! `GET /v1/tags`, `GET`, `POST` and `DELETE /v1/tags/{tag}`.

use super::lists::names;
use super::{DevicesAnswer, ListedDevice};
use crate::api::Api;
use crate::api::exchange::body::{Json, Segment};
use crate::api::exchange::caller::Caller;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::page::{self, PageQuery};
use crate::api::exchange::query::Query;
use crate::delivery::hub::Cleared;
use crate::domain::audience::ADDRESSES_MAX;
use crate::domain::device_change::apart;
use crate::domain::{ChangeRefused, ClientId, DeviceChange, Invalid, Tag};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

const LIST: &str = "tags";
const MEMBERS: &str = "tag";

/// Tags, in pages.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct TagsAnswer {
    /// Those of this page.
    #[schema(max_items = 1000)]
    tags: Vec<TagItem>,
    /// Where the next page begins; not given: there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A tag.
#[derive(Serialize, ToSchema)]
struct TagItem {
    /// The tag.
    #[schema(example = "beta")]
    tag: String,
    /// Devices that have it, at least one: exact, counted as they change.
    #[schema(example = 1)]
    devices: u64,
}

/// The tags that devices of the app have, in the order of their bytes.
#[utoipa::path(
    get, path = "/v1/tags", tag = "devices", params(PageQuery),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = TagsAnswer, description = "A page."),
        (status = 400, body = FaultBody, description = "A field is not allowed; the message names it."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 503, body = FaultBody, description = "The store is unavailable."),
    )
)]
pub(in crate::api) async fn tags(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<TagsAnswer>, Fault> {
    let limit = page::limit(query.limit)?;
    let after = page::after::<String>(LIST, query.after.as_deref())?;
    let after = after.map(|tag| Tag::parse("after", &tag)).transpose()?;
    let found = api.hub.tags_after(&caller.app, after, limit + 1).await?;
    let (tags, next) = page::cut(found, limit, LIST, |(tag, _)| tag.as_str().to_owned());
    let item = |(tag, devices): (Tag, u64)| TagItem { tag: tag.as_str().to_owned(), devices };
    Ok(axum::Json(TagsAnswer { tags: tags.into_iter().map(item).collect(), next }))
}

/// The devices that have a tag, in the order of their numbers. A tag that none has is no error.
#[utoipa::path(
    get, path = "/v1/tags/{tag}", tag = "devices",
    params(("tag" = String, Path, description = "The tag, 1 to 64 bytes."), PageQuery),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = DevicesAnswer, description = "A page."),
        (status = 400, body = FaultBody, description = "A field is not allowed; the message names it."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 503, body = FaultBody, description = "The store is unavailable."),
    )
)]
pub(in crate::api) async fn members(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segment(tag): Segment,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<DevicesAnswer>, Fault> {
    let tag = Tag::parse("tag", &tag)?;
    let limit = page::limit(query.limit)?;
    let after = page::after::<u64>(MEMBERS, query.after.as_deref())?.unwrap_or(0);
    let found = api.hub.tag_members(&caller.app, tag.clone(), ClientId(after), limit + 1).await?;
    let (devices, next) = page::cut(found, limit, MEMBERS, |device| device.client.0);
    let total = api.hub.tag_count(&caller.app, tag).await?;
    Ok(axum::Json(DevicesAnswer {
        total,
        devices: devices.into_iter().map(ListedDevice::of).collect(),
        next,
    }))
}

/// Whom to give the tag, and whom to take it from; none may be in both, and at most 1,000 together.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct MembersRequest {
    /// Devices by name that have the tag from now on.
    #[serde(default)]
    #[schema(max_items = 1000, example = json!(["phone-1"]))]
    add: Vec<String>,
    /// Devices by name that have it no more.
    #[serde(default)]
    #[schema(max_items = 1000, example = json!(["phone-2"]))]
    remove: Vec<String>,
}

/// What became of each.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct MembersAnswer {
    /// In order: those to add, then those to remove.
    results: Vec<MemberResult>,
}

/// What became of one.
#[derive(Serialize, ToSchema)]
struct MemberResult {
    /// As asked.
    #[schema(example = "phone-1")]
    registration_id: String,
    /// `done`: it is as asked; `unknown`: this app has no such device; `too_many_tags`: it has as many as it may.
    #[schema(example = "done")]
    result: &'static str,
}

/// Give devices a tag, and take it from others.
#[utoipa::path(
    post, path = "/v1/tags/{tag}", tag = "devices", request_body = MembersRequest,
    params(("tag" = String, Path, description = "The tag, 1 to 64 bytes without controls, `+`, `#` and `/`.")),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = MembersAnswer, description = "What became of each."),
        (status = 400, body = FaultBody, description = "A field is not allowed; the message names it."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 408, body = FaultBody, description = "The body did not come in time."),
        (status = 413, body = FaultBody, description = "The body is too long."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 500, body = FaultBody, description = "`unknown_outcome`: some may be done; ask again."),
        (status = 503, body = FaultBody, description = "The registry or the store is unavailable; some may be done; ask again."),
    )
)]
pub(in crate::api) async fn change_members(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segment(tag): Segment,
    Json(request): Json<MembersRequest>,
) -> Result<axum::Json<MembersAnswer>, Fault> {
    let tag = Tag::parse("tag", &tag)?;
    let count = request.add.len() + request.remove.len();
    if !(1..=ADDRESSES_MAX).contains(&count) {
        return Err(Invalid::new("add", format!("1 to {ADDRESSES_MAX} with remove, are {count}")).into());
    }
    let (add, remove) = (names("add", &request.add)?, names("remove", &request.remove)?);
    apart("add", &add, &remove)?;
    let adds = DeviceChange { tags_add: vec![tag.clone()], ..DeviceChange::default() };
    let removes = DeviceChange { tags_remove: vec![tag], ..DeviceChange::default() };
    let adding = add.into_iter().map(|name| (name, adds.clone()));
    let removing = remove.into_iter().map(|name| (name, removes.clone()));
    let outcomes = api.hub.change_devices(&caller.app, adding.chain(removing).collect()).await?;
    let asked = request.add.into_iter().chain(request.remove);
    let results = asked.zip(outcomes).map(|(registration_id, outcome)| {
        let result = match outcome {
            Ok(_) => "done",
            Err(ChangeRefused::Unknown) => "unknown",
            Err(ChangeRefused::TooManyTags(_) | ChangeRefused::TooManyAttributes(_)) => "too_many_tags",
        };
        MemberResult { registration_id, result }
    });
    Ok(axum::Json(MembersAnswer { results: results.collect() }))
}

/// How far it came.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct ClearAnswer {
    /// Devices that had it until this request.
    #[schema(example = 1)]
    cleared: u64,
    /// Devices that have it still; above 0 with 202 only.
    #[schema(example = 0)]
    left: u64,
}

/// The answer to a request that works for five seconds at most.
pub(super) fn clear_answer(cleared: Cleared, left: u64) -> (StatusCode, axum::Json<ClearAnswer>) {
    let status = if cleared.more { StatusCode::ACCEPTED } else { StatusCode::OK };
    let left = if cleared.more { left.max(1) } else { 0 };
    (status, axum::Json(ClearAnswer { cleared: cleared.cleared, left }))
}

/// Take a tag from all devices. It works for five seconds at most: 200 when none has it any more, else 202 with how many have it
/// still; ask again until it is 200. Devices that get the tag meanwhile are taken along.
#[utoipa::path(
    delete, path = "/v1/tags/{tag}", tag = "devices",
    params(("tag" = String, Path, description = "The tag, 1 to 64 bytes.")),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = ClearAnswer, description = "No device has it any more."),
        (status = 202, body = ClearAnswer, description = "A part is done, the rest is as it was: ask again."),
        (status = 400, body = FaultBody, description = "Not a tag."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 500, body = FaultBody, description = "`unknown_outcome`: a part may be done; ask again."),
        (status = 503, body = FaultBody, description = "The registry or the store is unavailable; a part may be done; ask again."),
    )
)]
pub(in crate::api) async fn clear(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segment(tag): Segment,
) -> Result<(StatusCode, axum::Json<ClearAnswer>), Fault> {
    let tag = Tag::parse("tag", &tag)?;
    let cleared = api.hub.clear_tag(&caller.app, &tag).await?;
    let left = if cleared.more { api.hub.tag_count(&caller.app, tag).await? } else { 0 };
    Ok(clear_answer(cleared, left))
}
