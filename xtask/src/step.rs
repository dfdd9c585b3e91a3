//! One named step after another.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Which step failed, and how.
#[derive(Debug)]
pub(crate) struct Failed(pub(crate) String);

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Runs steps, shows their names and times, and keeps the times for the end.
#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration)>,
}

impl Steps {
    /// Runs `act` as a step.
    pub(crate) fn run(&mut self, name: &str, act: impl FnOnce() -> Result<(), Failed>) -> Result<(), Failed> {
        println!("\n== {name}");
        let begin = Instant::now();
        act().map_err(|failed| Failed(format!("{name}: {failed}")))?;
        let took = begin.elapsed();
        println!("== {name}: passed in {:.1} s", took.as_secs_f64());
        self.done.push((name.to_owned(), took));
        Ok(())
    }

    /// Runs a cargo command as a step.
    pub(crate) fn cargo(&mut self, name: &str, words: &[&str]) -> Result<(), Failed> {
        self.run(name, || succeed(cargo(words)))
    }

    /// A table of all steps.
    pub(crate) fn summary(&self) {
        println!();
        for (name, took) in &self.done {
            println!("{:>8.1} s  {name}", took.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|(_, took)| *took).sum();
        println!("{:>8.1} s  all passed", total.as_secs_f64());
    }
}

/// The workspace's folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// Where cargo puts what it builds.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// A cargo command in the workspace's folder.
pub(crate) fn cargo(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(words).current_dir(root());
    command
}

/// Runs a command that must succeed.
pub(crate) fn succeed(mut command: Command) -> Result<(), Failed> {
    let shown = format!("{command:?}");
    let status = command.status().map_err(|error| Failed(format!("{shown}: {error}")))?;
    if status.success() { Ok(()) } else { Err(Failed(format!("{shown}: {status}"))) }
}

/// Runs a command that must succeed, and gives what it printed.
pub(crate) fn output(mut command: Command) -> Result<String, Failed> {
    let shown = format!("{command:?}");
    let output =
        command.stderr(Stdio::inherit()).output().map_err(|error| Failed(format!("{shown}: {error}")))?;
    if !output.status.success() {
        return Err(Failed(format!("{shown}: {}", output.status)));
    }
    String::from_utf8(output.stdout).map_err(|_| Failed(format!("{shown}: the output is not text")))
}
