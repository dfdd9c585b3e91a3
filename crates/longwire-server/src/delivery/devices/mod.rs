//! Registration, and profiles kept equal to the registry.
//!
//! - [`changes`]: what is changed of registered devices, and their removal.
//! - [`lists`]: devices and tags, page by page.
//! - [`status`]: who is connected, since when.

mod changes;
mod lists;
mod status;

pub use changes::Cleared;
pub use status::{ConnectionStatus, DeviceStatus};

use super::border::{Command, Handle};
use super::hub::{Core, Hub};
use crate::domain::{App, AppId, ClientId, Device, DeviceName, Registration, Token, WallMs};
use crate::store::port::{DeviceView, StoreError};
use crate::store::registry::RegisterError;
use longwire_proto::close::CloseReason;
use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use tokio::sync::{Mutex, MutexGuard};

/// Locks over device names: registrations of different devices seldom wait for each other.
const LOCKS: usize = 256;

/// One change of a device at a time, so that profiles are written in the order in which the registry changed.
pub(super) struct Turns {
    locks: Box<[Mutex<()>]>,
    // Names come from outside, so their hash is keyed.
    hash: RandomState,
}

impl Turns {
    pub(super) fn new() -> Turns {
        Turns { locks: (0..LOCKS).map(|_| Mutex::default()).collect(), hash: RandomState::new() }
    }

    fn of(&self, app: AppId, name: &DeviceName) -> &Mutex<()> {
        &self.locks[self.index(app, name)]
    }

    fn index(&self, app: AppId, name: &DeviceName) -> usize {
        self.hash.hash_one((app, name)) as usize % LOCKS
    }

    /// The turns of many devices, taken in one order, so that two who wait for several never wait for each other.
    pub(super) async fn of_all(&self, devices: &[(AppId, Vec<DeviceName>)]) -> Vec<MutexGuard<'_, ()>> {
        let mut wanted = BTreeSet::new();
        for (app, names) in devices {
            wanted.extend(names.iter().map(|name| self.index(*app, name)));
        }
        let mut turns = Vec::with_capacity(wanted.len());
        for index in wanted {
            turns.push(self.locks[index].lock().await);
        }
        turns
    }
}

/// A registered device, with its token.
#[derive(Clone, Debug)]
pub struct Registered {
    /// Its registration id.
    pub name: DeviceName,
    /// Its number.
    pub client: ClientId,
    /// Its token.
    pub token: String,
    /// When the token expires.
    pub expires: WallMs,
    /// It did not exist before.
    pub created: bool,
}

impl Hub {
    /// Registers or updates a device and signs a token. `may_update` false: existing names are refused.
    ///
    /// # Errors
    /// See [`RegisterError`].
    pub async fn register(
        &self,
        app: &App,
        registration: Registration,
        may_update: bool,
    ) -> Result<Registered, RegisterError> {
        self.core.register(app, registration, may_update).await
    }

    /// A device, and how many connections it has now.
    ///
    /// # Errors
    /// The store's.
    pub async fn device(
        &self,
        app: &App,
        name: DeviceName,
    ) -> Result<Option<(DeviceView, usize)>, StoreError> {
        self.core.device(app, name).await
    }

    /// Ends all connections of the device with `kicked`. `None`: no such device; false: it has none.
    ///
    /// # Errors
    /// The store's.
    pub async fn disconnect(&self, app: &App, name: DeviceName) -> Result<Option<bool>, StoreError> {
        self.core.disconnect(app, name).await
    }
}

impl Core {
    /// See [`Hub::register`].
    pub(super) async fn register(
        &self,
        app: &App,
        registration: Registration,
        may_update: bool,
    ) -> Result<Registered, RegisterError> {
        let turn = registration.name.as_ref().map(|name| self.turns.of(app.id, name));
        let _turn = match turn {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
        self.check_device_quota(app, &registration).await?;
        let labels_given = registration.tags.is_some() || registration.attributes.is_some();
        let registered = self.registry.register(app, registration, may_update).await?;
        let device = registered.device;
        self.store.project(vec![device.clone()]).await?;
        if labels_given {
            self.relabel(&device).await;
        }
        let ends_ms = (self.clock)().0.saturating_add(self.token_ttl_s.saturating_mul(1000));
        // Whole seconds, as the token keeps them.
        let expires = WallMs(ends_ms / 1000 * 1000);
        let token = Token { app: app.id, client: device.client, generation: device.generation, expires };
        Ok(Registered {
            name: device.name,
            client: device.client,
            token: self.token_key.sign(&token),
            expires,
            created: registered.created,
        })
    }

    /// Tags or attributes of a device changed, and its profile is written: its connections are told. Whatever changes them
    /// calls this.
    pub(super) async fn relabel(&self, device: &Device) {
        let connections = self.sessions.of(device.client);
        if connections.count() == 0 {
            return;
        }
        // Before the command: a login that is being decided may have read the old ones.
        self.retags.fetch_add(1, SeqCst);
        for to in connections.iter() {
            self.retag(to, device).await;
        }
    }

    /// Tells a connection its device's labels.
    pub(super) async fn retag(&self, to: Handle, device: &Device) {
        match self.labels.of(device) {
            Ok(labels) => self.posts.send(to.shard(), Command::Retag { to, labels }).await,
            Err(_) => self.posts.close(to, CloseReason::Full, self.retry_after_s()).await,
        }
    }

    /// Writes missing profiles again from the registry. True: there was at least one.
    pub(super) async fn heal(&self, clients: &[ClientId]) -> Result<bool, StoreError> {
        let mut healed = false;
        for client in clients {
            let Some(device) = self.registry.device_by_client(*client).await? else { continue };
            let _turn = self.turns.of(device.app, &device.name).lock().await;
            // Once more under the lock: a registration may have come in between.
            let Some(device) = self.registry.device_by_client(*client).await? else { continue };
            self.store.project(vec![device]).await?;
            self.stats.profiles_healed.fetch_add(1, Relaxed);
            healed = true;
        }
        Ok(healed)
    }

    /// See [`Hub::disconnect`].
    pub(super) async fn disconnect(&self, app: &App, name: DeviceName) -> Result<Option<bool>, StoreError> {
        let Some((view, _)) = self.device(app, name).await? else { return Ok(None) };
        let connections = self.sessions.of(view.device.client);
        for to in connections.iter() {
            self.posts.close(to, CloseReason::Kicked, 0).await;
        }
        Ok(Some(connections.count() > 0))
    }

    /// See [`Hub::device`].
    pub(super) async fn device(
        &self,
        app: &App,
        name: DeviceName,
    ) -> Result<Option<(DeviceView, usize)>, StoreError> {
        let mut view = self.store.device(app.id, name.clone()).await?;
        if view.is_none() {
            let Some(device) = self.registry.device(app, &name).await? else { return Ok(None) };
            self.heal(&[device.client]).await?;
            view = self.store.device(app.id, name).await?;
        }
        Ok(view.map(|view| {
            let connections = self.sessions.of(view.device.client).count();
            (view, connections)
        }))
    }
}
