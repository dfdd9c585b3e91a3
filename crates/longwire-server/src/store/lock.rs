//! One process per folder.

use super::messages::OpenError;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

/// A folder that this process holds; freed when dropped, or by the system when the process ends.
pub(crate) struct FolderLock(File);

impl FolderLock {
    /// Makes the folder if it is missing and takes its `lock` file.
    pub(crate) fn take(folder: &Path) -> Result<FolderLock, OpenError> {
        let refused = |path: &Path, error: std::io::Error| OpenError::NotWritable {
            path: path.display().to_string(),
            cause: error.to_string(),
        };
        std::fs::create_dir_all(folder).map_err(|error| refused(folder, error))?;
        FolderLock::take_file(&folder.join("lock"))
    }

    /// Takes a lock file, made if it is missing.
    pub(crate) fn take_file(path: &Path) -> Result<FolderLock, OpenError> {
        let refused = |error: std::io::Error| OpenError::NotWritable {
            path: path.display().to_string(),
            cause: error.to_string(),
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(refused)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(locked(path, &mut file)),
            Err(error) => return Err(refused(error.into())),
        }
        // The number is only for the reader of the error above, so it need not be synced.
        file.set_len(0).map_err(refused)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(refused)?;
        Ok(FolderLock(file))
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Closing the file frees it too; this says so.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

fn locked(path: &Path, file: &mut File) -> OpenError {
    let mut text = String::new();
    let pid = file.take(20).read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok());
    OpenError::Locked {
        path: path.display().to_string(),
        holder: pid.map_or_else(String::new, |pid| format!(" (pid {pid})")),
    }
}
