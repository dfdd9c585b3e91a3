//! Devices that register themselves by logging in: a batch of names gets one transaction.

use super::database::{Database, Work};
use super::rows::{Text, unavailable};
use super::statements;
use crate::domain::{AppId, ClientId, Device, DeviceName};
use crate::store::port::StoreError;
use sqlx::AnyConnection;
use std::collections::{HashMap, HashSet};

/// Names in one statement.
const NAMES_TOGETHER: usize = 128;

/// What became of a name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Enrolled {
    /// It was registered before, by whomever.
    Known(ClientId),
    /// It is registered now.
    Made(Device),
    /// The app has as many automatic devices as it may.
    Full,
}

/// How many automatic devices each app has, where it has any.
pub(super) async fn counts(database: &Database) -> Result<Vec<(AppId, u64)>, StoreError> {
    let query = sqlx::query_as(database.sql(statements::AUTOMATIC_OF_APPS));
    let rows: Vec<(i64, i64)> = database.rows(query).await.map_err(|error| unavailable(&error))?;
    let count = |(app, count): (i64, i64)| Some((AppId(u32::try_from(app).ok()?), count.unsigned_abs()));
    Ok(rows.into_iter().filter_map(count).collect())
}

/// One app's names, without repeats; the answers are in their order.
pub(super) async fn enrol(
    database: &Database,
    asked: &[(AppId, Vec<DeviceName>)],
    per_app_max: u64,
) -> Result<Vec<Vec<Enrolled>>, StoreError> {
    database.write(&Names { asked, per_app_max }).await.map_err(|error| unavailable(&error))
}

struct Names<'a> {
    asked: &'a [(AppId, Vec<DeviceName>)],
    per_app_max: u64,
}

impl Work for Names<'_> {
    type Made = Vec<Vec<Enrolled>>;

    async fn run(&self, database: &Database, connection: &mut AnyConnection) -> sqlx::Result<Self::Made> {
        let mut answers = Vec::with_capacity(self.asked.len());
        for (app, names) in self.asked {
            answers.push(enrol_app(database, connection, *app, names, self.per_app_max).await?);
        }
        Ok(answers)
    }
}

async fn enrol_app(
    database: &Database,
    connection: &mut AnyConnection,
    app: AppId,
    names: &[DeviceName],
    per_app_max: u64,
) -> sqlx::Result<Vec<Enrolled>> {
    let all: Vec<&DeviceName> = names.iter().collect();
    let known = clients(database, connection, app, &all).await?;
    let (has,): (i64,) = sqlx::query_as(database.dialect.locked(statements::AUTOMATIC_DEVICES))
        .bind(i64::from(app.0))
        .fetch_one(&mut *connection)
        .await?;
    let room = per_app_max.saturating_sub(has.unsigned_abs());
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    let mut seen = HashSet::new();
    let new: Vec<&DeviceName> = names
        .iter()
        .filter(|name| !known.contains_key(name.as_str()) && seen.insert(name.as_str()))
        .take(room)
        .collect();
    let made = insert(database, connection, app, &new).await?;
    let answer = |name: &DeviceName| match (known.get(name.as_str()), made.get(name.as_str())) {
        (Some(client), _) => Enrolled::Known(*client),
        (None, Some(client)) => Enrolled::Made(Device {
            app,
            client: *client,
            name: name.clone(),
            alias: None,
            tags: Vec::new(),
            attributes: Vec::new(),
            generation: 0,
        }),
        (None, None) => Enrolled::Full,
    };
    Ok(names.iter().map(answer).collect())
}

async fn insert(
    database: &Database,
    connection: &mut AnyConnection,
    app: AppId,
    names: &[&DeviceName],
) -> sqlx::Result<HashMap<String, ClientId>> {
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    for names in names.chunks(NAMES_TOGETHER) {
        let (insert, row) = (statements::INSERT_AUTOMATIC, statements::AUTOMATIC_ROW);
        let mut query = sqlx::query(database.dialect.listed(insert, row, names.len(), ["", ""]));
        for name in names {
            query = query.bind(i64::from(app.0)).bind(name.as_str());
        }
        query.execute(&mut *connection).await?;
    }
    sqlx::query(database.sql(statements::COUNT_AUTOMATIC))
        .bind(i64::try_from(names.len()).unwrap_or(i64::MAX))
        .bind(i64::from(app.0))
        .execute(&mut *connection)
        .await?;
    clients(database, connection, app, names).await
}

/// The numbers of those names that are registered.
async fn clients(
    database: &Database,
    connection: &mut AnyConnection,
    app: AppId,
    names: &[&DeviceName],
) -> sqlx::Result<HashMap<String, ClientId>> {
    let mut clients = HashMap::with_capacity(names.len());
    for names in names.chunks(NAMES_TOGETHER) {
        let statement = database.dialect.listed(statements::DEVICES_OF_NAMES, "?", names.len(), ["(", ")"]);
        let mut query = sqlx::query_as(statement).bind(i64::from(app.0));
        for name in names {
            query = query.bind(name.as_str());
        }
        let rows: Vec<(i64, Text)> = query.fetch_all(&mut *connection).await?;
        clients.extend(rows.into_iter().map(|(client, Text(name))| (name, ClientId(client.unsigned_abs()))));
    }
    Ok(clients)
}
