//! What an operator asks of the node around this room. The node answers it; this room knows neither shards nor sockets.

use crate::domain::AppId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a drained node does when its devices have been told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    /// It ends, as after SIGTERM.
    #[default]
    Exit,
    /// It stays up without devices and takes no pushes; what it knows can still be asked.
    Stay,
}

/// A node is to be drained.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DrainOrder {
    /// Devices are told to come back elsewhere after a time of their own within this, seconds.
    pub window_s: u16,
    /// What follows.
    pub then: Then,
}

/// What became of an order to read files again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReloadedFiles {
    /// The certificates of the devices' port.
    pub certificates: Reloaded,
    /// The apps' files of keys for JWTs.
    pub keys: Reloaded,
}

/// What became of one kind of them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reloaded {
    /// There are none.
    Nothing,
    /// What was read is in use: new handshakes, new logins.
    Read,
    /// What was found cannot be used, for this reason; the old ones stay in use.
    Kept(String),
}

/// Who holds how many bytes, as far as the node's parts tell.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct NodeMemory {
    /// Memory of the process in RAM, bytes.
    pub resident_bytes: u64,
    /// What it may use before load is shed (`node.memory_limit`), bytes; null: not known.
    pub limit_bytes: Option<u64>,
    /// What is shed now: `calm`, `busy`, `crowded`, `overloaded` or `critical`.
    pub level: &'static str,
    /// Buffers that the connections of a shard use in turn, over all shards, bytes.
    pub scratch_bytes: u64,
    /// What waits in the outboxes of all connections, bytes.
    pub outbox_bytes: u64,
    /// Connections whose outbox is above its high mark.
    pub unwritable: u64,
    /// Connections, logged in or not.
    pub connections: u64,
    /// Commands that wait for shards.
    pub commands_waiting: u64,
    /// Events that wait for the hub.
    pub events_waiting: u64,
    /// Operations that wait for the store's writer.
    pub store_waiting: u64,
    /// What the store's cache of blocks may hold, bytes.
    pub store_cache_bytes_max: u64,
}

/// What the connections of one app hold whose sockets are full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AppOutboxes {
    /// The app.
    pub app: AppId,
    /// Such connections.
    pub connections: u64,
    /// Bytes in their outboxes.
    pub bytes: u64,
    /// The socket that has been full longest, seconds.
    pub oldest_s: u32,
    /// The peer that has taken nothing for longest, seconds.
    pub stalled_s: u32,
}

/// One shard now.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, ToSchema)]
pub struct ShardState {
    /// Its number.
    pub shard: u16,
    /// Connections, logged in or not.
    pub connections: u64,
    /// Logged-in connections.
    pub sessions: u64,
    /// What waits in outboxes, bytes.
    pub outbox_bytes: u64,
    /// Connections whose outbox is above its high mark.
    pub unwritable: u64,
    /// Turns of its loop since the start.
    pub turns: u64,
    /// 99 of 100 turns took at most so many microseconds (upper end of the bucket).
    pub turn_p99_us: u64,
    /// The longest turn since the start, microseconds.
    pub turn_longest_us: u64,
    /// Commands that wait for it.
    pub commands_waiting: u64,
    /// How many may.
    pub commands_max: u64,
    /// Its events that wait for the hub.
    pub events_waiting: u64,
    /// How many may.
    pub events_max: u64,
}

/// The node as its operator reaches it through this room; the node room serves it.
pub trait Operations: Send + Sync {
    /// Drains the node, and returns at once. Said again, `exit` follows a `stay`; anything else changes nothing.
    fn drain(&self, order: DrainOrder);
    /// Reads certificates and files of keys again; small files are read meanwhile.
    fn reload(&self) -> ReloadedFiles;
    /// Who holds bytes.
    fn memory(&self) -> NodeMemory;
    /// What apps hold in outboxes, those who hold most first; an app without a full socket is left out.
    fn outboxes(&self) -> Vec<AppOutboxes>;
    /// Every shard.
    fn shards(&self) -> Vec<ShardState>;
}
