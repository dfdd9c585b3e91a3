//! A running proxy, the sockets around it, the words to its API.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Api, Reply};
use crate::proxy::{api, desk::Desk};

/// Long enough for a slow machine; a test that waits this long has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough to see that nothing comes.
pub(super) const MOMENT: Duration = Duration::from_millis(150);

/// A proxy process in this one. Ends when dropped.
pub(super) struct Rig {
    pub(super) address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Rig {
    pub(super) fn start() -> Rig {
        Rig::with_connections_max(100)
    }

    pub(super) fn with_connections_max(connections_max: usize) -> Rig {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(api::serve(listener, Desk::new(connections_max)));
        Rig { address, _runtime: runtime }
    }

    pub(super) fn raw(&self, method: &str, path: &str, body: &str) -> Reply {
        Api::new(self.address, "", "").open().unwrap().call(method, path, body).unwrap()
    }

    #[track_caller]
    pub(super) fn call(&self, method: &str, path: &str, body: Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let reply = self.raw(method, path, &body);
        assert!((200..300).contains(&reply.status), "{method} {path}: {reply:?}");
        reply.json()
    }

    /// A new proxy `p` before `upstream`; where it listens.
    #[track_caller]
    pub(super) fn proxy(&self, upstream: SocketAddr) -> SocketAddr {
        let body = json!({ "name": "p", "listen": "127.0.0.1:0", "upstream": upstream.to_string() });
        self.call("POST", "/proxies", body)["listen"].as_str().unwrap().parse().unwrap()
    }

    /// Puts a toxic named `t` into `p`.
    #[track_caller]
    pub(super) fn toxic(&self, kind: &str, stream: &str, attributes: Value) {
        let body = json!({ "name": "t", "type": kind, "stream": stream, "attributes": attributes });
        self.call("POST", "/proxies/p/toxics", body);
    }

    /// Takes it away.
    #[track_caller]
    pub(super) fn heal(&self) {
        self.call("DELETE", "/proxies/p/toxics/t", Value::Null);
    }
}

/// A server that sends back what it gets, and ends when the client ends.
pub(super) fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut buffer = [0; 16 * 1024];
                while let Ok(count @ 1..) = socket.read(&mut buffer) {
                    if socket.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

/// A client and the server's end of its connection through the proxy at `proxy`, which leads to `listener`.
#[track_caller]
pub(super) fn pair(proxy: SocketAddr, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let client = connect(proxy);
    let (server, _) = listener.accept().unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    (client, server)
}

#[track_caller]
pub(super) fn connect(to: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(to).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_nodelay(true).unwrap();
    client
}

/// Bytes that show where they belong.
pub(super) fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

/// Sends everything and the end from a thread, and reads everything that comes back.
#[track_caller]
pub(super) fn there_and_back(client: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    let mut sender = client.try_clone().unwrap();
    let copy = bytes.to_vec();
    std::thread::spawn(move || {
        sender.write_all(&copy).ok();
        sender.shutdown(Shutdown::Write).ok();
    });
    let mut back = Vec::new();
    client.read_to_end(&mut back).unwrap();
    back
}

/// Whether a moment passes without a byte, an end or an error.
#[track_caller]
pub(super) fn is_silent(socket: &mut TcpStream) -> bool {
    socket.set_read_timeout(Some(MOMENT)).unwrap();
    let read = socket.read(&mut [0; 64]);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    matches!(read, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

/// Whether the connection ends by RST.
#[track_caller]
pub(super) fn is_reset(socket: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    matches!(socket.read_to_end(&mut rest), Err(error) if error.kind() == ErrorKind::ConnectionReset)
}
