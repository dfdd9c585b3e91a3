//! Whole packets out of bytes that arrive in any cut. A packet that is whole in the input is not copied; of one that is
//! not, only bytes that came are held.

use crate::wire::mqtt::{Decoder, Fault, Packet};

/// The bytes of an unfinished packet. Idle, it owns nothing.
#[derive(Debug, Default)]
pub struct PacketAssembler {
    held: Option<Box<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    /// The packet in `bytes` was given out; the next call forgets it.
    given: bool,
}

impl PacketAssembler {
    /// Takes one packet off the front of `input`; `None` when it is used up. `first`: CONNECT is awaited.
    ///
    /// # Errors
    /// Those of the decoder, as early as the bytes show them.
    pub fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
        decoder: &Decoder<'_>,
        first: bool,
    ) -> Result<Option<Packet<'a>>, Fault> {
        self.release();
        let peek = |bytes: &[u8]| if first { decoder.peek_first(bytes) } else { decoder.peek(bytes) };
        if self.held.is_none() {
            if input.is_empty() {
                return Ok(None);
            }
            if let Some(header) = peek(input)?
                && let Some((packet, rest)) = input.split_at_checked(header.packet_bytes())
            {
                *input = rest;
                return decoder.decode(header, &packet[usize::from(header.header_bytes)..]).map(Some);
            }
            self.held = Some(Box::new(Held { bytes: std::mem::take(input).to_vec(), given: false }));
            return Ok(None);
        }
        let Some(held) = &mut self.held else { return Ok(None) };
        let header = loop {
            if let Some(header) = peek(&held.bytes)? {
                break header;
            }
            // Byte by byte, at most five: a fault of the header shows before anything behind it is taken.
            let Some((&byte, rest)) = input.split_first() else { return Ok(None) };
            held.bytes.push(byte);
            *input = rest;
        };
        let missing = header.packet_bytes().saturating_sub(held.bytes.len());
        let (part, rest) = input.split_at(missing.min(input.len()));
        held.bytes.extend_from_slice(part);
        *input = rest;
        if part.len() < missing {
            return Ok(None);
        }
        held.given = true;
        decoder.decode(header, &held.bytes[usize::from(header.header_bytes)..]).map(Some)
    }

    /// Bytes held for an unfinished packet.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held().len()
    }

    /// Those bytes.
    pub(super) fn held(&self) -> &[u8] {
        self.held.as_ref().filter(|held| !held.given).map_or(&[], |held| &held.bytes)
    }

    /// Gives back the buffer of a finished packet.
    pub fn release(&mut self) {
        if self.held.as_ref().is_some_and(|held| held.given) {
            self.held = None;
        }
    }
}
