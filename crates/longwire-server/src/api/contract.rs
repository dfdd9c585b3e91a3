//! The routes, and the OpenAPI document made from them. `docs/openapi.json` is the stored contract: a test compares.

use super::Api;
use super::endpoints::{
    admin, apps, batch, books, devices, explain, messages, probes, push, recall, sse, streams, topics,
    upstream, webhooks,
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
        .routes(routes!(push::push))
        .routes(routes!(batch::batch))
        .routes(routes!(messages::message, recall::recall))
        .routes(routes!(books::books))
        .merge(of_truth())
        .routes(routes!(upstream::upstream))
        .routes(routes!(upstream::ack))
        .routes(routes!(topics::publish))
        .routes(routes!(topics::retained, topics::clear_retained))
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
        .routes(routes!(probes::healthz))
        .routes(routes!(probes::readyz))
        .routes(routes!(probes::metrics))
        .routes(routes!(probes::openapi))
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
    let mut text = document.to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

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
