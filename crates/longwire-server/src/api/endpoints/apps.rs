//! What an operator sets for one app's MQTT clients: `PUT /v1/admin/apps/{app_key}/topic_rules`.

use crate::api::Api;
use crate::api::exchange::body::{Json, Segment};
use crate::api::exchange::caller::Operator;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::domain::AppKey;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// What the app's devices may do with topics.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct TopicRules {
    /// `allow` or `deny`, then `publish`, `subscribe` or `all`, then a topic filter with `%c` for the device's name and `%u` for
    /// its user name. The first that meets what is asked decides; what none meets is refused. At most 64. Null: the default,
    /// `allow all device/%c/#`.
    #[schema(max_items = 64, example = json!(["deny all fleet/secret/#", "allow publish fleet/%c/#", "allow subscribe fleet/#"]))]
    topic_rules: Option<Vec<String>>,
}

/// Set what this app's devices may do with topics. It is stored, and holds for what is published and subscribed from now on, also
/// by sessions that are there; subscriptions that were made stay.
#[utoipa::path(
    put, path = "/v1/admin/apps/{app_key}/topic_rules", tag = "admin", request_body = TopicRules,
    params(("app_key" = String, Path, description = "The app's key.")),
    security(("admin" = []), ("admin_basic" = [])),
    responses(
        (status = 200, body = TopicRules, description = "They hold."),
        (status = 400, body = FaultBody, description = "A line is no rule; the message names it."),
        (status = 401, body = FaultBody, description = "Not the admin key."),
        (status = 404, body = FaultBody, description = "No such app."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 503, body = FaultBody, description = "The registry is unavailable."),
    )
)]
pub(in crate::api) async fn topic_rules(
    State(api): State<Arc<Api>>,
    _operator: Operator,
    Segment(app_key): Segment,
    Json(request): Json<TopicRules>,
) -> Result<axum::Json<TopicRules>, Fault> {
    let app_key = AppKey::parse(&app_key)?;
    if api.hub.set_topic_rules(&app_key, request.topic_rules.as_deref()).await? {
        Ok(axum::Json(request))
    } else {
        Err(Fault::not_found("no such app"))
    }
}
