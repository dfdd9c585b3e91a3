//! Frames come out of bytes whatever the cut, and nothing is held or allocated on a peer's word alone.

#![allow(clippy::unwrap_used)]

use longwire_proto::id::ClientId;
use longwire_proto::limit::{FRAME_BODY_BYTES_MAX, HEADER_BYTES};
use longwire_proto::wire::{Assembler, Command, Header, WireError, heartbeat};

type Frames = Vec<(Command, Vec<u8>)>;

fn frames(assembler: &mut Assembler, mut input: &[u8]) -> Result<Frames, WireError> {
    let mut found = Vec::new();
    while let Some(frame) = assembler.next(&mut input, FRAME_BODY_BYTES_MAX)? {
        found.push((frame.header.command, frame.body.to_vec()));
    }
    assert!(input.is_empty());
    Ok(found)
}

fn upstream_frame(body: &[u8]) -> Vec<u8> {
    let header = Header { command: Command::Upstream, body_bytes: body.len(), client: ClientId(7) };
    [&header.encode()[..], body].concat()
}

#[test]
fn frames_are_the_same_at_every_cut() {
    let bytes =
        [upstream_frame(b"one"), heartbeat(Command::Ping, ClientId(7)).to_vec(), upstream_frame(&[9; 200])]
            .concat();
    let expected = frames(&mut Assembler::default(), &bytes).unwrap();
    assert_eq!(expected.len(), 3);
    for cut in 0..=bytes.len() {
        let mut assembler = Assembler::default();
        let mut found = frames(&mut assembler, &bytes[..cut]).unwrap();
        found.extend(frames(&mut assembler, &bytes[cut..]).unwrap());
        assert_eq!(found, expected, "cut at {cut}");
        assert_eq!(assembler.held_bytes(), 0);
    }
    let mut assembler = Assembler::default();
    let mut found = Vec::new();
    for byte in &bytes {
        found.extend(frames(&mut assembler, std::slice::from_ref(byte)).unwrap());
        assembler.release();
    }
    assert_eq!(found, expected);
}

#[test]
fn a_whole_frame_is_not_copied() {
    let bytes = upstream_frame(b"payload");
    let mut input = &bytes[..];
    let mut assembler = Assembler::default();
    let frame = assembler.next(&mut input, FRAME_BODY_BYTES_MAX).unwrap().unwrap();
    assert!(std::ptr::eq(frame.body.as_ptr(), &bytes[HEADER_BYTES]));
}

#[test]
fn the_first_wrong_byte_of_the_magic_is_refused() {
    for wrong in [&b"G"[..], b"\xCA\xFF", b"\xCA\xFE\xBA\xBF"] {
        assert_eq!(frames(&mut Assembler::default(), wrong), Err(WireError::BadMagic));
    }
    let mut assembler = Assembler::default();
    assert_eq!(frames(&mut assembler, b"\xCA\xFE"), Ok(vec![]));
    assert_eq!(frames(&mut assembler, b"\x00"), Err(WireError::BadMagic));
}

#[test]
fn a_giant_announcement_is_refused_at_the_header() {
    let mut bytes = upstream_frame(b"");
    bytes[5..8].copy_from_slice(&[0xFF; 3]);
    let refused = Err(WireError::TooLong { announced: 0xFF_FFFF, limit: FRAME_BODY_BYTES_MAX });
    assert_eq!(frames(&mut Assembler::default(), &bytes), refused);
    let mut assembler = Assembler::default();
    assert_eq!(frames(&mut assembler, &bytes[..15]), Ok(vec![]));
    assert_eq!(frames(&mut assembler, &bytes[15..]), refused);
}

#[test]
fn a_long_announcement_holds_only_what_arrived() {
    let bytes = upstream_frame(&[1; FRAME_BODY_BYTES_MAX]);
    let mut assembler = Assembler::default();
    assert_eq!(frames(&mut assembler, &bytes[..100]), Ok(vec![]));
    assert_eq!(assembler.held_bytes(), 100);
    assert_eq!(frames(&mut assembler, &bytes[100..]).unwrap().len(), 1);
    assert_eq!(assembler.held_bytes(), 0);
}
