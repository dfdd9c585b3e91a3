//! The number of the last acknowledged commit, kept beside the engine.
//!
//! The engine treats a journal that it cannot read to the end as one whose last batch was torn, and goes on without the
//! rest. A torn batch was never acknowledged, so the seal's number is not above the store's; when it is, acknowledged
//! commits are missing. Two slots take turns, so that one torn write leaves the other. The seal is not synced: after a
//! power failure it may be old, never new, because it is written after the commit's own sync.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

const SLOT_BYTES: usize = 24;
const MAGIC: [u8; 8] = *b"lwseal01";

/// The seal, open.
pub(crate) struct Seal {
    file: File,
    number: u64,
}

fn slot(number: u64) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    slot[..8].copy_from_slice(&MAGIC);
    slot[8..16].copy_from_slice(&number.to_be_bytes());
    let hash = blake3::hash(&slot[..16]);
    slot[16..].copy_from_slice(&hash.as_bytes()[..8]);
    slot
}

fn read_slot(bytes: &[u8]) -> Option<u64> {
    let number = u64::from_be_bytes(bytes.get(8..16)?.try_into().ok()?);
    (bytes == slot(number)).then_some(number)
}

impl Seal {
    /// Makes the file with the number 0 and syncs it and its folder.
    pub(crate) fn create(path: &Path) -> std::io::Result<Seal> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        file.write_all_at(&slot(0), 0)?;
        file.write_all_at(&slot(0), SLOT_BYTES as u64)?;
        file.sync_all()?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(Seal { file, number: 0 })
    }

    /// Opens the file; the error says what is wrong with it.
    pub(crate) fn open(path: &Path) -> Result<Seal, String> {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| error.to_string())?;
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        if bytes.len() != 2 * SLOT_BYTES {
            return Err(format!("it has {} bytes, not {}", bytes.len(), 2 * SLOT_BYTES));
        }
        let (first, second) = bytes.split_at(SLOT_BYTES);
        match (read_slot(first), read_slot(second)) {
            (Some(first), Some(second)) => Ok(Seal { file, number: first.max(second) }),
            _ => Err("its checksum does not match".to_owned()),
        }
    }

    /// The last acknowledged commit.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Notes that this commit is about to be acknowledged.
    pub(crate) fn write(&mut self, number: u64) -> std::io::Result<()> {
        let place = (number % 2) * SLOT_BYTES as u64;
        self.file.write_all_at(&slot(number), place)?;
        self.number = number;
        Ok(())
    }
}
