//! `cargo xtask clients`: the clients of others that tests run, under `target/mqtt-clients`: MQTT clients, and one that makes
//! requests from the OpenAPI document.

use crate::checks::{install_packages, is_there};
use crate::step::{Failed, output, root, succeed, target};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Programs with the Debian packages that hold them.
const PROGRAMS: &[(&str, &str)] = &[
    ("mosquitto_pub", "mosquitto-clients"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("python3", "python3"),
    ("chromium", "chromium"),
    ("certutil", "libnss3-tools"),
    ("openssl", "openssl"),
];
/// The oldest Node that MQTT.js runs on.
const NODE_MAJOR: u32 = 18;
/// What is installed, pinned.
const SCRIPTS: &str = "crates/longwire/tests/mqtt_clients/scripts";
const OF_THE_CONTRACT: &str = "crates/longwire/tests/openapi/requirements.txt";
const OFFLINE: &str =
    "the clients come from the registries of Debian, Python and Node once; is the network there?";

pub(crate) fn run() -> Result<(), Failed> {
    install_packages(PROGRAMS)?;
    let node = version("node")?;
    let major = node.trim_start_matches('v').split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < NODE_MAJOR) {
        return Err(Failed(format!("node {NODE_MAJOR} or newer is needed, this is {node}")));
    }
    let (home, scripts) = (target().join("mqtt-clients"), root().join(SCRIPTS));
    let wanted = pins(&scripts)?;
    if fs::read_to_string(home.join("ready")).is_ok_and(|there| there == wanted) {
        return Ok(());
    }
    fs::create_dir_all(home.join("node")).map_err(|error| at(&home, &error))?;
    python(&home, &scripts).map_err(|failed| Failed(format!("{failed}: {OFFLINE}")))?;
    modules(&home, &scripts).map_err(|failed| Failed(format!("{failed}: {OFFLINE}")))?;
    fs::write(home.join("ready"), wanted).map_err(|error| at(&home, &error))
}

fn python(home: &Path, scripts: &Path) -> Result<(), Failed> {
    let venv = home.join("venv");
    if !venv.join("bin/pip").exists() {
        let mut create = Command::new("python3");
        create.args(["-m", "venv"]).arg(&venv);
        if succeed(create).is_err() {
            // Debian keeps the module in a package of its own.
            install_packages(&[("python3-venv", "python3-venv")])?;
            let mut again = Command::new("python3");
            again.args(["-m", "venv", "--clear"]).arg(&venv);
            succeed(again)?;
        }
    }
    let mut pip = Command::new(venv.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(scripts.join("requirements.txt"))
        .arg("-r")
        .arg(root().join(OF_THE_CONTRACT));
    succeed(pip)
}

fn modules(home: &Path, scripts: &Path) -> Result<(), Failed> {
    for file in ["package.json", "package-lock.json"] {
        fs::copy(scripts.join(file), home.join("node").join(file)).map_err(|error| at(scripts, &error))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(home.join("node"));
    succeed(npm)
}

/// The text of all pins: what is installed is right if it was installed from the same.
fn pins(scripts: &Path) -> Result<String, Failed> {
    let mut all = String::new();
    let files =
        [scripts.join("requirements.txt"), scripts.join("package-lock.json"), root().join(OF_THE_CONTRACT)];
    for path in files {
        all += &fs::read_to_string(&path).map_err(|error| at(&path, &error))?;
    }
    Ok(all)
}

fn version(program: &str) -> Result<String, Failed> {
    if !is_there(program) {
        return Err(Failed(format!("{program} is not there")));
    }
    let mut ask = Command::new(program);
    ask.arg("--version");
    output(ask).map(|text| text.trim().to_owned())
}

fn at(path: &Path, error: &std::io::Error) -> Failed {
    Failed(format!("{}: {error}", path.display()))
}
