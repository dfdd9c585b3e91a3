//! `GET /v1/quotas`, `PUT /v1/quotas`.

use crate::api::Api;
use crate::api::exchange::body::Json;
use crate::api::exchange::caller::{Caller, Operator};
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::object::Object;
use crate::domain::{App, AppKey, Invalid, Quotas};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// The largest quota that can be said.
const QUOTA_MAX: u64 = 1_000_000_000;
/// The same of bytes.
const BYTES_MAX: u64 = 1 << 50;

/// Quotas of an app. What is null or absent is as the node is configured; 0 is without a limit.
#[derive(Clone, Copy, Serialize, Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::api) struct AppQuotas {
    /// Logged-in connections at once; beyond it a login is refused with `app_quota`.
    #[schema(maximum = 1_000_000_000, example = 100_000)]
    connections: Option<u64>,
    /// Registered devices; beyond it a new one is refused with 429 `app_quota`.
    #[schema(maximum = 1_000_000_000, example = 1_000_000)]
    devices: Option<u64>,
    /// Bytes of messages stored for devices, each message once; beyond it a push is refused with 429 `app_quota`.
    #[schema(maximum = 1_125_899_906_842_624_u64, example = 1_073_741_824)]
    stored_bytes: Option<u64>,
    /// Requests per second.
    #[schema(maximum = 1_000_000_000, example = 1000)]
    requests_per_s: Option<u64>,
    /// Messages per second.
    #[schema(maximum = 1_000_000_000, example = 10_000)]
    messages_per_s: Option<u64>,
    /// Messages per minute for all devices, or by tags and conditions.
    #[schema(maximum = 1_000_000_000, example = 600)]
    broadcasts_per_min: Option<u64>,
}

impl AppQuotas {
    pub(super) fn parse(self) -> Result<Quotas, Invalid> {
        let AppQuotas {
            connections,
            devices,
            stored_bytes,
            requests_per_s,
            messages_per_s,
            broadcasts_per_min,
        } = self;
        if stored_bytes.is_some_and(|bytes| bytes > BYTES_MAX) {
            return Err(Invalid::new("quotas.stored_bytes", format!("at most {BYTES_MAX}")));
        }
        let fields = [
            ("connections", connections),
            ("devices", devices),
            ("requests_per_s", requests_per_s),
            ("messages_per_s", messages_per_s),
            ("broadcasts_per_min", broadcasts_per_min),
        ];
        for (field, quota) in fields {
            if quota.is_some_and(|quota| quota > QUOTA_MAX) {
                return Err(Invalid::new(format!("quotas.{field}"), format!("at most {QUOTA_MAX}")));
            }
        }
        Ok(Quotas { connections, devices, stored_bytes, requests_per_s, messages_per_s, broadcasts_per_min })
    }
}

impl From<&Quotas> for AppQuotas {
    fn from(quotas: &Quotas) -> AppQuotas {
        AppQuotas {
            connections: quotas.connections,
            devices: quotas.devices,
            stored_bytes: quotas.stored_bytes,
            requests_per_s: quotas.requests_per_s,
            messages_per_s: quotas.messages_per_s,
            broadcasts_per_min: quotas.broadcasts_per_min,
        }
    }
}

/// Quotas to set.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct QuotasRequest {
    /// Whose.
    #[schema(example = "shop")]
    app_key: String,
    /// They replace what was set.
    #[schema(value_type = AppQuotas)]
    quotas: Object<AppQuotas>,
}

/// Quotas that hold, and what the app has of each.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct QuotasAnswer {
    /// Whose.
    #[schema(example = "shop")]
    app_key: String,
    /// Logged-in connections.
    connections: Held,
    /// Registered devices.
    devices: Held,
    /// Bytes of messages stored for devices, each message once.
    stored_bytes: Held,
    /// Requests per second.
    requests_per_s: Paced,
    /// Messages per second.
    messages_per_s: Paced,
    /// Messages for many per minute.
    broadcasts_per_min: Paced,
}

/// A number of things.
#[derive(Serialize, ToSchema)]
struct Held {
    /// How many it may have; 0: without a limit.
    #[schema(example = 100_000)]
    limit: u64,
    /// How many it has.
    #[schema(example = 1204)]
    used: u64,
}

/// So many in a time.
#[derive(Serialize, ToSchema)]
struct Paced {
    /// How many; 0: without a limit.
    #[schema(example = 1000)]
    limit: u64,
    /// How many of them now; 0 where there is no limit.
    #[schema(example = 998)]
    left: u64,
}

pub(super) async fn answer(api: &Api, app: &App) -> Result<QuotasAnswer, Fault> {
    let usage = api.hub.usage(app).await?;
    let limits = usage.limits;
    Ok(QuotasAnswer {
        app_key: app.key.as_str().to_owned(),
        connections: Held { limit: limits.connections, used: usage.connections },
        devices: Held { limit: limits.devices, used: usage.devices },
        stored_bytes: Held { limit: limits.stored_bytes, used: usage.stored_bytes },
        requests_per_s: Paced { limit: limits.requests_per_s, left: usage.requests_left },
        messages_per_s: Paced { limit: limits.messages_per_s, left: usage.messages_left },
        broadcasts_per_min: Paced { limit: limits.broadcasts_per_min, left: usage.broadcasts_left },
    })
}

/// The quotas of the caller's app, and what it has of each.
#[utoipa::path(
    get, path = "/v1/quotas", tag = "apps",
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = QuotasAnswer, description = "As they hold now."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 429, body = FaultBody, description = "Too many requests."),
        (status = 503, body = FaultBody, description = "The store or the audit log is unavailable."),
    )
)]
pub(in crate::api) async fn quotas(
    State(api): State<Arc<Api>>,
    caller: Caller,
) -> Result<axum::Json<QuotasAnswer>, Fault> {
    Ok(axum::Json(answer(&api, &caller.app).await?))
}

/// Set the quotas of an app; they replace what was set, and hold at once. Connections and devices that are there stay.
#[utoipa::path(
    put, path = "/v1/quotas", tag = "apps", request_body = QuotasRequest,
    security(("admin" = []), ("admin_basic" = [])),
    responses(
        (status = 200, body = QuotasAnswer, description = "They hold."),
        (status = 400, body = FaultBody, description = "A field is not allowed; the message names it."),
        (status = 401, body = FaultBody, description = "Not an admin key."),
        (status = 404, body = FaultBody, description = "No such app."),
        (status = 408, body = FaultBody, description = "The body did not come in time."),
        (status = 413, body = FaultBody, description = "The body is too long."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 503, body = FaultBody, description = "The registry or the audit log is unavailable."),
    )
)]
pub(in crate::api) async fn set(
    State(api): State<Arc<Api>>,
    _operator: Operator,
    Json(request): Json<QuotasRequest>,
) -> Result<axum::Json<QuotasAnswer>, Fault> {
    let key = AppKey::parse(&request.app_key)?;
    let quotas = request.quotas.0.parse()?;
    let app = api.hub.set_settings(&key, |settings| settings.quotas = quotas).await?;
    let app = app.ok_or_else(|| Fault::not_found("no such app"))?;
    Ok(axum::Json(answer(&api, &app).await?))
}
