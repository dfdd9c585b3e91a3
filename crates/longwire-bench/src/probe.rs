//! What a durable write costs on a file system: the floor under every accepted push.

use std::fs::{File, OpenOptions, remove_file};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::error::BenchError;
use crate::latency::{Latencies, Percentiles};

const WRITE_BYTES: usize = 4096;
const WRITES_MAX: u32 = 2_000;
const PROBE_TIME: Duration = Duration::from_secs(2);

/// Appends of 4 KiB, each followed by fdatasync.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Fsync {
    pub(crate) directory: String,
    pub(crate) per_s: f64,
    pub(crate) latency_ms: Option<Percentiles>,
}

/// Measures for at most two seconds in a file of `directory` that is removed afterwards.
pub(crate) fn fsync(directory: &Path) -> Result<Fsync, BenchError> {
    let path = directory.join(format!("longwire-fsync-probe-{}", std::process::id()));
    let what = format!("fsync probe in {}", directory.display());
    let opened = OpenOptions::new().create_new(true).append(true).open(&path);
    let mut file = opened.map_err(BenchError::system(what.clone()))?;
    let measured = measure(&mut file).map_err(BenchError::system(what));
    drop(file);
    let _ = remove_file(&path);
    let (per_s, latencies) = measured?;
    Ok(Fsync { directory: directory.display().to_string(), per_s, latency_ms: latencies.percentiles() })
}

fn measure(file: &mut File) -> std::io::Result<(f64, Latencies)> {
    let mut latencies = Latencies::default();
    let block = [0x5A; WRITE_BYTES];
    let begin = Instant::now();
    let mut writes = 0;
    while writes < WRITES_MAX && begin.elapsed() < PROBE_TIME {
        let start = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        latencies.record_ns(start.elapsed().as_nanos() as u64);
        writes += 1;
    }
    Ok((f64::from(writes) / begin.elapsed().as_secs_f64(), latencies))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_probe_leaves_nothing_behind() {
        let directory = std::env::temp_dir().join(format!("longwire-probe-test-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let fsync = fsync(&directory).unwrap();
        assert!(fsync.per_s > 0.0 && fsync.latency_ms.is_some());
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        std::fs::remove_dir(&directory).unwrap();
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let error = fsync(Path::new("/nowhere/at/all")).unwrap_err().to_string();
        assert!(error.contains("/nowhere/at/all"), "{error}");
    }
}
