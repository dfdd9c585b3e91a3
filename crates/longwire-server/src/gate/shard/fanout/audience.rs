//! Who gets the topic messages under way. Messages to one topic that come together have one audience: it is looked up once,
//! and a connection is found in it once for all of them.

use crate::delivery::border::topics::TopicMessage;
use crate::domain::AppId;
use crate::domain::topic::FilterId;
use roaring::RoaringBitmap;
use std::sync::Arc;

/// Audiences kept while nobody rides.
const KEPT_MAX: usize = 8;

/// Those who had subscribed to a topic when the first of its messages under way joined.
pub(super) struct Audience {
    pub(super) app: AppId,
    pub(super) topic: Box<str>,
    /// The filters that match it.
    pub(super) filters: Vec<FilterId>,
    pub(super) slots: RoaringBitmap,
    /// Of the shard's subscriptions when it was looked up: another one, and a later message has another audience.
    pub(super) revision: u64,
    riders: u32,
    /// Its riders, by their place.
    pub(super) mask: u64,
    /// Some of them have a QoS above 0.
    pub(super) acked: bool,
    /// Some of them are not the same packet for all: they expire, or say that they are retained.
    pub(super) differing: bool,
}

/// The audiences of all topic messages under way; a place without riders is kept for the next message to its topic.
#[derive(Default)]
pub(super) struct Audiences(Vec<Audience>);

impl Audience {
    pub(super) fn new(
        message: &TopicMessage,
        filters: Vec<FilterId>,
        slots: RoaringBitmap,
        revision: u64,
    ) -> Audience {
        let (app, topic) = (message.app, message.shared.topic().into());
        Audience { app, topic, filters, slots, revision, riders: 0, mask: 0, acked: false, differing: false }
    }

    fn is_of(&self, app: AppId, topic: &str) -> bool {
        self.app == app && *self.topic == *topic
    }
}

impl Audiences {
    pub(super) fn get(&self, at: usize) -> Option<&Audience> {
        self.0.get(at)
    }

    /// Those with riders.
    pub(super) fn riding(&self) -> impl Iterator<Item = &Audience> {
        self.0.iter().filter(|audience| audience.riders > 0)
    }

    /// Whether a message to this topic rides.
    pub(super) fn carries(&self, app: AppId, topic: &str) -> bool {
        self.riding().any(|audience| audience.is_of(app, topic))
    }

    /// The audience of a topic, if the subscriptions have not changed since it was looked up.
    pub(super) fn find(&self, app: AppId, topic: &str, revision: u64) -> Option<usize> {
        self.0.iter().position(|audience| audience.revision == revision && audience.is_of(app, topic))
    }

    /// Keeps an audience, in the place of one that nobody rides for.
    pub(super) fn keep(&mut self, audience: Audience) -> usize {
        let free = self.0.iter().position(|audience| audience.riders == 0);
        match free.filter(|_| self.0.len() >= KEPT_MAX) {
            Some(at) => {
                self.0[at] = audience;
                at
            }
            None => {
                self.0.push(audience);
                self.0.len() - 1
            }
        }
    }

    /// One more rider. True: it is the first of its audience.
    pub(super) fn board(&mut self, at: usize) -> bool {
        let Some(audience) = self.0.get_mut(at) else { return false };
        audience.riders += 1;
        audience.riders == 1
    }

    /// Nobody rides: of the audiences that burst had, a few are kept.
    pub(super) fn rest(&mut self) {
        self.0.truncate(KEPT_MAX);
    }

    pub(super) fn leave(&mut self, at: usize) {
        if let Some(audience) = self.0.get_mut(at) {
            audience.riders = audience.riders.saturating_sub(1);
        }
    }

    /// Notes which riders are where.
    pub(super) fn seat<'a>(&mut self, riders: impl Iterator<Item = (usize, usize, &'a Arc<TopicMessage>)>) {
        for audience in &mut self.0 {
            (audience.mask, audience.acked, audience.differing) = (0, false, false);
        }
        for (place, at, message) in riders {
            let Some(audience) = self.0.get_mut(at) else { continue };
            audience.mask |= 1 << place;
            audience.acked |= message.qos > 0;
            audience.differing |= message.retain || message.deadline.0 != 0;
        }
    }

    /// Nobody gets what the owner of a slot or filter before it was meant to get.
    pub(super) fn forget(&mut self, slots: &[u32], filters: &[(AppId, FilterId)]) {
        for audience in &mut self.0 {
            for slot in slots {
                audience.slots.remove(*slot);
            }
            audience.filters.retain(|filter| !filters.contains(&(audience.app, *filter)));
        }
    }
}
