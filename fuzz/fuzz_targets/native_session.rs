//! Any bytes after a login, in pieces, with deliveries between them: no panic, the window's bounds hold, every answer is a
//! frame of a server, and what is handed on about topics is valid. The first byte is the length of the pieces.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longwire_proto::id::{ClientId, MessageId, Position, Source};
use longwire_proto::limit::{FRAME_BODY_BYTES_MAX, PUBLISH_BYTES_MAX};
use longwire_proto::session::{AwaitingConnect, FeedStart, FromDevice, Offer};
use longwire_proto::wire::{Assembler, ServerFrame};

fn judge(out: &mut Vec<u8>) {
    let (mut assembler, mut said) = (Assembler::default(), out.as_slice());
    while let Some(frame) = assembler.next(&mut said, FRAME_BODY_BYTES_MAX).expect("frames of a server") {
        ServerFrame::decode(&frame.header, frame.body).expect("a frame of a server");
    }
    assert_eq!(assembler.held_bytes(), 0);
    out.clear();
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&piece, bytes)) = bytes.split_first() else { return };
    // What comes before the login, on its own.
    let (mut awaiting, mut front) = (AwaitingConnect::default(), bytes);
    let _ = awaiting.receive(&mut front);
    assert!(awaiting.held_bytes() <= bytes.len());

    let start = FeedStart { last: Position::new(1, 0), waiting: piece & 1 == 1 };
    let client = ClientId(0x0101_0101_0101_0101);
    let mut session = AwaitingConnect::default().decide(60).accept(client, start, start);
    let (mut out, mut next) = (Vec::new(), 0);
    for mut input in bytes.chunks(usize::from(piece).max(1)) {
        next += 1;
        let (position, message) = (Position::new(1, next), MessageId(u128::from(next)));
        if session.deliveries().offer(Source::Mailbox, position, message, 100) == Offer::Later {
            session.deliveries().pull();
        }
        loop {
            let acked = match session.receive(&mut input, FRAME_BODY_BYTES_MAX, &mut out) {
                Ok(Some(FromDevice::Acked(ack))) => ack.ids().collect::<Vec<_>>(),
                // What is handed on about topics is valid: nobody judges it again.
                Ok(Some(FromDevice::Publish(publish))) => {
                    assert!(!publish.topic.contains(['+', '#', '\0']) && !publish.topic.starts_with('$'));
                    assert!(publish.payload.len() <= PUBLISH_BYTES_MAX);
                    Vec::new()
                }
                Ok(Some(FromDevice::Subscribe { wanted, filter, .. })) => {
                    assert_eq!(wanted.filter, filter.as_str());
                    assert!(filter.group().is_none() || !(wanted.kept || wanted.no_local));
                    Vec::new()
                }
                Ok(Some(_)) => Vec::new(),
                Ok(None) => break,
                Err(_) => return judge(&mut out),
            };
            for message in acked {
                session.deliveries().settle(message);
            }
        }
        session.release();
        judge(&mut out);
        assert!(session.deliveries().unacked().count() <= 32);
    }
});
