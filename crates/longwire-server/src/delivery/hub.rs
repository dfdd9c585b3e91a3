//! What the API asks of the hub. (Signatures; being built.)

use super::border::{Events, Shards};
use crate::domain::{App, AppKey, AppSecret, DeviceName, MessageId, Push, Registration, TraceId, WallMs};
use crate::store::messages::MessageStore;
use crate::store::port::{Committed, DeviceView, MessageView, StoreError};
use crate::store::registry::{RegisterError, Registry};
use std::sync::Arc;
use tokio::sync::mpsc;

/// The hub; clones share it.
#[derive(Clone)]
pub struct Hub {}

/// What a hub is made of.
pub struct Parts {
    /// The message store.
    pub store: MessageStore,
    /// The registry.
    pub registry: Registry,
    /// The shards.
    pub shards: Arc<dyn Shards>,
    /// Durable messages in the order of commits.
    pub committed: mpsc::Receiver<Committed>,
    /// The wall clock.
    pub clock: Arc<dyn Fn() -> WallMs + Send + Sync>,
    /// How long a device token is valid, seconds.
    pub token_ttl_s: u64,
}

/// A registered device, with its token.
#[derive(Clone, Debug)]
pub struct Registered {
    /// Its registration id.
    pub name: DeviceName,
    /// Its number.
    pub client: longwire_proto::id::ClientId,
    /// Its token.
    pub token: String,
    /// When the token expires.
    pub expires: WallMs,
    /// It did not exist before.
    pub created: bool,
}

/// What a push came to.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The message.
    pub message: MessageId,
    /// Devices addressed; `None` for `all` and tags, whose members are never counted.
    pub matched: Option<u64>,
    /// Registration ids and aliases that no device has.
    pub unknown: u64,
    /// Targets whose mailbox was full.
    pub refused: u64,
    /// Connections that it was handed to (an estimate for `all` and tags: 0 is not said, `None` is).
    pub online: Option<u64>,
    /// "local" (fsynced here) or "memory" (online only).
    pub durability: &'static str,
    /// The ttl that holds, seconds (clipped to the limit).
    pub ttl_s: u32,
}

/// Why a push was not accepted; nothing was stored, except for `Store(Unknown)`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PushError {
    /// No device matches any address.
    #[error("no device has any of these registration ids or aliases")]
    NobodyMatches,
    /// An alias matches more devices than one push may address.
    #[error("the aliases match {0} devices; one push may address 1000")]
    TooManyTargets(usize),
    /// The node is stopping.
    #[error("the node is draining")]
    Draining,
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A message and what became of it: the stored counts, plus what is in live windows.
#[derive(Clone, Debug)]
pub struct MessageStory {
    /// What the store has.
    pub view: MessageView,
    /// Times that it was given to a socket, repeats included, since this process started.
    pub sent: u64,
    /// Sent and not yet acked by connections that live.
    pub in_flight: u64,
    /// Online-only deliveries dropped because an outbox was full.
    pub dropped_now: u64,
    /// Online-only: never stored, counts are kept in memory only.
    pub online_only: bool,
}

impl Hub {
    /// Starts the dispatcher; loads apps, token key and revoked generations.
    ///
    /// # Errors
    /// The store's.
    pub async fn start(parts: Parts) -> Result<Hub, StoreError> {
        let _ = parts;
        todo!("hub")
    }
    /// Serves one shard's events until the shard ends; one task per shard.
    pub async fn serve_shard(&self, events: impl Events) {
        let _ = events;
        todo!("hub")
    }
    /// The app of these credentials, in the same time whether the key exists or not.
    #[must_use]
    pub fn authenticate(&self, key: &str, secret: &AppSecret) -> Option<Arc<App>> {
        let _ = (key, secret);
        todo!("hub")
    }
    /// The app of a public key, for open registration.
    #[must_use]
    pub fn app(&self, key: &str) -> Option<Arc<App>> {
        let _ = key;
        todo!("hub")
    }
    /// How many apps there are.
    #[must_use]
    pub fn app_count(&self) -> usize {
        todo!("hub")
    }
    /// Makes an app and returns its secret, once.
    pub async fn create_app(
        &self,
        key: AppKey,
        open_registration: bool,
    ) -> Result<(Arc<App>, AppSecret), StoreError> {
        let _ = (key, open_registration);
        todo!("hub")
    }
    /// Registers or updates a device and signs a token. `may_update` false: existing names are refused.
    pub async fn register(
        &self,
        app: &App,
        registration: Registration,
        may_update: bool,
    ) -> Result<Registered, RegisterError> {
        let _ = (app, registration, may_update);
        todo!("hub")
    }
    /// A device, and whether it is connected now.
    pub async fn device(
        &self,
        app: &App,
        name: DeviceName,
    ) -> Result<Option<(DeviceView, bool)>, StoreError> {
        let _ = (app, name);
        todo!("hub")
    }
    /// Accepts a push. Returns when it is durable (ttl 0: when it is handed to the shards).
    pub async fn push(&self, app: &App, push: Push) -> Result<Receipt, PushError> {
        let _ = (app, push);
        todo!("hub")
    }
    /// What became of a message.
    pub async fn message(&self, app: &App, message: MessageId) -> Result<Option<MessageStory>, StoreError> {
        let _ = (app, message);
        todo!("hub")
    }
    /// Whether pushes can be taken; the error says why not.
    pub fn usable(&self) -> Result<(), PushError> {
        todo!("hub")
    }
    /// From now on pushes and logins are refused with `draining`.
    pub fn drain(&self) {
        todo!("hub")
    }
    /// Waits for what is under way, then closes store and registry.
    pub async fn close(&self) {
        todo!("hub")
    }
}

/// Keeps a trace id beside what is logged of a push.
#[must_use]
pub fn new_trace() -> TraceId {
    todo!("hub")
}
