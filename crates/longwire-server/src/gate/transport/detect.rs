//! What a peer speaks, from its first bytes.

/// A protocol that a device port may meet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spoken {
    /// Native frames: `CA FE BA BE`.
    Native,
    /// MQTT: a CONNECT packet, `10`.
    Mqtt,
    /// TLS: a handshake record, `16 03`.
    Tls,
    /// HTTP, for a WebSocket: `GET `.
    WebSocket,
    /// A PROXY header, version 1 or 2, before anything else.
    Proxy,
}

impl Spoken {
    /// The byte with which it begins, where there is only one.
    #[must_use]
    pub const fn first_byte(self) -> Option<u8> {
        match self {
            Spoken::Native => Some(NATIVE[0]),
            Spoken::Mqtt => Some(MQTT),
            Spoken::Tls | Spoken::WebSocket | Spoken::Proxy => None,
        }
    }
}

/// What the first bytes say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detected {
    /// They begin this protocol.
    Is(Spoken),
    /// They may still begin one: read more. Never asked for more than [`DETECT_BYTES_MAX`] bytes.
    NeedMore,
    /// They begin none.
    Unknown,
}

const NATIVE: &[u8] = &longwire_proto::wire::MAGIC;
const MQTT: u8 = 0x10;
pub(super) const PROXY_V1: &[u8] = b"PROXY ";
pub(super) const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// No two signs begin alike, so at most one of them can be under way.
const SIGNS: [(&[u8], Spoken); 6] = [
    (NATIVE, Spoken::Native),
    (&[MQTT], Spoken::Mqtt),
    (&[0x16, 0x03], Spoken::Tls),
    (b"GET ", Spoken::WebSocket),
    (PROXY_V1, Spoken::Proxy),
    (PROXY_V2, Spoken::Proxy),
];

/// Bytes after which [`detect`] always knows.
pub const DETECT_BYTES_MAX: usize = PROXY_V2.len();

/// Judges the first bytes of a connection, of what is inside TLS, or of what follows a PROXY header. It takes nothing: the
/// same bytes go to the protocol found.
#[must_use]
pub fn detect(bytes: &[u8]) -> Detected {
    for (sign, spoken) in SIGNS {
        if bytes.starts_with(sign) {
            return Detected::Is(spoken);
        }
        if sign.starts_with(bytes) {
            return Detected::NeedMore;
        }
    }
    Detected::Unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sign_is_told_from_its_bytes_and_its_beginning_asks_for_more() {
        let table: [(&[u8], Spoken); 8] = [
            (b"\xca\xfe\xba\xbe", Spoken::Native),
            (b"\x10", Spoken::Mqtt),
            (b"\x16\x03", Spoken::Tls),
            (b"GET ", Spoken::WebSocket),
            (b"PROXY ", Spoken::Proxy),
            (b"\r\n\r\n\0\r\nQUIT\n", Spoken::Proxy),
            (b"\x10\x00", Spoken::Mqtt),
            (b"\x16\x03\x01\x02\x00", Spoken::Tls),
        ];
        for (bytes, spoken) in table {
            assert_eq!(detect(bytes), Detected::Is(spoken));
            assert_eq!(detect(&[bytes, &[0xff; 40]].concat()), Detected::Is(spoken));
        }
        for (sign, _) in &table[..6] {
            for cut in 0..sign.len() {
                assert_eq!(detect(&sign[..cut]), Detected::NeedMore, "{:?}", &sign[..cut]);
                let mut wrong = sign[..=cut].to_vec();
                wrong[cut] ^= 0x80;
                assert_eq!(detect(&wrong), Detected::Unknown, "{wrong:?}");
            }
        }
    }

    #[test]
    fn others_are_unknown() {
        let others: [&[u8]; 9] = [
            b"POST / HTTP/1.1",
            b"get / ",
            b"\x16\x02",
            b"\x20",
            b"SSH-2.0",
            b"PROXY\t",
            b"\0",
            b"\xff",
            b"\r\n\r\n\r",
        ];
        for bytes in others {
            assert_eq!(detect(bytes), Detected::Unknown, "{bytes:?}");
        }
        for first in 0..=u8::MAX {
            assert_ne!(detect(&[&[first][..], &[0xee; DETECT_BYTES_MAX]].concat()), Detected::NeedMore);
        }
    }
}
