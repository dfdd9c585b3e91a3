//! A database of a server belongs to one Longwire server: a lock of the database, held by a connection that is kept for it. When the
//! connection ends, nothing is asked of the database until the lock is ours again; and what is written looks first whether it is
//! ours still, since the keeper notices a little later than the database.

use super::super::health::RegistryHealth;
use super::server::CONNECT_MAX;
use crate::store::registry::dialect::Dialect;
use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, ConnectOptions as _, Connection as _, Executor as _};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How often the connection shows that it lives.
const PULSE: Duration = Duration::from_secs(2);
/// How long an answer to that may take.
const PULSE_MAX: Duration = Duration::from_secs(2);
/// Between two tries to have the lock again.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// One line in so many tries says that the lock is another's.
const TRIES_A_LINE: u32 = 60;

/// Holds the lock until it is freed.
pub(in crate::store::registry) struct Keeper {
    dialect: Dialect,
    options: AnyConnectOptions,
    health: RegistryHealth,
    kept: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// Why there is no lock.
pub(super) enum Taken {
    /// This connection of the database has it; 0 where that is not known.
    By(i64),
    /// The database failed.
    Failed(sqlx::Error),
}

impl From<sqlx::Error> for Taken {
    fn from(error: sqlx::Error) -> Taken {
        Taken::Failed(error)
    }
}

impl Keeper {
    pub(super) fn new(dialect: Dialect, options: AnyConnectOptions, health: RegistryHealth) -> Keeper {
        Keeper { dialect, options, health, kept: None }
    }

    /// Takes the lock. It is freed when the connection ends; the database ends a connection that is silent for 15 s, so
    /// that a machine that vanished does not hold it for long.
    pub(super) async fn lock(&self, connection: &mut AnyConnection) -> Result<(), Taken> {
        let (silence, take) = words(self.dialect);
        for word in silence {
            // Older servers do not know all of them.
            if let Err(error) = connection.execute(*word).await
                && !matches!(error, sqlx::Error::Database(_))
            {
                return Err(error.into());
            }
        }
        let (taken,): (i64,) = sqlx::query_as(take).fetch_one(&mut *connection).await?;
        if taken == 1 {
            let mine = sqlx::query_as(me(self.dialect)).fetch_one(connection);
            let (mine,): (i64,) = mine.await?;
            self.health.held_by(mine);
            return Ok(());
        }
        let held: Option<(i64,)> = sqlx::query_as(holder(self.dialect)).fetch_optional(connection).await?;
        Err(Taken::By(held.map_or(0, |(holder,)| holder)))
    }

    /// Keeps the connection that has the lock.
    pub(super) fn keep(&mut self, connection: AnyConnection) {
        let (stop, stopped) = oneshot::channel();
        let mine = Keeper::new(self.dialect, self.options.clone(), self.health.clone());
        self.kept = Some((stop, tokio::spawn(mine.watch(connection, stopped))));
    }

    async fn watch(self, connection: AnyConnection, mut stopped: oneshot::Receiver<()>) {
        let mut connection = Some(connection);
        loop {
            // Cancelled at any point, it only forgets a connection, which ends with it.
            tokio::select! {
                _ = &mut stopped => break,
                () = self.beat(&mut connection) => {}
            }
        }
        if let Some(mut connection) = connection {
            // The database notices the end of a connection a little later.
            let end = async {
                let _ = connection.execute(free(self.dialect)).await;
                connection.close().await
            };
            let _ = timeout(PULSE_MAX, end).await;
        }
    }

    /// One pulse, or the way back to the lock. The connection stays in its place, so that being cancelled loses nothing.
    async fn beat(&self, kept: &mut Option<AnyConnection>) {
        if let Some(connection) = kept {
            tokio::select! {
                () = sleep(PULSE) => {}
                () = self.health.doubted() => {}
            }
            match timeout(PULSE_MAX, connection.execute("SELECT 1")).await {
                Ok(Ok(_)) => return self.health.answered(),
                Ok(Err(error)) => self.health.failed(&error),
                Err(_) => self.health.failed(&sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
            }
            self.health.close();
            *kept = None;
        }
        let mut tries = 0_u32;
        loop {
            match timeout(CONNECT_MAX, self.again()).await {
                Ok(Ok(connection)) => {
                    *kept = Some(connection);
                    return self.health.open();
                }
                Ok(Err(Taken::By(holder))) if tries.is_multiple_of(TRIES_A_LINE) => {
                    tracing::error!(
                        holder,
                        "another server took the registry while it was away; nothing is asked of it until that one lets it go"
                    );
                }
                Ok(Err(Taken::By(_) | Taken::Failed(_))) | Err(_) => {}
            }
            tries = tries.wrapping_add(1);
            sleep(TRY_AGAIN).await;
        }
    }

    async fn again(&self) -> Result<AnyConnection, Taken> {
        let mut connection = self.options.connect().await?;
        self.lock(&mut connection).await?;
        Ok(connection)
    }

    /// Lets others have the database.
    pub(in crate::store::registry) async fn free(mut self) {
        if let Some((stop, task)) = self.kept.take() {
            let _ = stop.send(());
            let _ = task.await;
        }
    }
}

const fn free(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::MySql => "SELECT RELEASE_LOCK(CONCAT('longwire.', SHA1(DATABASE())))",
        Dialect::Postgres | Dialect::Sqlite => {
            "SELECT pg_advisory_unlock(1280855383, hashtext(current_schema()))"
        }
    }
}

/// How silence ends the connection, and how the lock is asked for; 1 is ours. The lock is for the database (MySQL's are for the whole
/// server, so it has the database's name in it) or the schema.
const fn words(dialect: Dialect) -> (&'static [&'static str], &'static str) {
    match dialect {
        Dialect::MySql => (
            &["SET SESSION wait_timeout = 15"],
            "SELECT CAST(COALESCE(GET_LOCK(CONCAT('longwire.', SHA1(DATABASE())), 0), 0) AS SIGNED)",
        ),
        Dialect::Postgres | Dialect::Sqlite => (
            &[
                "SET idle_session_timeout = '15s'",
                "SET tcp_keepalives_idle = 5",
                "SET tcp_user_timeout = '15s'",
            ],
            "SELECT pg_try_advisory_lock(1280855383, hashtext(current_schema()))::int::bigint",
        ),
    }
}

/// The number of the connection that asks.
const fn me(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::MySql => "SELECT CAST(CONNECTION_ID() AS SIGNED)",
        Dialect::Postgres | Dialect::Sqlite => "SELECT pg_backend_pid()::bigint",
    }
}

/// The number of the connection that has the lock; nothing, or 0, if none has.
pub(in crate::store::registry) const fn holder(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::MySql => {
            "SELECT CAST(COALESCE(IS_USED_LOCK(CONCAT('longwire.', SHA1(DATABASE()))), 0) AS SIGNED)"
        }
        Dialect::Postgres | Dialect::Sqlite => {
            "SELECT pid::bigint FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid::bigint = 1280855383 AND objid = hashtext(current_schema())::oid AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        }
    }
}
