//! The PROXY header, version 1 or 2, with which a load balancer says who is behind a connection. The crate `proxy-header`
//! reads it; the bounds, and what it lets pass, are judged here.

use super::detect::{PROXY_V1, PROXY_V2};
use proxy_header::{Error, ParseConfig, Protocol, ProxyHeader, SslInfo};
use std::net::SocketAddr;

/// A version 1 header, CR LF included, bytes (its specification, section 2.1). A longer line is refused.
pub const PROXY_V1_BYTES_MAX: usize = 107;
/// What a version 2 header may announce after its first 16 bytes: addresses and extensions, bytes. More is refused as soon as
/// it is announced.
pub const PROXY_V2_BODY_BYTES_MAX: usize = 536;
/// No PROXY header needs more than these bytes.
pub const PROXY_BYTES_MAX: usize = PROXY_V2_HEAD_BYTES + PROXY_V2_BODY_BYTES_MAX;
const PROXY_V2_HEAD_BYTES: usize = 16;
/// A subject's name as a load balancer reports it, bytes; a longer one is refused.
const COMMON_NAME_BYTES_MAX: usize = 128;

/// What a PROXY header says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proxied {
    /// Who connected.
    pub origin: Origin,
    /// The subject CN of the client certificate that the load balancer has verified.
    pub common_name: Option<String>,
    /// The header's length; what follows belongs to the connection.
    pub header_bytes: usize,
}

/// Who is behind the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// This address.
    Address(SocketAddr),
    /// The load balancer itself, to see whether we live (LOCAL).
    Local,
    /// Somebody whose address it does not say (UNKNOWN, UNSPEC, a Unix socket): the socket's own address stands.
    Unsaid,
}

/// The load balancer's fault: the connection ends with `bad_proxy_header`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProxyError {
    /// There is none, or it does not read.
    #[error("no PROXY header, or a malformed one")]
    Malformed,
    /// Longer than [`PROXY_V1_BYTES_MAX`] or [`PROXY_V2_BODY_BYTES_MAX`].
    #[error("the PROXY header is longer than {0} bytes")]
    TooLong(usize),
    /// It tells of datagrams.
    #[error("the PROXY header tells of datagrams; only streams are taken")]
    NotStream,
}

/// Reads the PROXY header at the front of `bytes`; `None` asks for more, never beyond [`PROXY_BYTES_MAX`].
///
/// A checksum (PP2_TYPE_CRC32C) is not verified.
///
/// # Errors
/// As soon as the bytes that are there cannot become a header.
pub fn read_proxy(bytes: &[u8]) -> Result<Option<Proxied>, ProxyError> {
    if bytes.starts_with(PROXY_V1) {
        return read_v1(bytes);
    }
    if bytes.starts_with(PROXY_V2) {
        return read_v2(bytes);
    }
    if PROXY_V1.starts_with(bytes) || PROXY_V2.starts_with(bytes) {
        return Ok(None);
    }
    Err(ProxyError::Malformed)
}

fn read_v1(bytes: &[u8]) -> Result<Option<Proxied>, ProxyError> {
    let line = &bytes[..bytes.len().min(PROXY_V1_BYTES_MAX)];
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        if bytes.len() >= PROXY_V1_BYTES_MAX {
            return Err(ProxyError::TooLong(PROXY_V1_BYTES_MAX));
        }
        return Ok(None);
    };
    let line = &line[..end + 2];
    // What the crate lets pass: `UNKNOWNED`, and ports such as `+80` or `0080`.
    let words: Vec<&[u8]> = line[..end].split(|byte| *byte == b' ').collect();
    if words.get(1) == Some(&&b"UNKNOWN"[..]) {
        return Ok(Some(Proxied { origin: Origin::Unsaid, common_name: None, header_bytes: line.len() }));
    }
    let canonical =
        |port: &&[u8]| port.iter().all(u8::is_ascii_digit) && (port.len() == 1 || !port.starts_with(b"0"));
    if words.len() != 6 || !words[4..].iter().all(canonical) {
        return Err(ProxyError::Malformed);
    }
    judge(
        line,
        ProxyHeader::parse(line, ParseConfig { include_tlvs: false, allow_v1: true, allow_v2: false }),
    )
}

fn read_v2(bytes: &[u8]) -> Result<Option<Proxied>, ProxyError> {
    let Some(head) = bytes.first_chunk::<PROXY_V2_HEAD_BYTES>() else { return Ok(None) };
    let body_bytes = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if body_bytes > PROXY_V2_BODY_BYTES_MAX {
        return Err(ProxyError::TooLong(PROXY_V2_BODY_BYTES_MAX));
    }
    let Some(header) = bytes.get(..PROXY_V2_HEAD_BYTES + body_bytes) else { return Ok(None) };
    // LOCAL: the addresses must be ignored, whatever they are.
    if head[12] == 0x20 {
        return Ok(Some(Proxied { origin: Origin::Local, common_name: None, header_bytes: header.len() }));
    }
    judge(
        header,
        ProxyHeader::parse(header, ParseConfig { include_tlvs: true, allow_v1: false, allow_v2: true }),
    )
}

/// `header` is whole, so a parser that asks for more has met lengths that contradict each other.
fn judge(
    header: &[u8],
    parsed: Result<(ProxyHeader<'_>, usize), Error>,
) -> Result<Option<Proxied>, ProxyError> {
    let (parsed, _) = parsed.map_err(|_| ProxyError::Malformed)?;
    if parsed.tlvs().any(|tlv| tlv.is_err()) {
        return Err(ProxyError::Malformed);
    }
    let origin = match parsed.proxied_address() {
        Some(address) if address.protocol != Protocol::Stream => return Err(ProxyError::NotStream),
        Some(address) => Origin::Address(address.source),
        None => Origin::Unsaid,
    };
    let common_name = match parsed.ssl() {
        Some(tls) => verified_name(&tls)?,
        None => None,
    };
    Ok(Some(Proxied { origin, common_name, header_bytes: header.len() }))
}

/// The name of a certificate that was presented and verified.
fn verified_name(tls: &SslInfo<'_>) -> Result<Option<String>, ProxyError> {
    if tls.tlvs().any(|tlv| tlv.is_err()) {
        return Err(ProxyError::Malformed);
    }
    let presented = tls.client_cert_conn() || tls.client_cert_sess();
    if !presented || tls.verify() != 0 {
        return Ok(None);
    }
    match tls.cn() {
        Some(name) if name.len() > COMMON_NAME_BYTES_MAX || name.chars().any(char::is_control) => {
            Err(ProxyError::Malformed)
        }
        name => Ok(name.filter(|name| !name.is_empty()).map(str::to_owned)),
    }
}
