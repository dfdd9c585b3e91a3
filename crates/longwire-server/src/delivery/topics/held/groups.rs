//! Shared subscriptions: each message of a group goes to one member.
//!
//! Of two members chosen at random among those with room in their window, the one with fewer unacked deliveries gets it: as
//! even as asking all in turn, and one that is slow or has its window full is passed over.
//!
//! With QoS 2 a member whose session is kept gets it by its mailbox, so that the delivery is completed with it when it comes
//! back, and ends with its session (MQTT-4.8.2-4, MQTT-4.8.2-5).

use crate::delivery::border::Handle;
use crate::delivery::border::topics::{TopicCommand, TopicMessage, TopicWish};
use crate::domain::topic::{FilterId, Filters, Interest};
use crate::domain::{AppId, ClientId, MessageId, WallMs};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Members of a group; another is refused (LIMITS).
pub(in crate::delivery::topics) const MEMBERS_MAX: usize = 200;
/// Deliveries of a group that a member may have unacked. Less than a session's window, so that its own mailbox moves too.
const UNACKED_MAX: usize = 16;
/// Messages that wait for room with a member, in memory; beyond it one of QoS 0 is dropped, others are refused.
pub(in crate::delivery::topics) const WAITING_MAX: usize = 1000;
/// Nodes of the trie that one publish may visit.
const MATCH_VISITS_MAX: usize = 4096;

/// What became of a message with the groups that want it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::delivery::topics) enum Offered {
    /// No group wants it, or only by the mailbox of a member.
    Nobody,
    /// A member gets it, or it waits.
    Taken,
    /// No group had room, not even to wait; or too many filters would have to be looked at.
    Full,
}

struct Member {
    to: Handle,
    /// The device, if its session is kept.
    kept: Option<ClientId>,
    qos: u8,
    identifier: u32,
    /// Numbers of what it has not acked, in their order.
    unacked: Vec<u64>,
}

struct Group {
    app: AppId,
    name: Box<str>,
    filter: FilterId,
    members: Vec<Member>,
    waiting: VecDeque<Arc<TopicMessage>>,
}

struct Delivery {
    group: u64,
    to: Handle,
    /// With which it went: the lower of the publish's and the membership's.
    qos: u8,
    message: Arc<TopicMessage>,
    way: Delivering,
}

/// How a delivery reaches its member.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Delivering {
    /// From here to its connection.
    Live,
    /// By its mailbox; known there under these once it is stored.
    Mail(Option<(ClientId, MessageId)>),
}

/// A message for the mailbox of one member.
pub(in crate::delivery::topics) struct Mail {
    pub(in crate::delivery::topics) client: ClientId,
    pub(in crate::delivery::topics) message: Arc<TopicMessage>,
    /// The member's subscription identifier; 0 = none.
    pub(in crate::delivery::topics) identifier: u32,
    pub(in crate::delivery::topics) number: u64,
}

/// The groups of the node. A group lives as long as it has members; what waits goes with the last.
pub(in crate::delivery::topics) struct Groups {
    apps: HashMap<AppId, Filters<Vec<u64>>>,
    groups: HashMap<u64, Group>,
    /// The groups of each member, at most as many as it may have subscriptions.
    of: HashMap<Handle, Vec<u64>>,
    /// Deliveries that are to be acked, at most [`UNACKED_MAX`] for each membership.
    unacked: HashMap<u64, Delivery>,
    /// Those of them that are in mailboxes.
    mailed: HashMap<(ClientId, MessageId), u64>,
    /// How many these are, for those who have no lock.
    mailed_count: Arc<AtomicU64>,
    /// Members whose mailbox has refused one since the clock last looked: others are asked first.
    shunned: HashSet<Handle>,
    /// To be put into mailboxes by whoever holds the lock.
    to_mail: Vec<Mail>,
    /// Groups that got messages back, or room, and are to be looked at.
    restless: Vec<u64>,
    interest: Arc<Interest>,
    next_group: u64,
    next_number: u64,
    members: u64,
    dropped: u64,
    random: u64,
    found: Vec<FilterId>,
}

impl Groups {
    pub(in crate::delivery::topics) fn new(interest: Arc<Interest>, seed: u64) -> Groups {
        Groups {
            apps: HashMap::new(),
            groups: HashMap::new(),
            of: HashMap::new(),
            unacked: HashMap::new(),
            mailed: HashMap::new(),
            mailed_count: Arc::default(),
            shunned: HashSet::new(),
            to_mail: Vec::new(),
            restless: Vec::new(),
            interest,
            next_group: 1,
            next_number: 1,
            members: 0,
            dropped: 0,
            random: seed | 1,
            found: Vec::new(),
        }
    }

    /// Adds a member, or changes what it wants. `kept`: the device, if its session is kept. False: the group is full.
    pub(in crate::delivery::topics) fn join(
        &mut self,
        app: AppId,
        to: Handle,
        kept: Option<ClientId>,
        wish: &TopicWish,
    ) -> bool {
        let Some((name, pattern)) = parts(&wish.filter) else { return false };
        let id = self.enter(app, name, pattern);
        let Some(group) = self.groups.get_mut(&id) else { return false };
        let (qos, identifier) = (wish.qos, wish.identifier);
        if let Some(member) = group.members.iter_mut().find(|member| member.to == to) {
            (member.qos, member.identifier) = (qos, identifier);
            return true;
        }
        if group.members.len() >= MEMBERS_MAX {
            return false;
        }
        group.members.push(Member { to, kept, qos, identifier, unacked: Vec::new() });
        self.of.entry(to).or_default().push(id);
        self.members += 1;
        self.restless.push(id);
        true
    }

    fn enter(&mut self, app: AppId, name: &str, pattern: &str) -> u64 {
        let filters = self.apps.entry(app).or_default();
        let filter = filters.enter(pattern);
        let Some(ids) = filters.at_mut(filter) else { return 0 };
        let there = ids.iter().find(|id| self.groups.get(id).is_some_and(|group| &*group.name == name));
        if let Some(id) = there {
            return *id;
        }
        let id = self.next_group;
        self.next_group += 1;
        ids.push(id);
        self.interest.add(app, pattern);
        let (members, waiting) = (Vec::new(), VecDeque::new());
        self.groups.insert(id, Group { app, name: name.into(), filter, members, waiting });
        id
    }

    /// Takes a member out of one group. False: it was not in it.
    pub(in crate::delivery::topics) fn part(&mut self, app: AppId, to: Handle, filter: &str) -> bool {
        let Some((name, pattern)) = parts(filter) else { return false };
        let Some(filters) = self.apps.get(&app) else { return false };
        let ids = filters.find(pattern).and_then(|filter| filters.at(filter));
        let found = ids.and_then(|ids| {
            ids.iter().copied().find(|id| self.groups.get(id).is_some_and(|group| &*group.name == name))
        });
        found.is_some_and(|id| self.remove(id, to))
    }

    /// Takes a connection that is gone out of all its groups. What it had not acked with QoS 1 goes to others.
    pub(in crate::delivery::topics) fn leave(&mut self, to: Handle) {
        for id in self.of.get(&to).cloned().unwrap_or_default() {
            self.remove(id, to);
        }
    }

    fn remove(&mut self, id: u64, to: Handle) -> bool {
        let Some(group) = self.groups.get_mut(&id) else { return false };
        let Some(at) = group.members.iter().position(|member| member.to == to) else { return false };
        let lost = group.members.swap_remove(at).unacked;
        self.members -= 1;
        if let Some(ids) = self.of.get_mut(&to) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.of.remove(&to);
            }
        }
        // From the last, so that they stand in their order in front of what waits. A mailbox keeps what it has.
        for number in lost.into_iter().rev() {
            let in_mailbox = matches!(self.unacked.get(&number), Some(one) if one.way != Delivering::Live);
            self.settled(number, in_mailbox);
        }
        let Some(group) = self.groups.get(&id) else { return true };
        if group.members.is_empty() {
            self.dissolve(id);
        }
        true
    }

    fn dissolve(&mut self, id: u64) {
        let Some(group) = self.groups.remove(&id) else { return };
        self.dropped += group.waiting.len() as u64;
        let Some(filters) = self.apps.get_mut(&group.app) else { return };
        self.interest.remove(group.app, filters.text(group.filter));
        let Some(ids) = filters.at_mut(group.filter) else { return };
        ids.retain(|other| *other != id);
        if ids.is_empty() {
            filters.release(group.filter);
            if filters.is_empty() {
                self.apps.remove(&group.app);
            }
        }
    }

    /// A delivery was acked, or will not be: then another member gets it, unless it went with QoS 2.
    pub(in crate::delivery::topics) fn settled(&mut self, number: u64, acked: bool) {
        let Some(Delivery { group: id, to, qos, message, way }) = self.unacked.remove(&number) else {
            return;
        };
        if let Delivering::Mail(Some(place)) = way {
            self.mailed.remove(&place);
            self.mailed_count.store(self.mailed.len() as u64, Relaxed);
        }
        let Some(group) = self.groups.get_mut(&id) else { return };
        if let Some(member) = group.members.iter_mut().find(|member| member.to == to) {
            member.unacked.retain(|other| *other != number);
        }
        match qos {
            _ if acked => {}
            // The member may have it: with QoS 2 nobody else gets it (MQTT-4.8.2-5).
            2 => self.dropped += 1,
            _ => group.waiting.push_front(message),
        }
        if !group.waiting.is_empty() {
            self.restless.push(id);
        }
    }

    /// What is to be put into mailboxes since this was last asked.
    pub(in crate::delivery::topics) fn take_mail(&mut self) -> Vec<Mail> {
        std::mem::take(&mut self.to_mail)
    }

    /// A delivery goes into a mailbox under this id.
    pub(in crate::delivery::topics) fn mailed_as(&mut self, number: u64, client: ClientId, id: MessageId) {
        if let Some(delivery) = self.unacked.get_mut(&number) {
            delivery.way = Delivering::Mail(Some((client, id)));
            self.mailed.insert((client, id), number);
            self.mailed_count.store(self.mailed.len() as u64, Relaxed);
        }
    }

    /// A delivery out of a mailbox is over, or its device has it.
    pub(in crate::delivery::topics) fn mail_ended(&mut self, client: ClientId, id: MessageId) {
        if let Some(number) = self.mailed.get(&(client, id)).copied() {
            self.settled(number, true);
        }
    }

    /// A mailbox did not take a delivery: it is dropped, and its member passed over for a while.
    pub(in crate::delivery::topics) fn mail_refused(&mut self, number: u64) {
        if let Some(delivery) = self.unacked.get(&number) {
            self.shunned.insert(delivery.to);
        }
        self.settled(number, false);
    }

    /// Mailboxes that were full may have room again.
    pub(in crate::delivery::topics) fn try_mail_again(&mut self) {
        for member in self.shunned.drain() {
            self.restless.extend(self.of.get(&member).into_iter().flatten());
        }
    }

    /// How many deliveries are in mailboxes.
    pub(in crate::delivery::topics) fn mailed_count(&self) -> Arc<AtomicU64> {
        self.mailed_count.clone()
    }

    /// Gives a message to one member of each group that wants it.
    pub(in crate::delivery::topics) fn offer(
        &mut self,
        message: &Arc<TopicMessage>,
        out: &mut Vec<TopicCommand>,
    ) -> Offered {
        let Some(filters) = self.apps.get(&message.app) else { return Offered::Nobody };
        self.found.clear();
        if filters.matching(message.shared.topic(), MATCH_VISITS_MAX, &mut self.found).is_err() {
            return Offered::Full;
        }
        let ids: Vec<u64> =
            self.found.iter().filter_map(|filter| filters.at(*filter)).flatten().copied().collect();
        let mut offered = Offered::Nobody;
        for id in ids {
            let Some(group) = self.groups.get(&id) else { continue };
            let must_wait = !group.waiting.is_empty();
            let mail = self.to_mail.len();
            if !must_wait && self.give(id, message, out) {
                // Of what is stored the store has the last word.
                if self.to_mail.len() == mail {
                    offered = Offered::Taken;
                }
                continue;
            }
            let Some(group) = self.groups.get_mut(&id) else { continue };
            if group.waiting.len() < WAITING_MAX {
                group.waiting.push_back(message.clone());
                offered = Offered::Taken;
            } else {
                self.dropped += u64::from(message.qos == 0);
                if offered == Offered::Nobody {
                    offered = Offered::Full;
                }
            }
        }
        offered
    }

    /// Gives what waits to members that have room.
    pub(in crate::delivery::topics) fn drain(&mut self, now: WallMs, out: &mut Vec<TopicCommand>) {
        let mut ids = std::mem::take(&mut self.restless);
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            while let Some(group) = self.groups.get_mut(&id) {
                let Some(message) = group.waiting.pop_front() else { break };
                if message.deadline.0 != 0 && message.deadline <= now {
                    self.dropped += 1;
                } else if !self.give(id, &message, out) {
                    if let Some(group) = self.groups.get_mut(&id) {
                        group.waiting.push_front(message);
                    }
                    break;
                }
            }
        }
    }

    fn give(&mut self, id: u64, message: &Arc<TopicMessage>, out: &mut Vec<TopicCommand>) -> bool {
        let Some(at) = self.choose(id, message.qos) else { return false };
        let Some(group) = self.groups.get_mut(&id) else { return false };
        let member = &mut group.members[at];
        let qos = member.qos.min(message.qos);
        let (to, identifier, message) = (member.to, member.identifier, message.clone());
        let mail = member.kept.filter(|_| qos == 2);
        let mut number = 0;
        if qos > 0 {
            number = self.next_number;
            member.unacked.push(number);
            self.next_number += 1;
            let way = if mail.is_some() { Delivering::Mail(None) } else { Delivering::Live };
            self.unacked.insert(number, Delivery { group: id, to, qos, message: message.clone(), way });
        }
        if let Some(client) = mail {
            self.to_mail.push(Mail { client, message, identifier, number });
            return true;
        }
        out.push(TopicCommand::Deliver { to, message, qos, identifier, number });
        true
    }

    /// Of two members with room, the one with fewer unacked.
    fn choose(&mut self, id: u64, qos: u8) -> Option<usize> {
        let group = self.groups.get(&id)?;
        let has_room = |member: &Member| {
            let qos = member.qos.min(qos);
            let refuses = qos == 2 && member.kept.is_some() && self.shunned.contains(&member.to);
            qos == 0 || (member.unacked.len() < UNACKED_MAX && !refuses)
        };
        let free: Vec<usize> = (0..group.members.len()).filter(|at| has_room(&group.members[*at])).collect();
        if free.is_empty() {
            return None;
        }
        // xorshift64: nobody gains from guessing who is next.
        let mut next = || {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            free[(self.random % free.len() as u64) as usize]
        };
        let (one, other) = (next(), next());
        let of = |at: usize| group.members[at].unacked.len();
        Some(if of(other) < of(one) { other } else { one })
    }

    /// Groups, members, messages that wait, and messages dropped so far.
    pub(in crate::delivery::topics) fn census(&self) -> (u64, u64, u64, u64) {
        let waiting: usize = self.groups.values().map(|group| group.waiting.len()).sum();
        (self.groups.len() as u64, self.members, waiting as u64, self.dropped)
    }
}

/// Group and pattern of `$share/{group}/{pattern}`; `None` for another filter.
fn parts(filter: &str) -> Option<(&str, &str)> {
    filter.strip_prefix("$share/")?.split_once('/')
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;
