//! CONNECT, and its answer.

use super::super::Shard;
use super::publish::forwarded;
use crate::delivery::border::topics::{MqttAttach, MqttLogin, TopicEvent, TopicWish};
use crate::delivery::border::{Attach, Event, Login};
use crate::domain::topic::Act;
use crate::gate::connection::{
    Connection, Conversation, Identity, LastWill, MqttDeciding, MqttLive, Subscription, handle, peer_of,
};
use crate::gate::stats::ShardStats;
use crate::gate::topics::Wish;
use crate::gate::transport::Layers;
use bytes::Bytes;
use longwire_proto::close::CloseReason;
use longwire_proto::id::ClientId;
use longwire_proto::limit::BEFORE_LOGIN_BYTES_MAX;
use longwire_proto::session::FeedStart;
use longwire_proto::session::mqtt::{Awaiting, Ending, Granted, Terms};
use longwire_proto::wire::mqtt::{Connect, PropertiesBuf, Reason, SharedPublish, Version, Will};
use longwire_proto::wire::{Class, Network};
use std::sync::atomic::Ordering::Relaxed;

/// The first byte of a CONNECT; no native frame begins so.
pub(in super::super) const CONNECT: u8 = 0x10;
/// A will waits so long at most, seconds (docs/mqtt-core.md); a longer delay is cut.
const WILL_DELAY_MAX_S: u32 = 3600;
/// Bytes behind CONNECT that are kept until the login is decided.
const BEHIND_CONNECT_BYTES_MAX: usize = BEFORE_LOGIN_BYTES_MAX;

impl Shard {
    /// The connection has sent nothing before, and its first byte says MQTT.
    pub(in super::super) fn speaks_mqtt(&mut self, slot: u32) {
        if let Some(connection) = self.slab.at(slot)
            && matches!(&connection.conversation, Conversation::Awaiting(awaiting) if awaiting.held_bytes() == 0)
        {
            connection.conversation = Conversation::MqttAwaiting(Awaiting::default());
        }
    }

    /// The connection is to be refused: if the plain bytes in the layers' scratch begin a CONNECT, in its version.
    pub(in super::super) fn hear_version(&mut self, slot: u32) {
        let limits = self.packet_limits();
        if self.scratch.layers.plain.first() == Some(&CONNECT) {
            self.speaks_mqtt(slot);
        }
        if let Some(connection) = self.slab.at(slot)
            && let Conversation::MqttAwaiting(awaiting) = &mut connection.conversation
        {
            // Whether it is a good one does not matter any more.
            let _ = awaiting.receive(&mut &self.scratch.layers.plain[..], &limits);
        }
    }

    pub(in super::super) fn received_mqtt_login(&mut self, slot: u32, count: usize) -> Result<(), Ending> {
        let from = handle(self.id, slot, &self.slab);
        let limits = self.packet_limits();
        let Some(connection) = self.slab.at(slot) else { return Ok(()) };
        let Conversation::MqttAwaiting(awaiting) = &mut connection.conversation else { return Ok(()) };
        let mut input = &self.scratch.read[..count];
        let Some(connect) = awaiting.receive(&mut input, &limits)? else { return Ok(()) };
        let layers = connection.layers.as_deref();
        let peer = peer_of(&connection.socket, layers).map_err(|_| gone())?;
        let certificate = layers.and_then(Layers::certificate_name);
        let terms = Terms::of(&connect);
        let will = connect.will.map(|will| last_will(&will, &mut self.scratch.properties)).transpose()?;
        let kept = will.as_deref().filter(|_| terms.is_kept).and_then(LastWill::to_keep);
        let heartbeat_s = match terms.keep_alive_s {
            0 => self.options.heartbeat_max_s,
            seconds => seconds,
        };
        let login = Login {
            from,
            client: ClientId(0),
            app_key: String::new(),
            token: Vec::new(),
            heartbeat_s,
            network: Network::Unknown,
            class: Class::Iot,
            peer,
            resume: [crate::domain::Position::START; 2],
            mqtt: Some(Box::new(MqttLogin { will: kept, ..presented(&connect, certificate) })),
        };
        if input.len() > BEHIND_CONNECT_BYTES_MAX {
            return Err(Ending { reason: Reason::QuotaExceeded, close: CloseReason::TooMuchBeforeLogin });
        }
        let expiry_s = asked_expiry_s(&connect);
        if let Conversation::MqttAwaiting(awaiting) =
            std::mem::replace(&mut connection.conversation, Conversation::Over)
        {
            let deciding = MqttDeciding { deciding: awaiting.decide(terms, input), will, expiry_s };
            connection.conversation = Conversation::MqttDeciding(Box::new(deciding));
            self.door.awaits_no_more(connection.address, connection.accepted_s, self.stats.own());
            ShardStats::count(&self.stats.own().deciding, 1);
        }
        Shard::settle_layers(connection);
        self.outlet.tell(Event::Login(Box::new(login)));
        Ok(())
    }

    /// The login is accepted: CONNACK, what the session had, and what the client sent behind CONNECT.
    pub(in super::super) fn attach_mqtt(&mut self, slot: u32, attach: Attach, log: FeedStart) {
        let now_s = self.time.now_s();
        let packet_bytes_max = self.packet_limits().packet_bytes_max;
        let Some(given) = attach.mqtt else { return self.close(slot, CloseReason::Internal, 0) };
        let Some(connection) = self.slab.at(slot) else { return };
        let state = std::mem::replace(&mut connection.conversation, Conversation::Over);
        let Conversation::MqttDeciding(deciding) = state else {
            connection.conversation = state;
            return;
        };
        self.stats.own().deciding.fetch_sub(1, Relaxed);
        ShardStats::count(&self.stats.own().decided, 1);
        let MqttDeciding { deciding, will, expiry_s: asked_s } = *deciding;
        let own = deciding.terms().wants_response.then(|| own_topics(&given)).flatten();
        let granted = Granted {
            session_present: given.session_present,
            assigned: given.assigned.as_deref(),
            expiry_s: (given.expiry_s != asked_s).then_some(given.expiry_s),
            keep_alive_s: imposed_keep_alive_s(deciding.terms(), &self.options, attach.heartbeat.interval_s),
            packet_bytes_max,
            response: own.as_deref(),
        };
        self.scratch.reply.clear();
        let (mut session, rest) =
            deciding.accept(attach.client, attach.mailbox, log, &granted, &mut self.scratch.reply);
        session.restore_received(&given.awaiting_release);
        session.restore_sent(given.sent);
        let identity = Identity { rules: given.rules, name: &given.name, user: &given.user };
        let live = MqttLive::new(session, identity, will, given.expiry_s, attach.heartbeat.interval_s);
        connection.conversation = Conversation::Mqtt(Box::new(live));
        connection.app = attach.app;
        connection.read_s = now_s;
        connection.flags.labelled = !attach.labels.is_empty();
        let due_s = connection.deadline(&self.limits).0;
        let unread = std::mem::take(&mut connection.flags.unread);
        self.wheel.pull_in(&mut self.slab, slot, due_s);
        self.members.join(attach.app, slot, attach.labels);
        self.begin_frequency(slot, attach.frequency);
        let stats = self.stats.own();
        stats.sessions.fetch_add(1, Relaxed);
        stats.topics.sessions.fetch_add(1, Relaxed);
        self.reply(slot);
        self.resume(slot, &given.subscriptions);
        if let Err(ending) = self.received_packets(slot, &rest) {
            return self.end(slot, ending.close, 0, Some(ending.reason));
        }
        if unread {
            self.list(slot);
        }
    }

    /// Makes the subscriptions of a session that was there.
    fn resume(&mut self, slot: u32, subscriptions: &[TopicWish]) {
        let Some(from) = self.from(slot) else { return };
        let mut wishes = Vec::new();
        for wish in subscriptions {
            let Some(live) = self.slab.at(slot).and_then(|connection| connection.mqtt()) else { return };
            if wish.filter.starts_with("$share/") {
                live.topical.note_shared(&wish.filter);
                wishes.push((wish.clone(), DO_NOT_SEND));
                continue;
            }
            let kept = live.is_kept();
            self.enter(slot, wish, kept);
        }
        if !wishes.is_empty() {
            self.tell_topic(from, TopicEvent::Subscribe { packet_id: 0, wishes, is_kept: true });
        }
    }

    /// Puts a subscription into the table and the session's list. True: it is new.
    pub(in super::super) fn enter(&mut self, slot: u32, wish: &TopicWish, kept: bool) -> bool {
        let Some(connection) = self.slab.at(slot) else { return false };
        let app = connection.app;
        let Some(topical) = connection.topical() else { return false };
        let mut bits = Wish::new(wish.qos, wish.no_local, wish.retain_as_published);
        // What is asked for with QoS 0 is not stored: it comes from here, until the hub knows of more (`stored_from_now`).
        let known = self.topics.find(app, &wish.filter).and_then(|filter| topical.subscription(filter));
        let comes_from_here = known.is_some_and(|known| !known.wish.is_kept());
        if kept && wish.qos > 0 && !comes_from_here {
            bits = bits.kept();
        }
        if wish.identifier != 0 {
            bits = bits.identified();
        }
        let (filter, before) = self.topics.subscribe(app, slot, &wish.filter, bits);
        if let Some(topical) = self.slab.at(slot).and_then(Connection::topical) {
            topical.note(Subscription { filter, wish: bits, identifier: wish.identifier });
        }
        self.stats.own().topics.subscriptions.store(self.topics.len(), Relaxed);
        before.is_none()
    }
}

/// Retained messages are not wanted.
pub(in super::super) const DO_NOT_SEND: u8 = 2;

/// A socket without a peer has broken.
fn gone() -> Ending {
    Ending { reason: Reason::Unspecified, close: CloseReason::PeerLost }
}

fn presented(connect: &Connect<'_>, certificate: Option<String>) -> MqttLogin {
    MqttLogin {
        version: connect.version,
        client_id: connect.client_id.into(),
        user_name: connect.user_name.map(Into::into),
        password: connect.password.map(Into::into),
        clean_start: connect.clean_start,
        expiry_s: asked_expiry_s(connect),
        certificate: certificate.map(String::into_boxed_str),
        will: None,
    }
}

/// Seconds that the session is to outlive its connection. In 3.1.1 for ever, or not at all.
fn asked_expiry_s(connect: &Connect<'_>) -> u32 {
    match connect.version {
        Version::V311 if connect.clean_start => 0,
        Version::V311 => u32::MAX,
        Version::V5 => connect.properties.session_expiry().unwrap_or(0),
    }
}

/// What a client of 5.0 is told to send at least, where its own plan is outside of what the node allows. A short keep alive
/// is how soon the client wants its will sent (MQTT-3.1.2-22): it is lengthened only to what may be kept up in pings.
fn imposed_keep_alive_s(terms: &Terms, options: &crate::gate::GateOptions, app_s: u16) -> Option<u16> {
    let pings_s = u16::try_from(options.inbound.ping_s).unwrap_or(u16::MAX).max(1);
    let least = pings_s.min(options.heartbeat_min_s);
    let most = options.heartbeat_max_s.max(options.heartbeat_min_s);
    let wanted = match terms.keep_alive_s {
        0 => app_s,
        seconds => seconds,
    };
    let held = wanted.clamp(least, most);
    (terms.version == Version::V5 && held != terms.keep_alive_s).then_some(held)
}

fn last_will(will: &Will<'_>, room: &mut PropertiesBuf) -> Result<Box<LastWill>, Ending> {
    let properties = forwarded(&will.properties, room);
    let shared = SharedPublish::encode(will.topic, &properties, will.payload)
        .map_err(|_| Ending { reason: Reason::PacketTooLarge, close: CloseReason::FrameTooLong })?;
    Ok(Box::new(LastWill {
        shared: shared.map(Bytes::from),
        qos: will.qos as u8,
        retain: will.retain,
        expiry_s: will.properties.message_expiry(),
        delay_s: will.properties.will_delay().unwrap_or(0).min(WILL_DELAY_MAX_S),
    }))
}

/// What the topics begin with that are the device's own, if it may subscribe to them: a client may have answers sent there.
fn own_topics(given: &MqttAttach) -> Option<String> {
    let own = format!("device/{}/", given.name);
    let one = format!("{own}answers");
    let is_level = !given.name.contains(['+', '#', '/']);
    (is_level && given.rules.allow(Act::Subscribe, &one, &given.name, &given.user)).then_some(own)
}
