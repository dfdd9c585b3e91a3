//! What became of a message, told afterwards: through the real binary, by HTTP, with real devices.
//!
//! - `stories`: explain, targets, feedback.
//! - `receipts`: the stream and its cursor, SSE.
//! - `presence`: who came and went.
//! - `webhooks`: what is sent outside; `sink`: a place outside that fails when it is told to.
//! - `words`: the command line.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod presence;
mod receipts;
mod sink;
mod stories;
#[path = "../support/mod.rs"]
mod support;
mod webhooks;
mod words;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use support::{PATIENCE, TestServer};

/// The app's streams, as the operator sets them.
#[track_caller]
fn streams(server: &TestServer, receipts: &str, presence: bool) {
    let path = format!("/v1/admin/apps/{}/streams", server.app_key);
    let body = json!({ "receipts": receipts, "presence": presence }).to_string();
    let answer = server.operator().request("PUT", &path, Some(body.as_bytes())).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.json, json!({ "receipts": receipts, "presence": presence }));
}

/// A page that must be there.
#[track_caller]
fn page(server: &TestServer, path: &str) -> Value {
    let answer = server.api.get(path);
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    answer.json
}

/// Of each of these objects, one field as text.
#[track_caller]
fn texts(list: &Value, field: &str) -> Vec<String> {
    let list = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    list.iter().map(|one| one[field].as_str().unwrap_or("null").to_owned()).collect()
}

/// An event stream over a plain socket.
struct Events {
    lines: BufReader<TcpStream>,
}

/// One event of it.
#[derive(Debug, Default)]
struct Event {
    id: String,
    kind: String,
    data: Value,
}

impl Events {
    #[track_caller]
    fn open(server: &TestServer, path: &str, header: &str) -> Events {
        let mut socket = TcpStream::connect(server.api_address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let credentials = server.api.authorization();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: test\r\n{credentials}{header}\r\n").unwrap();
        let mut events = Events { lines: BufReader::new(socket) };
        let status = events.line().unwrap();
        assert!(status.contains(" 200 "), "{path}: {status}");
        let mut is_event_stream = false;
        loop {
            let line = events.line().unwrap();
            is_event_stream |= line == "content-type: text/event-stream";
            if line.is_empty() {
                break;
            }
        }
        assert!(is_event_stream);
        events
    }

    /// The next line without its end; `None`: the server has ended it. Lengths of chunks are lines too, and told apart by none of
    /// them having a colon.
    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(line.trim_end().to_owned()),
            Err(error) => panic!("nothing came: {error}"),
        }
    }

    /// The next event that has data; `None`: the server has ended the stream.
    fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        loop {
            let line = self.line()?;
            if let Some(id) = line.strip_prefix("id: ") {
                id.clone_into(&mut event.id);
            } else if let Some(kind) = line.strip_prefix("event: ") {
                kind.clone_into(&mut event.kind);
            } else if let Some(data) = line.strip_prefix("data: ") {
                event.data = serde_json::from_str(data).unwrap();
                return Some(event);
            }
        }
    }
}
