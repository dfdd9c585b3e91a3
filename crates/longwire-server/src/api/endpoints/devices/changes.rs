//! `POST /v1/devices/{registration_id}`, `DELETE /v1/devices/{registration_id}`, `POST /v1/devices/{registration_id}/revoke`.

use super::{DeviceAnswer, NO_DEVICE, answer};
use crate::api::Api;
use crate::api::exchange::body::{Json, Segment};
use crate::api::exchange::caller::Caller;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::object::Object;
use crate::domain::device_change::{apart, attribute_names, attributes, tags};
use crate::domain::{Alias, AliasChange, ChangeRefused, DeviceChange, DeviceName};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// What is to be changed of a device; what is not given stays. Asking for it again changes nothing more.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ChangeRequest {
    /// Tags to add and to remove.
    #[serde(default)]
    #[schema(value_type = TagsChange)]
    tags: Object<TagsChange>,
    /// The alias from now on; `null`: none.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, max_length = 64, example = "ann")]
    alias: Option<Option<String>>,
    /// Attributes to set and to remove.
    #[serde(default)]
    #[schema(value_type = AttributesChange)]
    attributes: Object<AttributesChange>,
}

/// Tags to add and to remove; none may be in both.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct TagsChange {
    /// The device has these from now on; it may have 100.
    #[schema(max_items = 100, example = json!(["beta"]))]
    add: Vec<String>,
    /// The device has these no more.
    #[schema(max_items = 100, example = json!(["alpha"]))]
    remove: Vec<String>,
}

/// Attributes to set and to remove; none may be in both.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct AttributesChange {
    /// The device has these values from now on; it may have 16 attributes.
    #[schema(example = json!({"app_version": "3.2.1"}))]
    set: BTreeMap<String, String>,
    /// The device has these no more.
    #[schema(max_items = 16, example = json!(["zone"]))]
    remove: Vec<String>,
}

/// A field that is there, `null` included.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl ChangeRequest {
    fn change(self) -> Result<DeviceChange, Fault> {
        let (Object(labels), Object(named)) = (self.tags, self.attributes);
        let (tags_add, tags_remove) = (tags("tags.add", &labels.add)?, tags("tags.remove", &labels.remove)?);
        apart("tags.add", &tags_add, &tags_remove)?;
        let attributes_set = attributes("attributes.set", &named.set)?;
        let attributes_remove = attribute_names("attributes.remove", &named.remove)?;
        let names: Vec<_> = attributes_set.iter().map(|(name, _)| name.clone()).collect();
        apart("attributes.set", &names, &attributes_remove)?;
        let alias = match self.alias {
            None => AliasChange::Keep,
            Some(None) => AliasChange::Clear,
            Some(Some(text)) => AliasChange::Bind(Alias::parse("alias", &text)?),
        };
        Ok(DeviceChange { tags_add, tags_remove, alias, attributes_set, attributes_remove, revoke: false })
    }
}

impl From<ChangeRefused> for Fault {
    fn from(refused: ChangeRefused) -> Fault {
        match refused {
            ChangeRefused::Unknown => Fault::not_found(NO_DEVICE),
            more => Fault::invalid(more.to_string()),
        }
    }
}

/// Change a device's tags, alias and attributes. It is made as a whole; a push that is accepted after the answer meets the
/// device as it is then.
#[utoipa::path(
    post, path = "/v1/devices/{registration_id}", tag = "devices", request_body = ChangeRequest,
    params(("registration_id" = String, Path, description = "The device's name; one called `status` is `%73tatus`.")),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = DeviceAnswer, description = "The device as it is now."),
        (status = 400, body = FaultBody, description = "A field is not allowed, or the device would have more than it may; the message says which."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 404, body = FaultBody, description = "This app has no such device."),
        (status = 408, body = FaultBody, description = "The body did not come in time."),
        (status = 413, body = FaultBody, description = "The body is too long."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 500, body = FaultBody, description = "`unknown_outcome`: it is not known whether it was changed; ask again."),
        (status = 503, body = FaultBody, description = "The registry or the store is unavailable; ask again."),
    )
)]
pub(in crate::api) async fn change(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segment(name): Segment,
    Json(request): Json<ChangeRequest>,
) -> Result<axum::Json<DeviceAnswer>, Fault> {
    let name = DeviceName::parse("registration_id", &name)?;
    let (view, _) = api.hub.change_device(&caller.app, name, request.change()?).await??;
    Ok(axum::Json(answer(&api, view).await))
}

/// Remove a device for good. Its connections are closed with `revoked_token`, none of its tokens is good any more, what waits for
/// it is dropped as `device_removed`, and it has no alias, tags or attributes. Its number is never given again; a device that
/// is registered under its name is another one. A device that proves who it is by other means than a token (JWT, call-out,
/// certificate) may register itself again.
#[utoipa::path(
    delete, path = "/v1/devices/{registration_id}", tag = "devices",
    params(("registration_id" = String, Path, description = "The device's name.")),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 204, description = "It is gone."),
        (status = 400, body = FaultBody, description = "Not a registration id."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 404, body = FaultBody, description = "This app has no such device."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 500, body = FaultBody, description = "`unknown_outcome`: ask again, which ends what is left."),
        (status = 503, body = FaultBody, description = "The registry or the store is unavailable; ask again, which ends what is left."),
    )
)]
pub(in crate::api) async fn remove(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segment(name): Segment,
) -> Result<StatusCode, Fault> {
    let name = DeviceName::parse("registration_id", &name)?;
    match api.hub.remove_device(&caller.app, name).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Fault::not_found(NO_DEVICE)),
    }
}

/// Revoke a device's tokens: those that were signed so far are good no more, and its connections are closed with
/// `revoked_token`. All else of it stays; registering it again signs a good one. A device that proves who it is by other means
/// than a token is disconnected only.
#[utoipa::path(
    post, path = "/v1/devices/{registration_id}/revoke", tag = "devices",
    params(("registration_id" = String, Path, description = "The device's name.")),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 204, description = "No token of the device is good any more."),
        (status = 400, body = FaultBody, description = "Not a registration id."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 404, body = FaultBody, description = "This app has no such device."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 500, body = FaultBody, description = "`unknown_outcome`: ask again."),
        (status = 503, body = FaultBody, description = "The registry or the store is unavailable; ask again."),
    )
)]
pub(in crate::api) async fn revoke(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segment(name): Segment,
) -> Result<StatusCode, Fault> {
    let name = DeviceName::parse("registration_id", &name)?;
    let change = DeviceChange { revoke: true, ..DeviceChange::default() };
    api.hub.change_device(&caller.app, name, change).await??;
    Ok(StatusCode::NO_CONTENT)
}
