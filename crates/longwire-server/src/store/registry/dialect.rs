//! What one database says differently from another: placeholders, "insert unless it is there", how an insert gives its number
//! back, and how a session is set up. Everything else is said in words that all three have.

use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe, Executor as _, Row as _, SqlSafeStr as _, SqlStr};

/// A database that can hold the registry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    Sqlite,
    /// MySQL and MariaDB.
    MySql,
    Postgres,
}

impl Dialect {
    /// By the scheme of a URL; `None`: no such database.
    pub(super) fn of(url: &str) -> Option<Dialect> {
        match url.split_once(':')?.0 {
            "sqlite" => Some(Dialect::Sqlite),
            "mysql" | "mariadb" => Some(Dialect::MySql),
            "postgres" | "postgresql" => Some(Dialect::Postgres),
            _ => None,
        }
    }

    /// A statement with `?` for each value.
    pub(super) fn sql(self, statement: &'static str) -> SqlStr {
        match self {
            Dialect::Sqlite | Dialect::MySql => statement.into_sql_str(),
            Dialect::Postgres => AssertSqlSafe(numbered(statement)).into_sql_str(),
        }
    }

    /// A SELECT inside a transaction that then writes the rows: nobody else writes them meanwhile. SQLite has one writer at a time
    /// anyhow, see [`Dialect::begin`].
    pub(super) fn locked(self, statement: &'static str) -> SqlStr {
        match self {
            Dialect::Sqlite => statement.into_sql_str(),
            Dialect::MySql => AssertSqlSafe(format!("{statement} FOR UPDATE")).into_sql_str(),
            // Rows of other tables may go on naming them.
            Dialect::Postgres => {
                AssertSqlSafe(format!("{} FOR NO KEY UPDATE", numbered(statement))).into_sql_str()
            }
        }
    }

    /// A statement with a list of values at its end: `rows` times `row`, which has `?` for each value, inside `around`.
    pub(super) fn listed(
        self,
        statement: &'static str,
        row: &'static str,
        rows: usize,
        around: [&str; 2],
    ) -> SqlStr {
        let list = vec![row; rows].join(", ");
        let text = format!("{statement} {}{list}{}", around[0], around[1]);
        AssertSqlSafe(if self == Dialect::Postgres { numbered(&text) } else { text }).into_sql_str()
    }

    /// An insert that says the number it gave, to be run by [`insert`].
    pub(super) fn numbering(self, statement: &'static str, number: &'static str) -> SqlStr {
        match self {
            Dialect::MySql => statement.into_sql_str(),
            Dialect::Sqlite => AssertSqlSafe(format!("{statement} RETURNING {number}")).into_sql_str(),
            Dialect::Postgres => {
                AssertSqlSafe(format!("{} RETURNING {number}", numbered(statement))).into_sql_str()
            }
        }
    }

    /// Inserts a row, or leaves the one that has its key. The key is the first column.
    pub(super) fn insert_or_keep(self, table: &'static str, columns: &[&'static str]) -> SqlStr {
        self.upsert(table, columns, false)
    }

    /// Inserts a row, or replaces what the one with its key says. The key is the first column.
    pub(super) fn insert_or_replace(self, table: &'static str, columns: &[&'static str]) -> SqlStr {
        self.upsert(table, columns, true)
    }

    fn upsert(self, table: &'static str, columns: &[&'static str], replace: bool) -> SqlStr {
        let values = vec!["?"; columns.len()].join(", ");
        let insert = format!("INSERT INTO {table} ({}) VALUES ({values})", columns.join(", "));
        let (key, rest) = (columns[0], &columns[1..]);
        let set = |one: &dyn Fn(&str) -> String| {
            rest.iter().map(|column| one(column)).collect::<Vec<_>>().join(", ")
        };
        let text = match (self, replace) {
            // "INSERT IGNORE" would also pass over what is wrong.
            (Dialect::MySql, false) => format!("{insert} ON DUPLICATE KEY UPDATE {key} = {key}"),
            (Dialect::MySql, true) => {
                format!(
                    "{insert} ON DUPLICATE KEY UPDATE {}",
                    set(&|column| format!("{column} = VALUES({column})"))
                )
            }
            (_, false) => format!("{insert} ON CONFLICT ({key}) DO NOTHING"),
            (_, true) => {
                let set = set(&|column| format!("{column} = excluded.{column}"));
                format!("{insert} ON CONFLICT ({key}) DO UPDATE SET {set}")
            }
        };
        AssertSqlSafe(if self == Dialect::Postgres { numbered(&text) } else { text }).into_sql_str()
    }

    /// How a transaction that writes begins.
    pub(super) const fn begin(self) -> &'static str {
        match self {
            // It takes the write lock at once, so that it never has to give up in the middle.
            Dialect::Sqlite => "BEGIN IMMEDIATE",
            Dialect::MySql | Dialect::Postgres => "BEGIN",
        }
    }

    /// What a new connection is told, statement by statement. The times are below [`super::database::ANSWER_MAX`], so that what nobody
    /// waits for any more does not hold locks.
    const fn session(self) -> &'static [&'static str] {
        match self {
            Dialect::Sqlite => &[
                "PRAGMA busy_timeout = 5000",
                "PRAGMA journal_mode = WAL",
                "PRAGMA synchronous = FULL",
                "PRAGMA foreign_keys = ON",
            ],
            // Read committed: rows that are not there are not locked, so registrations of different names do not meet.
            Dialect::MySql => &[
                "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')",
                "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
                "SET SESSION innodb_lock_wait_timeout = 4",
            ],
            Dialect::Postgres => &[
                "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED",
                "SET lock_timeout = '4s'",
                "SET statement_timeout = '5s'",
                "SET idle_in_transaction_session_timeout = '5s'",
            ],
        }
    }
}

impl Dialect {
    /// Tells a new connection what it needs to know.
    pub(super) async fn begin_session(self, connection: &mut AnyConnection) -> sqlx::Result<()> {
        for statement in self.session() {
            connection.execute(*statement).await?;
        }
        Ok(())
    }
}

/// Whether a transaction failed only because another one was under way; the same again may succeed. A name that another
/// transaction registered meanwhile is found then.
pub(super) fn is_conflict(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    // Deadlock and failed serialization; deadlock of PostgreSQL.
    error.is_unique_violation() || matches!(error.code().as_deref(), Some("40001" | "40P01"))
}

/// Runs a statement made by [`Dialect::numbering`], and says the number.
pub(super) async fn insert(
    dialect: Dialect,
    connection: &mut AnyConnection,
    query: Query<'_, Any, AnyArguments>,
) -> sqlx::Result<i64> {
    match dialect {
        Dialect::MySql => {
            let number = query.execute(connection).await?.last_insert_id();
            number.ok_or_else(|| sqlx::Error::Protocol("an insert gave no number".to_owned()))
        }
        Dialect::Sqlite | Dialect::Postgres => query.fetch_one(connection).await?.try_get(0),
    }
}

/// `?` becomes `$1`, `$2`, …; no statement of ours has a question mark in a text.
fn numbered(statement: &str) -> String {
    let mut parts = statement.split('?');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for (number, part) in parts.enumerate() {
        text += &format!("${}{part}", number + 1);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_database_is_told_in_its_words() {
        let upsert =
            |dialect: Dialect| dialect.insert_or_replace("settings", &["name", "value"]).as_str().to_owned();
        assert_eq!(
            upsert(Dialect::Postgres),
            "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
        );
        assert_eq!(
            upsert(Dialect::MySql),
            "INSERT INTO settings (name, value) VALUES (?, ?) ON DUPLICATE KEY UPDATE value = VALUES(value)"
        );
        let listed = Dialect::Postgres.listed("SELECT a FROM t WHERE b = ? AND c IN", "?", 3, ["(", ")"]);
        assert_eq!(listed.as_str(), "SELECT a FROM t WHERE b = $1 AND c IN ($2, $3, $4)");
        assert_eq!(Dialect::of("mariadb://h/d"), Some(Dialect::MySql));
        assert_eq!(Dialect::of("oracle://h/d"), None);
        assert_eq!(Dialect::of("registry.db"), None);
    }
}
