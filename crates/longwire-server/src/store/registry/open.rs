//! Opening the registry's file.

use super::dialect;
use crate::store::lock::FolderLock;
use crate::store::messages::OpenError;
use sqlx::SqlitePool;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

/// Embedded at build.
static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// Connections to the file: one writes, the others read.
const CONNECTIONS_MAX: u32 = 4;
/// How long a statement waits for another connection's write.
const BUSY_MAX: Duration = Duration::from_secs(5);
/// A file up to this size is read once from end to end when it opens.
const CHECK_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Opens the file, takes it for this process, and brings its tables up to date.
pub(super) async fn open(url: &str) -> Result<(SqlitePool, FolderLock), OpenError> {
    let refused = |cause: String| OpenError::NotWritable { path: url.to_owned(), cause };
    let options = SqliteConnectOptions::from_str(url).map_err(|error| refused(error.to_string()))?;
    let path = options.get_filename().to_path_buf();
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| OpenError::NotWritable {
            path: folder.display().to_string(),
            cause: error.to_string(),
        })?;
    }
    // The database's own locks let two servers share the file; two servers with one token key and two message stores
    // would each hold half the truth.
    let mut lock_path = path.clone().into_os_string();
    lock_path.push(".lock");
    let lock = FolderLock::take_file(Path::new(&lock_path))?;
    let options = options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_MAX);
    let pool = SqlitePoolOptions::new()
        .max_connections(CONNECTIONS_MAX)
        .connect_with(options)
        .await
        .map_err(|error| refusal(&path, &error))?;
    match prepare(&pool, &path).await {
        Ok(()) => Ok((pool, lock)),
        Err(error) => {
            pool.close().await;
            Err(error)
        }
    }
}

async fn prepare(pool: &SqlitePool, path: &Path) -> Result<(), OpenError> {
    let failed = |error: sqlx::Error| refusal(path, &error);
    let (owner,): (i64,) =
        sqlx::query_as(dialect::READ_APPLICATION_ID).fetch_one(pool).await.map_err(failed)?;
    let (tables,): (i64,) = sqlx::query_as(dialect::COUNT_TABLES).fetch_one(pool).await.map_err(failed)?;
    // An interrupted first start leaves at most the table of migrations.
    if tables > 1 && owner != dialect::APPLICATION_ID {
        return Err(corrupt(path, "it is the database of another program".to_owned()));
    }
    if std::fs::metadata(path).is_ok_and(|file| file.len() <= CHECK_BYTES_MAX) {
        let (verdict,): (String,) =
            sqlx::query_as(dialect::QUICK_CHECK).fetch_one(pool).await.map_err(failed)?;
        if verdict != "ok" {
            return Err(corrupt(path, verdict));
        }
    }
    match MIGRATIONS.run(pool).await {
        Ok(()) => Ok(()),
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
            Err(refusal(path, &error))
        }
        Err(MigrateError::VersionMissing(version)) => Err(corrupt(
            path,
            format!(
                "its tables are of version {version}, which this server does not know; run the newer server"
            ),
        )),
        Err(error) => Err(corrupt(path, error.to_string())),
    }
}

/// SQLite's primary result codes that say who erred.
fn refusal(path: &Path, error: &sqlx::Error) -> OpenError {
    let cause = error.to_string();
    let code = match error {
        sqlx::Error::Database(error) => error.code().and_then(|code| code.parse::<u32>().ok()),
        _ => None,
    };
    let path_text = path.display().to_string();
    match code.map(|code| code & 0xFF) {
        // BUSY, LOCKED
        Some(5 | 6) => OpenError::Locked { path: path_text, holder: String::new() },
        // CORRUPT, NOTADB, SCHEMA-level ERROR
        Some(11 | 26 | 1) => corrupt(path, cause),
        _ => OpenError::NotWritable { path: path_text, cause },
    }
}

fn corrupt(path: &Path, cause: String) -> OpenError {
    let remedy = format!(
        "restore {0} from a backup, or move it away with {0}-wal and {0}-shm to start empty (devices then register anew)",
        path.display()
    );
    OpenError::Corrupt { path: path.display().to_string(), cause, remedy }
}
