//! The runner's own encoder and decoder against the product's codec.

use super::answer::{decode, matches};
use super::case::{self, Act, Version};
use super::packet::{encode, is_bent};
use super::text::Names;
use longwire_proto::wire::mqtt::{Decoder, Limits, Packet, Side, Version as Wire, encode as product_encode};

fn names() -> Names {
    let bound = [("max", "2"), ("id", "somebody")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut names = Names { client: "client".into(), topic: "cf/1".into(), bound: bound.into() };
    for letter in ["p", "q", "r", "s"] {
        names.bound.insert(letter.to_owned(), "7".to_owned());
    }
    names
}

/// Packets that a case sends and that the product's codec takes: written again by it, they are the same bytes.
#[test]
fn packets_of_the_runner_are_those_of_the_codec() {
    let (limits, names) = (Limits::SPECIFICATION, names());
    let (mut same, mut refused) = (0, 0);
    for case in case::all() {
        for step in &case.steps {
            let Act::Send(line) = &step.act else { continue };
            if is_bent(line) || line.contains("level=") {
                continue;
            }
            let is_5 = case.version == Version::V5;
            let bytes = encode(line, is_5, &names);
            let version = if is_5 { Wire::V5 } else { Wire::V311 };
            let decoder = Decoder::new(version, Side::Client, &limits);
            let mut input = bytes.as_slice();
            let Ok(packet) = decoder.next(&mut input) else {
                refused += 1;
                continue;
            };
            let packet = packet.unwrap_or_else(|| panic!("{}: {line} is not whole", case.title()));
            let mut again = Vec::new();
            product_encode(&packet, version, &mut again).unwrap();
            // A reason 0 and empty properties may be left out.
            let shorter = again.len() < bytes.len() && matches!(bytes[0] >> 4, 4..=7 | 14);
            assert!(again == bytes || shorter, "{}: {line}\n{bytes:02x?}\n{again:02x?}", case.title());
            same += 1;
        }
    }
    assert!(same > 1_000 && refused > 200, "{same} the same, {refused} refused");
}

fn written(packet: &Packet<'_>, version: Wire) -> Vec<u8> {
    let mut out = Vec::new();
    product_encode(packet, version, &mut out).unwrap();
    out
}

/// What a server writes with the codec is read by the runner as it was meant.
#[test]
fn answers_of_the_codec_are_read_by_the_runner() {
    let limits = Limits::SPECIFICATION;
    for (line, pattern, is_5) in [
        ("HEX 20 02 01 00", "CONNACK session=1 reason=0", false),
        ("HEX 20 06 00 00 03 21 00 0a", "CONNACK session=0 reason=0 p.receive_max=10", true),
        ("HEX 34 06 0001 61 0007 62", "PUBLISH qos=2 dup=0 retain=0 topic=a id=7 payload=b", false),
        ("HEX 33 0d 0001 61 0007 07 26 0001 6e 0001 76", "PUBLISH qos=1 retain=1 p.user=n:v bytes=0", true),
        ("HEX 40 02 0007", "PUBACK id=7", false),
        ("HEX 50 03 0007 97", "PUBREC id=7 reason=0x97", true),
        ("HEX 90 05 0007 00 01 02", "SUBACK id=7 codes=1,2", true),
        ("HEX b0 04 0007 00 11", "UNSUBACK id=7 codes=17", true),
        ("HEX d0 00", "PINGRESP", false),
        ("HEX e0 01 8e", "DISCONNECT reason=0x8E", true),
    ] {
        let bytes = encode(line, is_5, &Names::default());
        let version = if is_5 { Wire::V5 } else { Wire::V311 };
        let decoder = Decoder::new(version, Side::Server, &limits);
        let mut input = bytes.as_slice();
        let packet = decoder.next(&mut input).unwrap().unwrap();
        let answer = decode(&written(&packet, version), is_5).unwrap();
        matches(&answer, pattern, &mut Names::default()).unwrap();
    }
}

/// What the runner must not let pass from any server.
#[test]
fn answers_that_no_server_may_give_are_refused() {
    for (line, is_5) in [
        ("HEX 21 02 00 00", false),
        ("HEX 20 02 02 00", false),
        ("HEX 20 02 01 05", false),
        ("HEX 20 02 00 06", false),
        ("HEX 20 03 00 01 00", true),
        ("HEX 20 05 00 00 02 01 00", true),
        ("HEX 20 09 00 00 06 21 000a 21 000a", true),
        ("HEX 36 05 0001 61 0007", false),
        ("HEX 38 03 0001 61", false),
        ("HEX 30 03 0001 2b", false),
        ("HEX 32 05 0001 61 0000", false),
        ("HEX 40 03 0007 91 00", false),
        ("HEX 60 02 0007", false),
        ("HEX 90 03 0007 03", false),
        ("HEX 90 04 0007 00 03", true),
        ("HEX b0 04 0007 00 01", true),
        ("HEX e0 00", false),
        ("HEX e0 01 04", true),
        ("HEX e0 07 00 05 11 00000001", true),
        ("HEX d0 80 00", true),
        ("HEX c0 00", true),
    ] {
        let bytes = encode(line, is_5, &Names::default());
        let read = decode(&bytes, is_5);
        assert!(read.is_err(), "{line}: {read:?}");
    }
}
