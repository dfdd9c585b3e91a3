//! What a peer is told that is refused before its login, in the words of what it speaks, as far as that costs no handshake.

use super::listener::ListenerTerms;
use super::proxy::{PROXY_BYTES_MAX, read_proxy};
use super::{Detected, Spoken, detect};
use longwire_proto::close::CloseReason;
use longwire_proto::id::ClientId;
use longwire_proto::session::mqtt::Awaiting;
use longwire_proto::wire::mqtt::{Limits, Reason};
use longwire_proto::wire::{Refusal, ServerFrame};

/// A fatal TLS alert outside of any encryption: `internal_error`, since TLS has no word for *busy* (RFC 8446, 6.2).
pub(super) const TLS_ALERT: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 80];
/// Bytes after which a peer that has not made itself clear is told without.
pub(in crate::gate) const UNCLEAR_BYTES_MAX: usize = PROXY_BYTES_MAX + 64;

/// A refusal, before it has words.
#[derive(Clone, Copy, Debug)]
pub(in crate::gate) struct Refused {
    /// What a native device is told.
    pub(in crate::gate) refusal: Refusal,
    /// What an MQTT client is told.
    pub(in crate::gate) said: Reason,
    /// A PROXY header comes first.
    pub(in crate::gate) proxied: bool,
}

impl Refused {
    /// The words for a peer from which `heard` has come. `None`: more may tell which.
    pub(in crate::gate) fn words(&self, heard: &[u8]) -> Option<Vec<u8>> {
        let mut heard = heard;
        if self.proxied {
            match read_proxy(heard) {
                Ok(Some(proxied)) => heard = heard.get(proxied.header_bytes..)?,
                Ok(None) => return None,
                Err(_) => return Some(Vec::new()),
            }
        }
        match detect(heard) {
            Detected::NeedMore => None,
            Detected::Is(Spoken::Mqtt) => self.connack(heard),
            Detected::Is(Spoken::WebSocket) => {
                Some(not_now(self.refusal.reason, self.refusal.retry_after_s).into_bytes())
            }
            Detected::Is(Spoken::Tls) => Some(TLS_ALERT.to_vec()),
            Detected::Is(Spoken::Native) => Some(self.native()),
            Detected::Is(Spoken::Proxy) | Detected::Unknown => Some(Vec::new()),
        }
    }

    /// The words for a peer that has not made itself clear in time. A listener that takes native frames takes it for a native
    /// device, which is told when to come again.
    pub(in crate::gate) fn words_at_last(&self, terms: &ListenerTerms) -> Vec<u8> {
        if terms.takes(Spoken::Native, false) { self.native() } else { Vec::new() }
    }

    fn native(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64);
        ServerFrame::Refusal(self.refusal).encode(ClientId(0), &mut out);
        out
    }

    /// The front of CONNECT names the version, and that is enough; who sent no CONNECT is told that, or nothing.
    fn connack(&self, heard: &[u8]) -> Option<Vec<u8>> {
        let (mut awaiting, mut out) = (Awaiting::default(), Vec::new());
        let judged = awaiting.receive(&mut &heard[..], &Limits::default()).map(|connect| connect.is_some());
        awaiting.refuse(judged.as_ref().map_or_else(|ending| ending.reason, |_| self.said), &mut out);
        let unclear = out.is_empty() && matches!(judged, Ok(false));
        (!unclear).then_some(out)
    }
}

/// The answer to an HTTP request that is not gone into.
pub(super) fn not_now(reason: CloseReason, retry_after_s: u16) -> String {
    let status = match reason {
        CloseReason::LoginTimeout => "408 Request Timeout",
        _ => "503 Service Unavailable",
    };
    let again = if retry_after_s == 0 { String::new() } else { format!("Retry-After: {retry_after_s}\r\n") };
    let text = reason.label();
    let bytes = text.len() + 1;
    format!(
        "HTTP/1.1 {status}\r\n{again}Connection: close\r\nContent-Type: text/plain\r\nContent-Length: {bytes}\r\n\r\n{text}\n"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FULL: Refused = Refused {
        refusal: Refusal { reason: CloseReason::Full, retry_after_s: 7 },
        said: Reason::ServerBusy,
        proxied: false,
    };
    const V5: &[u8] = b"\x10\x0d\0\x04MQTT\x05\x02\0\x3c\0\0\0";
    const V311: &[u8] = b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0";

    #[test]
    fn each_is_refused_in_its_own_words_as_soon_as_they_are_known() {
        assert_eq!(FULL.words(V5).unwrap(), [0x20, 3, 0, 0x89, 0]);
        assert_eq!(FULL.words(V311).unwrap(), [0x20, 2, 0, 3]);
        assert_eq!(FULL.words(&V5[..9]).unwrap(), [0x20, 3, 0, 0x89, 0], "the level is enough");
        for unclear in [&V5[..8], &V5[..1], b"", b"GE", b"\x16", b"\xca\xfe"] {
            assert_eq!(FULL.words(unclear), None, "{unclear:02x?}");
        }
        assert_eq!(FULL.words(b"\x16\x03\x01").unwrap(), TLS_ALERT);
        let http = String::from_utf8(FULL.words(b"GET /mqtt").unwrap()).unwrap();
        assert!(http.starts_with("HTTP/1.1 503 ") && http.contains("\r\nRetry-After: 7\r\n"), "{http}");
        assert_eq!(FULL.words(b"\xca\xfe\xba\xbe").unwrap()[4], 0x11, "CONNACK of the native protocol");
    }

    #[test]
    fn what_is_no_login_gets_no_words_that_it_could_take_for_its_own() {
        assert_eq!(FULL.words(b"SSH-2.0"), Some(vec![]));
        assert_eq!(FULL.words(b"\x10\xff\xff\xff\x7f\0\x04MQTT\x05").unwrap(), [0x20, 3, 0, 0x95, 0]);
        assert_eq!(FULL.words(b"\x10\x0d\0\x04HTTP\x05\x02\0\x3c\0\0\0").unwrap(), [0x20, 2, 0, 1]);
        let deaf = ListenerTerms {
            accepts: super::super::Accepts { native: false, ..Default::default() },
            ..ListenerTerms::default()
        };
        assert!(FULL.words_at_last(&deaf).is_empty());
        assert_eq!(FULL.words_at_last(&ListenerTerms::default())[4], 0x11);
    }

    #[test]
    fn behind_a_load_balancer_its_header_comes_first() {
        let proxied = Refused { proxied: true, ..FULL };
        let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n";
        assert_eq!(proxied.words(&[header, V5].concat()).unwrap(), [0x20, 3, 0, 0x89, 0]);
        assert_eq!(proxied.words(header), None);
        assert_eq!(proxied.words(&header[..20]), None);
        assert_eq!(proxied.words(V5), Some(vec![]), "no header");
    }
}
