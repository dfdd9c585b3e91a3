//! Whole frames out of bytes that arrive in any cut.

use super::WireError;
use super::header::{Header, MAGIC};
use crate::limit::HEADER_BYTES;

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
    /// The header's fault, as soon as its 16 bytes are there; wrong magic as soon as one byte differs.
    pub fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
        body_bytes_max: usize,
    ) -> Result<Option<RawFrame<'a>>, WireError> {
        if let Some(partial) = &mut self.partial
            && partial.taken
        {
            partial.bytes.clear();
            partial.taken = false;
        }
        if self.held_bytes() == 0 {
            if let Some(frame) = whole(input, body_bytes_max)? {
                return Ok(Some(frame));
            }
            if input.is_empty() {
                return Ok(None);
            }
        }
        let partial = self.partial.get_or_insert_with(Box::default);
        partial.complete(input, body_bytes_max)
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

impl Partial {
    fn complete(
        &mut self,
        input: &mut &[u8],
        body_bytes_max: usize,
    ) -> Result<Option<RawFrame<'_>>, WireError> {
        self.fill(input, HEADER_BYTES);
        let Some(header) = header(&self.bytes, body_bytes_max)? else { return Ok(None) };
        let frame_bytes = HEADER_BYTES + header.body_bytes;
        self.fill(input, frame_bytes);
        if self.bytes.len() < frame_bytes {
            return Ok(None);
        }
        self.taken = true;
        Ok(Some(RawFrame { header, body: &self.bytes[HEADER_BYTES..] }))
    }

    /// Moves bytes from `input` until `total` are held. Room at most doubles what has arrived, and never passes `total`.
    fn fill(&mut self, input: &mut &[u8], total: usize) {
        let wanted = total.saturating_sub(self.bytes.len()).min(input.len());
        let (now, later) = input.split_at(wanted);
        let held = self.bytes.len() + wanted;
        if held > self.bytes.capacity() {
            let room = (2 * held).min(total.max(HEADER_BYTES));
            self.bytes.reserve_exact(room - self.bytes.len());
        }
        self.bytes.extend_from_slice(now);
        *input = later;
    }
}

/// A frame that lies whole at the front of `input`.
fn whole<'i>(input: &mut &'i [u8], body_bytes_max: usize) -> Result<Option<RawFrame<'i>>, WireError> {
    let Some(header) = header(input, body_bytes_max)? else { return Ok(None) };
    let Some((frame, later)) = input.split_at_checked(HEADER_BYTES + header.body_bytes) else {
        return Ok(None);
    };
    *input = later;
    Ok(Some(RawFrame { header, body: &frame[HEADER_BYTES..] }))
}

/// The header at the front of `bytes`; `None` while it may still become one.
fn header(bytes: &[u8], body_bytes_max: usize) -> Result<Option<Header>, WireError> {
    match bytes.first_chunk::<HEADER_BYTES>() {
        Some(chunk) => Header::decode(chunk, body_bytes_max).map(Some),
        None if MAGIC.iter().zip(bytes).any(|(magic, byte)| magic != byte) => Err(WireError::BadMagic),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::id::ClientId;
    use crate::wire::Command;

    #[test]
    fn room_grows_with_what_arrived_and_never_passes_the_frame() {
        let body_bytes = 60_000;
        let header = Header { command: Command::Upstream, body_bytes, client: ClientId(1) };
        let bytes = [&header.encode()[..], &vec![0; body_bytes]].concat();
        let mut assembler = Assembler::default();
        let mut arrived = 0;
        for mut piece in bytes[..bytes.len() - 1].chunks(700) {
            arrived += piece.len();
            assert_eq!(assembler.next(&mut piece, body_bytes), Ok(None));
            let room = assembler.partial.as_ref().unwrap().bytes.capacity();
            assert!(room <= (2 * arrived).min(bytes.len()), "{room} bytes of room for {arrived}");
        }
        assert!(assembler.next(&mut &bytes[bytes.len() - 1..], body_bytes).unwrap().is_some());
        assembler.release();
        assert!(assembler.partial.is_none());
    }
}
