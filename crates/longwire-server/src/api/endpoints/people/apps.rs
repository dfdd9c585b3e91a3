//! `/v1/apps`: apps from their making to their end.

use super::quotas::AppQuotas;
use crate::api::Api;
use crate::api::endpoints::apps::FrequencyCapObject;
use crate::api::endpoints::streams::ReceiptWord;
use crate::api::exchange::body::{Json, Segment};
use crate::api::exchange::caller::Operator;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::object::Object;
use crate::api::exchange::page::{self, PageQuery};
use crate::api::exchange::query::Query;
use crate::delivery::people::{GRACE_S_MAX, RemoveError};
use crate::domain::{App, AppKey, AppSettings, FrequencyCap, Invalid, Quotas, ReceiptMode};
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// An app's name for people, bytes.
const NAME_BYTES_MAX: usize = 128;
/// The list's word in its cursors.
const LIST: &str = "apps";

/// An app to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct NewApp {
    /// Its key, 1 to 64 characters of A-Z a-z 0-9 . _ -; without it one is issued.
    #[schema(max_length = 64, example = "shop")]
    app_key: Option<String>,
    /// What it is called, for people; at most 128 bytes.
    #[schema(max_length = 128, example = "The shop")]
    name: Option<String>,
    /// Devices may register with the app key alone.
    #[schema(example = false)]
    open_registration: Option<bool>,
    /// Devices may bind their own alias, and add and remove their own tags and attributes.
    #[schema(example = true)]
    self_service: Option<bool>,
    /// All quotas; they replace what was set.
    #[schema(value_type = Option<AppQuotas>)]
    quotas: Option<Object<AppQuotas>>,
}

/// Settings of an app; what is not given stays, or is as by default.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct AppChange {
    /// What it is called, for people; at most 128 bytes.
    #[schema(max_length = 128, example = "The shop")]
    name: Option<String>,
    /// Devices may register with the app key alone.
    #[schema(example = false)]
    open_registration: Option<bool>,
    /// Devices may bind their own alias, and add and remove their own tags and attributes.
    #[schema(example = true)]
    self_service: Option<bool>,
    /// What goes into its stream of receipts. `off`: only of messages with `callback`; `ends`: how each delivery ended; `all`: also what
    /// devices say of it.
    #[schema(example = "ends")]
    receipts: Option<ReceiptWord>,
    /// Which devices come and go is a stream; it begins with each device's next login.
    #[schema(example = true)]
    presence: Option<bool>,
    /// How many messages a device gets in a span of time, from its next login on; null: as many as come.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<FrequencyCapObject>)]
    frequency_cap: Option<Option<FrequencyCapObject>>,
    /// All quotas; they replace what was set.
    #[schema(value_type = Option<AppQuotas>)]
    quotas: Option<Object<AppQuotas>>,
}

/// Settings, judged.
struct Change {
    name: Option<String>,
    open_registration: Option<bool>,
    self_service: Option<bool>,
    receipts: Option<ReceiptMode>,
    presence: Option<bool>,
    frequency_cap: Option<Option<FrequencyCap>>,
    quotas: Option<Quotas>,
}

impl AppChange {
    fn parse(self) -> Result<Change, Invalid> {
        let AppChange { name, open_registration, self_service, receipts, presence, frequency_cap, quotas } =
            self;
        if name.as_ref().is_some_and(|name| name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control))
        {
            let problem = format!("at most {NAME_BYTES_MAX} bytes without control characters");
            return Err(Invalid::new("name", problem));
        }
        let quotas = quotas.map(|Object(quotas)| quotas.parse()).transpose()?;
        let cap = |cap: Option<FrequencyCapObject>| cap.map(FrequencyCapObject::parse).transpose();
        let frequency_cap = frequency_cap.map(cap).transpose()?;
        let receipts = receipts.map(ReceiptMode::from);
        Ok(Change { name, open_registration, self_service, receipts, presence, frequency_cap, quotas })
    }
}

/// Null is something else than absent.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<FrequencyCapObject>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Change {
    fn apply(self, app: &mut App) {
        let settings: &mut AppSettings = Arc::make_mut(&mut app.settings);
        if let Some(name) = self.name {
            settings.name = name;
        }
        if let Some(self_service) = self.self_service {
            settings.self_service = self_service;
        }
        settings.receipts = self.receipts.unwrap_or(settings.receipts);
        settings.presence = self.presence.unwrap_or(settings.presence);
        settings.frequency_cap = self.frequency_cap.unwrap_or(settings.frequency_cap);
        if let Some(quotas) = self.quotas {
            settings.quotas = quotas;
        }
        if let Some(open) = self.open_registration {
            app.open_registration = open;
        }
    }
}

/// An app.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct AppAnswer {
    /// Its key.
    #[schema(example = "shop")]
    app_key: String,
    /// What it is called.
    #[schema(example = "The shop")]
    name: String,
    /// It is out of service: its callers get 403 `app_disabled`, its devices are refused.
    #[schema(example = false)]
    disabled: bool,
    /// Devices may register with the app key alone.
    #[schema(example = false)]
    open_registration: bool,
    /// Devices may change themselves.
    #[schema(example = true)]
    self_service: bool,
    /// What goes into its stream of receipts.
    #[schema(example = "ends")]
    receipts: ReceiptWord,
    /// Its devices' comings and goings are a stream.
    #[schema(example = true)]
    presence: bool,
    /// How many messages a device gets in a span of time; null: as many as come.
    frequency_cap: Option<FrequencyCapObject>,
    /// Its own quotas.
    quotas: AppQuotas,
}

impl From<&App> for AppAnswer {
    fn from(app: &App) -> AppAnswer {
        AppAnswer {
            app_key: app.key.as_str().to_owned(),
            name: app.settings.name.clone(),
            disabled: app.settings.disabled,
            open_registration: app.open_registration,
            self_service: app.settings.self_service,
            receipts: app.settings.receipts.into(),
            presence: app.settings.presence,
            frequency_cap: app.settings.frequency_cap.map(FrequencyCapObject::from),
            quotas: AppQuotas::from(&app.settings.quotas),
        }
    }
}

/// An app with its secret, which is shown now and never again.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct SecretAnswer {
    /// The app's key.
    #[schema(example = "shop")]
    app_key: String,
    /// Its secret.
    #[schema(example = "7f0c1d…")]
    app_secret: String,
}

/// Apps in the order of their keys.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct AppsAnswer {
    /// At most `limit`.
    #[schema(max_items = 1000)]
    apps: Vec<AppAnswer>,
    /// Where the next page begins; null: this was the last.
    next: Option<String>,
}

fn key(text: &str) -> Result<AppKey, Fault> {
    Ok(AppKey::parse(text)?)
}

fn unknown() -> Fault {
    Fault::not_found("no such app")
}

/// Make an app. Its secret is in the answer, and never told again.
#[utoipa::path(
    post, path = "/v1/apps", tag = "apps", request_body = NewApp,
    security(("admin" = []), ("admin_basic" = [])),
    responses(
        (status = 201, body = SecretAnswer, description = "It is made."),
        (status = 400, body = FaultBody, description = "A field is not allowed; the message names it."),
        (status = 401, body = FaultBody, description = "Not an admin key."),
        (status = 408, body = FaultBody, description = "The body did not come in time."),
        (status = 409, body = FaultBody, description = "`taken`: an app has this key."),
        (status = 413, body = FaultBody, description = "The body is too long."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 503, body = FaultBody, description = "The registry or the audit log is unavailable."),
    )
)]
pub(in crate::api) async fn create(
    State(api): State<Arc<Api>>,
    _operator: Operator,
    Json(request): Json<NewApp>,
) -> Result<(StatusCode, axum::Json<SecretAnswer>), Fault> {
    let NewApp { app_key, name, open_registration, self_service, quotas } = request;
    let settings = AppChange { name, open_registration, self_service, quotas, ..AppChange::default() };
    let change = settings.parse()?;
    let key = match app_key {
        Some(text) => key(&text)?,
        None => key(&format!("app-{}", &crate::delivery::hub::new_trace().to_string()[..16]))?,
    };
    if api.hub.app(key.as_str()).is_some() {
        return Err(Fault::conflict("taken", "app_key: is taken"));
    }
    let (_, secret) = api.hub.create_app(key.clone(), false).await?;
    api.hub.change_app(&key, |app| change.apply(app)).await?;
    let answer = SecretAnswer { app_key: key.as_str().to_owned(), app_secret: secret.reveal().to_owned() };
    Ok((StatusCode::CREATED, axum::Json(answer)))
}

/// The apps of this deployment.
#[utoipa::path(
    get, path = "/v1/apps", tag = "apps", params(PageQuery),
    security(("admin" = []), ("admin_basic" = [])),
    responses(
        (status = 200, body = AppsAnswer, description = "A page, in the order of keys."),
        (status = 400, body = FaultBody, description = "A cursor or limit that is none."),
        (status = 401, body = FaultBody, description = "Not an admin key."),
    )
)]
pub(in crate::api) async fn list(
    State(api): State<Arc<Api>>,
    _operator: Operator,
    Query(query): Query<PageQuery>,
) -> Result<axum::Json<AppsAnswer>, Fault> {
    let limit = page::limit(query.limit)?;
    let after: Option<String> = page::after(LIST, query.after.as_deref())?;
    let apps = api.hub.apps_after(after.as_deref(), limit + 1);
    let (apps, next) = page::cut(apps, limit, LIST, |app| app.key.as_str().to_owned());
    Ok(axum::Json(AppsAnswer { apps: apps.iter().map(|app| AppAnswer::from(&**app)).collect(), next }))
}

/// An app.
#[utoipa::path(
    get, path = "/v1/apps/{app_key}", tag = "apps",
    params(("app_key" = String, Path, description = "The app's key.")),
    security(("admin" = []), ("admin_basic" = [])),
    responses(
        (status = 200, body = AppAnswer, description = "The app."),
        (status = 400, body = FaultBody, description = "Not a key."),
        (status = 401, body = FaultBody, description = "Not an admin key."),
        (status = 404, body = FaultBody, description = "No such app."),
    )
)]
pub(in crate::api) async fn show(
    State(api): State<Arc<Api>>,
    _operator: Operator,
    Segment(app_key): Segment,
) -> Result<axum::Json<AppAnswer>, Fault> {
    let app = api.hub.app(key(&app_key)?.as_str()).ok_or_else(unknown)?;
    Ok(axum::Json(AppAnswer::from(&*app)))
}

/// Change an app's settings. What is not given stays.
#[utoipa::path(
    patch, path = "/v1/apps/{app_key}", tag = "apps", request_body = AppChange,
    params(("app_key" = String, Path, description = "The app's key.")),
    security(("admin" = []), ("admin_basic" = [])),
    responses(
        (status = 200, body = AppAnswer, description = "The app as it is now."),
        (status = 400, body = FaultBody, description = "A field is not allowed; the message names it."),
        (status = 401, body = FaultBody, description = "Not an admin key."),
        (status = 404, body = FaultBody, description = "No such app."),
        (status = 408, body = FaultBody, description = "The body did not come in time."),
        (status = 413, body = FaultBody, description = "The body is too long."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 503, body = FaultBody, description = "The registry or the audit log is unavailable."),
    )
)]
pub(in crate::api) async fn change(
    State(api): State<Arc<Api>>,
    _operator: Operator,
    Segment(app_key): Segment,
    Json(request): Json<AppChange>,
) -> Result<axum::Json<AppAnswer>, Fault> {
    let change = request.parse()?;
    let app = api.hub.change_app(&key(&app_key)?, |app| change.apply(app)).await?;
    Ok(axum::Json(AppAnswer::from(&*app.ok_or_else(unknown)?)))
}

/// How to change a secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct RotateRequest {
    /// The secret before stays good for so many seconds; 0: it opens nothing more.
    #[serde(default)]
    #[schema(maximum = 86_400, default = 0, example = 3600)]
    grace_s: u64,
}

/// Give an app a new secret. It is in the answer, and never told again; one that was replaced before opens nothing more.
#[utoipa::path(
    post, path = "/v1/apps/{app_key}/rotate_secret", tag = "apps", request_body = RotateRequest,
    params(("app_key" = String, Path, description = "The app's key.")),
    security(("admin" = []), ("admin_basic" = [])),
    responses(
        (status = 200, body = SecretAnswer, description = "The new secret holds."),
        (status = 400, body = FaultBody, description = "A field is not allowed; the message names it."),
        (status = 401, body = FaultBody, description = "Not an admin key."),
        (status = 404, body = FaultBody, description = "No such app."),
        (status = 408, body = FaultBody, description = "The body did not come in time."),
        (status = 413, body = FaultBody, description = "The body is too long."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 503, body = FaultBody, description = "The registry or the audit log is unavailable."),
    )
)]
pub(in crate::api) async fn rotate(
    State(api): State<Arc<Api>>,
    _operator: Operator,
    Segment(app_key): Segment,
    Json(RotateRequest { grace_s }): Json<RotateRequest>,
) -> Result<axum::Json<SecretAnswer>, Fault> {
    if grace_s > GRACE_S_MAX {
        return Err(Invalid::new("grace_s", format!("at most {GRACE_S_MAX}, is {grace_s}")).into());
    }
    let secret = api.hub.rotate_secret(&key(&app_key)?, grace_s).await?.ok_or_else(unknown)?;
    Ok(axum::Json(SecretAnswer { app_key, app_secret: secret.reveal().to_owned() }))
}

/// Take an app out of service: its callers get 403, its devices are closed with `app_disabled` and refused.
#[utoipa::path(
    post, path = "/v1/apps/{app_key}/disable", tag = "apps",
    params(("app_key" = String, Path, description = "The app's key.")),
    security(("admin" = []), ("admin_basic" = [])),
    responses(
        (status = 200, body = AppAnswer, description = "It is; its last devices may still be on their way out."),
        (status = 400, body = FaultBody, description = "Not a key."),
        (status = 401, body = FaultBody, description = "Not an admin key."),
        (status = 404, body = FaultBody, description = "No such app."),
        (status = 503, body = FaultBody, description = "The registry or the audit log is unavailable."),
    )
)]
pub(in crate::api) async fn disable(
    State(api): State<Arc<Api>>,
    _operator: Operator,
    Segment(app_key): Segment,
) -> Result<axum::Json<AppAnswer>, Fault> {
    let app = api.hub.disable_app(&key(&app_key)?).await?.ok_or_else(unknown)?;
    Ok(axum::Json(AppAnswer::from(&*app)))
}

/// Take an app into service again.
#[utoipa::path(
    post, path = "/v1/apps/{app_key}/enable", tag = "apps",
    params(("app_key" = String, Path, description = "The app's key.")),
    security(("admin" = []), ("admin_basic" = [])),
    responses(
        (status = 200, body = AppAnswer, description = "It is."),
        (status = 400, body = FaultBody, description = "Not a key."),
        (status = 401, body = FaultBody, description = "Not an admin key."),
        (status = 404, body = FaultBody, description = "No such app."),
        (status = 503, body = FaultBody, description = "The registry or the audit log is unavailable."),
    )
)]
pub(in crate::api) async fn enable(
    State(api): State<Arc<Api>>,
    _operator: Operator,
    Segment(app_key): Segment,
) -> Result<axum::Json<AppAnswer>, Fault> {
    let app = api.hub.set_settings(&key(&app_key)?, |settings| settings.disabled = false).await?;
    Ok(axum::Json(AppAnswer::from(&*app.ok_or_else(unknown)?)))
}

/// Take a disabled app without devices out, with its keys. What is stored of its messages ends by their ttl and the retention.
#[utoipa::path(
    delete, path = "/v1/apps/{app_key}", tag = "apps",
    params(("app_key" = String, Path, description = "The app's key.")),
    security(("admin" = []), ("admin_basic" = [])),
    responses(
        (status = 204, description = "It is gone; its key may be used again, for an app with another number."),
        (status = 400, body = FaultBody, description = "Not a key."),
        (status = 401, body = FaultBody, description = "Not an admin key."),
        (status = 404, body = FaultBody, description = "No such app."),
        (status = 409, body = FaultBody, description = "`app_in_service`: disable it first; `app_has_devices`: remove them first."),
        (status = 503, body = FaultBody, description = "The registry or the audit log is unavailable."),
    )
)]
pub(in crate::api) async fn remove(
    State(api): State<Arc<Api>>,
    _operator: Operator,
    Segment(app_key): Segment,
) -> Result<StatusCode, Fault> {
    match api.hub.remove_app(&key(&app_key)?).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(RemoveError::Unknown) => Err(unknown()),
        Err(error @ RemoveError::InService) => Err(Fault::conflict("app_in_service", error.to_string())),
        Err(error @ RemoveError::HasDevices) => Err(Fault::conflict("app_has_devices", error.to_string())),
        Err(RemoveError::Store(error)) => Err(error.into()),
    }
}
