//! The session table: which connection is a device's now.
//!
//! An entry is a key and a handle, 16 bytes and one byte of the map: this is paid for every device that is online. The
//! handle is the session's epoch: whoever holds another handle is not the device's connection any more.

use crate::delivery::border::Handle;
use crate::delivery::stats::HubStats;
use crate::domain::{AppId, ClientId};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Locks, so that pumps of many shards and pushes seldom meet; a power of two.
const LOCKS: usize = 64;

/// What the map holds for an entry: key, handle and its own byte.
const ENTRY_BYTES: usize = 17;

/// Client ids are issued by us, so no peer can aim at collisions: one multiplication spreads them.
#[derive(Default)]
pub(crate) struct ClientHasher(u64);

impl Hasher for ClientHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = spread(self.0 ^ value);
    }
}

fn spread(value: u64) -> u64 {
    let product = value.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    // The map takes its index from the low bits, which a multiplication mixes least.
    product ^ (product >> 32)
}

#[derive(Default)]
struct Table {
    handles: HashMap<u64, Handle, BuildHasherDefault<ClientHasher>>,
    /// Sessions of each app in this table; as many entries as there are apps.
    by_app: HashMap<AppId, u32>,
}

/// The table. Bounded by the gate's limit of connections: an entry lives as long as its connection.
pub(crate) struct Sessions {
    tables: Box<[Mutex<Table>]>,
    stats: Arc<HubStats>,
}

impl Sessions {
    pub(crate) fn new(stats: Arc<HubStats>) -> Sessions {
        Sessions { tables: (0..LOCKS).map(|_| Mutex::default()).collect(), stats }
    }

    fn table(&self, client: ClientId) -> &Mutex<Table> {
        // Bits that the map's index and tag bytes do not use, or every table would fill one part only.
        &self.tables[(spread(client.0) >> 40) as usize % LOCKS]
    }

    /// Makes `handle` the device's connection and returns the one that it displaces.
    pub(crate) fn enter(&self, client: ClientId, app: AppId, handle: Handle) -> Option<Handle> {
        let mut table = self.table(client).lock();
        let displaced = table.handles.insert(client.0, handle);
        if displaced.is_none() {
            *table.by_app.entry(app).or_default() += 1;
            self.stats.sessions_online.fetch_add(1, Relaxed);
        }
        displaced.filter(|old| *old != handle)
    }

    /// Makes `handle` the device's connection if it has none. False: it has.
    pub(crate) fn enter_vacant(&self, client: ClientId, app: AppId, handle: Handle) -> bool {
        let mut table = self.table(client).lock();
        let Entry::Vacant(entry) = table.handles.entry(client.0) else { return false };
        entry.insert(handle);
        *table.by_app.entry(app).or_default() += 1;
        self.stats.sessions_online.fetch_add(1, Relaxed);
        true
    }

    /// The device's connection.
    pub(crate) fn current(&self, client: ClientId) -> Option<Handle> {
        self.table(client).lock().handles.get(&client.0).copied()
    }

    /// Whether `handle` is the device's connection.
    pub(crate) fn is_current(&self, client: ClientId, handle: Handle) -> bool {
        self.current(client) == Some(handle)
    }

    /// Ends a session, unless a newer one took its place. True: it was the current one.
    pub(crate) fn leave(&self, client: ClientId, app: AppId, handle: Handle) -> bool {
        let mut table = self.table(client).lock();
        let Table { handles, by_app } = &mut *table;
        if handles.get(&client.0) != Some(&handle) {
            return false;
        }
        handles.remove(&client.0);
        if let Some(count) = by_app.get_mut(&app) {
            *count = count.saturating_sub(1);
        }
        // A fleet that left gives its memory back; a quarter leaves room against shrinking and growing in turns.
        if handles.len() * 4 < handles.capacity() && handles.capacity() > 256 {
            let kept = handles.len() * 2;
            handles.shrink_to(kept);
        }
        self.stats.sessions_online.fetch_sub(1, Relaxed);
        true
    }

    /// Sessions by app, those being decided included, and the bytes that the table holds for all.
    pub(crate) fn census(&self) -> (HashMap<AppId, u64>, u64) {
        let mut by_app: HashMap<AppId, u64> = HashMap::new();
        let mut entries = 0;
        for table in &self.tables {
            let table = table.lock();
            entries += table.handles.capacity();
            for (app, count) in &table.by_app {
                *by_app.entry(*app).or_default() += u64::from(*count);
            }
        }
        (by_app, (entries * ENTRY_BYTES) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::border::ShardId;

    const APP: AppId = AppId(3);

    fn handle(slot: u32) -> Handle {
        Handle::new(ShardId(1), slot, 7)
    }

    #[test]
    fn an_old_connection_that_ends_does_not_end_the_newer_session() {
        let stats = Arc::new(HubStats::default());
        let sessions = Sessions::new(stats.clone());
        let client = ClientId(5);
        assert_eq!(sessions.enter(client, APP, handle(1)), None);
        assert!(!sessions.enter_vacant(client, APP, handle(2)));
        assert_eq!(sessions.enter(client, APP, handle(2)), Some(handle(1)));
        assert!(!sessions.leave(client, APP, handle(1)));
        assert!(sessions.is_current(client, handle(2)));
        assert_eq!(stats.sessions_online.load(Relaxed), 1);
        assert!(sessions.leave(client, APP, handle(2)));
        assert_eq!(sessions.current(client), None);
        assert_eq!(stats.sessions_online.load(Relaxed), 0);
    }

    #[test]
    fn ids_in_sequence_spread_over_the_locks() {
        let sessions = Sessions::new(Arc::default());
        for number in 1..=6400_u64 {
            sessions.enter(ClientId(number), APP, handle(number as u32));
        }
        assert_eq!(sessions.census().0, HashMap::from([(APP, 6400)]));
        for table in &sessions.tables {
            let entries = table.lock().handles.len();
            assert!((40..=200).contains(&entries), "{entries}");
        }
        for number in 1..=6400_u64 {
            assert!(sessions.leave(ClientId(number), APP, handle(number as u32)));
        }
        assert_eq!(sessions.census().0, HashMap::from([(APP, 0)]));
    }
}
