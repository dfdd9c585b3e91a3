//! What is set for an app, one thing at a time: in the registry first, then for whoever asks.

use super::auth::Ways;
use super::hub::{Hub, SetError};
use crate::domain::topic::Rules;
use crate::domain::{App, AppId, AppKey, DuplicateLogin, HeartbeatPolicy, LoginWays};
use crate::store::port::StoreError;
use std::sync::Arc;

impl Hub {
    /// Sets what meets a second login of the app's devices, from the next login on. False: no such app.
    ///
    /// # Errors
    /// The registry's.
    pub async fn set_duplicate_login(
        &self,
        key: &AppKey,
        policy: Option<DuplicateLogin>,
    ) -> Result<bool, StoreError> {
        let Some(app) = self.core.app(key.as_str()) else { return Ok(false) };
        self.core.registry.set_duplicate_login(app.id, policy).await?;
        if let Some(app) = self.core.apps.write().get_mut(key.as_str()) {
            *app = Arc::new(App { duplicate_login: policy, ..(**app).clone() });
        }
        Ok(true)
    }

    /// Sets the heartbeat of the app's devices, from the next login on. False: no such app.
    ///
    /// # Errors
    /// The registry's.
    pub async fn set_heartbeat(&self, key: &AppKey, policy: HeartbeatPolicy) -> Result<bool, StoreError> {
        let Some(app) = self.core.app(key.as_str()) else { return Ok(false) };
        self.core.registry.set_heartbeat(app.id, policy).await?;
        if let Some(app) = self.core.apps.write().get_mut(key.as_str()) {
            *app = Arc::new(App { heartbeat: policy, ..(**app).clone() });
        }
        Ok(true)
    }

    /// Sets what the app's devices may do with topics; `None`: the default. Publishes and subscriptions are judged by it from now
    /// on, also those of sessions that are there; subscriptions that were made stay. False: no such app.
    ///
    /// # Errors
    /// Not rules, or the registry's.
    pub async fn set_topic_rules(&self, key: &AppKey, lines: Option<&[String]>) -> Result<bool, SetError> {
        let rules = lines.map(|lines| Rules::parse(lines.iter().map(String::as_str))).transpose()?;
        let Some(app) = self.core.app(key.as_str()) else { return Ok(false) };
        self.core.registry.set_topic_rules(app.id, lines.map(|lines| lines.join("\n"))).await?;
        app.topic_rules.replace(rules.unwrap_or_default());
        Ok(true)
    }

    /// Sets how the app's MQTT clients may prove who they are beside device tokens, from the next login on. False: no such app.
    ///
    /// # Errors
    /// A key, file or URL that cannot be used, or the registry's.
    pub async fn set_login_ways(&self, key: &AppKey, ways: LoginWays) -> Result<bool, SetError> {
        let made = Arc::new(Ways::new(&ways)?);
        let looked = made.clone();
        let looked = tokio::task::spawn_blocking(move || looked.reload()).await;
        looked.map_err(|ended| StoreError::Unavailable(ended.to_string()))??;
        let Some(app) = self.core.app(key.as_str()) else { return Ok(false) };
        self.core.registry.set_login_ways(app.id, &ways).await?;
        if let Some(app) = self.core.apps.write().get_mut(key.as_str()) {
            *app = Arc::new(App { login_ways: Arc::new(ways), ..(**app).clone() });
        }
        self.core.auth.ways.set(app.id, made);
        Ok(true)
    }

    /// Reads all files of keys for JWTs again, though they look as before; blocks. How many there are, and what is wrong with
    /// which, in the order of apps. One that cannot be read leaves the keys that were read before.
    #[must_use]
    pub fn reload_keys(&self) -> (usize, Vec<String>) {
        let (files, mut problems) = self.core.auth.ways.read_again();
        problems.sort_unstable_by_key(|(app, _)| app.0);
        let ids: Vec<AppId> = problems.iter().map(|(app, _)| *app).collect();
        let keys = self.app_keys(&ids).into_iter();
        let told = |(key, (_, problem)): (Option<AppKey>, (AppId, String))| match key {
            Some(key) => format!("{}: {problem}", key.as_str()),
            None => problem,
        };
        (files, keys.zip(problems).map(told).collect())
    }
}
