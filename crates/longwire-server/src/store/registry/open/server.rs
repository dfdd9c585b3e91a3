//! A database of a server: MySQL, MariaDB or PostgreSQL.

use super::super::health::RegistryHealth;
use super::super::url::shown;
use super::keeper::{Keeper, Taken};
use super::{Lock, MYSQL, POSTGRES, RegistryOptions, options, pool};
use crate::store::registry::database::Database;
use crate::store::registry::dialect::Dialect;
use sqlx::any::AnyConnectOptions;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{AnyConnection, ConnectOptions as _, Executor as _};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// How long one try to connect may take.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Between two tries at the start.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Why the database of a server was not opened. Each text says what to do; none shows a password.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Nobody answers, or it is not ready.
    #[error(
        "the registry's database {url} did not answer within {waited_s} s: {cause}; start it, or correct sql.url"
    )]
    Unreachable {
        /// The database, without the password.
        url: String,
        /// How long was waited.
        waited_s: u64,
        /// What was met last.
        cause: String,
    },
    /// It answers, and does not let us in.
    #[error(
        "the registry's database {url} refuses: {cause}; check user, password, database and the TLS parameters in sql.url, and that the user may create tables"
    )]
    Refused {
        /// The database, without the password.
        url: String,
        /// What it said.
        cause: String,
    },
    /// Another server has it.
    #[error(
        "the registry's database {url} is in use by another Longwire server (connection {holder} of the database); a registry belongs to one server: stop the other, or give this one a database of its own"
    )]
    Taken {
        /// The database, without the password.
        url: String,
        /// The number that the database gives the other's connection.
        holder: i64,
    },
    /// It holds something else.
    #[error("the registry's database {url} cannot be used: {cause}; {remedy}")]
    Unusable {
        /// The database, without the password.
        url: String,
        /// What was found.
        cause: String,
        /// What to do.
        remedy: &'static str,
    },
}

/// Opens the database, takes it for this server, and brings its tables up to date.
pub(super) async fn open(
    dialect: Dialect,
    terms: &RegistryOptions,
    health: RegistryHealth,
) -> Result<(Database, Lock), ServerError> {
    let url = shown(&terms.url);
    let refused = |error: sqlx::Error| ServerError::Refused { url: url.clone(), cause: error.to_string() };
    let options = options(&terms.url).map_err(refused)?;
    let (mut connection, mut keeper) = take(dialect, terms, &url, &options, health.clone()).await?;
    migrate(dialect, &mut connection, &url).await?;
    keeper.keep(connection);
    let pool = pool(dialect, terms.connections_max).connect_lazy_with(options);
    Ok((Database { pool, dialect, health }, Lock::Server(keeper)))
}

/// Whether a start would get the database; changes nothing in it, and waits for nobody.
pub(super) async fn look(dialect: Dialect, terms: &RegistryOptions) -> Result<(), ServerError> {
    let url = shown(&terms.url);
    let options = options(&terms.url)
        .map_err(|error| ServerError::Refused { url: url.clone(), cause: error.to_string() })?;
    let terms = RegistryOptions { start_max: Duration::ZERO, ..terms.clone() };
    let (connection, mut keeper) = take(dialect, &terms, &url, &options, RegistryHealth::default()).await?;
    keeper.keep(connection);
    keeper.free().await;
    Ok(())
}

/// Connects, and takes the lock; waits for both, but not for ever. Who was killed may hold its lock a little longer.
async fn take(
    dialect: Dialect,
    terms: &RegistryOptions,
    url: &str,
    options: &AnyConnectOptions,
    health: RegistryHealth,
) -> Result<(AnyConnection, Keeper), ServerError> {
    let begin = Instant::now();
    let keeper = Keeper::new(dialect, options.clone(), health);
    loop {
        let waited = begin.elapsed();
        let waited_s = waited.as_secs();
        let last = match timeout(CONNECT_MAX, first_look(dialect, &keeper, options, url)).await {
            Ok(Ok(connection)) => return Ok((connection, keeper)),
            Ok(Err(Look::Never(error))) => return Err(error),
            Ok(Err(Look::Taken(holder))) => ServerError::Taken { url: url.to_owned(), holder },
            Ok(Err(Look::Later(error))) => {
                ServerError::Unreachable { url: url.to_owned(), waited_s, cause: error.to_string() }
            }
            Err(_) => {
                let cause = format!("nothing within {} s", CONNECT_MAX.as_secs());
                ServerError::Unreachable { url: url.to_owned(), waited_s, cause }
            }
        };
        if waited >= terms.start_max {
            return Err(last);
        }
        let wait_s = (terms.start_max - waited).as_secs();
        tracing::warn!(wait_s, "waiting for the registry: {last}");
        sleep(TRY_AGAIN).await;
    }
}

/// Why the database is not ours yet.
enum Look {
    Later(sqlx::Error),
    Taken(i64),
    Never(ServerError),
}

async fn first_look(
    dialect: Dialect,
    keeper: &Keeper,
    options: &AnyConnectOptions,
    url: &str,
) -> Result<AnyConnection, Look> {
    let failed = |error: sqlx::Error| {
        if passes(&error) {
            return Look::Later(error);
        }
        Look::Never(ServerError::Refused { url: url.to_owned(), cause: error.to_string() })
    };
    let mut connection = options.connect().await.map_err(failed)?;
    let unusable = |cause: &str, remedy| {
        Look::Never(ServerError::Unusable { url: url.to_owned(), cause: cause.to_owned(), remedy })
    };
    let (tables, ours, text) = what_is_there(dialect);
    let tables: (i64,) = sqlx::query_as(tables).fetch_one(&mut connection).await.map_err(failed)?;
    let ours: (i64,) = sqlx::query_as(ours).fetch_one(&mut connection).await.map_err(failed)?;
    let text: (i64,) = sqlx::query_as(text).fetch_one(&mut connection).await.map_err(failed)?;
    if tables.0 > 0 && ours.0 == 0 {
        let remedy = "make an empty database for Longwire alone, and name it in sql.url";
        return Err(unusable("it is the database of another program", remedy));
    }
    if text.0 == 0 {
        let remedy = "make one with ENCODING 'UTF8' TEMPLATE template0";
        return Err(unusable("its encoding is not UTF-8", remedy));
    }
    match keeper.lock(&mut connection).await {
        Ok(()) => Ok(connection),
        Err(Taken::By(holder)) => Err(Look::Taken(holder)),
        Err(Taken::Failed(error)) => Err(failed(error)),
    }
}

/// How many tables there are, whether one of them is the first that we make, and whether texts are UTF-8.
const fn what_is_there(dialect: Dialect) -> (&'static str, &'static str, &'static str) {
    match dialect {
        Dialect::MySql => (
            "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name <> '_sqlx_migrations'",
            "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'longwire_registry'",
            // Names are kept as bytes.
            "SELECT COUNT(*)",
        ),
        Dialect::Postgres | Dialect::Sqlite => (
            "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = current_schema() AND table_name <> '_sqlx_migrations'",
            "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = current_schema() AND table_name = 'longwire_registry'",
            "SELECT COUNT(*) FROM pg_database WHERE datname = current_database() AND pg_encoding_to_char(encoding) = 'UTF8'",
        ),
    }
}

/// Whether it may be otherwise in a moment: nobody there, starting, stopping, too many connections.
fn passes(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(error) => {
            matches!(error.code().as_deref(), Some("57P01" | "57P02" | "57P03" | "53300" | "08004" | "08S01"))
        }
        _ => false,
    }
}

async fn migrate(dialect: Dialect, connection: &mut AnyConnection, url: &str) -> Result<(), ServerError> {
    let migrator: &Migrator = if dialect == Dialect::MySql { &MYSQL } else { &POSTGRES };
    let mut done = migrator.run(&mut *connection).await;
    if matches!(done, Err(MigrateError::Dirty(_))) {
        // A server was killed in the middle. MySQL cannot undo what it did, so its steps can be begun again.
        let forget = connection.execute("DELETE FROM _sqlx_migrations WHERE success = FALSE").await;
        forget.map_err(|error| ServerError::Refused { url: url.to_owned(), cause: error.to_string() })?;
        done = migrator.run(&mut *connection).await;
    }
    let unusable = |cause: String, remedy| ServerError::Unusable { url: url.to_owned(), cause, remedy };
    match done {
        Ok(()) => Ok(()),
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
            Err(ServerError::Refused { url: url.to_owned(), cause: error.to_string() })
        }
        Err(MigrateError::VersionMissing(version)) => {
            let cause = format!("its tables are of version {version}, which this server does not know");
            Err(unusable(cause, "run the newer server"))
        }
        Err(error) => Err(unusable(error.to_string(), "restore it from a backup")),
    }
}
