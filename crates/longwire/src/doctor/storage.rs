//! The data directory, the disk below it, and the store in it. Nothing is left behind: the probe's file has no name.

use super::Look;
use super::finding::{Finding, Level};
use crate::Failure;
use longwire_server::store::registry::{RegistryOptions, ServerError};
use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Writes of the probe.
const PROBE_WRITES: usize = 16;
/// Bytes of each: a page, as a small commit is.
const PROBE_BYTES: usize = 4096;
/// The probe ends after this, however many writes are left.
const PROBE_TIME_MAX: Duration = Duration::from_secs(3);
/// A sync that takes longer is felt by whoever pushes.
const SYNC_SLOW: Duration = Duration::from_millis(20);
/// A sync of a common server disk.
const SYNC_USUAL: Duration = Duration::from_millis(5);
/// Free bytes above the reserve that leave time to act.
const ROOM_BYTES: u64 = 1024 * 1024 * 1024;
/// Free file entries below which the store may not get its next table.
const ENTRIES_FEW: u64 = 10_000;
/// File systems whose locks and syncs are another machine's word.
const REMOTE: &[&str] = &["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "lustre"];
/// File systems that end with the machine or the container.
const PASSING: &[&str] = &["tmpfs", "ramfs", "overlay"];

/// Everything about the data directory.
pub(super) fn findings(look: &Look) -> Vec<Finding> {
    let folder = &look.config.data_dir;
    let Some(place) = nearest(folder) else {
        return vec![Finding::new(
            Level::Error,
            "data directory",
            folder.display().to_string(),
            "no folder above it exists",
        )];
    };
    let mut findings = vec![directory(folder, &place)];
    findings.extend(file_system(look, &place));
    findings.extend(space(look, &place));
    if findings[0].level != Level::Error {
        findings.push(sync(&place));
    }
    findings.extend(store(folder));
    findings.extend(registry(look, folder));
    findings
}

/// The process that holds the store, as its lock file tells.
pub(super) fn holder(folder: &Path) -> Option<String> {
    let path = folder.join("messages/lock");
    let mut file = File::open(&path).ok()?;
    // Shared, and let go at once: it only asks.
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        _ => return None,
    }
    let mut text = String::new();
    (&mut file).take(20).read_to_string(&mut text).ok()?;
    text.trim().parse::<u32>().ok().map(|pid| pid.to_string())
}

/// The folder, or the first one above it that exists.
fn nearest(folder: &Path) -> Option<PathBuf> {
    let whole = std::path::absolute(folder).ok()?;
    whole.ancestors().find(|path| path.is_dir()).map(Path::to_owned)
}

fn directory(folder: &Path, place: &Path) -> Finding {
    let subject = "data directory";
    let name = folder.display();
    if folder.exists() && !folder.is_dir() {
        let why = "the server keeps its store in a folder of this name and will not start";
        return Finding::new(Level::Error, subject, format!("{name} is not a folder"), why)
            .mended_by(format!("mv '{name}' '{name}.old' && install -d -m 700 '{name}'"));
    }
    if let Err(error) = tempfile::tempfile_in(place) {
        let why = "the server will not start: nothing can be stored. Run this as the server's user";
        return Finding::new(Level::Error, subject, format!("{}: {error}", place.display()), why)
            .mended_by(format!("install -d -o longwire -g longwire -m 700 '{name}'"));
    }
    if !folder.exists() {
        return Finding::well(subject, format!("{name} is made at the first start"));
    }
    let mode = std::fs::metadata(folder).map_or(0o700, |found| found.permissions().mode() & 0o777);
    if mode & 0o077 != 0 {
        let why = "messages and device records lie in it; other users of this machine can reach them";
        return Finding::new(Level::Warning, subject, format!("{name}, mode {mode:o}"), why)
            .mended_by(format!("chmod 700 '{name}'"));
    }
    Finding::well(subject, format!("{name} can be written"))
}

fn file_system(look: &Look, place: &Path) -> Option<Finding> {
    let place = place.canonicalize().ok()?;
    let mounts = look.machine.text("proc/self/mounts")?;
    let under = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?.replace("\\040", " "), words.next()?);
        place.starts_with(&point).then_some((point, kind))
    });
    // Of two mounts on one point the later one is seen.
    let (point, kind) = under.max_by_key(|(point, _)| point.len())?;
    let found = format!("{kind}, mounted on {point}");
    let move_it = "longwire serve --data-dir /var/lib/longwire   # a folder on a local disk (ext4, xfs)";
    if REMOTE.contains(&kind) || kind.starts_with("fuse.") {
        let why = "whether a sync reached a disk, and whether a lock keeps a second server out, is another machine's word; a 202 \
                   promises more than that";
        return Some(Finding::new(Level::Warning, "file system", found, why).mended_by(move_it));
    }
    if PASSING.contains(&kind) {
        let why = "it ends with the machine or the container: what was promised by a 202 is then lost";
        return Some(Finding::new(Level::Warning, "file system", found, why).mended_by(move_it));
    }
    Some(Finding::well("file system", found))
}

fn space(look: &Look, place: &Path) -> Option<Finding> {
    let disk = rustix::fs::statvfs(place).ok()?;
    let (free, entries) = (disk.f_bavail.saturating_mul(disk.f_frsize), disk.f_favail);
    let reserve = look.config.storage_reserve_bytes;
    let mib = |bytes: u64| bytes / (1024 * 1024);
    let found = format!("{} MiB, {} MiB of them in reserve", mib(free), mib(reserve));
    let mend = format!(
        "du -xh --max-depth=1 '{}' | sort -h   # and make room, or give it a larger disk",
        place.display()
    );
    let level = if free <= reserve {
        Level::Error
    } else if free - reserve < ROOM_BYTES {
        Level::Warning
    } else if disk.f_files > 0 && entries < ENTRIES_FEW {
        let found = format!("{entries} file entries are free");
        let why = "the store makes new files as it goes; without entries it stops as on a full disk";
        return Some(Finding::new(Level::Warning, "free space", found, why).mended_by(mend));
    } else {
        return Some(Finding::well("free space", found));
    };
    let why = format!(
        "below the reserve pushes are refused with 503 storage_full; a million waiting messages of 1 KiB take about {} MiB",
        mib(1_000_000 * 1024)
    );
    Some(Finding::new(level, "free space", found, why).mended_by(mend))
}

/// Times a few small synced writes in a file without a name.
fn sync(place: &Path) -> Finding {
    match times(place) {
        Ok(times) if !times.is_empty() => judge_sync(&times),
        Ok(_) => Finding::new(
            Level::Warning,
            "sync",
            "not one write was done in 3 s",
            "the disk hangs or is overloaded",
        ),
        Err(error) => Finding::new(
            Level::Error,
            "sync",
            error.to_string(),
            "a 202 is said only after a sync; without one every push is refused",
        ),
    }
}

/// How long each sync took, sorted.
fn times(place: &Path) -> std::io::Result<Vec<Duration>> {
    let mut file = tempfile::tempfile_in(place)?;
    let bytes = [0xA5; PROBE_BYTES];
    let began = Instant::now();
    let mut times = Vec::with_capacity(PROBE_WRITES);
    while times.len() < PROBE_WRITES && began.elapsed() < PROBE_TIME_MAX {
        let before = Instant::now();
        file.seek(SeekFrom::End(0))?;
        file.write_all(&bytes)?;
        file.sync_data()?;
        times.push(before.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

/// `times` are sorted and not empty.
fn judge_sync(times: &[Duration]) -> Finding {
    let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let found = format!("median {:.2} ms, worst {:.2} ms, of {} writes", ms(median), ms(worst), times.len());
    let level = match median {
        time if time > SYNC_SLOW => Level::Warning,
        time if time > SYNC_USUAL => Level::Advice,
        _ => return Finding::well("sync", found),
    };
    let why = format!(
        "a push is answered after a sync, so it takes at least {:.1} ms; pushes that come together share one, so many callers \
         suffer less than one. A disk with a write cache that outlives a power cut takes less than 1 ms",
        ms(median)
    );
    Finding::new(level, "sync", found, why)
}

/// Whether the store could be opened, judged by what lies there; it is not opened, which would change it.
fn store(folder: &Path) -> Option<Finding> {
    let messages = folder.join("messages");
    let subject = "message store";
    if !messages.exists() {
        return Some(Finding::well(subject, "none yet; it is made at the first start"));
    }
    let name = messages.display();
    if let Some(pid) = holder(folder) {
        return Some(Finding::well(subject, format!("{name} is in use by pid {pid}")));
    }
    let (engine, seal) = (messages.join("engine"), messages.join("seal"));
    let missing = match (engine.join("version").exists(), seal.exists()) {
        (true, false) => "its seal is gone",
        (false, true) => "its engine is gone",
        _ => {
            let refused = [messages.join("lock"), seal].into_iter().find_map(|path| {
                let opened = File::options().read(true).write(true).open(&path);
                opened.err().filter(|_| path.exists()).map(|error| (path, error))
            });
            return Some(match refused {
                None => Finding::well(subject, format!("{name} is complete and free")),
                Some((path, error)) => Finding::new(
                    Level::Error,
                    subject,
                    format!("{}: {error}", path.display()),
                    "the server will not start. Run this as the server's user",
                )
                .mended_by(format!("chown -R longwire:longwire '{}'", folder.display())),
            });
        }
    };
    let why = "part of the store is missing, so the server will not start: what it acknowledged may be lost. Restore the whole \
               folder from a backup, or move it away to start empty";
    Some(
        Finding::new(Level::Error, subject, format!("{name}: {missing}"), why)
            .mended_by(format!("mv '{name}' '{name}.damaged'")),
    )
}

/// Opens the stores and closes them again, if there are some, nobody has them and nothing is wrong with them so far.
pub(super) fn opened(look: &Look, so_far: &[Finding]) -> Result<Option<Finding>, Failure> {
    let folder = &look.config.data_dir;
    let wrong = |finding: &Finding| {
        finding.level == Level::Error && ["message store", "registry"].contains(&finding.subject.as_str())
    };
    if look.process.is_some() || !folder.join("messages").exists() || so_far.iter().any(wrong) {
        return Ok(None);
    }
    let runtime = longwire_server::node::runtime().map_err(Failure::failed)?;
    let began = Instant::now();
    let done = runtime.block_on(longwire_server::node::stores::try_open(&look.config));
    let subject = "open of the stores";
    Ok(Some(match done {
        Ok(()) => Finding::well(subject, format!("done in {:.1} s", began.elapsed().as_secs_f64())),
        // The error says itself what to do about it.
        Err(error) => Finding::new(Level::Error, subject, error.to_string(), "the server will not start"),
    }))
}

/// The database of apps and devices, where it is a server's. It is asked as a start would ask it, but not changed.
fn server(look: &Look, terms: &RegistryOptions) -> Finding {
    let subject = "registry";
    let asked = longwire_server::node::runtime()
        .map_err(|error| error.to_string())
        .map(|runtime| runtime.block_on(longwire_server::store::registry::look(terms)));
    let name = longwire_server::store::registry::shown(&terms.url);
    let why = "apps and devices are in it; the server will not start without it";
    match asked {
        Ok(Ok(())) => Finding::well(subject, format!("{name} answers and is free")),
        Ok(Err(ServerError::Taken { .. })) if look.process.is_some() => {
            Finding::well(subject, format!("{name} answers and is in use"))
        }
        // The error says itself what to do about it.
        Ok(Err(error)) => Finding::new(Level::Error, subject, error.to_string(), why),
        Err(error) => Finding::new(Level::Error, subject, error, why),
    }
}

/// The database of apps and devices, where it is a file of ours.
fn registry(look: &Look, folder: &Path) -> Option<Finding> {
    let terms = &look.config.registry;
    if !terms.url.is_empty() {
        return (!terms.url.starts_with("sqlite:")).then(|| server(look, terms));
    }
    let path = folder.join("registry.db");
    if !path.exists() {
        return None; // made with the message store
    }
    let mut head = [0; 16];
    let read =
        File::options().read(true).write(true).open(&path).and_then(|mut file| file.read_exact(&mut head));
    let name = path.display();
    let (found, why, mend) = match read {
        Ok(()) if &head == b"SQLite format 3\0" => {
            return Some(Finding::well("registry", format!("{name} can be read and written")));
        }
        Ok(()) => (
            format!("{name} is not a database"),
            "apps and devices are in it; the server will not start. Restore it from a backup, or move it away to start without",
            format!("mv '{name}' '{name}.damaged'"),
        ),
        Err(error) => (
            format!("{name}: {error}"),
            "apps and devices are in it; the server will not start. Run this as the server's user",
            format!("chown longwire:longwire '{name}'"),
        ),
    };
    Some(Finding::new(Level::Error, "registry", found, why).mended_by(mend))
}
