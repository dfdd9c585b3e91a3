//! The registry: apps and devices in SQL (SQLite, MySQL or MariaDB, PostgreSQL), by one code.
//!
//! - [`registrations`]: registrations that wait together share a transaction.
//! - [`automatic`]: devices that register themselves by logging in.
//! - [`people`]: keys, and what is written of an app as a whole; [`audit`]: the log of administrative acts.
//! - [`changes`]: what is changed of registered devices, and their removal.
//! - [`login_ways`]: how they are written.
//! - [`open`]: opening the database, and what is checked then.
//! - [`database`]: its connections, reads and transactions, each within a bounded time.
//! - [`health`]: whether it answers; [`url`]: what of a URL may be shown.
//! - [`rows`]: rows and the values of the domain.
//! - [`statements`]: what is said, and [`dialect`]: how each database wants it said.

mod audit;
mod automatic;
mod changes;
mod database;
mod dialect;
mod health;
mod login_ways;
mod open;
mod people;
mod registrations;
mod rows;
mod statements;
mod url;

pub use self::audit::{AUDIT_LINES_MAX, AuditCheck};
pub use self::automatic::Enrolled;
pub use self::health::RegistryHealth;
pub use self::open::{CONNECTIONS_MAX, RegistryOptions, START_MAX, ServerError, check_url, look};
pub use self::url::shown;

use self::database::Database;
use self::open::Lock;
use self::registrations::Request;
use self::rows::{AppRow, unavailable};
use super::messages::OpenError;
use super::port::StoreError;
use crate::domain::{
    App, AppId, AppKey, AppSettings, ChangeRefused, ClientId, Device, DeviceChange, DeviceName,
    DuplicateLogin, HeartbeatPolicy, LoginWays, Registration, SecretHash, TokenKey,
};
use parking_lot::Mutex;
use sqlx::SqlStr;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// What a registration came to.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The device as it is now.
    pub device: Device,
    /// It did not exist before.
    pub created: bool,
}

/// Why a registration was not done.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RegisterError {
    /// The name exists and the caller may only make new ones.
    #[error("the registration id is taken")]
    Taken,
    /// The app has as many devices as it may.
    #[error("the app has as many devices as it may")]
    Quota,
    /// The registry failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Apps and devices in SQL. Clones share it.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    /// `None` once the registry is closed.
    requests: Mutex<Option<mpsc::Sender<Request>>>,
    task: Mutex<Option<JoinHandle<()>>>,
    lock: Mutex<Option<Lock>>,
}

const TOKEN_KEY: &str = "token_key";
const ADMIN_KEY: &str = "admin_key_hash";

impl Registry {
    /// Opens the database at a URL on the default terms, see [`Registry::open_on`].
    ///
    /// # Errors
    /// See [`Registry::open_on`].
    pub async fn open(url: &str) -> Result<Registry, OpenError> {
        Registry::open_on(&RegistryOptions::new(url)).await
    }

    /// Opens the database: makes a file that is missing, waits for a server that does not answer, takes it for this process, runs
    /// the migrations.
    ///
    /// # Errors
    /// Locked, not writable, away for longer than the terms allow, or not a database of ours.
    pub async fn open_on(terms: &RegistryOptions) -> Result<Registry, OpenError> {
        let (database, lock) = open::open(terms, RegistryHealth::default()).await?;
        let (requests, requests_end) = mpsc::channel(registrations::QUEUED_MAX);
        let task = tokio::spawn(registrations::serve(database.clone(), requests_end));
        Ok(Registry {
            inner: Arc::new(Inner {
                database,
                requests: Mutex::new(Some(requests)),
                task: Mutex::new(Some(task)),
                lock: Mutex::new(Some(lock)),
            }),
        })
    }

    /// All apps.
    ///
    /// # Errors
    /// The registry failed.
    pub async fn apps(&self) -> Result<Vec<App>, StoreError> {
        let query = sqlx::query_as(self.sql(statements::APPS));
        let rows: Vec<AppRow> = self.inner.database.rows(query).await.map_err(|error| unavailable(&error))?;
        Ok(rows.into_iter().map(|AppRow(app)| app).collect())
    }

    /// Makes an app.
    ///
    /// # Errors
    /// The key exists already, or the registry failed.
    pub async fn create_app(
        &self,
        key: &AppKey,
        hash: SecretHash,
        open_registration: bool,
    ) -> Result<App, StoreError> {
        let database = &self.inner.database;
        match database.write_once(&rows::NewApp { key, hash, open_registration }).await {
            Ok(id) => {
                let id = u32::try_from(id)
                    .map_err(|_| StoreError::Unavailable("registry: no app numbers are left".to_owned()))?;
                Ok(App {
                    id: AppId(id),
                    key: key.clone(),
                    secret_hash: hash,
                    open_registration,
                    duplicate_login: None,
                    heartbeat: HeartbeatPolicy::default(),
                    topic_rules: Arc::default(),
                    login_ways: Arc::default(),
                    settings: Arc::default(),
                })
            }
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                Err(StoreError::Unavailable(format!("an app with the key {} exists already", key.as_str())))
            }
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// Sets what meets a second login of the app's devices; `None` leaves it to the node's configuration.
    ///
    /// # Errors
    /// The registry failed.
    pub async fn set_duplicate_login(
        &self,
        app: AppId,
        policy: Option<DuplicateLogin>,
    ) -> Result<(), StoreError> {
        let policy = policy.map(|policy| policy.label().to_owned());
        self.set_text(statements::SET_DUPLICATE_LOGIN, app, policy).await
    }

    /// Sets the heartbeat of the app's devices; what is `None` is left to the node's configuration.
    ///
    /// # Errors
    /// The registry failed.
    pub async fn set_heartbeat(&self, app: AppId, policy: HeartbeatPolicy) -> Result<(), StoreError> {
        let query = sqlx::query(self.sql(statements::SET_HEARTBEAT))
            .bind(policy.profile.map(|profile| profile.to_string()))
            .bind(policy.padding_max.map(i64::from))
            .bind(i64::from(app.0));
        self.inner.database.change(query).await.map(drop).map_err(|error| unavailable(&error))
    }

    /// Sets what the app's devices may do with topics: one rule a line; `None`: the default.
    ///
    /// # Errors
    /// The registry failed.
    pub async fn set_topic_rules(&self, app: AppId, lines: Option<String>) -> Result<(), StoreError> {
        self.set_text(statements::SET_TOPIC_RULES, app, lines).await
    }

    /// Sets how the app's MQTT clients may prove who they are.
    ///
    /// # Errors
    /// The registry failed.
    pub async fn set_login_ways(&self, app: AppId, ways: &LoginWays) -> Result<(), StoreError> {
        let text = (*ways != LoginWays::default()).then(|| login_ways::encode(ways));
        self.set_text(statements::SET_LOGIN_WAYS, app, text).await
    }

    /// Sets what else holds for the app.
    ///
    /// # Errors
    /// The registry failed.
    pub async fn set_settings(&self, app: AppId, settings: &AppSettings) -> Result<(), StoreError> {
        let text = serde_json::to_string(settings)
            .map_err(|error| StoreError::Unavailable(format!("settings: {error}")))?;
        self.set_text(statements::SET_SETTINGS, app, (*settings != AppSettings::default()).then_some(text))
            .await
    }

    async fn set_text(
        &self,
        statement: &'static str,
        app: AppId,
        text: Option<String>,
    ) -> Result<(), StoreError> {
        let query = sqlx::query(self.sql(statement)).bind(text).bind(i64::from(app.0));
        self.inner.database.change(query).await.map(drop).map_err(|error| unavailable(&error))
    }

    /// The deployment's token key, made at the first call.
    ///
    /// # Errors
    /// The registry failed.
    pub async fn token_key(&self) -> Result<TokenKey, StoreError> {
        let mut random = [0_u8; 32];
        getrandom::fill(&mut random)
            .map_err(|error| StoreError::Unavailable(format!("no randomness: {error}")))?;
        let keep = self.inner.database.dialect.insert_or_keep("settings", &["name", "value"]);
        self.write_setting(keep, TOKEN_KEY, &random).await?;
        let stored = self.setting(TOKEN_KEY).await?;
        let stored =
            stored.ok_or_else(|| StoreError::Unavailable("registry: the token key is missing".to_owned()))?;
        Ok(TokenKey::new(stored))
    }

    /// What the admin key must hash to; `None` before one was made.
    ///
    /// # Errors
    /// The registry failed.
    pub async fn admin_key(&self) -> Result<Option<SecretHash>, StoreError> {
        Ok(self.setting(ADMIN_KEY).await?.map(SecretHash))
    }

    /// Replaces the admin key.
    ///
    /// # Errors
    /// The registry failed.
    pub async fn set_admin_key(&self, hash: SecretHash) -> Result<(), StoreError> {
        let replace = self.inner.database.dialect.insert_or_replace("settings", &["name", "value"]);
        self.write_setting(replace, ADMIN_KEY, &hash.0).await
    }

    async fn write_setting(&self, statement: SqlStr, name: &str, value: &[u8; 32]) -> Result<(), StoreError> {
        let query = sqlx::query(statement).bind(name).bind(value.as_slice());
        self.inner.database.change(query).await.map(drop).map_err(|error| unavailable(&error))
    }

    async fn setting(&self, name: &str) -> Result<Option<[u8; 32]>, StoreError> {
        let query = sqlx::query_as(self.sql(statements::SETTING)).bind(name);
        let stored: Option<(Vec<u8>,)> =
            self.inner.database.row(query).await.map_err(|error| unavailable(&error))?;
        let damaged = |_| StoreError::Unavailable(format!("registry: the setting {name} is damaged"));
        stored.map(|(bytes,)| bytes.try_into().map_err(damaged)).transpose()
    }

    /// Registers or updates a device; concurrent calls share a transaction. `may_update` false refuses existing names.
    ///
    /// # Errors
    /// See [`RegisterError`].
    pub async fn register(
        &self,
        app: &App,
        registration: Registration,
        may_update: bool,
    ) -> Result<Registered, RegisterError> {
        let closed = || RegisterError::Store(StoreError::Unavailable("the registry is closed".to_owned()));
        let (reply, answer) = oneshot::channel();
        let requests = self.inner.requests.lock().clone().ok_or_else(closed)?;
        let request = Request { app: app.id, registration, may_update, reply };
        let answered = async {
            requests.send(request).await.map_err(|_| closed())?;
            answer.await.map_err(|_| closed())?
        };
        // Those before it wait as long at most, so it may have waited for them.
        let late = |_| RegisterError::Store(StoreError::Registry("no answer in time".to_owned()));
        timeout(database::ANSWER_MAX, answered).await.map_err(late)?
    }

    /// Registers names that log in for the first time, marked as automatic, in one transaction. Per app a list without
    /// repeats; beyond `per_app_max` automatic devices of an app no more are made.
    ///
    /// # Errors
    /// The registry failed: none was made.
    pub async fn enrol(
        &self,
        asked: &[(AppId, Vec<DeviceName>)],
        per_app_max: u64,
    ) -> Result<Vec<Vec<Enrolled>>, StoreError> {
        automatic::enrol(&self.inner.database, asked, per_app_max).await
    }

    /// How many automatic devices each app has, where it has any.
    ///
    /// # Errors
    /// The registry failed.
    pub async fn automatic_devices(&self) -> Result<Vec<(AppId, u64)>, StoreError> {
        automatic::counts(&self.inner.database).await
    }

    /// Changes devices, in order, in one transaction. One outcome for each; what is refused leaves its device as it was.
    ///
    /// # Errors
    /// The registry failed: nothing was changed.
    pub async fn change(
        &self,
        asked: &[(AppId, DeviceName, DeviceChange)],
    ) -> Result<Vec<Result<Device, ChangeRefused>>, StoreError> {
        let done = self.inner.database.write(&changes::Changes(asked)).await;
        done.map_err(|error| unavailable(&error))
    }

    /// Takes a device out; its number is never given again. `None`: there was none with this number; true: it had registered
    /// itself by logging in.
    ///
    /// # Errors
    /// The registry failed: it is still there.
    pub async fn remove(&self, client: ClientId) -> Result<Option<bool>, StoreError> {
        let done = self.inner.database.write(&changes::Removal(client)).await;
        done.map_err(|error| unavailable(&error))
    }

    /// A device by name.
    ///
    /// # Errors
    /// The registry failed.
    pub async fn device(&self, app: &App, name: &DeviceName) -> Result<Option<Device>, StoreError> {
        self.inner.database.read(&rows::ByName(app.id, name)).await.map_err(|error| unavailable(&error))
    }

    /// A device by number, of any app: heals a missing profile.
    ///
    /// # Errors
    /// The registry failed.
    pub async fn device_by_client(&self, client: ClientId) -> Result<Option<Device>, StoreError> {
        self.inner.database.read(&rows::ByClient(client)).await.map_err(|error| unavailable(&error))
    }

    /// Finishes the registrations that wait and ends the connections to the database.
    pub async fn close(&self) {
        self.inner.requests.lock().take();
        let task = self.inner.task.lock().take();
        if let Some(task) = task {
            let _ = task.await;
        }
        // A database that stands still is not waited for; its connections end with the process.
        let _ = timeout(database::ANSWER_MAX, self.inner.database.pool.close()).await;
        let lock = self.inner.lock.lock().take();
        if let Some(lock) = lock {
            lock.free().await;
        }
    }

    /// Whether it answers.
    #[must_use]
    pub fn health(&self) -> RegistryHealth {
        self.inner.database.health.clone()
    }

    fn sql(&self, statement: &'static str) -> SqlStr {
        self.inner.database.sql(statement)
    }
}
