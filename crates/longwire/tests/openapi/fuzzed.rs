//! Requests made from the document by schemathesis: examples, each field at its bounds, and random ones, good and bad.

use crate::support::{Api, TestServer};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is looked at in each answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
response_headers_conformance,response_schema_conformance,unsupported_method,allow_header_conformance";
/// Random requests per operation; `LONGWIRE_CONTRACT_EXAMPLES` changes it.
const EXAMPLES: &str = "30";

/// Streams do not end by themselves.
const ENDLESS: &str = "/stream$";
/// A drain ends the server.
const ENDS_THE_SERVER: &str = "/drain$";
/// What an operator's key opens.
const OPERATORS: &str = "^/v1/(admin|apps|quotas)";

#[test]
fn an_app_gets_only_documented_answers() {
    let server = TestServer::start();
    let without = format!("{}|{ENDLESS}", OPERATORS.replace("|quotas", ""));
    run(&server, &server.api, &["--exclude-path-regex", &without]);
}

#[test]
fn an_operator_gets_only_documented_answers() {
    let server = TestServer::start();
    let without = format!("{ENDS_THE_SERVER}|{ENDLESS}");
    run(&server, &server.operator(), &["--include-path-regex", OPERATORS, "--exclude-path-regex", &without]);
}

fn run(server: &TestServer, caller: &Api, which: &[&str]) {
    let examples = std::env::var("LONGWIRE_CONTRACT_EXAMPLES").unwrap_or_else(|_| EXAMPLES.to_owned());
    let output = Command::new(schemathesis())
        .args(["run", &format!("http://{}/openapi.json", server.api_address)])
        .args(["--header", caller.authorization().trim()])
        .args(which)
        .args(["--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", &examples])
        // One worker: with two, CPython 3.11 fails by itself at times ("AST constructor recursion depth mismatch").
        .args(["--continue-on-failure", "--workers", "1", "--no-color"])
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .output()
        .expect("schemathesis starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    // One that found no operation would pass too.
    assert!(said.contains("Tested:") && !said.contains("Tested: 0"), "{said}");
    assert_eq!(server.api.anonymous().get("/healthz").status, 200, "the server lives");
}

fn schemathesis() -> PathBuf {
    let program =
        Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("mqtt-clients/venv/bin/schemathesis");
    assert!(
        program.exists(),
        "schemathesis is not installed: run `cargo xtask clients` (`cargo xtask test` does)"
    );
    program
}
