//! A cursor over a body. Running out of bytes is [`Fault::BodyLength`] of the packet that is read.

use crate::wire::mqtt::header::variable_integer;
use crate::wire::mqtt::{Fault, Kind, text};

/// What is left of a body.
#[derive(Clone, Copy)]
pub(in crate::wire::mqtt) struct Reader<'a> {
    rest: &'a [u8],
    kind: Kind,
}

impl<'a> Reader<'a> {
    #[inline]
    pub(in crate::wire::mqtt) fn new(body: &'a [u8], kind: Kind) -> Reader<'a> {
        Reader { rest: body, kind }
    }

    #[inline]
    pub(in crate::wire::mqtt) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub(in crate::wire::mqtt) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Fault::BodyLength(self.kind))?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Fault::BodyLength(self.kind))?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(in crate::wire::mqtt) fn u8(&mut self) -> Result<u8, Fault> {
        self.array::<1>().map(|[byte]| byte)
    }

    #[inline]
    pub(in crate::wire::mqtt) fn u16(&mut self) -> Result<u16, Fault> {
        self.array().map(u16::from_be_bytes)
    }

    #[inline]
    pub(in crate::wire::mqtt) fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_be_bytes)
    }

    #[inline]
    pub(in crate::wire::mqtt) fn variable(&mut self) -> Result<u32, Fault> {
        let (value, length) = variable_integer(self.rest)?.ok_or(Fault::BodyLength(self.kind))?;
        self.rest = &self.rest[usize::from(length)..];
        Ok(value)
    }

    #[inline]
    pub(in crate::wire::mqtt) fn binary(&mut self) -> Result<&'a [u8], Fault> {
        let length = usize::from(self.u16()?);
        self.bytes(length)
    }

    #[inline]
    pub(in crate::wire::mqtt) fn text(&mut self) -> Result<&'a str, Fault> {
        text::well_formed(self.binary()?)
    }

    #[inline]
    pub(in crate::wire::mqtt) fn name(&mut self) -> Result<&'a str, Fault> {
        text::name(self.binary()?)
    }

    /// A packet identifier, which is not 0 (MQTT-2.2.1-3, -4).
    #[inline]
    pub(in crate::wire::mqtt) fn packet_id(&mut self) -> Result<u16, Fault> {
        match self.u16()? {
            0 => Err(Fault::PacketId),
            id => Ok(id),
        }
    }

    /// Everything that is left.
    #[inline]
    pub(in crate::wire::mqtt) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Nothing may be left.
    #[inline]
    pub(in crate::wire::mqtt) fn end(self) -> Result<(), Fault> {
        if self.rest.is_empty() { Ok(()) } else { Err(Fault::BodyLength(self.kind)) }
    }
}
