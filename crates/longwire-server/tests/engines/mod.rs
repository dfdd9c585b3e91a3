//! Database servers for tests: real ones, each with data of its own in the target folder, on a free port of 127.0.0.1. A shell holds each
//! of them, and ends it by its number when the test, or the whole test program however it ends, lets go of the shell's input.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)] // each test program uses a part

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Which server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    MariaDb,
    Postgres,
}

/// The password of the user `longwire`, and how it stands in a URL.
pub const PASSWORD: &str = "s3cr/et:w@rd";
const ESCAPED: &str = "s3cr%2Fet%3Aw%40rd";
const PATIENCE: Duration = Duration::from_secs(30);

/// Holds a server: its number goes out first; "kill" ends it at once and leaves its data; the end of the input ends it and removes them.
const HOLD: &str = r#"
exec 2>/dev/null
folder=$1; gently=$2; shift 2
"$@" >>"$folder/log" 2>&1 </dev/null &
pid=$!
echo "$pid"
read -r word
if [ "$word" = kill ]; then
    kill -KILL "$pid"; wait "$pid"
else
    kill "-$gently" "$pid"; wait "$pid"
    rm -rf "$folder" || { sleep 1; rm -rf "$folder"; }
fi
"#;

/// A server at work.
pub struct Engine {
    kind: Kind,
    folder: PathBuf,
    port: u16,
    held: Option<Held>,
}

struct Held {
    shell: Child,
    word: ChildStdin,
    pid: u32,
}

/// The server that the tests of this program share.
pub fn shared(kind: Kind) -> &'static Engine {
    static SHARED: [OnceLock<Engine>; 2] = [OnceLock::new(), OnceLock::new()];
    SHARED[kind as usize].get_or_init(|| Engine::start(kind))
}

impl Engine {
    /// A server of its own, with an empty database.
    pub fn start(kind: Kind) -> Engine {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{kind:?}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut engine = Engine { kind, folder, port, held: None };
        engine.make();
        engine.begin();
        engine
    }

    /// A URL of one of its databases.
    pub fn url(&self, database: &str) -> String {
        let scheme = match self.kind {
            Kind::MariaDb => "mariadb",
            Kind::Postgres => "postgres",
        };
        format!("{scheme}://longwire:{ESCAPED}@127.0.0.1:{}/{database}", self.port)
    }

    /// The database that is there from the beginning; empty.
    pub fn first(&self) -> String {
        self.url(match self.kind {
            Kind::MariaDb => "longwire",
            Kind::Postgres => "postgres",
        })
    }

    /// Ends it with SIGKILL, in the middle of whatever it does.
    pub fn kill(&mut self) {
        let mut held = self.held.take().unwrap();
        held.word.write_all(b"kill\n").unwrap();
        held.shell.wait().unwrap();
    }

    /// Stands still and keeps its connections, until [`Engine::go_on`].
    pub fn stand_still(&self) {
        self.signal("-STOP");
    }

    pub fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let pid = self.held.as_ref().unwrap().pid;
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let pid = pid.to_string();
        let all = std::iter::once(pid.as_str()).chain(children.split_whitespace());
        // A child may end meanwhile.
        Command::new("kill").arg(signal).args(all).output().unwrap();
    }

    /// Starts it on the data that it has, and waits until it listens.
    pub fn begin(&mut self) {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            let mut held = self.hold();
            while begin.elapsed() < PATIENCE && is_alive(held.pid) {
                if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                    self.held = Some(held);
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            // What was left of a killed one may still hold the data.
            held.word.write_all(b"kill\n").ok();
            held.shell.wait().unwrap();
            std::thread::sleep(Duration::from_millis(200));
        }
        let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        panic!("{:?} does not start:\n{log}", self.kind);
    }

    fn hold(&self) -> Held {
        let data = self.folder.join("data");
        let port = self.port.to_string();
        let (program, gently) = match self.kind {
            Kind::MariaDb => ("mariadbd", "KILL"),
            Kind::Postgres => ("postgres", "QUIT"),
        };
        let server = match self.kind {
            Kind::MariaDb => vec![
                "--no-defaults".to_owned(),
                format!("--datadir={}", data.display()),
                format!("--tmpdir={}", self.folder.display()),
                format!("--socket={}", self.folder.join("socket").display()),
                format!("--pid-file={}", self.folder.join("pid").display()),
                format!("--init-file={}", self.folder.join("first.sql").display()),
                format!("--port={port}"),
                "--bind-address=127.0.0.1".to_owned(),
                "--skip-name-resolve".to_owned(),
                "--skip-log-bin".to_owned(),
                "--innodb-buffer-pool-size=32M".to_owned(),
                // The operating system keeps what is committed: these servers are killed, the machine is not.
                "--innodb-flush-log-at-trx-commit=2".to_owned(),
            ],
            Kind::Postgres => [
                ["-D", &data.display().to_string()],
                ["-p", &port],
                ["-h", "127.0.0.1"],
                ["-k", ""],
                ["-c", "fsync=off"],
                ["-c", "max_connections=60"],
            ]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect(),
        };
        let mut shell = Command::new("sh");
        shell.args(["-c", HOLD, "sh"]).arg(&self.folder).arg(gently);
        shell.args(unprivileged()).arg(find(program)).args(server);
        let mut shell = shell.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let word = shell.stdin.take().unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Held { shell, word, pid: line.trim().parse().unwrap() }
    }

    /// Makes the data folder.
    fn make(&self) {
        let data = self.folder.join("data");
        let first = self.folder.join("first.sql");
        let secret = self.folder.join("secret");
        std::fs::write(&secret, PASSWORD).unwrap();
        let user = "longwire@'127.0.0.1'";
        std::fs::write(
            &first,
            format!(
                "CREATE DATABASE IF NOT EXISTS longwire;\nCREATE USER IF NOT EXISTS {user} IDENTIFIED BY '{PASSWORD}';\n\
                 GRANT ALL ON *.* TO {user};\n"
            ),
        )
        .unwrap();
        if !unprivileged().is_empty() {
            let given = Command::new("chown").args(["-R", "nobody"]).arg(&self.folder).status().unwrap();
            assert!(given.success());
        }
        let [program, rest @ ..] = &[&unprivileged()[..], &self.make_words(&data, &secret)[..]].concat()[..]
        else {
            unreachable!("words are there")
        };
        // MariaDB's temporary tables have the same names in each installation that is under way.
        let made = Command::new(program).args(rest).current_dir("/").env("TMPDIR", &self.folder).output();
        let made = made.unwrap();
        let said = String::from_utf8_lossy(&made.stdout) + String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{:?} gets no data folder in {}:\n{said}", self.kind, data.display());
    }

    fn make_words(&self, data: &Path, secret: &Path) -> Vec<String> {
        let data = data.display();
        match self.kind {
            Kind::MariaDb => vec![
                find("mariadb-install-db"),
                "--no-defaults".into(),
                format!("--datadir={data}"),
                "--auth-root-authentication-method=normal".into(),
                "--skip-test-db".into(),
            ],
            Kind::Postgres => vec![
                find("initdb"),
                format!("--pgdata={data}"),
                "--username=longwire".into(),
                format!("--pwfile={}", secret.display()),
                "--auth=scram-sha-256".into(),
                "--encoding=UTF8".into(),
                "--locale=C".into(),
                "--no-sync".into(),
            ],
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // One that stands still, in a test that failed, would never end.
        if self.held.is_some() {
            self.go_on();
        }
        match self.held.take() {
            Some(held) => {
                drop(held.word);
                let mut shell = held.shell;
                shell.wait().ok();
            }
            None => drop(std::fs::remove_dir_all(&self.folder)),
        }
    }
}

/// Servers refuse to be root: a root's test runs them as nobody.
fn unprivileged() -> Vec<String> {
    static ROOT: OnceLock<bool> = OnceLock::new();
    let root = *ROOT.get_or_init(|| {
        let id = Command::new("id").arg("-u").output().unwrap();
        id.stdout.trim_ascii() == b"0"
    });
    if !root {
        return Vec::new();
    }
    ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--"].map(str::to_owned).to_vec()
}

/// A program by its name, also where Debian keeps those of PostgreSQL.
fn find(program: &str) -> String {
    let mut folders: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|version| version.path().join("bin")).collect())
        .unwrap_or_default();
    folders.sort();
    folders.reverse();
    folders.extend(["/usr/sbin".into(), "/usr/bin".into()]);
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let found = folders.into_iter().map(|folder| folder.join(program)).find(|path| path.exists());
    let found = found.unwrap_or_else(|| panic!("{program} is not installed: run `cargo xtask engines`"));
    found.display().to_string()
}

fn is_alive(pid: u32) -> bool {
    // A process that ended and was not waited for is in state Z.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('Z'))
}
