//! The key that a client lays over its payload (RFC 6455 section 5.3).

/// Four bytes that are laid over the payload again and again, turned to the byte that is next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mask([u8; 4]);

impl Mask {
    /// The key as it stands in a frame's header.
    #[must_use]
    pub const fn new(key: [u8; 4]) -> Mask {
        Mask(key)
    }

    /// The key's bytes, the next one first.
    #[must_use]
    pub const fn key(self) -> [u8; 4] {
        self.0
    }

    pub(super) fn set(&mut self, at: usize, byte: u8) {
        self.0[at] = byte;
    }

    /// Masks or unmasks `bytes` in place and turns the key past them, so that the next piece of the same frame goes on.
    pub fn apply(&mut self, bytes: &mut [u8]) {
        let key = u32::from_ne_bytes(self.0);
        let wide = u64::from(key) << 32 | u64::from(key);
        let (eights, rest) = bytes.as_chunks_mut::<8>();
        for eight in eights {
            *eight = (u64::from_ne_bytes(*eight) ^ wide).to_ne_bytes();
        }
        // Whole eights do not turn a key of four bytes.
        for (at, byte) in rest.iter_mut().enumerate() {
            *byte ^= self.0[at % 4];
        }
        self.0.rotate_left(rest.len() % 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_any_length_unmask_as_the_whole_does() {
        let plain: Vec<u8> = (0..67).collect();
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let masked: Vec<u8> = plain.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]).collect();
        for cut in 0..=plain.len() {
            let mut bytes = masked.clone();
            let (first, second) = bytes.split_at_mut(cut);
            let mut mask = Mask::new(key);
            mask.apply(first);
            mask.apply(second);
            assert_eq!(bytes, plain, "cut at {cut}");
        }
    }
}
