//! What is changed of registered devices, and their removal: first in the registry, then in the profile that logins and pushes
//! read, then on the connections.

use crate::delivery::hub::{Core, Hub};
use crate::domain::{
    Alias, AliasChange, App, AppId, ChangeRefused, ClientId, Device, DeviceChange, DeviceName, Tag,
};
use crate::store::port::{DeviceView, StoreError};
use longwire_proto::close::CloseReason;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Devices changed in one transaction at most; more are changed one transaction after the other.
const TOGETHER: usize = 256;
/// How long taking a tag or an alias from all its devices may keep a caller waiting; what is left then is for the next call.
const CLEARING_MAX: Duration = Duration::from_secs(5);

/// How far taking a tag or an alias from all its devices came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cleared {
    /// Devices that it was taken from by this call.
    pub cleared: u64,
    /// There are more.
    pub more: bool,
}

impl Hub {
    /// Changes devices of an app, in order; each is as it is told when this returns, and its connections know. One outcome for
    /// each. A [`DeviceChange::revoke`] closes the connections.
    ///
    /// # Errors
    /// The registry's or the store's; of more than 256, earlier ones may be changed then.
    pub async fn change_devices(
        &self,
        app: &App,
        asked: Vec<(DeviceName, DeviceChange)>,
    ) -> Result<Vec<Result<Device, ChangeRefused>>, StoreError> {
        self.core.change_all(asked.into_iter().map(|(name, change)| (app.id, name, change)).collect()).await
    }

    /// Changes a device, and tells it as [`Hub::device`] does.
    ///
    /// # Errors
    /// The inner one is the caller's.
    pub async fn change_device(
        &self,
        app: &App,
        name: DeviceName,
        change: DeviceChange,
    ) -> Result<Result<(DeviceView, usize), ChangeRefused>, StoreError> {
        let changed = self.core.change(&[(app.id, name.clone(), change)]).await?;
        if let Some(Err(refused)) = changed.into_iter().next() {
            return Ok(Err(refused));
        }
        Ok(self.core.device(app, name).await?.ok_or(ChangeRefused::Unknown))
    }

    /// Takes a device out for good: registry, profile, names, tags and alias forget it, what waits in its mailbox is dropped as
    /// `device_removed`, its connections are closed, no token of it is good any more. False: there is none.
    ///
    /// # Errors
    /// The registry's: nothing happened. The store's: it is gone from the registry, and the next call ends the rest.
    pub async fn remove_device(&self, app: &App, name: DeviceName) -> Result<bool, StoreError> {
        self.core.remove(app, &name).await
    }

    /// Takes a tag from all devices of the app, at most five seconds long.
    ///
    /// # Errors
    /// The registry's or the store's; a part may be done then.
    pub async fn clear_tag(&self, app: &App, tag: &Tag) -> Result<Cleared, StoreError> {
        let change = DeviceChange { tags_remove: vec![tag.clone()], ..DeviceChange::default() };
        let page = || self.core.store.tag_members(app.id, tag.clone(), ClientId(0), TOGETHER);
        self.core.clear(app, &change, page).await
    }

    /// Takes an alias from all devices of the app, at most five seconds long.
    ///
    /// # Errors
    /// The registry's or the store's; a part may be done then.
    pub async fn clear_alias(&self, app: &App, alias: &Alias) -> Result<Cleared, StoreError> {
        let change = DeviceChange { alias: AliasChange::Unbind(alias.clone()), ..DeviceChange::default() };
        let page = || self.core.store.alias_members(app.id, alias.clone(), ClientId(0), TOGETHER);
        self.core.clear(app, &change, page).await
    }
}

impl Core {
    /// See [`Hub::change_devices`].
    pub(in crate::delivery) async fn change_all(
        &self,
        asked: Vec<(AppId, DeviceName, DeviceChange)>,
    ) -> Result<Vec<Result<Device, ChangeRefused>>, StoreError> {
        let mut outcomes = Vec::with_capacity(asked.len());
        for some in asked.chunks(TOGETHER) {
            outcomes.extend(self.change(some).await?);
        }
        Ok(outcomes)
    }

    async fn change(
        &self,
        asked: &[(AppId, DeviceName, DeviceChange)],
    ) -> Result<Vec<Result<Device, ChangeRefused>>, StoreError> {
        let mut names: HashMap<AppId, Vec<DeviceName>> = HashMap::new();
        for (app, name, _) in asked {
            names.entry(*app).or_default().push(name.clone());
        }
        let names: Vec<_> = names.into_iter().collect();
        let _turns = self.turns.of_all(&names).await;
        let outcomes = self.registry.change(asked).await?;
        // Also of those that were as asked: a profile that differs is made good by this. In order, so the last one counts.
        let devices: Vec<Device> = outcomes.iter().flatten().cloned().collect();
        if devices.is_empty() {
            return Ok(outcomes);
        }
        self.store.project(devices).await?;
        for ((.., change), outcome) in asked.iter().zip(&outcomes) {
            match outcome {
                Ok(device) if change.revoke => self.close_all(device.client, CloseReason::RevokedToken).await,
                Ok(device) => self.relabel(device).await,
                Err(_) => {}
            }
        }
        Ok(outcomes)
    }

    /// Ends all connections of a device.
    pub(in crate::delivery) async fn close_all(&self, client: ClientId, reason: CloseReason) {
        for to in self.sessions.of(client).iter() {
            self.posts.close(to, reason, 0).await;
        }
    }

    async fn remove(&self, app: &App, name: &DeviceName) -> Result<bool, StoreError> {
        let _turn = self.turns.of(app.id, name).lock().await;
        let registered = self.registry.device(app, name).await?.map(|device| device.client);
        // Of one whose removal broke off, the profile may be left.
        let projected =
            self.store.resolve_names(app.id, vec![name.clone()]).await?.into_iter().next().flatten();
        let mut clients: Vec<ClientId> = registered.into_iter().chain(projected).collect();
        clients.dedup();
        for client in &clients {
            // The registry first: a device that is not there is not made again at its next login.
            if self.registry.remove(*client).await? == Some(true) {
                self.auth.enrolment.forget_one(app.id, &self.stats);
            }
            self.end_for_good(app.id, *client).await?;
            // A login that read the profile before stands in the table by now, one that comes later finds none.
            self.close_all(*client, CloseReason::RevokedToken).await;
        }
        Ok(!clients.is_empty())
    }

    async fn clear<P: Future<Output = Result<Vec<Device>, StoreError>>>(
        &self,
        app: &App,
        change: &DeviceChange,
        page: impl Fn() -> P,
    ) -> Result<Cleared, StoreError> {
        let begun = Instant::now();
        let mut cleared = 0;
        loop {
            let devices = page().await?;
            if devices.is_empty() || begun.elapsed() > CLEARING_MAX {
                return Ok(Cleared { cleared, more: !devices.is_empty() });
            }
            let asked: Vec<_> =
                devices.into_iter().map(|device| (app.id, device.name, change.clone())).collect();
            let outcomes = self.change(&asked).await?;
            for ((_, name, _), outcome) in asked.iter().zip(outcomes) {
                match outcome {
                    Ok(_) => cleared += 1,
                    // The registry has it no more, its removal broke off.
                    Err(_) => drop(self.remove(app, name).await?),
                }
            }
        }
    }
}
