//! The command against the contract: docs/cli.md has every operation, and its verbs are there.

use crate::support::TestServer;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::{Command, Output};

const TABLE: &str = include_str!("../../../../docs/cli.md");
const CONTRACT: &str = include_str!("../../../../docs/openapi.json");

fn longwire(server: Option<&TestServer>, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longwire"));
    command.args(words);
    if let Some(server) = server {
        command.env("LONGWIRE_API", format!("http://{}", server.api_address));
        command.env("LONGWIRE_APP_KEY", &server.app_key).env("LONGWIRE_APP_SECRET", &server.app_secret);
        command.env("LONGWIRE_ADMIN_KEY", &server.admin_key);
    }
    command.output().unwrap()
}

#[track_caller]
fn said(server: &TestServer, words: &[&str]) -> Value {
    let Output { status, stdout, stderr } = longwire(Some(server), words);
    assert!(status.success(), "{words:?}: {}", String::from_utf8_lossy(&stderr));
    serde_json::from_slice(&stdout).unwrap_or(Value::Null)
}

#[track_caller]
fn refused(server: &TestServer, words: &[&str], with: &str) {
    let Output { status, stderr, .. } = longwire(Some(server), words);
    let text = String::from_utf8_lossy(&stderr);
    assert!(status.code() == Some(1) && text.contains(with), "{words:?}: {status}, {text}");
}

#[test]
fn the_table_of_verbs_has_every_operation_and_only_verbs_that_are_there() {
    let document: Value = serde_json::from_str(CONTRACT).unwrap();
    let of_item = |(path, item): (&String, &Value)| {
        let methods: Vec<_> = item.as_object().unwrap().keys().map(|method| method.to_uppercase()).collect();
        methods.into_iter().map(|method| format!("{method} {path}")).collect::<Vec<_>>()
    };
    let operations: BTreeSet<String> =
        document["paths"].as_object().unwrap().iter().flat_map(of_item).collect();
    let mut in_table = BTreeSet::new();
    for line in TABLE.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let words = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
        in_table.extend(words(cells[0]));
        for verb in words(cells[1]).iter().filter(|verb| verb.starts_with("longwire ")) {
            let mut words: Vec<&str> =
                verb.split(' ').skip(1).filter(|word| !word.starts_with('-')).collect();
            words.push("--help");
            let output = longwire(None, &words);
            let usage = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && usage.contains("Usage:"), "{verb}: {usage}");
        }
    }
    let missing: Vec<_> = operations.difference(&in_table).collect();
    let gone: Vec<_> = in_table.difference(&operations).collect();
    assert!(missing.is_empty() && gone.is_empty(), "not in docs/cli.md: {missing:?}; only there: {gone:?}");
}

#[test]
fn keys_of_an_app_are_made_listed_and_revoked() {
    let server = TestServer::start();
    let made = said(&server, &["app-key", "create", "--name", "shop", "--scope", "push", "--scope", "tags"]);
    assert_eq!(made["scopes"], json!(["push", "tags"]), "{made}");
    let id = made["id"].as_str().unwrap();
    assert_eq!(said(&server, &["app-key", "list"])["keys"][0]["id"], made["id"]);
    said(&server, &["app-key", "revoke", id]);
    assert_eq!(said(&server, &["app-key", "list"])["keys"], json!([]));
    refused(&server, &["app-key", "revoke", id], "404");
    refused(&server, &["app-key", "create", "--name", "shop", "--scope", "everything"], "400");
}

#[test]
fn what_topics_keep_is_listed_and_cleared() {
    let server = TestServer::start();
    said(&server, &["publish", "--topic", "news/a b", "--message", "x", "--retain"]);
    let kept = said(&server, &["retained", "list", "--filter", "news/#"]);
    assert_eq!(kept["items"][0]["topic"], "news/a b", "{kept}");
    assert_eq!(said(&server, &["retained", "list", "--filter", "other/#"])["items"], json!([]));
    said(&server, &["retained", "clear", "news/a b"]);
    refused(&server, &["retained", "clear", "news/a b"], "404");
    assert_eq!(said(&server, &["retained", "list"])["items"], json!([]));
}

#[test]
fn what_devices_sent_is_listed_and_acked() {
    let server = TestServer::start();
    let waiting = said(&server, &["upstream", "list"]);
    assert_eq!(waiting["items"], json!([]), "{waiting}");
    refused(&server, &["upstream", "ack", "not-a-cursor"], "400");
    let acked = said(&server, &["upstream", "ack", waiting["cursor"].as_str().unwrap()]);
    assert_eq!(acked["waiting"]["messages"], 0, "{acked}");
}

#[test]
fn a_node_is_looked_at_reloaded_and_drained() {
    let server = TestServer::start();
    assert!(said(&server, &["node", "memory"]).is_object());
    assert!(!said(&server, &["node", "shards"]).is_null());
    assert!(said(&server, &["node", "reload"])["certificates"].is_string());
    refused(&server, &["node", "--admin-key", "wrong", "drain"], "401");
    assert_eq!(server.api.anonymous().get("/readyz").status, 200);
    let drained = said(&server, &["node", "drain", "--window", "0", "--stay"]);
    assert_eq!(drained, json!({ "draining": true, "window_s": 0, "then": "stay" }));
    assert_eq!(server.api.anonymous().get("/readyz").status, 503);
}
