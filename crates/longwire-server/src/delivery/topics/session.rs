//! Sessions from login to end.

use crate::delivery::border::Handle;
use crate::delivery::border::topics::{From, TopicWish, Will};
use crate::delivery::hub::Core;
use crate::domain::topic::Act;
use crate::domain::{App, AppId, ClientId, MessageId, Position, WallMs};
use crate::store::port::StoreError;
use crate::store::sessions::{Change, KeptWill, Work};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::held::kept::{EXPIRY_S_MAX, Succession};
use super::held::wills::message_of;

/// After a start no will goes out for so long: who listens for it lost the connection as well, seconds.
const LISTENERS_BACK_S: u64 = 5;

/// What a login says of its session.
#[derive(Clone, Debug)]
pub struct SessionWish {
    /// The device.
    pub client: ClientId,
    /// Its app.
    pub app: AppId,
    /// The session so far is not wanted (MQTT-3.1.2-4).
    pub clean_start: bool,
    /// Seconds that it is to outlive its connection; clipped to 30 days.
    pub expiry_s: u32,
    /// The will that is stored with it.
    pub will: Option<Arc<KeptWill>>,
    /// The connection.
    pub from: Handle,
    /// The last places of its mailbox and its app's log: no connection has sent more.
    pub heads: [Position; 2],
}

/// What it begins with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SessionStart {
    /// It was there (MQTT-3.2.2-2).
    pub present: bool,
    /// What it had subscribed to.
    pub subscriptions: Vec<TopicWish>,
    /// Identifiers of QoS 2 from the device that await PUBREL.
    pub awaiting_release: Vec<u16>,
    /// Up to where earlier connections of the session may have sent its mailbox and its app's log.
    pub sent: [Position; 2],
    /// Seconds that hold.
    pub expiry_s: u32,
}

impl Core {
    /// Begins the sessions of MQTT clients whose logins are accepted and stand in the session table: what a client had is
    /// resumed or ends, its will is called back or sent, and what is kept is durable before this returns. One start per wish.
    pub(in crate::delivery) async fn begin_sessions(
        &self,
        wishes: Vec<SessionWish>,
    ) -> Vec<Result<SessionStart, StoreError>> {
        let topics = &self.topics;
        let (mut changes, mut starts) = (Vec::new(), Vec::with_capacity(wishes.len()));
        let order = topics.order.lock().await;
        for wish in &wishes {
            let from = changes.len();
            let start = self.begin_in_memory(wish, &mut changes);
            starts.push((start, from..changes.len()));
        }
        let queued = self.store.queue(changes.into_iter().map(Work::Change).collect()).await;
        drop(order);
        let done = queued.outcomes().await;
        let present =
            |(wish, (start, _)): (&SessionWish, &(SessionStart, _))| start.present.then_some(wish.client);
        let resumed: Vec<ClientId> = wishes.iter().zip(&starts).filter_map(present).collect();
        let mut views = self.unreleased(resumed).await.into_iter();
        let finish = |(mut start, work): (SessionStart, Range<usize>)| {
            for one in done.get(work).unwrap_or_default() {
                one.as_ref().map_err(Clone::clone)?;
            }
            if start.present {
                start.awaiting_release = views.next().unwrap_or_else(|| Ok(Vec::new()))?;
            }
            Ok(start)
        };
        starts.into_iter().map(finish).collect()
    }

    /// The session that a native device goes on with: the one that was kept, for as long as it was to be kept. `None`: it has
    /// none, and makes none by its login.
    pub(in crate::delivery) fn kept_session(
        &self,
        client: ClientId,
        app: AppId,
        from: Handle,
        heads: [Position; 2],
    ) -> Option<SessionWish> {
        let expiry_s = self.topics.kept.lock().expiry_s(client, (self.clock)().0)?;
        Some(SessionWish { client, app, clean_start: false, expiry_s, will: None, from, heads })
    }

    async fn unreleased(&self, clients: Vec<ClientId>) -> Vec<Result<Vec<u16>, StoreError>> {
        let count = clients.len();
        if count == 0 {
            return Vec::new();
        }
        match self.store.sessions_of(clients).await {
            Ok(views) => views
                .into_iter()
                .map(|view| Ok(view.map(|view| view.unreleased).unwrap_or_default()))
                .collect(),
            Err(error) => vec![Err(error); count],
        }
    }

    fn begin_in_memory(&self, wish: &SessionWish, changes: &mut Vec<Change>) -> SessionStart {
        let &SessionWish { client, app, clean_start, expiry_s, ref will, from, heads } = wish;
        let (topics, now) = (&self.topics, (self.clock)());
        let expiry_s = expiry_s.min(EXPIRY_S_MAX);
        let mut kept = topics.kept.lock();
        if clean_start || kept.is_over(client, now.0) {
            topics.wills.lock().hasten(client, now);
            // A client that never had a session costs no commit: it can have no topic messages either.
            if kept.end(client) {
                topics.stats.sessions_ended.fetch_add(1, Relaxed);
                changes.push(Change::End(client));
            }
        }
        let found = kept.begin(client, app, expiry_s, heads);
        // Beside a connection that is still there, which may be an MQTT client's with a will, a native device only joins.
        let joins = kept.begun_by(client).is_some_and(|other| self.sessions.is_current(client, other));
        if !joins {
            kept.set_will(client, will.clone());
            kept.begun_for(client, from, found.is_none());
        }
        changes.extend(kept.row(client));
        drop(kept);
        let Some((subscriptions, sent)) = found else {
            return SessionStart { expiry_s, ..SessionStart::default() };
        };
        topics.stats.sessions_resumed.fetch_add(1, Relaxed);
        if topics.wills.lock().call_back(client) {
            topics.stats.wills_called_back.fetch_add(1, Relaxed);
        }
        SessionStart { present: true, subscriptions, awaiting_release: Vec::new(), sent, expiry_s }
    }

    /// A session was begun for a connection that is not there any more.
    pub(in crate::delivery) fn session_without_connection(&self, client: ClientId) {
        if !self.sessions.is_online(client) {
            self.topics.kept.lock().left(client, (self.clock)().0, [Position::START; 2]);
        }
    }

    /// The connection of a device has ended. Memory only, so that the pump may call it: what is to be stored follows with the
    /// next tick. `sent`: up to where it has sent mailbox and log. `was_current`: no newer connection has taken its place.
    pub(in crate::delivery) fn connection_ended(
        &self,
        from: From,
        will: Option<Box<Will>>,
        sent: [Position; 2],
        was_current: bool,
    ) {
        let (topics, now) = (&self.topics, (self.clock)());
        topics.groups.lock().leave(from.handle);
        let mut kept = topics.kept.lock();
        // A session that is not kept ends with its connection, and its will does not wait (MQTT-3.1.3-9). Nor if a newer
        // connection has it: that one has resumed the session, or begun another.
        let expiry_s = match kept.row(from.client) {
            Some(Change::Keep { expiry_s, .. }) => expiry_s,
            _ => 0,
        };
        let succession = kept.succession(from.client, from.handle);
        // A native device may have further connections: its session goes on with them.
        let is_last = was_current && !self.sessions.is_online(from.client);
        if will.is_none() && (is_last || was_current && succession == Succession::Open) {
            kept.set_will(from.client, None);
        }
        if is_last {
            kept.left(from.client, now.0, sent);
        } else {
            kept.has_sent(from.client, sent);
        }
        drop(kept);
        let Some(will) = will else { return };
        let delay_s = match succession {
            _ if was_current => will.delay_s.min(expiry_s),
            // Its login calls it back, or hastens it (MQTT-3.1.3-9, MQTT-3.1.4-3).
            Succession::Open => will.delay_s,
            Succession::Resumed if will.delay_s > 0 => {
                topics.stats.wills_called_back.fetch_add(1, Relaxed);
                return;
            }
            Succession::Resumed | Succession::Ended => 0,
        };
        if !topics.wills.lock().add(from.client, *will, delay_s, now) {
            topics.stats.wills_dropped.fetch_add(1, Relaxed);
            topics.kept.lock().will_done(from.client);
        }
    }

    /// Wills that were stored when the process died or stopped: they go out when their delay is over, and not before those who
    /// listen have had [`LISTENERS_BACK_S`] to come back (MQTT 3.1.2.5). Judged by the rules that hold now.
    pub(in crate::delivery) fn take_up_wills(&self, apps: &[Arc<App>]) {
        let (topics, now) = (&self.topics, (self.clock)());
        let left = topics.kept.lock().wills();
        for (client, app, will, ended_at) in left {
            let rules = match apps.iter().find(|known| known.id == app) {
                Some(_) if will.anonymous && self.auth.options.anonymous.is_some() => {
                    Some(&self.auth.open_rules)
                }
                Some(app) if !will.anonymous => Some(&app.topic_rules),
                _ => None,
            };
            let delay_s = u64::from(will.delay_s);
            let due = WallMs((ended_at.0 + delay_s * 1000).max(now.0 + LISTENERS_BACK_S * 1000));
            let message = message_of(&will, app, client, due).filter(|message| {
                let topic = message.shared.topic();
                rules.is_some_and(|rules| rules.allow(Act::Publish, topic, &will.name, &will.user))
            });
            let taken =
                message.is_some_and(|message| topics.wills.lock().take_up(client, message, due, delay_s > 0));
            if !taken {
                topics.stats.wills_dropped.fetch_add(1, Relaxed);
                topics.kept.lock().will_done(client);
            }
        }
    }

    /// A member of a shared group acked a delivery, or will not. Memory only; what waits gets the room with the next turn.
    pub(in crate::delivery) fn shared_settled(&self, number: u64, acked: bool) {
        self.topics.groups.lock().settled(number, acked);
    }

    /// A stored delivery of a device is over, or the device has it: if a shared group gave it, that member has room again.
    pub(in crate::delivery) fn mail_ended(&self, client: ClientId, message: MessageId) {
        if self.topics.mailed.load(Relaxed) > 0 {
            self.topics.groups.lock().mail_ended(client, message);
        }
    }

    /// A device is removed: its session ends without its will, and the store forgets the device. In the order of the topics, so
    /// that nothing of the session is written afterwards.
    pub(in crate::delivery) async fn end_for_good(
        &self,
        app: AppId,
        client: ClientId,
    ) -> Result<(), StoreError> {
        let topics = &self.topics;
        let _order = topics.order.lock().await;
        topics.wills.lock().call_back(client);
        if topics.kept.lock().end(client) {
            topics.stats.sessions_ended.fetch_add(1, Relaxed);
        }
        self.store.remove_device(app, client).await
    }

    /// The client said at its end how long its session is kept. Memory only; the connection's end writes it.
    pub(in crate::delivery) fn session_expiry(&self, client: ClientId, seconds: u32) {
        self.topics.kept.lock().set_expiry(client, seconds.min(EXPIRY_S_MAX));
    }
}
