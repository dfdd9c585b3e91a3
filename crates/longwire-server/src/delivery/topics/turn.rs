//! What the sessions of one shard want: planned in memory in their order, made durable in one commit, answered in their
//! order.

use super::held::kept::EXPIRY_S_MAX;
use super::publish::{Plan, Planned};
use crate::delivery::border::topics::{
    From, RetainedCopy, SubscribeOutcome, TopicCommand, TopicEvent, TopicMessage, TopicWish,
};
use crate::delivery::border::{Command, Handle};
use crate::delivery::hub::Core;
use crate::domain::{ClientId, Position, Source, WallMs};
use crate::store::port::{End, Settle, StoreError};
use crate::store::sessions::{Change, Done, Work};
use bytes::Bytes;
use longwire_proto::wire::mqtt::{PropertiesBuf, Property, SharedPublish};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// The user property on the last retained message of a subscription that means more than it gets.
const TRUNCATED: (&str, &str) = ("longwire-truncated", "1");

/// How long the session of a native device is kept after its last connection, seconds.
const NATIVE_EXPIRY_S: u32 = EXPIRY_S_MAX;

/// What is owed to a session when the work is durable.
enum Owed {
    Published { to: Handle, packet_id: Option<u16>, plan: Plan },
    Released { to: Handle, packet_id: u16, at: usize },
    Recorded { to: Handle, source: Source, position: Position, at: usize },
    Subscribed(Box<Subscribed>),
}

/// An answer to a subscription or its end.
struct Subscribed {
    from: From,
    packet_id: u16,
    subscribed: bool,
    outcomes: Vec<SubscribeOutcome>,
    /// The work that writes the list of a kept session.
    at: Option<usize>,
    /// Filters that are new, and go again if they are not stored.
    new: Vec<Box<str>>,
    retained: Vec<RetainedCopy>,
}

/// One batch being planned.
struct Turn<'a> {
    core: &'a Core,
    planned: Planned,
    owed: Vec<Owed>,
}

/// Serves a batch of events, and answers it.
pub(in crate::delivery) async fn serve(core: &Arc<Core>, batch: &mut Vec<(From, TopicEvent)>) {
    core.tell_rights(batch).await;
    let mut turn = Turn { core, planned: Planned::default(), owed: Vec::with_capacity(batch.len()) };
    let order = core.topics.order.lock().await;
    for (from, event) in batch.drain(..) {
        turn.take(from, event);
    }
    core.drain_groups(&mut turn.planned);
    let Turn { planned: Planned { work, out, mailed }, owed, .. } = turn;
    let queued = core.store.queue(work).await;
    drop(order);
    core.post_all(out).await;
    let done = queued.outcomes().await;
    core.mailed(&mailed, &done);
    for owed in owed {
        if let Some((to, answer)) = answer(core, owed, &done) {
            core.posts.send(to.shard(), Command::Topic(answer)).await;
        }
    }
}

impl Turn<'_> {
    fn take(&mut self, from: From, event: TopicEvent) {
        let (core, to) = (self.core, from.handle);
        let is_current = core.sessions.is_current(from.client, to);
        match event {
            // Also of a connection that was displaced meanwhile: the device sent it.
            TopicEvent::Publish { message, packet_id, remembers } => {
                let trace = core.trace();
                let plan = core.plan(&message, trace, packet_id, remembers, &mut self.planned);
                self.owed.push(Owed::Published { to, packet_id, plan });
            }
            // Settled when it came; the turn gives its room to what waits.
            TopicEvent::Shared { .. } => {}
            TopicEvent::Expiry { seconds } => core.session_expiry(from.client, seconds),
            // Answered apart, see `serve`.
            TopicEvent::Rights => {}
            _ if !is_current => {}
            TopicEvent::Keep => {
                let now = (core.clock)();
                let changes = core.topics.kept.lock().keep(from.client, from.app, NATIVE_EXPIRY_S, now.0);
                if matches!(changes[..], [Change::End(_), ..]) {
                    core.topics.stats.sessions_ended.fetch_add(1, Relaxed);
                }
                self.planned.work.extend(changes.into_iter().map(Work::Change));
            }
            TopicEvent::Release { packet_id } => {
                let at = self.change(Change::Release(from.client, packet_id));
                self.owed.push(Owed::Released { to, packet_id, at });
            }
            TopicEvent::Received { source, position, message } => {
                let From { client, app, .. } = from;
                let end = End::Received;
                core.mail_ended(client, message);
                let sent = WallMs(0);
                let ended = Settle { client, app, source, position, message, end, sent };
                let at = self.change(Change::Settle(ended));
                self.owed.push(Owed::Recorded { to, source, position, at });
            }
            TopicEvent::Subscribe { packet_id, wishes, is_kept } => {
                self.subscribe(from, packet_id, wishes, is_kept);
            }
            TopicEvent::Unsubscribe { packet_id, filters, is_kept } => {
                self.unsubscribe(from, packet_id, &filters, is_kept);
            }
        }
    }

    fn change(&mut self, change: Change) -> usize {
        self.planned.work.push(Work::Change(change));
        self.planned.work.len() - 1
    }

    fn subscribe(&mut self, from: From, packet_id: u16, wishes: Vec<(TopicWish, u8)>, is_kept: bool) {
        let topics = &self.core.topics;
        let (mut outcomes, mut new, mut retained) = (Vec::new(), Vec::new(), Vec::new());
        for (wish, handling) in wishes {
            let is_shared = wish.filter.starts_with("$share/");
            let kept = is_kept.then_some(from.client);
            if is_shared && !topics.groups.lock().join(from.app, from.handle, kept, &wish) {
                outcomes.push(SubscribeOutcome::Quota);
                continue;
            }
            let mut is_new = true;
            if is_kept {
                let mut kept = topics.kept.lock();
                is_new = !kept.has_wish(from.client, &wish.filter);
                if !kept.subscribe(from.client, wish.clone()) {
                    drop(kept);
                    topics.groups.lock().part(from.app, from.handle, &wish.filter);
                    outcomes.push(SubscribeOutcome::Quota);
                    continue;
                }
                if is_new {
                    new.push(wish.filter.clone());
                }
            }
            outcomes.push(SubscribeOutcome::Done);
            if !is_shared && (handling == 0 || (handling == 1 && is_new)) {
                self.retained(from, &wish, &mut retained);
            }
        }
        // The connection may have ended before it joined: then nobody would take it out again.
        if !self.core.sessions.is_current(from.client, from.handle) {
            topics.groups.lock().leave(from.handle);
        }
        let list = is_kept.then(|| topics.kept.lock().wishes(from.client)).flatten();
        let at = list.map(|change| self.change(change));
        let subscribed = Subscribed { from, packet_id, subscribed: true, outcomes, at, new, retained };
        self.owed.push(Owed::Subscribed(Box::new(subscribed)));
    }

    fn retained(&self, from: From, wish: &TopicWish, copies: &mut Vec<RetainedCopy>) {
        let topics = &self.core.topics;
        let but = wish.no_local.then_some(from.client);
        let now = (self.core.clock)();
        let (found, truncated) = topics.retained.lock().matching(from.app, &wish.filter, but, now);
        let last = found.len().saturating_sub(1);
        for (at, message) in found.into_iter().enumerate() {
            let message = if truncated && at == last { marked(&message) } else { message };
            copies.push(RetainedCopy { message, qos: wish.qos, identifier: wish.identifier });
        }
        if truncated {
            topics.stats.retained_truncated.fetch_add(1, Relaxed);
        }
    }

    fn unsubscribe(&mut self, from: From, packet_id: u16, filters: &[Box<str>], is_kept: bool) {
        let topics = &self.core.topics;
        let mut outcomes = Vec::with_capacity(filters.len());
        for filter in filters {
            let is_shared = filter.starts_with("$share/");
            // Live subscriptions are the shard's, which has looked already.
            let mut was_there = !is_shared && !is_kept;
            if is_shared {
                was_there = topics.groups.lock().part(from.app, from.handle, filter);
            }
            if is_kept {
                was_there |= topics.kept.lock().unsubscribe(from.client, filter);
            }
            outcomes.push(if was_there { SubscribeOutcome::Done } else { SubscribeOutcome::NotThere });
        }
        let list = is_kept.then(|| topics.kept.lock().wishes(from.client)).flatten();
        let at = list.map(|change| self.change(change));
        let (new, retained) = (Vec::new(), Vec::new());
        let subscribed = Subscribed { from, packet_id, subscribed: false, outcomes, at, new, retained };
        self.owed.push(Owed::Subscribed(Box::new(subscribed)));
    }
}

/// The last of too many: it says so.
fn marked(message: &Arc<TopicMessage>) -> Arc<TopicMessage> {
    let shared = &message.shared;
    let truncated: PropertiesBuf = [Property::UserProperty(TRUNCATED)].into_iter().collect();
    let properties = [shared.properties(), truncated.as_properties().as_bytes()].concat();
    match SharedPublish::stored(shared.topic(), &properties, shared.payload()) {
        Ok(shared) => {
            let TopicMessage { app, publisher, qos, retain, deadline, .. } = **message;
            let shared = shared.map(Bytes::from);
            Arc::new(TopicMessage::new(app, publisher, shared, (qos, retain), deadline))
        }
        Err(_) => message.clone(),
    }
}

/// What a session is told; `None`: nothing.
fn answer(core: &Core, owed: Owed, done: &[Result<Done, StoreError>]) -> Option<(Handle, TopicCommand)> {
    let is_done = |at: usize| done.get(at).is_some_and(Result::is_ok);
    match owed {
        Owed::Published { to, packet_id, plan } => {
            let outcome = plan.outcome(done);
            core.topics.count(outcome);
            packet_id.map(|packet_id| (to, TopicCommand::Published { to, packet_id, outcome }))
        }
        // What was not written has no answer: the client asks again after it has come again.
        Owed::Released { to, packet_id, at } => {
            is_done(at).then_some((to, TopicCommand::Released { to, packet_id }))
        }
        Owed::Recorded { to, source, position, at } => {
            is_done(at).then_some((to, TopicCommand::Recorded { to, source, position }))
        }
        Owed::Subscribed(asked) => {
            let Subscribed { from, packet_id, subscribed, mut outcomes, at, new, mut retained } = *asked;
            if at.is_some_and(|at| !is_done(at)) {
                undo(core, from.client, &new);
                let taken = outcomes.iter_mut().filter(|outcome| **outcome == SubscribeOutcome::Done);
                taken.for_each(|outcome| *outcome = SubscribeOutcome::Unavailable);
                retained.clear();
            }
            let to = from.handle;
            let answer = TopicCommand::Answered { to, packet_id, subscribed, outcomes, retained };
            (packet_id != 0).then_some((to, answer))
        }
    }
}

fn undo(core: &Core, client: ClientId, new: &[Box<str>]) {
    let mut kept = core.topics.kept.lock();
    for filter in new {
        kept.unsubscribe(client, filter);
    }
}
