//! What a session has to do with topics, whatever it speaks: its rights, its subscriptions, what waits for it.

use crate::delivery::border::topics::TopicMessage;
use crate::domain::topic::{Act, FilterId, Rules};
use crate::gate::topics::Wish;
use longwire_proto::wire::mqtt::{QoS, Reason};
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Subscriptions of one session, shared groups included; one more is refused with 0x97.
pub(in crate::gate) const SUBSCRIPTIONS_MAX: usize = 100;

/// A subscription of this session in the shard's table.
#[derive(Clone, Copy, Debug)]
pub(in crate::gate) struct Subscription {
    pub(in crate::gate) filter: FilterId,
    pub(in crate::gate) wish: Wish,
    /// The subscription identifier; 0 = none.
    pub(in crate::gate) identifier: u32,
}

/// The topics of a session. Idle with one subscription, it owns its names and that subscription beyond this record.
#[derive(Debug)]
pub(in crate::gate) struct Topical {
    /// Exactly as long as needed: a session subscribes seldom and then stays.
    subscriptions: Box<[Subscription]>,
    rules: Arc<Rules>,
    /// The device's name, for `%c` in rules, U+0000, and the user name, for `%u`. Neither holds U+0000.
    names: Box<str>,
    pub(in crate::gate) burden: Option<Box<Burden>>,
}

/// What most sessions do not have.
#[derive(Debug, Default)]
pub(in crate::gate) struct Burden {
    /// Filters of shared groups, `$share/{group}/` included.
    pub(in crate::gate) shared: Vec<Box<str>>,
    /// SUBSCRIBE and UNSUBSCRIBE that wait for the hub.
    pub(in crate::gate) unanswered: Vec<Unanswered>,
    /// Messages of QoS 1 and 2 that wait for room in the window or the outbox.
    pub(in crate::gate) queue: Queue,
}

/// Messages that one session's queue holds.
const QUEUED_MAX: usize = 1000;
/// Bytes that it holds; one message always fits.
const QUEUED_BYTES_MAX: usize = 1024 * 1024;

/// Messages that no store holds and that wait. Beyond its bounds what comes is dropped and counted.
#[derive(Debug, Default)]
pub(in crate::gate) struct Queue {
    waiting: VecDeque<Queued>,
    bytes: usize,
}

/// A message for one session, and how it gets it.
#[derive(Clone, Debug)]
pub(in crate::gate) struct Queued {
    pub(in crate::gate) message: Arc<TopicMessage>,
    pub(in crate::gate) qos: QoS,
    pub(in crate::gate) retain: bool,
    /// Subscription identifiers.
    pub(in crate::gate) identifiers: Box<[u32]>,
    /// Its end is told under this number; 0 = to nobody.
    pub(in crate::gate) number: u64,
}

impl Queue {
    /// Puts a message behind the others. False: there is no room.
    pub(in crate::gate) fn push(&mut self, queued: Queued) -> bool {
        let bytes = queued.message.shared.held_bytes();
        let full = self.waiting.len() >= QUEUED_MAX || self.bytes + bytes > QUEUED_BYTES_MAX;
        if full && !self.waiting.is_empty() {
            return false;
        }
        self.bytes += bytes;
        self.waiting.push_back(queued);
        true
    }

    pub(in crate::gate) fn first(&self) -> Option<&Queued> {
        self.waiting.front()
    }

    pub(in crate::gate) fn pop(&mut self) -> Option<Queued> {
        let queued = self.waiting.pop_front()?;
        self.bytes -= queued.message.shared.held_bytes();
        Some(queued)
    }

    pub(in crate::gate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Numbers of what waits.
    pub(in crate::gate) fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.waiting.iter().map(|queued| queued.number)
    }
}

/// A SUBSCRIBE or UNSUBSCRIBE that waits for the hub.
#[derive(Debug)]
pub(in crate::gate) struct Unanswered {
    pub(in crate::gate) packet_id: u16,
    pub(in crate::gate) subscribed: bool,
    /// What is known already, in the order of the filters.
    pub(in crate::gate) reasons: Vec<Reason>,
    /// Of these, the ones that the hub decides, in the order of its answer, and their filters.
    pub(in crate::gate) asked: Vec<(u16, Box<str>)>,
    /// Topics on which the session was meanwhile given a message that is retained.
    pub(in crate::gate) passed: Passed,
}

/// Topics that one waiting SUBSCRIBE remembers; of further ones the session may get an older message after a newer one.
const PASSED_MAX: usize = 100;

/// Topics, as hashes.
#[derive(Debug, Default)]
pub(in crate::gate) struct Passed(Vec<u64>);

impl Passed {
    fn note(&mut self, topic: &str) {
        let hash = hash_of(topic);
        if self.0.len() < PASSED_MAX && !self.0.contains(&hash) {
            self.0.push(hash);
        }
    }

    pub(in crate::gate) fn has(&self, topic: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&hash_of(topic))
    }
}

/// Whoever finds two topics with one hash withholds a retained message from himself.
fn hash_of(topic: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    topic.hash(&mut hasher);
    hasher.finish()
}

impl Burden {
    /// A message that is retained passes.
    pub(in crate::gate) fn passes(&mut self, topic: &str) {
        for unanswered in self.unanswered.iter_mut().filter(|unanswered| unanswered.subscribed) {
            unanswered.passed.note(topic);
        }
    }
}

/// Who a session is, for its rules.
pub(in crate::gate) struct Identity<'a> {
    pub(in crate::gate) rules: Arc<Rules>,
    pub(in crate::gate) name: &'a str,
    pub(in crate::gate) user: &'a str,
}

impl Topical {
    pub(in crate::gate) fn new(identity: Identity<'_>) -> Topical {
        Topical {
            subscriptions: Box::default(),
            rules: identity.rules,
            names: format!("{}\0{}", identity.name, identity.user).into(),
            burden: None,
        }
    }

    /// Whether the device may do `act` with a topic or filter.
    pub(in crate::gate) fn may(&self, act: Act, topic: &str) -> bool {
        let (name, user) = self.names.split_once('\0').unwrap_or((&self.names, ""));
        self.rules.allow(act, topic, name, user)
    }

    pub(in crate::gate) fn subscriptions(&self) -> &[Subscription] {
        &self.subscriptions
    }

    pub(in crate::gate) fn subscription(&self, filter: FilterId) -> Option<&Subscription> {
        self.subscriptions.iter().find(|subscription| subscription.filter == filter)
    }

    /// Whether one more subscription is allowed.
    pub(in crate::gate) fn has_room(&self) -> bool {
        let shared = self.burden.as_ref().map_or(0, |burden| burden.shared.len());
        self.subscriptions.len() + shared < SUBSCRIPTIONS_MAX
    }

    /// Notes a subscription, or its new wish.
    pub(in crate::gate) fn note(&mut self, subscription: Subscription) {
        let known = self.subscriptions.iter_mut().find(|known| known.filter == subscription.filter);
        if let Some(known) = known {
            *known = subscription;
            return;
        }
        let mut grown = Vec::with_capacity(self.subscriptions.len() + 1);
        grown.extend_from_slice(&self.subscriptions);
        grown.push(subscription);
        self.subscriptions = grown.into();
    }

    /// Forgets a subscription.
    pub(in crate::gate) fn forget(&mut self, filter: FilterId) {
        self.subscriptions =
            self.subscriptions.iter().filter(|known| known.filter != filter).copied().collect();
    }

    /// Whether messages wait for room.
    pub(in crate::gate) fn has_queued(&self) -> bool {
        self.burden.as_ref().is_some_and(|burden| !burden.queue.is_empty())
    }

    /// Forgets what an idle session does not have.
    pub(in crate::gate) fn unburden(&mut self) {
        if let Some(burden) = &self.burden
            && burden.shared.is_empty()
            && burden.unanswered.is_empty()
            && burden.queue.is_empty()
        {
            self.burden = None;
        }
    }

    /// Notes a shared group. False: it is known.
    pub(in crate::gate) fn note_shared(&mut self, filter: &str) -> bool {
        let shared = &mut self.burden.get_or_insert_with(Box::default).shared;
        let is_new = !shared.iter().any(|known| **known == *filter);
        if is_new {
            shared.push(filter.into());
        }
        is_new
    }

    pub(in crate::gate) fn knows_shared(&self, filter: &str) -> bool {
        self.burden.iter().flat_map(|burden| &burden.shared).any(|known| **known == *filter)
    }

    /// Forgets a shared group.
    pub(in crate::gate) fn forget_shared(&mut self, filter: &str) {
        if let Some(burden) = &mut self.burden {
            burden.shared.retain(|known| **known != *filter);
        }
    }
}
