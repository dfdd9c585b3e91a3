//! `POST /v1/publish`, `GET /v1/retained` and `DELETE /v1/retained`.

use crate::api::Api;
use crate::api::exchange::body::Json;
use crate::api::exchange::caller::Caller;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::query::Query;
use crate::api::exchange::rfc3339::rfc3339;
use crate::api::exchange::trace::Trace;
use crate::delivery::border::topics::TopicMessage;
use crate::delivery::hub::Publication;
use crate::domain::message::{MESSAGE_BYTES_MAX, TTL_S_MAX};
use crate::domain::topic::{TopicFilter, TopicName};
use crate::domain::{Invalid, TraceId};
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// A content type, bytes.
const CONTENT_TYPE_BYTES_MAX: usize = 128;
/// User properties of a publish, and the bytes of all their names and values; as for devices.
const USER_PROPERTIES_MAX: usize = 8;
const USER_PROPERTY_BYTES_MAX: usize = 1024;
/// Items in a page when nothing is said, and at most.
const ITEMS_DEFAULT: u16 = 100;
const ITEMS_MAX: u16 = 1000;

/// What is published. At most one of `payload` and `payload_base64`; neither, or an empty one, with `retain` clears what the
/// topic retains.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct PublishRequest {
    /// At most 256 bytes and 16 levels of 64 bytes, without wildcards; not beginning with `$`.
    #[schema(max_length = 256)]
    topic: String,
    /// UTF-8 text, at most 10,240 bytes.
    payload: Option<String>,
    /// Opaque bytes, at most 10,240 before base64.
    payload_base64: Option<String>,
    /// 0: to who is connected now; 1 (if not given), 2: kept sessions get it when they come back.
    #[schema(minimum = 0, maximum = 2, default = 1)]
    qos: Option<u8>,
    /// Keep it for later subscribers.
    #[serde(default)]
    retain: bool,
    /// Seconds, clipped to 30 days. Not given: 72 h for kept sessions, for ever as retained.
    #[schema(minimum = 1)]
    time_to_live: Option<u64>,
    /// The content type that subscribers of MQTT 5 get.
    #[schema(max_length = 128)]
    content_type: Option<String>,
    /// What subscribers of MQTT 5 get beside: at most 8, 1,024 bytes in all.
    #[serde(default)]
    user_properties: BTreeMap<String, String>,
}

/// An accepted publish.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct PublishAnswer {
    /// The message's id. `GET /v1/messages/{msg_id}` knows it if it was stored for somebody.
    msg_id: String,
    /// The trace that it belongs to.
    trace_id: String,
    /// Kept sessions that it was stored for.
    stored_for: u64,
    /// Kept sessions whose mailbox was full.
    refused: u64,
    /// Whether anybody who is connected may have subscribed to it: yes may be in vain, no never.
    live: bool,
}

/// Publish to a topic.
#[utoipa::path(
    post, path = "/v1/publish", tag = "topics", request_body = PublishRequest,
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 202, body = PublishAnswer, description = "Accepted, and durable for kept sessions unless its qos is 0."),
        (status = 400, body = FaultBody, description = "A field is not allowed; the message names it."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 408, body = FaultBody, description = "The body did not come in time."),
        (status = 413, body = FaultBody, description = "The payload or the body is too long."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 429, body = FaultBody, description = "`topic_quota`: a limit of topics is reached; `app_quota`: the app has as many bytes stored as it may; or too many requests at once, or the node is overloaded."),
        (status = 500, body = FaultBody, description = "`unknown_outcome`: it is not known whether it was stored."),
        (status = 503, body = FaultBody, description = "Draining, storage full, or the store is unavailable."),
    )
)]
pub(in crate::api) async fn publish(
    State(api): State<Arc<Api>>,
    Extension(trace): Extension<Trace>,
    caller: Caller,
    Json(request): Json<PublishRequest>,
) -> Result<(StatusCode, axum::Json<PublishAnswer>), Fault> {
    if (api.overloaded)() {
        return Err(Fault::overloaded());
    }
    let publication = request.into_publication(caller.app.id, trace.id)?;
    api.hub.spend_messages(&caller.app, 1, 0)?;
    let sent = api.hub.publish(&publication).await?;
    let answer = PublishAnswer {
        msg_id: sent.message.to_string(),
        trace_id: trace.id.to_string(),
        stored_for: sent.stored_for,
        refused: sent.refused,
        live: sent.shards > 0,
    };
    Ok((StatusCode::ACCEPTED, axum::Json(answer)))
}

impl PublishRequest {
    fn into_publication(self, app: crate::domain::AppId, trace: TraceId) -> Result<Publication, Fault> {
        let topic = TopicName::parse("topic", &self.topic)?;
        let is_text = self.payload_base64.is_none();
        let payload = match (self.payload, self.payload_base64) {
            (Some(_), Some(_)) => {
                return Err(Fault::invalid("payload, payload_base64: only one of them may be given"));
            }
            (Some(text), None) => text.into_bytes(),
            (None, Some(text)) => STANDARD
                .decode(text)
                .map_err(|fault| Fault::invalid(format!("payload_base64: is not base64: {fault}")))?,
            (None, None) => Vec::new(),
        };
        if payload.len() > MESSAGE_BYTES_MAX {
            let bytes = payload.len();
            return Err(Fault::too_large(format!("payload: at most {MESSAGE_BYTES_MAX} bytes, are {bytes}")));
        }
        let qos = self.qos.unwrap_or(1);
        if qos > 2 {
            return Err(Fault::invalid(format!("qos: must be 0, 1 or 2, is {qos}")));
        }
        if self.time_to_live == Some(0) {
            return Err(Fault::invalid(
                "time_to_live: must be at least 1; qos 0 is for who is connected now",
            ));
        }
        let ttl_s = self.time_to_live.map(|seconds| seconds.min(u64::from(TTL_S_MAX)) as u32);
        if let Some(text) = &self.content_type {
            short("content_type", text, CONTENT_TYPE_BYTES_MAX)?;
        }
        let user_properties: Vec<(String, String)> = self.user_properties.into_iter().collect();
        let bytes: usize = user_properties.iter().map(|(name, value)| name.len() + value.len()).sum();
        if user_properties.len() > USER_PROPERTIES_MAX || bytes > USER_PROPERTY_BYTES_MAX {
            let problem = format!("at most {USER_PROPERTIES_MAX}, {USER_PROPERTY_BYTES_MAX} bytes in all");
            return Err(Invalid::new("user_properties", problem).into());
        }
        for text in user_properties.iter().flat_map(|(name, value)| [name, value]) {
            short("user_properties", text, USER_PROPERTY_BYTES_MAX)?;
        }
        let (retain, content_type) = (self.retain, self.content_type);
        Ok(Publication {
            app,
            topic,
            payload: Bytes::from(payload),
            qos,
            retain,
            ttl_s,
            is_text,
            content_type,
            user_properties,
            trace,
        })
    }
}

fn short(field: &str, text: &str, bytes_max: usize) -> Result<(), Invalid> {
    if text.len() > bytes_max || text.contains(char::is_control) {
        return Err(Invalid::new(field, format!("at most {bytes_max} bytes without control characters")));
    }
    Ok(())
}

/// Which part.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct RetainedQuery {
    /// Only topics that this filter means; `#` if not given.
    filter: Option<String>,
    /// Only what comes after this topic.
    after: Option<String>,
    /// Items at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u16>,
}

/// What the app retains, by topic.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct RetainedAnswer {
    /// At most `limit`.
    items: Vec<RetainedMessage>,
    /// There is more after the last topic.
    more: bool,
}

/// A retained message.
#[derive(Serialize, ToSchema)]
struct RetainedMessage {
    /// Its topic.
    topic: String,
    /// Its QoS.
    qos: u8,
    /// When it expires; null: never.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// The content, if it is UTF-8.
    payload: Option<String>,
    /// The content, if it is not.
    payload_base64: Option<String>,
}

/// Read what is retained.
#[utoipa::path(
    get, path = "/v1/retained", tag = "topics", params(RetainedQuery),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = RetainedAnswer, description = "What is retained; an empty page if nothing is."),
        (status = 400, body = FaultBody, description = "A field is not allowed; the message names it."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
    )
)]
pub(in crate::api) async fn retained(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<RetainedQuery>,
) -> Result<axum::Json<RetainedAnswer>, Fault> {
    let filter = TopicFilter::parse("filter", query.filter.as_deref().unwrap_or("#"))?;
    let limit = query.limit.unwrap_or(ITEMS_DEFAULT);
    if !(1..=ITEMS_MAX).contains(&limit) {
        return Err(Fault::invalid(format!("limit: must be 1 to {ITEMS_MAX}, is {limit}")));
    }
    let limit = usize::from(limit);
    let found = api.hub.retained(caller.app.id, filter.as_str(), query.after.as_deref(), limit + 1);
    let items = found.iter().take(limit).map(|message| item(message)).collect();
    Ok(axum::Json(RetainedAnswer { items, more: found.len() > limit }))
}

fn item(message: &TopicMessage) -> RetainedMessage {
    let content = message.shared.payload();
    let payload = std::str::from_utf8(content).ok().map(str::to_owned);
    RetainedMessage {
        topic: message.shared.topic().to_owned(),
        qos: message.qos,
        expires_at: (message.deadline.0 != 0).then(|| rfc3339(message.deadline)),
        payload_base64: payload.is_none().then(|| STANDARD.encode(content)),
        payload,
    }
}

/// Which topic.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct ClearQuery {
    /// The topic.
    topic: String,
}

/// Forget the retained message of a topic.
#[utoipa::path(
    delete, path = "/v1/retained", tag = "topics", params(ClearQuery),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 204, description = "Forgotten, durably."),
        (status = 400, body = FaultBody, description = "Not a topic."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 404, body = FaultBody, description = "Nothing is retained there."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 503, body = FaultBody, description = "The store is unavailable."),
    )
)]
pub(in crate::api) async fn clear_retained(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<ClearQuery>,
) -> Result<StatusCode, Fault> {
    let topic = TopicName::parse("topic", &query.topic)?;
    if api.hub.clear_retained(caller.app.id, topic.as_str()).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Fault::not_found("nothing is retained there"))
}
