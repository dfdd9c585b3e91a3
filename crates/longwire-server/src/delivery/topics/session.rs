//! Sessions from login to end.

use crate::delivery::border::topics::{From, TopicWish, Will};
use crate::delivery::hub::Core;
use crate::domain::{AppId, ClientId};
use crate::store::port::StoreError;
use crate::store::sessions::{Change, Work};
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use super::held::kept::EXPIRY_S_MAX;

/// What a login says of its session.
#[derive(Clone, Copy, Debug)]
pub struct SessionWish {
    /// The device.
    pub client: ClientId,
    /// Its app.
    pub app: AppId,
    /// The session so far is not wanted (MQTT-3.1.2-4).
    pub clean_start: bool,
    /// Seconds that it is to outlive its connection; clipped to 30 days.
    pub expiry_s: u32,
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
    pub(in crate::delivery) fn kept_session(&self, client: ClientId, app: AppId) -> Option<SessionWish> {
        let expiry_s = self.topics.kept.lock().expiry_s(client, (self.clock)().0)?;
        Some(SessionWish { client, app, clean_start: false, expiry_s })
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
        let &SessionWish { client, app, clean_start, expiry_s } = wish;
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
        let found = kept.begin(client, app, expiry_s);
        changes.extend(kept.row(client));
        drop(kept);
        let Some(subscriptions) = found else { return SessionStart { expiry_s, ..SessionStart::default() } };
        topics.stats.sessions_resumed.fetch_add(1, Relaxed);
        if topics.wills.lock().call_back(client) {
            topics.stats.wills_called_back.fetch_add(1, Relaxed);
        }
        SessionStart { present: true, subscriptions, awaiting_release: Vec::new(), expiry_s }
    }

    /// A session was begun for a connection that is not there any more.
    pub(in crate::delivery) fn session_without_connection(&self, client: ClientId) {
        if !self.sessions.is_online(client) {
            self.topics.kept.lock().left(client, (self.clock)().0);
        }
    }

    /// The connection of a device has ended. Memory only, so that the pump may call it: what is to be stored follows with the
    /// next tick. `was_current`: no newer connection has taken its place.
    pub(in crate::delivery) fn connection_ended(
        &self,
        from: From,
        will: Option<Box<Will>>,
        was_current: bool,
    ) {
        let (topics, now) = (&self.topics, (self.clock)());
        topics.groups.lock().leave(from.handle);
        let mut kept = topics.kept.lock();
        // A session that is not kept ends with its connection, and its will does not wait (MQTT-3.1.3-9). Nor if a newer
        // connection has it: that one has resumed the session, or begun another.
        let (is_kept, expiry_s) = match kept.row(from.client) {
            Some(Change::Keep { expiry_s, .. }) => (true, expiry_s),
            _ => (false, 0),
        };
        // A native device may have further connections: its session goes on with them.
        if was_current && !self.sessions.is_online(from.client) {
            kept.left(from.client, now.0);
        }
        drop(kept);
        let Some(will) = will else { return };
        if !was_current && is_kept && will.delay_s > 0 {
            topics.stats.wills_called_back.fetch_add(1, Relaxed);
            return;
        }
        let delay_s = if was_current { will.delay_s.min(expiry_s) } else { 0 };
        if !topics.wills.lock().add(from.client, *will, delay_s, now) {
            topics.stats.wills_dropped.fetch_add(1, Relaxed);
        }
    }

    /// A member of a shared group acked a delivery, or will not. Memory only; what waits gets the room with the next turn.
    pub(in crate::delivery) fn shared_settled(&self, number: u64, acked: bool) {
        self.topics.groups.lock().settled(number, acked);
    }

    /// The client said at its end how long its session is kept. Memory only; the connection's end writes it.
    pub(in crate::delivery) fn session_expiry(&self, client: ClientId, seconds: u32) {
        self.topics.kept.lock().set_expiry(client, seconds.min(EXPIRY_S_MAX));
    }
}
