//! The app and the admin key that are there before the ports open.

use super::config::Config;
use super::start::ServeError;
use crate::domain::{AppKey, AppSecret, SecretHash};
use crate::store::registry::Registry;

/// An app that must be there before the ports open.
#[derive(Clone, Debug)]
pub struct AppSeed {
    /// Its key.
    pub key: AppKey,
    /// Its secret; an app that exists must have this one.
    pub secret: AppSecret,
    /// Devices may register with the key alone.
    pub open_registration: bool,
}

impl AppSeed {
    /// A seed with a new secret.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn fresh(key: AppKey, open_registration: bool) -> Result<AppSeed, ServeError> {
        Ok(AppSeed { key, secret: fresh_secret()?, open_registration })
    }
}

/// 256 random bits.
///
/// # Errors
/// The system has no random bytes.
pub fn fresh_secret() -> Result<AppSecret, ServeError> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|cause| ServeError::Random(cause.to_string()))?;
    Ok(AppSecret::from_random(bytes))
}

/// Makes the app that was asked for; on a first start on loopback the app "default", which is returned to be shown.
pub(super) async fn prepare_apps(
    registry: &Registry,
    config: &Config,
    seed: Option<AppSeed>,
) -> Result<Option<AppSeed>, ServeError> {
    let apps = registry.apps().await?;
    if let Some(seed) = seed {
        match apps.iter().find(|app| app.key == seed.key) {
            Some(app) if app.secret_hash.matches(&seed.secret) => {}
            Some(app) => return Err(ServeError::OtherSecret(app.key.as_str().to_owned())),
            None => {
                registry.create_app(&seed.key, seed.secret.hash(), seed.open_registration).await?;
            }
        }
        return Ok(None);
    }
    if !apps.is_empty() {
        return Ok(None);
    }
    if !config.api.bind.ip().is_loopback() {
        tracing::warn!("there is no app: start once with api.bind on loopback to have one made and shown");
        return Ok(None);
    }
    let seed = AppSeed::fresh(AppKey::parse("default")?, false)?;
    registry.create_app(&seed.key, seed.secret.hash(), false).await?;
    Ok(Some(seed))
}

/// Stores the admin key that was given; on a start on loopback without one, one is made. Returns the hash that holds, and
/// the key if it was made here, to be shown.
pub(super) async fn prepare_admin(
    registry: &Registry,
    config: &Config,
    given: Option<AppSecret>,
) -> Result<(Option<SecretHash>, Option<AppSecret>), ServeError> {
    if let Some(key) = given {
        registry.set_admin_key(key.hash()).await?;
        return Ok((Some(key.hash()), None));
    }
    if let Some(hash) = registry.admin_key().await? {
        return Ok((Some(hash), None));
    }
    if !config.api.bind.ip().is_loopback() {
        tracing::warn!(
            "there is no admin key: start once with api.bind on loopback to have one made and shown"
        );
        return Ok((None, None));
    }
    let key = fresh_secret()?;
    registry.set_admin_key(key.hash()).await?;
    Ok((Some(key.hash()), Some(key)))
}
