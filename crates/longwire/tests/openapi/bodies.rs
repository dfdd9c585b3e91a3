//! Bodies of the wrong shape, on every operation of the document that takes one: what is meant to be an object is no list.

use crate::support::{Answer, Api, TestServer};
use serde_json::{Map, Value, json};

/// Fields that are kept as they were written until the whole is read: a list there is found later.
const READ_LATER: &[(&str, &str)] = &[("/v1/schedules", "push")];

#[test]
fn a_list_is_refused_where_an_object_is_meant() {
    let server = TestServer::start();
    let document: Value = serde_json::from_str(&server.api.anonymous().get("/openapi.json").text).unwrap();
    let (mut bodies, mut fields) = (0, 0);
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            if schema.is_null() {
                continue;
            }
            let operators = operation["security"].to_string().contains("admin_basic");
            let caller = if operators { server.operator() } else { server.api.clone() };
            let path = filled(path);
            for body in [json!([]), json!([[]]), json!(null), json!("x"), json!(1)] {
                let answer = ask(&caller, method, &path, &body);
                assert_eq!(answer.status, 400, "{method} {path} {body}: {}", answer.text);
            }
            bodies += 1;
            for field in objects(&document, schema) {
                if READ_LATER.contains(&(path.as_str(), field.as_str())) {
                    continue;
                }
                let body = Value::Object(Map::from_iter([(field.clone(), json!([]))]));
                let answer = ask(&caller, method, &path, &body);
                let says = answer.json["message"].as_str().unwrap_or_default();
                // What stands first in the text is the field; a field that is missing beside it comes after.
                assert!(
                    answer.status == 400 && says.starts_with(field.as_str()),
                    "{method} {path} {body}: {}",
                    answer.text
                );
                fields += 1;
            }
        }
    }
    assert!(bodies >= 20 && fields >= 10, "{bodies} bodies, {fields} fields");
}

fn ask(api: &Api, method: &str, path: &str, body: &Value) -> Answer {
    api.request(&method.to_uppercase(), path, Some(body.to_string().as_bytes())).unwrap()
}

/// A path of things that nobody has, but of the right shape.
fn filled(path: &str) -> String {
    let segment = |segment| match segment {
        "{msg_id}" | "{schedule_id}" => "7".repeat(32),
        "{key_id}" => "7".repeat(16),
        "{app_key}" => "tests".to_owned(),
        other if other.starts_with('{') => "nobody".to_owned(),
        other => other.to_owned(),
    };
    path.split('/').map(segment).collect::<Vec<_>>().join("/")
}

/// Fields of a body that are objects with fields of their own.
fn objects(document: &Value, schema: &Value) -> Vec<String> {
    let schema = resolved(document, schema);
    let fields = schema["properties"].as_object().into_iter().flatten();
    fields.filter(|(_, field)| is_object(document, field)).map(|(name, _)| name.clone()).collect()
}

fn is_object(document: &Value, schema: &Value) -> bool {
    let schema = resolved(document, schema);
    let ways = schema["oneOf"].as_array().into_iter().flatten();
    !schema["properties"].is_null() || ways.into_iter().any(|way| is_object(document, way))
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    schema["$ref"].as_str().and_then(|to| document.pointer(to.trim_start_matches('#'))).unwrap_or(schema)
}
