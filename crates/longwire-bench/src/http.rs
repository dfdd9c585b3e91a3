//! HTTP/1.1 as far as the API needs it, at a few microseconds a request: a load generator must cost far less than the
//! server it loads.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::error::BenchError;

/// Head and body of an answer, bytes; more is not an answer of our API.
const REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;
const HEADERS_MAX: usize = 32;
/// A server that does not answer one call within this has failed.
const CALL_TIME: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Its body as JSON; `Null` if it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The error for an answer that was not wanted.
    pub(crate) fn fault(&self, what: &str) -> BenchError {
        let body: String = String::from_utf8_lossy(&self.body).chars().take(300).collect();
        BenchError::Server(format!("{what}: answered {} {body}", self.status))
    }
}

/// Answers out of bytes that arrive in any cut.
#[derive(Debug, Default)]
pub(crate) struct ReplyReader {
    bytes: Vec<u8>,
}

impl ReplyReader {
    /// Adds bytes that were read.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether no byte waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next whole answer; `None` when more bytes are needed.
    pub(crate) fn next(&mut self) -> Result<Option<Reply>, BenchError> {
        let wrong = |text: &str| BenchError::Server(format!("its HTTP answer is unreadable: {text}"));
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut headers);
        let parsed = head.parse(&self.bytes).map_err(|error| wrong(&error.to_string()))?;
        let httparse::Status::Complete(head_bytes) = parsed else {
            return if self.bytes.len() > REPLY_BYTES_MAX {
                Err(wrong("the head is too long"))
            } else {
                Ok(None)
            };
        };
        let status = head.code.unwrap_or_default();
        let mut body_bytes = None;
        for header in head.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                body_bytes =
                    std::str::from_utf8(header.value).ok().and_then(|value| value.trim().parse().ok());
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                return Err(wrong("it comes in chunks"));
            }
        }
        let body_bytes: usize = match body_bytes {
            Some(bytes) => bytes,
            None if matches!(status, 204 | 304) => 0,
            None => return Err(wrong("it has no length")),
        };
        if body_bytes > REPLY_BYTES_MAX {
            return Err(wrong("it is too long"));
        }
        let Some(body) = self.bytes.get(head_bytes..head_bytes + body_bytes) else { return Ok(None) };
        let reply = Reply { status, body: body.to_vec() };
        self.bytes.drain(..head_bytes + body_bytes);
        Ok(Some(reply))
    }
}

/// The API of one app.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    authorization: String,
}

impl Api {
    pub(crate) fn new(address: SocketAddr, app_key: &str, app_secret: &str) -> Api {
        Api {
            address,
            authorization: format!("Basic {}", STANDARD.encode(format!("{app_key}:{app_secret}"))),
        }
    }

    /// The bytes of a request.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> Vec<u8> {
        let Api { address, authorization } = self;
        let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
        format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: {authorization}\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    /// Opens a connection for calls one after another.
    pub(crate) fn open(&self) -> Result<Caller, BenchError> {
        let socket = TcpStream::connect_timeout(&self.address, CALL_TIME)
            .map_err(|error| BenchError::Server(format!("no API at {}: {error}", self.address)))?;
        let set = socket.set_nodelay(true).and_then(|()| socket.set_read_timeout(Some(CALL_TIME)));
        set.map_err(BenchError::system("socket options"))?;
        Ok(Caller { api: self.clone(), socket, reader: ReplyReader::default() })
    }
}

/// A connection to the API that is used for one call at a time.
#[derive(Debug)]
pub(crate) struct Caller {
    api: Api,
    socket: TcpStream,
    reader: ReplyReader,
}

impl Caller {
    /// Calls and waits for the answer, whatever its status.
    pub(crate) fn call(&mut self, method: &str, path: &str, body: &str) -> Result<Reply, BenchError> {
        let broken = |error: std::io::Error| BenchError::Server(format!("{method} {path}: {error}"));
        self.socket.write_all(&self.api.request(method, path, body)).map_err(broken)?;
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(reply) = self.reader.next()? {
                return Ok(reply);
            }
            match self.socket.read(&mut buffer).map_err(broken)? {
                0 => return Err(BenchError::Server(format!("{method} {path}: closed without an answer"))),
                bytes => self.reader.add(&buffer[..bytes]),
            }
        }
    }

    /// Calls and takes only an answer of 200 to 299.
    pub(crate) fn call_well(&mut self, method: &str, path: &str, body: &str) -> Result<Reply, BenchError> {
        let reply = self.call(method, path, body)?;
        if (200..300).contains(&reply.status) {
            Ok(reply)
        } else {
            Err(reply.fault(&format!("{method} {path}")))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn answers_are_read_in_any_cut() {
        let two = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 204 No Content\r\n\r\n";
        for cut in 0..two.len() {
            let mut reader = ReplyReader::default();
            let mut replies = Vec::new();
            for part in [&two[..cut], &two[cut..]] {
                reader.add(part);
                while let Some(reply) = reader.next().unwrap() {
                    replies.push((reply.status, reply.body));
                }
            }
            assert_eq!(replies, [(202, b"{}".to_vec()), (204, Vec::new())], "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for bytes in [
            &b"SSH-2.0-x\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\n\r\nbody without length",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
        ] {
            let mut reader = ReplyReader::default();
            reader.add(bytes);
            assert!(reader.next().is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn a_refused_target_is_named_in_the_error() {
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = Api::new(unused, "key", "secret").open().unwrap_err().to_string();
        assert!(error.contains(&unused.to_string()), "{error}");
    }

    #[test]
    fn a_request_carries_length_and_credentials() {
        let api = Api::new("127.0.0.1:1".parse().unwrap(), "key", "secret");
        let text = String::from_utf8(api.request("POST", "/v1/push", "{}")).unwrap();
        assert!(
            text.starts_with("POST /v1/push HTTP/1.1\r\n") && text.ends_with("Content-Length: 2\r\n\r\n{}")
        );
        assert!(text.contains("Authorization: Basic a2V5OnNlY3JldA==\r\n"), "{text}");
    }
}
