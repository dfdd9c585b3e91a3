//! Keys of apps and operators, what is written of an app as a whole, and its end.

use super::Registry;
use super::database::{Database, Work};
use super::rows::{Text, unavailable};
use crate::domain::people::{ApiKey, Grant};
use crate::domain::{App, AppId, AppSettings, SecretHash, WallMs};
use crate::store::port::StoreError;
use sqlx::AnyConnection;
use std::sync::atomic::AtomicU64;

const KEYS: &str = "SELECT id, app, name, hash, grants, created, expires, used FROM api_keys ORDER BY id";
const INSERT_KEY: &str = "INSERT INTO api_keys (id, app, name, hash, grants, created, expires, used) VALUES (?, ?, ?, ?, ?, ?, ?, 0)";
const REMOVE_KEY: &str = "DELETE FROM api_keys WHERE id = ?";
const REMOVE_KEYS: &str = "DELETE FROM api_keys WHERE app = ?";
const SET_USED: &str = "UPDATE api_keys SET used = ? WHERE id = ?";
const WRITE_APP: &str = "UPDATE apps SET secret_hash = ?, open_registration = ?, settings = ? WHERE id = ?";
const A_DEVICE: &str = "SELECT client FROM devices WHERE app = ? LIMIT 1";
const REMOVE_APP: &str = "DELETE FROM apps WHERE id = ?";

type KeyRow = (i64, i64, Text, Vec<u8>, Text, i64, Option<i64>, i64);

impl Registry {
    /// All keys.
    ///
    /// # Errors
    /// The registry failed, or a row cannot be read.
    pub async fn keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        let rows: Vec<KeyRow> = self
            .inner
            .database
            .rows(sqlx::query_as(self.sql(KEYS)))
            .await
            .map_err(|error| unavailable(&error))?;
        let damaged = || StoreError::Unavailable("registry: a row of api_keys is damaged".to_owned());
        rows.into_iter().map(|row| key(row).ok_or_else(damaged)).collect()
    }

    /// Writes a new key.
    ///
    /// # Errors
    /// The registry failed.
    pub async fn insert_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        let query = sqlx::query(self.sql(INSERT_KEY))
            .bind(key.id as i64)
            .bind(i64::from(key.grant.app().0))
            .bind(key.name.as_str())
            .bind(key.hash.0.as_slice())
            .bind(key.grant.words())
            .bind(key.created.0 as i64)
            .bind(key.expires.map(|at| at.0 as i64));
        self.inner.database.change(query).await.map(drop).map_err(|error| unavailable(&error))
    }

    /// Takes a key out.
    ///
    /// # Errors
    /// The registry failed.
    pub async fn remove_key(&self, id: u64) -> Result<(), StoreError> {
        let query = sqlx::query(self.sql(REMOVE_KEY)).bind(id as i64);
        self.inner.database.change(query).await.map(drop).map_err(|error| unavailable(&error))
    }

    /// Notes when a key was used.
    ///
    /// # Errors
    /// The registry failed.
    pub async fn set_key_used(&self, id: u64, at: WallMs) -> Result<(), StoreError> {
        let query = sqlx::query(self.sql(SET_USED)).bind(at.0 as i64).bind(id as i64);
        self.inner.database.change(query).await.map(drop).map_err(|error| unavailable(&error))
    }

    /// Writes an app's secret, open registration and settings, together.
    ///
    /// # Errors
    /// The registry failed.
    pub async fn write_app(&self, app: &App) -> Result<(), StoreError> {
        let text = serde_json::to_string(&*app.settings)
            .map_err(|error| StoreError::Unavailable(format!("settings: {error}")))?;
        let query = sqlx::query(self.sql(WRITE_APP))
            .bind(app.secret_hash.0.as_slice())
            .bind(i64::from(app.open_registration))
            .bind((*app.settings != AppSettings::default()).then_some(text))
            .bind(i64::from(app.id.0));
        self.inner.database.change(query).await.map(drop).map_err(|error| unavailable(&error))
    }

    /// Takes an app and its keys out. False: it has devices, and nothing was done.
    ///
    /// # Errors
    /// The registry failed.
    pub async fn remove_app(&self, app: AppId) -> Result<bool, StoreError> {
        self.inner.database.write(&AppRemoval(app)).await.map_err(|error| unavailable(&error))
    }
}

/// An app that goes.
struct AppRemoval(AppId);

impl Work for AppRemoval {
    type Made = bool;

    async fn run(&self, database: &Database, connection: &mut AnyConnection) -> sqlx::Result<bool> {
        let app = i64::from(self.0.0);
        let device: Option<(i64,)> =
            sqlx::query_as(database.sql(A_DEVICE)).bind(app).fetch_optional(&mut *connection).await?;
        if device.is_some() {
            return Ok(false);
        }
        for statement in [REMOVE_KEYS, REMOVE_APP] {
            sqlx::query(database.sql(statement)).bind(app).execute(&mut *connection).await?;
        }
        Ok(true)
    }
}

fn key(row: KeyRow) -> Option<ApiKey> {
    let (id, app, Text(name), hash, Text(words), created, expires, used) = row;
    let app = AppId(u32::try_from(app).ok()?);
    Some(ApiKey {
        id: id.unsigned_abs(),
        name,
        hash: SecretHash(hash.try_into().ok()?),
        grant: Grant::read(app, &words).ok()?,
        created: WallMs(created.unsigned_abs()),
        expires: expires.map(|at| WallMs(at.unsigned_abs())),
        used: AtomicU64::new(used.unsigned_abs()),
    })
}
