//! A push from audience to receipt.

use super::border::{Broadcast, Command, Outgoing};
use super::hub::{Core, MessageStory, PushError, Receipt};
use super::memory::live::OnlineOnly;
use super::once;
use super::order::Place;
use crate::domain::audience::ADDRESSES_MAX;
use crate::domain::message::{Report, TTL_S_MAX};
use crate::domain::{
    App, AppId, Audience, ClientId, Counts, DropReason, Dropped, Filter, MessageId, MessageRecord, Position,
    Priority, Push, WallMs,
};
use crate::store::port::{Accept, Destination, MessageView, StoreError};
use crate::store::sessions::{Done, Work};
use bytes::Bytes;
use longwire_proto::wire::PushShared;
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
    /// See [`super::hub::Hub::push_at`].
    pub(super) async fn push_now_or_later(
        &self,
        app: &App,
        push: Push,
        place: &mut Place,
    ) -> Result<Receipt, PushError> {
        if let Some(topic) = &push.audience.topic {
            place.come().await;
            return self.push_to_topic(app.id, topic, &push).await;
        }
        let _under_way = self.under_way.read().await;
        if self.posts.stopping() {
            return Err(PushError::Draining);
        }
        let reach = self.reach(app.id, &push.audience).await?;
        let ttl_s = push.ttl_s.min(TTL_S_MAX);
        place.come().await;
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
        let mut receipt = self.first_receipt(message, &push, &reach);
        let keyed = once::keyed(&push, &receipt, accepted_at);
        let receipt = if ttl_s == 0 {
            if let Some(keyed) = keyed {
                self.claim(app.id, message, accepted_at, keyed).await?;
            }
            let kept = OnlineOnly { app: app.id, kind: content.kind, trace: push.trace, accepted_at };
            self.push_now(message, kept, shared, reach).await;
            place.pass();
            receipt
        } else {
            let deadline = WallMs(accepted_at.0.saturating_add(u64::from(ttl_s) * 1000));
            let destination = match reach {
                Reach::Addressed(targets) => Destination::Mailboxes(targets.clients),
                Reach::Filtered(filter) => Destination::Log(filter),
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
                once: keyed,
                occurrence: None,
                report: push.report.clone(),
            };
            let queued = self.store.queue(vec![Work::Accept(accept)]).await;
            place.pass();
            for done in queued.outcomes().await {
                if let Done::Accepted(accepted) = done? {
                    receipt.refused = accepted.refused.len() as u64;
                }
            }
            receipt
        };
        self.stats.push_accepted(&push.audience, ttl_s > 0);
        tracing::debug!(trace = %push.trace, message = %message, durability = receipt.durability, "push accepted");
        Ok(receipt)
    }

    /// What is known of a receipt before the push is accepted. Who is connected is asked now, so that a key keeps what its caller was
    /// told.
    fn first_receipt(&self, message: MessageId, push: &Push, reach: &Reach) -> Receipt {
        let targets = match reach {
            Reach::Addressed(targets) => Some(targets),
            Reach::Filtered(_) => None,
        };
        let online = |targets: &Targets| {
            targets.clients.iter().filter(|client| self.sessions.is_online(**client)).count() as u64
        };
        let ttl_s = push.ttl_s.min(TTL_S_MAX);
        Receipt {
            message,
            matched: targets.map(|targets| targets.clients.len() as u64),
            unknown: targets.map_or(0, |targets| targets.unknown),
            refused: 0,
            online: targets.map(online),
            durability: if ttl_s == 0 { "memory" } else { "local" },
            ttl_s,
            trace: push.trace,
            replayed: false,
        }
    }

    /// Online only: no store, no position, no ack.
    async fn push_now(&self, message: MessageId, kept: OnlineOnly, shared: Bytes, reach: Reach) {
        let app = kept.app;
        self.live.begin(message, kept);
        let outgoing = Arc::new(Outgoing { message, deadline: WallMs(0), shared });
        match reach {
            Reach::Addressed(targets) => {
                for client in &targets.clients {
                    for to in self.sessions.of(*client).iter() {
                        let deliver = Command::DeliverNow { to, message: outgoing.clone() };
                        self.posts.send(to.shard(), deliver).await;
                    }
                }
            }
            Reach::Filtered(filter) => {
                let reach = self.labels.reach(app, filter);
                let broadcast = Broadcast { app, reach, position: Position::START, message: outgoing };
                self.posts.broadcast(&Arc::new(broadcast)).await;
            }
        }
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
        refused: 0,
        recalled: None,
        report: Report::default(),
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

/// Each device once, in the order of the addresses.
fn gather(found: &[Vec<ClientId>]) -> Targets {
    let mut seen = HashSet::with_capacity(found.len());
    let clients = found.iter().flatten().copied().filter(|client| seen.insert(*client)).collect();
    let unknown = found.iter().filter(|clients| clients.is_empty()).count() as u64;
    Targets { clients, unknown }
}
