//! An append-only file of checked records.
//!
//! `magic (8) · client id u64 · records`, a record is `length u32 · CRC-32 of the body u32 · body`, big-endian. The first
//! record that is cut short or does not fit its check ends the file: what was written but never acknowledged when the power
//! went. From there on it is cut off, and laid beside as `<name>.cut` so that nothing is destroyed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use super::checksum::crc32;

const HEADER_BYTES: usize = 16;
/// In front of each record's body.
const RECORD_HEAD_BYTES: usize = 8;
/// A record's body; a longer one is taken for a damaged length.
const RECORD_BYTES_MAX: usize = 128 * 1024;
/// A larger file is not one of ours: compaction keeps them at twice their bound.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The open file. Its calls block on the disk.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    header: [u8; HEADER_BYTES],
    bytes: u64,
    /// A write failed, so what the file holds behind `bytes` is not known: nothing is appended before it was rewritten.
    broken: bool,
}

impl Journal {
    /// Opens or makes the file; gives the bodies of its records, oldest first.
    ///
    /// # Errors
    /// The disk's, and `InvalidData` for a file of another kind or of another device.
    pub(crate) fn open(path: PathBuf, magic: [u8; 8], client: u64) -> io::Result<(Journal, Vec<Vec<u8>>)> {
        let mut header = [0; HEADER_BYTES];
        header[..8].copy_from_slice(&magic);
        header[8..].copy_from_slice(&client.to_be_bytes());
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(&path)?;
        let mut text = Vec::new();
        (&mut file).take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(invalid("too large to be a file of this version"));
        }
        if text.len() < HEADER_BYTES {
            // New, or its very first write was cut short, before anything could have been acknowledged.
            file.set_len(0)?;
            file.write_all(&header)?;
            file.sync_all()?;
            sync_folder(&path)?;
            let journal = Journal { path, file, header, bytes: HEADER_BYTES as u64, broken: false };
            return Ok((journal, Vec::new()));
        }
        if text[..8] != magic {
            return Err(invalid("not a file of this version"));
        }
        if text[8..HEADER_BYTES] != header[8..] {
            return Err(invalid("belongs to another device"));
        }
        let (records, end) = read_records(&text);
        if end < text.len() {
            tracing::warn!(path = %path.display(), bytes = text.len() - end, "the damaged end of a file was cut off");
            fs::write(path.with_extension("cut"), &text[end..])?;
            file.set_len(end as u64)?;
            file.sync_all()?;
        }
        Ok((Journal { path, file, header, bytes: end as u64, broken: false }, records))
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether a write failed, so that [`Journal::rewrite`] must come before the next append.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Appends records; with `sync` they are on the disk when this returns.
    ///
    /// # Errors
    /// The disk's. None of the records counts then.
    pub(crate) fn append(&mut self, records: &[u8], sync: bool) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::from(ErrorKind::BrokenPipe));
        }
        let written =
            self.file.write_all(records).and_then(|()| if sync { self.file.sync_data() } else { Ok(()) });
        match written {
            Ok(()) => self.bytes += records.len() as u64,
            Err(_) => {
                self.broken = true;
                // The rewrite does not need it, but a process that ends now should leave no record that was refused.
                let _ = self.file.set_len(self.bytes);
            }
        }
        written
    }

    /// Replaces the file, in one step, by one that holds only `records`.
    ///
    /// # Errors
    /// The disk's; the old file stays then.
    pub(crate) fn rewrite(&mut self, records: &[u8]) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(&self.header)?;
        file.write_all(records)?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        sync_folder(&self.path)?;
        self.file = OpenOptions::new().append(true).open(&self.path)?;
        self.bytes = (HEADER_BYTES + records.len()) as u64;
        self.broken = false;
        Ok(())
    }
}

/// Appends one record to `out`.
pub(crate) fn put_record(body: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.extend_from_slice(&crc32(body).to_be_bytes());
    out.extend_from_slice(body);
}

/// Bytes of a record on disk.
pub(crate) fn record_bytes(body_bytes: usize) -> usize {
    RECORD_HEAD_BYTES + body_bytes
}

/// The whole records, and where they end.
fn read_records(text: &[u8]) -> (Vec<Vec<u8>>, usize) {
    let (mut records, mut at) = (Vec::new(), HEADER_BYTES);
    while let Some((head, rest)) = text[at..].split_first_chunk::<RECORD_HEAD_BYTES>() {
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let check = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
        let Some(body) = rest.get(..length).filter(|body| (1..=RECORD_BYTES_MAX).contains(&body.len()))
        else {
            break;
        };
        if crc32(body) != check {
            break;
        }
        records.push(body.to_vec());
        at += record_bytes(length);
    }
    (records, at)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    // Only Unix lets a folder be synced; elsewhere the file system does it by itself.
    match path.parent() {
        Some(folder) if cfg!(unix) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MAGIC: [u8; 8] = *b"LWTESTS1";

    fn open(folder: &Path) -> io::Result<(Journal, Vec<Vec<u8>>)> {
        Journal::open(folder.join("journal"), MAGIC, 7)
    }

    fn record(body: &[u8]) -> Vec<u8> {
        let mut record = Vec::new();
        put_record(body, &mut record);
        record
    }

    #[test]
    fn a_tail_torn_at_any_byte_costs_only_the_torn_record() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(folder.path()).unwrap();
        journal.append(&record(b"one"), true).unwrap();
        let whole = journal.bytes();
        journal.append(&record(b"two"), false).unwrap();
        let text = fs::read(folder.path().join("journal")).unwrap();
        for cut in whole as usize..text.len() {
            fs::write(folder.path().join("journal"), &text[..cut]).unwrap();
            let (mut journal, records) = open(folder.path()).unwrap();
            assert_eq!(records, [b"one"], "cut at {cut}");
            journal.append(&record(b"three"), true).unwrap();
            assert_eq!(open(folder.path()).unwrap().1, [&b"one"[..], b"three"], "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_file_there_and_what_was_cut_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(folder.path()).unwrap();
        journal.append(&[record(b"one"), record(b"two")].concat(), true).unwrap();
        let path = folder.path().join("journal");
        let text = fs::read(&path).unwrap();
        for at in HEADER_BYTES..text.len() {
            let mut damaged = text.clone();
            damaged[at] ^= 0x10;
            fs::write(&path, &damaged).unwrap();
            let (_, records) = open(folder.path()).unwrap();
            let whole = usize::from(at >= HEADER_BYTES + record(b"one").len());
            assert_eq!(records.len(), whole, "bit flipped at {at}");
            let kept = fs::read(path.with_extension("cut")).unwrap();
            assert_eq!(kept, damaged[HEADER_BYTES + whole * record(b"one").len()..]);
        }
    }

    #[test]
    fn a_rewrite_leaves_only_what_it_was_given() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(folder.path()).unwrap();
        journal.append(&record(b"old"), true).unwrap();
        journal.rewrite(&record(b"new")).unwrap();
        journal.append(&record(b"newer"), false).unwrap();
        assert_eq!(open(folder.path()).unwrap().1, [&b"new"[..], b"newer"]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn after_a_failed_write_nothing_is_appended_before_a_rewrite() {
        let folder = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(folder.path()).unwrap();
        journal.append(&record(b"one"), true).unwrap();
        journal.file = OpenOptions::new().append(true).open("/dev/full").unwrap();
        assert_eq!(journal.append(&record(b"two"), true).unwrap_err().kind(), ErrorKind::StorageFull);
        assert!(journal.is_broken() && journal.append(&record(b"three"), true).is_err());
        assert_eq!(open(folder.path()).unwrap().1, [b"one"]);
        journal.rewrite(&[record(b"one"), record(b"four")].concat()).unwrap();
        journal.append(&record(b"five"), true).unwrap();
        assert_eq!(open(folder.path()).unwrap().1, [&b"one"[..], b"four", b"five"]);
    }

    #[test]
    fn a_file_of_another_kind_or_device_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        drop(open(folder.path()).unwrap());
        let path = || folder.path().join("journal");
        assert_eq!(Journal::open(path(), MAGIC, 8).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(Journal::open(path(), *b"LWOTHER1", 7).unwrap_err().kind(), ErrorKind::InvalidData);
    }
}
