//! The statements of the registry in SQLite's words. What another database says differently stands here alone:
//! placeholders, "insert unless it is there", and how an insert gives its number back.

/// The number in the header of our files; the first migration writes it.
pub(super) const APPLICATION_ID: i64 = 1_280_855_383;

pub(super) const READ_APPLICATION_ID: &str = "PRAGMA application_id";
pub(super) const COUNT_TABLES: &str = "SELECT COUNT(*) FROM sqlite_master";
pub(super) const QUICK_CHECK: &str = "PRAGMA quick_check(1)";

pub(super) const APPS: &str = "SELECT id, app_key, secret_hash, open_registration, duplicate_login, heartbeat, heartbeat_padding, topic_rules, login_ways, settings FROM apps ORDER BY id";
pub(super) const INSERT_APP: &str =
    "INSERT INTO apps (app_key, secret_hash, open_registration) VALUES (?1, ?2, ?3) RETURNING id";
pub(super) const SET_HEARTBEAT: &str = "UPDATE apps SET heartbeat = ?2, heartbeat_padding = ?3 WHERE id = ?1";
pub(super) const SET_DUPLICATE_LOGIN: &str = "UPDATE apps SET duplicate_login = ?2 WHERE id = ?1";

pub(super) const SET_TOPIC_RULES: &str = "UPDATE apps SET topic_rules = ?2 WHERE id = ?1";

pub(super) const SET_LOGIN_WAYS: &str = "UPDATE apps SET login_ways = ?2 WHERE id = ?1";

pub(super) const SET_SETTINGS: &str = "UPDATE apps SET settings = ?2 WHERE id = ?1";

pub(super) const DEVICE_BY_NAME: &str =
    "SELECT client, app, name, alias, generation FROM devices WHERE app = ?1 AND name = ?2";
pub(super) const DEVICE_BY_CLIENT: &str =
    "SELECT client, app, name, alias, generation FROM devices WHERE client = ?1";
pub(super) const TAGS: &str = "SELECT tag FROM device_tags WHERE client = ?1 ORDER BY tag";
pub(super) const INSERT_DEVICE: &str =
    "INSERT INTO devices (app, name, alias, generation) VALUES (?1, ?2, ?3, 0) RETURNING client";
/// The names are a JSON array: one statement for a batch, whatever its length.
pub(super) const DEVICES_OF_NAMES: &str =
    "SELECT client, name FROM devices WHERE app = ?1 AND name IN (SELECT value FROM json_each(?2))";
pub(super) const INSERT_AUTOMATIC: &str = "INSERT INTO devices (app, name, alias, generation, automatic) SELECT ?1, value, NULL, 0, 1 FROM json_each(?2) RETURNING client, name";
pub(super) const AUTOMATIC_DEVICES: &str = "SELECT automatic_devices FROM apps WHERE id = ?1";
pub(super) const AUTOMATIC_OF_APPS: &str =
    "SELECT id, automatic_devices FROM apps WHERE automatic_devices > 0";
pub(super) const COUNT_AUTOMATIC: &str =
    "UPDATE apps SET automatic_devices = automatic_devices + ?2 WHERE id = ?1";
pub(super) const SET_ALIAS: &str = "UPDATE devices SET alias = ?2 WHERE client = ?1";
pub(super) const REMOVE_TAGS: &str = "DELETE FROM device_tags WHERE client = ?1";
pub(super) const INSERT_TAG: &str =
    "INSERT INTO device_tags (client, tag) VALUES (?1, ?2) ON CONFLICT DO NOTHING";

pub(super) const ATTRIBUTES: &str = "SELECT name, value FROM device_attributes WHERE client = ?1";
pub(super) const REMOVE_ATTRIBUTES: &str = "DELETE FROM device_attributes WHERE client = ?1";
pub(super) const INSERT_ATTRIBUTE: &str =
    "INSERT INTO device_attributes (client, name, value) VALUES (?1, ?2, ?3)";

pub(super) const INSERT_SETTING: &str =
    "INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
pub(super) const REPLACE_SETTING: &str = "INSERT INTO settings (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value";
pub(super) const SETTING: &str = "SELECT value FROM settings WHERE name = ?1";
