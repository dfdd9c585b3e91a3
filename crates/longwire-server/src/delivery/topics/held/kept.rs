//! Sessions that outlive their connections, in memory: who of them wants which topic, and when each is over.

use crate::delivery::border::Handle;
use crate::domain::topic::{FilterId, Filters, Interest, TopicWish};
use crate::domain::{AppId, ClientId, Position, WallMs};
use crate::store::sessions::{Change, KeptSession, KeptWill, WISHES_MAX};
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
    /// Up to where its connections may have sent its mailbox and its app's log.
    sent: [Position; 2],
    wishes: Vec<TopicWish>,
    /// Stored with it until it was published or taken back; the shard, or [`Wills`](super::wills::Wills), has it too.
    will: Option<Arc<KeptWill>>,
    /// The connection that it was begun for last, and whether it was not there before.
    begun: Option<(Handle, bool)>,
}

/// What a newer connection of a device has made of its session, as the end of an older one finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::delivery::topics) enum Succession {
    /// It has not begun with it yet.
    Open,
    /// It goes on with it.
    Resumed,
    /// That session is over.
    Ended,
}

/// What a new session has sent; and a connection of which that is not known.
const NOTHING: [Position; 2] = [Position::START; 2];
const ANYTHING: [Position; 2] = [Position(u64::MAX); 2];

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
        let KeptSession { client, app, expiry_s, ended_at, sent, wishes, will } = kept;
        let session = Session { app, expiry_s, ended_ms: 0, sent, wishes: Vec::new(), will, begun: None };
        self.sessions.insert(client, session);
        for wish in wishes {
            self.subscribe(client, wish);
        }
        // What a connection sent that died with the process is not known.
        let (ended_ms, sent) = if ended_at.0 == 0 { (now_ms, ANYTHING) } else { (ended_at.0, sent) };
        self.left(client, ended_ms, sent);
        if ended_at.0 != 0 {
            self.unwritten.remove(&client);
        }
    }

    /// A connection of the device has begun. Returns what the session had subscribed to and may have been sent if it was
    /// there, and makes it if it is to be kept. `heads`: the last places of mailbox and log.
    pub(in crate::delivery::topics) fn begin(
        &mut self,
        client: ClientId,
        app: AppId,
        expiry_s: u32,
        heads: [Position; 2],
    ) -> Option<(Vec<TopicWish>, [Position; 2])> {
        self.unwritten.remove(&client);
        if let Some(session) = self.sessions.get_mut(&client) {
            self.due.remove(&(due_ms(session), client));
            // A connection that was displaced may have sent all that is there.
            let known = if session.ended_ms == 0 { ANYTHING } else { session.sent };
            session.sent = [known[0].min(heads[0]), known[1].min(heads[1])];
            session.ended_ms = 0;
            session.expiry_s = expiry_s;
            let found = (session.wishes.clone(), session.sent);
            if expiry_s == 0 {
                // It ends with this connection, so its subscriptions are the shard's alone.
                self.forget_wishes(client);
            }
            return Some(found);
        }
        if expiry_s > 0 {
            self.insert_new(client, app, expiry_s);
        }
        None
    }

    fn insert_new(&mut self, client: ClientId, app: AppId, expiry_s: u32) {
        let (sent, wishes) = (NOTHING, Vec::new());
        let session = Session { app, expiry_s, ended_ms: 0, sent, wishes, will: None, begun: None };
        self.sessions.insert(client, session);
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
                self.insert_new(client, app, expiry_s);
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

    /// The session, if there is one, was begun for this connection.
    pub(in crate::delivery::topics) fn begun_for(&mut self, client: ClientId, from: Handle, anew: bool) {
        if let Some(session) = self.sessions.get_mut(&client) {
            session.begun = Some((from, anew));
        }
    }

    /// The connection that it was begun for last.
    pub(in crate::delivery::topics) fn begun_by(&self, client: ClientId) -> Option<Handle> {
        self.sessions.get(&client)?.begun.map(|(from, _)| from)
    }

    /// The end of a connection that a newer one has displaced: what that has made of the session.
    pub(in crate::delivery::topics) fn succession(&self, client: ClientId, displaced: Handle) -> Succession {
        match self.sessions.get(&client).map(|session| session.begun) {
            Some(Some((from, _))) if from == displaced => Succession::Open,
            Some(Some((_, false)) | None) => Succession::Resumed,
            Some(Some((_, true))) | None => Succession::Ended,
        }
    }

    /// The session has this will from now on, or none.
    pub(in crate::delivery::topics) fn set_will(&mut self, client: ClientId, will: Option<Arc<KeptWill>>) {
        if let Some(session) = self.sessions.get_mut(&client) {
            session.will = will;
        }
    }

    /// The will of a session without a connection was published, or will never be. One that has a connection has another.
    pub(in crate::delivery::topics) fn will_done(&mut self, client: ClientId) {
        if let Some(session) = self.sessions.get_mut(&client)
            && session.ended_ms != 0
            && session.will.take().is_some()
        {
            self.unwritten.insert(client);
        }
    }

    /// The wills of sessions without a connection, and when that ended: all of them, so only at the start.
    pub(in crate::delivery::topics) fn wills(&self) -> Vec<(ClientId, AppId, Arc<KeptWill>, WallMs)> {
        let willful = self.sessions.iter().filter(|(_, session)| session.ended_ms != 0);
        let with = |(client, session): (&ClientId, &Session)| {
            Some((*client, session.app, session.will.clone()?, WallMs(session.ended_ms)))
        };
        willful.filter_map(with).collect()
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

    /// The device's connection has ended, which sent mailbox and log up to `sent`. True: it has a session, whose end is to
    /// be written.
    pub(in crate::delivery::topics) fn left(
        &mut self,
        client: ClientId,
        now_ms: u64,
        sent: [Position; 2],
    ) -> bool {
        let Some(session) = self.sessions.get_mut(&client) else { return false };
        // A connection of the native protocol leaves the session as it is.
        if session.ended_ms != 0 {
            return false;
        }
        session.ended_ms = now_ms.max(1);
        self.due.insert((due_ms(session), client));
        self.unwritten.insert(client);
        self.has_sent(client, sent);
        true
    }

    /// A connection of the device has sent mailbox and log up to there.
    pub(in crate::delivery::topics) fn has_sent(&mut self, client: ClientId, sent: [Position; 2]) {
        if let Some(session) = self.sessions.get_mut(&client) {
            session.sent = [session.sent[0].max(sent[0]), session.sent[1].max(sent[1])];
        }
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
        let Session { app, expiry_s, ended_ms, sent, will, .. } = self.sessions.get(&client)?;
        let (ended_at, will) = (WallMs(*ended_ms), will.clone());
        Some(Change::Keep { client, app: *app, expiry_s: *expiry_s, ended_at, sent: *sent, will })
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
        let (filter, qos, no_local) = (wish.filter.clone(), wish.qos, wish.no_local);
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
        // Of QoS 0 nothing is stored: the shard serves it while the device is there (MQTT 3.1.2.4 asks for no more).
        if qos == 0 {
            self.leave(client, app, &filter);
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

    /// The sessions that want a topic with QoS 1 or 2, each once, without the publisher where it does not want its own.
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
        assert_eq!(kept.begin(ClientId(1), APP, 10, NOTHING), None);
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
            kept.begin(ClientId(client), APP, 10, NOTHING);
            kept.subscribe(ClientId(client), wish("a/#", true));
        }
        assert_eq!(kept.targets(APP, "a/b", ClientId(1)), Ok(vec![ClientId(2)]));
        kept.subscribe(ClientId(1), wish("a/b", false));
        assert_eq!(kept.targets(APP, "a/b", ClientId(1)), Ok(vec![ClientId(1), ClientId(2)]));
    }

    /// It is sent to who is there, and stored for nobody.
    #[test]
    fn a_subscription_of_qos_0_is_not_stored_for() {
        let mut kept = kept();
        kept.begin(ClientId(1), APP, 10, NOTHING);
        let zero = TopicWish { qos: 0, ..wish("a", false) };
        let targets = |kept: &mut Kept| kept.targets(APP, "a", ClientId(0)).unwrap_or_default();
        for (wish, stored) in [(zero.clone(), 0), (wish("a", false), 1), (zero.clone(), 0), (zero, 0)] {
            assert!(kept.subscribe(ClientId(1), wish));
            assert_eq!(targets(&mut kept).len(), stored);
            assert_eq!(kept.interest.may_match(APP, "a"), stored > 0);
            assert_eq!(kept.census(), (1, 1), "it is part of the session all the same");
        }
        assert!(kept.unsubscribe(ClientId(1), "a") && kept.apps.is_empty());
    }

    #[test]
    fn a_session_is_over_when_its_expiry_has_passed_since_the_end_of_its_connection() {
        let mut kept = kept();
        kept.begin(ClientId(1), APP, 10, NOTHING);
        kept.begin(ClientId(2), APP, 10, NOTHING);
        kept.set_expiry(ClientId(2), 1);
        assert!(
            kept.left(ClientId(1), 1000, NOTHING)
                && kept.left(ClientId(2), 1000, NOTHING)
                && !kept.left(ClientId(3), 1000, NOTHING)
        );
        assert_eq!(kept.take_unwritten(10).len(), 2);
        assert!(kept.end_due(1999, 10).is_empty());
        assert_eq!(kept.end_due(2000, 10), [ClientId(2)]);
        assert_eq!(kept.begin(ClientId(1), APP, 5, NOTHING), Some((vec![], NOTHING)));
        assert!(kept.end_due(u64::MAX, 10).is_empty(), "it has a connection");
        kept.left(ClientId(1), 5000, NOTHING);
        assert_eq!(kept.end_due(u64::MAX, 10), [ClientId(1)]);
        assert!(kept.take_unwritten(10).is_empty());
    }

    #[test]
    fn a_device_keeps_a_session_for_so_long_at_least_and_none_that_ran_out() {
        let mut kept = kept();
        assert_eq!(kept.keep(ClientId(1), APP, 100, 1000).len(), 1, "a new one");
        assert!(kept.keep(ClientId(1), APP, 100, 1000).is_empty());
        assert!(kept.subscribe(ClientId(1), wish("a", false)));
        kept.left(ClientId(1), 5000, NOTHING);
        assert_eq!(kept.keep(ClientId(1), APP, 100, 6000).len(), 1, "it goes on");
        assert_eq!(kept.census(), (1, 1));
        assert!(kept.end_due(u64::MAX, 10).is_empty(), "it has a connection");
        kept.begin(ClientId(1), APP, 10, NOTHING);
        assert_eq!(kept.keep(ClientId(1), APP, 100, 6000).len(), 1, "longer than it was to be kept");
        kept.left(ClientId(1), 7000, NOTHING);
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
            will: None,
            sent: NOTHING,
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
            kept.begin(ClientId(client), APP, 10, NOTHING);
            kept.subscribe(ClientId(client), wish("all", false));
        }
        assert_eq!(kept.targets(APP, "all", ClientId(0)).map(|all| all.len()), Ok(TARGETS_MAX));
        kept.begin(ClientId(u64::MAX), APP, 10, NOTHING);
        kept.subscribe(ClientId(u64::MAX), wish("#", false));
        assert_eq!(kept.targets(APP, "all", ClientId(0)), Err(TooMany::Targets));
        for number in 1..WISHES_MAX {
            assert!(kept.subscribe(ClientId(1), wish(&number.to_string(), false)));
        }
        assert!(!kept.subscribe(ClientId(1), wish("one more", false)));
        assert!(kept.subscribe(ClientId(1), wish("all", true)), "a change is no new one");
    }
}
