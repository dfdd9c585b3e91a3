//! What others ask of topics: the API, logins, telemetry.

use super::publish::Sent;
use super::session::{SessionStart, SessionWish};
use super::{TopicCensus, TopicStats};
use crate::delivery::border::topics::TopicMessage;
use crate::delivery::hub::{Hub, PushError};
use crate::domain::{AppId, TraceId};
use crate::store::port::StoreError;
use crate::store::sessions::{Change, Work};
use std::sync::Arc;

/// A message that the business publishes.
#[derive(Clone, Debug)]
pub struct ApiPublish {
    /// What is published; its publisher is `ClientId(0)`.
    pub message: Arc<TopicMessage>,
    /// The trace it belongs to.
    pub trace: TraceId,
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
        self.core.begin_session(wish).await
    }

    /// Publishes to a topic, as the business. Returns when it is durable for those kept sessions that want it.
    ///
    /// # Errors
    /// Draining.
    pub async fn publish(&self, publish: ApiPublish) -> Result<Sent, PushError> {
        let _under_way = self.core.under_way.read().await;
        if self.core.posts.stopping() {
            return Err(PushError::Draining);
        }
        Ok(self.core.publish(&publish.message, publish.trace).await)
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
