//! Who is connected, since when. The table of sessions knows which connections a device has; what else is told is asked of the
//! shards, once each.

use crate::delivery::border::{Command, Handle, Inspected, ShardId};
use crate::delivery::hub::{Core, Hub};
use crate::domain::{App, DeviceName, WallMs};
use crate::store::port::StoreError;
use longwire_proto::id::ClientId;
use longwire_proto::wire::{Class, Network};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the shards are waited for; of connections whose shard says nothing by then, less is told.
const SHARDS_WAIT: Duration = Duration::from_secs(1);

/// Where a device is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DeviceStatus {
    /// How many connections it has on this node, those about to be logged in included.
    pub connections: usize,
    /// What is known of each, oldest first; without those whose shard did not say in time.
    pub seen: Vec<ConnectionStatus>,
}

/// A connection of a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionStatus {
    /// When it was accepted.
    pub since: WallMs,
    /// When the device was last heard.
    pub heard: WallMs,
    /// What carries its bytes, as the device says.
    pub network: Network,
    /// What the device is, as it says.
    pub class: Option<Class>,
}

impl Hub {
    /// Where devices are, in order; `None` for a name that no device of the app has.
    ///
    /// # Errors
    /// The store's.
    pub async fn device_status(
        &self,
        app: &App,
        names: Vec<DeviceName>,
    ) -> Result<Vec<Option<DeviceStatus>>, StoreError> {
        let clients = self.core.store.resolve_names(app.id, names).await?;
        Ok(self.core.status(clients).await)
    }

    /// Where a device is.
    pub async fn status_of(&self, client: ClientId) -> DeviceStatus {
        self.core.status(vec![Some(client)]).await.into_iter().next().flatten().unwrap_or_default()
    }
}

impl Core {
    async fn status(&self, clients: Vec<Option<ClientId>>) -> Vec<Option<DeviceStatus>> {
        let mut of_shards: BTreeMap<u8, Vec<Handle>> = BTreeMap::new();
        let mut found = Vec::with_capacity(clients.len());
        for client in clients {
            let handles: Option<Vec<Handle>> = client.map(|client| self.sessions.of(client).iter().collect());
            for handle in handles.iter().flatten() {
                of_shards.entry(handle.shard().0).or_default().push(*handle);
            }
            found.push(handles);
        }
        let said = self.inspect(of_shards).await;
        let now = (self.clock)();
        let before = |seconds: u32| WallMs(now.0.saturating_sub(u64::from(seconds) * 1000));
        let status = |handles: Vec<Handle>| {
            let seen = handles.iter().filter_map(|handle| said.get(handle)).map(|one| ConnectionStatus {
                since: before(one.age_s),
                heard: before(one.silent_s),
                network: one.network,
                class: one.class,
            });
            DeviceStatus { connections: handles.len(), seen: seen.collect() }
        };
        found.into_iter().map(|one| one.map(status)).collect()
    }

    async fn inspect(&self, of_shards: BTreeMap<u8, Vec<Handle>>) -> HashMap<Handle, Inspected> {
        let mut answers = Vec::with_capacity(of_shards.len());
        for (shard, of) in of_shards {
            let (reply, answer) = oneshot::channel();
            // A shard without room has more urgent things to do.
            if self.posts.offer(ShardId(shard), Command::Inspect { of, reply }) {
                answers.push(answer);
            }
        }
        let mut said = HashMap::new();
        let gather = async {
            for answer in answers {
                said.extend(answer.await.unwrap_or_default());
            }
        };
        // Cancel-safe: what came before the time is up is kept.
        let _ = tokio::time::timeout(SHARDS_WAIT, gather).await;
        said
    }
}
