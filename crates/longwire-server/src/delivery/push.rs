//! A push from audience to receipt.

use super::audience::{Met, Targets};
use super::border::{Broadcast, Command, Outgoing};
use super::hub::{Core, MessageStory, PushError, Receipt};
use super::memory::live::OnlineOnly;
use crate::domain::audience::Estimate;
use crate::domain::message::TTL_S_MAX;
use crate::domain::{
    App, Counts, DropReason, Dropped, MessageId, MessageRecord, Position, Priority, Push, WallMs,
};
use crate::store::port::{Accept, Destination, MessageView, StoreError};
use bytes::Bytes;
use longwire_proto::wire::PushShared;
use std::sync::Arc;

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
        let met = self.meet(app.id, &push.audience).await?;
        let ttl_s = push.audience.ttl_s(push.ttl_s.min(TTL_S_MAX));
        let accepted_at = (self.clock)();
        let message = self.ids.next(accepted_at);
        let mut shared = Vec::new();
        let content = &push.content;
        let parts = PushShared {
            message,
            kind: content.kind,
            trace: push.trace,
            replaces: push.replaces,
            collapse_key: &push.collapse_key,
            payload: &content.payload,
        };
        parts.encode(&mut shared);
        let shared = Bytes::from(shared);
        if let Some(replaced) = push.replaces.filter(|_| ttl_s == 0)
            && self.store.message(app.id, replaced).await?.is_none()
        {
            return Err(StoreError::NoSuchMessage.into());
        }
        let receipt = if ttl_s == 0 {
            let kept = OnlineOnly { app: app.id, kind: content.kind, trace: push.trace, accepted_at };
            self.push_now(message, kept, shared, met).await
        } else {
            let deadline = WallMs(accepted_at.0.saturating_add(u64::from(ttl_s) * 1000));
            let (destination, unknown) = match met {
                Met::Addressed(targets) => (Destination::Mailboxes(targets.clients), targets.unknown),
                Met::Filtered(filter) => (Destination::Log(filter), 0),
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
                occurrence: None,
            };
            self.push_stored(accept, unknown, ttl_s).await?
        };
        self.stats.push_accepted(&push.audience, ttl_s > 0);
        tracing::debug!(trace = %push.trace, message = %message, durability = receipt.durability, "push accepted");
        Ok(receipt)
    }

    async fn push_stored(&self, accept: Accept, unknown: u64, ttl_s: u32) -> Result<Receipt, PushError> {
        let (app, destination) = (accept.app, accept.destination.clone());
        let (accepted, audience) = match (&destination, destination.filter()) {
            (Destination::Mailboxes(clients), _) => {
                let accepted = self.store.accept(accept).await?;
                (accepted, self.exactly(&Targets { clients: clients.clone(), unknown }))
            }
            (_, Some(filter)) => {
                let (accepted, estimate) =
                    tokio::join!(self.store.accept(accept), self.estimate(app, filter));
                (accepted?, estimate)
            }
            (_, None) => (self.store.accept(accept).await?, Estimate::default()),
        };
        let refused = accepted.refused.len() as u64;
        Ok(Receipt { message: accepted.message, audience, refused, durability: "local", ttl_s })
    }

    /// Online only: no store, no position, no ack.
    async fn push_now(&self, message: MessageId, kept: OnlineOnly, shared: Bytes, met: Met) -> Receipt {
        let app = kept.app;
        self.live.begin(message, kept);
        let outgoing = Arc::new(Outgoing { message, deadline: WallMs(0), shared });
        let audience = match met {
            Met::Addressed(targets) => {
                let exact = self.exactly(&targets);
                for client in targets.clients {
                    for to in self.sessions.of(client).iter() {
                        let deliver = Command::DeliverNow { to, message: outgoing.clone() };
                        self.posts.send(to.shard(), deliver).await;
                    }
                }
                exact
            }
            Met::Filtered(filter) => {
                let reach = self.labels.reach(app, filter.clone());
                let broadcast = Broadcast { app, reach, position: Position::START, message: outgoing };
                let broadcast = Arc::new(broadcast);
                tokio::join!(self.posts.broadcast(&broadcast), self.estimate(app, &filter)).1
            }
        };
        Receipt { message, audience, refused: 0, durability: "memory", ttl_s: 0 }
    }

    /// See [`super::hub::Hub::validate`].
    pub(super) async fn validate(&self, app: &App, push: &Push) -> Result<Estimate, PushError> {
        if self.posts.stopping() {
            return Err(PushError::Draining);
        }
        if push.audience.topic.is_some() {
            return Ok(Estimate::default());
        }
        Ok(match self.meet(app.id, &push.audience).await? {
            Met::Addressed(targets) => self.exactly(&targets),
            Met::Filtered(filter) => self.estimate(app.id, &filter).await,
        })
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
        refused: 0,
        recalled: None,
    };
    // What was sent has no end that anybody could know of, so only what was dropped is a delivery in the books.
    let counts = Counts {
        created: dropped,
        dropped: Dropped::of(DropReason::OutboxFull, dropped),
        ..Counts::default()
    };
    let view = MessageView { record: Arc::new(record), counts, spreading: None };
    MessageStory { view, sent, in_flight: 0, dropped_now: dropped, online_only: true }
}
