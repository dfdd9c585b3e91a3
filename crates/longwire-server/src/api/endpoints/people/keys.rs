//! `/v1/keys`: keys of the caller's app; `/v1/admin/keys`: keys of operators.

use crate::api::Api;
use crate::api::exchange::body::{Json, Segment};
use crate::api::exchange::caller::{Caller, Operator};
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::page::{self, PageQuery};
use crate::api::exchange::query::Query;
use crate::api::exchange::rfc3339::rfc3339;
use crate::domain::people::{ApiKey, Grant, Role, Scope, parse_key_name};
use crate::domain::{AppId, AppSecret, Invalid, WallMs};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use utoipa::ToSchema;

/// The longest life of a key, seconds: ten years.
const LIFE_S_MAX: u64 = 3650 * 86_400;
/// Whose keys operators' are.
const OPERATORS: AppId = AppId(0);
/// The lists' words in their cursors.
const KEYS: &str = "keys";
const ADMIN_KEYS: &str = "admin_keys";

/// A key to be made for the caller's app.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct NewKey {
    /// What it is called, 1 to 64 bytes.
    #[schema(max_length = 64, example = "backend")]
    name: String,
    /// What it opens: `push`, `messages:read`, `devices`, `tags`, `schedules`, `receipts`, `upstream`, `admin` (keys and quotas).
    #[schema(min_items = 1, max_items = 8, example = json!(["push", "messages:read"]))]
    scopes: Vec<String>,
    /// It opens nothing after so many seconds; absent: it has no end.
    #[schema(minimum = 1, maximum = 315_360_000, example = 7_776_000)]
    expires_in_s: Option<u64>,
}

/// A key to be made for an operator.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct NewAdminKey {
    /// Whose it is, 1 to 64 bytes.
    #[schema(max_length = 64, example = "ann")]
    name: String,
    /// `viewer`: reads; `operator`: also drains, reloads, disables apps; `admin`: everything.
    #[schema(example = "operator")]
    role: String,
    /// It opens nothing after so many seconds; absent: it has no end.
    #[schema(minimum = 1, maximum = 315_360_000, example = 7_776_000)]
    expires_in_s: Option<u64>,
}

/// A key.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct KeyAnswer {
    /// Its id, 16 hexadecimal digits; also in the key.
    #[schema(example = "07c1a3f05b6e2d91")]
    id: String,
    /// What it is called.
    #[schema(example = "backend")]
    name: String,
    /// What it opens, of an app's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = json!(["push", "messages:read"]))]
    scopes: Option<Vec<&'static str>>,
    /// The role, of an operator's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "operator")]
    role: Option<&'static str>,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it ends; null: never.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
    /// When it was last used, to the minute; null: never.
    #[schema(format = DateTime)]
    used_at: Option<String>,
}

/// A key that was made.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct MadeKey {
    /// What is known of it.
    #[serde(flatten)]
    #[schema(inline)]
    known: KeyAnswer,
    /// The key itself, shown now and never again. An app's is presented as `app_key.key`, an operator's alone.
    #[schema(example = "lwk_07c1a3f05b6e2d91_5e…")]
    key: String,
}

/// Keys in the order of their ids.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct KeysAnswer {
    /// At most `limit`.
    #[schema(max_items = 1000)]
    keys: Vec<KeyAnswer>,
    /// Where the next page begins; null: this was the last.
    next: Option<String>,
}

impl From<&ApiKey> for KeyAnswer {
    fn from(key: &ApiKey) -> KeyAnswer {
        let (scopes, role) = match &key.grant {
            Grant::App(_, scopes) => (Some(scopes.iter().map(|scope| scope.label()).collect()), None),
            Grant::Operator(role) => (None, Some(role.label())),
        };
        let used = WallMs(key.used.load(Relaxed));
        KeyAnswer {
            id: format!("{:016x}", key.id),
            name: key.name.clone(),
            scopes,
            role,
            created_at: rfc3339(key.created),
            expires_at: key.expires.map(rfc3339),
            used_at: (used.0 > 0).then(|| rfc3339(used)),
        }
    }
}

async fn make(
    api: &Api,
    name: &str,
    grant: Grant,
    expires_in_s: Option<u64>,
) -> Result<(StatusCode, axum::Json<MadeKey>), Fault> {
    let name = parse_key_name(name)?;
    if expires_in_s.is_some_and(|life_s| !(1..=LIFE_S_MAX).contains(&life_s)) {
        return Err(Invalid::new("expires_in_s", format!("must be 1 to {LIFE_S_MAX}")).into());
    }
    let (key, text): (Arc<ApiKey>, AppSecret) = api.hub.create_key(name, grant, expires_in_s).await?;
    let made = MadeKey { known: KeyAnswer::from(&*key), key: text.reveal().to_owned() };
    Ok((StatusCode::CREATED, axum::Json(made)))
}

fn pages(api: &Api, of: AppId, list: &str, query: &PageQuery) -> Result<axum::Json<KeysAnswer>, Fault> {
    let limit = page::limit(query.limit)?;
    let after: Option<u64> = page::after(list, query.after.as_deref())?;
    let (keys, next) = page::cut(api.hub.keys(of, after, limit + 1), limit, list, |key| key.id);
    Ok(axum::Json(KeysAnswer { keys: keys.iter().map(|key| KeyAnswer::from(&**key)).collect(), next }))
}

async fn revoke(api: &Api, of: AppId, id: &str) -> Result<StatusCode, Fault> {
    let shaped = id.len() == 16 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let id = u64::from_str_radix(id, 16).ok().filter(|_| shaped);
    let id = id.ok_or_else(|| Fault::invalid("key_id: must be 16 hexadecimal digits"))?;
    if api.hub.revoke_key(of, id).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Fault::not_found("no such key"))
    }
}

/// Make a key of the caller's app. To change one, make the second, then revoke the first.
#[utoipa::path(
    post, path = "/v1/keys", tag = "keys", request_body = NewKey,
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 201, body = MadeKey, description = "It opens from now on."),
        (status = 400, body = FaultBody, description = "A field is not allowed, or there are 100 keys."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 408, body = FaultBody, description = "The body did not come in time."),
        (status = 413, body = FaultBody, description = "The body is too long."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 429, body = FaultBody, description = "Too many requests."),
        (status = 503, body = FaultBody, description = "The registry or the audit log is unavailable."),
    )
)]
pub(in crate::api) async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Json(request): Json<NewKey>,
) -> Result<(StatusCode, axum::Json<MadeKey>), Fault> {
    if request.scopes.is_empty() || request.scopes.len() > Scope::ALL.len() {
        return Err(Fault::invalid("scopes: must be 1 to 8 words"));
    }
    let scopes = request.scopes.iter().map(|word| Scope::parse(word)).collect::<Result<_, _>>()?;
    make(&api, &request.name, Grant::App(caller.app.id, scopes), request.expires_in_s).await
}

/// The keys of the caller's app, without what opens.
#[utoipa::path(
    get, path = "/v1/keys", tag = "keys", params(PageQuery),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, body = KeysAnswer, description = "A page."),
        (status = 400, body = FaultBody, description = "A cursor or limit that is none."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 429, body = FaultBody, description = "Too many requests."),
    )
)]
pub(in crate::api) async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<KeysAnswer>, Fault> {
    pages(&api, caller.app.id, KEYS, &query)
}

/// Revoke a key of the caller's app: from now on it opens nothing.
#[utoipa::path(
    delete, path = "/v1/keys/{key_id}", tag = "keys",
    params(("key_id" = String, Path, description = "The key's id, 16 hexadecimal digits.")),
    security(("basic" = []), ("bearer" = []), ("api_key" = [])),
    responses(
        (status = 204, description = "It is."),
        (status = 400, body = FaultBody, description = "Not an id."),
        (status = 401, body = FaultBody, description = "No app has these credentials."),
        (status = 404, body = FaultBody, description = "This app has no such key."),
        (status = 429, body = FaultBody, description = "Too many requests."),
        (status = 503, body = FaultBody, description = "The registry or the audit log is unavailable."),
    )
)]
pub(in crate::api) async fn remove(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Segment(id): Segment,
) -> Result<StatusCode, Fault> {
    revoke(&api, caller.app.id, &id).await
}

/// Make a key for an operator.
#[utoipa::path(
    post, path = "/v1/admin/keys", tag = "admin", request_body = NewAdminKey,
    security(("admin" = []), ("admin_basic" = [])),
    responses(
        (status = 201, body = MadeKey, description = "It opens from now on."),
        (status = 400, body = FaultBody, description = "A field is not allowed, or there are 100 keys."),
        (status = 401, body = FaultBody, description = "Not an admin key."),
        (status = 408, body = FaultBody, description = "The body did not come in time."),
        (status = 413, body = FaultBody, description = "The body is too long."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 503, body = FaultBody, description = "The registry or the audit log is unavailable."),
    )
)]
pub(in crate::api) async fn create_admin(
    State(api): State<Arc<Api>>,
    _operator: Operator,
    Json(request): Json<NewAdminKey>,
) -> Result<(StatusCode, axum::Json<MadeKey>), Fault> {
    let grant = Grant::Operator(Role::parse(&request.role)?);
    make(&api, &request.name, grant, request.expires_in_s).await
}

/// The keys of operators. The admin key of the start, which has all rights, is not among them.
#[utoipa::path(
    get, path = "/v1/admin/keys", tag = "admin", params(PageQuery),
    security(("admin" = []), ("admin_basic" = [])),
    responses(
        (status = 200, body = KeysAnswer, description = "A page."),
        (status = 400, body = FaultBody, description = "A cursor or limit that is none."),
        (status = 401, body = FaultBody, description = "Not an admin key."),
    )
)]
pub(in crate::api) async fn list_admin(
    State(api): State<Arc<Api>>,
    _operator: Operator,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<KeysAnswer>, Fault> {
    pages(&api, OPERATORS, ADMIN_KEYS, &query)
}

/// Revoke a key of an operator: from now on it opens nothing.
#[utoipa::path(
    delete, path = "/v1/admin/keys/{key_id}", tag = "admin",
    params(("key_id" = String, Path, description = "The key's id, 16 hexadecimal digits.")),
    security(("admin" = []), ("admin_basic" = [])),
    responses(
        (status = 204, description = "It is."),
        (status = 400, body = FaultBody, description = "Not an id."),
        (status = 401, body = FaultBody, description = "Not an admin key."),
        (status = 404, body = FaultBody, description = "No operator has such a key."),
        (status = 503, body = FaultBody, description = "The registry or the audit log is unavailable."),
    )
)]
pub(in crate::api) async fn remove_admin(
    State(api): State<Arc<Api>>,
    _operator: Operator,
    Segment(id): Segment,
) -> Result<StatusCode, Fault> {
    revoke(&api, OPERATORS, &id).await
}
