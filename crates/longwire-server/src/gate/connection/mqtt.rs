//! What a connection that speaks MQTT holds.

use crate::delivery::border::topics::{TopicMessage, Will, WillToKeep};
use crate::domain::AppId;
use crate::domain::ClientId;
use crate::domain::WallMs;
use crate::domain::topic::{Act, FilterId, Rules};
use crate::gate::topics::Wish;
use bytes::Bytes;
use longwire_proto::session::mqtt::{Deciding, PacketAssembler, Session};
use longwire_proto::wire::TopicBody;
use longwire_proto::wire::mqtt::{QoS, Reason, SharedPublish};
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// Subscriptions of one session, shared groups included; one more is refused with 0x97.
pub(in crate::gate) const SUBSCRIPTIONS_MAX: usize = 100;

/// CONNECT was read; the login is being decided.
#[derive(Debug)]
pub(in crate::gate) struct MqttDeciding {
    pub(in crate::gate) deciding: Deciding,
    pub(in crate::gate) will: Option<Box<LastWill>>,
    /// Seconds that the session is to outlive its connection, as asked.
    pub(in crate::gate) expiry_s: u32,
}

/// A will as CONNECT brought it.
#[derive(Debug)]
pub(in crate::gate) struct LastWill {
    pub(in crate::gate) shared: SharedPublish<Bytes>,
    pub(in crate::gate) qos: u8,
    pub(in crate::gate) retain: bool,
    /// Seconds from its publication.
    pub(in crate::gate) expiry_s: Option<u32>,
    /// Seconds from the end of the connection to its publication.
    pub(in crate::gate) delay_s: u32,
}

impl LastWill {
    /// As it is stored with a session that outlives its connection.
    pub(in crate::gate) fn to_keep(&self) -> Option<WillToKeep> {
        let mut body = Vec::new();
        let whole = TopicBody {
            for_member: false,
            expires: self.expiry_s.is_some(),
            topic: self.shared.topic(),
            qos: self.qos,
            retain: self.retain,
            properties: self.shared.properties(),
            content: self.shared.payload(),
        };
        whole.encode(&mut body)?;
        Some(WillToKeep { body: body.into(), delay_s: self.delay_s, expiry_s: self.expiry_s })
    }

    /// The will of a connection that ends now.
    pub(in crate::gate) fn due(self, app: AppId, client: ClientId, now: WallMs) -> Will {
        let deadline = self.expiry_s.map_or(WallMs(0), |expiry_s| {
            WallMs(now.0 + (u64::from(self.delay_s) + u64::from(expiry_s)) * 1000)
        });
        let message = TopicMessage::new(app, client, self.shared, (self.qos, self.retain), deadline);
        Will { message: Arc::new(message), delay_s: self.delay_s }
    }
}

/// A subscription of this session in the shard's table.
#[derive(Clone, Copy, Debug)]
pub(in crate::gate) struct Subscription {
    pub(in crate::gate) filter: FilterId,
    pub(in crate::gate) wish: Wish,
    /// The subscription identifier; 0 = none.
    pub(in crate::gate) identifier: u32,
}

/// A session. Idle with one subscription, it owns its two names and that subscription beyond this record.
#[derive(Debug)]
pub(in crate::gate) struct MqttLive {
    pub(in crate::gate) assembler: PacketAssembler,
    pub(in crate::gate) session: Session,
    /// Exactly as long as needed: a session subscribes seldom and then stays.
    subscriptions: Box<[Subscription]>,
    pub(in crate::gate) rules: Arc<Rules>,
    /// The device's name, for `%c` in rules, and behind it the user name, for `%u`.
    names: Box<str>,
    pub(in crate::gate) will: Option<Box<LastWill>>,
    pub(in crate::gate) burden: Option<Box<Burden>>,
    /// Seconds that the session outlives its connection.
    pub(in crate::gate) expiry_s: u32,
    name_bytes: u16,
    /// What the app's devices beat by, seconds; for clients without keep alive.
    otherwise_s: u16,
}

// What every idle MQTT connection costs beside the record of its slot (docs/mqtt-core.md).
const _: () = assert!(size_of::<MqttLive>() <= 168);

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

impl MqttLive {
    pub(in crate::gate) fn new(
        session: Session,
        identity: Identity<'_>,
        will: Option<Box<LastWill>>,
        expiry_s: u32,
        otherwise_s: u16,
    ) -> MqttLive {
        MqttLive {
            assembler: PacketAssembler::default(),
            session,
            subscriptions: Box::default(),
            rules: identity.rules,
            names: format!("{}{}", identity.name, identity.user).into(),
            will,
            burden: None,
            expiry_s,
            name_bytes: identity.name.len() as u16,
            otherwise_s,
        }
    }

    /// Whether the device may do `act` with a topic or filter.
    pub(in crate::gate) fn may(&self, act: Act, topic: &str) -> bool {
        let (name, user) = self.names.split_at_checked(self.name_bytes.into()).unwrap_or((&self.names, ""));
        self.rules.allow(act, topic, name, user)
    }

    /// The session outlives its connection.
    pub(in crate::gate) fn is_kept(&self) -> bool {
        self.expiry_s > 0
    }

    /// Seconds between two signs of life.
    pub(in crate::gate) fn heartbeat_s(&self) -> u32 {
        match self.session.terms().keep_alive_s {
            0 => self.otherwise_s.into(),
            seconds => seconds.into(),
        }
    }

    /// The longest silence that is allowed, seconds.
    pub(in crate::gate) fn idle_limit_s(&self) -> u32 {
        self.session.idle_limit_s(3 * u32::from(self.otherwise_s) + 20)
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
