//! The embedded message store. (Signatures; the engine is being built.)

use super::port::{
    Accept, Accepted, Committed, DeviceView, LoginView, MessageView, Page, PageRequest, Settle, StoreError,
    StoreOptions,
};
use crate::domain::{Alias, AppId, ClientId, Device, DeviceName, MessageId};
use tokio::sync::mpsc;

/// Why the store did not open. Each text says which file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "{path} is in use by another process{holder}; stop it, or give this server a data directory of its own"
    )]
    Locked {
        /// The lock file.
        path: String,
        /// " (pid n)" where known.
        holder: String,
    },
    /// The folder cannot be made or written.
    #[error("cannot write to {path}: {cause}; check owner, mode and free space")]
    NotWritable {
        /// The folder.
        path: String,
        /// What the system said.
        cause: String,
    },
    /// A file does not hold what was written.
    #[error("{path} is damaged: {cause}; {remedy}")]
    Corrupt {
        /// The file or folder.
        path: String,
        /// What was found.
        cause: String,
        /// What to do.
        remedy: String,
    },
}

/// A handle to the message store; clones share it. Every queue behind it is bounded: a call waits for room.
#[derive(Clone)]
pub struct MessageStore {}

impl MessageStore {
    /// Opens or makes the store and starts its threads. Durable messages go to `committed` in the order of commits.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        options: StoreOptions,
        committed: mpsc::Sender<Committed>,
    ) -> Result<MessageStore, OpenError> {
        let _ = (options, committed);
        todo!("store")
    }
    /// Makes a message durable (group commit); answered by the dispatcher after the fsync.
    pub async fn accept(&self, accept: Accept) -> Result<Accepted, StoreError> {
        let _ = accept;
        todo!("store")
    }
    /// Records ends; returns when they are queued. They ride on the next commit.
    pub async fn settle(&self, ends: Vec<Settle>) -> Result<(), StoreError> {
        let _ = ends;
        todo!("store")
    }
    /// Writes the profiles that logins and pushes read. A device seen for the first time begins at the log's head.
    pub async fn project(&self, devices: Vec<Device>) -> Result<(), StoreError> {
        let _ = devices;
        todo!("store")
    }
    /// One view per client, in order; `None` for a client without a profile.
    pub async fn logins(&self, clients: Vec<ClientId>) -> Result<Vec<Option<LoginView>>, StoreError> {
        let _ = clients;
        todo!("store")
    }
    /// What waits after a position.
    pub async fn page(&self, request: PageRequest) -> Result<Page, StoreError> {
        let _ = request;
        todo!("store")
    }
    /// One answer per name, in order.
    pub async fn resolve_names(
        &self,
        app: AppId,
        names: Vec<DeviceName>,
    ) -> Result<Vec<Option<ClientId>>, StoreError> {
        let _ = (app, names);
        todo!("store")
    }
    /// The devices of each alias, in order.
    pub async fn resolve_aliases(
        &self,
        app: AppId,
        aliases: Vec<Alias>,
    ) -> Result<Vec<Vec<ClientId>>, StoreError> {
        let _ = (app, aliases);
        todo!("store")
    }
    /// A message of this app and its counts.
    pub async fn message(&self, app: AppId, message: MessageId) -> Result<Option<MessageView>, StoreError> {
        let _ = (app, message);
        todo!("store")
    }
    /// A device of this app and what waits for it.
    pub async fn device(&self, app: AppId, name: DeviceName) -> Result<Option<DeviceView>, StoreError> {
        let _ = (app, name);
        todo!("store")
    }
    /// Whether the store takes pushes now; the error says why not.
    pub fn usable(&self) -> Result<(), StoreError> {
        todo!("store")
    }
    /// Commits what is queued and ends the threads.
    pub async fn close(&self) {
        todo!("store")
    }
}
