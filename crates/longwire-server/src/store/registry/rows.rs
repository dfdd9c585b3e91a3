//! Rows of the registry and how they become values of the domain.

use super::database::{Database, Work};
use super::{dialect, login_ways, statements};
use crate::domain::device::{AttributeName, AttributeValue};
use crate::domain::topic::Rules;
use crate::domain::{
    Alias, App, AppId, AppKey, AppSettings, ClientId, Device, DeviceName, DuplicateLogin, HeartbeatPolicy,
    HeartbeatProfile, Invalid, LoginWays, SecretHash, Tag,
};
use crate::store::port::StoreError;
use sqlx::any::{AnyRow, AnyTypeInfo, AnyTypeInfoKind, AnyValueRef};
use sqlx::error::BoxDynError;
use sqlx::{Any, AnyConnection, Decode, FromRow, Row, Type};
use std::sync::Arc;

/// A row of `apps`.
pub(super) struct AppRow(pub(super) App);

/// A row of `devices`; its tags are elsewhere.
pub(super) struct DeviceRow(pub(super) Device);

/// A text, as text or as its bytes: MySQL compares exactly what is kept as bytes, see its first migration.
pub(super) struct Text(pub(super) String);

impl Type<Any> for Text {
    fn type_info() -> AnyTypeInfo {
        <str as Type<Any>>::type_info()
    }
    fn compatible(kind: &AnyTypeInfo) -> bool {
        matches!(kind.kind(), AnyTypeInfoKind::Text | AnyTypeInfoKind::Blob)
    }
}

impl<'r> Decode<'r, Any> for Text {
    fn decode(value: AnyValueRef<'r>) -> Result<Text, BoxDynError> {
        match <&str as Decode<Any>>::decode(value.clone()) {
            Ok(text) => Ok(Text(text.to_owned())),
            Err(_) => Ok(Text(String::from_utf8(<Vec<u8> as Decode<Any>>::decode(value)?)?)),
        }
    }
}

/// A column of text that may be empty.
fn text(row: &AnyRow, column: &str) -> sqlx::Result<Option<String>> {
    Ok(row.try_get::<Option<Text>, _>(column)?.map(|Text(text)| text))
}

fn some_text(row: &AnyRow, column: &str) -> sqlx::Result<String> {
    row.try_get::<Text, _>(column).map(|Text(text)| text)
}

fn unreadable(column: &str, problem: impl std::fmt::Display) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: problem.to_string().into() }
}

impl FromRow<'_, AnyRow> for AppRow {
    fn from_row(row: &AnyRow) -> sqlx::Result<AppRow> {
        let invalid = |invalid: Invalid| unreadable("app_key", invalid);
        let hash: Vec<u8> = row.try_get("secret_hash")?;
        let hash = hash.try_into().map_err(|_| unreadable("secret_hash", "not 32 bytes"))?;
        let policy = text(row, "duplicate_login")?.as_deref().map(DuplicateLogin::parse).transpose();
        Ok(AppRow(App {
            id: AppId(number(row.try_get("id")?, "id")?),
            key: AppKey::parse(&some_text(row, "app_key")?).map_err(invalid)?,
            secret_hash: SecretHash(hash),
            open_registration: row.try_get::<i64, _>("open_registration")? != 0,
            duplicate_login: policy.map_err(|invalid| unreadable("duplicate_login", invalid))?,
            heartbeat: heartbeat(row)?,
            topic_rules: topic_rules(row)?,
            login_ways: login_ways(row)?,
            settings: settings(row)?,
        }))
    }
}

impl FromRow<'_, AnyRow> for DeviceRow {
    fn from_row(row: &AnyRow) -> sqlx::Result<DeviceRow> {
        let invalid = |invalid: Invalid| unreadable("devices", invalid);
        let alias = text(row, "alias")?;
        Ok(DeviceRow(Device {
            app: AppId(number(row.try_get("app")?, "app")?),
            client: ClientId(number(row.try_get("client")?, "client")?),
            name: DeviceName::parse("name", &some_text(row, "name")?).map_err(invalid)?,
            alias: alias.as_deref().map(|alias| Alias::parse("alias", alias)).transpose().map_err(invalid)?,
            tags: Vec::new(),
            attributes: Vec::new(),
            generation: number(row.try_get("generation")?, "generation")?,
        }))
    }
}

fn heartbeat(row: &AnyRow) -> sqlx::Result<HeartbeatPolicy> {
    let padding: Option<i64> = row.try_get("heartbeat_padding")?;
    let profile = text(row, "heartbeat")?.as_deref().map(HeartbeatProfile::parse).transpose();
    Ok(HeartbeatPolicy {
        profile: profile.map_err(|invalid| unreadable("heartbeat", invalid))?,
        padding_max: padding.map(|bytes| number(bytes, "heartbeat_padding")).transpose()?,
    })
}

fn topic_rules(row: &AnyRow) -> sqlx::Result<Arc<Rules>> {
    let Some(lines) = text(row, "topic_rules")? else { return Ok(Arc::default()) };
    let rules = Rules::parse(lines.lines()).map_err(|invalid| unreadable("topic_rules", invalid))?;
    Ok(Arc::new(rules))
}

fn login_ways(row: &AnyRow) -> sqlx::Result<Arc<LoginWays>> {
    let Some(text) = text(row, "login_ways")? else { return Ok(Arc::default()) };
    // Its problem does not repeat the text, which holds secrets.
    login_ways::decode(&text).map(Arc::new).map_err(|problem| unreadable("login_ways", problem))
}

fn settings(row: &AnyRow) -> sqlx::Result<Arc<AppSettings>> {
    let Some(text) = text(row, "settings")? else { return Ok(Arc::default()) };
    serde_json::from_str(&text).map(Arc::new).map_err(|error| unreadable("settings", error))
}

fn number<T: TryFrom<i64>>(value: i64, column: &str) -> sqlx::Result<T> {
    T::try_from(value).map_err(|_| unreadable(column, "out of range"))
}

/// SQL has no unsigned 64-bit numbers; client ids are given out from 1 and stay far below 2^63.
pub(super) fn signed(client: ClientId) -> i64 {
    i64::try_from(client.0).unwrap_or(-1)
}

/// A device of an app by its name.
pub(super) struct ByName<'a>(pub(super) AppId, pub(super) &'a DeviceName);

/// A device by its number.
pub(super) struct ByClient(pub(super) ClientId);

/// An app that is made; its number comes of it.
pub(super) struct NewApp<'a> {
    pub(super) key: &'a AppKey,
    pub(super) hash: SecretHash,
    pub(super) open_registration: bool,
}

impl Work for ByName<'_> {
    type Made = Option<Device>;

    async fn run(&self, database: &Database, connection: &mut AnyConnection) -> sqlx::Result<Self::Made> {
        let query = sqlx::query_as(database.sql(statements::DEVICE_BY_NAME));
        let query = query.bind(i64::from(self.0.0)).bind(self.1.as_str());
        let row = query.fetch_optional(&mut *connection).await?;
        with_tags(database, connection, row).await
    }
}

impl Work for ByClient {
    type Made = Option<Device>;

    async fn run(&self, database: &Database, connection: &mut AnyConnection) -> sqlx::Result<Self::Made> {
        let query = sqlx::query_as(database.sql(statements::DEVICE_BY_CLIENT)).bind(signed(self.0));
        let row = query.fetch_optional(&mut *connection).await?;
        with_tags(database, connection, row).await
    }
}

impl Work for NewApp<'_> {
    type Made = i64;

    async fn run(&self, database: &Database, connection: &mut AnyConnection) -> sqlx::Result<i64> {
        let query = sqlx::query(database.dialect.numbering(statements::INSERT_APP, "id"))
            .bind(self.key.as_str())
            .bind(self.hash.0.as_slice())
            .bind(i64::from(self.open_registration));
        dialect::insert(database.dialect, connection, query).await
    }
}

/// The row of a device by its name, held until the transaction ends.
pub(super) async fn device_row(
    database: &Database,
    connection: &mut AnyConnection,
    app: AppId,
    name: &DeviceName,
) -> sqlx::Result<Option<DeviceRow>> {
    sqlx::query_as(database.dialect.locked(statements::DEVICE_BY_NAME))
        .bind(i64::from(app.0))
        .bind(name.as_str())
        .fetch_optional(connection)
        .await
}

/// Fills in the tags and attributes.
pub(super) async fn with_tags(
    database: &Database,
    connection: &mut AnyConnection,
    row: Option<DeviceRow>,
) -> sqlx::Result<Option<Device>> {
    let Some(DeviceRow(mut device)) = row else { return Ok(None) };
    let client = signed(device.client);
    let tags: Vec<(Text,)> =
        sqlx::query_as(database.sql(statements::TAGS)).bind(client).fetch_all(&mut *connection).await?;
    for (Text(tag),) in tags {
        device.tags.push(Tag::parse("tag", &tag).map_err(|invalid| unreadable("tag", invalid))?);
    }
    let attributes: Vec<(Text, Text)> =
        sqlx::query_as(database.sql(statements::ATTRIBUTES)).bind(client).fetch_all(connection).await?;
    for (Text(name), Text(value)) in attributes {
        let invalid = |invalid: Invalid| unreadable("attribute", invalid);
        let name = AttributeName::parse("name", &name).map_err(invalid)?;
        device.attributes.push((name, AttributeValue::parse("value", &value).map_err(invalid)?));
    }
    // The database's order of texts need not be ours.
    device.tags.sort();
    device.attributes.sort();
    Ok(Some(device))
}

/// What a caller is told of a database's error.
pub(super) fn unavailable(error: &sqlx::Error) -> StoreError {
    StoreError::Registry(error.to_string())
}
