//! Any bytes, as packets of either version from either side: no panic, and what is accepted encodes to a packet that is
//! accepted. The first byte chooses version, side and limits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longwire_proto::wire::mqtt::{Decoder, Limits, Packet, Side, Version, encode};

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, mut input)) = bytes.split_first() else { return };
    let version = if choice & 1 == 0 { Version::V311 } else { Version::V5 };
    let from = if choice & 2 == 0 { Side::Client } else { Side::Server };
    let limits = if choice & 4 == 0 { Limits::default() } else { Limits::SPECIFICATION };
    let decoder = Decoder::new(version, from, &limits);
    let _ = decoder.peek_first(input);
    while let Ok(Some(packet)) = decoder.next(&mut input) {
        if let Packet::Subscribe(subscribe) = &packet {
            assert!(subscribe.filters.iter().count() > 0);
        }
        let mut again = Vec::new();
        encode(&packet, version, &mut again).expect("what was decoded fits");
        let mut rest = again.as_slice();
        let second = decoder.next(&mut rest).expect("what was encoded is valid").expect("and whole");
        assert!(rest.is_empty());
        assert_eq!(second.kind(), packet.kind());
    }
});
