//! Where the clients are, and how a flow of one is run.

use super::support::PATIENCE;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

/// A flow holds several waits, each with its own patience.
const FLOW_PATIENCE: Duration = Duration::from_secs(60);

/// Where `cargo xtask clients` puts them.
fn home() -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("mqtt-clients");
    assert!(home.join("ready").exists(), "the clients are not installed: run `cargo xtask clients`");
    home
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mqtt_clients/scripts").join(name)
}

/// A client that is a script.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scripted {
    Paho,
    Aiomqtt,
    MqttJs,
    MqttJsOverWebSocket,
}

/// MQTT's own numbers of its versions.
pub(crate) const VERSIONS: [u8; 2] = [4, 5];

/// Runs a flow; it must end well.
#[track_caller]
pub(crate) fn flow(client: Scripted, flow: &str, server: SocketAddr, version: u8) {
    let python = |name: &str| {
        let mut command = Command::new(home().join("venv/bin/python"));
        command.arg(script(name)).args([flow, "127.0.0.1", &server.port().to_string()]);
        command
    };
    let node = |scheme: &str| {
        let mut command = Command::new("node");
        command.arg(script("mqttjs_flows.mjs")).args([flow, &format!("{scheme}://{server}/mqtt")]);
        command.env("MQTTJS_HOME", home().join("node"));
        command
    };
    let mut command = match client {
        Scripted::Paho => python("paho_flows.py"),
        Scripted::Aiomqtt => python("aiomqtt_flows.py"),
        Scripted::MqttJs => node("mqtt"),
        Scripted::MqttJsOverWebSocket => node("ws"),
    };
    command.arg(version.to_string());
    ends_well(command);
}

/// Runs a command to its end, which must be a good one; what it printed.
#[track_caller]
pub(crate) fn ends_well(mut command: Command) -> String {
    let shown = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{shown}: {error}"));
    let (out, errors) = (all_of(child.stdout.take().unwrap()), all_of(child.stderr.take().unwrap()));
    let end = Instant::now() + FLOW_PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > end {
            child.kill().ok();
            break child.wait().unwrap();
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let (out, errors) = (out.recv().unwrap(), errors.recv().unwrap());
    assert!(status.success(), "{shown}: {status}\n{out}{errors}");
    out
}

/// Read beside the process, so that it never waits for its reader.
fn all_of(mut pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, text) = sync_channel(1);
    std::thread::spawn(move || {
        let mut all = String::new();
        pipe.read_to_string(&mut all).ok();
        sender.send(all).ok();
    });
    text
}

/// A process that is killed when the test is done with it.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    #[track_caller]
    pub(crate) fn start(mut command: Command) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (sender, lines) = sync_channel(1_000);
        let stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in std::io::BufRead::lines(stdout).map_while(Result::ok) {
                sender.send(line).ok();
            }
        });
        Running { child, lines }
    }

    /// Its next line.
    #[track_caller]
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line of output")
    }

    /// Lines until one holds `word`.
    #[track_caller]
    pub(crate) fn await_word(&self, word: &str) {
        while !self.line().contains(word) {}
    }

    /// SIGKILL.
    pub(crate) fn kill9(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill9();
    }
}
