//! `/healthz`, `/readyz`, `/metrics`, `/openapi.json`.

use crate::api::Api;
use crate::api::contract;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::delivery::hub::PushError;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

/// The process lives.
#[utoipa::path(get, path = "/healthz", tag = "operating", responses((status = 200, description = "It lives.")))]
pub(in crate::api) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether pushes and devices are taken now.
#[utoipa::path(
    get, path = "/readyz", tag = "operating",
    responses(
        (status = 200, description = "`ready`; or `ready, registry away`: devices and pushes are served, registrations and administration wait for the database."),
        (status = 503, body = FaultBody, description = "Starting, draining, the store is not usable, or a shard stands still."),
    )
)]
pub(in crate::api) async fn readyz(State(api): State<Arc<Api>>) -> Result<&'static str, Fault> {
    if !api.ready.load(Ordering::Acquire) {
        return Err(PushError::Draining.into());
    }
    api.hub.usable()?;
    (api.alive)().map_err(Fault::stalled)?;
    // Another node would not have the registry either, and this one has the devices.
    Ok(if api.hub.registry_health().is_up() { "ready\n" } else { "ready, registry away\n" })
}

/// Metrics for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operating",
    responses(
        (status = 200, description = "OpenMetrics text.", content_type = "application/openmetrics-text"),
        (status = 503, body = FaultBody, description = "The node stops."),
    )
)]
pub(in crate::api) async fn metrics(State(api): State<Arc<Api>>) -> Result<Response, Fault> {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let _turn = api.metrics_turn.lock().await;
    let page = api.metrics.clone();
    let text = tokio::task::spawn_blocking(move || page()).await.map_err(|_| PushError::Draining)?;
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "operating",
    responses((status = 200, description = "OpenAPI 3.1.", content_type = "application/json"))
)]
pub(in crate::api) async fn openapi() -> Response {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(contract::document).as_str();
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}
