//! A push from audience to receipt.

use super::audience::Met;
use super::border::{Broadcast, Command, Outgoing};
use super::hub::{Core, PushError, Receipt};
use super::memory::live::OnlineOnly;
use super::once;
use super::order::Place;
use crate::domain::audience::Estimate;
use crate::domain::message::TTL_S_MAX;
use crate::domain::{App, AppId, MessageId, Position, Priority, Push, WallMs};
use crate::planted::{Fault as Planted, planted};
use crate::store::pace::ScheduleChange;
use crate::store::port::{Accept, Destination, StoreError};
use crate::store::sessions::{Done, Work};
use bytes::Bytes;
use longwire_proto::wire::PushShared;
use std::sync::Arc;

/// What a schedule fires.
pub(super) struct Firing {
    /// The id that the message gets.
    pub(super) message: MessageId,
    /// The step of the schedule, to be stored with the message.
    pub(super) step: Option<Box<ScheduleChange>>,
}

impl Core {
    /// See [`super::hub::Hub::push_at`].
    pub(super) async fn push_now_or_later(
        &self,
        app: &App,
        push: Push,
        place: &mut Place,
    ) -> Result<Receipt, PushError> {
        self.push_as(app, push, place, None).await
    }

    /// The same, fired by a schedule.
    pub(super) async fn push_as(
        &self,
        app: &App,
        push: Push,
        place: &mut Place,
        firing: Option<Firing>,
    ) -> Result<Receipt, PushError> {
        if let Some(topic) = &push.audience.topic {
            place.come().await;
            return self.push_to_topic(app.id, topic, &push).await;
        }
        let _under_way = self.under_way.read().await;
        if self.posts.stopping() {
            return Err(PushError::Draining);
        }
        let met = self.meet(app.id, &push.audience).await?;
        let ttl_s = push.audience.ttl_s(push.ttl_s.min(TTL_S_MAX));
        let told = self.told_before(app.id, &push, &met, firing.is_some()).await;
        place.come().await;
        let accepted_at = (self.clock)();
        let first = || Firing { message: self.ids.next(accepted_at), step: None };
        let Firing { message, step } = firing.unwrap_or_else(first);
        let (content, shared) = (&push.content, shared_of(message, &push));
        self.check_replaced(app.id, &push, ttl_s).await?;
        let mut receipt = receipt_of(message, &push, told.unwrap_or_default(), ttl_s);
        let keyed = once::keyed(&push, &receipt, accepted_at);
        let early_ms = if planted(Planted::ExpiresEarly) && ttl_s > 1 { 1_500 } else { 0 };
        let sending = async {
            if ttl_s == 0 {
                if let Some(keyed) = keyed {
                    self.claim(app.id, message, accepted_at, keyed).await?;
                }
                let kept = OnlineOnly { app: app.id, kind: content.kind, trace: push.trace, accepted_at };
                let (high, deadline) = (push.priority == Priority::High, WallMs(0));
                let outgoing = Arc::new(Outgoing { message, deadline, shared, high });
                self.push_now(&outgoing, kept, &met).await;
                place.pass();
                return Ok(0);
            }
            let deadline = WallMs(accepted_at.0.saturating_add(u64::from(ttl_s) * 1000 - early_ms));
            let destination = self.destination(app.id, message, &push, &met, deadline).await?;
            let at = (accepted_at, deadline);
            let accept = Accept {
                once: keyed,
                occurrence: step,
                ..accept_of(app.id, message, &push, at, shared, destination)
            };
            self.store_one(accept, place).await
        };
        let estimating = self.told_or_estimated(told, app.id, &met);
        let (refused, audience) = tokio::join!(sending, estimating);
        (receipt.refused, receipt.audience) = (refused?, audience);
        self.stats.push_accepted(&push.audience, ttl_s > 0);
        tracing::debug!(trace = %push.trace, message = %message, durability = receipt.durability, "push accepted");
        Ok(receipt)
    }

    /// A key keeps what its caller was told, so whom it meets is asked before; for others, while it is stored. Of a firing nobody is
    /// told.
    async fn told_before(&self, app: AppId, push: &Push, met: &Met, fired: bool) -> Option<Estimate> {
        match push.once {
            Some(_) => Some(self.estimate_of(app, met).await),
            None => fired.then(Estimate::default),
        }
    }

    /// What an online-only message replaces must be there; of a stored one the store says so.
    async fn check_replaced(&self, app: AppId, push: &Push, ttl_s: u32) -> Result<(), PushError> {
        match push.replaces.filter(|_| ttl_s == 0) {
            Some(replaced) if self.store.message(app, replaced).await?.is_none() => {
                Err(StoreError::NoSuchMessage.into())
            }
            _ => Ok(()),
        }
    }

    /// Where a stored message goes.
    async fn destination(
        &self,
        app: AppId,
        message: MessageId,
        push: &Push,
        met: &Met,
        deadline: WallMs,
    ) -> Result<Destination, PushError> {
        match (push.spread, met) {
            (Some(spread), Met::Filtered(filter)) => {
                self.begin_spreading(message, app, filter, deadline, spread).await
            }
            _ => Ok(met.destination()),
        }
    }

    /// Stores a message; how many of its targets were refused.
    async fn store_one(&self, accept: Accept, place: &mut Place) -> Result<u64, PushError> {
        let spreading = match &accept.destination {
            Destination::Spread(spreading) => Some(spreading.clone()),
            _ => None,
        };
        let queued = self.store.queue(vec![Work::Accept(accept)]).await;
        place.pass();
        let mut refused = 0;
        for done in queued.outcomes().await {
            if let (Some(spreading), Ok(_) | Err(StoreError::Unknown(_))) = (&spreading, &done) {
                self.paced.spreads.begin((**spreading).clone());
            }
            if let Done::Accepted(accepted) = done? {
                refused = accepted.refused.len() as u64;
            }
        }
        Ok(refused)
    }

    /// Online only: no store, no position, no ack.
    async fn push_now(&self, outgoing: &Arc<Outgoing>, kept: OnlineOnly, met: &Met) {
        let app = kept.app;
        self.live.begin(outgoing.message, kept);
        match met {
            Met::Addressed(targets) => {
                for client in &targets.clients {
                    for to in self.sessions.of(*client).iter() {
                        let deliver = Command::DeliverNow { to, message: outgoing.clone() };
                        self.posts.send(to.shard(), deliver).await;
                    }
                }
            }
            Met::Filtered(filter) => {
                let reach = self.labels.reach(app, filter.clone());
                let (position, message) = (Position::START, outgoing.clone());
                let broadcast = Broadcast { app, reach, position, message };
                self.posts.broadcast(&Arc::new(broadcast)).await;
            }
        }
    }

    async fn told_or_estimated(&self, told: Option<Estimate>, app: AppId, met: &Met) -> Estimate {
        match told {
            Some(told) => told,
            None => self.estimate_of(app, met).await,
        }
    }

    async fn estimate_of(&self, app: AppId, met: &Met) -> Estimate {
        match met {
            Met::Addressed(targets) => self.exactly(targets),
            Met::Filtered(filter) => self.estimate(app, filter).await,
        }
    }

    /// See [`super::hub::Hub::validate`].
    pub(super) async fn validate(&self, app: &App, push: &Push) -> Result<Estimate, PushError> {
        if self.posts.stopping() {
            return Err(PushError::Draining);
        }
        if let Some(replaced) = push.replaces
            && self.store.message(app.id, replaced).await?.is_none()
        {
            return Err(StoreError::NoSuchMessage.into());
        }
        if push.audience.topic.is_some() {
            return Ok(Estimate::default());
        }
        let met = self.meet(app.id, &push.audience).await?;
        Ok(self.estimate_of(app.id, &met).await)
    }
}

/// What a push came to, as far as it is known before it is stored.
fn receipt_of(message: MessageId, push: &Push, audience: Estimate, ttl_s: u32) -> Receipt {
    Receipt {
        message,
        audience,
        refused: 0,
        durability: if ttl_s == 0 { "memory" } else { "local" },
        ttl_s,
        trace: push.trace,
        replayed: false,
    }
}

/// A push as it is made durable, from when until when it lives.
fn accept_of(
    app: AppId,
    message: MessageId,
    push: &Push,
    (accepted_at, deadline): (WallMs, WallMs),
    shared: Bytes,
    destination: Destination,
) -> Accept {
    Accept {
        message,
        app,
        kind: push.content.kind,
        trace: push.trace,
        accepted_at,
        deadline,
        shared,
        destination,
        received: None,
        priority: push.priority,
        collapse_key: push.collapse_key.as_str().into(),
        replaces: push.replaces,
        once: None,
        occurrence: None,
        report: push.report.clone(),
    }
}

/// The shared part of a message's PUSH.
fn shared_of(message: MessageId, push: &Push) -> Bytes {
    let mut shared = Vec::new();
    let parts = PushShared {
        message,
        kind: push.content.kind,
        trace: push.trace,
        replaces: push.replaces,
        collapse_key: &push.collapse_key,
        payload: &push.content.payload,
    };
    parts.encode(&mut shared);
    Bytes::from(shared)
}
