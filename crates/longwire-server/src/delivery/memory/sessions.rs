//! The session table: which connections are a device's now.
//!
//! An entry is a key and a seat (a handle with the device's class), 16 bytes and one byte of the map: this is paid for
//! every device that is online. A device with more connections than one has the others beside the table. The handle is
//! the session's epoch: whoever holds another handle is not the device's connection any more.

use super::company::{Company, Settling};
use super::meters::Meters;
use crate::delivery::border::Handle;
use crate::delivery::stats::HubStats;
use crate::domain::{AppId, ClientId, MessageId};
use longwire_proto::wire::Class;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Locks, so that pumps of many shards and pushes seldom meet; a power of two.
const LOCKS: usize = 64;

/// What the map holds for an entry: key, seat and its own byte.
const ENTRY_BYTES: usize = 17;

const _: () = assert!(size_of::<(u64, Seat)>() + 1 == ENTRY_BYTES);

/// A connection and its class, in the bytes of a handle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seat(u64);

impl Seat {
    pub(crate) const fn new(handle: Handle, class: Class) -> Seat {
        // Classes are 1 to 4; the handle leaves these three bits to us.
        Seat(handle.bits() | ((class as u64) << 29))
    }
    pub(crate) const fn handle(self) -> Handle {
        Handle::from_bits(self.0)
    }
    const fn class(self) -> u64 {
        (self.0 >> 29) & 0b111
    }
}

/// How many connections a device may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Room {
    /// One.
    One,
    /// One of each class.
    OnePerClass,
    /// So many.
    Many(usize),
}

/// What an entering connection met.
#[derive(PartialEq, Eq, Debug, Default)]
pub(crate) struct Entered {
    /// The device's connections that have to go.
    pub(crate) displaced: Vec<Handle>,
    /// All that the device has now, if it has several.
    pub(crate) company: Vec<Handle>,
}

/// A device's connections, oldest first. Of a device with one, nothing is allocated.
#[derive(Default)]
pub(crate) struct Connections {
    first: Option<Handle>,
    others: Vec<Handle>,
}

impl Connections {
    pub(crate) fn count(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }
    pub(crate) fn iter(&self) -> impl Iterator<Item = Handle> + '_ {
        self.first.into_iter().chain(self.others.iter().copied())
    }
}

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
    seats: HashMap<u64, Seat, BuildHasherDefault<ClientHasher>>,
    /// Devices that have several connections, or had and still have something in a window.
    company: HashMap<u64, Company, BuildHasherDefault<ClientHasher>>,
    /// Sessions of each app in this table; as many entries as there are apps.
    by_app: HashMap<AppId, u32>,
}

impl Table {
    fn others(&self, client: ClientId) -> &[Seat] {
        // Most nodes have no device with several connections, and then this is all it costs.
        if self.company.is_empty() {
            return &[];
        }
        self.company.get(&client.0).map_or(&[], |company| &company.others)
    }

    /// Whom a newer connection displaces, how many of the oldest and which class.
    fn displaced(&self, client: ClientId, newer: Seat, room: Room) -> Vec<Seat> {
        let Some(&first) = self.seats.get(&client.0) else { return Vec::new() };
        let others = self.others(client);
        let all = std::iter::once(first).chain(others.iter().copied());
        match room {
            Room::One => all.collect(),
            Room::OnePerClass => all.filter(|seat| seat.class() == newer.class()).collect(),
            Room::Many(most) => all.take((2 + others.len()).saturating_sub(most.max(1))).collect(),
        }
    }

    fn is_current(&self, client: ClientId, handle: Handle) -> bool {
        self.seats.get(&client.0).is_some_and(|seat| seat.handle() == handle)
            || self.others(client).iter().any(|seat| seat.handle() == handle)
    }

    /// Forgets what company there was when nothing is left of it.
    fn tidy(&mut self, client: ClientId) {
        if self.company.get(&client.0).is_some_and(Company::is_over) {
            self.company.remove(&client.0);
            if self.company.is_empty() {
                self.company.shrink_to_fit();
            }
        }
    }
}

/// The table. Bounded by the gate's limit of connections: an entry lives as long as its connection.
pub(crate) struct Sessions {
    tables: Box<[Mutex<Table>]>,
    stats: Arc<HubStats>,
    meters: Arc<Meters>,
}

impl Sessions {
    pub(crate) fn new(stats: Arc<HubStats>, meters: Arc<Meters>) -> Sessions {
        Sessions { tables: (0..LOCKS).map(|_| Mutex::default()).collect(), stats, meters }
    }

    fn table(&self, client: ClientId) -> &Mutex<Table> {
        // Bits that the map's index and tag bytes do not use, or every table would fill one part only.
        &self.tables[(spread(client.0) >> 40) as usize % LOCKS]
    }

    /// Makes `newer` a connection of the device, in the place of those that `room` does not allow beside it.
    pub(crate) fn enter(&self, client: ClientId, app: AppId, newer: Seat, room: Room) -> Entered {
        let mut table = self.table(client).lock();
        let displaced = table.displaced(client, newer, room);
        self.seat(&mut table, client, app, newer, &displaced)
    }

    /// Makes `newer` a connection of the device if it displaces none. `None`: it would.
    pub(crate) fn enter_free(
        &self,
        client: ClientId,
        app: AppId,
        newer: Seat,
        room: Room,
    ) -> Option<Entered> {
        let mut table = self.table(client).lock();
        let free = table.displaced(client, newer, room).is_empty();
        free.then(|| self.seat(&mut table, client, app, newer, &[]))
    }

    fn seat(
        &self,
        table: &mut Table,
        client: ClientId,
        app: AppId,
        newer: Seat,
        displaced: &[Seat],
    ) -> Entered {
        let first = table.seats.get(&client.0).copied();
        let all = first.into_iter().chain(table.others(client).iter().copied());
        let mut stay: Vec<Seat> = all.filter(|seat| !displaced.contains(seat)).collect();
        stay.push(newer);
        table.seats.insert(client.0, stay[0]);
        let company =
            if stay.len() > 1 { stay.iter().map(|seat| seat.handle()).collect() } else { Vec::new() };
        if stay.len() > 1 {
            table.company.entry(client.0).or_default().others = stay.split_off(1);
        } else if let Some(company) = table.company.get_mut(&client.0) {
            company.others.clear();
            table.tidy(client);
        }
        let gone = displaced.len() as u64;
        let count = table.by_app.entry(app).or_default();
        *count = (*count + 1).saturating_sub(gone as u32);
        let meter = self.meters.of(app);
        meter.connections.fetch_add(1, Relaxed);
        meter.connections.fetch_sub(gone, Relaxed);
        self.stats.devices_online.fetch_add(u64::from(first.is_none()), Relaxed);
        self.stats.sessions_online.fetch_add(1, Relaxed);
        self.stats.sessions_online.fetch_sub(gone, Relaxed);
        Entered { displaced: displaced.iter().map(|seat| seat.handle()).collect(), company }
    }

    /// Makes `newer` the device's connection if it has none. False: it has.
    pub(crate) fn enter_vacant(&self, client: ClientId, app: AppId, newer: Seat) -> bool {
        let mut table = self.table(client).lock();
        let Entry::Vacant(entry) = table.seats.entry(client.0) else { return false };
        entry.insert(newer);
        *table.by_app.entry(app).or_default() += 1;
        self.meters.of(app).connections.fetch_add(1, Relaxed);
        self.stats.devices_online.fetch_add(1, Relaxed);
        self.stats.sessions_online.fetch_add(1, Relaxed);
        true
    }

    /// The device's connections.
    pub(crate) fn of(&self, client: ClientId) -> Connections {
        let table = self.table(client).lock();
        let first = table.seats.get(&client.0).map(|seat| seat.handle());
        Connections { first, others: table.others(client).iter().map(|seat| seat.handle()).collect() }
    }

    /// Whether the device has a connection.
    pub(crate) fn is_online(&self, client: ClientId) -> bool {
        self.table(client).lock().seats.contains_key(&client.0)
    }

    /// Whether `handle` is a connection of the device.
    pub(crate) fn is_current(&self, client: ClientId, handle: Handle) -> bool {
        self.table(client).lock().is_current(client, handle)
    }

    /// A message went into the window of one of several connections. True: that sending adds nothing to what is in flight.
    pub(crate) fn held(&self, client: ClientId, message: MessageId) -> bool {
        self.table(client).lock().company.entry(client.0).or_default().hold(message)
    }

    /// A connection settled a delivery. `counted`: it was sent as a message, not as a GAP; `held`: and told as held.
    pub(crate) fn settled(
        &self,
        client: ClientId,
        from: Handle,
        message: MessageId,
        counted: bool,
        held: bool,
    ) -> Settling {
        let mut table = self.table(client).lock();
        let current = table.is_current(client, from);
        let held = held && counted;
        let alone = u32::from(counted && !held);
        if table.company.is_empty() {
            return Settling { current, first: true, landed: alone };
        }
        let Some(company) = table.company.get_mut(&client.0) else {
            return Settling { current, first: true, landed: alone };
        };
        let (first, in_flight) = match (current, held) {
            (true, held) => company.end(message, held),
            // The word of a displaced connection ends nothing: another one has the message, or will get it.
            (false, true) => (true, company.let_go(message)),
            (false, false) => (true, false),
        };
        table.tidy(client);
        Settling { current, first, landed: alone + u32::from(in_flight) }
    }

    /// A connection that was told as held what is in its window is gone; keeps those messages that are in flight no more.
    pub(crate) fn let_go(&self, client: ClientId, unacked: &mut Vec<MessageId>) {
        let mut table = self.table(client).lock();
        let Some(company) = table.company.get_mut(&client.0) else { return unacked.clear() };
        unacked.retain(|message| company.let_go(*message));
        table.tidy(client);
    }

    /// Ends a session, unless it was displaced. True: it was one of the device's.
    pub(crate) fn leave(&self, client: ClientId, app: AppId, handle: Handle) -> bool {
        let mut table = self.table(client).lock();
        if !table.is_current(client, handle) {
            return false;
        }
        let Table { seats, company, by_app } = &mut *table;
        let others = company.get_mut(&client.0).map(|company| &mut company.others);
        match others.filter(|others| !others.is_empty()) {
            None => {
                seats.remove(&client.0);
                self.stats.devices_online.fetch_sub(1, Relaxed);
            }
            Some(others) => match others.iter().position(|seat| seat.handle() == handle) {
                Some(at) => drop(others.remove(at)),
                // The oldest of the others takes the place in the table.
                None => drop(seats.insert(client.0, others.remove(0))),
            },
        }
        if let Some(count) = by_app.get_mut(&app) {
            *count = count.saturating_sub(1);
        }
        self.meters.of(app).connections.fetch_sub(1, Relaxed);
        // A fleet that left gives its memory back; a quarter leaves room against shrinking and growing in turns.
        if seats.len() * 4 < seats.capacity() && seats.capacity() > 256 {
            let kept = seats.len() * 2;
            seats.shrink_to(kept);
        }
        self.stats.sessions_online.fetch_sub(1, Relaxed);
        table.tidy(client);
        true
    }

    /// Sessions of an app, those being decided included.
    pub(crate) fn of_app(&self, app: AppId) -> u64 {
        let of_table = |table: &Mutex<Table>| table.lock().by_app.get(&app).copied().unwrap_or(0);
        self.tables.iter().map(|table| u64::from(of_table(table))).sum()
    }

    /// Sessions by app, those being decided included, and the bytes that the table holds for all.
    pub(crate) fn census(&self) -> (HashMap<AppId, u64>, u64) {
        let mut by_app: HashMap<AppId, u64> = HashMap::new();
        let mut bytes = 0;
        for table in &self.tables {
            let table = table.lock();
            bytes += table.seats.capacity() * ENTRY_BYTES;
            bytes += table.company.values().map(Company::bytes).sum::<usize>();
            for (app, count) in &table.by_app {
                *by_app.entry(*app).or_default() += u64::from(*count);
            }
        }
        (by_app, bytes as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::border::ShardId;

    const APP: AppId = AppId(3);
    const CLIENT: ClientId = ClientId(5);

    fn handle(slot: u32) -> Handle {
        Handle::new(ShardId(255), slot, u32::MAX)
    }

    fn seat(slot: u32, class: Class) -> Seat {
        Seat::new(handle(slot), class)
    }

    fn phone(slot: u32) -> Seat {
        seat(slot, Class::Phone)
    }

    fn all(sessions: &Sessions) -> Vec<Handle> {
        sessions.of(CLIENT).iter().collect()
    }

    #[test]
    fn an_old_connection_that_ends_does_not_end_the_newer_session() {
        let stats = Arc::new(HubStats::default());
        let sessions = Sessions::new(stats.clone(), Arc::default());
        assert_eq!(sessions.enter(CLIENT, APP, phone(1), Room::One), Entered::default());
        assert!(!sessions.enter_vacant(CLIENT, APP, phone(2)));
        let entered = sessions.enter(CLIENT, APP, phone(2), Room::One);
        assert_eq!(entered, Entered { displaced: vec![handle(1)], company: vec![] });
        assert!(!sessions.leave(CLIENT, APP, handle(1)));
        assert!(sessions.is_current(CLIENT, handle(2)));
        assert_eq!(stats.sessions_online.load(Relaxed), 1);
        assert!(sessions.leave(CLIENT, APP, handle(2)));
        assert_eq!(sessions.of(CLIENT).count(), 0);
        assert_eq!((stats.sessions_online.load(Relaxed), stats.devices_online.load(Relaxed)), (0, 0));
    }

    #[test]
    fn one_of_each_class_and_a_newer_one_takes_its_class_only() {
        let stats = Arc::new(HubStats::default());
        let sessions = Sessions::new(stats.clone(), Arc::default());
        assert!(sessions.enter_vacant(CLIENT, APP, phone(1)));
        for (slot, class) in [(2, Class::Pc), (3, Class::Web), (4, Class::Iot)] {
            let entered = sessions.enter_free(CLIENT, APP, seat(slot, class), Room::OnePerClass);
            assert_eq!(entered.map(|entered| entered.company.len()), Some(slot as usize));
        }
        assert_eq!(sessions.enter_free(CLIENT, APP, seat(5, Class::Iot), Room::OnePerClass), None);
        let entered = sessions.enter(CLIENT, APP, phone(6), Room::OnePerClass);
        assert_eq!(entered.displaced, [handle(1)]);
        assert_eq!(all(&sessions), [2, 3, 4, 6].map(handle));
        assert_eq!((stats.sessions_online.load(Relaxed), stats.devices_online.load(Relaxed)), (4, 1));
        assert_eq!(sessions.census().0, HashMap::from([(APP, 4)]));
        for slot in [2, 6, 3, 4] {
            assert!(!sessions.leave(CLIENT, APP, handle(1)));
            assert!(sessions.leave(CLIENT, APP, handle(slot)));
        }
        assert_eq!((stats.sessions_online.load(Relaxed), stats.devices_online.load(Relaxed)), (0, 0));
        assert!(sessions.tables.iter().all(|table| table.lock().company.is_empty()));
    }

    #[test]
    fn beyond_the_bound_the_oldest_goes_and_a_lower_bound_lets_more_go() {
        let sessions = Sessions::new(Arc::default(), Arc::default());
        for slot in 1..=8 {
            assert!(sessions.enter(CLIENT, APP, phone(slot), Room::Many(8)).displaced.is_empty());
        }
        assert_eq!(sessions.enter(CLIENT, APP, phone(9), Room::Many(8)).displaced, [handle(1)]);
        assert_eq!(sessions.enter_free(CLIENT, APP, phone(10), Room::Many(8)), None);
        assert_eq!(
            sessions.enter(CLIENT, APP, phone(10), Room::Many(3)).displaced,
            [2, 3, 4, 5, 6, 7].map(handle)
        );
        assert_eq!(all(&sessions), [8, 9, 10].map(handle));
        let entered = sessions.enter(CLIENT, APP, phone(11), Room::One);
        assert_eq!(entered, Entered { displaced: [8, 9, 10].map(handle).into(), company: vec![] });
        assert_eq!(sessions.census().0, HashMap::from([(APP, 1)]));
    }

    #[test]
    fn a_connection_that_was_alone_when_it_was_sent_a_message_still_counts_it_itself() {
        let sessions = Sessions::new(Arc::default(), Arc::default());
        let message = MessageId(7);
        sessions.enter_vacant(CLIENT, APP, phone(1));
        sessions.enter(CLIENT, APP, phone(2), Room::Many(8));
        // The second holds it; the first was sent it before its shard knew of the second.
        assert!(!sessions.held(CLIENT, message));
        let settling = sessions.settled(CLIENT, handle(1), message, true, false);
        assert_eq!(settling, Settling { current: true, first: true, landed: 2 });
        let settling = sessions.settled(CLIENT, handle(2), message, true, true);
        assert_eq!(settling, Settling { current: true, first: false, landed: 0 });
    }

    #[test]
    fn what_a_displaced_connection_held_is_let_go_at_its_end() {
        let sessions = Sessions::new(Arc::default(), Arc::default());
        let message = MessageId(7);
        sessions.enter_vacant(CLIENT, APP, phone(1));
        sessions.enter(CLIENT, APP, phone(2), Room::Many(8));
        assert!(!sessions.held(CLIENT, message));
        sessions.enter(CLIENT, APP, phone(3), Room::One);
        let stale = sessions.settled(CLIENT, handle(9), message, true, false);
        assert_eq!(stale, Settling { current: false, first: true, landed: 1 });
        let mut unacked = vec![message];
        sessions.let_go(CLIENT, &mut unacked);
        assert_eq!(unacked, [message]);
        sessions.let_go(CLIENT, &mut unacked);
        assert!(unacked.is_empty(), "it was let go already");
    }

    #[test]
    fn ids_in_sequence_spread_over_the_locks() {
        let sessions = Sessions::new(Arc::default(), Arc::default());
        for number in 1..=6400_u64 {
            sessions.enter_vacant(ClientId(number), APP, phone(number as u32));
        }
        assert_eq!(sessions.census().0, HashMap::from([(APP, 6400)]));
        for table in &sessions.tables {
            let entries = table.lock().seats.len();
            assert!((40..=200).contains(&entries), "{entries}");
        }
        for number in 1..=6400_u64 {
            assert!(sessions.leave(ClientId(number), APP, handle(number as u32)));
        }
        assert_eq!(sessions.census().0, HashMap::from([(APP, 0)]));
    }
}
