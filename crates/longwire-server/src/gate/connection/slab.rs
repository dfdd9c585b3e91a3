//! A shard's connections by slot. Grows by chunks, so that a record never moves and growth copies nothing; a slot's
//! generation rises when its connection goes, so that an old handle names nothing.

use super::{Connection, Link, Links};
use crate::delivery::border::Handle;
use std::os::fd::AsRawFd;

const CHUNK: usize = 256;

struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

// What an idle connection costs in its shard; ARCHITECTURE.md has the sum.
const _: () = assert!(size_of::<Slot>() <= 160);

#[derive(Default)]
pub(in crate::gate) struct Slab {
    chunks: Vec<Box<[Slot]>>,
    /// Slots that were used before, the one freed last on top.
    free: Vec<u32>,
    /// Slots below were given out at least once.
    fresh: u32,
    len: usize,
}

impl Slab {
    /// Puts a connection into a slot; `None` when a shard's slots are all taken.
    pub(in crate::gate) fn insert(&mut self, connection: Connection) -> Option<u32> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.fresh == Handle::SLOTS_MAX => return None,
            None => {
                self.fresh += 1;
                self.fresh - 1
            }
        };
        if slot as usize / CHUNK == self.chunks.len() {
            self.chunks.push((0..CHUNK).map(|_| Slot { generation: 1, connection: None }).collect());
        }
        self.slot_mut(slot)?.connection = Some(connection);
        self.len += 1;
        Some(slot)
    }

    /// The slot that the next insert will give.
    pub(in crate::gate) fn next_slot(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.fresh)
    }

    pub(in crate::gate) fn remove(&mut self, slot: u32) -> Option<Connection> {
        let entry = self.slot_mut(slot)?;
        let connection = entry.connection.take()?;
        entry.generation = (entry.generation + 1) % Handle::GENERATIONS;
        self.free.push(slot);
        self.len -= 1;
        Some(connection)
    }

    pub(in crate::gate) fn at(&mut self, slot: u32) -> Option<&mut Connection> {
        self.slot_mut(slot)?.connection.as_mut()
    }

    /// The connection of a handle, to look at.
    pub(in crate::gate) fn shown(&self, handle: Handle) -> Option<&Connection> {
        let entry = self.slot(handle.slot()).filter(|entry| entry.generation == handle.generation())?;
        entry.connection.as_ref()
    }

    /// Brings what a send reads of these slots' records into the cache, all misses at the same time.
    pub(in crate::gate) fn load(&self, slots: &[u32]) {
        for slot in slots {
            if let Some(Slot { connection: Some(connection), .. }) = self.slot(*slot) {
                std::hint::black_box((
                    connection.app,
                    connection.flags.unwritable,
                    connection.outbox.is_some(),
                ));
                std::hint::black_box(connection.socket.as_raw_fd());
            }
        }
    }

    /// The slot of a handle, if its connection is still the one that the handle was made for.
    pub(in crate::gate) fn find(&self, handle: Handle) -> Option<u32> {
        let entry = self.slot(handle.slot())?;
        (entry.generation == handle.generation() && entry.connection.is_some()).then(|| handle.slot())
    }

    pub(in crate::gate) fn generation(&self, slot: u32) -> u32 {
        self.slot(slot).map_or(0, |entry| entry.generation)
    }

    pub(in crate::gate) fn len(&self) -> usize {
        self.len
    }

    /// One past the highest slot ever used.
    pub(in crate::gate) fn end(&self) -> u32 {
        self.fresh
    }

    fn slot(&self, slot: u32) -> Option<&Slot> {
        self.chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)
    }

    fn slot_mut(&mut self, slot: u32) -> Option<&mut Slot> {
        self.chunks.get_mut(slot as usize / CHUNK)?.get_mut(slot as usize % CHUNK)
    }
}

impl Links for Slab {
    fn link(&mut self, slot: u32) -> Option<&mut Link> {
        self.at(slot).map(|connection| &mut connection.link)
    }
}
