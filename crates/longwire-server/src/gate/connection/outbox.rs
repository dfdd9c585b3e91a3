//! What a socket did not take yet: references to shared payloads with their small heads, written out in one vectored
//! call. An outbox exists only while bytes wait; boxes are pooled per shard.

use bytes::Bytes;
use longwire_proto::wire::PushHead;
use std::collections::VecDeque;
use std::io::{self, IoSlice};

/// Slices of one vectored write.
const SLICES_MAX: usize = 64;
/// Boxes a shard keeps for the next connection; more are given back.
const POOL_MAX: usize = 1024;
/// Pieces whose room an outbox keeps when it goes back to the pool.
const KEPT_PIECES: usize = 64;

/// A frame: a head of its own and a shared part; either may be empty.
#[derive(Debug)]
pub(in crate::gate) struct Piece {
    head: [u8; PushHead::BYTES],
    head_bytes: u8,
    shared: Bytes,
}

impl Piece {
    pub(in crate::gate) fn push(head: [u8; PushHead::BYTES], shared: Bytes) -> Piece {
        Piece { head, head_bytes: PushHead::BYTES as u8, shared }
    }

    /// A frame, or a part of one, with a head of up to [`PushHead::BYTES`] bytes.
    pub(in crate::gate) fn headed(own: &[u8], shared: Bytes) -> Option<Piece> {
        let mut head = [0; PushHead::BYTES];
        head.get_mut(..own.len())?.copy_from_slice(own);
        Some(Piece { head, head_bytes: own.len() as u8, shared })
    }

    pub(in crate::gate) fn whole(frame: Bytes) -> Piece {
        Piece { head: [0; PushHead::BYTES], head_bytes: 0, shared: frame }
    }

    pub(in crate::gate) fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.head_bytes)]
    }

    pub(in crate::gate) fn shared(&self) -> &[u8] {
        &self.shared
    }

    pub(in crate::gate) fn len(&self) -> usize {
        usize::from(self.head_bytes) + self.shared.len()
    }
}

/// What is known of a peer whose socket is full.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::gate) struct Standing {
    /// Shard second at which the socket was found full.
    pub(in crate::gate) since_s: u32,
    /// What the kernel held for the peer when it was last asked since the last write.
    pub(in crate::gate) unacked: Option<u32>,
    /// Shard second of the last question.
    pub(in crate::gate) asked_s: u32,
    /// The shard judges, and the kernel's own deadline is put far behind.
    pub(in crate::gate) is_ours: bool,
}

#[derive(Debug, Default)]
pub(in crate::gate) struct Outbox {
    pieces: VecDeque<Piece>,
    /// Bytes of the first piece that are written already.
    written: usize,
    bytes: usize,
    /// With layers below the session: so many pieces at the front are in the form that leaves, the others wait to be sealed together.
    sealed: usize,
    /// Only once the socket was found full: most outboxes last until the end of the turn.
    pub(in crate::gate) standing: Option<Standing>,
}

impl Outbox {
    pub(in crate::gate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(in crate::gate) fn push(&mut self, piece: Piece) {
        self.bytes += piece.len();
        self.pieces.push_back(piece);
    }

    /// Puts a piece that is sealed already behind the others that are.
    pub(in crate::gate) fn push_sealed(&mut self, piece: Piece) {
        self.bytes += piece.len();
        self.pieces.insert(self.sealed, piece);
        self.sealed += 1;
    }

    /// Something waits in the form that leaves.
    pub(in crate::gate) fn has_sealed(&self) -> bool {
        self.sealed > 0
    }

    /// What is not sealed yet.
    pub(in crate::gate) fn open_parts(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.pieces.range(self.sealed..).flat_map(|piece| [piece.head(), piece.shared()])
    }

    /// Puts `wire`, what is left to send of the pieces that were not sealed, in their place.
    pub(in crate::gate) fn close_with(&mut self, wire: &[u8]) {
        let plain_bytes: usize = self.open_parts().map(<[u8]>::len).sum();
        self.pieces.truncate(self.sealed);
        self.bytes -= plain_bytes;
        if !wire.is_empty() {
            self.push_sealed(Piece::whole(Bytes::copy_from_slice(wire)));
        }
    }

    /// Forgets the first `written` bytes.
    pub(in crate::gate) fn consume(&mut self, written: usize) {
        self.bytes -= written;
        self.written += written;
        while let Some(first) = self.pieces.front() {
            if self.written < first.len() {
                break;
            }
            self.written -= first.len();
            self.pieces.pop_front();
            self.sealed = self.sealed.saturating_sub(1);
        }
    }

    /// Writes with `write` until nothing is left or it takes less than it was given. Returns the bytes taken.
    ///
    /// # Errors
    /// What `write` says, but for `WouldBlock`, which only ends the writing.
    pub(in crate::gate) fn drain(
        &mut self,
        mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut total = 0;
        while self.bytes > 0 {
            let (taken, offered) = {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let (mut count, mut offered, mut skip) = (0, 0, self.written);
                'pieces: for piece in &self.pieces {
                    for part in [piece.head(), piece.shared()] {
                        let skipped = skip.min(part.len());
                        skip -= skipped;
                        let part = &part[skipped..];
                        if part.is_empty() {
                            continue;
                        }
                        if count == SLICES_MAX {
                            break 'pieces;
                        }
                        slices[count] = IoSlice::new(part);
                        count += 1;
                        offered += part.len();
                    }
                }
                match write(&slices[..count]) {
                    Ok(taken) => (taken, offered),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => (0, offered),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                }
            };
            self.consume(taken);
            total += taken;
            if taken < offered {
                break;
            }
        }
        Ok(total)
    }
}

/// Empty outboxes for reuse, so that a burst allocates nothing.
#[derive(Default)]
pub(in crate::gate) struct OutboxPool {
    // The box is what is pooled: a connection holds eight bytes while it has no outbox.
    #[allow(clippy::vec_box, reason = "the boxes themselves are reused")]
    free: Vec<Box<Outbox>>,
}

impl OutboxPool {
    pub(in crate::gate) fn take(&mut self) -> Box<Outbox> {
        self.free.pop().unwrap_or_default()
    }

    pub(in crate::gate) fn give(&mut self, mut outbox: Box<Outbox>) {
        if self.free.len() < POOL_MAX {
            outbox.pieces.clear();
            outbox.pieces.shrink_to(KEPT_PIECES);
            (outbox.written, outbox.bytes, outbox.sealed, outbox.standing) = (0, 0, 0, None);
            self.free.push(outbox);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever a socket takes at a time, and whenever it is full, the peer reads the frames in order and whole.
        #[test]
        fn bytes_leave_in_order_whatever_the_socket_takes(
            frames in prop::collection::vec((any::<bool>(), 0_usize..200), 1..150),
            takes in prop::collection::vec(0_usize..400, 1..400),
        ) {
            let (mut outbox, mut expected, mut peer) = (Outbox::default(), Vec::new(), Vec::new());
            for (index, (headed, length)) in frames.iter().enumerate() {
                let shared = Bytes::from(vec![index as u8; *length]);
                let head = [0xA0 | (index as u8 & 0xF); PushHead::BYTES];
                let piece = if *headed { Piece::push(head, shared) } else { Piece::whole(shared) };
                expected.extend_from_slice(piece.head());
                expected.extend_from_slice(piece.shared());
                outbox.push(piece);
            }
            let mut takes = takes.into_iter().cycle();
            for _ in 0..100_000 {
                if outbox.bytes() == 0 {
                    break;
                }
                outbox.drain(|slices| {
                    prop_assert_ne_io(slices)?;
                    let mut left = takes.next().unwrap_or(1);
                    let taken = left.min(slices.iter().map(|slice| slice.len()).sum());
                    for slice in slices {
                        let part = left.min(slice.len());
                        peer.extend_from_slice(&slice[..part]);
                        left -= part;
                    }
                    Ok(taken)
                }).map_err(|error| TestCaseError::fail(error.to_string()))?;
                // Sockets that take nothing for ever are the write-stall deadline's affair.
                if takes.clone().take(400).all(|take| take == 0) {
                    return Ok(());
                }
            }
            prop_assert_eq!(peer, expected);
            prop_assert!(outbox.pieces.is_empty() || outbox.pieces.iter().all(|piece| piece.len() == 0));
        }
    }

    /// A write of nothing would look like a full socket.
    fn prop_assert_ne_io(slices: &[IoSlice<'_>]) -> io::Result<()> {
        if slices.iter().any(|slice| !slice.is_empty()) {
            Ok(())
        } else {
            Err(io::Error::other("empty write"))
        }
    }
}
