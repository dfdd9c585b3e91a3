//! Any bytes in any cut, as WebSocket frames of either peer: no panic, no more payload than bytes, and the cut does not
//! matter. The first byte is the length of the pieces, its lowest bit the peer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longwire_proto::wire::websocket::{Decoder, Event, Peer, Rules};

/// Payload, events, and whether it ended in a fault.
fn read(bytes: &[u8], piece: usize, peer: Peer) -> (Vec<u8>, usize, bool) {
    let rules = Rules { peer, message_bytes_max: 4_096, controls_max: 10 };
    let (mut decoder, mut payload, mut controls) = (Decoder::default(), Vec::new(), 0);
    for chunk in bytes.chunks(piece) {
        let mut chunk = chunk.to_vec();
        let mut input = chunk.as_mut_slice();
        loop {
            match decoder.next(&mut input, &rules) {
                Ok(Some(Event::Payload(part))) => payload.extend_from_slice(part),
                Ok(Some(_)) => controls += 1,
                Ok(None) => break,
                Err(_) => return (payload, controls, true),
            }
        }
    }
    assert!(payload.len() <= bytes.len());
    (payload, controls, false)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, bytes)) = bytes.split_first() else { return };
    let peer = if choice & 1 == 0 { Peer::Client } else { Peer::Server };
    let (cut, whole) = (read(bytes, usize::from(choice / 2).max(1), peer), read(bytes, bytes.len().max(1), peer));
    assert_eq!((cut.1, cut.2), (whole.1, whole.2));
    assert!(cut.2 || cut.0 == whole.0);
});
