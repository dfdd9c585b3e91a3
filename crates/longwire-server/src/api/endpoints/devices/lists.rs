//! `GET /v1/devices`, `POST /v1/devices/status`.

use super::{DevicesAnswer, ListedDevice, SessionAnswer};
use crate::api::Api;
use crate::api::exchange::body::Json;
use crate::api::exchange::caller::Caller;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::page::{self, PageQuery};
use crate::api::exchange::query::Query;
use crate::delivery::hub::DeviceStatus;
use crate::domain::audience::ADDRESSES_MAX;
use crate::domain::{DeviceName, Invalid};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

const LIST: &str = "devices";

/// The app's devices, in the order of their names' bytes.
#[utoipa::path(
    get, path = "/v1/devices", tag = "devices", params(PageQuery),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = DevicesAnswer, description = "A page."),
        (status = 400, body = FaultBody, description = "A field is not allowed; the message names it."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 503, body = FaultBody, description = "The store is unavailable."),
    )
)]
pub(in crate::api) async fn devices(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<DevicesAnswer>, Fault> {
    let limit = page::limit(query.limit)?;
    let after = page::after::<String>(LIST, query.after.as_deref())?;
    let after = after.map(|name| DeviceName::parse("after", &name)).transpose()?;
    let found = api.hub.devices_after(&caller.app, after, limit + 1).await?;
    let (devices, next) = page::cut(found, limit, LIST, |device| device.name.as_str().to_owned());
    let total = api.hub.device_count(&caller.app).await?;
    Ok(axum::Json(DevicesAnswer {
        total,
        devices: devices.into_iter().map(ListedDevice::of).collect(),
        next,
    }))
}

/// Whose status is asked.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct StatusRequest {
    /// Devices by name, 1 to 1,000.
    #[schema(min_items = 1, max_items = 1000, example = json!(["phone-1"]))]
    registration_ids: Vec<String>,
}

/// Where devices are.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct StatusAnswer {
    /// One for each that was asked, in order.
    devices: Vec<StatusItem>,
}

/// Where a device is.
#[derive(Serialize, ToSchema)]
struct StatusItem {
    /// As asked.
    #[schema(example = "phone-1")]
    registration_id: String,
    /// This app has such a device.
    known: bool,
    /// It is connected to this node now.
    online: bool,
    /// By so many connections.
    connections: u16,
    /// What is known of each.
    sessions: Vec<SessionAnswer>,
}

/// Where devices are now.
#[utoipa::path(
    post, path = "/v1/devices/status", tag = "devices", request_body = StatusRequest,
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = StatusAnswer, description = "One for each that was asked; unknown ones say so."),
        (status = 400, body = FaultBody, description = "A field is not allowed; the message names it."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 408, body = FaultBody, description = "The body did not come in time."),
        (status = 413, body = FaultBody, description = "The body is too long."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 503, body = FaultBody, description = "The store is unavailable."),
    )
)]
pub(in crate::api) async fn status(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(request): Json<StatusRequest>,
) -> Result<axum::Json<StatusAnswer>, Fault> {
    let names = names("registration_ids", &request.registration_ids)?;
    if names.is_empty() {
        return Err(Invalid::new("registration_ids", "is empty").into());
    }
    let found = api.hub.device_status(&caller.app, names).await?;
    let item = |(registration_id, status): (String, Option<DeviceStatus>)| {
        let known = status.is_some();
        let status = status.unwrap_or_default();
        StatusItem {
            registration_id,
            known,
            online: status.connections > 0,
            connections: u16::try_from(status.connections).unwrap_or(u16::MAX),
            sessions: status.seen.iter().map(SessionAnswer::of).collect(),
        }
    };
    let devices = request.registration_ids.into_iter().zip(found).map(item).collect();
    Ok(axum::Json(StatusAnswer { devices }))
}

/// Names out of texts, at most 1,000.
pub(super) fn names(field: &str, texts: &[String]) -> Result<Vec<DeviceName>, Invalid> {
    if texts.len() > ADDRESSES_MAX {
        return Err(Invalid::new(field, format!("at most {ADDRESSES_MAX}, are {}", texts.len())));
    }
    let parse = |(at, text): (usize, &String)| DeviceName::parse(&format!("{field}[{at}]"), text);
    texts.iter().enumerate().map(parse).collect()
}
