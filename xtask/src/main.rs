//! What needs more than one cargo command: `cargo xtask demo | test | clients | engines | fuzz | dist`.
//!
//! - `demo`: builds the release and runs `longwire demo`.
//! - `checks`: `test`, everything that must pass before a change is taken.
//! - `clients`: MQTT clients of others, installed for the tests that run them.
//! - `engines`: database servers, installed for the tests that run them.
//! - `fuzz`: every fuzz target for some seconds.
//! - `dist`: a release in a tarball.
//! - `step`: runs one named step, shows how long it took, stops at the first that fails.

// This program talks to a person.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod checks;
mod clients;
mod demo;
mod dist;
mod engines;
mod fuzz;
mod step;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask <task>

  demo [--once]   build the release, show 1,000 devices getting their pushes, stay up to be tried
                  (--once: end after the table)
  test            install what is missing, then run everything that CI runs
  clients         install the MQTT clients that tests run, under target/mqtt-clients
  engines         install the database servers that tests run (MariaDB, PostgreSQL)
  fuzz [seconds]  run every fuzz target for 10 seconds, or so many
  dist            build the release and put it into target/dist as a tarball
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["demo", rest @ ..] => demo::run(rest),
        ["test"] => checks::run(),
        ["clients"] => clients::run(),
        ["engines"] => engines::run(),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        ["dist"] => dist::run(),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            eprintln!("\nFAILED: {failed}");
            ExitCode::FAILURE
        }
    }
}
