//! What is changed of registered devices, and their removal.

use super::database::{Database, Work};
use super::rows::{device_row, signed, with_tags};
use super::statements;
use crate::domain::{AppId, ChangeRefused, ClientId, Device, DeviceChange, DeviceName};
use sqlx::AnyConnection;

const SET_GENERATION: &str = "UPDATE devices SET generation = ? WHERE client = ?";
const REMOVE_TAG: &str = "DELETE FROM device_tags WHERE client = ? AND tag = ?";
const REMOVE_ATTRIBUTE: &str = "DELETE FROM device_attributes WHERE client = ? AND name = ?";
const AUTOMATIC: &str = "SELECT app, automatic FROM devices WHERE client = ?";
const REMOVE_DEVICE: &str = "DELETE FROM devices WHERE client = ?";

/// Changes that share a transaction, in their order.
pub(super) struct Changes<'a>(pub(super) &'a [(AppId, DeviceName, DeviceChange)]);

/// A device that goes.
pub(super) struct Removal(pub(super) ClientId);

impl Work for Changes<'_> {
    type Made = Vec<Result<Device, ChangeRefused>>;

    async fn run(&self, database: &Database, connection: &mut AnyConnection) -> sqlx::Result<Self::Made> {
        let mut outcomes = Vec::with_capacity(self.0.len());
        for (app, name, change) in self.0 {
            outcomes.push(change_one(database, connection, *app, name, change).await?);
        }
        Ok(outcomes)
    }
}

async fn change_one(
    database: &Database,
    connection: &mut AnyConnection,
    app: AppId,
    name: &DeviceName,
    change: &DeviceChange,
) -> sqlx::Result<Result<Device, ChangeRefused>> {
    let row = device_row(database, connection, app, name).await?;
    let Some(before) = with_tags(database, connection, row).await? else {
        return Ok(Err(ChangeRefused::Unknown));
    };
    match change.apply(&before) {
        Ok(after) => {
            write_row(database, connection, &before, &after).await?;
            write_labels(database, connection, &before, &after).await?;
            Ok(Ok(after))
        }
        Err(refused) => Ok(Err(refused)),
    }
}

async fn write_row(
    database: &Database,
    connection: &mut AnyConnection,
    before: &Device,
    after: &Device,
) -> sqlx::Result<()> {
    let client = signed(after.client);
    if before.alias != after.alias {
        let alias = after.alias.as_ref().map(|alias| alias.as_str().to_owned());
        let query = sqlx::query(database.sql(statements::SET_ALIAS)).bind(alias).bind(client);
        query.execute(&mut *connection).await?;
    }
    if before.generation != after.generation {
        let generation = i64::from(after.generation);
        let query = sqlx::query(database.sql(SET_GENERATION)).bind(generation).bind(client);
        query.execute(connection).await?;
    }
    Ok(())
}

/// Writes what is different of tags and attributes.
async fn write_labels(
    database: &Database,
    connection: &mut AnyConnection,
    before: &Device,
    after: &Device,
) -> sqlx::Result<()> {
    let client = signed(after.client);
    for tag in before.tags.iter().filter(|tag| !after.tags.contains(tag)) {
        let query = sqlx::query(database.sql(REMOVE_TAG)).bind(client).bind(tag.as_str());
        query.execute(&mut *connection).await?;
    }
    for tag in after.tags.iter().filter(|tag| !before.tags.contains(tag)) {
        let query = sqlx::query(database.sql(statements::INSERT_TAG)).bind(client).bind(tag.as_str());
        query.execute(&mut *connection).await?;
    }
    // One whose value is another goes first, too.
    for (name, _) in before.attributes.iter().filter(|attribute| !after.attributes.contains(attribute)) {
        let query = sqlx::query(database.sql(REMOVE_ATTRIBUTE)).bind(client).bind(name.as_str());
        query.execute(&mut *connection).await?;
    }
    for (name, value) in after.attributes.iter().filter(|attribute| !before.attributes.contains(attribute)) {
        sqlx::query(database.sql(statements::INSERT_ATTRIBUTE))
            .bind(client)
            .bind(name.as_str())
            .bind(value.as_str())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

impl Work for Removal {
    /// Whether it had registered itself; `None`: there was none.
    type Made = Option<bool>;

    async fn run(&self, database: &Database, connection: &mut AnyConnection) -> sqlx::Result<Self::Made> {
        let client = signed(self.0);
        let query = sqlx::query_as(database.dialect.locked(AUTOMATIC)).bind(client);
        let row: Option<(i64, i64)> = query.fetch_optional(&mut *connection).await?;
        let Some((app, automatic)) = row else { return Ok(None) };
        for statement in [statements::REMOVE_TAGS, statements::REMOVE_ATTRIBUTES, REMOVE_DEVICE] {
            sqlx::query(database.sql(statement)).bind(client).execute(&mut *connection).await?;
        }
        if automatic != 0 {
            let query = sqlx::query(database.sql(statements::COUNT_AUTOMATIC)).bind(-1_i64).bind(app);
            query.execute(connection).await?;
        }
        Ok(Some(automatic != 0))
    }
}
