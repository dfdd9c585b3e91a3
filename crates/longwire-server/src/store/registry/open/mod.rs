//! Opening the registry: its tables are brought up to date, and it is taken for this process.

mod file;

use super::database::Database;
use super::dialect::Dialect;
use crate::store::lock::FolderLock;
use crate::store::messages::OpenError;
use sqlx::ConnectOptions as _;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::Migrator;
use std::str::FromStr as _;

/// Embedded at build. A version is the same in all three; the first files of the servers hold what SQLite came to step by step.
static SQLITE: Migrator = sqlx::migrate!("./migrations/sqlite");

/// That no other process has the registry: two servers with one token key and two message stores would each hold half the
/// truth.
pub(super) enum Lock {
    /// A file beside the database's.
    File(FolderLock),
}

impl Lock {
    /// Lets others have the registry.
    pub(super) async fn free(self) {
        match self {
            Lock::File(lock) => drop(lock),
        }
    }
}

/// Opens the database that a URL names.
pub(super) async fn open(url: &str) -> Result<(Database, Lock), OpenError> {
    sqlx::any::install_default_drivers();
    match Dialect::of(url) {
        Some(Dialect::Sqlite) => file::open(url).await,
        _ => Err(OpenError::NotWritable {
            path: url.split(':').next().unwrap_or_default().to_owned(),
            cause: "no such database".to_owned(),
        }),
    }
}

/// A pool whose connections are told what they need to know.
fn pool(dialect: Dialect, connections_max: u32) -> AnyPoolOptions {
    AnyPoolOptions::new()
        .max_connections(connections_max)
        .after_connect(move |connection, _| Box::pin(async move { dialect.begin_session(connection).await }))
}

/// Statements are no news, and may not be in the log.
fn options(url: &str) -> sqlx::Result<AnyConnectOptions> {
    AnyConnectOptions::from_str(url).map(|options| options.disable_statement_logging())
}
