//! One HTTP/1.1 request per connection over a blocking socket.

use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The API of one server, with an app's credentials.
#[derive(Clone)]
pub struct Api {
    address: SocketAddr,
    authorization: String,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as it came.
    pub text: String,
    /// The body as JSON; `Null` when it is not JSON.
    pub json: Value,
}

impl Answer {
    /// The first header of this name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
    /// The field `code` of an error.
    pub fn code(&self) -> &str {
        self.json["code"].as_str().unwrap_or("")
    }
    /// The message id of an accepted push.
    #[track_caller]
    pub fn message_id(&self) -> String {
        assert_eq!(self.status, 202, "push was not accepted: {}", self.text);
        self.json["msg_id"].as_str().expect("msg_id in the answer").to_owned()
    }
}

impl Api {
    /// With Basic credentials.
    pub fn new(address: SocketAddr, app_key: &str, app_secret: &str) -> Api {
        let pair = base64(format!("{app_key}:{app_secret}").as_bytes());
        Api { address, authorization: format!("Authorization: Basic {pair}\r\n") }
    }

    /// The header line of the credentials, with its end of line.
    pub fn authorization(&self) -> &str {
        &self.authorization
    }

    /// The same server without credentials.
    pub fn anonymous(&self) -> Api {
        Api { address: self.address, authorization: String::new() }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with_header(&self, name: &str, value: &str) -> Api {
        Api { address: self.address, authorization: format!("{}{name}: {value}\r\n", self.authorization) }
    }

    /// GET.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, None).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// POST of JSON.
    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.try_post(path, body).unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// POST of JSON; an error means that the outcome is not known.
    pub fn try_post(&self, path: &str, body: &Value) -> io::Result<Answer> {
        self.request("POST", path, Some(body.to_string().as_bytes()))
    }

    /// POST of any bytes, as `application/json`.
    #[track_caller]
    pub fn post_bytes(&self, path: &str, body: &[u8]) -> Answer {
        self.request("POST", path, Some(body)).unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    /// A push of a text.
    #[track_caller]
    pub fn push_text(&self, audience: Value, text: &str) -> Answer {
        self.post("/v1/push", &push_body(audience, text, None))
    }

    /// A push of a text with a ttl in seconds.
    #[track_caller]
    pub fn push_text_ttl(&self, audience: Value, text: &str, ttl_s: u32) -> Answer {
        self.post("/v1/push", &push_body(audience, text, Some(ttl_s)))
    }

    /// Any request.
    pub fn request(&self, method: &str, path: &str, body: Option<&[u8]>) -> io::Result<Answer> {
        let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        let body = body.unwrap_or_default();
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{}Content-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            self.address,
            self.authorization,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        // A server may answer and close before it has read a body that it refuses; the answer still counts.
        let written = stream.write_all(&request);
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(error) if answer.is_empty() => return Err(error),
            _ if answer.is_empty() => written?,
            _ => {}
        }
        parse(&answer)
    }
}

/// The body of a push of a text.
pub fn push_body(audience: Value, text: &str, ttl_s: Option<u32>) -> Value {
    let mut body = serde_json::json!({
        "audience": audience,
        "message": { "content_type": "text", "msg_content": text },
    });
    if let Some(ttl_s) = ttl_s {
        body["options"] = serde_json::json!({ "time_to_live": ttl_s });
    }
    body
}

fn parse(bytes: &[u8]) -> io::Result<Answer> {
    let broken = |what: &str| io::Error::new(io::ErrorKind::UnexpectedEof, what.to_owned());
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").ok_or_else(|| broken("no end of headers"))?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| broken("headers are not text"))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let field = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let body = &bytes[end + 4..];
    let body = if field("transfer-encoding") == Some("chunked") {
        unchunk(body).ok_or_else(|| broken("a chunk is cut short"))?
    } else {
        let length = field("content-length").and_then(|n| n.parse().ok()).unwrap_or(body.len());
        body.get(..length).ok_or_else(|| broken("the body is cut short"))?.to_vec()
    };
    let text = String::from_utf8_lossy(&body).into_owned();
    let json = serde_json::from_str(&text).unwrap_or(Value::Null);
    Ok(Answer { status: status.ok_or_else(|| broken("no status"))?, headers, text, json })
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|w| w == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?.trim(), 16).ok()?;
        rest = &rest[line + 2..];
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..length)?);
        rest = rest.get(length + 2..)?;
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for digit in 0..4 {
            let used = digit <= group.len();
            let value = (bits >> (18 - 6 * digit)) & 63;
            text.push(if used { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    text
}
