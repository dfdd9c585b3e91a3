//! Whatever comes: no panic, and what is accepted encodes to a packet that says the same.

use super::generate::{Dice, mutated, packet};
use super::oracles::said;
use super::vectors::VECTORS;
use super::{decode_within, hex};
use longwire_proto::wire::mqtt::{Decoder, Limits, Side, Version, encode};
use proptest::prelude::*;

const ALL: [(Version, Side); 4] = [
    (Version::V311, Side::Client),
    (Version::V311, Side::Server),
    (Version::V5, Side::Client),
    (Version::V5, Side::Server),
];

/// Decodes, reads everything that is lazy, and encodes; the encoding says the same.
fn chew(version: Version, from: Side, bytes: &[u8]) {
    for limits in [Limits::default(), Limits::SPECIFICATION] {
        let mut input = bytes;
        let decoder = Decoder::new(version, from, &limits);
        let _ = decoder.peek_first(bytes);
        while let Ok(Some(packet)) = decoder.next(&mut input) {
            let mut again = Vec::new();
            encode(&packet, version, &mut again).unwrap();
            let second = decode_within(&Limits::SPECIFICATION, version, from, &again).unwrap().unwrap();
            assert_eq!(said(&packet), said(&second), "{bytes:02x?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn generated_packets_round_trip(seed: u64) {
        for (version, from) in ALL {
            let bytes = packet(version, from, &mut Dice(seed));
            let decoded = decode_within(&Limits::default(), version, from, &bytes).unwrap().unwrap();
            let mut again = Vec::new();
            encode(&decoded, version, &mut again).unwrap();
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    fn random_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        ALL.into_iter().for_each(|(version, from)| chew(version, from, &bytes));
    }

    #[test]
    fn mutated_packets_are_survived(seed: u64) {
        let mut dice = Dice(seed);
        for (version, from) in ALL {
            let whole = packet(version, from, &mut dice);
            chew(version, from, &mutated(&whole, &mut dice));
        }
    }
}

#[test]
fn every_vector_is_survived_with_every_byte_changed() {
    for &(from, version, text) in VECTORS {
        let bytes = hex(text);
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7F, 0x80, 0xFF, bytes[at] ^ 1, bytes[at].wrapping_add(1)] {
                let mut changed = bytes.clone();
                changed[at] = value;
                chew(version, from, &changed);
            }
        }
    }
}
