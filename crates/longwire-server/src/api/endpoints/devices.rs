//! `POST /v1/devices`, `GET /v1/devices/{registration_id}`, `POST /v1/devices/{registration_id}/disconnect`.

use crate::api::Api;
use crate::api::exchange::body::{Json, Segment};
use crate::api::exchange::caller::{Caller, Registrar};
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::rfc3339::rfc3339;
use crate::domain::device::TAGS_PER_DEVICE_MAX;
use crate::domain::heartbeat::Reach;
use crate::domain::{Alias, DeviceName, Invalid, Registration, Tag};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// A device to register. A registration id that exists is updated: given fields replace, others stay.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct RegisterRequest {
    /// Chosen name, 1 to 128 bytes without controls, `+`, `#` and `/`; without it one is issued.
    #[schema(max_length = 128)]
    registration_id: Option<String>,
    /// A name that maps to devices, 1 to 64 bytes.
    #[schema(max_length = 64)]
    alias: Option<String>,
    /// All tags of the device, each 1 to 64 bytes.
    #[schema(max_items = 100)]
    tags: Option<Vec<String>>,
}

/// A registered device.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct RegisterAnswer {
    /// Its name.
    registration_id: String,
    /// Its number, decimal: bytes 8 to 15 of its frames.
    client_id: String,
    /// What it logs in with.
    token: String,
    /// When the token expires.
    #[schema(format = DateTime)]
    expires: String,
    /// Where it connects, `ip:port`.
    entry_nodes: Vec<String>,
    /// What heartbeat the server asks for.
    heartbeat: Heartbeat,
    /// How it reconnects.
    backoff: Backoff,
}

/// Heartbeat policy, seconds.
#[derive(Serialize, ToSchema)]
struct Heartbeat {
    /// Assigned, as far as the app tells before the device says at login what it is; the answer to the login decides.
    interval: u16,
    /// Shortest.
    min: u16,
    /// Longest.
    max: u16,
    /// Random padding of a heartbeat, bytes at most; 0 = none.
    padding: u8,
}

/// Back-off policy.
#[derive(Serialize, ToSchema)]
struct Backoff {
    /// Seconds before each attempt; the last is repeated.
    steps: Vec<u16>,
    /// A random part of so many milliseconds is added.
    jitter_ms: u16,
}

/// A device and what waits for it.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct DeviceAnswer {
    /// Its name.
    registration_id: String,
    /// Its number, decimal.
    client_id: String,
    /// Its alias.
    alias: Option<String>,
    /// Its tags.
    tags: Vec<String>,
    /// It is connected to this node now.
    online: bool,
    /// By so many connections.
    connections: u16,
    /// What waits in its mailbox.
    mailbox: Mailbox,
}

/// What waits in a mailbox.
#[derive(Serialize, ToSchema)]
struct Mailbox {
    /// Messages.
    messages: u32,
    /// Bytes.
    bytes: u64,
}

/// Register a device, or update it.
#[utoipa::path(
    post, path = "/v1/devices", tag = "devices", request_body = RegisterRequest,
    security(("basic" = []), ("bearer" = []), ("api_key" = []), ("app_key" = [])),
    responses(
        (status = 201, body = RegisterAnswer, description = "Registered."),
        (status = 200, body = RegisterAnswer, description = "It existed and was updated."),
        (status = 400, body = FaultBody, description = "A field is not allowed; the message names it."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 409, body = FaultBody, description = "The name exists, and the caller showed the app key only."),
        (status = 413, body = FaultBody, description = "The body is too long."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 503, body = FaultBody, description = "Draining, or the store is unavailable."),
    )
)]
pub(in crate::api) async fn register(
    State(api): State<Arc<Api>>,
    who: Registrar,
    Json(request): Json<RegisterRequest>,
) -> Result<(StatusCode, axum::Json<RegisterAnswer>), Fault> {
    let registration = registration(request)?;
    let done = api.hub.register(&who.app, registration, who.may_update).await?;
    let rules = api.hub.heartbeat_rules();
    let assigned = rules.assign(who.app.heartbeat, Reach::Fixed);
    let answer = RegisterAnswer {
        registration_id: done.name.as_str().to_owned(),
        client_id: done.client.0.to_string(),
        token: done.token,
        expires: rfc3339(done.expires),
        entry_nodes: api.entry_nodes.clone(),
        heartbeat: Heartbeat {
            interval: assigned.interval_s,
            min: rules.min_s,
            max: rules.max_s,
            padding: assigned.padding_max,
        },
        backoff: Backoff {
            steps: api.options.back_off_steps_s.clone(),
            jitter_ms: api.options.back_off_jitter_ms,
        },
    };
    Ok((if done.created { StatusCode::CREATED } else { StatusCode::OK }, axum::Json(answer)))
}

fn registration(request: RegisterRequest) -> Result<Registration, Invalid> {
    let name = request.registration_id.map(|text| DeviceName::parse("registration_id", &text)).transpose()?;
    name.as_ref().map_or(Ok(()), |name| name.is_level("registration_id"))?;
    let alias = request.alias.map(|text| Alias::parse("alias", &text)).transpose()?;
    let tags = request.tags.map(tags).transpose()?;
    Ok(Registration { name, alias, tags, attributes: None })
}

fn tags(texts: Vec<String>) -> Result<Vec<Tag>, Invalid> {
    if texts.len() > TAGS_PER_DEVICE_MAX {
        return Err(Invalid::new("tags", format!("at most {TAGS_PER_DEVICE_MAX}, are {}", texts.len())));
    }
    let parse = |(at, text): (usize, &String)| Tag::parse(&format!("tags[{at}]"), text);
    let mut tags = texts.iter().enumerate().map(parse).collect::<Result<Vec<Tag>, Invalid>>()?;
    tags.sort();
    tags.dedup();
    Ok(tags)
}

/// A device, whether it is connected, and what waits for it.
#[utoipa::path(
    get, path = "/v1/devices/{registration_id}", tag = "devices",
    params(("registration_id" = String, Path, description = "The device's name.")),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = DeviceAnswer, description = "The device."),
        (status = 400, body = FaultBody, description = "Not a registration id."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 404, body = FaultBody, description = "This app has no such device."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 503, body = FaultBody, description = "The store is unavailable."),
    )
)]
pub(in crate::api) async fn device(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segment(name): Segment,
) -> Result<axum::Json<DeviceAnswer>, Fault> {
    let name = DeviceName::parse("registration_id", &name)?;
    let found = api.hub.device(&caller.app, name).await?;
    let (view, connections) = found.ok_or_else(|| Fault::not_found("no such device"))?;
    Ok(axum::Json(DeviceAnswer {
        registration_id: view.device.name.as_str().to_owned(),
        client_id: view.device.client.0.to_string(),
        alias: view.device.alias.map(|alias| alias.as_str().to_owned()),
        tags: view.device.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
        online: connections > 0,
        connections: u16::try_from(connections).unwrap_or(u16::MAX),
        mailbox: Mailbox { messages: view.mailbox_messages, bytes: view.mailbox_bytes },
    }))
}

/// Whether there was a connection.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct DisconnectAnswer {
    /// The device was connected, and each of its connections is told `kicked` and closed.
    disconnected: bool,
}

/// End a device's connections. Its token stays good: it may come back after its back-off.
#[utoipa::path(
    post, path = "/v1/devices/{registration_id}/disconnect", tag = "devices",
    params(("registration_id" = String, Path, description = "The device's name.")),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = DisconnectAnswer, description = "Done, or there was nothing to do."),
        (status = 400, body = FaultBody, description = "Not a registration id."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 404, body = FaultBody, description = "This app has no such device."),
        (status = 429, body = FaultBody, description = "Too many requests at once."),
        (status = 503, body = FaultBody, description = "The store is unavailable."),
    )
)]
pub(in crate::api) async fn disconnect(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segment(name): Segment,
) -> Result<axum::Json<DisconnectAnswer>, Fault> {
    let name = DeviceName::parse("registration_id", &name)?;
    let found = api.hub.disconnect(&caller.app, name).await?;
    let disconnected = found.ok_or_else(|| Fault::not_found("no such device"))?;
    Ok(axum::Json(DisconnectAnswer { disconnected }))
}
