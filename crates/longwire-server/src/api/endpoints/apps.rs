//! What an operator sets for one app's MQTT clients: `PUT /v1/admin/apps/{app_key}/topic_rules`,
//! `PUT /v1/admin/apps/{app_key}/login_ways`; and for all its devices: `PUT /v1/admin/apps/{app_key}/frequency_cap`.

use crate::api::Api;
use crate::api::exchange::body::{Json, Segment};
use crate::api::exchange::caller::Operator;
use crate::api::exchange::fault::{Fault, FaultBody};
use crate::api::exchange::object::{Object, object_if_any};
use crate::domain::login_ways::{CallOutWay, JwtAlgorithm, JwtKey, JwtWay, LoginWays};
use crate::domain::{AppKey, DeviceName, FrequencyCap, Invalid};
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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

/// How the app's MQTT clients may prove who they are, beside device tokens. What is absent is no way in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct LoginWaysRequest {
    /// A JWT as password; the user name is the app key.
    #[serde(default, deserialize_with = "object_if_any")]
    jwt: Option<JwtRequest>,
    /// A service of the operator is asked.
    #[serde(default, deserialize_with = "object_if_any")]
    call_out: Option<CallOutRequest>,
    /// Common name of a verified client certificate → registration id; the user name is the app key, without a password.
    #[serde(default)]
    certificates: BTreeMap<String, String>,
}

/// Whose JWTs are believed. A token needs `exp`; `sub` names the device, else the client id does.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct JwtRequest {
    /// At most 16.
    #[serde(default)]
    #[schema(max_items = 16, value_type = Vec<KeyRequest>)]
    keys: Vec<Object<KeyRequest>>,
    /// A file on the server with a JWK set (RFC 7517); it is read again when it changes.
    jwks_file: Option<String>,
    /// What `iss` must be.
    issuer: Option<String>,
    /// What `aud` must be, or hold.
    audience: Option<String>,
}

/// A key, for one algorithm.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct KeyRequest {
    /// Tokens with a `kid` are judged by keys of that id and by keys without one.
    kid: Option<String>,
    /// `HS256`, `RS256`, `ES256` or `EdDSA`.
    algorithm: String,
    /// HS256: the shared secret, at least 32 bytes.
    secret: Option<String>,
    /// The others: the public key in PEM.
    public_key: Option<String>,
}

/// Where logins are asked about.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CallOutRequest {
    /// `https://…`, or `http://` on loopback. It gets POST with `{client_id, user_name, password, peer, protocol}` and answers 200
    /// with `{"allow": true}`, and `"device"` if the client id does not name the device.
    url: String,
}

/// What holds now, without keys.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct LoginWaysAnswer {
    /// Keys for JWTs that were given; those of a file are not counted.
    jwt_keys: usize,
    /// A file of keys is read.
    jwks_file: bool,
    /// A service is asked.
    call_out: bool,
    /// Certificates that are mapped to devices.
    certificates: usize,
}

impl LoginWaysRequest {
    fn parse(self) -> Result<LoginWays, Invalid> {
        let certificate = |(subject, device): (String, String)| {
            let device = DeviceName::parse(&format!("certificates[{subject}]"), &device)?;
            Ok::<_, Invalid>((subject, device))
        };
        Ok(LoginWays {
            jwt: self.jwt.map(JwtRequest::parse).transpose()?,
            call_out: self.call_out.map(|way| CallOutWay { url: way.url }),
            certificates: self.certificates.into_iter().map(certificate).collect::<Result<_, _>>()?,
        })
    }
}

impl JwtRequest {
    fn parse(self) -> Result<JwtWay, Invalid> {
        let key = |(at, Object(key)): (usize, Object<KeyRequest>)| {
            let field = |name: &str| format!("jwt.keys[{at}].{name}");
            let algorithm = JwtAlgorithm::parse(&field("algorithm"), &key.algorithm)?;
            let (wanted, given, other) = match algorithm {
                JwtAlgorithm::Hs256 => ("secret", key.secret, key.public_key),
                _ => ("public_key", key.public_key, key.secret),
            };
            let text = given.filter(|_| other.is_none());
            let problem = || Invalid::new(field(wanted), format!("{} needs this, alone", algorithm.label()));
            Ok::<_, Invalid>(JwtKey { kid: key.kid, algorithm, text: text.ok_or_else(problem)? })
        };
        let keys = self.keys.into_iter().enumerate().map(key).collect::<Result<_, _>>()?;
        Ok(JwtWay { keys, jwks_file: self.jwks_file, issuer: self.issuer, audience: self.audience })
    }
}

/// Set how this app's MQTT clients may prove who they are, beside device tokens. It replaces what was set, is stored, and holds from
/// the next login on.
#[utoipa::path(
    put, path = "/v1/admin/apps/{app_key}/login_ways", tag = "admin", request_body = LoginWaysRequest,
    params(("app_key" = String, Path, description = "The app's key.")),
    security(("admin" = []), ("admin_basic" = [])),
    responses(
        (status = 200, body = LoginWaysAnswer, description = "It holds."),
        (status = 400, body = FaultBody, description = "A key, file or URL that cannot be used; the message names it."),
        (status = 401, body = FaultBody, description = "Not the admin key."),
        (status = 404, body = FaultBody, description = "No such app."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 503, body = FaultBody, description = "The registry is unavailable."),
    )
)]
pub(in crate::api) async fn login_ways(
    State(api): State<Arc<Api>>,
    _operator: Operator,
    Segment(app_key): Segment,
    Json(request): Json<LoginWaysRequest>,
) -> Result<axum::Json<LoginWaysAnswer>, Fault> {
    let app_key = AppKey::parse(&app_key)?;
    let ways = request.parse()?;
    let answer = LoginWaysAnswer {
        jwt_keys: ways.jwt.as_ref().map_or(0, |jwt| jwt.keys.len()),
        jwks_file: ways.jwt.as_ref().is_some_and(|jwt| jwt.jwks_file.is_some()),
        call_out: ways.call_out.is_some(),
        certificates: ways.certificates.len(),
    };
    if api.hub.set_login_ways(&app_key, ways).await? {
        Ok(axum::Json(answer))
    } else {
        Err(Fault::not_found("no such app"))
    }
}

/// How many messages a device of the app gets in a span of time.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct FrequencyCapSetting {
    /// Null: as many as come.
    #[serde(default, deserialize_with = "object_if_any")]
    frequency_cap: Option<FrequencyCapObject>,
}

/// At most so many stored notifications and messages of normal priority to a device in a span, which begins with the first of them. What
/// is over is dropped, and told to the device as left out. Online-only pushes, topics and high priority are not held.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct FrequencyCapObject {
    #[schema(minimum = 1, maximum = 1000, example = 10)]
    messages: u64,
    /// Seconds.
    #[schema(minimum = 60, maximum = 86400, example = 3600)]
    per_s: u64,
}

impl FrequencyCapObject {
    pub(in crate::api) fn parse(self) -> Result<FrequencyCap, Invalid> {
        FrequencyCap::new(self.messages, self.per_s)
    }
}

impl From<FrequencyCap> for FrequencyCapObject {
    fn from(cap: FrequencyCap) -> FrequencyCapObject {
        FrequencyCapObject { messages: cap.messages.into(), per_s: cap.per_s.into() }
    }
}

/// Set how many messages a device of this app gets in a span of time. It is stored, and holds for each device from its next login on.
#[utoipa::path(
    put, path = "/v1/admin/apps/{app_key}/frequency_cap", tag = "admin", request_body = FrequencyCapSetting,
    params(("app_key" = String, Path, description = "The app's key.")),
    security(("admin" = []), ("admin_basic" = [])),
    responses(
        (status = 200, body = FrequencyCapSetting, description = "It holds."),
        (status = 400, body = FaultBody, description = "Out of its range; the message names the field."),
        (status = 401, body = FaultBody, description = "Not the admin key."),
        (status = 404, body = FaultBody, description = "No such app."),
        (status = 408, body = FaultBody, description = "The body did not come in time."),
        (status = 413, body = FaultBody, description = "The body is too long."),
        (status = 415, body = FaultBody, description = "Not JSON."),
        (status = 503, body = FaultBody, description = "The registry is unavailable."),
    )
)]
pub(in crate::api) async fn frequency_cap(
    State(api): State<Arc<Api>>,
    _operator: Operator,
    Segment(app_key): Segment,
    Json(request): Json<FrequencyCapSetting>,
) -> Result<axum::Json<FrequencyCapSetting>, Fault> {
    let app_key = AppKey::parse(&app_key)?;
    let cap = request.frequency_cap.map(FrequencyCapObject::parse).transpose()?;
    if api.hub.set_settings(&app_key, |settings| settings.frequency_cap = cap).await?.is_some() {
        Ok(axum::Json(request))
    } else {
        Err(Fault::not_found("no such app"))
    }
}
