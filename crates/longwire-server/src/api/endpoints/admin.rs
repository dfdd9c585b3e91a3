//! `POST /v1/admin/drain`, `POST /v1/admin/reload`, `GET /v1/admin/memory`, `GET /v1/admin/shards`, `PUT /v1/admin/apps/{app_key}/duplicate_login`,
//! `PUT /v1/admin/apps/{app_key}/heartbeat`.

use crate::api::Api;
use crate::api::exchange::body::{Json, Segment};
use crate::api::exchange::caller::Operator;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::operations::{
    AppOutboxes, DrainOrder, NodeMemory, Reloaded, ReloadedFiles, ShardState, Then,
};
use crate::domain::{AppId, AppKey, DuplicateLogin, HeartbeatPolicy, HeartbeatProfile, Invalid};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// The longest window of a drain, seconds.
const WINDOW_S_MAX: u16 = 3600;

/// How to drain.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct DrainRequest {
    /// Devices are told to come back after a time of their own within this, seconds; they go elsewhere meanwhile.
    #[schema(maximum = 3600)]
    window_s: u16,
    /// What follows; `exit` if it is left out.
    #[serde(default)]
    then: Then,
}

/// A drain that has begun.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct DrainAnswer {
    /// Always true.
    draining: bool,
    /// As asked, seconds.
    window_s: u16,
    /// As asked.
    then: Then,
}

/// Take the node out of service: not ready, no new logins and pushes, devices told to reconnect elsewhere.
#[utoipa::path(
    post, path = "/v1/admin/drain", tag = "admin", request_body = DrainRequest,
    security(("admin" = []), ("admin_basic" = [])),
    responses(
        (status = 202, body = DrainAnswer, description = "It has begun."),
        (status = 400, body = FaultBody, description = "A field is not allowed; the message names it."),
        (status = 401, body = FaultBody, description = "Not the admin key."),
        (status = 415, body = FaultBody, description = "Not JSON."),
    )
)]
pub(in crate::api) async fn drain(
    State(api): State<Arc<Api>>,
    _operator: Operator,
    Json(request): Json<DrainRequest>,
) -> Result<(StatusCode, axum::Json<DrainAnswer>), Fault> {
    let DrainRequest { window_s, then } = request;
    if window_s > WINDOW_S_MAX {
        return Err(Invalid::new("window_s", format!("at most {WINDOW_S_MAX}, is {window_s}")).into());
    }
    api.operations.drain(DrainOrder { window_s, then });
    Ok((StatusCode::ACCEPTED, axum::Json(DrainAnswer { draining: true, window_s, then })))
}

/// What became of the order.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct ReloadAnswer {
    /// `read`: new handshakes use what was read; `kept`: what was found cannot be used, the old ones stay; `none`: there are no certificates.
    certificates: &'static str,
    /// Why they were kept, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// The same of the apps' files of keys for JWTs; left out where no app has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<&'static str>,
    /// Why keys that were read before are kept, app by app.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys_problem: Option<String>,
}

/// Read the certificates and the files of keys for JWTs again, as SIGHUP does; connections stay as they are.
#[utoipa::path(
    post, path = "/v1/admin/reload", tag = "admin",
    security(("admin" = []), ("admin_basic" = [])),
    responses(
        (status = 200, body = ReloadAnswer, description = "It has been done, or the answer says why not."),
        (status = 401, body = FaultBody, description = "Not the admin key."),
    )
)]
pub(in crate::api) async fn reload(
    State(api): State<Arc<Api>>,
    _operator: Operator,
) -> axum::Json<ReloadAnswer> {
    let told = |reloaded| match reloaded {
        Reloaded::Read => ("read", None),
        Reloaded::Kept(problem) => ("kept", Some(problem)),
        Reloaded::Nothing => ("none", None),
    };
    let ReloadedFiles { certificates, keys } = api.operations.reload();
    let (certificates, problem) = told(certificates);
    let (keys, keys_problem) = told(keys);
    let keys = (keys != "none").then_some(keys);
    axum::Json(ReloadAnswer { certificates, problem, keys, keys_problem })
}

/// Who holds memory.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct MemoryAnswer {
    /// The node as a whole.
    node: NodeMemory,
    /// The hub's tables.
    hub: HubMemory,
    /// Each app: who holds most bytes first, then by sessions.
    apps: Vec<AppMemory>,
}

/// The hub's tables.
#[derive(Serialize, ToSchema)]
struct HubMemory {
    /// The table of sessions, bytes.
    session_table_bytes: u64,
    /// Deliveries that were sent to live connections and are not acked.
    unacked: u64,
    /// Messages whose live counts are kept.
    live_counts: u64,
    /// Devices and networks that the guards against conflicts and bad logins remember.
    guarded: u64,
}

/// What an app holds.
#[derive(Serialize, ToSchema)]
struct AppMemory {
    /// Its key.
    app_key: String,
    /// Sessions of its devices, those being decided included; a device may have several.
    sessions: u64,
    /// Connections whose socket is full, so that an outbox waits. At most a second old on a node with less than 4,096 of them a shard.
    outbox_connections: u64,
    /// What waits in those outboxes, bytes.
    outbox_bytes: u64,
    /// The socket that has been full longest, seconds.
    outbox_oldest_s: u32,
    /// The device that has taken nothing for longest, seconds.
    outbox_stalled_s: u32,
}

impl AppMemory {
    fn new(key: &AppKey, sessions: u64, held: Option<&AppOutboxes>) -> AppMemory {
        AppMemory {
            app_key: key.as_str().to_owned(),
            sessions,
            outbox_connections: held.map_or(0, |held| held.connections),
            outbox_bytes: held.map_or(0, |held| held.bytes),
            outbox_oldest_s: held.map_or(0, |held| held.oldest_s),
            outbox_stalled_s: held.map_or(0, |held| held.stalled_s),
        }
    }
}

/// Who holds memory: the node, the hub's tables, the apps.
#[utoipa::path(
    get, path = "/v1/admin/memory", tag = "admin",
    security(("admin" = []), ("admin_basic" = [])),
    responses(
        (status = 200, body = MemoryAnswer, description = "What is held now; the parts are read one after the other."),
        (status = 401, body = FaultBody, description = "Not the admin key."),
    )
)]
pub(in crate::api) async fn memory(
    State(api): State<Arc<Api>>,
    _operator: Operator,
) -> axum::Json<MemoryAnswer> {
    let census = api.hub.census();
    let held: HashMap<AppId, AppOutboxes> =
        api.operations.outboxes().into_iter().map(|held| (held.app, held)).collect();
    let mut apps: Vec<AppMemory> = census
        .sessions
        .into_iter()
        .map(|(app, key, sessions)| AppMemory::new(&key, sessions, held.get(&app)))
        .collect();
    apps.sort_by_key(|app| Reverse(app.outbox_bytes));
    axum::Json(MemoryAnswer {
        node: api.operations.memory(),
        hub: HubMemory {
            session_table_bytes: census.session_table_bytes,
            unacked: census.unacked,
            live_counts: census.live_counts,
            guarded: census.guarded,
        },
        apps,
    })
}

/// All shards.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct ShardsAnswer {
    /// One entry per shard.
    shards: Vec<ShardState>,
}

/// The threads that hold the devices, and how busy they are.
#[utoipa::path(
    get, path = "/v1/admin/shards", tag = "admin",
    security(("admin" = []), ("admin_basic" = [])),
    responses(
        (status = 200, body = ShardsAnswer, description = "Every shard."),
        (status = 401, body = FaultBody, description = "Not the admin key."),
    )
)]
pub(in crate::api) async fn shards(
    State(api): State<Arc<Api>>,
    _operator: Operator,
) -> axum::Json<ShardsAnswer> {
    axum::Json(ShardsAnswer { shards: api.operations.shards() })
}

/// What meets a login whose device is connected already.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct DuplicateLoginPolicy {
    /// `takeover`: the newer displaces the older; `reject`: the newer is refused while the older lives; `one_per_class`:
    /// one connection each as phone, pc, web and iot; `many`: several, up to the node's bound; null: as the node is
    /// configured.
    duplicate_login: Option<String>,
}

/// Set what meets a second login of this app's devices. It is stored, and holds from the next login on.
#[utoipa::path(
    put, path = "/v1/admin/apps/{app_key}/duplicate_login", tag = "admin", request_body = DuplicateLoginPolicy,
    params(("app_key" = String, Path, description = "The app's key.")),
    security(("admin" = []), ("admin_basic" = [])),
    responses(
        (status = 200, body = DuplicateLoginPolicy, description = "It holds."),
        (status = 400, body = FaultBody, description = "Not a policy that is served."),
        (status = 401, body = FaultBody, description = "Not the admin key."),
        (status = 404, body = FaultBody, description = "No such app."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 503, body = FaultBody, description = "The registry is unavailable."),
    )
)]
pub(in crate::api) async fn duplicate_login(
    State(api): State<Arc<Api>>,
    _operator: Operator,
    Segment(app_key): Segment,
    Json(request): Json<DuplicateLoginPolicy>,
) -> Result<axum::Json<DuplicateLoginPolicy>, Fault> {
    let app_key = AppKey::parse(&app_key)?;
    let policy = request.duplicate_login.as_deref().map(DuplicateLogin::parse).transpose()?;
    if api.hub.set_duplicate_login(&app_key, policy).await? {
        Ok(axum::Json(request))
    } else {
        Err(Fault::not_found("no such app"))
    }
}

/// A profile by its word, or seconds.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
enum Profile {
    /// `by_class`, `mains`, `phone` or `low_power`.
    Word(String),
    /// So many seconds.
    Seconds(u16),
}

impl Profile {
    fn parse(&self) -> Result<HeartbeatProfile, Invalid> {
        match self {
            Profile::Word(word) => HeartbeatProfile::parse(word),
            Profile::Seconds(seconds) => HeartbeatProfile::parse(&seconds.to_string()),
        }
    }
}

/// How the app's devices beat. What is null or absent is as the node is configured.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct AppHeartbeat {
    /// `mains` (60 s), `phone` (180 s), `low_power` (300 s), `by_class` (as the device says what it is at login), or 5 to
    /// 1200 seconds; within the node's range.
    heartbeat: Option<Profile>,
    /// Random padding of each heartbeat, bytes at most; 0 = none.
    padding: Option<u8>,
}

/// Set how this app's devices beat. It is stored, and assigned from the next login on; both fields are replaced.
#[utoipa::path(
    put, path = "/v1/admin/apps/{app_key}/heartbeat", tag = "admin", request_body = AppHeartbeat,
    params(("app_key" = String, Path, description = "The app's key.")),
    security(("admin" = []), ("admin_basic" = [])),
    responses(
        (status = 200, body = AppHeartbeat, description = "It holds."),
        (status = 400, body = FaultBody, description = "Not a profile, or out of range."),
        (status = 401, body = FaultBody, description = "Not the admin key."),
        (status = 404, body = FaultBody, description = "No such app."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 503, body = FaultBody, description = "The registry is unavailable."),
    )
)]
pub(in crate::api) async fn heartbeat(
    State(api): State<Arc<Api>>,
    _operator: Operator,
    Segment(app_key): Segment,
    Json(request): Json<AppHeartbeat>,
) -> Result<axum::Json<AppHeartbeat>, Fault> {
    let app_key = AppKey::parse(&app_key)?;
    let profile = request.heartbeat.as_ref().map(Profile::parse).transpose()?;
    if api.hub.set_heartbeat(&app_key, HeartbeatPolicy { profile, padding_max: request.padding }).await? {
        Ok(axum::Json(request))
    } else {
        Err(Fault::not_found("no such app"))
    }
}
