//! Life under a service manager: what it is told, and orders to stop.

use crate::support::{PATIENCE, RawDevice, Start, TestServer, until};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;

/// A service manager's ear.
struct Listener {
    socket: UnixDatagram,
    path: std::path::PathBuf,
    _folder: tempfile::TempDir,
}

impl Listener {
    fn new() -> Listener {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Listener { socket, path, _folder: folder }
    }
    fn start(&self) -> Start {
        Start::default().env("NOTIFY_SOCKET", self.path.to_str().unwrap())
    }
    /// The next datagram's lines.
    fn hear(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes).expect("the server says something");
        String::from_utf8_lossy(&bytes[..length]).lines().map(str::to_owned).collect()
    }
}

#[test]
fn a_service_manager_is_told_of_start_and_stop() {
    let listener = Listener::new();
    let mut server = listener.start().start();
    let ready = listener.hear();
    assert_eq!(ready[0], "READY=1");
    let device = server.device.to_string();
    assert!(ready[1].starts_with("STATUS=") && ready[1].contains(&device), "{ready:?}");
    // Whoever was told "ready" can connect at once.
    TcpStream::connect(server.device).unwrap();
    assert!(server.terminate().success());
    let stopping = listener.hear();
    assert_eq!(stopping[0], "STOPPING=1");
    // Twice the five seconds of --dev, and a margin: a longer drain needs no other unit.
    assert_eq!(stopping[1], "EXTEND_TIMEOUT_USEC=25000000");
    listener.socket.set_nonblocking(true).unwrap();
    assert!(listener.socket.recv(&mut [0; 16]).is_err(), "nothing is said that was not asked for");
}

#[test]
fn a_watchdog_is_fed_until_the_end() {
    let listener = Listener::new();
    let mut server = listener.start().env("WATCHDOG_USEC", "60000").start();
    assert_eq!(listener.hear()[0], "READY=1");
    for _ in 0..5 {
        assert_eq!(listener.hear(), ["WATCHDOG=1"]);
    }
    server.signal_terminate();
    assert!(until(PATIENCE, || listener.hear()[0] == "STOPPING=1"));
    assert!(server.await_exit().success());
}

#[test]
fn another_processs_watchdog_is_not_ours() {
    let listener = Listener::new();
    let start = listener.start().env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1");
    let mut server = start.start();
    assert_eq!(listener.hear()[0], "READY=1");
    assert!(server.terminate().success());
    assert_eq!(listener.hear()[0], "STOPPING=1");
}

#[test]
fn a_service_manager_that_is_gone_holds_up_nothing() {
    let mut server =
        Start::default().env("NOTIFY_SOCKET", "/nowhere/at/all").env("WATCHDOG_USEC", "30000").start();
    RawDevice::connect(server.device);
    assert!(server.terminate().success());
}

#[test]
fn two_signals_of_one_order_are_an_orderly_stop() {
    let mut server = TestServer::start();
    let _device = server.raw_device("d1");
    // The kernel merges two of the same kind; these two both arrive.
    server.signal_interrupt();
    server.signal_terminate();
    assert!(server.await_exit().success(), "{}", server.log());
}

#[test]
fn a_later_signal_ends_a_long_stop() {
    let mut server = Start::default().arg("--set").arg("node.drain_s=600").start();
    // A request that never becomes complete is waited for as long as the drain allows.
    let mut request = TcpStream::connect(server.api_address).unwrap();
    let head = "POST /v1/push HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 10\r\n\
                content-type: application/json\r\n";
    request.write_all(format!("{head}{}\r\n", server.api.authorization()).as_bytes()).unwrap();
    request.set_read_timeout(Some(PATIENCE)).unwrap();
    // The server asks for the body: now the request is in its hands.
    request.read_exact(&mut [0; 12]).unwrap();
    let ended = until(PATIENCE, || {
        server.signal_terminate();
        !server.lives()
    });
    assert!(ended, "{}", server.log());
    assert_eq!(server.await_exit().code(), Some(1));
    assert!(server.log().contains("told twice"), "{}", server.log());
}

#[test]
fn a_server_for_trying_does_not_scold_a_small_machine() {
    let server = Start::default().descriptors(1024).start();
    assert!(!server.log().contains("descriptors"), "{}", server.log());
}

#[test]
fn capacity_is_said_in_one_line_at_the_start() {
    let server = Start::default().descriptors(4096).arg("--log-level").arg("info").start();
    let mut line = None;
    assert!(until(PATIENCE, || {
        line = server.log().lines().find(|line| line.contains("capacity for devices")).map(str::to_owned);
        line.is_some()
    }));
    let line = line.unwrap();
    for word in ["connections=2560", "configured=1000000", "by_descriptors=2560", "by_memory=", "nearest="] {
        assert!(line.contains(word), "{word} is not in {line}");
    }
}

#[test]
fn a_service_manager_that_takes_nothing_holds_up_nothing() {
    let listener = Listener::new();
    // The socket's queue is filled before the server comes.
    let stuffing = UnixDatagram::unbound().unwrap();
    stuffing.set_nonblocking(true).unwrap();
    while stuffing.send_to(b"X", &listener.path).is_ok() {}
    let mut server = listener.start().env("WATCHDOG_USEC", "3000").start();
    assert_eq!(server.api.get("/readyz").status, 200);
    assert!(server.terminate().success(), "{}", server.log());
}

/// Cores that a thread of a process may use, as the kernel lists them.
fn cores_of(task: &std::path::Path) -> Option<String> {
    let status = std::fs::read_to_string(task.join("status")).ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(list.trim().to_owned())
}

/// Requirement 004-33.
#[test]
fn a_shard_is_pinned_on_request() {
    let ours = cores_of(std::path::Path::new("/proc/self")).unwrap();
    let may_use_core_0 = ours.starts_with("0,") || ours.starts_with("0-") || ours == "0";
    let shard_of = |server: &TestServer| {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap();
        let mut tasks = tasks.flatten().map(|task| task.path());
        tasks.find(|task| {
            std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "shard-0")
        })
    };
    let pinned = Start::default().arg("--set").arg("shards.pin=true").start();
    let wanted = if may_use_core_0 { "0".to_owned() } else { ours.clone() };
    let shard = shard_of(&pinned).expect("a thread of that name");
    assert!(until(PATIENCE, || cores_of(&shard).as_ref() == Some(&wanted)), "{:?}", cores_of(&shard));
    let free = TestServer::start();
    assert_eq!(cores_of(&shard_of(&free).unwrap()), Some(ours), "and not without");
}
