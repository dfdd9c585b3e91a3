//! Message ids: UUID version 7 (RFC 9562, section 5.7), strictly rising within the process.

use crate::domain::{MessageId, WallMs};
use parking_lot::Mutex;

/// Bits after the time that are free: 12 before the variant and 62 after it.
const TAIL_BITS: u32 = 74;
const TAIL_MASK: u128 = (1 << TAIL_BITS) - 1;

struct Last {
    ms: u64,
    tail: u128,
    drawn: u64,
}

/// Makes ids. The random part comes from a seeded hash, so that an id costs no system call.
pub(crate) struct MessageIds {
    seed: [u8; 32],
    last: Mutex<Last>,
}

impl MessageIds {
    /// `seed`: 32 random bytes.
    pub(crate) fn new(seed: [u8; 32]) -> MessageIds {
        MessageIds { seed, last: Mutex::new(Last { ms: 0, tail: 0, drawn: 0 }) }
    }

    /// The next id. A clock that stands or goes back does not make an id smaller than the one before.
    pub(crate) fn next(&self, now: WallMs) -> MessageId {
        let mut last = self.last.lock();
        last.drawn += 1;
        let random = self.random(last.drawn);
        if now.0 > last.ms {
            last.ms = now.0;
            // The top bit stays free, so that a million steps within one millisecond do not overflow.
            last.tail = random & (TAIL_MASK >> 1);
        } else {
            // A random step, so that one id does not tell the next.
            last.tail += 1 + (random & 0xFFFF_FFFF);
            if last.tail > TAIL_MASK {
                last.ms += 1;
                last.tail = random & (TAIL_MASK >> 1);
            }
        }
        compose(last.ms, last.tail)
    }

    /// A number from 0 to below `bound` (at least 1), for spreading; not for ids.
    pub(crate) fn spread(&self, bound: u16) -> u16 {
        let drawn = {
            let mut last = self.last.lock();
            last.drawn += 1;
            last.drawn
        };
        (self.random(drawn) % u128::from(bound.max(1))) as u16
    }

    fn random(&self, drawn: u64) -> u128 {
        let hash = blake3::keyed_hash(&self.seed, &drawn.to_be_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.as_bytes()[..16]);
        u128::from_be_bytes(bytes)
    }
}

fn compose(ms: u64, tail: u128) -> MessageId {
    let upper = tail >> 62;
    let lower = tail & ((1 << 62) - 1);
    let time = u128::from(ms & 0xFFFF_FFFF_FFFF);
    MessageId((time << 80) | (0x7 << 76) | (upper << 64) | (0b10 << 62) | lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_7_and_rise_although_the_clock_stands_or_goes_back() {
        let ids = MessageIds::new([3; 32]);
        let mut before = MessageId(0);
        for step in 0..10_000_u64 {
            let now = WallMs(1_700_000_000_000 + (step / 1000) * 5 - (step % 7));
            let id = ids.next(now);
            assert!(id > before);
            let uuid = uuid::Uuid::from_u128(id.0);
            assert_eq!(uuid.get_version_num(), 7);
            assert_eq!(uuid.get_variant(), uuid::Variant::RFC4122);
            before = id;
        }
        assert_eq!((before.0 >> 80) as u64, 1_700_000_000_045);
    }

    #[test]
    fn a_full_millisecond_runs_into_the_next() {
        let ids = MessageIds::new([3; 32]);
        let first = ids.next(WallMs(5));
        ids.last.lock().tail = TAIL_MASK;
        let next = ids.next(WallMs(5));
        assert!(next > first);
        assert_eq!((next.0 >> 80) as u64, 6);
    }

    #[test]
    fn two_processes_make_different_ids() {
        assert_ne!(MessageIds::new([1; 32]).next(WallMs(5)), MessageIds::new([2; 32]).next(WallMs(5)));
    }
}
