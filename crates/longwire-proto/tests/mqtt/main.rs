//! MQTT packets through the public face of the codec.
//!
//! - `vectors`: every packet of both versions as hex, both ways.
//! - `refused`: every rule as hex, with the fault, its reason code and its statement.
//! - `topics`: names, filters, and what matches what.
//! - `shared`: a PUBLISH for many subscribers against the plain encoding.
//! - `chance`: generated packets round trip; random bytes, truncations and mutations never panic.
//! - `oracles`: the same packets through two other codecs; `oracle` wraps them, `generate` makes the packets.

#![allow(clippy::unwrap_used)]

mod chance;
mod generate;
mod oracle;
mod oracles;
mod refused;
mod shared;
mod topics;
mod vectors;

use longwire_proto::wire::mqtt::{Decoder, Fault, Limits, Packet, Side, Version};

/// The bytes of a hex text; `'…'` is ASCII in place, spaces are for people.
fn hex(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, part) in text.split('\'').enumerate() {
        if at % 2 == 1 {
            bytes.extend_from_slice(part.as_bytes());
            continue;
        }
        let digits: Vec<u32> = part.chars().filter_map(|c| c.to_digit(16)).collect();
        assert_eq!(digits.len() % 2, 0, "odd hex in {text}");
        bytes.extend(digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8));
    }
    bytes
}

/// Decodes exactly one packet with the limits of a server.
fn decode(version: Version, from: Side, bytes: &[u8]) -> Result<Option<Packet<'_>>, Fault> {
    decode_within(&Limits { packet_bytes_max: 64 * 1024, ..Limits::default() }, version, from, bytes)
}

fn decode_within<'a>(
    limits: &Limits,
    version: Version,
    from: Side,
    bytes: &'a [u8],
) -> Result<Option<Packet<'a>>, Fault> {
    let mut input = bytes;
    let packet = Decoder::new(version, from, limits).next(&mut input)?;
    assert!(packet.is_none() || input.is_empty(), "bytes were left over");
    Ok(packet)
}
