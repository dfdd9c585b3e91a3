//! Rows of the registry and how they become values of the domain.

use super::{dialect, login_ways};
use crate::domain::device::{AttributeName, AttributeValue};
use crate::domain::topic::Rules;
use crate::domain::{
    Alias, App, AppId, AppKey, AppSettings, ClientId, Device, DeviceName, DuplicateLogin, HeartbeatPolicy,
    HeartbeatProfile, Invalid, LoginWays, SecretHash, Tag,
};
use crate::store::port::StoreError;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{FromRow, Row};
use std::sync::Arc;

/// A row of `apps`.
pub(super) struct AppRow(pub(super) App);

/// A row of `devices`; its tags are elsewhere.
pub(super) struct DeviceRow(pub(super) Device);

fn unreadable(column: &str, problem: impl std::fmt::Display) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: problem.to_string().into() }
}

impl FromRow<'_, SqliteRow> for AppRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<AppRow> {
        let invalid = |invalid: Invalid| unreadable("app_key", invalid);
        let hash: Vec<u8> = row.try_get("secret_hash")?;
        let hash = hash.try_into().map_err(|_| unreadable("secret_hash", "not 32 bytes"))?;
        let policy: Option<&str> = row.try_get("duplicate_login")?;
        let policy = policy.map(DuplicateLogin::parse).transpose();
        Ok(AppRow(App {
            id: AppId(number(row.try_get("id")?, "id")?),
            key: AppKey::parse(row.try_get("app_key")?).map_err(invalid)?,
            secret_hash: SecretHash(hash),
            open_registration: row.try_get("open_registration")?,
            duplicate_login: policy.map_err(|invalid| unreadable("duplicate_login", invalid))?,
            heartbeat: heartbeat(row)?,
            topic_rules: topic_rules(row)?,
            login_ways: login_ways(row)?,
            settings: settings(row)?,
        }))
    }
}

impl FromRow<'_, SqliteRow> for DeviceRow {
    fn from_row(row: &SqliteRow) -> sqlx::Result<DeviceRow> {
        let invalid = |invalid: Invalid| unreadable("devices", invalid);
        let alias: Option<&str> = row.try_get("alias")?;
        Ok(DeviceRow(Device {
            app: AppId(number(row.try_get("app")?, "app")?),
            client: ClientId(number(row.try_get("client")?, "client")?),
            name: DeviceName::parse("name", row.try_get("name")?).map_err(invalid)?,
            alias: alias.map(|alias| Alias::parse("alias", alias)).transpose().map_err(invalid)?,
            tags: Vec::new(),
            attributes: Vec::new(),
            generation: number(row.try_get("generation")?, "generation")?,
        }))
    }
}

fn heartbeat(row: &SqliteRow) -> sqlx::Result<HeartbeatPolicy> {
    let profile: Option<&str> = row.try_get("heartbeat")?;
    let padding: Option<i64> = row.try_get("heartbeat_padding")?;
    let profile = profile.map(HeartbeatProfile::parse).transpose();
    Ok(HeartbeatPolicy {
        profile: profile.map_err(|invalid| unreadable("heartbeat", invalid))?,
        padding_max: padding.map(|bytes| number(bytes, "heartbeat_padding")).transpose()?,
    })
}

fn topic_rules(row: &SqliteRow) -> sqlx::Result<Arc<Rules>> {
    let Some(lines) = row.try_get::<Option<&str>, _>("topic_rules")? else { return Ok(Arc::default()) };
    let rules = Rules::parse(lines.lines()).map_err(|invalid| unreadable("topic_rules", invalid))?;
    Ok(Arc::new(rules))
}

fn login_ways(row: &SqliteRow) -> sqlx::Result<Arc<LoginWays>> {
    let Some(text) = row.try_get::<Option<&str>, _>("login_ways")? else { return Ok(Arc::default()) };
    // Its problem does not repeat the text, which holds secrets.
    login_ways::decode(text).map(Arc::new).map_err(|problem| unreadable("login_ways", problem))
}

fn settings(row: &SqliteRow) -> sqlx::Result<Arc<AppSettings>> {
    let Some(text) = row.try_get::<Option<&str>, _>("settings")? else { return Ok(Arc::default()) };
    serde_json::from_str(text).map(Arc::new).map_err(|error| unreadable("settings", error))
}

fn number<T: TryFrom<i64>>(value: i64, column: &str) -> sqlx::Result<T> {
    T::try_from(value).map_err(|_| unreadable(column, "out of range"))
}

/// SQL has no unsigned 64-bit numbers; client ids are given out from 1 and stay far below 2^63.
pub(super) fn signed(client: ClientId) -> i64 {
    i64::try_from(client.0).unwrap_or(-1)
}

/// Fills in the tags.
pub(super) async fn with_tags(
    connection: &mut SqliteConnection,
    row: Option<DeviceRow>,
) -> sqlx::Result<Option<Device>> {
    let Some(DeviceRow(mut device)) = row else { return Ok(None) };
    let tags: Vec<(String,)> =
        sqlx::query_as(dialect::TAGS).bind(signed(device.client)).fetch_all(&mut *connection).await?;
    for (tag,) in tags {
        device.tags.push(Tag::parse("tag", &tag).map_err(|invalid| unreadable("tag", invalid))?);
    }
    let attributes: Vec<(String, String)> =
        sqlx::query_as(dialect::ATTRIBUTES).bind(signed(device.client)).fetch_all(connection).await?;
    for (name, value) in attributes {
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
    StoreError::Unavailable(format!("registry: {error}"))
}
