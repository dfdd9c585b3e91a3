//! Sessions that outlive their connections, in memory: who of them wants which topic, and when each is over.

use crate::domain::topic::{FilterId, Filters, Interest, TopicWish};
use crate::domain::{AppId, ClientId};
use crate::store::sessions::{Change, KeptSession, WISHES_MAX};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Nodes of the trie that one publish may visit (THREATS, wildcard explosion).
const MATCH_VISITS_MAX: usize = 4096;
/// Kept sessions that one publish may be stored for: it has one record, which holds them all, and ends in one turn of the
/// store's sweeper. Beyond it the publish is refused; a crowd is served by live sessions, or by a push to all or a tag.
pub(in crate::delivery::topics) const TARGETS_MAX: usize = 10_000;
/// Longest expiry, seconds; longer is clipped, also "for ever".
pub(in crate::delivery::topics) const EXPIRY_S_MAX: u32 = 30 * 86_400;

/// A publish is not stored for anybody.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::delivery::topics) enum TooMany {
    /// More of the trie would have to be visited than may be.
    Visits,
    /// More than [`TARGETS_MAX`] sessions want it.
    Targets,
}

struct Session {
    app: AppId,
    /// 0: it was resumed by a login that does not keep it, and ends with its connection.
    expiry_s: u32,
    /// When its connection ended, milliseconds; 0 = it has one.
    ended_ms: u64,
    wishes: Vec<TopicWish>,
}

/// Of one filter: device → not what it publishes itself.
type Subscribers = BTreeMap<ClientId, bool>;

/// The sessions. As many as the store holds; a session has at most [`WISHES_MAX`] subscriptions.
pub(in crate::delivery::topics) struct Kept {
    apps: HashMap<AppId, Filters<Subscribers>>,
    sessions: HashMap<ClientId, Session>,
    /// Sessions without a connection, by when they are over.
    due: BTreeSet<(u64, ClientId)>,
    /// Sessions whose end of connection is not stored yet.
    unwritten: BTreeSet<ClientId>,
    /// Every publisher looks here before it comes to us.
    interest: Arc<Interest>,
    subscriptions: u64,
    found: Vec<FilterId>,
}

impl Kept {
    pub(in crate::delivery::topics) fn new(interest: Arc<Interest>) -> Kept {
        Kept {
            apps: HashMap::new(),
            sessions: HashMap::new(),
            due: BTreeSet::new(),
            unwritten: BTreeSet::new(),
            interest,
            subscriptions: 0,
            found: Vec::new(),
        }
    }

    /// Takes in a session as the store has it. One whose connection died with the process ends now.
    pub(in crate::delivery::topics) fn load(&mut self, kept: KeptSession, now_ms: u64) {
        let KeptSession { client, app, expiry_s, ended_at, wishes } = kept;
        self.sessions.insert(client, Session { app, expiry_s, ended_ms: 0, wishes: Vec::new() });
        for wish in wishes {
            self.subscribe(client, wish);
        }
        let ended_ms = if ended_at.0 == 0 { now_ms } else { ended_at.0 };
        self.left(client, ended_ms);
        if ended_at.0 != 0 {
            self.unwritten.remove(&client);
        }
    }

    /// A connection of the device has begun. Returns what the session had subscribed to if it was there, and makes it if it
    /// is to be kept.
    pub(in crate::delivery::topics) fn begin(
        &mut self,
        client: ClientId,
        app: AppId,
        expiry_s: u32,
    ) -> Option<Vec<TopicWish>> {
        self.unwritten.remove(&client);
        if let Some(session) = self.sessions.get_mut(&client) {
            self.due.remove(&(due_ms(session), client));
            session.ended_ms = 0;
            session.expiry_s = expiry_s;
            let wishes = session.wishes.clone();
            if expiry_s == 0 {
                // It ends with this connection, so its subscriptions are the shard's alone.
                self.forget_wishes(client);
            }
            return Some(wishes);
        }
        if expiry_s > 0 {
            self.sessions.insert(client, Session { app, expiry_s, ended_ms: 0, wishes: Vec::new() });
        }
        None
    }

    /// A device that is connected subscribes for longer than its connection lives: it has a session from now on, for so long at
    /// least. What is to be written; nothing if that is no news. A session that ran out does not live again because nothing
    /// has ended it yet.
    pub(in crate::delivery::topics) fn keep(
        &mut self,
        client: ClientId,
        app: AppId,
        expiry_s: u32,
        now_ms: u64,
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        let ran_out = |session: &Session| session.ended_ms != 0 && due_ms(session) <= now_ms;
        if self.sessions.get(&client).is_some_and(ran_out) && self.end(client) {
            changes.push(Change::End(client));
        }
        match self.sessions.get_mut(&client) {
            Some(session) if session.expiry_s >= expiry_s && session.ended_ms == 0 => return changes,
            Some(session) => {
                self.due.remove(&(due_ms(session), client));
                session.ended_ms = 0;
                session.expiry_s = session.expiry_s.max(expiry_s);
            }
            None => {
                self.sessions.insert(client, Session { app, expiry_s, ended_ms: 0, wishes: Vec::new() });
            }
        }
        self.unwritten.remove(&client);
        changes.extend(self.row(client));
        changes
    }

    /// How long the session of a device is kept, if it has one that is not over.
    pub(in crate::delivery::topics) fn expiry_s(&self, client: ClientId, now_ms: u64) -> Option<u32> {
        let session = self.sessions.get(&client)?;
        (!self.is_over(client, now_ms)).then_some(session.expiry_s)
    }

    /// The session's time has come, though nothing has ended it yet: one that ends with its connection is over for the next one.
    pub(in crate::delivery::topics) fn is_over(&self, client: ClientId, now_ms: u64) -> bool {
        self.sessions.get(&client).is_some_and(|session| {
            session.expiry_s == 0 || (session.ended_ms != 0 && due_ms(session) <= now_ms)
        })
    }

    /// The session has another expiry from now on (MQTT-3.14.2-2).
    pub(in crate::delivery::topics) fn set_expiry(&mut self, client: ClientId, expiry_s: u32) {
        if let Some(session) = self.sessions.get_mut(&client)
            && session.ended_ms == 0
        {
            session.expiry_s = expiry_s;
        }
    }

    /// The device's connection has ended. True: it has a session, whose end is to be written.
    pub(in crate::delivery::topics) fn left(&mut self, client: ClientId, now_ms: u64) -> bool {
        let Some(session) = self.sessions.get_mut(&client) else { return false };
        // A connection of the native protocol leaves the session as it is.
        if session.ended_ms != 0 {
            return false;
        }
        session.ended_ms = now_ms.max(1);
        self.due.insert((due_ms(session), client));
        self.unwritten.insert(client);
        true
    }

    /// The session is over. False: there was none.
    pub(in crate::delivery::topics) fn end(&mut self, client: ClientId) -> bool {
        self.forget_wishes(client);
        self.unwritten.remove(&client);
        let Some(session) = self.sessions.remove(&client) else { return false };
        self.due.remove(&(due_ms(&session), client));
        true
    }

    /// Ends at most `max` sessions whose time has come.
    pub(in crate::delivery::topics) fn end_due(&mut self, now_ms: u64, max: usize) -> Vec<ClientId> {
        let over = self.due.range(..=(now_ms, ClientId(u64::MAX))).take(max);
        let over: Vec<ClientId> = over.map(|(_, client)| *client).collect();
        for client in &over {
            self.end(*client);
        }
        over
    }

    /// Ends of connections that are not stored yet, at most `max`.
    pub(in crate::delivery::topics) fn take_unwritten(&mut self, max: usize) -> Vec<Change> {
        let mut changes = Vec::new();
        while changes.len() < max {
            let Some(client) = self.unwritten.pop_first() else { break };
            changes.extend(self.row(client));
        }
        changes
    }

    /// What is written of a session now.
    pub(in crate::delivery::topics) fn row(&self, client: ClientId) -> Option<Change> {
        let Session { app, expiry_s, ended_ms, .. } = self.sessions.get(&client)?;
        let ended_at = crate::domain::WallMs(*ended_ms);
        Some(Change::Keep { client, app: *app, expiry_s: *expiry_s, ended_at })
    }

    /// All that a session subscribed to, to be written.
    pub(in crate::delivery::topics) fn wishes(&self, client: ClientId) -> Option<Change> {
        Some(Change::Wishes(client, self.sessions.get(&client)?.wishes.clone()))
    }

    /// Whether the session is there and has a subscription to this filter.
    pub(in crate::delivery::topics) fn has_wish(&self, client: ClientId, filter: &str) -> bool {
        self.sessions
            .get(&client)
            .is_some_and(|session| session.wishes.iter().any(|wish| &*wish.filter == filter))
    }

    /// Makes or changes a subscription. False: no such session, or it has as many as it may.
    pub(in crate::delivery::topics) fn subscribe(&mut self, client: ClientId, wish: TopicWish) -> bool {
        let Some(session) = self.sessions.get_mut(&client) else { return false };
        let app = session.app;
        let (filter, no_local) = (wish.filter.clone(), wish.no_local);
        let at = session.wishes.iter().position(|other| other.filter == filter);
        match at {
            Some(at) => session.wishes[at] = wish,
            None if session.wishes.len() >= WISHES_MAX => return false,
            None => {
                session.wishes.push(wish);
                self.subscriptions += 1;
            }
        }
        // A shared subscription is its group's, and only while the device is there.
        if filter.starts_with("$share/") {
            return true;
        }
        let filters = self.apps.entry(app).or_default();
        let id = filters.enter(&filter);
        let before = filters.at_mut(id).and_then(|subscribers| subscribers.insert(client, no_local));
        if before.is_none() {
            self.interest.add(app, &filter);
        }
        true
    }

    /// Ends a subscription. False: there was none.
    pub(in crate::delivery::topics) fn unsubscribe(&mut self, client: ClientId, filter: &str) -> bool {
        let Some(session) = self.sessions.get_mut(&client) else { return false };
        let before = session.wishes.len();
        session.wishes.retain(|wish| &*wish.filter != filter);
        if session.wishes.len() == before {
            return false;
        }
        let app = session.app;
        self.subscriptions -= 1;
        self.leave(client, app, filter);
        true
    }

    fn forget_wishes(&mut self, client: ClientId) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        let (app, wishes) = (session.app, std::mem::take(&mut session.wishes));
        self.subscriptions -= wishes.len() as u64;
        for wish in &wishes {
            self.leave(client, app, &wish.filter);
        }
    }

    fn leave(&mut self, client: ClientId, app: AppId, filter: &str) {
        let Some(filters) = self.apps.get_mut(&app) else { return };
        let Some(id) = filters.find(filter) else { return };
        let Some(subscribers) = filters.at_mut(id) else { return };
        if subscribers.remove(&client).is_none() {
            return;
        }
        let is_last = subscribers.is_empty();
        self.interest.remove(app, filter);
        if is_last {
            filters.release(id);
            if filters.is_empty() {
                self.apps.remove(&app);
            }
        }
    }

    /// The sessions that want a topic, each once, without the publisher where it does not want its own.
    pub(in crate::delivery::topics) fn targets(
        &mut self,
        app: AppId,
        topic: &str,
        publisher: ClientId,
    ) -> Result<Vec<ClientId>, TooMany> {
        let Some(filters) = self.apps.get(&app) else { return Ok(Vec::new()) };
        self.found.clear();
        filters.matching(topic, MATCH_VISITS_MAX, &mut self.found).map_err(|_| TooMany::Visits)?;
        let mut targets = Vec::new();
        for id in &self.found {
            let Some(subscribers) = filters.at(*id) else { continue };
            let wanted = subscribers.iter().filter(|(client, no_local)| !**no_local || **client != publisher);
            targets.extend(wanted.map(|(client, _)| *client).take(TARGETS_MAX + 1));
            // Bounded also where many filters with large crowds meet.
            if self.found.len() > 1 {
                targets.sort_unstable();
                targets.dedup();
            }
            if targets.len() > TARGETS_MAX {
                return Err(TooMany::Targets);
            }
        }
        Ok(targets)
    }

    /// Sessions, and their subscriptions.
    pub(in crate::delivery::topics) fn census(&self) -> (u64, u64) {
        (self.sessions.len() as u64, self.subscriptions)
    }
}

fn due_ms(session: &Session) -> u64 {
    session.ended_ms.saturating_add(u64::from(session.expiry_s) * 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::WallMs;
    use crate::domain::topic::InterestHash;

    const APP: AppId = AppId(4);

    fn kept() -> Kept {
        Kept::new(Arc::new(Interest::new(InterestHash::default())))
    }

    fn wish(filter: &str, no_local: bool) -> TopicWish {
        TopicWish { filter: filter.into(), qos: 1, no_local, retain_as_published: false, identifier: 0 }
    }

    #[test]
    fn what_ends_leaves_nothing_behind() {
        let mut kept = kept();
        assert!(!kept.subscribe(ClientId(1), wish("a", false)), "no session");
        assert_eq!(kept.begin(ClientId(1), APP, 10), None);
        for filter in ["a/b", "a/+", "$share/g/a/b", "a/+"] {
            assert!(kept.subscribe(ClientId(1), wish(filter, false)));
        }
        assert_eq!(kept.census(), (1, 3));
        assert_eq!(kept.targets(APP, "a/b", ClientId(0)), Ok(vec![ClientId(1)]));
        assert!(kept.interest.may_match(APP, "a/b"));
        assert!(kept.unsubscribe(ClientId(1), "a/b") && !kept.unsubscribe(ClientId(1), "a/b"));
        assert_eq!(kept.targets(AppId(5), "a/b", ClientId(0)), Ok(vec![]));
        assert!(kept.end(ClientId(1)) && !kept.end(ClientId(1)));
        assert_eq!(kept.census(), (0, 0));
        assert!(kept.apps.is_empty() && !kept.interest.may_match(APP, "a/b"));
    }

    #[test]
    fn a_publisher_gets_its_own_only_by_a_filter_that_wants_it() {
        let mut kept = kept();
        for client in [1, 2] {
            kept.begin(ClientId(client), APP, 10);
            kept.subscribe(ClientId(client), wish("a/#", true));
        }
        assert_eq!(kept.targets(APP, "a/b", ClientId(1)), Ok(vec![ClientId(2)]));
        kept.subscribe(ClientId(1), wish("a/b", false));
        assert_eq!(kept.targets(APP, "a/b", ClientId(1)), Ok(vec![ClientId(1), ClientId(2)]));
    }

    #[test]
    fn a_session_is_over_when_its_expiry_has_passed_since_the_end_of_its_connection() {
        let mut kept = kept();
        kept.begin(ClientId(1), APP, 10);
        kept.begin(ClientId(2), APP, 10);
        kept.set_expiry(ClientId(2), 1);
        assert!(
            kept.left(ClientId(1), 1000) && kept.left(ClientId(2), 1000) && !kept.left(ClientId(3), 1000)
        );
        assert_eq!(kept.take_unwritten(10).len(), 2);
        assert!(kept.end_due(1999, 10).is_empty());
        assert_eq!(kept.end_due(2000, 10), [ClientId(2)]);
        assert_eq!(kept.begin(ClientId(1), APP, 5), Some(vec![]));
        assert!(kept.end_due(u64::MAX, 10).is_empty(), "it has a connection");
        kept.left(ClientId(1), 5000);
        assert_eq!(kept.end_due(u64::MAX, 10), [ClientId(1)]);
        assert!(kept.take_unwritten(10).is_empty());
    }

    #[test]
    fn a_device_keeps_a_session_for_so_long_at_least_and_none_that_ran_out() {
        let mut kept = kept();
        assert_eq!(kept.keep(ClientId(1), APP, 100, 1000).len(), 1, "a new one");
        assert!(kept.keep(ClientId(1), APP, 100, 1000).is_empty());
        assert!(kept.subscribe(ClientId(1), wish("a", false)));
        kept.left(ClientId(1), 5000);
        assert_eq!(kept.keep(ClientId(1), APP, 100, 6000).len(), 1, "it goes on");
        assert_eq!(kept.census(), (1, 1));
        assert!(kept.end_due(u64::MAX, 10).is_empty(), "it has a connection");
        kept.begin(ClientId(1), APP, 10);
        assert_eq!(kept.keep(ClientId(1), APP, 100, 6000).len(), 1, "longer than it was to be kept");
        kept.left(ClientId(1), 7000);
        assert_eq!(kept.keep(ClientId(1), APP, 100, 107_000).len(), 2, "one ends, one begins");
        assert_eq!(kept.census(), (1, 0));
        assert_eq!(kept.expiry_s(ClientId(1), 107_000), Some(100));
    }

    #[test]
    fn one_that_lost_its_connection_with_the_process_is_counted_from_the_start() {
        let mut kept = kept();
        let stored = |client, ended_at| KeptSession {
            client: ClientId(client),
            app: APP,
            expiry_s: 10,
            ended_at: WallMs(ended_at),
            wishes: vec![wish("a", false)],
        };
        kept.load(stored(1, 0), 50_000);
        kept.load(stored(2, 45_000), 50_000);
        assert_eq!(kept.take_unwritten(10).len(), 1);
        assert_eq!(kept.end_due(55_000, 10), [ClientId(2)]);
        assert_eq!(kept.end_due(60_000, 10), [ClientId(1)]);
        assert_eq!(kept.census(), (0, 0));
    }

    #[test]
    fn a_crowd_beyond_the_bound_and_a_hundred_and_first_filter_are_refused() {
        let mut kept = kept();
        for client in 1..=TARGETS_MAX as u64 {
            kept.begin(ClientId(client), APP, 10);
            kept.subscribe(ClientId(client), wish("all", false));
        }
        assert_eq!(kept.targets(APP, "all", ClientId(0)).map(|all| all.len()), Ok(TARGETS_MAX));
        kept.begin(ClientId(u64::MAX), APP, 10);
        kept.subscribe(ClientId(u64::MAX), wish("#", false));
        assert_eq!(kept.targets(APP, "all", ClientId(0)), Err(TooMany::Targets));
        for number in 1..WISHES_MAX {
            assert!(kept.subscribe(ClientId(1), wish(&number.to_string(), false)));
        }
        assert!(!kept.subscribe(ClientId(1), wish("one more", false)));
        assert!(kept.subscribe(ClientId(1), wish("all", true)), "a change is no new one");
    }
}
