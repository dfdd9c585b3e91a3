//! A push from audience to receipt.

use super::border::{Broadcast, Command, Outgoing};
use super::hub::{Core, MessageStory, PushError, Receipt};
use super::memory::live::OnlineOnly;
use crate::domain::audience::ADDRESSES_MAX;
use crate::domain::message::TTL_S_MAX;
use crate::domain::{
    App, AppId, Audience, ClientId, Counts, DropReason, Dropped, Filter, MessageId, MessageRecord, Position,
    Priority, Push, WallMs,
};
use crate::planted::{Fault, planted};
use crate::store::port::{Accept, Destination, MessageView, StoreError};
use bytes::Bytes;
use longwire_proto::wire::encode_push_shared;
use std::collections::HashSet;
use std::sync::Arc;

/// Devices of an addressed audience.
struct Targets {
    clients: Vec<ClientId>,
    unknown: u64,
}

/// An audience as far as it needs reading.
enum Reach {
    Addressed(Targets),
    Filtered(Arc<Filter>),
}

impl Core {
    /// See [`super::hub::Hub::push`].
    pub(super) async fn push(&self, app: &App, push: Push) -> Result<Receipt, PushError> {
        if let Some(topic) = &push.audience.topic {
            return self.push_to_topic(app.id, topic, &push).await;
        }
        let _under_way = self.under_way.read().await;
        if self.posts.stopping() {
            return Err(PushError::Draining);
        }
        let reach = self.reach(app.id, &push.audience).await?;
        let ttl_s = push.ttl_s.min(TTL_S_MAX);
        let accepted_at = (self.clock)();
        let message = self.ids.next(accepted_at);
        let mut shared = Vec::new();
        let content = &push.content;
        encode_push_shared(
            message,
            content.kind,
            push.trace,
            &push.collapse_key,
            &content.payload,
            &mut shared,
        );
        let shared = Bytes::from(shared);
        let receipt = if ttl_s == 0 {
            let kept = OnlineOnly { app: app.id, kind: content.kind, trace: push.trace, accepted_at };
            self.push_now(message, kept, shared, reach).await
        } else {
            let early_ms = if planted(Fault::ExpiresEarly) { 1_500 } else { 0 };
            let deadline = WallMs(accepted_at.0.saturating_add(u64::from(ttl_s) * 1000 - early_ms));
            let (destination, unknown) = match reach {
                Reach::Addressed(targets) => (Destination::Mailboxes(targets.clients), Some(targets.unknown)),
                Reach::Filtered(filter) => (Destination::Log(filter), None),
            };
            let accept = Accept {
                message,
                app: app.id,
                kind: content.kind,
                trace: push.trace,
                accepted_at,
                deadline,
                shared,
                destination,
                received: None,
                priority: push.priority,
                collapse_key: push.collapse_key.as_str().into(),
                replaces: push.replaces,
                once: push.once,
            };
            self.push_stored(accept, unknown, ttl_s).await?
        };
        self.stats.push_accepted(&push.audience, ttl_s > 0);
        tracing::debug!(trace = %push.trace, message = %message, durability = receipt.durability, "push accepted");
        Ok(receipt)
    }

    async fn push_stored(
        &self,
        accept: Accept,
        unknown: Option<u64>,
        ttl_s: u32,
    ) -> Result<Receipt, PushError> {
        let accepted = self.store.accept(accept).await?;
        let addressed = unknown.is_some();
        let targets = &accepted.record.targets;
        let online = || targets.iter().filter(|to| self.sessions.is_online(to.client)).count() as u64;
        let refused = accepted.refused.len() as u64;
        Ok(Receipt {
            message: accepted.message,
            matched: addressed.then(|| targets.len() as u64 + refused),
            unknown: unknown.unwrap_or(0),
            refused,
            online: addressed.then(online),
            durability: "local",
            ttl_s,
        })
    }

    /// Online only: no store, no position, no ack.
    async fn push_now(&self, message: MessageId, kept: OnlineOnly, shared: Bytes, reach: Reach) -> Receipt {
        let app = kept.app;
        self.live.begin(message, kept);
        let outgoing = Arc::new(Outgoing { message, deadline: WallMs(0), shared });
        let mut receipt = Receipt {
            message,
            matched: None,
            unknown: 0,
            refused: 0,
            online: None,
            durability: "memory",
            ttl_s: 0,
        };
        match reach {
            Reach::Addressed(targets) => {
                let mut online = 0;
                for client in &targets.clients {
                    let connections = self.sessions.of(*client);
                    online += u64::from(connections.count() > 0);
                    for to in connections.iter() {
                        let deliver = Command::DeliverNow { to, message: outgoing.clone() };
                        self.posts.send(to.shard(), deliver).await;
                    }
                }
                receipt.matched = Some(targets.clients.len() as u64);
                receipt.unknown = targets.unknown;
                receipt.online = Some(online);
            }
            Reach::Filtered(filter) => {
                let reach = self.labels.reach(app, filter);
                let broadcast = Broadcast { app, reach, position: Position::START, message: outgoing };
                self.posts.broadcast(&Arc::new(broadcast)).await;
            }
        }
        receipt
    }

    async fn reach(&self, app: AppId, audience: &Audience) -> Result<Reach, PushError> {
        let found: Vec<Vec<ClientId>> = if let Some(names) = &audience.names {
            let clients = self.store.resolve_names(app, names.clone()).await?;
            clients.into_iter().map(|client| client.into_iter().collect()).collect()
        } else if let Some(aliases) = &audience.aliases {
            self.store.resolve_aliases(app, aliases.clone()).await?
        } else {
            return Ok(Reach::Filtered(Arc::new(audience.filter.clone())));
        };
        let targets = gather(&found);
        match targets.clients.len() {
            0 => Err(PushError::NobodyMatches),
            1..=ADDRESSES_MAX => Ok(Reach::Addressed(targets)),
            many => Err(PushError::TooManyTargets(many)),
        }
    }

    /// See [`super::hub::Hub::message`].
    pub(super) async fn message(
        &self,
        app: &App,
        message: MessageId,
    ) -> Result<Option<MessageStory>, StoreError> {
        let live = self.live.of(message);
        if let Some(kept) = &live.online_only {
            return Ok((kept.app == app.id).then(|| online_only_story(kept, live.sent, live.dropped)));
        }
        let Some(mut view) = self.store.message(app.id, message).await? else { return Ok(None) };
        let in_flight = live.in_flight.max(0) as u64;
        if view.record.log_position != Position::START {
            // A log delivery is stored together with its end; until then it exists in a window only.
            view.counts.created += in_flight;
        }
        Ok(Some(MessageStory { view, sent: live.sent, in_flight, dropped_now: 0, online_only: false }))
    }
}

fn online_only_story(kept: &OnlineOnly, sent: u64, dropped: u64) -> MessageStory {
    let record = MessageRecord {
        app: kept.app,
        kind: kept.kind,
        trace: kept.trace,
        accepted_at: kept.accepted_at,
        deadline: kept.accepted_at,
        log_position: Position::START,
        targets: Vec::new(),
        priority: Priority::Normal,
        collapse_key: Arc::from(""),
        replaces: None,
    };
    // What was sent has no end that anybody could know of, so only what was dropped is a delivery in the books.
    let counts = Counts {
        created: dropped,
        dropped: Dropped::of(DropReason::OutboxFull, dropped),
        ..Counts::default()
    };
    let view = MessageView { record: Arc::new(record), counts };
    MessageStory { view, sent, in_flight: 0, dropped_now: dropped, online_only: true }
}

/// Each device once, in the order of the addresses.
fn gather(found: &[Vec<ClientId>]) -> Targets {
    let mut seen = HashSet::with_capacity(found.len());
    let clients = found.iter().flatten().copied().filter(|client| seen.insert(*client)).collect();
    let unknown = found.iter().filter(|clients| clients.is_empty()).count() as u64;
    Targets { clients, unknown }
}
