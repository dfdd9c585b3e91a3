//! SUBSCRIBE and UNSUBSCRIBE. What this shard serves begins at once; the hub is asked where the session is kept, a group is
//! shared, or retained messages may be wanted, and then the answer waits for it.

use super::super::Shard;
use super::login::DO_NOT_SEND;
use crate::delivery::border::topics::{From, TopicEvent, TopicWish};
use crate::domain::topic::Act;
use crate::gate::connection::{Connection, Conversation, Owed, Passed, Subscription, Topical, Unanswered};
use crate::gate::topics::Ended;
use longwire_proto::session::mqtt::FILTERS_PER_PACKET_MAX;
use longwire_proto::wire::mqtt::{Reason, RetainHandling, Subscribe, Unsubscribe, topic};
use longwire_proto::wire::{self, ResultCode, ServerFrame};
use std::sync::atomic::Ordering::Relaxed;

/// Answers of the hub that one session may await; a SUBSCRIBE beyond them is refused with 0x97.
const UNANSWERED_MAX: usize = 32;
/// Retained messages are wanted.
const SEND: u8 = 0;

/// One filter of a SUBSCRIBE.
pub(in super::super) struct Wanted {
    wish: TopicWish,
    /// What is matched: the filter without its group.
    pattern: Box<str>,
    is_shared: bool,
    retained: RetainHandling,
}

impl Wanted {
    /// What a native device asks for.
    pub(in super::super) fn of_native(wanted: &wire::Subscribe<'_>, filter: &topic::Filter<'_>) -> Wanted {
        let wish = TopicWish {
            filter: wanted.filter.into(),
            qos: wanted.kept.into(),
            no_local: wanted.no_local,
            retain_as_published: false,
            identifier: 0,
        };
        let is_shared = filter.group().is_some();
        Wanted { wish, pattern: filter.pattern().into(), is_shared, retained: wanted.retained }
    }

    pub(in super::super) fn wish(&self) -> &TopicWish {
        &self.wish
    }

    /// The filter without its group.
    pub(in super::super) fn pattern(&self) -> &str {
        &self.pattern
    }

    pub(in super::super) fn wants_retained(&self) -> bool {
        self.retained == RetainHandling::Send && !self.is_shared
    }
}

/// The filters of a SUBSCRIBE.
pub(super) fn wanted_of(subscribe: &Subscribe<'_>) -> Vec<Wanted> {
    let identifier = subscribe.properties.subscription_identifiers().next().unwrap_or(0);
    let wanted = subscribe.filters.iter().map(|entry| Wanted {
        wish: TopicWish {
            filter: entry.filter.as_str().into(),
            qos: entry.options.qos as u8,
            no_local: entry.options.no_local,
            retain_as_published: entry.options.retain_as_published,
            identifier,
        },
        pattern: entry.filter.pattern().into(),
        is_shared: entry.filter.group().is_some(),
        retained: entry.options.retain_handling,
    });
    wanted.collect()
}

/// The filters of an UNSUBSCRIBE.
pub(super) fn filters_of(unsubscribe: &Unsubscribe<'_>) -> Vec<Box<str>> {
    unsubscribe.filters.iter().map(|entry| entry.filter.as_str().into()).collect()
}

impl Shard {
    pub(super) fn subscribe(
        &mut self,
        slot: u32,
        from: From,
        packet_id: u16,
        wanted: Vec<Wanted>,
        out: &mut Vec<u8>,
    ) {
        let is_kept = self.slab.at(slot).and_then(Connection::mqtt).is_some_and(|live| live.is_kept());
        self.subscribe_as(slot, from, packet_id, wanted, is_kept, out);
    }

    /// The same for a session of any protocol; `is_kept`: what is wanted outlives the connection.
    pub(in super::super) fn subscribe_as(
        &mut self,
        slot: u32,
        from: From,
        packet_id: u16,
        wanted: Vec<Wanted>,
        is_kept: bool,
        out: &mut Vec<u8>,
    ) {
        let crowded = self.awaits_answers(slot) >= UNANSWERED_MAX;
        let (mut reasons, mut asked, mut wishes) = (Vec::with_capacity(wanted.len()), Vec::new(), Vec::new());
        for (index, wanted) in wanted.into_iter().enumerate() {
            let refused = crowded || index >= FILTERS_PER_PACKET_MAX;
            let (reason, is_new) = if refused {
                (Reason::QuotaExceeded, false)
            } else {
                self.subscribe_one(slot, &wanted, is_kept)
            };
            reasons.push(reason);
            let retained = match wanted.retained {
                _ if wanted.is_shared => DO_NOT_SEND,
                RetainHandling::Send => SEND,
                RetainHandling::SendIfNew if is_new => SEND,
                _ => DO_NOT_SEND,
            };
            if !reason.is_error() && (is_kept || wanted.is_shared || retained == SEND) {
                asked.push((index as u16, wanted.wish.filter.clone()));
                wishes.push((wanted.wish, retained));
            }
        }
        if wishes.is_empty() {
            return self.say_subscribed(slot, packet_id, true, &reasons, out);
        }
        self.await_answer(
            slot,
            Unanswered { packet_id, subscribed: true, reasons, asked, passed: Passed::default() },
        );
        self.tell_topic(from, TopicEvent::Subscribe { packet_id, wishes, is_kept });
    }

    /// Judges and makes one subscription: its reason code, and whether it is new.
    fn subscribe_one(&mut self, slot: u32, wanted: &Wanted, is_kept: bool) -> (Reason, bool) {
        let app = self.slab.at(slot).map(|connection| connection.app);
        let known = app.and_then(|app| self.topics.find(app, &wanted.wish.filter));
        let Some(topical) = self.slab.at(slot).and_then(Connection::topical) else {
            return (Reason::Unspecified, false);
        };
        if !topical.may(Act::Subscribe, &wanted.pattern) {
            return (Reason::NotAuthorized, false);
        }
        let is_known = if wanted.is_shared {
            topical.knows_shared(&wanted.wish.filter)
        } else {
            known.is_some_and(|filter| topical.subscription(filter).is_some())
        };
        if !is_known && !topical.has_room() {
            return (Reason::QuotaExceeded, false);
        }
        if wanted.is_shared {
            topical.note_shared(&wanted.wish.filter);
        } else {
            self.enter(slot, &wanted.wish, is_kept);
        }
        (granted(wanted.wish.qos), !is_known)
    }

    /// The hub has a subscription: if the session is kept, QoS 1 and 2 come by its mailbox from now on. One that had QoS 0 before
    /// was served from here until now, so that nothing is lost by its change (MQTT 3.8.4).
    pub(super) fn stored_from_now(&mut self, slot: u32, filter: &str) {
        let Some(connection) = self.slab.at(slot) else { return };
        let app = connection.app;
        // Of a native device what is not to be kept has QoS 0.
        if connection.mqtt().is_some_and(|live| !live.is_kept()) {
            return;
        }
        let Some(topical) = connection.topical() else { return };
        let known = self.topics.find(app, filter).and_then(|filter| topical.subscription(filter)).copied();
        let Some(known) = known.filter(|known| known.wish.qos() > 0 && !known.wish.is_kept()) else { return };
        let changed = Subscription { wish: known.wish.kept(), ..known };
        topical.note(changed);
        self.topics.subscribe(app, slot, filter, changed.wish);
    }

    pub(super) fn unsubscribe(
        &mut self,
        slot: u32,
        from: From,
        packet_id: u16,
        filters: &[Box<str>],
        out: &mut Vec<u8>,
    ) {
        let is_kept = self.slab.at(slot).and_then(Connection::mqtt).is_some_and(|live| live.is_kept());
        let (mut reasons, mut asked) = (Vec::with_capacity(filters.len()), Vec::new());
        for (index, filter) in filters.iter().enumerate() {
            let was_there = self.unsubscribe_one(slot, filter);
            reasons.push(if was_there { Reason::Success } else { Reason::NoSubscriptionExisted });
            if was_there && (is_kept || filter.starts_with("$share/")) {
                asked.push((index as u16, filter.clone()));
            }
        }
        if asked.is_empty() {
            return self.say_subscribed(slot, packet_id, false, &reasons, out);
        }
        let filters = asked.iter().map(|(_, filter)| filter.clone()).collect();
        self.await_answer(
            slot,
            Unanswered { packet_id, subscribed: false, reasons, asked, passed: Passed::default() },
        );
        self.tell_topic(from, TopicEvent::Unsubscribe { packet_id, filters, is_kept });
    }

    /// Ends one subscription. False: there was none.
    pub(in super::super) fn unsubscribe_one(&mut self, slot: u32, filter: &str) -> bool {
        let Some(connection) = self.slab.at(slot) else { return false };
        let app = connection.app;
        let known = self.topics.find(app, filter);
        let Some(topical) = connection.topical() else { return false };
        if filter.starts_with("$share/") {
            let was_there = topical.knows_shared(filter);
            topical.forget_shared(filter);
            return was_there;
        }
        let Some(id) = known else { return false };
        let Some(ended) = self.topics.unsubscribe(app, slot, id) else { return false };
        topical.forget(id);
        if ended == Ended::Filter {
            self.fanout.filter_ended(app, id);
        }
        self.stats.own().topics.subscriptions.store(self.topics.len(), Relaxed);
        true
    }

    /// Ends all subscriptions of a connection that has gone.
    pub(in super::super) fn unsubscribe_all(
        &mut self,
        slot: u32,
        app: crate::domain::AppId,
        topical: &Topical,
    ) {
        for subscription in topical.subscriptions() {
            if self.topics.unsubscribe(app, slot, subscription.filter) == Some(Ended::Filter) {
                self.fanout.filter_ended(app, subscription.filter);
            }
        }
        self.stats.own().topics.subscriptions.store(self.topics.len(), Relaxed);
    }

    /// The answer to a SUBSCRIBE (`subscribed`) or UNSUBSCRIBE.
    pub(in super::super) fn say_subscribed(
        &mut self,
        slot: u32,
        packet_id: u16,
        subscribed: bool,
        reasons: &[Reason],
        out: &mut Vec<u8>,
    ) {
        let Some(connection) = self.slab.at(slot) else { return };
        match &mut connection.conversation {
            Conversation::Mqtt(live) if subscribed => live.session.subscribed(packet_id, reasons, out),
            Conversation::Mqtt(live) => live.session.unsubscribed(packet_id, reasons, out),
            Conversation::Topics(live) => {
                if let Some(Owed::Result(request)) = live.pay(packet_id) {
                    let code = reasons.first().map_or(ResultCode::Done, |reason| result_of(*reason));
                    ServerFrame::Result { request, code }.encode(live.session.client(), out);
                }
            }
            _ => {}
        }
    }

    fn awaits_answers(&mut self, slot: u32) -> usize {
        let topical = self.slab.at(slot).and_then(Connection::topical);
        topical.and_then(|topical| topical.burden.as_ref()).map_or(0, |burden| burden.unanswered.len())
    }

    pub(in super::super) fn await_answer(&mut self, slot: u32, unanswered: Unanswered) {
        if let Some(topical) = self.slab.at(slot).and_then(Connection::topical) {
            topical.burden.get_or_insert_with(Box::default).unanswered.push(unanswered);
        }
    }
}

/// What a native device is told.
pub(super) fn result_of(reason: Reason) -> ResultCode {
    match reason {
        Reason::NotAuthorized => ResultCode::NotAllowed,
        Reason::QuotaExceeded => ResultCode::Quota,
        reason if reason.is_error() => ResultCode::Busy,
        _ => ResultCode::Done,
    }
}

fn granted(qos: u8) -> Reason {
    match qos {
        0 => Reason::Success,
        1 => Reason::GrantedQoS1,
        _ => Reason::GrantedQoS2,
    }
}
