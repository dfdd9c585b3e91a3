//! A place outside that webhooks are sent to: it keeps what comes, and answers as it is told.

use super::support::{PATIENCE, until};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

/// How it answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answers {
    Status(u16),
    /// 302 to a place that must not be asked.
    Redirect(SocketAddr),
    /// Not at all; the connection stays open.
    Never,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Came {
    pub(crate) signature: String,
    pub(crate) body: String,
    pub(crate) json: Value,
}

struct Inner {
    answers: Mutex<Answers>,
    came: Mutex<Vec<Came>>,
}

pub(crate) struct Sink {
    pub(crate) address: SocketAddr,
    inner: Arc<Inner>,
}

impl Sink {
    pub(crate) fn start() -> Sink {
        Sink::at(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    pub(crate) fn at(listener: TcpListener) -> Sink {
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner { answers: Mutex::new(Answers::Status(200)), came: Mutex::default() });
        let shared = inner.clone();
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let inner = shared.clone();
                std::thread::spawn(move || serve(stream, &inner));
            }
        });
        Sink { address, inner }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    pub(crate) fn answer(&self, answers: Answers) {
        *self.inner.answers.lock().unwrap() = answers;
    }

    pub(crate) fn came(&self) -> Vec<Came> {
        self.inner.came.lock().unwrap().clone()
    }

    /// Waits for so many requests.
    #[track_caller]
    pub(crate) fn await_requests(&self, count: usize) -> Vec<Came> {
        assert!(until(PATIENCE, || self.came().len() >= count), "never {count}: {:?}", self.came());
        self.came()
    }

    /// Waits for so many events in requests that were taken, which came once or more; each once, in the order of their first coming.
    #[track_caller]
    pub(crate) fn await_events(&self, count: usize) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        let reached = until(PATIENCE, || {
            events.clear();
            for came in self.came() {
                for event in came.json["events"].as_array().unwrap() {
                    if !events.contains(event) {
                        events.push(event.clone());
                    }
                }
            }
            events.len() >= count
        });
        assert!(reached, "never {count} events: {events:?}");
        events
    }
}

fn serve(mut stream: TcpStream, inner: &Inner) {
    let mut held = Vec::new();
    loop {
        let Some((head, body)) = request(&mut stream, &mut held) else { return };
        let header = |name: &str| {
            let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let signature = header("x-longwire-signature:").unwrap_or_default();
        let json = serde_json::from_str(&body).unwrap_or(Value::Null);
        inner.came.lock().unwrap().push(Came { signature, body, json });
        let answers = *inner.answers.lock().unwrap();
        let answer = match answers {
            Answers::Status(status) => format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"),
            Answers::Redirect(to) => {
                format!("HTTP/1.1 302 Found\r\nlocation: http://{to}/\r\ncontent-length: 0\r\n\r\n")
            }
            Answers::Never => {
                let _ = stream.read(&mut [0; 64]);
                return;
            }
        };
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn request(stream: &mut TcpStream, held: &mut Vec<u8>) -> Option<(String, String)> {
    let mut bytes = [0; 64 * 1024];
    loop {
        if let Some(end) = held.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&held[..end]).into_owned();
            let lower = head.to_ascii_lowercase();
            let length = lower.split("content-length:").nth(1)?.split("\r\n").next()?.trim().parse().ok()?;
            let all: usize = end + 4 + usize::min(length, 1 << 20);
            if held.len() >= all {
                let body = String::from_utf8_lossy(&held[end + 4..all]).into_owned();
                held.drain(..all);
                return Some((head, body));
            }
        }
        match stream.read(&mut bytes) {
            Ok(0) | Err(_) => return None,
            Ok(count) => held.extend_from_slice(&bytes[..count]),
        }
    }
}

/// Checks a signature as the docs say: `t=SECONDS,v1=HEX`, HMAC-SHA-256 (RFC 2104) over the seconds, a dot and the body; not older
/// than five minutes.
pub(crate) fn is_signed(came: &Came, secret: &str) -> bool {
    let Some((t, v1)) = came.signature.split_once(',') else { return false };
    let (Some(t), Some(v1)) = (t.strip_prefix("t="), v1.strip_prefix("v1=")) else { return false };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let fresh = t.parse::<u64>().is_ok_and(|t| now.abs_diff(t) < 300);
    let mut key = [0_u8; 64];
    if secret.len() > 64 {
        key[..32].copy_from_slice(&Sha256::digest(secret.as_bytes()));
    } else {
        key[..secret.len()].copy_from_slice(secret.as_bytes());
    }
    let inner =
        Sha256::new().chain_update(key.map(|byte| byte ^ 0x36)).chain_update(format!("{t}.{}", came.body));
    let outer = Sha256::new().chain_update(key.map(|byte| byte ^ 0x5c)).chain_update(inner.finalize());
    let expected: String = outer.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    fresh && v1 == expected
}
