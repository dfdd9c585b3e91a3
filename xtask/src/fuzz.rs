//! `cargo xtask fuzz`: every fuzz target for some seconds, with the compiler that is there.

use crate::checks::is_there;
use crate::step::{Failed, cargo, output, root, succeed};
use std::process::Command;

const CARGO_FUZZ: &str = "0.13.2";
/// Seconds per target.
const SECONDS: u32 = 10;
/// MiB; a target that needs more has a leak.
const MEMORY_MAX: u32 = 1_024;

/// `seconds`: other than [`SECONDS`].
pub(crate) fn run(words: &[&str]) -> Result<(), Failed> {
    let seconds = match words {
        [] => SECONDS,
        [seconds] => seconds.parse().map_err(|_| Failed(format!("{seconds} is not a number of seconds")))?,
        _ => return Err(Failed("one number of seconds".to_owned())),
    };
    if !is_there("cargo-fuzz") {
        succeed(cargo(&["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ]))?;
    }
    let targets = output(fuzz(&["list"]))?;
    succeed(fuzz(&["build"]))?;
    for target in targets.lines().map(str::trim).filter(|target| !target.is_empty()) {
        let (time, memory) = (format!("-max_total_time={seconds}"), format!("-rss_limit_mb={MEMORY_MAX}"));
        succeed(fuzz(&["run", target, "--", &time, &memory, "-print_final_stats=1", "-verbosity=0"]))?;
    }
    Ok(())
}

/// Sanitizers are for nightly compilers; the variable lets a stable one have them too.
fn fuzz(words: &[&str]) -> Command {
    let mut command = cargo(&["fuzz"]);
    command.args(words).current_dir(root()).env("RUSTC_BOOTSTRAP", "1");
    command
}
