//! What a device keeps on disk, in a folder of its own.
//!
//! - `outbox`: messages to the business until they are answered; on disk before `send` resolves.
//! - `remembered`: which messages the application has acked, so that a restarted process does not show them again.
//! - `journal`: the file format of both; `checksum` is its check.
//!
//! A folder belongs to one device and to one process at a time: a lock file holds it.

mod checksum;
mod journal;
pub(crate) mod outbox;
pub(crate) mod remembered;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use longwire_proto::id::ClientId;

use journal::Journal;

/// Why a state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another device has it open, in this process or another one.
    #[error("{} is in use by another device", .0.display())]
    InUse(PathBuf),
    /// The disk refuses, or the file is of another device or version; the file is named.
    #[error("{}: {source}", .path.display())]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The held folder. The lock goes when the last part that uses the folder does.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    client: ClientId,
    _lock: Arc<File>,
}

impl Folder {
    /// Makes the folder if it is not there, and holds it.
    pub(crate) fn hold(path: &Path, client: ClientId) -> Result<Folder, StateError> {
        let disk = |source| StateError::Disk { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(disk)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join("lock"))
            .map_err(disk)?;
        match lock.try_lock() {
            Ok(()) => Ok(Folder { path: path.to_owned(), client, _lock: Arc::new(lock) }),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => Err(disk(source)),
        }
    }

    fn journal(&self, name: &str, magic: [u8; 8]) -> Result<(Journal, Vec<Vec<u8>>), StateError> {
        let path = self.path.join(name);
        Journal::open(path.clone(), magic, self.client.0).map_err(|source| StateError::Disk { path, source })
    }
}
