//! A cursor over a body. `None` always means the same: the body does not decode.

/// What is left of a body.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(body: &'a [u8]) -> Reader<'a> {
        Reader { rest: body }
    }

    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    pub(super) fn u128(&mut self) -> Option<u128> {
        self.array().map(u128::from_be_bytes)
    }

    /// A text behind a one-byte length: UTF-8, at most `bytes_max` long.
    pub(super) fn text(&mut self, bytes_max: usize) -> Option<&'a str> {
        let length = usize::from(self.u8()?);
        if length > bytes_max {
            return None;
        }
        std::str::from_utf8(self.bytes(length)?).ok()
    }

    /// A text that people write into keys, labels and addresses: as [`text`](Self::text), without control bytes.
    pub(super) fn word(&mut self, bytes_max: usize) -> Option<&'a str> {
        self.text(bytes_max).filter(|text| !text.bytes().any(|byte| byte.is_ascii_control()))
    }

    /// Everything that is left.
    pub(super) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Nothing may be left.
    pub(super) fn end(self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }

    /// What a later version may add behind a body: tag u8, length u16, value. A tag from 0x80 must not be ignored, so
    /// a peer that does not know it refuses the frame; this version knows none.
    pub(super) fn tail(mut self) -> Option<()> {
        while !self.rest.is_empty() {
            let tag = self.u8()?;
            let length = usize::from(self.u16()?);
            self.bytes(length)?;
            if tag >= 0x80 {
                return None;
            }
        }
        Some(())
    }
}
