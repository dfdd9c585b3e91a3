//! The routes, and the OpenAPI document made from them. `docs/openapi.json` is the stored contract: a test compares.

mod answers;

use super::Api;
use super::endpoints::{
    admin, apps, batch, books, devices, explain, messages, people, probes, push, recall, schedules, spread,
    sse, streams, topics, upstream, webhooks,
};
use super::exchange::fault::Fault;
use axum::Router;
use std::sync::Arc;
use utoipa::OpenApi;
use utoipa::openapi::RefOr;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
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
    answers::declare(&mut document);
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::api::exchange::needs::{Need, need};

    #[test]
    fn every_endpoint_says_whom_it_is_open_to() {
        let (_, document) = super::documented().split_for_parts();
        let document = serde_json::to_value(&document).unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let method = method.to_uppercase();
                let schemes = operation["security"].as_array().map_or(&[][..], Vec::as_slice);
                let has = |scheme: &str| schemes.iter().any(|one| one.get(scheme).is_some());
                let said = need(&method, path);
                let right = match said {
                    None => false,
                    Some(Need::Nothing) => schemes.is_empty(),
                    Some(Need::App(_)) => has("bearer") && !has("admin"),
                    Some(Need::Operator(_)) => has("admin") && !has("bearer"),
                };
                assert!(right, "{method} {path} has {schemes:?} in its contract and {said:?} in needs.rs");
            }
        }
    }

    #[test]
    fn every_operation_has_the_answers_that_are_common_to_its_kind() {
        let document: serde_json::Value = serde_json::from_str(&super::document()).unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let answers = operation["responses"].as_object().unwrap();
                let where_ = format!("{method} {path}");
                let mut wanted = vec!["503"];
                if !operation["security"].is_null() {
                    wanted.extend(["401", "403"]);
                }
                if !operation["parameters"].is_null() || !operation["requestBody"].is_null() {
                    wanted.push("400");
                }
                if !operation["requestBody"].is_null() {
                    wanted.extend(["408", "413", "415"]);
                }
                for status in wanted {
                    assert!(answers.contains_key(status), "{where_}: no {status}");
                }
                for (status, answer) in answers {
                    let waits = matches!(status.as_str(), "429" | "503");
                    assert_eq!(!answer["headers"]["Retry-After"].is_null(), waits, "{where_}: {status}");
                    let schema = answer["content"]["application/json"]["schema"]["$ref"].as_str();
                    let refuses = status.starts_with(['4', '5']);
                    assert!(!refuses || schema == Some("#/components/schemas/Error"), "{where_}: {status}");
                }
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
