//! Opening the registry: its tables are brought up to date, and it is taken for this process.

mod file;
mod keeper;
mod server;

pub(super) use self::keeper::holder;
pub use self::server::ServerError;

use self::keeper::Keeper;
use super::database::Database;
use super::dialect::Dialect;
use super::health::RegistryHealth;
use super::url::shown;
use crate::store::lock::FolderLock;
use crate::store::messages::OpenError;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::Migrator;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};
use std::fmt;
use std::str::FromStr as _;
use std::time::Duration;
use tokio::time::timeout;

/// Embedded at build. A version is the same in all three; the first files of the servers hold what SQLite came to step by step.
static SQLITE: Migrator = sqlx::migrate!("./migrations/sqlite");
static MYSQL: Migrator = sqlx::migrate!("./migrations/mysql");
static POSTGRES: Migrator = sqlx::migrate!("./migrations/postgres");

/// Connections to a server's database, by default.
pub const CONNECTIONS_MAX: u32 = 8;
/// How long a start waits for a server's database, by default.
pub const START_MAX: Duration = Duration::from_secs(30);

/// Where the registry is.
#[derive(Clone)]
pub struct RegistryOptions {
    /// `sqlite:PATH`, or `mysql:`, `mariadb:` or `postgres://user:password@host/database`. Holds a secret.
    pub url: String,
    /// Connections to a server's database besides the one that holds the lock; a file has its own number.
    pub connections_max: u32,
    /// How long to wait for a server's database that does not answer, or that another server has.
    pub start_max: Duration,
}

impl fmt::Debug for RegistryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "registry at {}", shown(&self.url))
    }
}

impl RegistryOptions {
    /// The defaults for a URL.
    #[must_use]
    pub fn new(url: impl Into<String>) -> RegistryOptions {
        RegistryOptions { url: url.into(), connections_max: CONNECTIONS_MAX, start_max: START_MAX }
    }
}

/// That no other process has the registry: two servers with one token key and two message stores would each hold half the
/// truth.
pub(super) enum Lock {
    /// A file beside the database's.
    File(FolderLock),
    /// A lock of the database.
    Server(Keeper),
}

impl Lock {
    /// Lets others have the registry.
    pub(super) async fn free(self) {
        match self {
            Lock::File(lock) => drop(lock),
            Lock::Server(keeper) => keeper.free().await,
        }
    }
}

/// Whether a URL can be one of a registry; asks nobody.
///
/// # Errors
/// What is wrong, without the URL.
pub fn check_url(url: &str) -> Result<(), String> {
    const FORMS: &str =
        "must be sqlite:PATH, or mysql://, mariadb:// or postgres://user:password@host:port/database";
    let dialect = Dialect::of(url).ok_or(FORMS)?;
    let parts = AnyConnectOptions::from_str(url).map_err(|error| error.to_string())?;
    let parts = &parts.database_url;
    if dialect == Dialect::Sqlite {
        return Ok(());
    }
    if !url.contains("://") || parts.path().len() < 2 || parts.username().is_empty() {
        return Err(FORMS.to_owned());
    }
    // Its parameters are its own: files of certificates, modes of TLS.
    let understood = match dialect {
        Dialect::MySql => MySqlConnectOptions::from_url(parts).map(drop),
        _ => PgConnectOptions::from_url(parts).map(drop),
    };
    understood.map_err(|error| error.to_string())
}

/// Whether a start would get a server's database: that it answers, lets the user in, is empty or ours, and no server has it. Changes
/// nothing in it. A file is not looked at.
///
/// # Errors
/// What a start would fail with.
pub async fn look(terms: &RegistryOptions) -> Result<(), ServerError> {
    sqlx::any::install_default_drivers();
    match Dialect::of(&terms.url) {
        Some(dialect @ (Dialect::MySql | Dialect::Postgres)) => server::look(dialect, terms).await,
        Some(Dialect::Sqlite) | None => Ok(()),
    }
}

/// Opens the database that a URL names.
pub(super) async fn open(
    terms: &RegistryOptions,
    health: RegistryHealth,
) -> Result<(Database, Lock), OpenError> {
    sqlx::any::install_default_drivers();
    match Dialect::of(&terms.url) {
        Some(Dialect::Sqlite) => file::open(&terms.url, health).await,
        Some(dialect) => Ok(server::open(dialect, terms, health).await?),
        None => Err(ServerError::Unusable {
            url: shown(&terms.url),
            cause: "it is no URL of a database".to_owned(),
            remedy: "write sqlite:PATH, mysql://, mariadb:// or postgres://user:password@host/database",
        }
        .into()),
    }
}

/// How long a caller waits for a connection; less than it waits for the whole answer.
const CONNECTION_MAX: Duration = Duration::from_secs(4);

/// A connection that was used so lately is taken without asking whether it lives.
const FRESH: Duration = Duration::from_secs(1);
/// How long the answer to that may take; then it is closed, and another one taken.
const ALIVE_MAX: Duration = Duration::from_secs(1);

/// A pool whose connections are told what they need to know.
fn pool(dialect: Dialect, connections_max: u32) -> AnyPoolOptions {
    AnyPoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(CONNECTION_MAX)
        .after_connect(move |connection, _| Box::pin(async move { dialect.begin_session(connection).await }))
        // The pool's own question waits as long as the network likes.
        .test_before_acquire(false)
        .before_acquire(|connection, past| {
            Box::pin(async move {
                if past.idle_for < FRESH {
                    return Ok(true);
                }
                let answered = timeout(ALIVE_MAX, connection.ping()).await;
                answered
                    .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))?;
                Ok(true)
            })
        })
}

/// Statements are no news, and may not be in the log.
fn options(url: &str) -> sqlx::Result<AnyConnectOptions> {
    AnyConnectOptions::from_str(url).map(|options| options.disable_statement_logging())
}
