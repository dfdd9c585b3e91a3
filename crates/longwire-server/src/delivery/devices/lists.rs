//! Devices and tags, page by page.

use crate::delivery::hub::Hub;
use crate::domain::{Alias, App, ClientId, Device, DeviceName, Tag};
use crate::store::port::StoreError;

/// Each page has at most so many, up to 1,001; the store's order, which is stable while nothing changes.
impl Hub {
    /// Devices of the app after one of them, by the bytes of their names.
    ///
    /// # Errors
    /// The store's.
    pub async fn devices_after(
        &self,
        app: &App,
        after: Option<DeviceName>,
        max: usize,
    ) -> Result<Vec<Device>, StoreError> {
        self.core.store.devices_after(app.id, after, max).await
    }

    /// How many devices the app has.
    ///
    /// # Errors
    /// The store's.
    pub async fn device_count(&self, app: &App) -> Result<u64, StoreError> {
        self.core.store.device_count(app.id).await
    }

    /// Tags that devices of the app have, with how many have each, after one of them, by their bytes.
    ///
    /// # Errors
    /// The store's.
    pub async fn tags_after(
        &self,
        app: &App,
        after: Option<Tag>,
        max: usize,
    ) -> Result<Vec<(Tag, u64)>, StoreError> {
        self.core.store.tags_after(app.id, after, max).await
    }

    /// How many devices of the app have a tag.
    ///
    /// # Errors
    /// The store's.
    pub async fn tag_count(&self, app: &App, tag: Tag) -> Result<u64, StoreError> {
        Ok(self.core.store.tag_counts(app.id, vec![tag]).await?.first().copied().unwrap_or(0))
    }

    /// Devices that have a tag, after a number, by their numbers.
    ///
    /// # Errors
    /// The store's.
    pub async fn tag_members(
        &self,
        app: &App,
        tag: Tag,
        after: ClientId,
        max: usize,
    ) -> Result<Vec<Device>, StoreError> {
        self.core.store.tag_members(app.id, tag, after, max).await
    }

    /// Devices that have an alias, after a number, by their numbers.
    ///
    /// # Errors
    /// The store's.
    pub async fn alias_members(
        &self,
        app: &App,
        alias: Alias,
        after: ClientId,
        max: usize,
    ) -> Result<Vec<Device>, StoreError> {
        self.core.store.alias_members(app.id, alias, after, max).await
    }
}
