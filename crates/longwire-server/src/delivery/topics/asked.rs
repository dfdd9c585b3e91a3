//! What others ask of topics: the API, logins, telemetry.

use super::publish::Sent;
use super::session::{SessionStart, SessionWish};
use super::{TopicCensus, TopicStats};
use crate::delivery::border::topics::{PublishOutcome, TopicMessage};
use crate::delivery::hub::{Core, Hub, PushError, Receipt};
use crate::delivery::once;
use crate::domain::audience::Estimate;
use crate::domain::message::TTL_S_MAX;
use crate::domain::topic::TopicName;
use crate::domain::{AppId, ClientId, Kind, MessageId, Push, TraceId, WallMs};
use crate::store::port::{Keyed, StoreError};
use crate::store::sessions::{Change, Work};
use bytes::Bytes;
use longwire_proto::wire::mqtt::{PropertiesBuf, Property, SharedPublish};
use std::sync::Arc;

/// A message that the business publishes.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Its app.
    pub app: AppId,
    /// Where.
    pub topic: TopicName,
    /// What; empty with `retain` clears what is retained.
    pub payload: Bytes,
    /// 0 to 2; 0 reaches only who is connected.
    pub qos: u8,
    /// Kept for later subscribers.
    pub retain: bool,
    /// Seconds that it lives; `None`: 72 h for kept sessions, for ever as retained.
    pub ttl_s: Option<u32>,
    /// The payload is UTF-8 text (MQTT-3.3.2-4).
    pub is_text: bool,
    /// MQTT's content type.
    pub content_type: Option<String>,
    /// MQTT's user properties.
    pub user_properties: Vec<(String, String)>,
    /// The trace it belongs to.
    pub trace: TraceId,
}

impl Publication {
    fn message(&self, now: WallMs) -> Option<TopicMessage> {
        let mut properties = PropertiesBuf::default();
        if self.is_text {
            properties.push(Property::PayloadIsUtf8(true));
        }
        if let Some(content_type) = &self.content_type {
            properties.push(Property::ContentType(content_type));
        }
        for (name, value) in &self.user_properties {
            properties.push(Property::UserProperty((name, value)));
        }
        let topic = self.topic.as_str();
        let shared = SharedPublish::encode(topic, &properties.as_properties(), &self.payload).ok()?;
        let lives_ms = |seconds: u32| WallMs(now.0.saturating_add(u64::from(seconds) * 1000));
        let deadline = self.ttl_s.map_or(WallMs(0), lives_ms);
        let flags = (self.qos.min(2), self.retain);
        Some(TopicMessage::new(self.app, ClientId(0), shared.map(Bytes::from), flags, deadline))
    }
}

impl Hub {
    /// What is counted of topics.
    #[must_use]
    pub fn topic_stats(&self) -> &TopicStats {
        &self.core.topics.stats
    }

    /// What topics hold now.
    #[must_use]
    pub fn topic_census(&self) -> TopicCensus {
        self.core.topics.census()
    }

    /// Begins the session of an MQTT client whose login is accepted, see [`SessionWish`].
    ///
    /// # Errors
    /// The store's: refuse the login.
    pub async fn begin_session(&self, wish: SessionWish) -> Result<SessionStart, StoreError> {
        let starts = self.core.begin_sessions(vec![wish]).await;
        starts.into_iter().next().unwrap_or_else(|| Ok(SessionStart::default()))
    }

    /// Publishes to a topic, as the business. Returns when it is durable for those kept sessions that want it.
    ///
    /// # Errors
    /// Draining, a quota, or the store's.
    pub async fn publish(&self, publication: &Publication) -> Result<Sent, PushError> {
        self.core.publish_for_business(publication, None).await
    }

    /// The retained messages of an app that a valid filter means, after a topic, by topic, at most `max`.
    #[must_use]
    pub fn retained(
        &self,
        app: AppId,
        filter: &str,
        after: Option<&str>,
        max: usize,
    ) -> Vec<Arc<TopicMessage>> {
        self.core.topics.retained.lock().page(app, filter, after, max, (self.core.clock)())
    }

    /// Forgets the retained message of a topic, durably. False: there was none.
    ///
    /// # Errors
    /// The store's.
    pub async fn clear_retained(&self, app: AppId, topic: &str) -> Result<bool, StoreError> {
        let order = self.core.topics.order.lock().await;
        if !self.core.topics.retained.lock().clear(app, topic) {
            return Ok(false);
        }
        let queued = self.core.store.queue(vec![Work::Change(Change::Clear(app, topic.into()))]).await;
        drop(order);
        for done in queued.outcomes().await {
            done?;
        }
        Ok(true)
    }
}

impl Core {
    /// See [`Hub::publish`].
    pub(in crate::delivery) async fn publish_for_business(
        &self,
        publication: &Publication,
        once: Option<(Keyed, MessageId)>,
    ) -> Result<Sent, PushError> {
        let _under_way = self.under_way.read().await;
        if self.posts.stopping() {
            return Err(PushError::Draining);
        }
        let message = publication.message((self.clock)()).ok_or(PushError::TopicQuota)?;
        let sent = self.publish(&Arc::new(message), publication.trace, once).await;
        match sent.outcome {
            PublishOutcome::Taken | PublishOutcome::Nobody => Ok(sent),
            PublishOutcome::Quota | PublishOutcome::NotAllowed => Err(match sent.over_quota {
                Some((used, most)) => StoreError::AppQuota { used, most }.into(),
                None => PushError::TopicQuota,
            }),
            PublishOutcome::Unavailable => {
                let cause = "a publish was not stored, or only in part".to_owned();
                Err(self.store.usable().err().unwrap_or(StoreError::Unknown(cause)).into())
            }
        }
    }

    /// A push to a topic: to who is connected if its ttl is 0, else also to kept sessions.
    pub(in crate::delivery) async fn push_to_topic(
        &self,
        app: AppId,
        topic: &TopicName,
        push: &Push,
    ) -> Result<Receipt, PushError> {
        let ttl_s = push.ttl_s.min(TTL_S_MAX);
        let publication = Publication {
            app,
            topic: topic.clone(),
            payload: push.content.payload.clone(),
            qos: u8::from(ttl_s > 0),
            retain: false,
            ttl_s: (ttl_s > 0).then_some(ttl_s),
            is_text: push.content.kind != Kind::Custom,
            content_type: None,
            user_properties: Vec::new(),
            trace: push.trace,
        };
        let now = (self.clock)();
        let receipt = Receipt {
            message: self.ids.next(now),
            audience: Estimate::default(),
            refused: 0,
            durability: if ttl_s > 0 { "local" } else { "memory" },
            ttl_s,
            trace: push.trace,
            replayed: false,
        };
        let once = once::keyed(push, &receipt, now).map(|keyed| (keyed, receipt.message));
        let sent = self.publish_for_business(&publication, once).await?;
        self.stats.push_accepted(&push.audience, ttl_s > 0);
        Ok(Receipt { message: sent.message, refused: sent.refused, ..receipt })
    }
}
