//! The verbs, as an operator types them.

use crate::support::{TestServer, count_of};
use crate::to;
use serde_json::{Value, json};
use std::process::{Command, Output};

fn longwire(server: &TestServer, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_longwire"))
        .args(arguments)
        .env("LONGWIRE_API", server.api_address.to_string())
        .env("LONGWIRE_APP_KEY", &server.app_key)
        .env("LONGWIRE_APP_SECRET", &server.app_secret)
        .output()
        .unwrap()
}

/// What it prints: one line of JSON.
#[track_caller]
fn json_of(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn recall_message_and_books_print_what_the_api_answers() {
    let server = TestServer::start();
    server.device("d1");
    let older = server.api.push_text(to("d1"), "older").message_id();
    let newer = json_of(&longwire(
        &server,
        &["push", "--to", "d1", "--message", "newer", "--override-msg-id", &older],
    ));
    let newer = newer["msg_id"].as_str().unwrap();
    let story = json_of(&longwire(&server, &["message", &older]));
    assert_eq!((count_of(&story, "collapsed"), &story["msg_id"]), (1, &json!(older)), "{story}");
    let recalled = json_of(&longwire(&server, &["recall", newer]));
    assert_eq!((&recalled["recalled_now"], &recalled["msg_id"]), (&json!(1), &json!(newer)), "{recalled}");
    let books = json_of(&longwire(&server, &["books"]));
    let of = |state: &str| books[state].as_u64();
    assert_eq!(
        (of("created"), of("collapsed"), of("recalled"), of("pending")),
        (Some(2), Some(1), Some(1), Some(0))
    );
}

#[test]
fn what_is_no_message_is_refused_before_or_by_the_api() {
    let server = TestServer::start();
    for verb in ["recall", "message"] {
        let output = longwire(&server, &[verb, "0198f3a1b2c37d4e8f90a1b2c3d4e5f6"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("404"), "{said}");
        for wrong in ["", "short", "0198f3a1b2c37d4e8f90a1b2c3d4e5f6/x"] {
            assert_eq!(longwire(&server, &[verb, wrong]).status.code(), Some(2), "{wrong}");
        }
    }
}
