//! One frame: its header byte by byte, judged as soon as a byte allows it, and its payload as it comes.

use super::close::{WebSocketError, may_be_sent};
use super::decode::{ControlBody, Event, Peer, Rules};
use super::mask::Mask;

pub(super) mod opcode {
    pub(crate) const CONTINUATION: u8 = 0x0;
    pub(crate) const TEXT: u8 = 0x1;
    pub(crate) const BINARY: u8 = 0x2;
    pub(crate) const CLOSE: u8 = 0x8;
    pub(crate) const PING: u8 = 0x9;
    pub(crate) const PONG: u8 = 0xa;
}

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
/// In `Frame::bits`, at the place of a reserved bit, which is never set there: a message has begun and not ended.
const IN_MESSAGE: u8 = 0x10;
/// What a continuation frame adds to its message besides its payload, bytes: with it, endless empty ones meet the limit too.
const CONTINUATION_COST: u32 = 16;

#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// What the frames of the message under way have announced.
    message_bytes: u32,
    /// The length as far as it was read; then the payload that is still to come.
    pub(super) left: u32,
    mask: Mask,
    /// FIN and opcode of this frame; [`IN_MESSAGE`].
    bits: u8,
    pub(super) controls: u8,
    pub(super) step: Step,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    First,
    Second,
    /// Bytes of a two-byte length that are still to come.
    Length16(u8),
    /// The same of an eight-byte length.
    Length64(u8),
    /// Bytes of the mask that were read.
    Mask(u8),
    Payload,
    Closed,
}

impl Frame {
    pub(super) const NEW: Frame =
        Frame { message_bytes: 0, left: 0, mask: Mask::new([0; 4]), bits: 0, controls: 0, step: Step::First };

    fn opcode(&self) -> u8 {
        self.bits & OPCODE
    }

    pub(super) fn is_control(&self) -> bool {
        self.opcode() >= opcode::CLOSE
    }

    pub(super) fn in_message(&self) -> bool {
        self.bits & IN_MESSAGE != 0
    }

    /// As much of the payload as is there, unmasked.
    pub(super) fn take<'i>(&mut self, input: &mut &'i mut [u8]) -> &'i mut [u8] {
        let taken = input.len().min(self.left as usize);
        let piece = input.split_off_mut(..taken).unwrap_or_default();
        self.mask.apply(piece);
        self.left -= piece.len() as u32;
        piece
    }

    /// The commonest header at once: a whole binary message of a client, at most 125 bytes. Whatever it does not take goes
    /// byte by byte, where all is judged.
    pub(super) fn take_short_head(&mut self, input: &mut &mut [u8], rules: &Rules) -> bool {
        const WHOLE: u8 = FIN | opcode::BINARY;
        let [WHOLE, length @ 0x80..=0xfd, k0, k1, k2, k3, ..] = **input else { return false };
        let length = u32::from(length & !MASKED);
        if self.step != Step::First
            || rules.peer != Peer::Client
            || self.in_message()
            || length > rules.message_bytes_max
        {
            return false;
        }
        self.message_bytes = length;
        self.left = length;
        self.mask = Mask::new([k0, k1, k2, k3]);
        self.bits = WHOLE;
        self.step = Step::Payload;
        input.split_off_mut(..6).is_some()
    }

    /// One byte of the header.
    pub(super) fn read_head(&mut self, byte: u8, rules: &Rules) -> Result<(), WebSocketError> {
        match self.step {
            Step::First => self.read_first(byte, rules),
            Step::Second => self.read_second(byte, rules),
            Step::Length16(left) => {
                self.left = self.left << 8 | u32::from(byte);
                match left {
                    1 if self.left < 126 => Err(WebSocketError::BadLength),
                    1 => self.judge_length(rules),
                    _ => self.go(Step::Length16(left - 1)),
                }
            }
            Step::Length64(left) => self.read_length64(byte, left, rules),
            Step::Mask(seen) => {
                self.mask.set(usize::from(seen), byte);
                self.step = if seen == 3 { Step::Payload } else { Step::Mask(seen + 1) };
                Ok(())
            }
            Step::Payload | Step::Closed => Ok(()),
        }
    }

    fn go(&mut self, step: Step) -> Result<(), WebSocketError> {
        self.step = step;
        Ok(())
    }

    fn read_first(&mut self, byte: u8, rules: &Rules) -> Result<(), WebSocketError> {
        if byte & RESERVED != 0 {
            return Err(WebSocketError::ReservedBits);
        }
        let (fin, in_message) = (byte & FIN != 0, self.in_message());
        match byte & OPCODE {
            opcode::CONTINUATION if !in_message => return Err(WebSocketError::FragmentOrder),
            opcode::TEXT | opcode::BINARY if in_message => return Err(WebSocketError::FragmentOrder),
            opcode::TEXT => return Err(WebSocketError::NotBinary),
            opcode::CONTINUATION => {
                self.message_bytes = self.message_bytes.saturating_add(CONTINUATION_COST);
            }
            opcode::BINARY => self.message_bytes = 0,
            opcode::CLOSE | opcode::PING | opcode::PONG if !fin => {
                return Err(WebSocketError::FragmentedControl);
            }
            opcode::CLOSE => {}
            opcode::PING | opcode::PONG => {
                if self.controls >= rules.controls_max {
                    return Err(WebSocketError::TooManyControls(rules.controls_max));
                }
                self.controls += 1;
            }
            reserved => return Err(WebSocketError::ReservedOpcode(reserved)),
        }
        self.bits = byte | (self.bits & IN_MESSAGE);
        self.step = Step::Second;
        Ok(())
    }

    fn read_second(&mut self, byte: u8, rules: &Rules) -> Result<(), WebSocketError> {
        match (byte & MASKED != 0, rules.peer) {
            (false, Peer::Client) => return Err(WebSocketError::Unmasked),
            (true, Peer::Server) => return Err(WebSocketError::Masked),
            _ => {}
        }
        self.left = 0;
        match byte & !MASKED {
            126 | 127 if self.is_control() => Err(WebSocketError::LongControl),
            126 => self.go(Step::Length16(2)),
            127 => self.go(Step::Length64(8)),
            short => {
                self.left = u32::from(short);
                self.judge_length(rules)
            }
        }
    }

    /// A length that needs more than four bytes is refused at the byte that shows it.
    fn read_length64(&mut self, byte: u8, left: u8, rules: &Rules) -> Result<(), WebSocketError> {
        if left == 8 && byte & 0x80 != 0 {
            return Err(WebSocketError::BadLength);
        }
        if left > 4 && byte != 0 {
            return Err(WebSocketError::TooLong(rules.message_bytes_max));
        }
        self.left = self.left << 8 | u32::from(byte);
        match left {
            1 if self.left <= 0xffff => Err(WebSocketError::BadLength),
            1 => self.judge_length(rules),
            _ => self.go(Step::Length64(left - 1)),
        }
    }

    fn judge_length(&mut self, rules: &Rules) -> Result<(), WebSocketError> {
        if !self.is_control() {
            let together = self.message_bytes.saturating_add(self.left);
            if together > rules.message_bytes_max {
                return Err(WebSocketError::TooLong(rules.message_bytes_max));
            }
            self.message_bytes = together;
        }
        self.mask = Mask::default();
        self.step = match rules.peer {
            Peer::Client => Step::Mask(0),
            Peer::Server => Step::Payload,
        };
        Ok(())
    }

    pub(super) fn end_data(&mut self) {
        self.bits = if self.bits & FIN == 0 { IN_MESSAGE } else { 0 };
        self.step = Step::First;
    }

    pub(super) fn end_control(&mut self, body: ControlBody) -> Result<Event<'static>, WebSocketError> {
        let opcode = self.opcode();
        self.bits &= IN_MESSAGE;
        self.step = Step::First;
        match opcode {
            opcode::PING => Ok(Event::Ping(body)),
            opcode::PONG => Ok(Event::Pong(body)),
            _ => {
                self.step = Step::Closed;
                let code = read_close(body.bytes())?;
                Ok(Event::Close { code })
            }
        }
    }
}

fn read_close(body: &[u8]) -> Result<Option<u16>, WebSocketError> {
    match body.split_first_chunk::<2>() {
        None if body.is_empty() => Ok(None),
        None => Err(WebSocketError::BadClose),
        Some((code, text)) => {
            let code = u16::from_be_bytes(*code);
            if !may_be_sent(code) {
                return Err(WebSocketError::BadClose);
            }
            std::str::from_utf8(text).map_err(|_| WebSocketError::BadCloseText)?;
            Ok(Some(code))
        }
    }
}
