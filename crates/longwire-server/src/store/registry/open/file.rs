//! A file of SQLite.

use super::{Lock, SQLITE, options, pool};
use crate::store::lock::FolderLock;
use crate::store::messages::OpenError;
use crate::store::registry::database::Database;
use crate::store::registry::dialect::Dialect;
use crate::store::registry::health::RegistryHealth;
use crate::store::registry::statements::APPLICATION_ID;
use sqlx::AnyConnection;
use sqlx::migrate::MigrateError;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use std::path::Path;
use std::str::FromStr;

/// Connections to the file: one writes, the others read.
const CONNECTIONS_MAX: u32 = 4;
/// A file up to this size is read once from end to end when it opens.
const CHECK_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Opens the file, takes it for this process, and brings its tables up to date.
pub(super) async fn open(url: &str, health: RegistryHealth) -> Result<(Database, Lock), OpenError> {
    let refused = |cause: String| OpenError::NotWritable { path: url.to_owned(), cause };
    let path = SqliteConnectOptions::from_str(url).map_err(|error| refused(error.to_string()))?;
    let path = path.get_filename().to_path_buf();
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| OpenError::NotWritable {
            path: folder.display().to_string(),
            cause: error.to_string(),
        })?;
    }
    // The database's own locks let two servers share the file.
    let mut lock_path = path.clone().into_os_string();
    lock_path.push(".lock");
    let lock = FolderLock::take_file(Path::new(&lock_path))?;
    let options = options(&made_if_missing(url)).map_err(|error| refused(error.to_string()))?;
    let failed = |error: sqlx::Error| refusal(&path, &error);
    let mut connection = options.connect().await.map_err(failed)?;
    let prepared = async {
        Dialect::Sqlite.begin_session(&mut connection).await.map_err(failed)?;
        prepare(&mut connection, &path).await
    };
    let prepared = prepared.await;
    // What it has not written yet it writes now, or the next start does.
    let _ = connection.close().await;
    prepared?;
    let pool = pool(Dialect::Sqlite, CONNECTIONS_MAX).connect_lazy_with(options);
    Ok((Database { pool, dialect: Dialect::Sqlite, health }, Lock::File(lock)))
}

/// The URL, with the word that makes the file.
fn made_if_missing(url: &str) -> String {
    match url.split_once('?') {
        None => format!("{url}?mode=rwc"),
        Some((_, words)) if words.split('&').any(|word| word.starts_with("mode=")) => url.to_owned(),
        Some(_) => format!("{url}&mode=rwc"),
    }
}

async fn prepare(connection: &mut AnyConnection, path: &Path) -> Result<(), OpenError> {
    let failed = |error: sqlx::Error| refusal(path, &error);
    let (owner,): (i64,) =
        sqlx::query_as("PRAGMA application_id").fetch_one(&mut *connection).await.map_err(failed)?;
    let (tables,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM sqlite_master")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    // An interrupted first start leaves at most the table of migrations.
    if tables > 1 && owner != APPLICATION_ID {
        return Err(corrupt(path, "it is the database of another program".to_owned()));
    }
    if std::fs::metadata(path).is_ok_and(|file| file.len() <= CHECK_BYTES_MAX) {
        let (verdict,): (String,) =
            sqlx::query_as("PRAGMA quick_check(1)").fetch_one(&mut *connection).await.map_err(failed)?;
        if verdict != "ok" {
            return Err(corrupt(path, verdict));
        }
    }
    match SQLITE.run(connection).await {
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
