//! SUBSCRIBE and UNSUBSCRIBE. What this shard serves begins at once; the hub is asked where the session is kept, a group is
//! shared, or retained messages may be wanted, and then the answer waits for it.

use super::super::Shard;
use super::login::DO_NOT_SEND;
use crate::delivery::border::topics::{From, TopicEvent, TopicWish};
use crate::domain::topic::Act;
use crate::gate::connection::{Connection, MqttLive, Passed, Subscription, Unanswered};
use crate::gate::topics::Ended;
use longwire_proto::session::mqtt::FILTERS_PER_PACKET_MAX;
use longwire_proto::wire::mqtt::{Reason, RetainHandling, Subscribe, Unsubscribe};
use std::sync::atomic::Ordering::Relaxed;

/// Answers of the hub that one session may await; a SUBSCRIBE beyond them is refused with 0x97.
const UNANSWERED_MAX: usize = 32;
/// Retained messages are wanted.
const SEND: u8 = 0;

/// One filter of a SUBSCRIBE.
pub(super) struct Wanted {
    wish: TopicWish,
    /// What is matched: the filter without its group.
    pattern: Box<str>,
    is_shared: bool,
    retained: RetainHandling,
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
        let crowded = self.awaits_answers(slot) >= UNANSWERED_MAX;
        let (mut reasons, mut asked, mut wishes) = (Vec::with_capacity(wanted.len()), Vec::new(), Vec::new());
        for (index, wanted) in wanted.into_iter().enumerate() {
            let refused = crowded || index >= FILTERS_PER_PACKET_MAX;
            let (reason, is_new) =
                if refused { (Reason::QuotaExceeded, false) } else { self.subscribe_one(slot, &wanted) };
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
            if let Some(live) = self.slab.at(slot).and_then(Connection::mqtt) {
                live.session.subscribed(packet_id, &reasons, out);
            }
            return;
        }
        self.await_answer(
            slot,
            Unanswered { packet_id, subscribed: true, reasons, asked, passed: Passed::default() },
        );
        self.tell_topic(from, TopicEvent::Subscribe { packet_id, wishes, is_kept });
    }

    /// Judges and makes one subscription: its reason code, and whether it is new.
    fn subscribe_one(&mut self, slot: u32, wanted: &Wanted) -> (Reason, bool) {
        let app = self.slab.at(slot).map(|connection| connection.app);
        let known = app.and_then(|app| self.topics.find(app, &wanted.wish.filter));
        let Some(live) = self.slab.at(slot).and_then(Connection::mqtt) else {
            return (Reason::Unspecified, false);
        };
        if !live.may(Act::Subscribe, &wanted.pattern) {
            return (Reason::NotAuthorized, false);
        }
        let is_known = if wanted.is_shared {
            live.knows_shared(&wanted.wish.filter)
        } else {
            known.is_some_and(|filter| live.subscription(filter).is_some())
        };
        if !is_known && !live.has_room() {
            return (Reason::QuotaExceeded, false);
        }
        let is_kept = live.is_kept();
        if wanted.is_shared {
            live.note_shared(&wanted.wish.filter);
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
        let Some(live) = connection.mqtt().filter(|live| live.is_kept()) else { return };
        let known = self.topics.find(app, filter).and_then(|filter| live.subscription(filter)).copied();
        let Some(known) = known.filter(|known| known.wish.qos() > 0 && !known.wish.is_kept()) else { return };
        let changed = Subscription { wish: known.wish.kept(), ..known };
        live.note(changed);
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
            if let Some(live) = self.slab.at(slot).and_then(Connection::mqtt) {
                live.session.unsubscribed(packet_id, &reasons, out);
            }
            return;
        }
        let filters = asked.iter().map(|(_, filter)| filter.clone()).collect();
        self.await_answer(
            slot,
            Unanswered { packet_id, subscribed: false, reasons, asked, passed: Passed::default() },
        );
        self.tell_topic(from, TopicEvent::Unsubscribe { packet_id, filters, is_kept });
    }

    /// Ends one subscription. False: there was none.
    pub(super) fn unsubscribe_one(&mut self, slot: u32, filter: &str) -> bool {
        let Some(connection) = self.slab.at(slot) else { return false };
        let app = connection.app;
        let known = self.topics.find(app, filter);
        let Some(live) = connection.mqtt() else { return false };
        if filter.starts_with("$share/") {
            let was_there = live.knows_shared(filter);
            live.forget_shared(filter);
            return was_there;
        }
        let Some(id) = known else { return false };
        let Some(ended) = self.topics.unsubscribe(app, slot, id) else { return false };
        live.forget(id);
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
        live: &MqttLive,
    ) {
        for subscription in live.subscriptions() {
            if self.topics.unsubscribe(app, slot, subscription.filter) == Some(Ended::Filter) {
                self.fanout.filter_ended(app, subscription.filter);
            }
        }
        self.stats.own().topics.subscriptions.store(self.topics.len(), Relaxed);
    }

    fn awaits_answers(&mut self, slot: u32) -> usize {
        let live = self.slab.at(slot).and_then(Connection::mqtt);
        live.and_then(|live| live.burden.as_ref()).map_or(0, |burden| burden.unanswered.len())
    }

    fn await_answer(&mut self, slot: u32, unanswered: Unanswered) {
        if let Some(live) = self.slab.at(slot).and_then(Connection::mqtt) {
            live.burden.get_or_insert_with(Box::default).unanswered.push(unanswered);
        }
    }
}

fn granted(qos: u8) -> Reason {
    match qos {
        0 => Reason::Success,
        1 => Reason::GrantedQoS1,
        _ => Reason::GrantedQoS2,
    }
}
