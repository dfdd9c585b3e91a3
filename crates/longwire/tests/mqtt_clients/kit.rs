//! Where the clients are, and how a flow of one is run.

use super::support::{PATIENCE, until};
use serde::Serialize;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

/// A flow holds several waits, each with its own patience.
pub(crate) const FLOW_PATIENCE: Duration = Duration::from_secs(60);
/// MQTT's own numbers of its versions.
pub(crate) const VERSIONS: [u8; 2] = [4, 5];

/// Where `cargo xtask clients` puts them.
pub(crate) fn home() -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("mqtt-clients");
    assert!(
        home.join("ready").exists(),
        "the clients are not installed: run `cargo xtask clients` (`cargo xtask test` does)"
    );
    home
}

pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mqtt_clients/scripts").join(name)
}

/// A command of a program that is there.
#[track_caller]
pub(crate) fn program(name: &str) -> Command {
    there(name);
    Command::new(name)
}

/// Fails if a program is not there.
#[track_caller]
pub(crate) fn there(name: &str) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    assert!(found, "{name} is not installed: run `cargo xtask clients` (`cargo xtask test` does)");
}

/// A client that is a script.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scripted {
    Paho,
    Aiomqtt,
    MqttJs,
    MqttJsOverWebSocket,
}

/// Which way in, and what to show there. Scripts get it as JSON.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Door {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The flow is gone through once in each.
    pub(crate) versions: Vec<u8>,
    /// For MQTT.js: `stream` or `websocket`.
    pub(crate) layer: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) password: Option<String>,
    /// The client id, where it must be a certain device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<String>,
    /// The client's own address, for the clients that can choose one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// With TLS: who is trusted, a PEM file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    /// The client's own certificate, a PEM file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<PathBuf>,
}

impl Door {
    /// Without credentials, in both versions.
    pub(crate) fn open(to: SocketAddr) -> Door {
        Door {
            host: to.ip().to_string(),
            port: to.port(),
            versions: VERSIONS.to_vec(),
            layer: "stream",
            user: None,
            password: None,
            device: None,
            from: None,
            ca: None,
            certificate: None,
            key: None,
        }
    }

    pub(crate) fn versions(self, versions: &[u8]) -> Door {
        Door { versions: versions.to_vec(), ..self }
    }
}

/// Runs a flow; it must end well.
#[track_caller]
pub(crate) fn flow(client: Scripted, flow: &str, door: &Door) {
    ends_well(command(client, flow, door));
}

/// A flow as a command.
#[track_caller]
pub(crate) fn command(client: Scripted, flow: &str, door: &Door) -> Command {
    let mut door = door.clone();
    let (mut command, name) = match client {
        Scripted::Paho => (Command::new(home().join("venv/bin/python")), "paho_flows.py"),
        Scripted::Aiomqtt => (Command::new(home().join("venv/bin/python")), "aiomqtt_flows.py"),
        Scripted::MqttJs | Scripted::MqttJsOverWebSocket => {
            let mut node = program("node");
            node.env("MQTTJS_HOME", home().join("node"));
            (node, "mqttjs_node.mjs")
        }
    };
    if matches!(client, Scripted::MqttJsOverWebSocket) {
        door.layer = "websocket";
    }
    command.arg(script(name)).arg(flow).arg(serde_json::to_string(&door).unwrap());
    command
}

/// Runs a command to its end, which must be a good one; what it printed.
#[track_caller]
pub(crate) fn ends_well(command: Command) -> String {
    let (good, said) = outcome(command);
    assert!(good, "{said}");
    said
}

/// Runs a command to its end: whether that was a good one, and what it printed.
#[track_caller]
pub(crate) fn outcome(mut command: Command) -> (bool, String) {
    let shown = format!("{command:?}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
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
    (status.success(), format!("{shown}: {status}\n{out}{errors}"))
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

/// A process that is killed (SIGKILL) when it is dropped.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    #[track_caller]
    pub(crate) fn start(mut command: Command) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
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

    /// Lines until one begins with `start`; what follows it there.
    #[track_caller]
    pub(crate) fn line_after(&self, start: &str) -> String {
        loop {
            if let Some(rest) = self.line().strip_prefix(start) {
                return rest.to_owned();
            }
        }
    }

    /// Waits for its end, which must be a good one.
    #[track_caller]
    pub(crate) fn ends_well(mut self) {
        let mut status = None;
        assert!(until(FLOW_PATIENCE, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        }));
        assert!(status.unwrap().success(), "{status:?}");
    }

    /// Its next line, if it has come.
    pub(crate) fn line_if_any(&self) -> Option<String> {
        self.lines.try_recv().ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
