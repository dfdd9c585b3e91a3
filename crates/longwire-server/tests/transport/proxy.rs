//! The PROXY header, good and bad, in any cut.

use longwire_server::gate::transport::{
    Origin, PROXY_BYTES_MAX, PROXY_V1_BYTES_MAX, PROXY_V2_BODY_BYTES_MAX, Proxied, ProxyError, read_proxy,
};
use proptest::prelude::*;

const SIGN: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V4: [u8; 12] = [203, 0, 113, 7, 10, 0, 0, 1, 0xdc, 0x04, 0x07, 0x5b];

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    [SIGN, &[command, family], &(body.len() as u16).to_be_bytes(), body].concat()
}

fn extension(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind], &(value.len() as u16).to_be_bytes()[..], value].concat()
}

/// The extension PP2_TYPE_SSL.
fn tls(flags: u8, verify: u32, inner: &[u8]) -> Vec<u8> {
    extension(0x20, &[&[flags], &verify.to_be_bytes()[..], inner].concat())
}

fn address(text: &str) -> Origin {
    Origin::Address(text.parse().unwrap())
}

fn good() -> Vec<(Vec<u8>, Origin, Option<&'static str>)> {
    let v6: Vec<u8> =
        [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 15], &[2], &[0xdc, 4, 7, 0x5b]].concat();
    let named = tls(0x07, 0, &extension(0x22, b"device-7"));
    let with = |extensions: &[u8]| [&V4[..], extensions].concat();
    let v4 = "203.0.113.7:56324";
    vec![
        (b"PROXY TCP4 203.0.113.7 10.0.0.1 56324 1883\r\n".to_vec(), address(v4), None),
        (b"PROXY TCP6 2001:db8::1 ::2 56324 1883\r\n".to_vec(), address("[2001:db8::1]:56324"), None),
        (b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n".to_vec(), address("0.0.0.0:0"), None),
        (
            b"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"
                .to_vec(),
            address("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
            None,
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), Origin::Unsaid, None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), Origin::Unsaid, None),
        (v2(0x21, 0x11, &V4), address(v4), None),
        (v2(0x21, 0x21, &v6), address("[2001:db8::1]:56324"), None),
        (v2(0x20, 0x00, b""), Origin::Local, None),
        (v2(0x20, 0x11, &V4), Origin::Local, None),
        (v2(0x21, 0x00, b""), Origin::Unsaid, None),
        (v2(0x21, 0x31, &[0; 216]), Origin::Unsaid, None),
        (v2(0x21, 0x11, &with(&extension(0x04, &[0; 40]))), address(v4), None),
        (v2(0x21, 0x11, &with(&extension(0xea, b"vpce-1"))), address(v4), None),
        (v2(0x21, 0x11, &with(&[extension(0x02, b"push.example"), named].concat())), address(v4), Some("device-7")),
        // Only a name of a certificate that was shown and verified counts.
        (v2(0x21, 0x11, &with(&tls(0x01, 0, &extension(0x22, b"device-7")))), address(v4), None),
        (v2(0x21, 0x11, &with(&tls(0x03, 1, &extension(0x22, b"device-7")))), address(v4), None),
        (v2(0x21, 0x11, &with(&tls(0x03, 0, &extension(0x21, b"TLSv1.3")))), address(v4), None),
        (v2(0x21, 0x11, &with(&extension(0xea, &[0; PROXY_V2_BODY_BYTES_MAX - 15]))), address(v4), None),
    ]
}

#[test]
fn good_headers_are_read_and_what_follows_is_left() {
    for (bytes, origin, name) in good() {
        let expected = Proxied { origin, common_name: name.map(str::to_owned), header_bytes: bytes.len() };
        assert_eq!(read_proxy(&bytes), Ok(Some(expected.clone())), "{:?}", bytes.escape_ascii().to_string());
        let followed = [&bytes[..], b"\x10\x0c\0\x04MQTT"].concat();
        assert_eq!(read_proxy(&followed), Ok(Some(expected)));
        for cut in 0..bytes.len() {
            assert_eq!(
                read_proxy(&bytes[..cut]),
                Ok(None),
                "{cut} of {:?}",
                bytes.escape_ascii().to_string()
            );
        }
    }
}

#[test]
fn bad_headers_are_refused() {
    use ProxyError::*;
    let with = |extensions: &[u8]| v2(0x21, 0x11, &[&V4[..], extensions].concat());
    let rows: Vec<(Vec<u8>, ProxyError)> = vec![
        (b"GET / HTTP/1.1".to_vec(), Malformed),
        (b"\xca\xfe\xba\xbe".to_vec(), Malformed),
        (b"PROXYxTCP4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), Malformed),
        (b"PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), Malformed),
        (b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), Malformed),
        (b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), Malformed),
        (b"PROXY UNKNOWNED\r\n".to_vec(), Malformed),
        (b"PROXY TCP4\r\n".to_vec(), Malformed),
        (b"PROXY \r\n".to_vec(), Malformed),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n".to_vec(), Malformed),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n".to_vec(), Malformed),
        (b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n".to_vec(), Malformed),
        (b"PROXY TCP4 1.2.3.400 1.2.3.4 1 2\r\n".to_vec(), Malformed),
        (b"PROXY TCP4 ::1 1.2.3.4 1 2\r\n".to_vec(), Malformed),
        (b"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), Malformed),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 2\r\n".to_vec(), Malformed),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n".to_vec(), Malformed),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n".to_vec(), Malformed),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n".to_vec(), Malformed),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n\r\n".to_vec(), Malformed),
        (b"PROXY TCP4 \xff 1.2.3.4 1 2\r\n".to_vec(), Malformed),
        ([b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat(), TooLong(PROXY_V1_BYTES_MAX)),
        (
            [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 92], b"\r\n".to_vec()].concat(),
            TooLong(PROXY_V1_BYTES_MAX),
        ),
        (v2(0x11, 0x11, &V4), Malformed),
        (v2(0x22, 0x11, &V4), Malformed),
        (v2(0x21, 0x41, &V4), Malformed),
        (v2(0x21, 0x13, &V4), Malformed),
        (v2(0x21, 0x11, &V4[..11]), Malformed),
        (v2(0x21, 0x11, b""), Malformed),
        (v2(0x21, 0x21, &V4), Malformed),
        (v2(0x21, 0x31, &[0; 215]), Malformed),
        (v2(0x21, 0x12, &V4), NotStream),
        (with(&[0x02]), Malformed),
        (with(&[0x02, 0, 9, b'x']), Malformed),
        (with(&extension(0x02, b"\xff")), Malformed),
        (with(&extension(0x03, b"123")), Malformed),
        (with(&extension(0x20, b"1234")), Malformed),
        (with(&tls(0x07, 0, &[0x22, 0, 9])), Malformed),
        (with(&tls(0x07, 0, &extension(0x22, &[b'x'; 129]))), Malformed),
        (with(&tls(0x07, 0, &extension(0x22, b"a\0b"))), Malformed),
        // Judged at the announcement.
        ([SIGN, &[0x21, 0x11, 0xff, 0xff]].concat(), TooLong(PROXY_V2_BODY_BYTES_MAX)),
        ([SIGN, &[0x20, 0x00, 0x02, 0x19]].concat(), TooLong(PROXY_V2_BODY_BYTES_MAX)),
    ];
    for (bytes, error) in rows {
        assert_eq!(read_proxy(&bytes), Err(error), "{:?}", bytes.escape_ascii().to_string());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    /// No panic, and no header that needs more than the bound.
    #[test]
    fn any_bytes_are_survived_and_bounded(
        start in prop_oneof![Just(b"PROXY ".to_vec()), Just(b"PROXY TCP4 ".to_vec()), Just(SIGN.to_vec()),
            Just([SIGN, &[0x21, 0x11, 0]].concat()), Just(vec![])],
        rest in prop::collection::vec(any::<u8>(), 0..700),
    ) {
        let bytes = [start, rest].concat();
        match read_proxy(&bytes) {
            Ok(Some(read)) => prop_assert!(read.header_bytes <= bytes.len().min(PROXY_BYTES_MAX)),
            Ok(None) => prop_assert!(bytes.len() < PROXY_BYTES_MAX),
            Err(_) => {}
        }
    }

    /// One damaged byte is either still a header, or refused, or asks for more within the bound: never a panic.
    #[test]
    fn damaged_headers_are_survived(row in 0usize..19, at in any::<prop::sample::Index>(), by in 1u8..=255) {
        let (mut bytes, ..) = good().swap_remove(row);
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        if let Ok(Some(read)) = read_proxy(&bytes) {
            prop_assert!(read.header_bytes <= bytes.len());
        }
    }
}
