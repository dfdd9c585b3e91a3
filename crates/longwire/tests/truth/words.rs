//! The command line.

use super::sink::{Sink, is_signed};
use super::streams;
use super::support::{PATIENCE, TestServer, until};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

fn longwire(server: &TestServer, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longwire"));
    command.args(args).env("LONGWIRE_API", format!("http://{}", server.api_address));
    command.env("LONGWIRE_APP_KEY", &server.app_key).env("LONGWIRE_APP_SECRET", &server.app_secret);
    command
}

#[track_caller]
fn said(server: &TestServer, args: &[&str]) -> String {
    let Output { status, stdout, stderr } = longwire(server, args).output().unwrap();
    assert!(status.success(), "{args:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// A verb that follows; ended with the test.
struct Follower(Child, BufReader<std::process::ChildStdout>);

impl Follower {
    fn start(server: &TestServer, args: &[&str]) -> Follower {
        let mut child = longwire(server, args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Follower(child, lines)
    }
    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.1.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn every_verb_says_what_the_api_knows() {
    let server = TestServer::start();
    streams(&server, "all", true);
    let sink = Sink::start();
    let set = said(&server, &["webhook", "set", "shop", "--url", &sink.url(), "--event", "receipts"]);
    let set: Value = serde_json::from_str(&set).unwrap();
    let mut receipts = Follower::start(&server, &["receipts", "--follow"]);
    let mut presence = Follower::start(&server, &["presence", "--follow"]);
    let mut device = server.device("d1");
    device.connect();
    let message = server.api.push_text(json!({ "registration_id": ["d1"] }), "hello").message_id();
    device.expect_text("hello");
    assert_eq!(receipts.next()["msg_id"], json!(message));
    assert_eq!(presence.next()["registration_id"], "d1");
    server.await_count(&message, "delivered", 1);
    let story = said(&server, &["explain", &message, "d1"]);
    assert!(story.contains("acked") && story.trim_end().ends_with("delivered"), "{story}");
    let target: Value = serde_json::from_str(&said(&server, &["targets", &message])).unwrap();
    assert_eq!((&target["registration_id"], &target["state"]), (&json!("d1"), &json!("delivered")));
    assert_eq!(said(&server, &["targets", &message, "--state", "pending"]), "");
    let receipt: Value = serde_json::from_str(&said(&server, &["receipts"])).unwrap();
    let cursor = receipt["cursor"].as_str().unwrap();
    assert_eq!(said(&server, &["receipts", "--after", cursor]), "");
    assert_eq!(said(&server, &["presence"]).lines().count(), 1);
    assert!(said(&server, &["webhook", "test", "shop"]).contains("\"ok\":true"));
    let secret = set["secret"].as_str().unwrap();
    assert!(
        until(PATIENCE, || sink.came().len() >= 2) && sink.came().iter().all(|came| is_signed(came, secret))
    );
    assert!(said(&server, &["webhook", "list"]).contains(&sink.url()));
    assert_eq!(said(&server, &["webhook", "delete", "shop"]), "");
    for args in [
        &["webhook", "delete", "shop"][..],
        &["explain", &message, "no body"],
        &["receipts", "--follow", "--after", "x"],
    ] {
        let failed = longwire(&server, args).output().unwrap();
        assert_eq!(failed.status.code(), Some(1), "{args:?}");
    }
}
