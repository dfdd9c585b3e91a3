//! The engine as the threads of the store share it, and how it opens.

use super::OpenError;
use super::layout::keys;
use super::layout::rows::Meta;
use super::layout::space::{Keyspaces, SPACE_COUNT, SPACES, Space};
use super::write::bodies::Stored;
use super::write::caps::Caps;
use super::write::seal::Seal;
use crate::domain::WallMs;
use crate::store::lock::FolderLock;
use crate::store::port::{StoreError, StoreOptions};
use fjall::{Database, PersistMode, Readable};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of table blocks that are kept in memory.
pub(super) const BLOCK_CACHE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Journals that may lie on disk before what holds them back is written to tables.
const JOURNAL_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Tables that are kept open.
const OPEN_FILES_MAX: usize = 256;
/// Threads that write tables and merge them.
const ENGINE_THREADS: usize = 2;
/// A store up to this size is read once from end to end when it opens, so that a damaged table is found then and not in
/// the middle of a day. Beyond it the open would take seconds; a damaged block is then found when it is read.
const VERIFY_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// One incarnation is made of each span of this length, so that a store that was wiped and made anew does not repeat
/// positions. 16 bits of it reach 29 years.
const INCARNATION_MS: u64 = 4 * 3600 * 1000;
/// Says that the store is a copy from before; gone once it was seen.
const RESTORED: &str = "restored";
/// Where incarnations begin: 2026-01-01.
const INCARNATION_EPOCH_MS: u64 = 1_767_225_600_000;

/// The engine failed, or holds what was never written. The text is for the log and the caller.
#[derive(Clone, Debug)]
pub(crate) struct Fault(pub(crate) String);

impl From<fjall::Error> for Fault {
    fn from(error: fjall::Error) -> Fault {
        Fault(error.to_string())
    }
}

impl Fault {
    /// A row that does not decode.
    pub(crate) fn damaged(space: Space) -> Fault {
        Fault(format!("a row of {} is damaged", space.name()))
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> StoreError {
        StoreError::Unavailable(fault.0)
    }
}

/// The engine. Fields drop in this order: the folder's lock goes last.
pub(crate) struct Engine {
    pub(crate) spaces: Keyspaces,
    pub(crate) database: Database,
    pub(crate) incarnation: u16,
    pub(crate) caps: Arc<Caps>,
    pub(crate) stored: Arc<Stored>,
    /// The wall clock.
    pub(crate) clock: Arc<dyn Fn() -> WallMs + Send + Sync>,
    _lock: FolderLock,
}

/// What a fresh open hands to the writer beside the engine.
pub(crate) struct Opened {
    pub(crate) engine: Engine,
    pub(crate) meta: Meta,
    pub(crate) seal: Seal,
}

impl Engine {
    /// The value of a key, as last committed.
    pub(crate) fn get(&self, space: Space, key: &[u8]) -> Result<Option<fjall::UserValue>, Fault> {
        Ok(self.spaces.of(space).get(key)?)
    }
}

/// What an operator can do about a damaged file.
fn remedy(folder: &Path) -> String {
    format!(
        "restore {0} from a backup, or move it away to start empty (what was waiting for devices is then lost)",
        folder.display()
    )
}

fn corrupt(file: &Path, folder: &Path, cause: impl Into<String>) -> OpenError {
    OpenError::Corrupt { path: file.display().to_string(), cause: cause.into(), remedy: remedy(folder) }
}

/// Opens or makes the engine in the options' folder.
pub(crate) fn open(options: &StoreOptions) -> Result<Opened, OpenError> {
    let folder = &options.folder;
    let lock = FolderLock::take(folder)?;
    let engine_folder = folder.join("engine");
    let seal_path = folder.join("seal");
    clear_unfinished(&engine_folder, &seal_path)?;
    let fresh = !seal_path.exists() && !engine_folder.exists();
    let (spaces, database) = open_engine(&engine_folder, folder)?;
    let mut meta = match read_meta(&spaces).map_err(|cause| corrupt(&engine_folder, folder, cause))? {
        Some(meta) => meta,
        None => begin(&spaces, &database, options).map_err(|fault| not_writable(folder, fault.0))?,
    };
    raise_incarnation(&spaces, &database, &mut meta, options)
        .map_err(|fault| not_writable(folder, fault.0))?;
    let seal = if fresh || (meta.commits == 0 && !seal_path.exists()) {
        Seal::create(&seal_path).map_err(|error| not_writable(&seal_path, error.to_string()))?
    } else {
        Seal::open(&seal_path).map_err(|cause| corrupt(&seal_path, folder, cause))?
    };
    check_complete(&spaces, &meta, &seal).map_err(|cause| corrupt(&engine_folder, folder, cause))?;
    if database.disk_space().unwrap_or(u64::MAX) <= VERIFY_BYTES_MAX + 64 * 1024 * 1024 {
        verify(&spaces, &database).map_err(|cause| corrupt(&engine_folder, folder, cause))?;
    }
    let stored = stored(&spaces).map_err(|cause| corrupt(&engine_folder, folder, cause))?;
    let incarnation = meta.incarnation;
    let (caps, clock) = (Arc::default(), options.clock.clone());
    let engine = Engine { spaces, database, incarnation, caps, stored, clock, _lock: lock };
    Ok(Opened { engine, meta, seal })
}

/// A process that ended while it made the engine left a folder without a version file. The seal is made after it, so
/// without a seal nothing was ever acknowledged here.
fn clear_unfinished(engine_folder: &Path, seal: &Path) -> Result<(), OpenError> {
    if engine_folder.exists() && !engine_folder.join("version").exists() && !seal.exists() {
        std::fs::remove_dir_all(engine_folder)
            .map_err(|error| not_writable(engine_folder, error.to_string()))?;
    }
    Ok(())
}

fn not_writable(path: &Path, cause: String) -> OpenError {
    OpenError::NotWritable { path: path.display().to_string(), cause }
}

fn open_engine(engine_folder: &PathBuf, folder: &Path) -> Result<(Keyspaces, Database), OpenError> {
    let opening = || {
        let database = Database::builder(engine_folder)
            .cache_size(BLOCK_CACHE_BYTES_MAX)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .max_cached_files(Some(OPEN_FILES_MAX))
            .worker_threads(ENGINE_THREADS)
            .open()?;
        Ok::<_, fjall::Error>((Keyspaces::open(&database)?, database))
    };
    // The engine asserts on some damage instead of returning an error.
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(opening)) {
        Ok(Ok(open)) => Ok(open),
        Ok(Err(fjall::Error::Locked)) => {
            let path = engine_folder.join("lock").display().to_string();
            Err(OpenError::Locked { path, holder: String::new() })
        }
        Ok(Err(fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)))) => {
            use std::io::ErrorKind as Kind;
            match error.kind() {
                Kind::PermissionDenied
                | Kind::StorageFull
                | Kind::ReadOnlyFilesystem
                | Kind::QuotaExceeded => Err(not_writable(folder, error.to_string())),
                _ => Err(corrupt(engine_folder, folder, error.to_string())),
            }
        }
        Ok(Err(error)) => Err(corrupt(engine_folder, folder, error.to_string())),
        Err(_) => Err(corrupt(engine_folder, folder, "the engine could not make sense of its files")),
    }
}

fn read_meta(spaces: &Keyspaces) -> Result<Option<Meta>, String> {
    let row = spaces.of(Space::Meta).get(keys::META).map_err(|error| error.to_string())?;
    match row {
        Some(row) => match Meta::decode(&row) {
            Some(meta) => Ok(Some(meta)),
            None => Err("its format is not one that this version reads".to_owned()),
        },
        None => {
            for space in SPACES {
                if !spaces.of(space).is_empty().map_err(|error| error.to_string())? {
                    return Err(format!("its first row is gone, but {} is not empty", space.name()));
                }
            }
            Ok(None)
        }
    }
}

fn incarnation_at(now: WallMs) -> u16 {
    let span = now.0.saturating_sub(INCARNATION_EPOCH_MS) / INCARNATION_MS;
    u16::try_from(span).unwrap_or(u16::MAX).max(1)
}

/// Writes the first row.
fn begin(spaces: &Keyspaces, database: &Database, options: &StoreOptions) -> Result<Meta, Fault> {
    let incarnation = incarnation_at((options.clock)());
    let meta = Meta { incarnation, commits: 0, touched: [0; SPACE_COUNT] };
    let mut batch = database.batch().durability(Some(PersistMode::SyncAll));
    batch.insert(spaces.of(Space::Meta), keys::META, meta.encode());
    batch.commit()?;
    Ok(meta)
}

/// A store that is a copy from before has given positions, after the copy was made, that it does not know of. Whoever puts
/// a copy in place says so by an empty file [`RESTORED`] beside `engine`: all positions from now on are above those.
fn raise_incarnation(
    spaces: &Keyspaces,
    database: &Database,
    meta: &mut Meta,
    options: &StoreOptions,
) -> Result<(), Fault> {
    let marker = options.folder.join(RESTORED);
    if !marker.exists() {
        return Ok(());
    }
    let unwritable = |error: std::io::Error| Fault(format!("{}: {error}", marker.display()));
    meta.incarnation = incarnation_at((options.clock)()).max(meta.incarnation.saturating_add(1));
    let mut batch = database.batch().durability(Some(PersistMode::SyncAll));
    batch.insert(spaces.of(Space::Meta), keys::META, meta.encode());
    batch.commit()?;
    // The marker goes last: a crash before this raises once more, which does no harm.
    std::fs::remove_file(&marker).map_err(unwritable)?;
    std::fs::File::open(&options.folder).and_then(|folder| folder.sync_all()).map_err(unwritable)?;
    tracing::warn!(
        incarnation = meta.incarnation,
        "the store was restored from a copy: positions begin anew"
    );
    Ok(())
}

/// Whether all that was acknowledged is there. The engine drops the end of a journal that it cannot read, and a space
/// whose buffer had been written to a table keeps what another space lost; so each space is asked for its last commit.
fn check_complete(spaces: &Keyspaces, meta: &Meta, seal: &Seal) -> Result<(), String> {
    if meta.commits < seal.number() {
        return Err(format!(
            "it holds commits up to {}, but {} were acknowledged",
            meta.commits,
            seal.number()
        ));
    }
    for space in SPACES {
        if space == Space::Meta {
            continue;
        }
        let mark = spaces.of(space).get(keys::MARK).map_err(|error| error.to_string())?;
        let mark = match mark {
            Some(row) => {
                u64::from_be_bytes(row.as_ref().try_into().map_err(|_| "a mark is damaged".to_owned())?)
            }
            None => 0,
        };
        let touched = meta.touched[space as usize];
        if mark != touched {
            return Err(format!(
                "{} holds commits up to {mark}, but {touched} was acknowledged",
                space.name()
            ));
        }
    }
    Ok(())
}

fn stored(spaces: &Keyspaces) -> Result<Arc<Stored>, String> {
    let reading = || Stored::load(spaces).map(Arc::new).map_err(|fault| fault.0);
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(reading))
        .unwrap_or_else(|_| Err("the engine could not read its tables".to_owned()))
}

/// Reads everything once; each block carries a checksum that the engine compares.
fn verify(spaces: &Keyspaces, database: &Database) -> Result<(), String> {
    let reading = || {
        let snapshot = database.snapshot();
        for space in SPACES {
            for entry in snapshot.iter(spaces.of(space)) {
                entry.into_inner().map_err(|error| format!("{}: {error}", space.name()))?;
            }
        }
        Ok(())
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(reading))
        .unwrap_or_else(|_| Err("the engine could not read its tables".to_owned()))
}
