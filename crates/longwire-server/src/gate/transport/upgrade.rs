//! The HTTP/1.1 request that asks for a WebSocket (RFC 6455 section 4.2), and its answer.
//!
//! It lives here and not in proto: only a server needs it, and proto stays without an HTTP parser and a hash.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use httparse::{Header, Request, Status};
use sha1::{Digest, Sha1};

/// The whole request, bytes; a longer one is answered with 431.
pub const UPGRADE_BYTES_MAX: usize = 8 * 1024;
/// Header lines of a request; more are answered with 431.
pub const UPGRADE_HEADERS_MAX: usize = 64;
const KEY_BYTES: usize = 16;
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What is spoken inside a WebSocket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subprotocol {
    /// `mqtt` [MQTT-6.0.0-3].
    Mqtt,
    /// `longwire.v1`: native frames.
    Native,
}

impl Subprotocol {
    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Subprotocol::Mqtt => "mqtt",
            Subprotocol::Native => "longwire.v1",
        }
    }

    fn of(name: &str) -> Option<Subprotocol> {
        [Subprotocol::Mqtt, Subprotocol::Native].into_iter().find(|subprotocol| subprotocol.name() == name)
    }
}

/// What a listener takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpgradeRules {
    /// Paths, as `/mqtt`; another is answered with 404. A query after the path is ignored.
    pub paths: Vec<String>,
    /// Origins that pages may come from, as `https://shop.example`; another is answered with 403. Empty: every origin. A
    /// request without Origin is not a page's and is taken.
    pub origins: Vec<String>,
}

impl Default for UpgradeRules {
    fn default() -> Self {
        UpgradeRules { paths: vec!["/mqtt".to_owned(), "/".to_owned()], origins: Vec::new() }
    }
}

/// What to do with a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Upgrade {
    /// It is not whole: read more.
    NeedMore,
    /// Send `answer`; frames of `subprotocol` begin after the request.
    Accepted {
        /// Bytes of the request; what follows are frames already.
        request_bytes: usize,
        /// What is spoken inside.
        subprotocol: Subprotocol,
        /// The 101 answer.
        answer: String,
    },
    /// Send `answer` and close with `upgrade_refused`.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The whole answer, with a line of text that says what is wrong.
        answer: String,
    },
}

/// Judges the request at the front of `bytes`. Call again with all bytes from the first on when more have come.
#[must_use]
pub fn read_upgrade(bytes: &[u8], rules: &UpgradeRules) -> Upgrade {
    let mut headers = [httparse::EMPTY_HEADER; UPGRADE_HEADERS_MAX];
    let mut request = Request::new(&mut headers);
    let seen = &bytes[..bytes.len().min(UPGRADE_BYTES_MAX)];
    let judged = match request.parse(seen) {
        Ok(Status::Complete(request_bytes)) => {
            judge(&request, rules).map(|accepted| (request_bytes, accepted))
        }
        Ok(Status::Partial) if bytes.len() < UPGRADE_BYTES_MAX => return Upgrade::NeedMore,
        Ok(Status::Partial) => Err(refuse(431, "the request is longer than 8 KiB")),
        Err(httparse::Error::TooManyHeaders) => Err(refuse(431, "the request has more than 64 header lines")),
        Err(_) => Err(refuse(400, "this is not an HTTP/1.1 request")),
    };
    match judged {
        Ok((request_bytes, (subprotocol, answer))) => {
            Upgrade::Accepted { request_bytes, subprotocol, answer }
        }
        Err(Refusal { status, text }) => Upgrade::Refused { status, answer: refusal(status, text) },
    }
}

struct Refusal {
    status: u16,
    text: &'static str,
}

const fn refuse(status: u16, text: &'static str) -> Refusal {
    Refusal { status, text }
}

fn judge(request: &Request<'_, '_>, rules: &UpgradeRules) -> Result<(Subprotocol, String), Refusal> {
    let headers = Headers(request.headers);
    if request.method != Some("GET") {
        return Err(refuse(405, "only GET is taken here"));
    }
    if request.version != Some(1) {
        return Err(refuse(400, "only HTTP/1.1 is spoken here"));
    }
    let path = request.path.map(path_of).unwrap_or_default();
    if !rules.paths.iter().any(|known| known == path) {
        return Err(refuse(404, "there is no WebSocket at this path"));
    }
    if headers.one("host")?.is_none() {
        return Err(refuse(400, "the request has no Host"));
    }
    if headers.one("transfer-encoding")?.is_some() || headers.one("content-length")?.is_some_and(|n| n != "0")
    {
        return Err(refuse(400, "the request has a body"));
    }
    if !headers.lists("upgrade", "websocket") || !headers.lists("connection", "upgrade") {
        return Err(refuse(
            426,
            "this port speaks WebSocket: ask with Upgrade: websocket and Connection: Upgrade",
        ));
    }
    if headers.one("sec-websocket-version")? != Some("13") {
        return Err(refuse(426, "only version 13 of WebSocket is spoken here"));
    }
    let key = headers.one("sec-websocket-key")?.unwrap_or_default();
    if !STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == KEY_BYTES) {
        return Err(refuse(400, "Sec-WebSocket-Key is not 16 bytes in Base64"));
    }
    if let Some(origin) = headers.one("origin")?
        && !rules.origins.is_empty()
        && !rules.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
    {
        return Err(refuse(403, "pages of this origin may not connect"));
    }
    let subprotocol = headers
        .words("sec-websocket-protocol")
        .find_map(Subprotocol::of)
        .ok_or(refuse(400, "name a subprotocol: Sec-WebSocket-Protocol: mqtt, or longwire.v1"))?;
    Ok((subprotocol, acceptance(key, subprotocol)))
}

/// The path of a request target, which may name scheme and host too (RFC 6455 section 4.2.1).
fn path_of(target: &str) -> &str {
    let path = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?']) => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => target,
    };
    path.split_once('?').map_or(path, |(path, _)| path)
}

/// Header lines that hold text; one with other bytes is as if it were not there.
struct Headers<'a>(&'a [Header<'a>]);

impl<'a> Headers<'a> {
    fn all(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name))
            .filter_map(|header| std::str::from_utf8(header.value).ok())
            .map(str::trim_ascii)
    }

    /// The value of a line that must not be there twice.
    fn one(&self, name: &'static str) -> Result<Option<&'a str>, Refusal> {
        let mut all = self.all(name);
        match (all.next(), all.next()) {
            (_, Some(_)) => Err(refuse(400, "a header line that may stand once stands twice")),
            (first, None) => Ok(first),
        }
    }

    fn words(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        self.all(name).flat_map(|value| value.split(',')).map(str::trim_ascii)
    }

    fn lists(&self, name: &'static str, word: &str) -> bool {
        self.words(name).any(|listed| listed.eq_ignore_ascii_case(word))
    }
}

fn acceptance(key: &str, subprotocol: Subprotocol) -> String {
    let digest = Sha1::new().chain_update(key.as_bytes()).chain_update(GUID).finalize();
    let accept = STANDARD.encode(digest);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {}\r\n\r\n",
        subprotocol.name()
    )
}

fn refusal(status: u16, text: &str) -> String {
    let phrase = match status {
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        426 => "Upgrade Required",
        431 => "Request Header Fields Too Large",
        _ => "Bad Request",
    };
    let more = match status {
        405 => "Allow: GET\r\n",
        426 => "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
        _ => "",
    };
    let connection = if status == 426 { "Upgrade, close" } else { "close" };
    format!(
        "HTTP/1.1 {status} {phrase}\r\n{more}Connection: {connection}\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n\r\n{text}\n",
        text.len() + 1
    )
}
