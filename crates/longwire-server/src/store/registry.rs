//! The registry. (Signatures; being built.)

use super::messages::OpenError;
use super::port::StoreError;
use crate::domain::{App, AppKey, ClientId, Device, DeviceName, Registration, SecretHash, TokenKey};

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
    /// The registry failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Apps and devices in SQL. Clones share it.
#[derive(Clone)]
pub struct Registry {}

impl Registry {
    /// Opens `url` (`sqlite:PATH`), makes the file if missing, runs the migrations.
    ///
    /// # Errors
    /// Locked, not writable, or not a database of ours.
    pub async fn open(url: &str) -> Result<Registry, OpenError> {
        let _ = url;
        todo!("registry")
    }
    /// All apps.
    pub async fn apps(&self) -> Result<Vec<App>, StoreError> {
        todo!("registry")
    }
    /// Makes an app.
    pub async fn create_app(
        &self,
        key: &AppKey,
        hash: SecretHash,
        open_registration: bool,
    ) -> Result<App, StoreError> {
        let _ = (key, hash, open_registration);
        todo!("registry")
    }
    /// The deployment's token key, made at the first call.
    pub async fn token_key(&self) -> Result<TokenKey, StoreError> {
        todo!("registry")
    }
    /// Registers or updates a device; concurrent calls share a transaction. `may_update` false refuses existing names.
    pub async fn register(
        &self,
        app: &App,
        registration: Registration,
        may_update: bool,
    ) -> Result<Registered, RegisterError> {
        let _ = (app, registration, may_update);
        todo!("registry")
    }
    /// A device by name.
    pub async fn device(&self, app: &App, name: &DeviceName) -> Result<Option<Device>, StoreError> {
        let _ = (app, name);
        todo!("registry")
    }
    /// A device by number, of any app: heals a missing profile.
    pub async fn device_by_client(&self, client: ClientId) -> Result<Option<Device>, StoreError> {
        let _ = client;
        todo!("registry")
    }
    /// Ends the connections to the database.
    pub async fn close(&self) {
        todo!("registry")
    }
}
