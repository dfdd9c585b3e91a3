//! Topics: what a device subscribes to and publishes.

use std::time::Duration;

use bytes::Bytes;
use longwire_proto::limit::{PUBLISH_BYTES_MAX, TOPIC_BYTES_MAX, TOPIC_FILTER_BYTES_MAX};
use longwire_proto::wire::mqtt::Limits;
use longwire_proto::wire::mqtt::RetainHandling;
use longwire_proto::wire::mqtt::topic::{self, Filter};
use longwire_proto::wire::{Publish, TopicBody};

use crate::upstream::{OVERHEAD_BYTES, SendError};

/// A wish to get what is published; give it to [`Device::subscribe`](crate::Device::subscribe).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Subscription {
    pub(crate) filter: String,
    pub(crate) kept: bool,
    pub(crate) no_local: bool,
    pub(crate) retained: bool,
}

impl Subscription {
    /// To the topics that a filter matches (`site/+/temperature`, `site/#`, `$share/{group}/site/#`), with what is retained for
    /// them, while the device is connected.
    #[must_use]
    pub fn new(filter: impl Into<String>) -> Subscription {
        Subscription { filter: filter.into(), kept: false, no_local: false, retained: true }
    }

    /// Also while the device is away: what is published with QoS 1 or 2 waits in its mailbox, and is to be acked. Not for a
    /// shared group.
    #[must_use]
    pub fn kept(mut self) -> Subscription {
        self.kept = true;
        self
    }

    /// Not what this device publishes itself. Not for a shared group.
    #[must_use]
    pub fn without_own(mut self) -> Subscription {
        self.no_local = true;
        self
    }

    /// Without what is retained already.
    #[must_use]
    pub fn without_retained(mut self) -> Subscription {
        self.retained = false;
        self
    }

    /// The filter.
    #[must_use]
    pub fn filter(&self) -> &str {
        &self.filter
    }

    pub(crate) fn check(&self) -> Result<(), TopicError> {
        check_filter(&self.filter)
    }

    /// How retained messages are asked for: what is kept was asked for by an earlier connection, if it is not new.
    pub(crate) fn retain_handling(&self) -> RetainHandling {
        match (self.retained, self.kept) {
            (false, _) => RetainHandling::DoNotSend,
            (true, true) => RetainHandling::SendIfNew,
            (true, false) => RetainHandling::Send,
        }
    }
}

pub(crate) fn check_filter(filter: &str) -> Result<(), TopicError> {
    let fits = filter.len() <= TOPIC_FILTER_BYTES_MAX;
    if fits && Filter::parse(filter.as_bytes(), &Limits::default()).is_ok() {
        Ok(())
    } else {
        Err(TopicError::Filter)
    }
}

/// A message for a topic; give it to [`Device::publish`](crate::Device::publish).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Publication {
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
    pub(crate) retain: bool,
    pub(crate) ttl_s: u32,
}

impl Publication {
    /// To a topic, at most [`PUBLISH_BYTES_MAX`] bytes.
    #[must_use]
    pub fn new(topic: impl Into<String>, payload: impl Into<Bytes>) -> Publication {
        Publication { topic: topic.into(), payload: payload.into(), retain: false, ttl_s: 0 }
    }

    /// Kept for later subscribers; without payload it takes away what was kept.
    #[must_use]
    pub fn retained(mut self) -> Publication {
        self.retain = true;
        self
    }

    /// It is worth nothing after this time, in whole seconds, at least one.
    #[must_use]
    pub fn expires_after(mut self, time: Duration) -> Publication {
        self.ttl_s = u32::try_from(time.as_secs()).unwrap_or(u32::MAX).max(1);
        self
    }

    pub(crate) fn frame(&self, client_message: u64, at_least_once: bool) -> Publish<'_> {
        Publish {
            client_message,
            at_least_once,
            retain: self.retain,
            ttl_s: self.ttl_s,
            topic: &self.topic,
            payload: &self.payload,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        OVERHEAD_BYTES + self.topic.len() + self.payload.len()
    }

    /// A message that no node takes must not get into the outbox.
    pub(crate) fn check(&self) -> Result<(), SendError> {
        let is_name = self.topic.len() <= TOPIC_BYTES_MAX
            && !self.topic.starts_with('$')
            && topic::name(self.topic.as_bytes(), &Limits::default()).is_ok();
        if !is_name {
            return Err(SendError::Topic);
        }
        if self.payload.len() > PUBLISH_BYTES_MAX {
            return Err(SendError::Payload { bytes: self.payload.len() });
        }
        Ok(())
    }
}

/// What came from a topic: the content of a [`Message`](crate::Message) of kind [`Topic`](crate::Kind::Topic).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Published {
    /// The topic that it was published to.
    pub topic: String,
    /// The content.
    pub content: Bytes,
    /// The publisher asked to keep it for later subscribers.
    pub retain: bool,
    /// It was there before this device subscribed.
    pub is_older: bool,
}

impl Published {
    pub(crate) fn decode(payload: &Bytes, is_older: bool) -> Option<Published> {
        let body = TopicBody::decode(payload)?;
        let content = payload.slice_ref(body.content);
        Some(Published { topic: body.topic.to_owned(), content, retain: body.retain, is_older })
    }
}

/// Why a subscription was not asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TopicError {
    /// Not a topic filter, or beyond a limit.
    #[error(
        "a topic filter has at most {TOPIC_FILTER_BYTES_MAX} bytes, 16 levels of 64 bytes, and its wildcards stand alone"
    )]
    Filter,
    /// The device has ended.
    #[error("the device has ended")]
    Ended,
}
