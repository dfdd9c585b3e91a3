//! What a device sends to the business, as the server's session judges it.

#![allow(clippy::unwrap_used)]

use longwire_proto::id::ClientId;
use longwire_proto::limit::{FRAME_BODY_BYTES_MAX, UPSTREAM_BYTES_MAX};
use longwire_proto::session::{AwaitingConnect, FeedStart, FromDevice};
use longwire_proto::wire::{DeviceFrame, ResultCode, ServerFrame, UpAck, Upstream};

const DEVICE: ClientId = ClientId(42);

#[test]
fn an_upstream_is_handed_on_and_one_that_is_too_long_is_answered_here() {
    let deciding = AwaitingConnect::default().decide(60);
    let mut server = deciding.accept(DEVICE, FeedStart::default(), FeedStart::default());
    let long = vec![7; UPSTREAM_BYTES_MAX + 1];
    let mut bytes = Vec::new();
    for (client_message, payload) in [(1, &long[..]), (2, &long[1..])] {
        let upstream = Upstream { client_message, mode: 1, kind: "text", to: "", payload };
        DeviceFrame::Upstream(upstream).encode(DEVICE, &mut bytes);
    }
    let (mut input, mut out) = (&bytes[..], Vec::new());
    let first = server.receive(&mut input, FRAME_BODY_BYTES_MAX, &mut out);
    assert_eq!(first, Ok(Some(FromDevice::Answered)));
    let mut refusal = Vec::new();
    let answer = UpAck { client_message: 1, outcome: ResultCode::NotAllowed };
    ServerFrame::UpAck(answer).encode(DEVICE, &mut refusal);
    assert_eq!(out, refusal);
    match server.receive(&mut input, FRAME_BODY_BYTES_MAX, &mut out) {
        Ok(Some(FromDevice::Upstream(upstream))) => {
            assert_eq!((upstream.client_message, upstream.payload.len()), (2, UPSTREAM_BYTES_MAX));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(out, refusal, "whoever takes it answers it");
}
