//! `cargo xtask demo`: the release, shown at work.

use crate::step::{Failed, cargo, succeed, target};
use std::path::PathBuf;
use std::process::Command;

pub(crate) fn run(words: &[&str]) -> Result<(), Failed> {
    let binary = build_release()?;
    let mut demo = Command::new(binary);
    demo.arg("demo").args(words);
    succeed(demo)
}

/// Builds the command in release and says where it is.
pub(crate) fn build_release() -> Result<PathBuf, Failed> {
    succeed(cargo(&["build", "--release", "--locked", "--package", "longwire"]))?;
    Ok(target().join("release/longwire"))
}
