//! The HTTP request for a WebSocket, good and bad.

use longwire_server::gate::transport::{Subprotocol, UPGRADE_BYTES_MAX, Upgrade, UpgradeRules, read_upgrade};
use proptest::prelude::*;

/// The request of RFC 6455 section 1.3 with a subprotocol that is spoken here.
const LINES: [&str; 8] = [
    "GET /mqtt HTTP/1.1",
    "Host: server.example.com",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Origin: http://example.com",
    "Sec-WebSocket-Protocol: chat, mqtt",
    "Sec-WebSocket-Version: 13",
];

fn request(lines: &[&str]) -> Vec<u8> {
    (lines.join("\r\n") + "\r\n\r\n").into_bytes()
}

/// The good request with the line that begins like `begin` replaced; an empty `line` leaves it out.
fn changed(begin: &str, line: &str) -> Vec<u8> {
    let mut lines = LINES.to_vec();
    let at = lines.iter().position(|known| known.starts_with(begin)).unwrap();
    lines[at] = line;
    lines.retain(|line| !line.is_empty());
    request(&lines)
}

fn with(line: &str) -> Vec<u8> {
    request(&[&LINES[..], &[line]].concat())
}

fn judge(bytes: &[u8]) -> Upgrade {
    read_upgrade(bytes, &UpgradeRules::default())
}

fn accepted(bytes: &[u8]) -> Subprotocol {
    match judge(bytes) {
        Upgrade::Accepted { request_bytes, subprotocol, .. } if request_bytes == bytes.len() => subprotocol,
        other => panic!("{other:?}"),
    }
}

fn refused(bytes: &[u8], rules: &UpgradeRules) -> (u16, String) {
    match read_upgrade(bytes, rules) {
        Upgrade::Refused { status, answer } => (status, answer),
        other => panic!("{other:?} for {}", bytes.escape_ascii()),
    }
}

#[test]
fn the_example_of_rfc_6455_is_answered() {
    let Upgrade::Accepted { answer, subprotocol, .. } = judge(&request(&LINES)) else { panic!() };
    assert_eq!(subprotocol, Subprotocol::Mqtt);
    assert_eq!(
        answer,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    );
}

#[test]
fn what_follows_the_request_at_once_is_left() {
    let request = request(&LINES);
    let followed = [&request[..], b"\x82\x80\x01\x02\x03\x04"].concat();
    let Upgrade::Accepted { request_bytes, .. } = judge(&followed) else { panic!() };
    assert_eq!(&followed[request_bytes..], b"\x82\x80\x01\x02\x03\x04");
    for cut in 0..request.len() {
        assert_eq!(judge(&request[..cut]), Upgrade::NeedMore, "{cut}");
    }
}

#[test]
fn other_ways_to_write_it_are_taken() {
    for line in [
        "GET / HTTP/1.1",
        "GET /mqtt?token=x HTTP/1.1",
        "GET http://push.example/mqtt HTTP/1.1",
        "GET https://push.example HTTP/1.1",
        "GET http://push.example/mqtt?u=http://x HTTP/1.1",
    ] {
        assert_eq!(accepted(&changed("GET", line)), Subprotocol::Mqtt, "{line}");
    }
    assert_eq!(accepted(&changed("Upgrade", "upgrade:WebSocket")), Subprotocol::Mqtt);
    assert_eq!(accepted(&changed("Connection", "CONNECTION: keep-alive, upgrade")), Subprotocol::Mqtt);
    assert_eq!(accepted(&changed("Origin", "")), Subprotocol::Mqtt);
    let offered = "Sec-WebSocket-Protocol: longwire.v1, mqtt";
    assert_eq!(
        accepted(&changed("Sec-WebSocket-Protocol", offered)),
        Subprotocol::Native,
        "the first that is spoken"
    );
    let split = request(
        &[&LINES[..6], &["Sec-WebSocket-Protocol: x", "Sec-WebSocket-Protocol: mqtt", LINES[7]]].concat(),
    );
    assert_eq!(accepted(&split), Subprotocol::Mqtt);
    assert_eq!(accepted(&with("Sec-WebSocket-Extensions: permessage-deflate")), Subprotocol::Mqtt);
    assert_eq!(accepted(&with("X-Bytes: \u{e4}")), Subprotocol::Mqtt);
    assert_eq!(accepted(&with("Content-Length: 0")), Subprotocol::Mqtt);
    assert_eq!(accepted(&request(&[&LINES[..], &["X: y"; 57]].concat())), Subprotocol::Mqtt, "64 lines");
}

#[test]
fn what_is_wrong_is_answered_with_a_status_and_a_line() {
    let rows: Vec<(Vec<u8>, u16, &str)> = vec![
        (changed("GET", "POST /mqtt HTTP/1.1"), 405, "only GET"),
        (changed("GET", "GET /mqtt HTTP/1.0"), 400, "HTTP/1.1"),
        (changed("GET", "GET /mqtt HTTP/2.0"), 400, "HTTP/1.1"),
        (changed("GET", "GET /other HTTP/1.1"), 404, "no WebSocket at this path"),
        (changed("GET", "GET /mqtt/ HTTP/1.1"), 404, "no WebSocket at this path"),
        (changed("GET", "GET * HTTP/1.1"), 404, "no WebSocket at this path"),
        (changed("GET", "GET  HTTP/1.1"), 400, "not an HTTP/1.1 request"),
        (b"GET /mqtt\r\n\r\n".to_vec(), 400, "not an HTTP/1.1 request"),
        (changed("Host", ""), 400, "no Host"),
        (with("Host: twice"), 400, "stands twice"),
        (changed("Upgrade", ""), 426, "speaks WebSocket"),
        (changed("Upgrade", "Upgrade: h2c"), 426, "speaks WebSocket"),
        (changed("Connection", "Connection: close"), 426, "speaks WebSocket"),
        (changed("Sec-WebSocket-Version", ""), 426, "version 13"),
        (changed("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8"), 426, "version 13"),
        (changed("Sec-WebSocket-Key", ""), 400, "Sec-WebSocket-Key"),
        (changed("Sec-WebSocket-Key", "Sec-WebSocket-Key: c2hvcnQ="), 400, "Sec-WebSocket-Key"),
        (
            changed("Sec-WebSocket-Key", "Sec-WebSocket-Key: c2V2ZW50ZWVuIGJ5dGVzLi4="),
            400,
            "Sec-WebSocket-Key",
        ),
        (changed("Sec-WebSocket-Key", "Sec-WebSocket-Key: no base64 at all !!!!!"), 400, "Sec-WebSocket-Key"),
        (with("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400, "stands twice"),
        (changed("Sec-WebSocket-Protocol", ""), 400, "name a subprotocol"),
        (changed("Sec-WebSocket-Protocol", "Sec-WebSocket-Protocol: MQTT"), 400, "name a subprotocol"),
        (with("Content-Length: 5"), 400, "has a body"),
        (with("Transfer-Encoding: chunked"), 400, "has a body"),
        (with("Bad Header"), 400, "not an HTTP/1.1 request"),
        (with("Bad\0: x"), 400, "not an HTTP/1.1 request"),
        (request(&[&LINES[..], &["X: y"; 58]].concat()), 431, "more than 64 header lines"),
    ];
    for (bytes, status, text) in rows {
        let (found, answer) = refused(&bytes, &UpgradeRules::default());
        assert_eq!(found, status, "{}", bytes.escape_ascii());
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(body.contains(text), "{body} for {}", bytes.escape_ascii());
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
        assert!(head.contains("close"));
        assert_eq!(status == 426, head.contains("Sec-WebSocket-Version: 13"));
    }
}

#[test]
fn a_request_without_end_is_refused_at_its_bound() {
    let mut bytes = request(&LINES);
    bytes.truncate(bytes.len() - 2);
    bytes.extend(b"X-Long: ");
    bytes.resize(UPGRADE_BYTES_MAX - 1, b'x');
    assert_eq!(judge(&bytes), Upgrade::NeedMore);
    bytes.push(b'x');
    assert_eq!(refused(&bytes, &UpgradeRules::default()).0, 431);
    // An end beyond the bound does not count.
    bytes.extend(b"\r\n\r\n");
    assert_eq!(refused(&bytes, &UpgradeRules::default()).0, 431);
}

#[test]
fn pages_connect_only_from_the_origins_that_are_allowed() {
    let rules = UpgradeRules { origins: vec!["https://shop.example".to_owned()], ..UpgradeRules::default() };
    assert_eq!(refused(&request(&LINES), &rules).0, 403);
    assert_eq!(refused(&changed("Origin", "Origin: null"), &rules).0, 403);
    assert_eq!(refused(&changed("Origin", "Origin: https://shop.example.evil"), &rules).0, 403);
    for line in ["Origin: https://shop.example", "Origin: HTTPS://shop.example", ""] {
        let judged = read_upgrade(&changed("Origin", line), &rules);
        assert!(matches!(judged, Upgrade::Accepted { .. }), "{line}");
    }
    let paths = UpgradeRules { paths: vec!["/push".to_owned()], ..UpgradeRules::default() };
    assert_eq!(refused(&request(&LINES), &paths).0, 404);
    assert!(matches!(read_upgrade(&changed("GET", "GET /push HTTP/1.1"), &paths), Upgrade::Accepted { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]
    #[test]
    fn any_bytes_are_survived(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        tail in prop::collection::vec(any::<u8>(), 0..200),
        keep in 0usize..300,
    ) {
        let mut bytes = request(&LINES);
        for (index, byte) in damage {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(keep);
        bytes.extend(tail);
        if let Upgrade::Accepted { request_bytes, .. } = judge(&bytes) {
            prop_assert!(request_bytes <= bytes.len());
        }
    }
}
