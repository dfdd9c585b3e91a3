//! `POST /v1/devices`, `GET /v1/devices/{registration_id}`, `POST /v1/devices/{registration_id}/disconnect`.
//!
//! - [`changes`]: what is changed of a device, and its end.
//! - [`lists`]: all devices, and where they are.
//! - [`tags`], [`aliases`]: devices by what they have.

pub(in crate::api) mod aliases;
pub(in crate::api) mod changes;
pub(in crate::api) mod lists;
pub(in crate::api) mod tags;

use crate::api::Api;
use crate::api::exchange::body::{Json, Segment};
use crate::api::exchange::caller::{Caller, Registrar};
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::rfc3339::rfc3339;
use crate::delivery::hub::ConnectionStatus;
use crate::domain::device_change;
use crate::domain::heartbeat::Reach;
use crate::domain::{Alias, Device, DeviceName, Invalid, Registration};
use crate::store::port::DeviceView;
use axum::extract::State;
use axum::http::StatusCode;
use longwire_proto::wire::{Class, Network};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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
    #[schema(max_items = 100, example = json!(["beta", "cn"]))]
    tags: Option<Vec<String>>,
    /// All attributes of the device, at most 16: a name is a letter, then letters, digits and `_`, at most 32 bytes; a value is
    /// 1 to 64 bytes without controls.
    #[schema(example = json!({"app_version": "3.2.1"}))]
    attributes: Option<BTreeMap<String, String>>,
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
    /// Its attributes.
    #[schema(example = json!({"app_version": "3.2.1"}))]
    attributes: BTreeMap<String, String>,
    /// It is connected to this node now.
    online: bool,
    /// By so many connections.
    connections: u16,
    /// What is known of each connection.
    sessions: Vec<SessionAnswer>,
    /// What waits in its mailbox.
    mailbox: Mailbox,
}

/// A device, as lists have it.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct ListedDevice {
    /// Its name.
    #[schema(example = "phone-1")]
    registration_id: String,
    /// Its number, decimal.
    #[schema(example = "42")]
    client_id: String,
    /// Its alias.
    alias: Option<String>,
    /// Its tags.
    tags: Vec<String>,
    /// Its attributes.
    #[schema(example = json!({"app_version": "3.2.1"}))]
    attributes: BTreeMap<String, String>,
}

impl ListedDevice {
    fn of(device: Device) -> ListedDevice {
        ListedDevice {
            registration_id: device.name.as_str().to_owned(),
            client_id: device.client.0.to_string(),
            alias: device.alias.map(|alias| alias.as_str().to_owned()),
            tags: device.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
            attributes: device
                .attributes
                .iter()
                .map(|(name, value)| (name.as_str().to_owned(), value.as_str().to_owned()))
                .collect(),
        }
    }
}

/// Devices, in pages.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct DevicesAnswer {
    /// How many there are in all: exact, counted as they change.
    #[schema(example = 1)]
    total: u64,
    /// Those of this page.
    #[schema(max_items = 1000)]
    devices: Vec<ListedDevice>,
    /// Where the next page begins; not given: there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A connection of a device.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct SessionAnswer {
    /// When it was accepted.
    #[schema(format = DateTime)]
    since: String,
    /// When the device was last heard.
    #[schema(format = DateTime)]
    heard: String,
    /// What carries its bytes, as the device says: `wired`, `wifi`, `2g` to `5g`; `null`: it does not say, as MQTT clients.
    #[schema(example = "wifi")]
    network: Option<&'static str>,
    /// What the device is, as it says: `phone`, `pc`, `web`, `iot`; `null`: it does not say, as MQTT clients.
    #[schema(example = "phone")]
    class: Option<&'static str>,
}

impl SessionAnswer {
    fn of(connection: &ConnectionStatus) -> SessionAnswer {
        let network = match connection.network {
            Network::Unknown => None,
            Network::Wired => Some("wired"),
            Network::Wifi => Some("wifi"),
            Network::G2 => Some("2g"),
            Network::G3 => Some("3g"),
            Network::G4 => Some("4g"),
            Network::G5 => Some("5g"),
        };
        let class = connection.class.map(|class| match class {
            Class::Phone => "phone",
            Class::Pc => "pc",
            Class::Web => "web",
            Class::Iot => "iot",
        });
        SessionAnswer { since: rfc3339(connection.since), heard: rfc3339(connection.heard), network, class }
    }
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
    let tags = request.tags.map(|texts| device_change::tags("tags", &texts)).transpose()?;
    let attributes = request.attributes.map(|texts| device_change::attributes("attributes", &texts));
    Ok(Registration { name, alias, tags, attributes: attributes.transpose()? })
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
    let (view, _) = found.ok_or_else(|| Fault::not_found(NO_DEVICE))?;
    Ok(axum::Json(answer(&api, view).await))
}

/// What another app has is answered so, too.
const NO_DEVICE: &str = "no such device";

async fn answer(api: &Api, view: DeviceView) -> DeviceAnswer {
    let status = api.hub.status_of(view.device.client).await;
    let ListedDevice { registration_id, client_id, alias, tags, attributes } = ListedDevice::of(view.device);
    DeviceAnswer {
        registration_id,
        client_id,
        alias,
        tags,
        attributes,
        online: status.connections > 0,
        connections: u16::try_from(status.connections).unwrap_or(u16::MAX),
        sessions: status.seen.iter().map(SessionAnswer::of).collect(),
        mailbox: Mailbox { messages: view.mailbox_messages, bytes: view.mailbox_bytes },
    }
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
    let disconnected = found.ok_or_else(|| Fault::not_found(NO_DEVICE))?;
    Ok(axum::Json(DisconnectAnswer { disconnected }))
}
