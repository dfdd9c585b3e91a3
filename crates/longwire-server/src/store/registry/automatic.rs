//! Devices that register themselves by logging in: a batch of names gets one transaction.

use super::dialect;
use super::rows::unavailable;
use crate::domain::{AppId, ClientId, Device, DeviceName};
use crate::store::port::StoreError;
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteConnection;
use std::collections::{HashMap, HashSet};

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
pub(super) async fn counts(pool: &SqlitePool) -> Result<Vec<(AppId, u64)>, StoreError> {
    let rows: Vec<(i64, i64)> = sqlx::query_as(dialect::AUTOMATIC_OF_APPS)
        .fetch_all(pool)
        .await
        .map_err(|error| unavailable(&error))?;
    let count = |(app, count): (i64, i64)| Some((AppId(u32::try_from(app).ok()?), count.unsigned_abs()));
    Ok(rows.into_iter().filter_map(count).collect())
}

/// One app's names, without repeats; the answers are in their order.
pub(super) async fn enrol(
    pool: &SqlitePool,
    asked: &[(AppId, Vec<DeviceName>)],
    per_app_max: u64,
) -> Result<Vec<Vec<Enrolled>>, StoreError> {
    let work = async {
        let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
        let mut answers = Vec::with_capacity(asked.len());
        for (app, names) in asked {
            answers.push(enrol_app(&mut transaction, *app, names, per_app_max).await?);
        }
        transaction.commit().await?;
        Ok::<_, sqlx::Error>(answers)
    };
    work.await.map_err(|error| unavailable(&error))
}

async fn enrol_app(
    connection: &mut SqliteConnection,
    app: AppId,
    names: &[DeviceName],
    per_app_max: u64,
) -> sqlx::Result<Vec<Enrolled>> {
    let known = clients(connection, dialect::DEVICES_OF_NAMES, app, names.iter()).await?;
    let (has,): (i64,) =
        sqlx::query_as(dialect::AUTOMATIC_DEVICES).bind(i64::from(app.0)).fetch_one(&mut *connection).await?;
    let room = per_app_max.saturating_sub(has.unsigned_abs());
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    let mut seen = HashSet::new();
    let new: Vec<&DeviceName> = names
        .iter()
        .filter(|name| !known.contains_key(name.as_str()) && seen.insert(name.as_str()))
        .take(room)
        .collect();
    let made = clients(connection, dialect::INSERT_AUTOMATIC, app, new.iter().copied()).await?;
    if !made.is_empty() {
        sqlx::query(dialect::COUNT_AUTOMATIC)
            .bind(i64::from(app.0))
            .bind(i64::try_from(made.len()).unwrap_or(i64::MAX))
            .execute(&mut *connection)
            .await?;
    }
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

/// Runs a statement over a list of names, given as one JSON array, that returns numbers and names.
async fn clients(
    connection: &mut SqliteConnection,
    statement: &'static str,
    app: AppId,
    names: impl Iterator<Item = &DeviceName>,
) -> sqlx::Result<HashMap<String, ClientId>> {
    let names: Vec<&str> = names.map(DeviceName::as_str).collect();
    if names.is_empty() {
        return Ok(HashMap::new());
    }
    let names = serde_json::Value::from(names).to_string();
    let rows: Vec<(i64, String)> =
        sqlx::query_as(statement).bind(i64::from(app.0)).bind(names).fetch_all(connection).await?;
    Ok(rows.into_iter().map(|(client, name)| (name, ClientId(client.unsigned_abs()))).collect())
}
