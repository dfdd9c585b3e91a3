//! The server that is measured: started for the run, or running already.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use serde::Deserialize;

use crate::args::ServerArgs;
use crate::error::BenchError;

/// A server that has not said that it is ready after this has failed.
const READY_TIME: Duration = Duration::from_secs(30);
/// A server that has not ended after SIGTERM is killed.
const END_TIME: Duration = Duration::from_secs(10);

/// Our devices beat as often as the scenario says, which is what the server takes for an attack.
const MEASURED: [&str; 2] = ["--set", "limits.ping_s=0"];

/// A server and what is needed to speak with it.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) device: SocketAddr,
    pub(crate) api: SocketAddr,
    pub(crate) app_key: String,
    pub(crate) app_secret: String,
    /// `None` for a server elsewhere: memory and processor time are not measured.
    pub(crate) pid: Option<u32>,
    process: Option<Child>,
}

/// The line that `serve --dev` prints when it is ready.
#[derive(Debug, Deserialize)]
struct Ready {
    ready: bool,
    device: SocketAddr,
    api: SocketAddr,
    app_key: String,
    app_secret: String,
    pid: u32,
}

/// The program to run children from: this one.
pub(crate) fn program() -> Result<PathBuf, BenchError> {
    std::env::current_exe().map_err(BenchError::system("own program file"))
}

/// Replaces this process by the server of the command line. It gets SIGTERM when the process that started it is gone,
/// however that ended; a server that outlives its measurement would disturb the next one.
pub(crate) fn become_server(words: &[String]) -> Result<(), BenchError> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(BenchError::Options("the role of the server needs a command line".into()));
    };
    set_parent_process_death_signal(Some(Signal::TERM)).map_err(|cause| BenchError::System {
        what: "ask for an end with the parent".into(),
        cause: cause.into(),
    })?;
    Err(BenchError::system(format!("start {program}"))(Command::new(program).args(arguments).exec()))
}

impl Server {
    /// The server that the options name, or a new one.
    pub(crate) fn obtain(args: &ServerArgs) -> Result<Server, BenchError> {
        match (args.target, args.api, &args.app_key, &args.app_secret) {
            (Some(device), Some(api), Some(app_key), Some(app_secret)) => {
                let (app_key, app_secret) = (app_key.clone(), app_secret.clone());
                Ok(Server { device, api, app_key, app_secret, pid: args.pid, process: None })
            }
            (None, None, None, None) => {
                let program = args.server_program.clone().map_or_else(program, Ok)?;
                Server::spawn(&program, &args.serve_arg)
            }
            _ => Err(BenchError::Options("--target needs --api, --app-key and --app-secret".into())),
        }
    }

    /// Starts `program serve --dev` and waits until it is ready.
    pub(crate) fn spawn(program: &Path, arguments: &[String]) -> Result<Server, BenchError> {
        let mut process = Command::new(self::program()?)
            .args(["bench", "fleet", "--role", "server", "--"])
            .arg(program)
            .args(["serve", "--dev"])
            .args(MEASURED)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(BenchError::system(format!("start {} serve --dev", program.display())))?;
        let Some(output) = process.stdout.take() else {
            return Err(BenchError::Server("has no standard output".into()));
        };
        let (post, first) = sync_channel(1);
        // The thread goes on reading to the end, so that a server that prints more is never stopped by a full pipe.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if line.starts_with('{') && line.contains("\"ready\"") {
                    let _ = post.try_send(line);
                }
            }
        });
        let line = match first.recv_timeout(READY_TIME) {
            Ok(line) => line,
            Err(failed) => {
                let _ = process.kill();
                let ended = process.wait();
                return Err(match (failed, ended) {
                    (RecvTimeoutError::Disconnected, Ok(status)) => BenchError::Server(format!(
                        "ended before it was ready ({status}): `{} serve --dev`",
                        program.display()
                    )),
                    _ => BenchError::Late {
                        what: "the server's ready line".into(),
                        seconds: READY_TIME.as_secs(),
                    },
                });
            }
        };
        let ready: Ready = serde_json::from_str(&line)
            .map_err(|error| BenchError::Server(format!("its ready line does not fit: {error}: {line}")))?;
        let Ready { ready: true, device, api, app_key, app_secret, pid } = ready else {
            return Err(BenchError::Server(format!("says that it is not ready: {line}")));
        };
        Ok(Server { device, api, app_key, app_secret, pid: Some(pid), process: Some(process) })
    }
}

impl Server {
    /// Ends a server that we started with SIGKILL: no warning, no flush.
    pub(crate) fn kill(&mut self) -> Result<(), BenchError> {
        let Some(process) = self.process.as_mut() else {
            return Err(BenchError::Options("only a server of our own is killed".into()));
        };
        let ended = process.kill().and_then(|()| process.wait());
        self.process = None;
        ended.map(|_| ()).map_err(BenchError::system("kill the server"))
    }

    /// Ends a server that we started with SIGTERM and starts it again with `arguments`, at the same addresses, with the same app.
    pub(crate) fn start_again(&mut self, program: &Path, arguments: &[String]) -> Result<(), BenchError> {
        let mut arguments = arguments.to_vec();
        arguments.extend(self.same_again());
        self.end();
        self.process = None;
        *self = Server::spawn(program, &arguments)?;
        Ok(())
    }

    /// The flags that give a new server this one's addresses and app.
    pub(crate) fn same_again(&self) -> Vec<String> {
        [
            "--device-bind",
            &self.device.to_string(),
            "--api-bind",
            &self.api.to_string(),
            "--app-key",
            &self.app_key,
            "--app-secret",
            &self.app_secret,
        ]
        .map(str::to_owned)
        .into()
    }

    /// Whether a server that we started still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(None)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

impl Server {
    fn end(&mut self) {
        let Some(process) = self.process.as_mut() else { return };
        if let Some(pid) = i32::try_from(process.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + END_TIME;
        while Instant::now() < deadline {
            if matches!(process.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = process.kill();
        let _ = process.wait();
    }
}
