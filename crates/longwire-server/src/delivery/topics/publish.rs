//! A message published to a topic: what is to be stored for it, whom it goes to, and what its publisher is told.

use super::Topics;
use super::held::groups::{Mail, Offered};
use super::held::kept::TooMany;
use crate::delivery::border::topics::{PublishOutcome, TopicCommand, TopicMessage};
use crate::delivery::border::{Command, ShardId};
use crate::delivery::hub::{Core, new_trace};
use crate::domain::message::TTL_S_MAX;
use crate::domain::topic::is_reserved;
use crate::domain::{AppId, ClientId, Kind, MessageId, Priority, TraceId, WallMs};
use crate::store::port::{Accept, Claim, ClaimWith, Destination, Keyed, StoreError};
use crate::store::sessions::{Change, Done, Work};
use crate::store::upstream::{Upstream, UpstreamOutcome};
use bytes::Bytes;
use longwire_proto::limit::{LABEL_BYTES_MAX, UPSTREAM_BYTES_MAX};
use longwire_proto::wire::encode_push_shared;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// How long a message waits for kept sessions if it says nothing itself, milliseconds: 72 h.
const OFFLINE_TTL_MS: u64 = 72 * 3600 * 1000;
/// What messages for the business are published to, with the type word behind it.
const UP: &str = "$up/";

/// What a publish came to, before the store has spoken.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Its part of the work.
    pub(super) work: Range<usize>,
    /// What holds if the store takes all of it.
    outcome: PublishOutcome,
    /// Somebody gets it whatever the mailboxes say.
    taken: bool,
}

/// What publishes come to, gathered.
#[derive(Default)]
pub(super) struct Planned {
    /// To be made durable.
    pub(super) work: Vec<Work>,
    /// To be told to shards.
    pub(super) out: Vec<TopicCommand>,
    /// Deliveries of shared groups in `work`: where, and their number.
    pub(super) mailed: Vec<(usize, u64)>,
}

/// What became of a message that the business published.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Its id, under which its books are found if it was stored for somebody.
    pub message: MessageId,
    /// Kept sessions that it was stored for.
    pub stored_for: u64,
    /// Kept sessions whose mailbox was full.
    pub refused: u64,
    /// Shards whose live subscribers may want it.
    pub shards: u64,
    /// How it went.
    pub outcome: PublishOutcome,
    /// The app's stored bytes and its quota of them, if that refused it for kept sessions.
    pub over_quota: Option<(u64, u64)>,
}

impl Plan {
    fn known(at: usize, outcome: PublishOutcome) -> Plan {
        Plan { work: at..at, outcome, taken: outcome == PublishOutcome::Taken }
    }

    /// What the publisher is told, now that the store has spoken.
    pub(super) fn outcome(&self, done: &[Result<Done, StoreError>]) -> PublishOutcome {
        let (mut taken, mut refused) = (self.taken, false);
        for one in done.get(self.work.clone()).unwrap_or_default() {
            match one {
                Ok(Done::Accepted(_)) | Err(StoreError::Repeated) => taken = true,
                Ok(Done::Upstream(UpstreamOutcome::Stored(_) | UpstreamOutcome::Repeated)) => taken = true,
                Ok(Done::Upstream(_))
                | Err(StoreError::MailboxFull | StoreError::AppQuota { .. } | StoreError::Full { .. }) => {
                    refused = true
                }
                Ok(Done::Changed) => {}
                Err(_) => return PublishOutcome::Unavailable,
            }
        }
        match (taken, refused) {
            (true, _) => PublishOutcome::Taken,
            (false, true) => PublishOutcome::Quota,
            (false, false) => self.outcome,
        }
    }
}

impl Topics {
    /// Whether any shard may have a live subscriber.
    fn shards(&self, app: AppId, topic: &str) -> impl Iterator<Item = usize> {
        let shards = self.interests.shards.iter().enumerate();
        shards.filter(move |(_, interest)| interest.may_match(app, topic)).map(|(shard, _)| shard)
    }

    /// Counts a publish by how it went.
    pub(in crate::delivery) fn count(&self, outcome: PublishOutcome) {
        let index = match outcome {
            PublishOutcome::Taken => 0,
            PublishOutcome::Nobody => 1,
            PublishOutcome::Quota => 2,
            PublishOutcome::Unavailable => 3,
            PublishOutcome::NotAllowed => 4,
        };
        self.stats.published[index].fetch_add(1, Relaxed);
    }
}

impl Core {
    /// Decides in memory what a publish is for. `packet_id`: what it came with; `received`: it is to be remembered too.
    pub(super) fn plan(
        &self,
        message: &Arc<TopicMessage>,
        trace: TraceId,
        packet_id: Option<u16>,
        received: bool,
        planned: &mut Planned,
    ) -> Plan {
        let (topics, now, from) = (&self.topics, (self.clock)(), planned.work.len());
        let received = packet_id.filter(|_| received).map(|packet_id| (message.publisher, packet_id));
        let topic = message.shared.topic();
        if let Some(kind) = topic.strip_prefix(UP) {
            return self.plan_upstream(message, kind, (trace, now), (packet_id, received), &mut planned.work);
        }
        if is_reserved(topic) {
            return Plan::known(from, PublishOutcome::NotAllowed);
        }
        let mut taken = topics.shards(message.app, topic).next().is_some();
        let mut refused = false;
        if message.retain {
            match self.retain(message, &mut planned.work) {
                // Kept for later, and yet there may be nobody now (3.4.2.1).
                Ok(()) => {}
                Err(outcome) => return Plan::known(from, outcome),
            }
        }
        let (offered, mail) = {
            let mut groups = topics.groups.lock();
            (groups.offer(message, &mut planned.out), groups.take_mail())
        };
        match offered {
            Offered::Nobody => {}
            Offered::Taken => taken = true,
            Offered::Full => refused = true,
        }
        if message.qos > 0 {
            match topics.kept.lock().targets(message.app, topic, message.publisher) {
                Ok(targets) if targets.is_empty() => {}
                Ok(targets) => {
                    let to = Destination::Mailboxes(targets);
                    planned.work.extend(self.stored(message, message.body(), (trace, now), to, received));
                }
                Err(TooMany::Targets | TooMany::Visits) => {
                    topics.stats.too_wide.fetch_add(1, Relaxed);
                    refused = true;
                }
            }
        }
        let is_stored =
            |planned: &Planned| planned.work[from..].iter().any(|one| matches!(one, Work::Accept(_)));
        // One of them remembers the publisher's identifier.
        let remembered = if is_stored(planned) { None } else { received };
        self.mail(mail, trace, remembered, planned);
        let is_stored = is_stored(planned);
        let outcome = match (taken, refused) {
            (true, _) => PublishOutcome::Taken,
            (false, true) => PublishOutcome::Quota,
            (false, false) => PublishOutcome::Nobody,
        };
        // A publish that is refused ends with its PUBREC (MQTT-4.3.3): its identifier is free.
        if let (Some((client, packet_id)), false, false) =
            (received, is_stored, outcome == PublishOutcome::Quota)
        {
            planned.work.push(Work::Change(Change::Receive(client, packet_id)));
        }
        Plan { work: from..planned.work.len(), outcome, taken }
    }

    /// Puts what shared groups gave into the mailboxes of their members.
    pub(super) fn mail(
        &self,
        mail: Vec<Mail>,
        trace: TraceId,
        mut received: Option<(ClientId, u16)>,
        planned: &mut Planned,
    ) {
        let now = (self.clock)();
        for Mail { client, message, identifier, number } in mail {
            let (body, to) = (message.body_for_member(identifier), Destination::Mailboxes(vec![client]));
            let stored = self.stored(&message, body, (trace, now), to, received.take());
            match stored {
                Some(Work::Accept(accept)) => {
                    self.topics.groups.lock().mailed_as(number, client, accept.message);
                    planned.mailed.push((planned.work.len(), number));
                    planned.work.push(Work::Accept(accept));
                }
                _ => self.topics.groups.lock().settled(number, false),
            }
        }
    }

    /// Gives what waits in shared groups to members that have room.
    pub(super) fn drain_groups(&self, planned: &mut Planned) {
        let mail = {
            let mut groups = self.topics.groups.lock();
            groups.drain((self.clock)(), &mut planned.out);
            groups.take_mail()
        };
        if !mail.is_empty() {
            self.mail(mail, self.trace(), None, planned);
        }
    }

    /// What the store did not take of it is dropped, and counted.
    pub(super) fn mailed(&self, mailed: &[(usize, u64)], done: &[Result<Done, StoreError>]) {
        for (at, number) in mailed {
            match done.get(*at) {
                Some(Ok(_) | Err(StoreError::Repeated)) => {
                    self.topics.stats.shared_sent.fetch_add(1, Relaxed);
                }
                _ => self.topics.groups.lock().mail_refused(*number),
            }
        }
    }

    fn retain(&self, message: &Arc<TopicMessage>, work: &mut Vec<Work>) -> Result<(), PublishOutcome> {
        match self.store.usable() {
            Ok(()) => {}
            Err(StoreError::Full { .. }) => return Err(PublishOutcome::Quota),
            Err(_) => return Err(PublishOutcome::Unavailable),
        }
        match self.topics.retained.lock().put(message) {
            Ok(change) => {
                work.extend(change.map(Work::Change));
                Ok(())
            }
            Err(_) => {
                self.topics.stats.retain_refused.fetch_add(1, Relaxed);
                Err(PublishOutcome::Quota)
            }
        }
    }

    fn stored(
        &self,
        message: &TopicMessage,
        body: Option<Vec<u8>>,
        (trace, now): (TraceId, WallMs),
        destination: Destination,
        received: Option<(ClientId, u16)>,
    ) -> Option<Work> {
        let body = body?;
        let id = self.ids.next(now);
        let mut shared = Vec::new();
        encode_push_shared(id, Kind::Topic, trace, "", &body, &mut shared);
        let latest = now.0.saturating_add(u64::from(TTL_S_MAX) * 1000);
        let deadline = match message.deadline.0 {
            0 => now.0.saturating_add(OFFLINE_TTL_MS),
            deadline => deadline.min(latest),
        };
        Some(Work::Accept(Accept {
            message: id,
            app: message.app,
            kind: Kind::Topic,
            trace,
            accepted_at: now,
            deadline: WallMs(deadline),
            shared: Bytes::from(shared),
            destination,
            received,
            priority: Priority::Normal,
            collapse_key: Arc::from(""),
            replaces: None,
            once: None,
            occurrence: None,
            report: Default::default(),
        }))
    }

    fn plan_upstream(
        &self,
        message: &TopicMessage,
        kind: &str,
        (trace, now): (TraceId, WallMs),
        (packet_id, received): (Option<u16>, Option<(ClientId, u16)>),
        work: &mut Vec<Work>,
    ) -> Plan {
        let from = work.len();
        let payload = message.shared.payload();
        // The business publishes downwards only; and the type word is a label of the native protocol.
        if message.publisher == ClientId(0) || kind.is_empty() || kind.len() > LABEL_BYTES_MAX {
            return Plan::known(from, PublishOutcome::NotAllowed);
        }
        if payload.len() > UPSTREAM_BYTES_MAX {
            return Plan::known(from, PublishOutcome::Quota);
        }
        // Above the ids that devices of the native protocol give themselves.
        let fresh = self.ids.next(now).0 as u64 | 1 << 63;
        let client_message = packet_id.map_or(fresh, |packet_id| {
            let hash = fingerprint(kind, payload);
            self.topics.resent.lock().id(message.publisher, packet_id, (message.dup, hash), fresh)
        });
        let upstream = Upstream {
            client: message.publisher,
            app: message.app,
            client_message,
            kind: kind.into(),
            accepted_at: now,
            trace,
            payload: Bytes::copy_from_slice(payload),
        };
        work.push(Work::Upstream(upstream, received));
        Plan { work: from..work.len(), outcome: PublishOutcome::Unavailable, taken: false }
    }

    /// Publishes for somebody who has no connection: the business, or a will. Live subscribers get it from here too.
    /// `once`: the caller's key, and the id of the message if none is stored. What is stored and the key are one commit; those who
    /// are connected may have the message before it.
    pub(in crate::delivery) async fn publish(
        &self,
        message: &Arc<TopicMessage>,
        trace: TraceId,
        once: Option<(Keyed, MessageId)>,
    ) -> Sent {
        let mut planned = Planned::default();
        let order = self.topics.order.lock().await;
        let plan = self.plan(message, trace, None, false, &mut planned);
        let Planned { mut work, out, mailed } = planned;
        let id = once.as_ref().map(|(_, id)| *id);
        let claimed = once.map(|(keyed, id)| {
            let taken = plan.taken || plan.outcome == PublishOutcome::Nobody;
            let (app, now, with) = (message.app, (self.clock)(), ClaimWith::Messages { taken });
            work.push(Work::Claim(Claim { app, message: id, now, keyed, with }));
            work.len() - 1
        });
        let refused = plan.work.is_empty() && !plan.taken && plan.outcome != PublishOutcome::Nobody;
        let topic = message.shared.topic();
        let mut shards: Vec<usize> = self.topics.shards(message.app, topic).collect();
        if refused || is_reserved(topic) {
            shards.clear();
        }
        let queued = self.store.queue(work).await;
        drop(order);
        for shard in &shards {
            let command = Command::Topic(TopicCommand::Publish(message.clone()));
            self.posts.send(ShardId(*shard as u8), command).await;
        }
        self.post_all(out).await;
        let done = queued.outcomes().await;
        self.mailed(&mailed, &done);
        let unclaimed = claimed.is_some_and(|at| done.get(at).is_none_or(Result::is_err));
        let outcome = if unclaimed { PublishOutcome::Unavailable } else { plan.outcome(&done) };
        self.topics.count(outcome);
        let accepted = done.iter().find_map(|one| match one {
            Ok(Done::Accepted(accepted)) => Some(accepted),
            _ => None,
        });
        Sent {
            message: accepted
                .map(|accepted| accepted.message)
                .or(id)
                .unwrap_or_else(|| self.ids.next((self.clock)())),
            refused: accepted.map_or(0, |accepted| accepted.refused.len() as u64),
            stored_for: accepted.map_or(0, |accepted| accepted.record.targets.len() as u64),
            shards: shards.len() as u64,
            outcome,
            over_quota: done.iter().find_map(|one| match one {
                Err(StoreError::AppQuota { used, most }) => Some((*used, *most)),
                _ => None,
            }),
        }
    }

    /// Posts commands, each to the shard of its connection.
    pub(super) async fn post_all(&self, out: Vec<TopicCommand>) {
        for command in out {
            let Some(to) = command.to() else { continue };
            if matches!(command, TopicCommand::Deliver { number: 1.., .. }) {
                self.topics.stats.shared_sent.fetch_add(1, Relaxed);
            }
            self.posts.send(to.shard(), Command::Topic(command)).await;
        }
    }

    /// A trace for what comes without one.
    pub(super) fn trace(&self) -> TraceId {
        new_trace()
    }
}

fn fingerprint(kind: &str, payload: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(kind.as_bytes()).update(&[0]).update(payload);
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_be_bytes(first)
}
