//! Whole frames out of bytes that arrive in any cut.

use super::WireError;
use super::header::Header;

/// A frame whose body is complete, not yet decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawFrame<'a> {
    /// The judged header.
    pub header: Header,
    /// The body, `header.body_bytes` long.
    pub body: &'a [u8],
}

/// Holds the beginning of a frame until the rest arrives; nothing at all between frames. A frame that lies whole in
/// the input is not copied. What it holds grows with the bytes that arrived, never with the length announced.
#[derive(Debug, Default)]
pub struct Assembler {
    partial: Option<Box<Partial>>,
}

#[derive(Debug, Default)]
struct Partial {
    bytes: Vec<u8>,
    /// The frame in `bytes` was handed out; it is cleared at the next call.
    taken: bool,
}

impl Assembler {
    /// The next whole frame, taking its bytes off the front of `input`; `None` when `input` is used up.
    ///
    /// # Errors
    /// The header's fault, as soon as its 16 bytes are there.
    pub fn next<'a>(
        &'a mut self,
        input: &mut &'a [u8],
        body_bytes_max: usize,
    ) -> Result<Option<RawFrame<'a>>, WireError> {
        let _ = (input, body_bytes_max, &self.partial);
        todo!("wire")
    }

    /// Bytes held for an unfinished frame; 0 between frames.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| if partial.taken { 0 } else { partial.bytes.len() })
    }

    /// Gives the buffer back when no frame is unfinished; call after the last [`next`](Self::next) of a read.
    pub fn release(&mut self) {
        if self.held_bytes() == 0 {
            self.partial = None;
        }
    }
}
