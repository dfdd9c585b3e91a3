//! Devices by name, alias and tag, and how many there are. Counts and members change in the commit that changes the profile,
//! so they are exact. (The format of the store began with them: no store has profiles that were not counted.)

use super::MessageStore;
use super::read::devices::DevicesQuestion;
use super::read::reader::{Question, Reply};
use super::write::writer::Operation;
use crate::domain::{Alias, AppId, ClientId, Device, DeviceName, Tag};
use crate::store::port::StoreError;
use tokio::sync::oneshot;

/// Entries of one page at most: one more than the API gives, so that it sees whether there are more.
pub const PAGE_MAX: usize = 1001;

impl MessageStore {
    /// How many devices of the app have each tag, in order.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn tag_counts(&self, app: AppId, tags: Vec<Tag>) -> Result<Vec<u64>, StoreError> {
        let tags = tags.into_iter().map(Some).collect();
        self.devices_asked(|reply| DevicesQuestion::Counts(app, tags, reply)).await
    }

    /// How many devices the app has.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn device_count(&self, app: AppId) -> Result<u64, StoreError> {
        let counts = self.devices_asked(|reply| DevicesQuestion::Counts(app, vec![None], reply)).await?;
        Ok(counts.first().copied().unwrap_or(0))
    }

    /// At most `max` (≤ [`PAGE_MAX`]) tags that devices of the app have, with how many have each, after one of them in the
    /// order of their bytes.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn tags_after(
        &self,
        app: AppId,
        after: Option<Tag>,
        max: usize,
    ) -> Result<Vec<(Tag, u64)>, StoreError> {
        self.devices_asked(|reply| DevicesQuestion::Tags(app, after, max.min(PAGE_MAX), reply)).await
    }

    /// At most `max` (≤ [`PAGE_MAX`]) devices of the app after one of them, in the order of their names' bytes.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn devices_after(
        &self,
        app: AppId,
        after: Option<DeviceName>,
        max: usize,
    ) -> Result<Vec<Device>, StoreError> {
        self.devices_asked(|reply| DevicesQuestion::Named(app, after, max.min(PAGE_MAX), reply)).await
    }

    /// At most `max` (≤ [`PAGE_MAX`]) devices that have a tag, after a number, in the order of their numbers.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn tag_members(
        &self,
        app: AppId,
        tag: Tag,
        after: ClientId,
        max: usize,
    ) -> Result<Vec<Device>, StoreError> {
        self.devices_asked(|reply| DevicesQuestion::OfTag(app, tag, after, max.min(PAGE_MAX), reply)).await
    }

    /// At most `max` (≤ [`PAGE_MAX`]) devices that have an alias, after a number, in the order of their numbers.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn alias_members(
        &self,
        app: AppId,
        alias: Alias,
        after: ClientId,
        max: usize,
    ) -> Result<Vec<Device>, StoreError> {
        self.devices_asked(|reply| DevicesQuestion::OfAlias(app, alias, after, max.min(PAGE_MAX), reply))
            .await
    }

    /// The profiles of names, in order; `None` for a name without one.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn profiles(
        &self,
        app: AppId,
        names: Vec<DeviceName>,
    ) -> Result<Vec<Option<Device>>, StoreError> {
        self.devices_asked(|reply| DevicesQuestion::Profiles(app, names, reply)).await
    }

    /// The profiles of numbers, in order; `None` for a number without one.
    ///
    /// # Errors
    /// The store is closed, or a table is damaged.
    pub async fn profiles_of(&self, clients: Vec<ClientId>) -> Result<Vec<Option<Device>>, StoreError> {
        self.devices_asked(|reply| DevicesQuestion::Numbered(clients, reply)).await
    }

    /// Takes a device out: deliveries of its mailbox that have no end are dropped as `device_removed`, its kept session ends,
    /// and name, alias, tags and counts forget it. Nothing happens to one that is gone already.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn remove_device(&self, app: AppId, client: ClientId) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Operation::Remove(app, client, reply)).await?;
        answer.await.unwrap_or_else(|_| Err(StoreError::Unavailable("the store stopped".to_owned())))
    }

    async fn devices_asked<T>(
        &self,
        question: impl FnOnce(Reply<T>) -> DevicesQuestion,
    ) -> Result<T, StoreError> {
        self.ask(|reply| Question::Devices(question(reply))).await
    }
}
