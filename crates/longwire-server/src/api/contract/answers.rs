//! What the answers of many operations have in common, written once: refusals by kind of request, and headers.

use crate::api::exchange::needs::{Need, need};
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{ContentBuilder, OpenApi, Ref, RefOr, Response, ResponseBuilder};

/// Says of each operation which scope or role it needs, every way in which it may be refused, and the headers of its answers.
pub(super) fn declare(document: &mut OpenApi) {
    let headers = &mut document.components.get_or_insert_default().headers;
    headers.extend(HEADERS.map(|(name, text)| (name.to_owned(), RefOr::T(number(text)))));
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
            let need = need(method, path);
            declare_need(operation, need, method);
            declare_refusals(operation);
            declare_headers(operation, matches!(need, Some(Need::App(_))));
        }
    }
}

/// Which scope or role an operation needs, and how one who has it not is refused.
fn declare_need(operation: &mut Operation, need: Option<Need>, method: &str) {
    let (schemes, word) = match need {
        Some(Need::App(scope)) => (OF_APPS, scope.label()),
        Some(Need::Operator(role)) => (OF_OPERATORS, role.label()),
        _ => return,
    };
    for requirement in operation.security.iter_mut().flatten() {
        if let Some(scheme) = schemes.iter().find(|scheme| has_scheme(requirement, scheme)) {
            *requirement = SecurityRequirement::new(*scheme, [word]);
        }
    }
    let responses = &mut operation.responses.responses;
    responses.entry("403".to_owned()).or_insert_with(|| refusal(word, schemes == OF_APPS));
    if schemes == OF_APPS {
        responses.entry("429".to_owned()).or_insert_with(|| fault("Too many requests."));
    } else if method != "GET" {
        responses.entry("503".to_owned()).or_insert_with(|| fault("The audit log cannot be written."));
    }
}

/// How every request of a kind may be refused, whatever it asks for.
fn declare_refusals(operation: &mut Operation) {
    let (reads, takes) = (operation.parameters.is_some(), operation.request_body.is_some());
    let mut may = |applies: bool, status: &str, text: &str| {
        if applies {
            operation.responses.responses.entry(status.to_owned()).or_insert_with(|| fault(text));
        }
    };
    may(reads || takes, "400", "A field is not allowed; the message names it.");
    may(takes, "408", "The body did not come in time.");
    may(takes, "413", "The body is too long.");
    may(takes, "415", "Not JSON.");
    may(true, "503", "Too many connections; try another node, or later.");
}

/// The headers of the answers, which stand once among the components.
fn declare_headers(operation: &mut Operation, of_app: bool) {
    for (status, response) in &mut operation.responses.responses {
        let RefOr::T(response) = response else { continue };
        let mut add = |name: &str| {
            let written = Ref::new(format!("#/components/headers/{name}"));
            response.headers.insert(name.to_owned(), RefOr::Ref(written));
        };
        if matches!(status.as_str(), "429" | "503") {
            add("Retry-After");
        }
        if of_app && (status.starts_with('2') || status == "429") {
            add("X-Rate-Limit-Limit");
            add("X-Rate-Limit-Remaining");
            add("X-Rate-Limit-Reset");
        }
    }
}

/// Name, and what it says.
const HEADERS: [(&str, &str); 4] = [
    ("Retry-After", "Not before so many seconds. Always there."),
    ("X-Rate-Limit-Limit", "Requests a second of this app; there if its quota says a number."),
    ("X-Rate-Limit-Remaining", "How many of them are left."),
    ("X-Rate-Limit-Reset", "Seconds until all of them are there again."),
];

fn number(text: &str) -> Header {
    let schema = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).build();
    HeaderBuilder::new().schema(Some(schema)).description(Some(text)).build()
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
