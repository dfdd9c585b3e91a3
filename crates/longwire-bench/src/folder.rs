//! A folder for a server's data that lasts as long as a measurement.

use std::path::PathBuf;

use crate::error::BenchError;
use crate::random::Random;

/// Removed at the end, with all that is in it.
#[derive(Debug)]
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    /// A name that nobody has yet, among temporary files; the server makes the folder.
    pub(crate) fn name(scenario: &str) -> Result<Folder, BenchError> {
        let name = format!("longwire-{scenario}-{:016x}", Random::seeded()?.below(u64::MAX));
        Ok(Folder(std::env::temp_dir().join(name)))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
