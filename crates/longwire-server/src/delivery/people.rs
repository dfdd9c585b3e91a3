//! Apps from their making to their end, keys, and the log of what administrators do.

use super::border::{Command, ShardId};
use super::hub::{Core, Hub, SetError, random_bytes};
use super::truth;
use crate::domain::audit::{AuditEntry, AuditLine};
use crate::domain::people::{ApiKey, Grant, KEYS_MAX};
use crate::domain::{App, AppId, AppKey, AppSecret, Invalid, RetiredSecret, SecretHash, WallMs};
use crate::store::port::StoreError;
pub use crate::store::registry::AuditCheck;
use longwire_proto::close::CloseReason;
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The longest that a replaced secret stays good, seconds.
pub const GRACE_S_MAX: u64 = 86_400;
/// Connections of a disabled app that a shard ends at once, and the pause before the next: a shard serves others meanwhile.
const ENDS_TOGETHER: u32 = 500;
const ENDS_PAUSE: Duration = Duration::from_millis(50);
/// Devices of a disabled app are told to come back after this, seconds.
pub(super) const DISABLED_RETRY_S: u16 = 300;

/// Keys by id, and the turn of whoever makes or revokes one.
#[derive(Default)]
pub(super) struct People {
    keys: RwLock<BTreeMap<u64, Arc<ApiKey>>>,
    turn: tokio::sync::Mutex<()>,
}

impl People {
    pub(super) fn new(keys: Vec<ApiKey>) -> People {
        let keys = keys.into_iter().map(|key| (key.id, Arc::new(key))).collect();
        People { keys: RwLock::new(keys), turn: tokio::sync::Mutex::default() }
    }
}

/// Whoever showed an app's secret, or a key of it.
#[derive(Clone, Debug)]
pub struct Known {
    /// The app.
    pub app: Arc<App>,
    /// The key; `None`: the app's secret.
    pub key: Option<Arc<ApiKey>>,
}

/// Why an app was not taken out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RemoveError {
    /// There is none.
    #[error("no such app")]
    Unknown,
    /// It is in service.
    #[error("the app is not disabled")]
    InService,
    /// It has devices.
    #[error("the app has devices; remove them first")]
    HasDevices,
    /// The registry failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Hub {
    /// Who shows this as an app's key and secret. A key that has the form of [`ApiKey`] is looked up by its id; each answer
    /// takes the same time whether key and id are there or not.
    #[must_use]
    pub fn known(&self, key: &str, secret: &AppSecret) -> Option<Known> {
        let core = &self.core;
        let Some(id) = ApiKey::id_of(secret) else {
            return self.authenticate(key, secret).map(|app| Known { app, key: None });
        };
        let now = (core.clock)();
        let app = core.app(key);
        let found = core.people.keys.read().get(&id).cloned();
        let matches = hash_of(found.as_ref()).matches(secret);
        let (app, found) = (app?, found?);
        if !matches || found.grant.app() != app.id || !found.is_valid(now) {
            return None;
        }
        self.note_use(&found, now);
        Some(Known { app, key: Some(found) })
    }

    /// The operator's key that is shown.
    #[must_use]
    pub fn operator(&self, secret: &AppSecret) -> Option<Arc<ApiKey>> {
        let found = ApiKey::id_of(secret).and_then(|id| self.core.people.keys.read().get(&id).cloned());
        let (matches, now) = (hash_of(found.as_ref()).matches(secret), (self.core.clock)());
        let found = found.filter(|key| matches && key.is_valid(now))?;
        if !matches!(found.grant, Grant::Operator(_)) {
            return None;
        }
        self.note_use(&found, now);
        Some(found)
    }

    /// At most one write a minute and key.
    fn note_use(&self, key: &Arc<ApiKey>, now: WallMs) {
        if key.is_used(now) {
            let (registry, id) = (self.core.registry.clone(), key.id);
            tokio::spawn(async move {
                if let Err(error) = registry.set_key_used(id, now).await {
                    tracing::warn!(%error, "it was not noted that a key is used");
                }
            });
        }
    }

    /// Keys of an app ([`AppId`] 0: of operators) after an id, by their ids, at most so many.
    #[must_use]
    pub fn keys(&self, of: AppId, after: Option<u64>, most: usize) -> Vec<Arc<ApiKey>> {
        let keys = self.core.people.keys.read();
        let after = keys.range(after.map_or(0, |id| id.saturating_add(1))..);
        after.map(|(_, key)| key).filter(|key| key.grant.app() == of).take(most).cloned().collect()
    }

    /// Makes a key; its text is shown once and kept nowhere.
    ///
    /// # Errors
    /// There are [`KEYS_MAX`] already, or the registry's.
    pub async fn create_key(
        &self,
        name: String,
        grant: Grant,
        life_s: Option<u64>,
    ) -> Result<(Arc<ApiKey>, AppSecret), SetError> {
        let people = &self.core.people;
        let _turn = people.turn.lock().await;
        if self.keys(grant.app(), None, KEYS_MAX).len() >= KEYS_MAX {
            return Err(Invalid::new("name", format!("there are {KEYS_MAX} keys; revoke one first")).into());
        }
        let random = random_bytes()?;
        let id = std::array::from_fn(|at| random[at]);
        let (id, text) = ApiKey::text(id, random_bytes()?);
        let (hash, created) = (text.hash(), (self.core.clock)());
        let expires = life_s.map(|life_s| WallMs(created.0.saturating_add(life_s.saturating_mul(1000))));
        let key = ApiKey { id, name, hash, grant, created, expires, used: 0.into() };
        self.core.registry.insert_key(&key).await?;
        let key = Arc::new(key);
        people.keys.write().insert(id, key.clone());
        Ok((key, text))
    }

    /// Revokes a key of an app ([`AppId`] 0: of operators), at once. False: it has none of this id.
    ///
    /// # Errors
    /// The registry's: the key is as it was.
    pub async fn revoke_key(&self, of: AppId, id: u64) -> Result<bool, StoreError> {
        let people = &self.core.people;
        let _turn = people.turn.lock().await;
        let is_of = |key: &Arc<ApiKey>| key.grant.app() == of;
        if !people.keys.read().get(&id).is_some_and(is_of) {
            return Ok(false);
        }
        self.core.registry.remove_key(id).await?;
        people.keys.write().remove(&id);
        Ok(true)
    }

    /// Changes what is written of an app as a whole: secret, open registration, settings. `None`: no such app.
    ///
    /// # Errors
    /// The registry's: nothing was changed. The store's: it holds, but for what goes into its streams.
    pub async fn change_app(
        &self,
        key: &AppKey,
        change: impl FnOnce(&mut App),
    ) -> Result<Option<Arc<App>>, StoreError> {
        let _turn = self.core.truth.settings_turn.lock().await;
        let Some(app) = self.core.app(key.as_str()) else { return Ok(None) };
        let mut changed = (*app).clone();
        change(&mut changed);
        self.core.registry.write_app(&changed).await?;
        let App { secret_hash, open_registration, settings, .. } = changed;
        let put = |app: &App| App { secret_hash, open_registration, settings, ..app.clone() };
        let before = truth::terms(&app);
        let Some(app) = self.core.change_app(key.as_str(), put) else { return Ok(None) };
        self.core.settings_changed(before, &app).await?;
        Ok(Some(app))
    }

    /// Gives an app a new secret, which is shown once. The one before stays good for so many seconds, at most
    /// [`GRACE_S_MAX`]; one that was replaced before that opens nothing more. `None`: no such app.
    ///
    /// # Errors
    /// The registry's.
    pub async fn rotate_secret(&self, key: &AppKey, grace_s: u64) -> Result<Option<AppSecret>, StoreError> {
        let secret = AppSecret::from_random(random_bytes()?);
        let until_ms = (self.core.clock)().0.saturating_add(grace_s.min(GRACE_S_MAX) * 1000);
        let changed = self.change_app(key, |app| {
            let retired = (grace_s > 0).then_some(RetiredSecret { hash: app.secret_hash.0, until_ms });
            Arc::make_mut(&mut app.settings).retired = retired;
            app.secret_hash = secret.hash();
        });
        Ok(changed.await?.map(|_| secret))
    }

    /// Takes an app out of service: its devices are closed and refused, its callers too. Returns before all are closed.
    /// `None`: no such app.
    ///
    /// # Errors
    /// The registry's.
    pub async fn disable_app(&self, key: &AppKey) -> Result<Option<Arc<App>>, StoreError> {
        let changed = self.set_settings(key, |settings| settings.disabled = true).await?;
        if let Some(app) = &changed {
            let (core, app) = (self.core.clone(), app.clone());
            tokio::spawn(async move { core.end_sessions(&app).await });
        }
        Ok(changed)
    }

    /// Takes a disabled app without devices out, with its keys. What the message store has of it ends by its ttl and retention;
    /// its number is never given again.
    ///
    /// # Errors
    /// See [`RemoveError`].
    pub async fn remove_app(&self, key: &AppKey) -> Result<(), RemoveError> {
        let _turn = self.core.truth.settings_turn.lock().await;
        let app = self.core.app(key.as_str()).ok_or(RemoveError::Unknown)?;
        if !app.settings.disabled {
            return Err(RemoveError::InService);
        }
        if !self.core.registry.remove_app(app.id).await? {
            return Err(RemoveError::HasDevices);
        }
        self.core.forget_app(key.as_str());
        // Nothing is sent for it any more.
        self.core.truth.webhooks.set(&self.core, &App { settings: Arc::default(), ..(*app).clone() });
        self.core.people.keys.write().retain(|_, key| key.grant.app() != app.id);
        Ok(())
    }

    /// Writes a line of the audit log. When this returns it is durable.
    ///
    /// # Errors
    /// The registry's: there is no such line.
    pub async fn audit(&self, mut entry: AuditEntry) -> Result<AuditLine, StoreError> {
        entry.at = (self.core.clock)();
        self.core.registry.append_audit(&entry).await
    }

    /// Lines of the audit log after a number, at most so many.
    ///
    /// # Errors
    /// The registry's.
    pub async fn audit_lines(&self, after: u64, most: usize) -> Result<Vec<AuditLine>, StoreError> {
        self.core.registry.audit_after(after, most).await
    }

    /// Reads the whole audit log and checks each line against the one before it.
    ///
    /// # Errors
    /// The registry's.
    pub async fn check_audit(&self) -> Result<AuditCheck, StoreError> {
        self.core.registry.check_audit().await
    }

    /// Apps after a key, by their keys, at most so many.
    #[must_use]
    pub fn apps_after(&self, after: Option<&str>, most: usize) -> Vec<Arc<App>> {
        let mut apps = self.core.all_apps();
        apps.sort_by(|a, b| a.key.as_str().cmp(b.key.as_str()));
        apps.into_iter().filter(|app| after.is_none_or(|after| app.key.as_str() > after)).take(most).collect()
    }
}

impl Core {
    /// Ends the sessions of a disabled app, some at a time, until there are none or it is in service again.
    async fn end_sessions(&self, app: &App) {
        let meter = self.meters.of(app.id);
        while meter.connections.load(std::sync::atomic::Ordering::Relaxed) > 0 && !self.posts.stopping() {
            if self.app(app.key.as_str()).is_none_or(|app| !app.settings.disabled) {
                return;
            }
            for shard in (0..self.posts.shards()).map(|shard| ShardId(shard as u8)) {
                let end = Command::EndApp {
                    app: app.id,
                    reason: CloseReason::AppDisabled,
                    retry_after_s: DISABLED_RETRY_S,
                    most: ENDS_TOGETHER,
                };
                self.posts.send(shard, end).await;
            }
            tokio::time::sleep(ENDS_PAUSE).await;
        }
    }
}

/// No secret has the other hash that anybody could find; the comparison is made all the same.
fn hash_of(key: Option<&Arc<ApiKey>>) -> SecretHash {
    key.map_or(SecretHash([0; 32]), |key| key.hash)
}
