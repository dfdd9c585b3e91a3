//! One `longwire serve --dev` process: started, waited for, ended.

use super::{Api, PATIENCE, RawDevice, TestDevice, until};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::sync_channel;
use tempfile::TempDir;

const APP_KEY: &str = "tests";
const APP_SECRET: &str = "a-secret-of-tests-0123456789abcdef";

/// How to start a server.
#[derive(Default)]
pub struct Start {
    folder: Option<PathBuf>,
    app_key: Option<String>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    descriptors: Option<u32>,
    stderr_pipe: bool,
}

impl Start {
    /// In this data directory instead of a fresh one.
    #[must_use]
    pub fn folder(mut self, folder: &Path) -> Start {
        self.folder = Some(folder.to_owned());
        self
    }
    /// With an app of this key, which is made if it is not there, instead of the tests' one.
    #[must_use]
    pub fn app(mut self, key: &str) -> Start {
        self.app_key = Some(key.to_owned());
        self
    }
    /// One more argument of `serve`.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Start {
        self.args.push(arg.to_owned());
        self
    }
    /// One more environment variable.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Start {
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }
    /// With a hard limit of open descriptors.
    #[must_use]
    pub fn descriptors(mut self, limit: u32) -> Start {
        self.descriptors = Some(limit);
        self
    }
    /// With a pipe as stderr that nobody reads until the test does, see [`TestServer::stderr_pipe`].
    #[must_use]
    pub fn stderr_pipe(mut self) -> Start {
        self.stderr_pipe = true;
        self
    }
    fn command(&self, folder: &Path, stderr: &Path) -> Command {
        let binary = env!("CARGO_BIN_EXE_longwire");
        let mut command = match self.descriptors {
            None => Command::new(binary),
            Some(limit) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {limit} && exec \"$@\""), "sh", binary]);
                shell
            }
        };
        // The same app each time, so that a second start in the same folder finds its own.
        let app_key = self.app_key.as_deref().unwrap_or(APP_KEY);
        command.args(["serve", "--dev", "--app-key", app_key, "--app-secret", APP_SECRET]);
        command.arg("--data-dir").arg(folder).args(&self.args);
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        let log = File::options().create(true).append(true).open(stderr).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.stderr(if self.stderr_pipe { Stdio::piped() } else { log.into() });
        command
    }
    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> TestServer {
        match TestServer::launch(self) {
            Ok(server) => server,
            Err(failed) => panic!("the server did not get ready: {failed:?}"),
        }
    }
    /// Starts a server that must not get ready: its exit status and all that it wrote to stderr.
    #[track_caller]
    pub fn must_fail(self) -> (ExitStatus, String) {
        match TestServer::launch(self) {
            Ok(_) => panic!("the server got ready"),
            Err(failed) => (failed.status, failed.stderr),
        }
    }
}

#[derive(Debug)]
struct Failed {
    status: ExitStatus,
    stderr: String,
}

/// A running server. Killed when dropped; its log is printed when the test fails.
pub struct TestServer {
    child: Child,
    /// Where devices connect.
    pub device: SocketAddr,
    /// What the ready line says of every listener: name and address.
    listeners: Value,
    /// Its HTTP API.
    pub api: Api,
    /// Its HTTP address.
    pub api_address: SocketAddr,
    /// The app's public key.
    pub app_key: String,
    /// The app's secret.
    pub app_secret: String,
    /// The operator's key.
    pub admin_key: String,
    folder: PathBuf,
    stderr: PathBuf,
    /// Holds stderr, and the data directory unless one was given.
    _own: TempDir,
}

impl TestServer {
    /// In a fresh data directory.
    #[track_caller]
    pub fn start() -> TestServer {
        Start::default().start()
    }

    /// In this data directory.
    #[track_caller]
    pub fn start_in(folder: &Path) -> TestServer {
        Start::default().folder(folder).start()
    }

    fn launch(start: Start) -> Result<TestServer, Failed> {
        let own = tempfile::tempdir().unwrap();
        let folder = start.folder.clone().unwrap_or_else(|| own.path().join("store"));
        let stderr = own.path().join("stderr");
        let mut child = start.command(&folder, &stderr).spawn().expect("the binary starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let (sender, line) = sync_channel(1);
        // The thread ends with the process: it reads stdout to its end, so that the server never blocks on it.
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line.starts_with('{') && line.contains("\"ready\"") {
                    sender.try_send(line).ok();
                }
            }
        });
        let Ok(line) = line.recv_timeout(PATIENCE) else {
            child.kill().ok();
            let status = child.wait().unwrap();
            return Err(Failed { status, stderr: std::fs::read_to_string(&stderr).unwrap_or_default() });
        };
        let ready: Value = serde_json::from_str(&line).expect("the ready line is JSON");
        let word = |field: &str| ready[field].as_str().unwrap_or_else(|| panic!("{field} in {line}"));
        let api_address: SocketAddr = word("api").parse().unwrap();
        let app_key = word("app_key").to_owned();
        let app_secret = word("app_secret").to_owned();
        assert_eq!(ready["pid"].as_u64(), Some(u64::from(child.id())));
        Ok(TestServer {
            child,
            device: word("device").parse().unwrap(),
            listeners: ready["listeners"].clone(),
            api: Api::new(api_address, &app_key, &app_secret),
            api_address,
            app_key,
            app_secret,
            admin_key: word("admin_key").to_owned(),
            folder,
            stderr,
            _own: own,
        })
    }

    /// Where devices connect at the listener of a name.
    #[track_caller]
    pub fn listener(&self, name: &str) -> SocketAddr {
        self.listeners[name].as_str().unwrap_or_else(|| panic!("no listener {name}")).parse().unwrap()
    }

    /// Its HTTP API as the operator asks it.
    pub fn operator(&self) -> Api {
        Api::new(self.api_address, "admin", &self.admin_key)
    }

    /// The data directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it wrote to stderr so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Registers a device.
    #[track_caller]
    pub fn register(&self, name: &str, alias: Option<&str>, tags: &[&str]) -> Value {
        let mut body = json!({ "registration_id": name, "tags": tags });
        if let Some(alias) = alias {
            body["alias"] = json!(alias);
        }
        let answer = self.api.post("/v1/devices", &body);
        assert!(matches!(answer.status, 200 | 201), "register {name}: {} {}", answer.status, answer.text);
        answer.json
    }

    /// A registered device, not connected.
    #[track_caller]
    pub fn device(&self, name: &str) -> TestDevice {
        self.device_with(name, None, &[])
    }

    /// A registered device with alias and tags, not connected.
    #[track_caller]
    pub fn device_with(&self, name: &str, alias: Option<&str>, tags: &[&str]) -> TestDevice {
        TestDevice::new(self.device, &self.app_key, name, &self.register(name, alias, tags))
    }

    /// A registered device that is logged in by hand and speaks bytes.
    #[track_caller]
    pub fn raw_device(&self, name: &str) -> RawDevice {
        RawDevice::login(self.device, &self.app_key, &self.register(name, None, &[]))
    }

    /// The value of a metric, all series of this name that have every `label="value"` text added up.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.api.get("/metrics").text;
        let series = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Waits until the message's count of this state is at least `count`; the last answer.
    #[track_caller]
    pub fn await_count(&self, message: &str, state: &str, count: u64) -> Value {
        let path = format!("/v1/messages/{message}");
        let mut last = Value::Null;
        let reached = until(PATIENCE, || {
            last = self.api.get(&path).json;
            count_of(&last, state) >= count
        });
        assert!(reached, "{state} never reached {count}: {last}");
        last
    }

    /// SIGKILL, at once.
    pub fn kill9(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// SIGTERM, then its exit status; a server that does not end fails the test.
    #[track_caller]
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal_terminate();
        self.await_exit()
    }

    /// SIGTERM only.
    pub fn signal_terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// SIGHUP.
    pub fn signal_hangup(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    /// SIGSTOP: the whole process stands still until [`TestServer::go_on`].
    pub fn stand_still(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// SIGCONT.
    pub fn go_on(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    /// The end to read of the pipe that is its stderr, once; see [`Start::stderr_pipe`].
    pub fn stderr_pipe(&mut self) -> std::process::ChildStderr {
        self.child.stderr.take().expect("started with a pipe as stderr")
    }

    /// SIGINT only.
    pub fn signal_interrupt(&self) {
        self.signal(rustix::process::Signal::INT);
    }

    /// A process that was not waited for is still there to be signalled, ended or not.
    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn await_exit(&mut self) -> ExitStatus {
        let mut status = None;
        let ended = until(PATIENCE, || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended, "the server did not end");
        status.unwrap()
    }

    /// Whether it still runs.
    pub fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

/// One number of the answer of `GET /v1/messages/{id}`; 0 when it is absent.
pub fn count_of(story: &Value, state: &str) -> u64 {
    story["counts"][state].as_u64().unwrap_or(0)
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!("--- log of server {} ---\n{}--- end of log ---", self.child.id(), self.log());
        }
    }
}
