//! Whose request it is: the app of the credentials.

use super::acts::Noted;
use super::fault::Fault;
use super::needs::{Need, need};
use crate::api::{Api, InWork};
use crate::delivery::people::Known;
use crate::domain::people::{ApiKey, Grant, Role};
use crate::domain::{App, AppSecret, SecretHash};
use axum::extract::{FromRequestParts, MatchedPath};
use axum::http::{HeaderMap, header, request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;

const HOW: &str = "send `Authorization: Basic` with app_key:app_secret, or `Authorization: Bearer` or `X-API-Key` with app_key.app_secret";

/// An app that showed its secret or a key of the scope that is needed, with a place among its requests in work.
pub(in crate::api) struct Caller {
    pub(in crate::api) app: Arc<App>,
    _place: InWork,
}

impl FromRequestParts<Arc<Api>> for Caller {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut request::Parts, api: &Arc<Api>) -> Result<Caller, Fault> {
        let Known { app, key } = authenticated(api, &parts.headers)?;
        let place = let_in(api, parts, &app)?;
        let need = needed(parts);
        check_scope(key.as_deref(), need)?;
        if need.is_some_and(|need| need.is_audited(parts.method.as_str())) {
            let name = key.as_ref().map_or("the app's secret", |key| &key.name);
            Noted::begin(api, parts, format!("app {}: {name}", app.key.as_str())).await?;
        }
        Ok(Caller { app, _place: place })
    }
}

/// An app in service whose requests are not too many takes a place.
fn let_in(api: &Api, parts: &request::Parts, app: &App) -> Result<InWork, Fault> {
    if app.settings.disabled {
        return Err(Fault::app_disabled());
    }
    let allowance = api.hub.spend_request(app);
    Noted::allow(parts, allowance);
    if let Some(wait_s) = allowance.retry_after_s {
        let text = format!("more than {} requests a second of this app", allowance.limit);
        return Err(Fault::app_rate(text, wait_s));
    }
    api.enter(app.id)
}

fn needed(parts: &request::Parts) -> Option<Need> {
    let path = parts.extensions.get::<MatchedPath>()?;
    need(parts.method.as_str(), path.as_str())
}

/// An app's secret opens everything; a key what its scopes say, and nothing where no scope is said.
fn check_scope(key: Option<&ApiKey>, need: Option<Need>) -> Result<(), Fault> {
    let Some(ApiKey { grant: Grant::App(_, scopes), .. }) = key else { return Ok(()) };
    match need {
        Some(Need::App(scope)) if scopes.contains(&scope) => Ok(()),
        Some(Need::App(scope)) => {
            Err(Fault::forbidden(format!("this key has not the scope {}", scope.label())))
        }
        _ => Err(Fault::forbidden("keys do not open this; the app's secret does")),
    }
}

/// Who may register devices: a [`Caller`], or anybody who knows the key of an app with open registration.
pub(in crate::api) struct Registrar {
    pub(in crate::api) app: Arc<App>,
    /// Existing names may be updated.
    pub(in crate::api) may_update: bool,
    _place: InWork,
}

impl FromRequestParts<Arc<Api>> for Registrar {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut request::Parts, api: &Arc<Api>) -> Result<Registrar, Fault> {
        let headers = &parts.headers;
        let Some(key) = headers.get("x-app-key").filter(|_| !shows_secret(headers)) else {
            let Caller { app, _place, .. } = Caller::from_request_parts(parts, api).await?;
            return Ok(Registrar { app, may_update: true, _place });
        };
        let app = open_app(api, key.as_bytes())?;
        let place = let_in(api, parts, &app)?;
        Ok(Registrar { app, may_update: false, _place: place })
    }
}

const ADMIN_HOW: &str =
    "send `Authorization: Bearer` with an admin key, or `Authorization: Basic` with admin:KEY";
/// The name that goes with the admin key where a form of credentials wants two words.
const ADMIN: &str = "admin";

/// Whoever showed an admin key of the role that is needed. An app's secret is not one.
pub(in crate::api) struct Operator;

impl FromRequestParts<Arc<Api>> for Operator {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut request::Parts, api: &Arc<Api>) -> Result<Operator, Fault> {
        let shown = admin_key(&parts.headers)
            .ok_or_else(|| Fault::unauthorized(format!("this is for the operator: {ADMIN_HOW}")))?;
        let (name, role) = operator(api, &shown).ok_or_else(|| Fault::unauthorized("not an admin key"))?;
        let need = needed(parts);
        // Where no role is said, the highest is needed.
        let role_needed = if let Some(Need::Operator(role)) = need { role } else { Role::Admin };
        let audited = need.is_none_or(|need| need.is_audited(parts.method.as_str()));
        if audited {
            Noted::begin(api, parts, format!("{} {name}", role.label())).await?;
        }
        if role < role_needed {
            let (has, needs) = (role.label(), role_needed.label());
            return Err(Fault::forbidden(format!("this needs the role {needs}; this key has {has}")));
        }
        Ok(Operator)
    }
}

/// Name and role of an admin key.
fn operator(api: &Api, shown: &AppSecret) -> Option<(String, Role)> {
    let found = api.hub.operator(shown);
    // No key has this hash that anybody could find; the comparison is made all the same.
    let first = api.admin_key.unwrap_or(SecretHash([0; 32])).matches(shown);
    match found.as_deref() {
        Some(ApiKey { grant: Grant::Operator(role), name, .. }) => Some((name.clone(), *role)),
        _ if first => Some((FIRST_ADMIN.to_owned(), Role::Admin)),
        _ => None,
    }
}

/// What the admin key of the start is called.
pub(in crate::api) const FIRST_ADMIN: &str = "(first)";

/// The admin key as presented.
fn admin_key(headers: &HeaderMap) -> Option<AppSecret> {
    let (scheme, rest) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(AppSecret::presented(rest.trim()));
    }
    let (name, key) = credentials(headers)?;
    (name == ADMIN).then_some(key)
}

fn open_app(api: &Api, key: &[u8]) -> Result<Arc<App>, Fault> {
    std::str::from_utf8(key)
        .ok()
        .and_then(|key| api.hub.app(key))
        .filter(|app| app.open_registration)
        .ok_or_else(|| Fault::unauthorized("no app with this key has open registration"))
}

fn shows_secret(headers: &HeaderMap) -> bool {
    headers.contains_key(header::AUTHORIZATION) || headers.contains_key("x-api-key")
}

fn authenticated(api: &Api, headers: &HeaderMap) -> Result<Known, Fault> {
    if !shows_secret(headers) {
        return Err(Fault::unauthorized(format!("credentials are missing: {HOW}")));
    }
    let (key, secret) = credentials(headers)
        .ok_or_else(|| Fault::unauthorized(format!("the credentials cannot be read: {HOW}")))?;
    api.hub.known(&key, &secret).ok_or_else(|| Fault::unauthorized("no app has this key and secret"))
}

/// Key and secret as presented. `Authorization` goes before `X-API-Key`.
fn credentials(headers: &HeaderMap) -> Option<(String, AppSecret)> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        return dotted(headers.get("x-api-key")?.to_str().ok()?);
    };
    let (scheme, rest) = value.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return dotted(rest.trim());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (key, secret) = text.split_once(':')?;
    Some((key.to_owned(), AppSecret::presented(secret)))
}

/// `key.secret`, parted at the last dot: keys may hold dots, secrets are hexadecimal.
fn dotted(text: &str) -> Option<(String, AppSecret)> {
    let (key, secret) = text.rsplit_once('.')?;
    Some((key.to_owned(), AppSecret::presented(secret)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(name: &'static str, value: &str) -> Option<(String, String)> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        credentials(&headers).map(|(key, secret)| (key, secret.reveal().to_owned()))
    }

    #[test]
    fn every_documented_form_is_read() {
        let both = Some(("my.app".to_owned(), "00ff".to_owned()));
        assert_eq!(read("authorization", "Bearer my.app.00ff"), both);
        assert_eq!(read("authorization", "bearer my.app.00ff"), both);
        assert_eq!(read("x-api-key", "my.app.00ff"), both);
        assert_eq!(read("authorization", &format!("Basic {}", STANDARD.encode("my.app:00ff"))), both);
    }

    #[test]
    fn the_admin_key_is_read_alone_or_with_its_name_and_an_app_is_not_its_name() {
        let shown = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", value.parse().unwrap());
            admin_key(&headers).map(|key| key.reveal().to_owned())
        };
        assert_eq!(shown("Bearer 00ff").as_deref(), Some("00ff"));
        assert_eq!(shown(&format!("Basic {}", STANDARD.encode("admin:00ff"))).as_deref(), Some("00ff"));
        assert_eq!(shown(&format!("Basic {}", STANDARD.encode("my.app:00ff"))), None);
        assert_eq!(shown("Digest 00ff"), None);
        assert_eq!(shown(""), None);
    }

    #[test]
    fn anything_else_is_not() {
        for value in ["Bearer nodot", "Basic !!!", "Basic", "Digest x.y", "", "Basic bm9jb2xvbg=="] {
            assert_eq!(read("authorization", value), None, "{value}");
        }
        assert_eq!(read("x-api-key", "nodot"), None);
    }
}
