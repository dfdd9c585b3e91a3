//! What is no text, and what looks like other text.

use crate::kit::{HONEST, Honest, Peer};
use crate::packets::{PUBLISH, PUBLISH_QOS_1, bytes, connect_bytes, packet, publish, subscribe_bytes, text};
use crate::support::TestServer;

/// Bytes that are not UTF-8, or not allowed in it: overlong, surrogates, beyond the last, cut short, U+0000, controls, non-characters.
const NO_TEXT: [&[u8]; 17] = [
    b"a\xc0\xafb",
    b"\xc0\x80",
    b"\xe0\x80\xaf",
    b"\xf0\x80\x80\xaf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"a\xe2\x82",
    b"\x80",
    b"\xff",
    b"a\0b",
    b"a\x01",
    b"a\x1b[31m",
    b"\xc2\x85",
    b"\xef\xbf\xbf",
    b"\xef\xb7\x90",
];

/// In a client id, a topic, a filter and a will's topic.
#[test]
fn what_is_no_text_is_refused_wherever_text_belongs() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    for (number, bad) in NO_TEXT.iter().enumerate() {
        let name = format!("bad{number}");
        let head = b"\0\x04MQTT\x05\x02\0\x3c\0";
        let connects = [
            packet(0x10, &[&head[..], &bytes(bad)].concat()),
            packet(
                0x10,
                &[b"\0\x04MQTT\x05\x06\0\x3c\0", &text(&name)[..], b"\0", &bytes(bad), &text("w")].concat(),
            ),
        ];
        for connect in connects {
            let mut peer = Peer::open(server.device);
            peer.send(&connect);
            let connack = peer.next_of(0x20);
            assert!([0x81, 0x85].contains(&connack[3]), "{bad:02x?}: {connack:02x?}");
        }
        let list = [&[0, 1, 0][..], &bytes(bad), &[0]].concat();
        for one in [packet(PUBLISH, &[&bytes(bad)[..], b"\0x"].concat()), packet(0x82, &list)] {
            let mut peer = Peer::login(server.device, &name);
            peer.send(&one);
            peer.is_ended_with(0x81);
        }
    }
    assert!(!server.log().contains('\u{1b}'), "nothing of it colours the log");
    honest.are_alone(&server);
}

/// Names are compared byte by byte: what only looks alike is another.
#[test]
fn twins_in_other_bytes_are_strangers() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    let mut reader = Peer::login(server.device, "reader");
    let filters: Vec<String> = ["caf\u{e9}", "\u{feff}a", "A"].iter().map(|one| (*one).to_owned()).collect();
    assert_eq!(reader.subscribe(&filters, 0), [0; 3]);
    let mut writer = Peer::login(server.device, "writer");
    for (topic, heard) in [
        ("cafe\u{301}", false),
        ("caf\u{e9}", true),
        ("a", false),
        ("\u{feff}a", true),
        ("\u{ff21}", false),
        ("A", true),
        ("A\u{202e}", false),
        ("\u{391}", false),
    ] {
        let message = [&text(topic)[..], &[0, 1, 0], b"x"].concat();
        writer.send(&packet(PUBLISH_QOS_1, &message));
        let nobody = writer.next_of(0x40).get(4) == Some(&0x10);
        assert_eq!(nobody, !heard, "{topic:?}");
        if heard {
            assert!(reader.next_of(PUBLISH).ends_with(b"x"));
        }
    }
    // Client ids as well: neither displaces the other.
    let twins = ["ren\u{e9}", "rene\u{301}"].map(|name| Peer::login(server.device, name));
    assert_eq!(server.metric("longwire_takeovers_total", &[]), 0.0);
    // A mark that no eye sees is in no name.
    let mut marked = Peer::open(server.device);
    marked.send(&connect_bytes("\u{feff}ren\u{e9}"));
    assert_eq!(marked.next_of(0x20)[3], 0x85);
    drop((twins, reader, writer));
    honest.are_alone(&server);
}

/// Names that mean something to a file system, a database, a log or a metric mean nothing here.
#[test]
fn names_with_meaning_elsewhere_are_only_names() {
    let server = TestServer::start();
    let mut honest = Honest::meet(&server);
    for name in
        ["../../etc/passwd", "'; DROP TABLE devices; --", "a\"b} 1", "%n%s%c", "$SYS", "null", "\u{202e}txt"]
    {
        let mut peer = Peer::open(server.device);
        peer.send(&connect_bytes(name));
        let code = peer.next_of(0x20)[3];
        assert_eq!(code, 0, "{name}");
        // Its own words come back as they were.
        let topic = format!("said/{name}");
        peer.send(&subscribe_bytes(std::slice::from_ref(&topic), 0));
        assert_eq!(peer.next_of(0x90)[5..], [0]);
        peer.send(&publish(&topic, name.as_bytes()));
        assert!(peer.next_of(PUBLISH).ends_with(name.as_bytes()));
    }
    let metrics = server.api.get("/metrics").text;
    assert!(!metrics.contains("DROP TABLE") && !metrics.contains(HONEST), "no name is a label");
    honest.are_alone(&server);
}
