//! Devices, tags and aliases by the command.

use super::support::TestServer;
use serde_json::{Value, json};
use std::process::{Command, Output, Stdio};

fn longwire(server: &TestServer, noun: &str, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_longwire"))
        .arg(noun)
        .args(["--api", &server.api_address.to_string(), "--app-key", &server.app_key])
        .args(words)
        .env("LONGWIRE_APP_SECRET", &server.app_secret)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What it prints, which is one line of JSON or nothing.
#[track_caller]
fn said(server: &TestServer, noun: &str, words: &[&str]) -> Value {
    let output = longwire(server, noun, words);
    assert!(output.status.success(), "{noun} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
}

#[test]
fn every_noun_says_what_the_api_says() {
    let server = TestServer::start();
    said(&server, "register", &["--registration-id", "status", "--attribute", "v=1=2", "--tag", "t"]);
    said(&server, "register", &["--registration-id", "d1"]);
    let shown = said(&server, "device", &["show", "status"]);
    assert_eq!((&shown["attributes"], &shown["tags"]), (&json!({ "v": "1=2" }), &json!(["t"])));
    let set = ["set", "d1", "--add-tag", "t", "--add-tag", "u", "--alias", "ann b", "--attribute", "w=x"];
    let set = said(&server, "device", &set);
    assert_eq!((&set["alias"], &set["tags"]), (&json!("ann b"), &json!(["t", "u"])));
    assert_eq!(said(&server, "tag", &["show", "t"])["total"], 2);
    assert_eq!(said(&server, "tag", &["add", "new", "d1", "status"])["results"][1]["result"], "done");
    assert_eq!(said(&server, "tag", &["remove", "new", "d1"])["results"][0]["result"], "done");
    let tags = said(&server, "tag", &["list", "--limit", "1"]);
    assert_eq!(tags["tags"], json!([{ "tag": "new", "devices": 1 }]));
    let next = tags["next"].as_str().unwrap();
    assert_eq!(said(&server, "tag", &["list", "--limit", "1", "--after", next])["tags"][0]["tag"], "t");
    assert_eq!(said(&server, "tag", &["clear", "t"]), json!({ "cleared": 2, "left": 0 }));
    assert_eq!(said(&server, "alias", &["show", "ann b"])["devices"][0]["registration_id"], "d1");
    assert_eq!(said(&server, "alias", &["unbind", "ann b"])["cleared"], 1);
    said(&server, "device", &["set", "d1", "--alias", "x"]);
    assert_eq!(said(&server, "device", &["set", "d1", "--no-alias"])["alias"], Value::Null);
    let mut device = server.device("d1");
    device.connect();
    let status = said(&server, "device", &["status", "d1", "status", "ghost"]);
    let online = status["devices"].as_array().unwrap().iter().map(|one| one["online"] == true);
    assert_eq!(online.collect::<Vec<_>>(), [true, false, false]);
    assert_eq!(said(&server, "device", &["disconnect", "d1"]), json!({ "disconnected": true }));
    device.expect_end();
    assert_eq!(said(&server, "device", &["revoke", "d1"]), Value::Null);
    assert_eq!(said(&server, "device", &["remove", "status"]), Value::Null);
    assert_eq!(said(&server, "device", &["list"])["total"], 1);
}

#[test]
fn what_is_refused_is_said_and_the_exit_code_tells() {
    let server = TestServer::start();
    let refused = longwire(&server, "device", &["show", "ghost"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no such device"));
    assert!(refused.stdout.is_empty());
    for words in [
        &["device", "show"][..],
        &["device", "set", "d", "--attribute", "x"],
        &["device", "set", "d", "--alias", "a", "--no-alias"],
        &["device", "list", "--limit", "1001"],
        &["tag", "add", "t"],
        &["alias", "show"],
    ] {
        let output = longwire(&server, words[0], &words[1..]);
        assert_eq!(output.status.code(), Some(2), "{words:?}");
    }
}
