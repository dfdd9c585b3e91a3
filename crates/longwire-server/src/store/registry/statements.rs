//! The statements of the registry. They are written with `?` for each value, in its order; [`super::dialect`] says them in the words
//! of the database that is there.

/// The number that says whose tables these are; the first migration writes it.
pub(super) const APPLICATION_ID: i64 = 1_280_855_383;

pub(super) const APPS: &str = "SELECT id, app_key, secret_hash, open_registration, duplicate_login, heartbeat, heartbeat_padding, topic_rules, login_ways, settings FROM apps ORDER BY id";
pub(super) const INSERT_APP: &str =
    "INSERT INTO apps (app_key, secret_hash, open_registration) VALUES (?, ?, ?)";
pub(super) const SET_HEARTBEAT: &str = "UPDATE apps SET heartbeat = ?, heartbeat_padding = ? WHERE id = ?";
pub(super) const SET_DUPLICATE_LOGIN: &str = "UPDATE apps SET duplicate_login = ? WHERE id = ?";
pub(super) const SET_TOPIC_RULES: &str = "UPDATE apps SET topic_rules = ? WHERE id = ?";
pub(super) const SET_LOGIN_WAYS: &str = "UPDATE apps SET login_ways = ? WHERE id = ?";
pub(super) const SET_SETTINGS: &str = "UPDATE apps SET settings = ? WHERE id = ?";

pub(super) const DEVICE_BY_NAME: &str =
    "SELECT client, app, name, alias, generation FROM devices WHERE app = ? AND name = ?";
pub(super) const DEVICE_BY_CLIENT: &str =
    "SELECT client, app, name, alias, generation FROM devices WHERE client = ?";
pub(super) const TAGS: &str = "SELECT tag FROM device_tags WHERE client = ?";
pub(super) const ATTRIBUTES: &str = "SELECT name, value FROM device_attributes WHERE client = ?";
pub(super) const INSERT_DEVICE: &str = "INSERT INTO devices (app, name, generation) VALUES (?, ?, 0)";
pub(super) const SET_ALIAS: &str = "UPDATE devices SET alias = ? WHERE client = ?";
pub(super) const REMOVE_TAGS: &str = "DELETE FROM device_tags WHERE client = ?";
pub(super) const INSERT_TAG: &str = "INSERT INTO device_tags (client, tag) VALUES (?, ?)";
pub(super) const REMOVE_ATTRIBUTES: &str = "DELETE FROM device_attributes WHERE client = ?";
pub(super) const INSERT_ATTRIBUTE: &str =
    "INSERT INTO device_attributes (client, name, value) VALUES (?, ?, ?)";

/// A list of names follows, see [`super::dialect::Dialect::listed`].
pub(super) const DEVICES_OF_NAMES: &str = "SELECT client, name FROM devices WHERE app = ? AND name IN";
/// Rows follow.
pub(super) const INSERT_AUTOMATIC: &str = "INSERT INTO devices (app, name, generation, automatic) VALUES";
pub(super) const AUTOMATIC_ROW: &str = "(?, ?, 0, 1)";
pub(super) const AUTOMATIC_DEVICES: &str = "SELECT automatic_devices FROM apps WHERE id = ?";
pub(super) const AUTOMATIC_OF_APPS: &str =
    "SELECT id, automatic_devices FROM apps WHERE automatic_devices > 0";
pub(super) const COUNT_AUTOMATIC: &str =
    "UPDATE apps SET automatic_devices = automatic_devices + ? WHERE id = ?";

pub(super) const SETTING: &str = "SELECT value FROM settings WHERE name = ?";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::registry::dialect::Dialect;
    use sqlx::{AnyConnection, Connection as _, SqlSafeStr as _, SqlStr};

    /// How SQLite would look for the rows.
    async fn plan(connection: &mut AnyConnection, statement: SqlStr) -> String {
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {}", statement.as_str()));
        let steps: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(explain).fetch_all(connection).await.unwrap();
        steps.into_iter().map(|(.., step)| step + "\n").collect()
    }

    /// The keys are the same in the other databases.
    #[tokio::test]
    async fn what_registrations_and_logins_ask_is_found_by_a_key() {
        sqlx::any::install_default_drivers();
        let mut connection = AnyConnection::connect("sqlite::memory:").await.unwrap();
        sqlx::migrate!("./migrations/sqlite").run(&mut connection).await.unwrap();
        let mut asked = [
            DEVICE_BY_NAME,
            DEVICE_BY_CLIENT,
            TAGS,
            ATTRIBUTES,
            SET_ALIAS,
            REMOVE_TAGS,
            REMOVE_ATTRIBUTES,
            AUTOMATIC_DEVICES,
            COUNT_AUTOMATIC,
            SETTING,
        ]
        .map(|statement| statement.into_sql_str())
        .to_vec();
        asked.push(Dialect::Sqlite.listed(DEVICES_OF_NAMES, "?", 3, ["(", ")"]));
        for statement in asked {
            let plan = plan(&mut connection, statement.clone()).await;
            assert!(plan.contains("SEARCH") && !plan.contains("SCAN"), "{}: {plan}", statement.as_str());
        }
        let without = "SELECT client FROM devices WHERE alias = ?".into_sql_str();
        assert!(plan(&mut connection, without).await.contains("SCAN"));
    }
}
