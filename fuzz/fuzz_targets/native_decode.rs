//! Any bytes in any cut, as native frames of either side: no panic, no more memory than bytes, and the cut does not matter.
//! The first byte is the length of the pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longwire_proto::limit::FRAME_BODY_BYTES_MAX;
use longwire_proto::wire::{Assembler, DeviceFrame, ServerFrame};

fn frames(bytes: &[u8], piece: usize) -> usize {
    let mut assembler = Assembler::default();
    let mut whole = 0;
    for mut input in bytes.chunks(piece) {
        loop {
            match assembler.next(&mut input, FRAME_BODY_BYTES_MAX) {
                Ok(Some(frame)) => {
                    whole += 1;
                    let _ = DeviceFrame::decode(&frame.header, frame.body);
                    let _ = ServerFrame::decode(&frame.header, frame.body);
                }
                Ok(None) => break,
                Err(_) => return whole,
            }
        }
        assert!(assembler.held_bytes() <= bytes.len());
    }
    whole
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&piece, bytes)) = bytes.split_first() else { return };
    assert_eq!(frames(bytes, usize::from(piece).max(1)), frames(bytes, bytes.len().max(1)));
});
