//! Apps, keys, roles, quotas and the audit log of a running server, through HTTP and devices.

#![allow(clippy::unwrap_used)]

mod support;

use longwire_proto::close::CloseReason;
use serde_json::{Value, json};
use support::{Answer, Api, PATIENCE, Seen, Start, TestDevice, TestServer, until};

const SCOPES: [&str; 8] =
    ["push", "messages:read", "devices", "tags", "schedules", "receipts", "upstream", "admin"];

/// Why a device is refused; `None`: it is in.
#[track_caller]
fn refusal(device: &mut TestDevice) -> Option<(CloseReason, u16)> {
    device.try_connect().unwrap();
    loop {
        match device.next(PATIENCE) {
            Some(Seen::Welcome(_)) => return None,
            Some(Seen::Refused(refusal)) => {
                device.drop_connection();
                return Some((refusal.reason, refusal.retry_after_s));
            }
            Some(Seen::Closed(_) | Seen::Ended) => {}
            other => panic!("neither in nor refused: {other:?}"),
        }
    }
}

#[track_caller]
fn made(answer: &Answer, field: &str) -> String {
    assert!(matches!(answer.status, 200 | 201), "{} {}", answer.status, answer.text);
    answer.json[field].as_str().unwrap_or_else(|| panic!("{field} in {}", answer.text)).to_owned()
}

#[track_caller]
fn key(server: &TestServer, scopes: &[&str]) -> Api {
    let answer = server.api.post("/v1/keys", &json!({"name": scopes.join("+"), "scopes": scopes}));
    Api::new(server.api_address, &server.app_key, &made(&answer, "key"))
}

#[track_caller]
fn operator(server: &TestServer, role: &str) -> Api {
    let answer = server.operator().post("/v1/admin/keys", &json!({"name": role, "role": role}));
    Api::new(server.api_address, "admin", &made(&answer, "key"))
}

#[track_caller]
fn ask(api: &Api, method: &str, path: &str, body: &Value) -> Answer {
    api.request(method, path, Some(body.to_string().as_bytes())).unwrap()
}

/// The path with something in the place of its variables that is nobody's.
fn filled(path: &str) -> String {
    path.replace("{msg_id}", "00000000000000000000000000000001")
        .replace("{key_id}", "0000000000000001")
        .replace("{app_key}", "nobody")
        .split('/')
        .map(|segment| if segment.starts_with('{') { "nobody" } else { segment })
        .collect::<Vec<_>>()
        .join("/")
}

/// Scopes or roles that the contract says for these schemes.
fn needed(operation: &Value, scheme: &str) -> Option<String> {
    let one = operation["security"].as_array()?.iter().find_map(|one| one.get(scheme))?;
    Some(one[0].as_str().unwrap_or_else(|| panic!("{operation}")).to_owned())
}

#[test]
fn every_endpoint_opens_to_the_scope_or_role_of_its_contract_and_to_no_other() {
    let server = TestServer::start();
    let contract = server.api.get("/openapi.json").json;
    let keys: Vec<_> = SCOPES.iter().map(|scope| (*scope, key(&server, &[scope]))).collect();
    let roles = ["viewer", "operator", "admin"];
    let operators: Vec<_> = roles.iter().map(|role| operator(&server, role)).collect();
    let mut seen = (0, 0);
    for (path, item) in contract["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let (method, target) = (method.to_uppercase(), filled(path));
            let call = |api: &Api| ask(api, &method, &target, &json!({}));
            // A stream has no end to wait for.
            let streams = path.ends_with("/stream");
            if let Some(scope) = needed(operation, "bearer") {
                seen.0 += 1;
                for (has, api) in keys.iter().filter(|(has, _)| !streams || *has != scope) {
                    let answer = call(api);
                    let opens = !matches!(answer.status, 401 | 403);
                    assert_eq!(opens, *has == scope, "{method} {path} with {has}: {}", answer.text);
                    assert!(opens || answer.text.contains(&scope), "{}", answer.text);
                }
                for api in &operators {
                    assert_eq!(call(api).status, 401, "{method} {path}");
                }
            } else if let Some(role) = needed(operation, "admin") {
                seen.1 += 1;
                let least = roles.iter().position(|one| *one == role).unwrap();
                for (at, api) in operators.iter().enumerate() {
                    let answer = call(api);
                    let opens = !matches!(answer.status, 401 | 403);
                    assert_eq!(opens, at >= least, "{method} {path} as {}: {}", roles[at], answer.text);
                    assert!(opens || answer.text.contains(&role), "{}", answer.text);
                }
                for (_, api) in &keys {
                    assert_eq!(call(api).status, 401, "{method} {path}");
                }
            } else {
                assert!(!path.starts_with("/v1/"), "{method} {path} is open to everybody");
            }
        }
    }
    assert!(seen.0 >= 25 && seen.1 >= 15, "{seen:?}");
}

#[test]
fn an_app_is_made_changed_disabled_and_taken_out() {
    let server = TestServer::start();
    let operator = server.operator();
    let secret =
        made(&operator.post("/v1/apps", &json!({"app_key": "shop", "name": "The shop"})), "app_secret");
    let shop = Api::new(server.api_address, "shop", &secret);
    assert_eq!(shop.post("/v1/devices", &json!({"registration_id": "d"})).status, 201);
    assert_eq!(shop.anonymous().post("/v1/devices", &json!({})).status, 401);
    let again = operator.post("/v1/apps", &json!({"app_key": "shop"}));
    assert_eq!((again.status, again.code()), (409, "taken"));
    for wrong in [
        json!({"app_key": "a b"}),
        json!({"app_key": "a", "colour": 1}),
        json!({"app_key": "a", "quotas": {"colour": 1}}),
        json!({"app_key": "a", "quotas": {"devices": -1}}),
        json!({"app_key": "a", "name": "x".repeat(129)}),
        json!(["a"]),
    ] {
        assert_eq!(operator.post("/v1/apps", &wrong).status, 400, "{wrong}");
    }
    let issued = made(&operator.post("/v1/apps", &json!({})), "app_key");

    // Pages, in the order of keys.
    let (mut after, mut keys) = (String::new(), Vec::new());
    loop {
        let page = operator.get(&format!("/v1/apps?limit=1{after}")).json;
        assert_eq!(page["apps"].as_array().unwrap().len(), 1);
        keys.push(page["apps"][0]["app_key"].as_str().unwrap().to_owned());
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    let mut all = vec![issued.clone(), "shop".to_owned(), server.app_key.clone()];
    all.sort();
    assert_eq!(keys, all);
    for wrong in ["limit=0", "limit=1001", "after=x", "colour=1"] {
        assert_eq!(operator.get(&format!("/v1/apps?{wrong}")).status, 400, "{wrong}");
    }

    // What is not given stays.
    let changed = ask(&operator, "PATCH", "/v1/apps/shop", &json!({"self_service": true}));
    assert_eq!(changed.json["name"], "The shop");
    assert_eq!((&changed.json["self_service"], &changed.json["disabled"]), (&json!(true), &json!(false)));
    assert_eq!(ask(&operator, "PATCH", "/v1/apps/shop", &json!({"disabled": true})).status, 400);
    assert_eq!(ask(&operator, "PATCH", "/v1/apps/nobody", &json!({})).status, 404);

    let in_service = ask(&operator, "DELETE", "/v1/apps/shop", &json!({}));
    assert_eq!((in_service.status, in_service.code()), (409, "app_in_service"));
    assert_eq!(operator.post("/v1/apps/shop/disable", &json!({})).json["disabled"], json!(true));
    let refused = shop.get("/v1/devices/d");
    assert_eq!((refused.status, refused.code()), (403, "app_disabled"));
    let has_devices = ask(&operator, "DELETE", "/v1/apps/shop", &json!({}));
    assert_eq!((has_devices.status, has_devices.code()), (409, "app_has_devices"));
    assert_eq!(operator.post("/v1/apps/shop/enable", &json!({})).status, 200);
    assert_eq!(ask(&shop, "DELETE", "/v1/devices/d", &json!({})).status / 100, 2);
    operator.post("/v1/apps/shop/disable", &json!({}));
    assert_eq!(ask(&operator, "DELETE", "/v1/apps/shop", &json!({})).status, 204);
    assert_eq!(operator.get("/v1/apps/shop").status, 404);
    assert_eq!(shop.get("/v1/devices/d").status, 401);
}

#[test]
fn devices_of_a_disabled_app_are_closed_and_refused_until_it_is_enabled() {
    let server = TestServer::start();
    let (mut first, mut second) = (server.device("first"), server.device("second"));
    first.connect();
    second.connect();
    let path = |act: &str| format!("/v1/apps/{}/{act}", server.app_key);
    assert_eq!(server.operator().post(&path("disable"), &json!({})).status, 200);
    assert_eq!(first.expect_end(), Some(CloseReason::AppDisabled));
    assert_eq!(second.expect_end(), Some(CloseReason::AppDisabled));
    let (reason, retry_after_s) = refusal(&mut first).unwrap();
    assert_eq!(reason, CloseReason::AppDisabled);
    assert!(retry_after_s >= 60, "{retry_after_s}");
    assert_eq!(server.operator().post(&path("enable"), &json!({})).status, 200);
    assert_eq!(refusal(&mut first), None);
}

#[test]
fn a_rotated_secret_stays_good_for_its_grace_only_also_over_a_restart() {
    let mut server = TestServer::start();
    let operator = server.operator();
    let secret = made(&operator.post("/v1/apps", &json!({"app_key": "shop"})), "app_secret");
    let status = |secret: &str| Api::new(server.api_address, "shop", secret).get("/v1/quotas").status;
    let rotate = |grace: Value| operator.post("/v1/apps/shop/rotate_secret", &grace);
    assert_eq!(rotate(json!({"grace_s": 86_401})).status, 400);
    let second = made(&rotate(json!({"grace_s": 3600})), "app_secret");
    assert_eq!((status(&secret), status(&second)), (200, 200));
    let third = made(&rotate(json!({"grace_s": 3600})), "app_secret");
    assert_eq!((status(&secret), status(&second), status(&third)), (401, 200, 200));
    let fourth = made(&rotate(json!({})), "app_secret");
    assert_eq!((status(&second), status(&third), status(&fourth)), (401, 401, 200));
    let fifth = made(&rotate(json!({"grace_s": 1})), "app_secret");
    assert!(until(PATIENCE, || status(&fourth) == 401));
    assert!(server.terminate().success());
    let server = TestServer::start_in(server.folder());
    let status = |secret: &str| Api::new(server.api_address, "shop", secret).get("/v1/quotas").status;
    assert_eq!((status(&fourth), status(&fifth)), (401, 200));
}

#[test]
fn keys_are_made_listed_used_revoked_and_run_out() {
    let mut server = TestServer::start();
    for wrong in [
        json!({"name": "", "scopes": ["push"]}),
        json!({"name": "k", "scopes": []}),
        json!({"name": "k", "scopes": ["viewer"]}),
        json!({"name": "k", "scopes": ["push"], "expires_in_s": 0}),
        json!({"name": "k", "scopes": ["push"], "role": "admin"}),
    ] {
        assert_eq!(server.api.post("/v1/keys", &wrong).status, 400, "{wrong}");
    }
    let answer = server.api.post("/v1/keys", &json!({"name": "first", "scopes": ["devices"]}));
    let (id, text) = (made(&answer, "id"), made(&answer, "key"));
    let first = Api::new(server.api_address, &server.app_key, &text);
    server.register("d", None, &[]);
    assert_eq!(first.get("/v1/devices/d").status, 200);
    let forbidden = first.push_text(json!({"registration_id": ["d"]}), "x");
    assert_eq!((forbidden.status, forbidden.code()), (403, "forbidden"));
    assert!(forbidden.text.contains("scope push"), "{}", forbidden.text);
    // A key of one app is none of another, and is not an operator's.
    let other = made(&server.operator().post("/v1/apps", &json!({"app_key": "other"})), "app_secret");
    let other = Api::new(server.api_address, "other", &other);
    assert_eq!(Api::new(server.api_address, "other", &text).get("/v1/devices/d").status, 401);
    assert_eq!(Api::new(server.api_address, "admin", &text).get("/v1/admin/memory").status, 401);
    assert_eq!(ask(&other, "DELETE", &format!("/v1/keys/{id}"), &json!({})).status, 404);
    assert_eq!(ask(&server.operator(), "DELETE", &format!("/v1/admin/keys/{id}"), &json!({})).status, 404);

    let short =
        server.api.post("/v1/keys", &json!({"name": "short", "scopes": ["devices"], "expires_in_s": 1}));
    let short = Api::new(server.api_address, &server.app_key, &made(&short, "key"));
    assert!(until(PATIENCE, || short.get("/v1/devices/d").status == 401));

    let listed = server.api.get("/v1/keys");
    let keys = listed.json["keys"].as_array().unwrap().clone();
    assert_eq!(keys.len(), 2);
    assert!(!listed.text.contains(&text), "{}", listed.text);
    let known = keys.iter().find(|key| key["id"] == id.as_str()).unwrap();
    assert!(known["used_at"].is_string() && known["expires_at"].is_null(), "{known}");
    assert_eq!(other.get("/v1/keys").json["keys"], json!([]));

    // It outlives the process; revoked it does not.
    assert!(server.terminate().success());
    let server = TestServer::start_in(server.folder());
    let first = Api::new(server.api_address, &server.app_key, &text);
    assert_eq!(first.get("/v1/devices/d").status, 200);
    assert_eq!(ask(&server.api, "DELETE", &format!("/v1/keys/{id}"), &json!({})).status, 204);
    assert_eq!(first.get("/v1/devices/d").status, 401);
    assert_eq!(ask(&server.api, "DELETE", &format!("/v1/keys/{id}"), &json!({})).status, 404);
    assert_eq!(ask(&server.api, "DELETE", "/v1/keys/xyz", &json!({})).status, 400);
}

#[track_caller]
fn set_quotas(server: &TestServer, quotas: &Value) {
    let body = json!({"app_key": server.app_key, "quotas": quotas});
    let answer = ask(&server.operator(), "PUT", "/v1/quotas", &body);
    assert_eq!(answer.status, 200, "{}", answer.text);
}

/// A refusal by a rate says when to come again, and it is so.
#[track_caller]
fn too_fast(answer: &Answer) -> u64 {
    assert_eq!((answer.status, answer.code()), (429, "app_rate"), "{}", answer.text);
    answer.header("retry-after").unwrap().parse().unwrap()
}

#[test]
fn rates_refuse_with_a_time_after_which_they_do_not() {
    let server = TestServer::start();
    server.register("d", None, &[]);
    // Without a limit there is nothing to tell.
    assert_eq!(server.api.get("/v1/devices/d").header("x-rate-limit-limit"), None);
    set_quotas(&server, &json!({"requests_per_s": 2}));
    let answers: Vec<Answer> = (0..9).map(|_| server.api.get("/v1/devices/d")).collect();
    let first = &answers[0];
    let header = |name: &str| first.header(name).unwrap().parse::<u64>().unwrap();
    assert_eq!((first.status, header("x-rate-limit-limit"), header("x-rate-limit-remaining")), (200, 2, 1));
    assert_eq!(header("x-rate-limit-reset"), 1);
    let refused =
        answers.iter().find(|answer| answer.status != 200).expect("nine requests in less than four seconds");
    assert_eq!(too_fast(refused), 1);
    assert_eq!(refused.header("x-rate-limit-remaining"), Some("0"));
    assert!(until(PATIENCE, || server.api.get("/v1/devices/d").status == 200));

    set_quotas(&server, &json!({"messages_per_s": 1}));
    let push = || server.api.push_text(json!({"registration_id": ["d"]}), "x");
    let refused = (0..9).map(|_| push()).find(|answer| answer.status != 202).expect("one a second");
    assert_eq!(too_fast(&refused), 1);
    assert!(until(PATIENCE, || push().status == 202));

    set_quotas(&server, &json!({"broadcasts_per_min": 1}));
    assert_eq!(server.api.push_text(json!("all"), "x").status, 202);
    let wait_s = too_fast(&server.api.push_text(json!({"tag": ["t"]}), "x"));
    assert!((50..=60).contains(&wait_s), "{wait_s}");
    assert_eq!(push().status, 202, "what is for one device is no broadcast");
    assert!(server.metric("longwire_app_quota_refused_total", &[&server.app_key]) >= 3.0);
    assert!(server.metric("longwire_app_accepted_total", &[&server.app_key]) >= 3.0);
}

#[test]
fn connections_and_devices_are_as_many_as_the_quota_says() {
    let server = TestServer::start();
    let mut devices: Vec<_> = (0..3).map(|number| server.device(&format!("d{number}"))).collect();
    set_quotas(&server, &json!({"connections": 2, "devices": 3}));
    devices[0].connect();
    devices[1].connect();
    let (reason, retry_after_s) = refusal(&mut devices[2]).unwrap();
    assert_eq!(reason, CloseReason::AppQuota);
    assert!(retry_after_s > 0);
    let quotas = server.api.get("/v1/quotas").json;
    assert_eq!(quotas["connections"], json!({"limit": 2, "used": 2}));
    assert_eq!(quotas["devices"], json!({"limit": 3, "used": 3}));
    // One that takes its own place needs none.
    let mut again = server.device("d0");
    assert_eq!(refusal(&mut again), None);
    drop(devices.remove(1));
    assert!(until(PATIENCE, || server.api.get("/v1/quotas").json["connections"]["used"] == 1));
    assert_eq!(refusal(&mut devices[1]), None);

    let refused = server.api.post("/v1/devices", &json!({"registration_id": "d3"}));
    assert_eq!((refused.status, refused.code()), (429, "app_quota"));
    assert!(refused.header("retry-after").is_some());
    assert_eq!(server.api.post("/v1/devices", &json!({"registration_id": "d0"})).status, 200);
    set_quotas(&server, &json!({}));
    assert_eq!(server.api.post("/v1/devices", &json!({"registration_id": "d3"})).status, 201);
    for wrong in [
        json!({"quotas": {}}),
        json!({"app_key": "nobody", "quotas": {}}),
        json!({"app_key": "x", "quotas": []}),
    ] {
        assert!(matches!(ask(&server.operator(), "PUT", "/v1/quotas", &wrong).status, 400 | 404), "{wrong}");
    }
}

#[test]
fn what_administrators_do_is_in_the_audit_log_and_their_secrets_are_not() {
    let server = TestServer::start();
    let answer = server.operator().post("/v1/admin/keys", &json!({"name": "ann", "role": "operator"}));
    let ann_key = made(&answer, "key");
    let ann = Api::new(server.api_address, "admin", &ann_key);
    let secret = made(&server.operator().post("/v1/apps", &json!({"app_key": "shop"})), "app_secret");
    assert_eq!(ann.post("/v1/apps/shop/disable", &json!({})).status, 200);
    assert_eq!(ann.post("/v1/apps", &json!({"app_key": "mine"})).status, 403);
    assert_eq!(server.api.post("/v1/keys", &json!({"name": "k", "scopes": ["push"]})).status, 201);
    assert_eq!(ann.get("/v1/admin/memory").status, 200);

    let log = ann.get("/v1/admin/audit");
    let told: Vec<(String, String, String)> = log.json["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| (line["who"].clone(), line["target"].clone(), line["outcome"].clone()))
        .map(|(who, target, outcome)| (text(&who), text(&target), text(&outcome)))
        .collect();
    let line =
        |who: &str, target: &str, outcome: &str| (who.to_owned(), target.to_owned(), outcome.to_owned());
    let owner = format!("app {}: the app's secret", server.app_key);
    let mut expected = Vec::new();
    for (who, target, outcome) in [
        ("admin (first)", "/v1/admin/keys", "201"),
        ("admin (first)", "/v1/apps", "201"),
        ("operator ann", "/v1/apps/shop/disable", "200"),
        ("operator ann", "/v1/apps", "403"),
        (&owner, "/v1/keys", "201"),
    ] {
        expected.extend([line(who, target, "asked"), line(who, target, outcome)]);
    }
    assert_eq!(told, expected);
    for secret in [&ann_key, &secret, &server.admin_key, &server.app_secret] {
        assert!(!log.text.contains(secret.as_str()), "a secret in {}", log.text);
    }
    let page = ann.get("/v1/admin/audit?limit=3").json;
    let next = page["next"].as_str().unwrap();
    let rest = ann.get(&format!("/v1/admin/audit?after={next}")).json;
    assert_eq!((rest["lines"][0]["number"].as_u64(), &rest["next"]), (Some(4), &Value::Null));
    assert_eq!(rest["lines"][0]["previous"], page["lines"][2]["hash"]);
    assert!(server.metric("longwire_audit_broken", &[]) == 0.0);
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[test]
fn quotas_of_the_node_hold_for_apps_without_their_own() {
    let server = Start::default().arg("--set").arg("quotas.devices=1").start();
    server.register("d0", None, &[]);
    assert_eq!(server.api.post("/v1/devices", &json!({})).status, 429);
    set_quotas(&server, &json!({"devices": 0}));
    assert_eq!(server.api.post("/v1/devices", &json!({})).status, 201);
}

/// Runs the command as an operator: whether it succeeded, and what it printed.
fn longwire(server: &TestServer, args: &[&str]) -> (bool, String) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_longwire"))
        .args(args)
        .env("LONGWIRE_API", server.api_address.to_string())
        .env("LONGWIRE_ADMIN_KEY", &server.admin_key)
        .output()
        .unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn the_command_does_all_of_it_and_finds_what_is_missing_in_the_log() {
    let server = TestServer::start();
    let run = |args: &[&str]| {
        let (done, text) = longwire(&server, args);
        assert!(done, "{args:?}: {text}");
        serde_json::from_str::<Value>(&text).unwrap_or(Value::Null)
    };
    assert!(run(&["app", "create", "shop", "--name", "The shop"])["app_secret"].is_string());
    assert_eq!(run(&["app", "set", "shop", "--self-service", "true"])["self_service"], json!(true));
    assert_eq!(run(&["app", "list", "--limit", "1000"])["apps"].as_array().unwrap().len(), 2);
    assert!(run(&["app", "rotate", "shop", "--grace", "60"])["app_secret"].is_string());
    assert_eq!(run(&["quota", "set", "shop", "--devices", "5"])["devices"]["limit"], 5);
    assert_eq!(run(&["quota", "show", "shop"])["devices"], 5);
    let made = run(&["key", "create", "--name", "ann", "--role", "viewer"]);
    assert_eq!(run(&["key", "list"])["keys"][0]["name"], "ann");
    run(&["key", "revoke", made["id"].as_str().unwrap()]);
    assert_eq!(run(&["app", "disable", "shop"])["disabled"], json!(true));
    assert_eq!(run(&["app", "enable", "shop"])["disabled"], json!(false));
    run(&["app", "disable", "shop"]);
    run(&["app", "remove", "shop"]);
    assert!(!longwire(&server, &["app", "show", "shop"]).0);
    assert!(!longwire(&server, &["app", "show", "../admin/memory"]).0);

    let whole = run(&["audit", "verify"]);
    assert_eq!((&whole["lines"], &whole["whole"]), (&json!(20), &json!(true)));
    let head = whole["last"]["hash"].as_str().unwrap();
    assert_eq!(run(&["audit", "list", "--limit", "1000"])["lines"][19]["hash"], head);
    run(&["app", "create", "other"]);
    assert_eq!(run(&["audit", "verify", "--head", head])["lines"], 22);
    let (done, text) = longwire(&server, &["audit", "verify", "--head", &"0".repeat(64)]);
    assert!(!done && text.contains("cut off"), "{text}");
}
