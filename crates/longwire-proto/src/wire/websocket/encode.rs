//! The bytes in front of a payload, and whole control frames. A payload is not copied: its head goes before it in a vectored
//! write.

use super::decode::{CONTROL_BYTES_MAX, ControlBody};
use super::frame::opcode;
use super::mask::Mask;

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const HEAD_BYTES_MAX: usize = 14;

/// The header of one frame: 2 to 10 bytes from a server, four more from a client.
#[derive(Clone, Copy, Debug)]
pub struct FrameHead {
    bytes: [u8; HEAD_BYTES_MAX],
    length: u8,
}

impl FrameHead {
    /// The bytes of the header.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    fn new(opcode: u8, payload_bytes: u64, mask: Option<Mask>) -> FrameHead {
        let mut head = FrameHead { bytes: [0; HEAD_BYTES_MAX], length: 0 };
        let masked = if mask.is_some() { MASKED } else { 0 };
        head.push(&[FIN | opcode]);
        match payload_bytes {
            0..=125 => head.push(&[masked | payload_bytes as u8]),
            126..=0xffff => {
                head.push(&[masked | 126]);
                head.push(&(payload_bytes as u16).to_be_bytes());
            }
            _ => {
                head.push(&[masked | 127]);
                head.push(&payload_bytes.to_be_bytes());
            }
        }
        if let Some(mask) = mask {
            head.push(&mask.key());
        }
        head
    }

    fn push(&mut self, bytes: &[u8]) {
        let at = usize::from(self.length);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len() as u8;
    }
}

/// The header of one whole binary message of `payload_bytes`, which may be the sum of several slices. A client passes its
/// mask and lays it over the payload itself; a server passes `None`.
#[must_use]
pub fn data_head(payload_bytes: u64, mask: Option<Mask>) -> FrameHead {
    FrameHead::new(opcode::BINARY, payload_bytes, mask)
}

/// A whole control frame, header and payload.
#[derive(Clone, Copy, Debug)]
pub struct ControlFrame {
    bytes: [u8; HEAD_BYTES_MAX + CONTROL_BYTES_MAX],
    length: u8,
}

impl ControlFrame {
    /// The bytes of the frame.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    fn new(opcode: u8, payload: &[u8], mask: Option<Mask>) -> ControlFrame {
        let payload = &payload[..payload.len().min(CONTROL_BYTES_MAX)];
        let mut frame = ControlFrame { bytes: [0; HEAD_BYTES_MAX + CONTROL_BYTES_MAX], length: 0 };
        let head = FrameHead::new(opcode, payload.len() as u64, mask);
        let at = head.bytes().len();
        frame.bytes[..at].copy_from_slice(head.bytes());
        let body = &mut frame.bytes[at..at + payload.len()];
        body.copy_from_slice(payload);
        if let Some(mut mask) = mask {
            mask.apply(body);
        }
        frame.length = (at + payload.len()) as u8;
        frame
    }
}

/// A Ping. Of a longer payload the first 125 bytes are taken.
#[must_use]
pub fn ping(payload: &[u8], mask: Option<Mask>) -> ControlFrame {
    ControlFrame::new(opcode::PING, payload, mask)
}

/// The Pong that answers a Ping: the same payload (section 5.5.3).
#[must_use]
pub fn pong(ping: &ControlBody, mask: Option<Mask>) -> ControlFrame {
    ControlFrame::new(opcode::PONG, ping.bytes(), mask)
}

/// A Close frame. Without a code it is empty; `text` is cut to the last whole character within 123 bytes.
#[must_use]
pub fn close(code: Option<u16>, text: &str, mask: Option<Mask>) -> ControlFrame {
    let mut payload = [0; CONTROL_BYTES_MAX];
    let Some(code) = code else { return ControlFrame::new(opcode::CLOSE, &[], mask) };
    let text = &text[..text.floor_char_boundary(CONTROL_BYTES_MAX - 2)];
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..2 + text.len()].copy_from_slice(text.as_bytes());
    ControlFrame::new(opcode::CLOSE, &payload[..2 + text.len()], mask)
}

const _: () = assert!(HEAD_BYTES_MAX + CONTROL_BYTES_MAX <= u8::MAX as usize);
