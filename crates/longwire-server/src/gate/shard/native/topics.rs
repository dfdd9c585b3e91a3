//! Topics of native devices. Whom a message goes to, and who may do what, is decided where it is for MQTT clients; here is what is
//! different: a device's rights are asked for when it first needs them, and what it gets is a PUSH.

use super::super::Shard;
use super::super::mqtt::Wanted;
use crate::delivery::border::topics::{KeptTopics, TopicEvent, TopicMessage, TopicRights, TopicWish};
use crate::domain::topic::Act;
use crate::domain::{AppId, ClientId, WallMs};
use crate::gate::connection::{
    AwaitingRights, Connection, Conversation, Identity, NativeTopics, Owed, Passed, Piece, Queued, Unanswered,
};
use crate::gate::stats::{ShardStats, TopicDrop};
use crate::gate::topics::Wish;
use bytes::Bytes;
use longwire_proto::close::CloseReason;
use longwire_proto::session::FromDevice;
use longwire_proto::wire::mqtt::{Properties, QoS, Reason, SharedPublish};
use longwire_proto::wire::{DeviceFrame, ResultCode, SelfService, ServerFrame, UpAck, push_flags};
use std::sync::Arc;

/// What a device asks of topics, in a form that borrows nothing.
pub(super) enum Asked {
    Subscribe { request: u32, wanted: Wanted, is_kept: bool },
    Unsubscribe { request: u32, filter: Box<str> },
    Publish { message: Arc<TopicMessage>, awaited: Option<u64> },
    Nothing,
}

impl Asked {
    /// # Errors
    /// A message that would fit into no packet.
    pub(super) fn of(
        from: &FromDevice<'_>,
        (app, client): (AppId, ClientId),
        now: WallMs,
    ) -> Result<Asked, CloseReason> {
        Ok(match from {
            FromDevice::Subscribe { request, wanted, filter } => Asked::Subscribe {
                request: *request,
                wanted: Wanted::of_native(wanted, filter),
                is_kept: wanted.kept,
            },
            FromDevice::Unsubscribe { request, filter } => {
                Asked::Unsubscribe { request: *request, filter: (*filter).into() }
            }
            FromDevice::Publish(publish) => {
                let shared = SharedPublish::encode(publish.topic, &Properties::default(), publish.payload)
                    .map_err(|_| CloseReason::FrameTooLong)?;
                let deadline = match publish.ttl_s {
                    0 => WallMs(0),
                    ttl_s => WallMs(now.0 + u64::from(ttl_s) * 1000),
                };
                let manner = (u8::from(publish.at_least_once), publish.retain);
                let message = TopicMessage::new(app, client, shared.map(Bytes::from), manner, deadline);
                let awaited = publish.at_least_once.then_some(publish.client_message);
                Asked::Publish { message: Arc::new(message), awaited }
            }
            _ => Asked::Nothing,
        })
    }
}

/// The frame that a session took apart.
pub(super) fn frame_of<'a>(from: &FromDevice<'a>) -> DeviceFrame<'a> {
    let asked = |request, what| DeviceFrame::SelfService { request, what };
    match *from {
        FromDevice::Subscribe { request, wanted, .. } => asked(request, SelfService::Subscribe(wanted)),
        FromDevice::Unsubscribe { request, filter } => asked(request, SelfService::Unsubscribe(filter)),
        FromDevice::Publish(publish) => DeviceFrame::Publish(publish),
        _ => DeviceFrame::Ping,
    }
}

impl Shard {
    /// The first frame about topics: `held`, it and what came behind it, waits until the hub has said what the device may do.
    pub(super) fn await_rights(&mut self, slot: u32, held: Vec<u8>) {
        let Some(from) = self.from(slot) else { return };
        let Some(connection) = self.slab.at(slot) else { return };
        let state = std::mem::replace(&mut connection.conversation, Conversation::Over);
        connection.conversation = match state {
            Conversation::Live(session) => {
                Conversation::AwaitingRights(Box::new(AwaitingRights { session, held }))
            }
            other => other,
        };
        self.tell_topic(from, TopicEvent::Rights);
    }

    /// What the device may do; `None`: the store does not answer, and it has to ask again.
    pub(in super::super) fn rights_came(&mut self, slot: u32, rights: Option<Box<TopicRights>>) {
        let Some(connection) = self.slab.at(slot) else { return };
        let state = std::mem::replace(&mut connection.conversation, Conversation::Over);
        let Conversation::AwaitingRights(waiting) = state else {
            connection.conversation = state;
            return;
        };
        let unread = std::mem::take(&mut connection.flags.unread);
        let AwaitingRights { session, held } = *waiting;
        let mut rest = &held[..];
        match rights {
            Some(rights) => {
                let topics = NativeTopics::new(session, identity(&rights));
                connection.conversation = Conversation::Topics(Box::new(topics));
            }
            None => {
                connection.conversation = Conversation::Live(session);
                rest = self.answer_busy(slot, rest);
            }
        }
        let outcome = self.go_through(slot, rest);
        self.frames_taken(slot, outcome);
        if unread {
            self.list(slot);
        }
    }

    /// Answers the first frame of what was held; the rest.
    fn answer_busy<'a>(&mut self, slot: u32, held: &'a [u8]) -> &'a [u8] {
        let body_bytes_max = self.options.frame_body_bytes_max;
        let mut rest = held;
        self.scratch.reply.clear();
        let Some(session) = self.slab.at(slot).and_then(Connection::live) else { return rest };
        let client = session.client();
        let busy = |request| ServerFrame::Result { request, code: ResultCode::Busy };
        let answer = match session.receive(&mut rest, body_bytes_max, &mut self.scratch.reply) {
            Ok(Some(FromDevice::Subscribe { request, .. } | FromDevice::Unsubscribe { request, .. })) => {
                Some(busy(request))
            }
            Ok(Some(FromDevice::Publish(publish))) if publish.at_least_once => {
                let (client_message, outcome) = (publish.client_message, ResultCode::Busy);
                Some(ServerFrame::UpAck(UpAck { client_message, outcome }))
            }
            _ => None,
        };
        if let Some(answer) = answer {
            answer.encode(client, &mut self.scratch.reply);
        }
        self.reply(slot);
        rest
    }

    /// The device logged in, and its session was kept.
    pub(in super::super) fn resume_topics(&mut self, slot: u32, kept: &KeptTopics) {
        let Some(connection) = self.slab.at(slot) else { return };
        let state = std::mem::replace(&mut connection.conversation, Conversation::Over);
        let Conversation::Live(session) = state else {
            connection.conversation = state;
            return;
        };
        let mut topics = NativeTopics::new(session, identity(&kept.rights));
        topics.resumed = true;
        connection.conversation = Conversation::Topics(Box::new(topics));
        for wish in &kept.subscriptions {
            // An MQTT client's groups are not joined from here: what they give it is acked, and this protocol would not.
            if !wish.filter.starts_with("$share/") {
                self.enter(slot, &TopicWish { retain_as_published: false, ..wish.clone() }, true);
            }
        }
    }

    /// A frame about topics of a device whose rights are known.
    pub(super) fn topic_asked(&mut self, slot: u32, asked: Asked, out: &mut Vec<u8>) {
        match asked {
            Asked::Subscribe { request, wanted, is_kept } => {
                self.native_subscribe(slot, request, wanted, is_kept, out);
            }
            Asked::Unsubscribe { request, filter } => self.native_unsubscribe(slot, request, filter, out),
            Asked::Publish { message, awaited } => self.native_publish(slot, message, awaited, out),
            Asked::Nothing => {}
        }
    }

    /// The identifier under which the hub is asked. `None`: it was answered *busy*, because too much is asked already.
    fn owe(&mut self, slot: u32, owed: Owed, out: &mut Vec<u8>) -> Option<u16> {
        let live = self.slab.at(slot)?.native_topics()?;
        let id = live.owe(owed);
        if id.is_none() {
            let busy = match owed {
                Owed::Result(request) => ServerFrame::Result { request, code: ResultCode::Busy },
                Owed::UpAck(client_message) => {
                    ServerFrame::UpAck(UpAck { client_message, outcome: ResultCode::Busy })
                }
            };
            busy.encode(live.session.client(), out);
        }
        id
    }

    fn native_subscribe(
        &mut self,
        slot: u32,
        request: u32,
        wanted: Wanted,
        is_kept: bool,
        out: &mut Vec<u8>,
    ) {
        let Some(from) = self.from(slot) else { return };
        let Some(id) = self.owe(slot, Owed::Result(request), out) else { return };
        let filter = wanted.wish().filter.clone();
        let known = self.wish_of(slot, &filter);
        let is_same = known.is_some_and(|wish| {
            wish.is_kept() && wish.qos() == 1 && wish.is_no_local() == wanted.wish().no_local
        });
        if is_kept && is_same && !wanted.wants_retained() {
            return self.say_subscribed(slot, id, true, &[Reason::Success], out);
        }
        let topical = self.slab.at(slot).and_then(Connection::topical);
        let may = topical.is_some_and(|topical| topical.may(Act::Subscribe, wanted.pattern()));
        if is_kept && may {
            self.tell_topic(from, TopicEvent::Keep);
        }
        let outlived = known.is_some_and(|wish| self.may_outlive(slot, wish));
        self.subscribe_as(slot, from, id, vec![wanted], is_kept, out);
        if outlived && may && !is_kept {
            // It is for this connection only from now on; nobody waits for the answer.
            let filters = vec![filter];
            self.tell_topic(from, TopicEvent::Unsubscribe { packet_id: 0, filters, is_kept: true });
        }
    }

    /// What this session wants by the filter.
    fn wish_of(&mut self, slot: u32, filter: &str) -> Option<Wish> {
        let connection = self.slab.at(slot)?;
        let id = self.topics.find(connection.app, filter)?;
        Some(connection.topical()?.subscription(id)?.wish)
    }

    /// Whether a subscription outlives this connection, or will when the hub has answered, or may for all that is known here.
    fn may_outlive(&mut self, slot: u32, wish: Wish) -> bool {
        let live = self.slab.at(slot).and_then(Connection::native_topics);
        wish.qos() > 0 || live.is_some_and(|live| live.resumed)
    }

    /// What another connection of the device subscribed to is not known here, so the hub is asked about all but what is known to
    /// be for this connection only.
    fn native_unsubscribe(&mut self, slot: u32, request: u32, filter: Box<str>, out: &mut Vec<u8>) {
        let Some(from) = self.from(slot) else { return };
        let Some(id) = self.owe(slot, Owed::Result(request), out) else { return };
        let is_shared = filter.starts_with("$share/");
        let was_kept = self.wish_of(slot, &filter).is_some_and(|wish| self.may_outlive(slot, wish));
        let was_there = self.unsubscribe_one(slot, &filter);
        let is_kept = !is_shared && (was_kept || !was_there);
        let reasons = vec![Reason::Success];
        if !(is_kept || is_shared && was_there) {
            return self.say_subscribed(slot, id, false, &reasons, out);
        }
        let asked = vec![(0, filter.clone())];
        self.await_answer(
            slot,
            Unanswered { packet_id: id, subscribed: false, reasons, asked, passed: Passed::default() },
        );
        let filters = vec![filter];
        self.tell_topic(from, TopicEvent::Unsubscribe { packet_id: id, filters, is_kept });
    }

    fn native_publish(
        &mut self,
        slot: u32,
        message: Arc<TopicMessage>,
        awaited: Option<u64>,
        out: &mut Vec<u8>,
    ) {
        let Some(from) = self.from(slot) else { return };
        let id = match awaited.map(|client_message| self.owe(slot, Owed::UpAck(client_message), out)) {
            Some(None) => return,
            Some(Some(id)) => id,
            None => 0,
        };
        let topical = self.slab.at(slot).and_then(Connection::topical);
        let may = topical.is_some_and(|topical| topical.may(Act::Publish, message.shared.topic()));
        // What MQTT 3.1.1 has no word for, this protocol has.
        let _ =
            if may { self.publish(slot, from, message, id, out) } else { self.refuse_publish(slot, id, out) };
    }

    /// Gives a device a message that no store holds. What could be sent again waits for room; the rest is dropped without.
    pub(in super::super) fn give_native(
        &mut self,
        slot: u32,
        queued: Queued,
        is_unwritable: bool,
        is_shed: bool,
    ) {
        let Some(topical) = self.slab.at(slot).and_then(Connection::topical) else { return };
        let number = queued.number;
        if queued.qos == QoS::AtMostOnce {
            return match is_unwritable || is_shed {
                true => self.lost(slot, number, TopicDrop::Outbox),
                false => self.send_topic_push(slot, &queued),
            };
        }
        if !is_unwritable && !topical.has_queued() {
            return self.send_topic_push(slot, &queued);
        }
        if !topical.burden.get_or_insert_with(Box::default).queue.push(queued) {
            self.lost(slot, number, TopicDrop::Queue);
        }
    }

    /// Sends what waits, as far as there is room.
    pub(in super::super) fn send_queued_native(&mut self, slot: u32) {
        loop {
            let Some(connection) = self.slab.at(slot) else { return };
            if connection.flags.unwritable {
                return;
            }
            let Some(topical) = connection.topical() else { return };
            let Some(burden) = &mut topical.burden else { return };
            let Some(queued) = burden.queue.pop() else { return topical.unburden() };
            self.send_topic_push(slot, &queued);
        }
    }

    /// Sends one message, online-only; nobody acks it.
    fn send_topic_push(&mut self, slot: u32, queued: &Queued) {
        let Queued { message, retain, number, .. } = queued;
        let expired = message.deadline.0 != 0 && message.deadline.0 <= (self.wall)().0;
        let frame = match expired {
            true => Err(TopicDrop::Expired),
            // It is older than the subscription; of a live one, its body says what the publisher wanted.
            false if *retain => message.native_push(push_flags::RETAINED).ok_or(TopicDrop::TooLarge),
            false => message.native_frame().cloned().ok_or(TopicDrop::TooLarge),
        };
        match frame {
            Ok(frame) => {
                self.send_later(slot, Piece::whole(frame));
                ShardStats::count(&self.stats.own().topics.delivered, 1);
            }
            Err(why) => self.drop_topic(why, 1),
        }
        self.tell_shared(slot, *number, true);
    }
}

fn identity(rights: &TopicRights) -> Identity<'_> {
    Identity { rules: rights.rules.clone(), name: &rights.name, user: "" }
}
