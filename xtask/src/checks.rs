//! `cargo xtask test`: everything that must pass before a change is taken, cheapest first.

use crate::step::{Failed, Steps, cargo, output, succeed};
use crate::{clients, engines, fuzz};
use std::process::{Command, Stdio};

/// The build of the tests.
const PLANTED: &str = "longwire/planted-faults";
const CARGO_DENY: &str = "0.20.2";
/// Programs that the build and its tests need, with the Debian packages that hold them.
const PROGRAMS: &[(&str, &str)] = &[
    ("cc", "gcc"),
    ("make", "make"),
    ("cmake", "cmake"),
    ("tar", "tar"),
    ("nginx", "nginx-light libnginx-mod-stream"),
];
/// Words in the names of crates that bring a reactor or an executor.
const RUNTIMES: &[&str] =
    &["tokio", "mio", "async-std", "smol", "async-executor", "futures-executor", "polling"];

pub(crate) fn run() -> Result<(), Failed> {
    let mut steps = Steps::default();
    steps.run("install what is missing", install)?;
    steps.run("MQTT clients", clients::run)?;
    steps.run("database servers", engines::run)?;
    steps.cargo("format", &["fmt", "--all", "--check"])?;
    steps.run("proto has no runtime", proto_has_no_runtime)?;
    steps.run("client has no server", client_has_no_server)?;
    steps.run("licences, versions, sources", || {
        succeed(cargo(&["deny", "--locked", "check", "bans", "licenses", "sources"]))
    })?;
    steps.cargo(
        "lints",
        &["clippy", "--locked", "--workspace", "--all-targets", "--", "--deny", "warnings"],
    )?;
    // One build for all: the faults in it lie still unless a test wakes one, so that the checker of histories is seen to find
    // each. The chaos test is among them: 100 kills with SIGKILL under load, in this build.
    steps.cargo("tests", &["test", "--locked", "--workspace", "--features", PLANTED])?;
    steps.run("fuzz targets", || fuzz::run(&[]))?;
    steps.run("demo", demo_once)?;
    steps.summary();
    Ok(())
}

fn install() -> Result<(), Failed> {
    install_packages(PROGRAMS)?;
    for component in ["rustfmt", "clippy"] {
        if !is_there(&format!("cargo-{}", component.trim_start_matches("rust"))) {
            let mut rustup = Command::new("rustup");
            rustup.args(["component", "add", component]);
            succeed(rustup)?;
        }
    }
    if !is_there("cargo-deny") {
        succeed(cargo(&["install", "cargo-deny", "--locked", "--version", CARGO_DENY]))?;
    }
    Ok(())
}

/// Installs the Debian packages of programs that are not there.
pub(crate) fn install_packages(programs: &[(&str, &str)]) -> Result<(), Failed> {
    let missing: Vec<&str> =
        programs.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() {
        return Err(Failed(format!("install these packages first: {}", missing.join(" "))));
    }
    let mut update = Command::new("apt-get");
    update.args(["update", "--quiet"]);
    succeed(update)?;
    let mut install = Command::new("apt-get");
    install.args(["install", "--yes", "--no-install-recommends"]);
    install.args(missing.iter().flat_map(|packages| packages.split(' ')));
    install.env("DEBIAN_FRONTEND", "noninteractive");
    succeed(install)
}

pub(crate) fn is_there(program: &str) -> bool {
    let mut ask = Command::new("sh");
    ask.args(["-c", "command -v \"$1\"", "sh", program]).stdout(Stdio::null()).stderr(Stdio::null());
    ask.status().is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    let mut id = Command::new("id");
    id.arg("-u");
    output(id).is_ok_and(|text| text.trim() == "0")
}

/// Names of the crates that `package` links.
fn linked(package: &str) -> Result<Vec<String>, Failed> {
    let words = ["tree", "--locked", "--package", package, "--edges", "normal", "--prefix", "none"];
    let text = output(cargo(&words))?;
    Ok(text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect())
}

fn proto_has_no_runtime() -> Result<(), Failed> {
    let names = linked("longwire-proto")?;
    match names.iter().find(|name| RUNTIMES.contains(&name.as_str())) {
        Some(runtime) => Err(Failed(format!("longwire-proto links {runtime}"))),
        None => Ok(()),
    }
}

fn client_has_no_server() -> Result<(), Failed> {
    let names = linked("longwire-client")?;
    match names.iter().find(|name| *name == "longwire-server") {
        Some(_) => Err(Failed("longwire-client links longwire-server".to_owned())),
        None => Ok(()),
    }
}

/// What a person meets first, in the build of the tests: every delivery of the demo must be acked.
fn demo_once() -> Result<(), Failed> {
    let binary = ["run", "--locked", "--package", "longwire", "--features", PLANTED];
    succeed(cargo(&[&binary[..], &["--", "demo", "--once"]].concat()))
}
