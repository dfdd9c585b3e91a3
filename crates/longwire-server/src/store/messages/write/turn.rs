//! The changes of one batch. Reads see them before they are committed, and each key leaves once, however often it
//! changed.

use super::tails::Tails;
use crate::domain::device::Attribute;
use crate::domain::{AppId, ClientId, Counts, Device, Filter, MessageId, Position, Tag};
use crate::planted::{Fault as Planted, planted};
use crate::store::messages::engine::{Engine, Fault};
use crate::store::messages::layout::filters;
use crate::store::messages::layout::keys::{self, Book, Stage};
use crate::store::messages::layout::rows::{self, DeviceRow, Meta};
use crate::store::messages::layout::space::{SPACE_COUNT, SPACES, Space};
use crate::store::messages::truth::stories as truth;
use fjall::{PersistMode, UserValue};
use std::collections::HashMap;
use std::sync::Arc;

/// Device rows that the writer keeps in memory, about 150 bytes each; all are forgotten when there are more.
const DEVICES_CACHED_MAX: usize = 100_000;

/// Filters of log entries that the writer keeps in memory, at most about 2 KiB each; all are forgotten when there are more.
const FILTERS_CACHED_MAX: usize = 4096;

/// What filters ask of a device.
#[derive(Default)]
pub(crate) struct Traits {
    pub(crate) tags: Vec<Tag>,
    pub(crate) attributes: Vec<Attribute>,
}

impl Traits {
    pub(crate) fn of(device: &Device) -> Traits {
        Traits { tags: device.tags.clone(), attributes: device.attributes.clone() }
    }
}

/// What the writer keeps between batches. It is the only one who writes, so this is never stale.
pub(crate) struct Memory {
    devices: HashMap<ClientId, DeviceRow>,
    traits: HashMap<ClientId, Arc<Traits>>,
    filters: HashMap<(AppId, Position), Filter>,
    pub(crate) tails: Tails,
    /// Nothing in the calendar is before this time, milliseconds, but for what was scheduled since. Without it each look
    /// would step over all that was taken out before.
    pub(crate) calendar_from: u64,
    /// The earliest time that was scheduled since the last look.
    pub(crate) scheduled_from: u64,
    /// Nothing that devices sent is compared with retention before this time, milliseconds.
    pub(crate) upstream_look_at: u64,
    /// Of stories and streams.
    pub(crate) truth: truth::Memory,
}

impl Memory {
    pub(crate) fn new() -> Memory {
        Memory {
            devices: HashMap::new(),
            traits: HashMap::new(),
            filters: HashMap::new(),
            tails: Tails::default(),
            calendar_from: 0,
            scheduled_from: u64::MAX,
            upstream_look_at: 0,
            truth: truth::Memory::default(),
        }
    }

    /// Something was put into the calendar.
    pub(crate) fn scheduled(&mut self, at_ms: u64) {
        self.scheduled_from = self.scheduled_from.min(at_ms);
    }
}

/// One batch under way.
pub(crate) struct Turn<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) memory: &'a mut Memory,
    changes: [HashMap<Vec<u8>, Option<UserValue>>; SPACE_COUNT],
    devices: HashMap<ClientId, DeviceRow>,
    counts: HashMap<MessageId, Counts>,
    books: HashMap<(AppId, Book), Counts>,
    heads: HashMap<AppId, Position>,
}

impl<'a> Turn<'a> {
    pub(crate) fn new(engine: &'a Engine, memory: &'a mut Memory) -> Turn<'a> {
        Turn {
            engine,
            memory,
            changes: std::array::from_fn(|_| HashMap::new()),
            devices: HashMap::new(),
            counts: HashMap::new(),
            books: HashMap::new(),
            heads: HashMap::new(),
        }
    }

    pub(crate) fn get(&self, space: Space, key: &[u8]) -> Result<Option<UserValue>, Fault> {
        match self.changes[space as usize].get(key) {
            Some(change) => Ok(change.clone()),
            None => self.engine.get(space, key),
        }
    }

    /// The keys that this turn has put so far and that begin with `prefix`; an iterator of the engine misses them.
    pub(crate) fn added(&self, space: Space, prefix: &[u8]) -> Vec<Vec<u8>> {
        let changes = self.changes[space as usize].iter();
        let added = changes.filter(|(key, value)| value.is_some() && key.starts_with(prefix));
        added.map(|(key, _)| key.clone()).collect()
    }

    pub(crate) fn put(&mut self, space: Space, key: impl Into<Vec<u8>>, value: impl Into<UserValue>) {
        self.changes[space as usize].insert(key.into(), Some(value.into()));
    }

    pub(crate) fn remove(&mut self, space: Space, key: impl Into<Vec<u8>>) {
        self.changes[space as usize].insert(key.into(), None);
    }

    /// Puts a message into the calendar.
    pub(crate) fn schedule(&mut self, at_ms: u64, stage: Stage, message: MessageId) {
        self.memory.scheduled(at_ms);
        self.put(Space::Expiry, keys::expiry(at_ms, stage, message), []);
    }

    /// Where a device stands; what is changed in it is written.
    pub(crate) fn device(&mut self, client: ClientId) -> Result<&mut DeviceRow, Fault> {
        let row = match self.devices.entry(client) {
            std::collections::hash_map::Entry::Occupied(entry) => return Ok(entry.into_mut()),
            std::collections::hash_map::Entry::Vacant(entry) => entry,
        };
        if let Some(cached) = self.memory.devices.get(&client) {
            return Ok(row.insert(cached.clone()));
        }
        let key = keys::client(client);
        let stored = match self.changes[Space::Devices as usize].get(&key[..]) {
            Some(change) => change.clone(),
            None => self.engine.get(Space::Devices, &key)?,
        };
        let device = match stored {
            Some(stored) => DeviceRow::decode(&stored).ok_or_else(|| Fault::damaged(Space::Devices))?,
            None => DeviceRow::new(self.engine.incarnation),
        };
        let device =
            if planted(Planted::RenumbersAfterRestart) { DeviceRow { next: 1, ..device } } else { device };
        Ok(row.insert(device))
    }

    /// Takes a device's row out, and what is remembered of it.
    pub(crate) fn forget_device(&mut self, client: ClientId) {
        self.devices.remove(&client);
        self.memory.devices.remove(&client);
        self.memory.traits.remove(&client);
        self.remove(Space::Devices, keys::client(client));
    }

    /// A message's counts; `None` for a message that is not known (any more).
    pub(crate) fn counts(&mut self, message: MessageId) -> Result<Option<&mut Counts>, Fault> {
        if !self.counts.contains_key(&message) {
            let Some(stored) = self.get(Space::Counts, &keys::message(message))? else { return Ok(None) };
            let counts = rows::decode_counts(&stored).ok_or_else(|| Fault::damaged(Space::Counts))?;
            self.counts.insert(message, counts);
        }
        Ok(self.counts.get_mut(&message))
    }

    /// A book of an app.
    pub(crate) fn book(&mut self, app: AppId, book: Book) -> Result<&mut Counts, Fault> {
        if !self.books.contains_key(&(app, book)) {
            let counts = match self.get(Space::Books, &keys::book(app, book))? {
                Some(row) => rows::decode_counts(&row).ok_or_else(|| Fault::damaged(Space::Books))?,
                None => Counts::default(),
            };
            self.books.insert((app, book), counts);
        }
        Ok(self.books.entry((app, book)).or_default())
    }

    pub(crate) fn set_counts(&mut self, message: MessageId, counts: Counts) {
        self.counts.insert(message, counts);
    }

    pub(crate) fn forget_counts(&mut self, message: MessageId) {
        self.counts.remove(&message);
        self.remove(Space::Counts, keys::message(message));
    }

    /// The last position of an app's log.
    pub(crate) fn head(&mut self, app: AppId) -> Result<Position, Fault> {
        if let Some(head) = self.heads.get(&app) {
            return Ok(*head);
        }
        match self.engine.get(Space::Heads, &keys::app(app))? {
            Some(row) => rows::decode_position(&row).ok_or_else(|| Fault::damaged(Space::Heads)),
            None => Ok(Position::new(self.engine.incarnation, 0)),
        }
    }

    pub(crate) fn set_head(&mut self, app: AppId, head: Position) {
        self.heads.insert(app, head);
    }

    /// A device's tags and attributes as its profile has them; none without a profile.
    pub(crate) fn traits(&mut self, client: ClientId) -> Result<Arc<Traits>, Fault> {
        if let Some(traits) = self.memory.traits.get(&client) {
            return Ok(traits.clone());
        }
        let traits = match self.get(Space::Profiles, &keys::client(client))? {
            Some(row) => {
                Traits::of(&rows::decode_profile(&row).ok_or_else(|| Fault::damaged(Space::Profiles))?)
            }
            None => Traits::default(),
        };
        let traits = Arc::new(traits);
        self.remember_traits(client, traits.clone());
        Ok(traits)
    }

    pub(crate) fn remember_traits(&mut self, client: ClientId, traits: Arc<Traits>) {
        if self.memory.traits.len() >= DEVICES_CACHED_MAX {
            self.memory.traits.clear();
        }
        self.memory.traits.insert(client, traits);
    }

    /// Whether a place of a log is for a device.
    pub(crate) fn is_meant(
        &mut self,
        app: AppId,
        position: Position,
        client: ClientId,
        traits: &Traits,
    ) -> Result<bool, Fault> {
        if !self.memory.filters.contains_key(&(app, position)) {
            let row = self.get(Space::Log, &keys::log(app, position))?;
            // Retention took it: nobody is meant any more.
            let Some(row) = row else { return Ok(false) };
            let filter = filters::decode(&row).ok_or_else(|| Fault::damaged(Space::Log))?;
            if self.memory.filters.len() >= FILTERS_CACHED_MAX {
                self.memory.filters.clear();
            }
            self.memory.filters.insert((app, position), filter);
        }
        let filter = &self.memory.filters[&(app, position)];
        Ok(filter.fits(client, &traits.tags, &traits.attributes))
    }

    /// Makes the changes durable as commit number `meta.commits + 1`. False: there was nothing to commit.
    pub(crate) fn commit(mut self, meta: &mut Meta) -> Result<bool, fjall::Error> {
        for (client, row) in &self.devices {
            if self.memory.devices.get(client) != Some(row) {
                self.changes[Space::Devices as usize]
                    .insert(keys::client(*client).to_vec(), Some(row.encode().into()));
            }
        }
        for (message, counts) in &self.counts {
            self.changes[Space::Counts as usize]
                .insert(keys::message(*message).to_vec(), Some(rows::encode_counts(counts).into()));
        }
        for ((app, book), counts) in &self.books {
            self.changes[Space::Books as usize]
                .insert(keys::book(*app, *book).to_vec(), Some(rows::encode_counts(counts).into()));
        }
        for (app, head) in &self.heads {
            self.changes[Space::Heads as usize]
                .insert(keys::app(*app).to_vec(), Some(head.0.to_be_bytes().into()));
        }
        if self.changes.iter().all(HashMap::is_empty) {
            return Ok(false);
        }
        let mut next = meta.clone();
        next.commits += 1;
        let number = next.commits.to_be_bytes();
        let mut batch = self.engine.database.batch().durability(Some(PersistMode::SyncData));
        for space in SPACES {
            let changes = std::mem::take(&mut self.changes[space as usize]);
            if changes.is_empty() {
                continue;
            }
            let keyspace = self.engine.spaces.of(space);
            for (key, value) in changes {
                match value {
                    Some(value) => batch.insert(keyspace, key, value),
                    None => batch.remove(keyspace, key),
                }
            }
            next.touched[space as usize] = next.commits;
            batch.insert(keyspace, keys::MARK, number);
        }
        batch.insert(self.engine.spaces.of(Space::Meta), keys::META, next.encode());
        batch.commit()?;
        *meta = next;
        self.memory.tails.committed();
        if self.memory.devices.len() + self.devices.len() > DEVICES_CACHED_MAX {
            self.memory.devices.clear();
        }
        self.memory.devices.extend(self.devices);
        Ok(true)
    }
}
