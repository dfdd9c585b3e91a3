//! The database of the registry: its connections, and how long anything may take.

use super::dialect::{Dialect, is_conflict};
use super::health::RegistryHealth;
use super::open::holder;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::pool::PoolConnection;
use sqlx::query::{Query, QueryAs};
use sqlx::{Any, AnyConnection, AnyPool, Connection as _, FromRow, SqlStr};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How long a caller waits for the registry at most; then it is told that the registry is unavailable.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How often a transaction is run again that met another one.
const REPEATS_MAX: u32 = 5;

/// Statements that belong together on one connection. It may be run several times, see [`Database::write`].
pub(super) trait Work {
    /// What comes of it.
    type Made: Send;

    /// Runs the statements.
    fn run(
        &self,
        database: &Database,
        connection: &mut AnyConnection,
    ) -> impl Future<Output = sqlx::Result<Self::Made>> + Send;
}

/// A pool of connections and the words that they take. Clones share it.
#[derive(Clone)]
pub(super) struct Database {
    pub(super) pool: AnyPool,
    pub(super) dialect: Dialect,
    pub(super) health: RegistryHealth,
}

impl Database {
    /// A statement with `?` for each value, in the database's words.
    pub(super) fn sql(&self, statement: &'static str) -> SqlStr {
        self.dialect.sql(statement)
    }

    /// All rows of a query.
    pub(super) async fn rows<T>(&self, query: QueryAs<'_, Any, T, AnyArguments>) -> sqlx::Result<Vec<T>>
    where
        T: for<'r> FromRow<'r, AnyRow> + Send + Unpin,
    {
        let deadline = Instant::now() + ANSWER_MAX;
        let mut connection = self.connection(deadline).await?;
        let done = timeout_at(deadline, query.fetch_all(&mut *connection)).await;
        self.ended(connection, done)
    }

    /// One row of a query, if there is one.
    pub(super) async fn row<T>(&self, query: QueryAs<'_, Any, T, AnyArguments>) -> sqlx::Result<Option<T>>
    where
        T: for<'r> FromRow<'r, AnyRow> + Send + Unpin,
    {
        let deadline = Instant::now() + ANSWER_MAX;
        let mut connection = self.connection(deadline).await?;
        let done = timeout_at(deadline, query.fetch_optional(&mut *connection)).await;
        self.ended(connection, done)
    }

    /// One statement that changes something; how many rows it changed.
    pub(super) async fn change(&self, query: Query<'_, Any, AnyArguments>) -> sqlx::Result<u64> {
        let deadline = Instant::now() + ANSWER_MAX;
        let mut connection = self.connection(deadline).await?;
        let change = async {
            self.ours(&mut connection).await?;
            query.execute(&mut *connection).await
        };
        let done = timeout_at(deadline, change).await;
        self.ended(connection, done).map(|done| done.rows_affected())
    }

    /// Reads that belong together.
    pub(super) async fn read<W: Work>(&self, work: &W) -> sqlx::Result<W::Made> {
        let deadline = Instant::now() + ANSWER_MAX;
        let mut connection = self.connection(deadline).await?;
        let done = timeout_at(deadline, work.run(self, &mut connection)).await;
        self.ended(connection, done)
    }

    /// A transaction that writes. It is run again, so often at most, when it met another one.
    pub(super) async fn write<W: Work>(&self, work: &W) -> sqlx::Result<W::Made> {
        let deadline = Instant::now() + ANSWER_MAX;
        let mut repeats = 0;
        loop {
            let mut connection = self.connection(deadline).await?;
            let done = timeout_at(deadline, self.transaction(work, &mut connection)).await;
            match self.ended(connection, done) {
                Err(error) if repeats < REPEATS_MAX && is_conflict(&error) => repeats += 1,
                done => return done,
            }
            // The one that was met is let past.
            sleep(Duration::from_millis(u64::from(repeats) * 5)).await;
        }
    }

    /// A transaction that writes, once: that what it makes is there already is for its caller to know.
    pub(super) async fn write_once<W: Work>(&self, work: &W) -> sqlx::Result<W::Made> {
        let deadline = Instant::now() + ANSWER_MAX;
        let mut connection = self.connection(deadline).await?;
        let done = timeout_at(deadline, self.transaction(work, &mut connection)).await;
        self.ended(connection, done)
    }

    async fn transaction<W: Work>(&self, work: &W, connection: &mut AnyConnection) -> sqlx::Result<W::Made> {
        let mut transaction = connection.begin_with(self.dialect.begin()).await?;
        self.ours(&mut transaction).await?;
        let made = work.run(self, &mut transaction).await?;
        transaction.commit().await?;
        Ok(made)
    }

    /// Whether the lock of a server's database is ours at this moment.
    async fn ours(&self, connection: &mut AnyConnection) -> sqlx::Result<()> {
        let ours = self.health.holder();
        if ours == 0 {
            return Ok(());
        }
        let held: Option<(i64,)> = sqlx::query_as(holder(self.dialect)).fetch_optional(connection).await?;
        if held == Some((ours,)) {
            return Ok(());
        }
        Err(sqlx::Error::Io(std::io::Error::other("the lock of the database is lost")))
    }

    async fn connection(&self, deadline: Instant) -> sqlx::Result<PoolConnection<Any>> {
        if self.health.is_closed() {
            let away = sqlx::Error::Io(std::io::Error::other("the database is away"));
            self.health.failed(&away);
            return Err(away);
        }
        let connection = timeout_at(deadline, self.pool.acquire()).await;
        let connection = connection.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        connection.inspect_err(|error| self.health.failed(error))
    }

    /// A connection whose statement was given up is closed: nobody knows what it would say next.
    fn ended<T>(
        &self,
        mut connection: PoolConnection<Any>,
        done: Result<sqlx::Result<T>, tokio::time::error::Elapsed>,
    ) -> sqlx::Result<T> {
        let done = done.unwrap_or_else(|_| {
            connection.close_on_drop();
            Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))
        });
        match &done {
            Ok(_) => self.health.answered(),
            // A name that is taken is an answer too.
            Err(error) if is_conflict(error) => self.health.answered(),
            Err(error) => self.health.failed(error),
        }
        done
    }
}
