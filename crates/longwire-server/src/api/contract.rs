//! The routes, and the OpenAPI document made from them. `docs/openapi.json` is the stored contract: a test compares.

use super::Api;
use super::endpoints::{
    admin, apps, batch, books, devices, explain, messages, people, probes, push, recall, schedules, spread,
    sse, streams, topics, upstream, webhooks,
};
use super::exchange::fault::Fault;
use super::exchange::needs::{Need, need};
use axum::Router;
use std::sync::Arc;
use utoipa::OpenApi;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[derive(OpenApi)]
#[openapi(info(
    title = "Longwire",
    description = "Push messages to devices over long-lived connections. Unknown fields are refused; every error has the same shape; 429 and 503 always say Retry-After. A W3C `traceparent` header is taken or made, and answered.",
    license(name = "Apache-2.0", identifier = "Apache-2.0")
))]
struct Document;

fn documented() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(of_devices())
        .merge(of_people())
        .routes(routes!(push::push))
        .routes(routes!(batch::batch))
        .routes(routes!(messages::message, recall::recall, spread::change))
        .routes(routes!(books::books))
        .merge(of_truth())
        .merge(of_schedules())
        .routes(routes!(upstream::upstream))
        .routes(routes!(upstream::ack))
        .routes(routes!(topics::publish))
        .routes(routes!(topics::retained, topics::clear_retained))
        .merge(of_operators())
        .routes(routes!(probes::healthz))
        .routes(routes!(probes::readyz))
        .routes(routes!(probes::metrics))
        .routes(routes!(probes::openapi))
}

/// The node, and what is set for an app one thing at a time.
fn of_operators() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(admin::drain))
        .routes(routes!(admin::reload))
        .routes(routes!(admin::memory))
        .routes(routes!(admin::shards))
        .routes(routes!(admin::duplicate_login))
        .routes(routes!(admin::heartbeat))
        .routes(routes!(apps::topic_rules))
        .routes(routes!(apps::login_ways))
        .routes(routes!(streams::set))
        .routes(routes!(apps::frequency_cap))
}

/// Pushes that are made later.
fn of_schedules() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new().routes(routes!(schedules::make, schedules::list)).routes(routes!(
        schedules::show,
        schedules::change,
        schedules::remove
    ))
}

/// What becomes of messages and devices.
fn of_truth() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(explain::explain))
        .routes(routes!(explain::targets))
        .routes(routes!(streams::receipts))
        .routes(routes!(sse::receipts))
        .routes(routes!(streams::presence))
        .routes(routes!(sse::presence))
        .routes(routes!(webhooks::list))
        .routes(routes!(webhooks::set, webhooks::remove))
        .routes(routes!(webhooks::test))
}

fn of_devices() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(devices::register, devices::lists::devices))
        .routes(routes!(devices::device, devices::changes::change, devices::changes::remove))
        .routes(routes!(devices::disconnect))
        .routes(routes!(devices::changes::revoke))
        .routes(routes!(devices::lists::status))
        .routes(routes!(devices::tags::tags))
        .routes(routes!(devices::tags::members, devices::tags::change_members, devices::tags::clear))
        .routes(routes!(devices::aliases::devices, devices::aliases::unbind))
}

fn of_people() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(people::apps::create, people::apps::list))
        .routes(routes!(people::apps::show, people::apps::change, people::apps::remove))
        .routes(routes!(people::apps::rotate))
        .routes(routes!(people::apps::disable))
        .routes(routes!(people::apps::enable))
        .routes(routes!(people::quotas::quotas, people::quotas::set))
        .routes(routes!(people::keys::create, people::keys::list))
        .routes(routes!(people::keys::remove))
        .routes(routes!(people::keys::create_admin, people::keys::list_admin))
        .routes(routes!(people::keys::remove_admin))
        .routes(routes!(people::audit::lines))
}

/// The routes over their state.
pub fn router(api: Arc<Api>) -> Router {
    let (router, _) = documented().split_for_parts();
    router
        .fallback(|| async { Fault::not_found("no such path") })
        .method_not_allowed_fallback(|| async { Fault::method_not_allowed() })
        .with_state(api)
}

/// The OpenAPI document, as pretty JSON.
#[must_use]
pub fn document() -> String {
    let (_, mut document) = documented().split_for_parts();
    let schemes = &mut document.components.get_or_insert_default().security_schemes;
    let http = |scheme, text: &str| {
        RefOr::T(SecurityScheme::Http(HttpBuilder::new().scheme(scheme).description(Some(text)).build()))
    };
    let header = |name: &str, text: &str| {
        RefOr::T(SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(name, text))))
    };
    schemes.insert("basic".into(), http(HttpAuthScheme::Basic, "app key and app secret"));
    schemes.insert("bearer".into(), http(HttpAuthScheme::Bearer, "app_key.app_secret"));
    schemes.insert("admin".into(), http(HttpAuthScheme::Bearer, "the admin key"));
    schemes.insert("admin_basic".into(), http(HttpAuthScheme::Basic, "admin and the admin key"));
    schemes.insert("api_key".into(), header("X-API-Key", "app_key.app_secret"));
    schemes.insert("app_key".into(), header("X-App-Key", "app key alone, for apps with open registration"));
    declare_needs(&mut document);
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// Says of each operation which scope or role it needs, and how one who has it not is refused.
fn declare_needs(document: &mut utoipa::openapi::OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let operations = [
            ("GET", &mut item.get),
            ("PUT", &mut item.put),
            ("POST", &mut item.post),
            ("DELETE", &mut item.delete),
            ("PATCH", &mut item.patch),
        ];
        for (method, operation) in operations {
            let Some(operation) = operation else { continue };
            let (schemes, word) = match need(method, path) {
                Some(Need::App(scope)) => (OF_APPS, scope.label()),
                Some(Need::Operator(role)) => (OF_OPERATORS, role.label()),
                _ => continue,
            };
            let security = operation.security.iter_mut().flatten();
            for requirement in security {
                if let Some(scheme) = schemes.iter().find(|scheme| has_scheme(requirement, scheme)) {
                    *requirement = SecurityRequirement::new(*scheme, [word]);
                }
            }
            let responses = &mut operation.responses.responses;
            responses.entry("403".to_owned()).or_insert_with(|| refusal(word, schemes == OF_APPS));
            if schemes == OF_APPS {
                responses.entry("429".to_owned()).or_insert_with(|| fault("Too many requests."));
            } else if method != "GET" {
                responses
                    .entry("503".to_owned())
                    .or_insert_with(|| fault("The audit log cannot be written."));
            }
        }
    }
}

const OF_APPS: &[&str] = &["basic", "bearer", "api_key"];
const OF_OPERATORS: &[&str] = &["admin", "admin_basic"];

/// A requirement tells its schemes to nobody but a writer.
fn has_scheme(requirement: &SecurityRequirement, scheme: &str) -> bool {
    serde_json::to_value(requirement).is_ok_and(|value| value.get(scheme).is_some())
}

fn refusal(word: &str, of_app: bool) -> RefOr<Response> {
    if of_app {
        fault(&format!("The key has not the scope `{word}`; or `app_disabled`: the app is out of service."))
    } else {
        fault(&format!("The key has not the role `{word}`, or a higher one."))
    }
}

fn fault(text: &str) -> RefOr<Response> {
    let schema = Ref::from_schema_name("Error");
    let content = ContentBuilder::new().schema(Some(schema)).build();
    RefOr::T(ResponseBuilder::new().description(text).content("application/json", content).build())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    #[test]
    fn every_endpoint_says_whom_it_is_open_to() {
        let (_, document) = super::documented().split_for_parts();
        let document = serde_json::to_value(&document).unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let method = method.to_uppercase();
                let schemes = operation["security"].as_array().map_or(&[][..], Vec::as_slice);
                let has = |scheme: &str| schemes.iter().any(|one| one.get(scheme).is_some());
                let said = super::need(&method, path);
                let right = match said {
                    None => false,
                    Some(super::Need::Nothing) => schemes.is_empty(),
                    Some(super::Need::App(_)) => has("bearer") && !has("admin"),
                    Some(super::Need::Operator(_)) => has("admin") && !has("bearer"),
                };
                assert!(right, "{method} {path} has {schemes:?} in its contract and {said:?} in needs.rs");
            }
        }
    }

    #[test]
    fn the_stored_contract_is_what_the_code_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
        let now = super::document();
        assert!(now.contains("\"openapi\": \"3.1"), "{now}");
        if std::env::var_os("UPDATE_CONTRACT").is_some() {
            std::fs::write(path, &now).unwrap();
        }
        let stored = std::fs::read_to_string(path).unwrap_or_default();
        assert!(stored == now, "docs/openapi.json is stale; run this test with UPDATE_CONTRACT=1");
    }
}
