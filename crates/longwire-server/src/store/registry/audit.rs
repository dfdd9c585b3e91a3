//! The audit log: lines that are only ever added, each with the hash of the one before. The oldest go when there are too many,
//! and the hash of the last that went is kept, so that what is left can be checked.

use super::Registry;
use super::database::{Database, Work};
use super::rows::{Text, unavailable};
use crate::domain::WallMs;
use crate::domain::audit::{AuditEntry, AuditLine};
use crate::store::port::StoreError;
use sqlx::AnyConnection;

/// Lines that are kept; older ones go.
pub const AUDIT_LINES_MAX: u64 = 1_000_000;
/// So many go together.
const CUT: u64 = 1024;
/// Lines that are read together for a check.
const CHECKED_TOGETHER: usize = 1000;
/// The setting that holds the hash of the last line that went.
const ANCHOR: &str = "audit_anchor";

const LAST: &str = "SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1";
const INSERT: &str = "INSERT INTO audit (number, at, who, act, target, outcome, remote, trace, previous, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
const AFTER: &str = "SELECT number, at, who, act, target, outcome, remote, trace, previous, hash FROM audit WHERE number > ? ORDER BY number LIMIT ?";
const HASH: &str = "SELECT hash FROM audit WHERE number = ?";
const REMOVE: &str = "DELETE FROM audit WHERE number <= ?";

/// What a check of the audit log found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AuditCheck {
    /// Lines that were read.
    pub lines: u64,
    /// The first line that does not follow the one before it.
    pub broken_at: Option<u64>,
}

type LineRow = (i64, i64, Text, Text, Text, Text, Text, Text, Vec<u8>, Vec<u8>);

impl Registry {
    /// Adds a line. When this returns it is durable.
    ///
    /// # Errors
    /// The registry failed: there is no such line.
    pub async fn append_audit(&self, entry: &AuditEntry) -> Result<AuditLine, StoreError> {
        self.inner.database.write(&Append(entry)).await.map_err(|error| unavailable(&error))
    }

    /// Lines after a number, in order, at most so many.
    ///
    /// # Errors
    /// The registry failed. A line whose row cannot be read is given with hashes of zeros, which fit nowhere.
    pub async fn audit_after(&self, number: u64, most: usize) -> Result<Vec<AuditLine>, StoreError> {
        let query = sqlx::query_as(self.sql(AFTER)).bind(number as i64).bind(most as i64);
        let rows: Vec<LineRow> =
            self.inner.database.rows(query).await.map_err(|error| unavailable(&error))?;
        Ok(rows.into_iter().map(line).collect())
    }

    /// Reads the whole log and checks each line against the one before it. What was cut off at its end is not missed: keep the
    /// hash of the last line elsewhere.
    ///
    /// # Errors
    /// The registry failed.
    pub async fn check_audit(&self) -> Result<AuditCheck, StoreError> {
        let (mut number, mut hash, mut lines) = (0, [0; 32], 0);
        loop {
            let page = self.audit_after(number, CHECKED_TOGETHER).await?;
            let full = page.len() == CHECKED_TOGETHER;
            for line in page {
                if lines == 0 && line.number > 1 {
                    (number, hash) = (line.number - 1, self.audit_anchor().await?);
                }
                lines += 1;
                if !line.follows(number, &hash) {
                    return Ok(AuditCheck { lines, broken_at: Some(line.number) });
                }
                (number, hash) = (line.number, line.hash);
            }
            if !full {
                return Ok(AuditCheck { lines, broken_at: None });
            }
        }
    }

    /// The hash of the last line that was taken out because there were too many; zeros: none was.
    ///
    /// # Errors
    /// The registry failed.
    pub async fn audit_anchor(&self) -> Result<[u8; 32], StoreError> {
        Ok(self.setting(ANCHOR).await?.unwrap_or_default())
    }
}

struct Append<'a>(&'a AuditEntry);

impl Work for Append<'_> {
    type Made = AuditLine;

    async fn run(&self, database: &Database, connection: &mut AnyConnection) -> sqlx::Result<AuditLine> {
        let last: Option<(i64, Vec<u8>)> =
            sqlx::query_as(database.sql(LAST)).fetch_optional(&mut *connection).await?;
        let (number, previous) = last.map_or((0, Vec::new()), |(number, hash)| (number.unsigned_abs(), hash));
        // A hash that is no hash stays a break that every look finds.
        let line = AuditLine::after(number + 1, previous.try_into().unwrap_or_default(), self.0.clone());
        let AuditEntry { at, who, act, target, outcome, remote, trace } = &line.entry;
        let mut query = sqlx::query(database.sql(INSERT)).bind(line.number as i64).bind(at.0 as i64);
        for text in [who, act, target, outcome, remote, trace] {
            query = query.bind(text.as_str());
        }
        let query = query.bind(line.previous.as_slice()).bind(line.hash.as_slice());
        query.execute(&mut *connection).await?;
        if line.number > AUDIT_LINES_MAX && line.number.is_multiple_of(CUT) {
            cut(database, connection, line.number - AUDIT_LINES_MAX).await?;
        }
        Ok(line)
    }
}

/// Takes all lines up to this one out.
async fn cut(database: &Database, connection: &mut AnyConnection, last: u64) -> sqlx::Result<()> {
    let found: Option<(Vec<u8>,)> =
        sqlx::query_as(database.sql(HASH)).bind(last as i64).fetch_optional(&mut *connection).await?;
    let Some((hash,)) = found else { return Ok(()) };
    let anchor = database.dialect.insert_or_replace("settings", &["name", "value"]);
    sqlx::query(anchor).bind(ANCHOR).bind(hash).execute(&mut *connection).await?;
    sqlx::query(database.sql(REMOVE)).bind(last as i64).execute(&mut *connection).await?;
    Ok(())
}

fn line(row: LineRow) -> AuditLine {
    let (number, at, who, act, target, outcome, remote, trace, previous, hash) = row;
    AuditLine {
        number: number.unsigned_abs(),
        entry: AuditEntry {
            at: WallMs(at.unsigned_abs()),
            who: who.0,
            act: act.0,
            target: target.0,
            outcome: outcome.0,
            remote: remote.0,
            trace: trace.0,
        },
        previous: previous.try_into().unwrap_or_default(),
        hash: hash.try_into().unwrap_or_default(),
    }
}
