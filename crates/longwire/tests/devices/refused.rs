//! What a caller of the API may not, and what is not its own.

use super::ask;
use super::support::TestServer;
use longwire_server::domain::{AppKey, AppSecret};
use longwire_server::store::registry::Registry;
use serde_json::{Value, json};

#[test]
fn what_is_not_right_is_refused_and_changes_nothing() {
    let server = TestServer::start();
    server.register("d1", Some("ann"), &["red"]);
    let before = server.api.get("/v1/devices/d1").json;
    let labels = |count: usize| -> Vec<String> { (0..count).map(|number| format!("t{number}")).collect() };
    let pairs =
        |count: usize| -> Value { (0..count).map(|number| (format!("n{number}"), json!("v"))).collect() };
    for (what, body) in [
        ("no object", json!([])),
        ("null", json!(null)),
        ("unknown field", json!({ "colour": "red" })),
        ("tags as a list", json!({ "tags": ["a"] })),
        ("an empty list as tags", json!({ "tags": [] })),
        ("unknown field of tags", json!({ "tags": { "set": ["a"] } })),
        ("a bad tag", json!({ "tags": { "add": ["a/b"] } })),
        ("an empty tag", json!({ "tags": { "remove": [""] } })),
        ("a long tag", json!({ "tags": { "add": ["x".repeat(65)] } })),
        ("too many tags", json!({ "tags": { "add": labels(101) } })),
        ("more tags than it may have", json!({ "tags": { "add": labels(100) } })),
        ("in both", json!({ "tags": { "add": ["a"], "remove": ["a"] } })),
        ("a bad alias", json!({ "alias": "a+b" })),
        ("an alias of a wrong type", json!({ "alias": 7 })),
        ("an empty alias", json!({ "alias": "" })),
        ("a bad name of an attribute", json!({ "attributes": { "set": { "1a": "x" } } })),
        ("a word of conditions", json!({ "attributes": { "set": { "tags": "x" } } })),
        ("a value of a wrong type", json!({ "attributes": { "set": { "a": 1 } } })),
        ("an empty value", json!({ "attributes": { "set": { "a": "" } } })),
        ("a long value", json!({ "attributes": { "set": { "a": "x".repeat(65) } } })),
        ("too many attributes", json!({ "attributes": { "set": pairs(17) } })),
        ("an attribute in both", json!({ "attributes": { "set": { "a": "x" }, "remove": ["a"] } })),
    ] {
        let answer = ask(&server, "POST", "/v1/devices/d1", Some(&body));
        assert_eq!((answer.status, answer.code()), (400, "invalid"), "{what}: {}", answer.text);
    }
    assert_eq!(server.api.get("/v1/devices/d1").json, before);
    assert_eq!(server.api.post("/v1/devices", &json!([])).status, 400, "a registration is an object");
    let bad = json!({ "registration_id": "d2", "attributes": { "a-b": "x" } });
    assert_eq!(server.api.post("/v1/devices", &bad).status, 400);
    assert_eq!(server.api.get("/v1/devices/d2").status, 404);
}

#[test]
fn lists_and_bulk_requests_have_bounds() {
    let server = TestServer::start();
    let names = |count: usize| vec!["d"; count];
    for (what, path, body) in [
        ("no ids", "/v1/devices/status", json!({ "registration_ids": [] })),
        ("a list as body", "/v1/devices/status", json!([["d"]])),
        ("too many ids", "/v1/devices/status", json!({ "registration_ids": names(1001) })),
        ("a bad id", "/v1/devices/status", json!({ "registration_ids": ["\u{7}"] })),
        ("unknown field", "/v1/devices/status", json!({ "registration_ids": ["d"], "x": 1 })),
        ("nobody", "/v1/tags/t", json!({})),
        ("too many", "/v1/tags/t", json!({ "add": names(500), "remove": vec!["e"; 501] })),
        ("in both", "/v1/tags/t", json!({ "add": ["d"], "remove": ["d"] })),
        ("a bad tag", "/v1/tags/%23", json!({ "add": ["d"] })),
    ] {
        assert_eq!(server.api.post(path, &body).status, 400, "{what}");
    }
    for path in [
        "/v1/devices?limit=0",
        "/v1/devices?limit=1001",
        "/v1/devices?after=x",
        "/v1/devices?other=1",
        "/v1/tags?limit=x",
        "/v1/tags/t?after=%21",
        "/v1/tags/%2B",
        "/v1/aliases/a%2Fb",
        "/v1/aliases/a?limit=-1",
    ] {
        assert_eq!(server.api.get(path).status, 400, "{path}");
    }
    for path in ["/v1/tags/%2F", "/v1/aliases/%23", "/v1/devices/%07"] {
        assert_eq!(ask(&server, "DELETE", path, None).status, 400, "{path}");
    }
}

#[test]
fn without_credentials_nothing_is_told() {
    let server = TestServer::start();
    server.register("d1", None, &[]);
    let nobody = server.api.anonymous();
    for (method, path) in [
        ("GET", "/v1/devices"),
        ("POST", "/v1/devices/d1"),
        ("DELETE", "/v1/devices/d1"),
        ("POST", "/v1/devices/d1/revoke"),
        ("POST", "/v1/devices/status"),
        ("GET", "/v1/tags"),
        ("GET", "/v1/tags/t"),
        ("POST", "/v1/tags/t"),
        ("DELETE", "/v1/tags/t"),
        ("GET", "/v1/aliases/a"),
        ("DELETE", "/v1/aliases/a"),
    ] {
        let answer = nobody.request(method, path, Some(b"{}")).unwrap();
        assert_eq!(answer.status, 401, "{method} {path}: {}", answer.text);
    }
    assert_eq!(server.api.get("/v1/devices/d1").status, 200);
}

/// Another app's devices, tags and aliases are answered like those that are not there.
#[test]
fn another_app_s_devices_are_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = TestServer::start_in(folder.path());
    server.register("mine", Some("ann"), &["red"]);
    server.terminate();
    let secret = "b".repeat(64);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = format!("sqlite:{}", folder.path().join("registry.db").display());
        let registry = Registry::open(&url).await.unwrap();
        let hash = AppSecret::presented(&secret).hash();
        registry.create_app(&AppKey::parse("other").unwrap(), hash, false).await.unwrap();
        registry.close().await;
    });
    let server = TestServer::start_in(folder.path());
    let other = super::support::Api::new(server.api_address, "other", &secret);
    let asked = |method: &str, path: &str, body: Value| {
        let answer = other.request(method, path, Some(body.to_string().as_bytes())).unwrap();
        let mut told = answer.json.clone();
        if let Some(told) = told.as_object_mut() {
            told.remove("trace_id");
        }
        (answer.status, told.to_string().replace("mine", "ghost"))
    };
    for (method, path, body) in [
        ("GET", "/v1/devices/mine", json!({})),
        ("POST", "/v1/devices/mine", json!({ "alias": "x" })),
        ("POST", "/v1/devices/mine/revoke", json!({})),
        ("POST", "/v1/devices/mine/disconnect", json!({})),
        ("DELETE", "/v1/devices/mine", json!({})),
    ] {
        let theirs = asked(method, path, body.clone());
        assert_eq!(theirs.0, 404, "{method} {path}");
        assert_eq!(theirs, asked(method, &path.replace("mine", "ghost"), body), "{method} {path}");
    }
    assert_eq!(
        asked("POST", "/v1/devices/status", json!({ "registration_ids": ["mine"] })),
        asked("POST", "/v1/devices/status", json!({ "registration_ids": ["ghost"] }))
    );
    assert_eq!(
        asked("POST", "/v1/tags/red", json!({ "remove": ["mine"] })),
        asked("POST", "/v1/tags/red", json!({ "remove": ["ghost"] }))
    );
    assert_eq!(asked("GET", "/v1/tags", json!({})).1, json!({ "tags": [] }).to_string());
    assert_eq!(asked("GET", "/v1/tags/red", json!({})), asked("GET", "/v1/tags/none", json!({})));
    assert_eq!(asked("GET", "/v1/aliases/ann", json!({})), asked("GET", "/v1/aliases/none", json!({})));
    assert_eq!(asked("DELETE", "/v1/tags/red", json!({})), asked("DELETE", "/v1/tags/none", json!({})));
    asked("DELETE", "/v1/aliases/ann", json!({}));
    let mine = server.api.get("/v1/devices/mine").json;
    assert_eq!((&mine["tags"], &mine["alias"]), (&json!(["red"]), &json!("ann")));
}
