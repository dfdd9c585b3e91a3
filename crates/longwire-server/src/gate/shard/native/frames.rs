//! CONNECT and the frames of devices that are logged in: the session's judgement, answers straight back.

use super::super::Shard;
use super::super::inbound::{RETRY_AFTER_RATE_S, end_of_delivery, sent_at};
use super::super::own::own_asked;
use super::topics::{Asked, frame_of};
use crate::delivery::border::{Event, Handle, Login, Upstream, topics};
use crate::domain::{AppId, ClientId, WallMs};
use crate::gate::connection::{Connection, Conversation, handle, peer_of};
use crate::gate::pressure::Level;
use crate::gate::stats::ShardStats;
use crate::planted::{Fault as Planted, planted};
use bytes::Bytes;
use longwire_proto::close::CloseReason;
use longwire_proto::session::{FromDevice, InboundLimits, InboundRate, Millis, Pace, Ping, Settled};
use longwire_proto::wire::{self, AckKind, ResultCode, ServerFrame, UpAck};

impl Shard {
    pub(in super::super) fn received_login(&mut self, slot: u32, count: usize) -> Result<(), CloseReason> {
        let from = handle(self.id, slot, &self.slab);
        let Some(connection) = self.slab.at(slot) else { return Ok(()) };
        let Conversation::Awaiting(awaiting) = &mut connection.conversation else { return Ok(()) };
        let mut input = &self.scratch.read[..count];
        let Some((client, connect)) = awaiting.receive(&mut input)? else { return Ok(()) };
        let heartbeat_s = connect.heartbeat_s.clamp(
            self.options.heartbeat_min_s,
            self.options.heartbeat_max_s.max(self.options.heartbeat_min_s),
        );
        let peer =
            peer_of(&connection.socket, connection.layers.as_deref()).map_err(|_| CloseReason::PeerLost)?;
        connection.flags.network = connect.network;
        connection.flags.class = Some(connect.class);
        let login = Login {
            from,
            client,
            app_key: connect.app_key.to_owned(),
            token: connect.token.to_vec(),
            heartbeat_s,
            network: connect.network,
            class: connect.class,
            resume: [connect.resume_mailbox, connect.resume_log],
            peer,
            mqtt: None,
        };
        if !input.is_empty() {
            // A device waits for the answer to CONNECT.
            return Err(CloseReason::OutOfOrder);
        }
        let state = std::mem::replace(&mut connection.conversation, Conversation::Over);
        if let Conversation::Awaiting(awaiting) = state {
            connection.conversation = Conversation::Deciding(awaiting.decide(heartbeat_s));
            self.door.awaits_no_more(connection.address, connection.accepted_s, self.stats.own());
            ShardStats::count(&self.stats.own().deciding, 1);
        }
        Shard::settle_layers(connection);
        self.outlet.tell(Event::Login(Box::new(login)));
        Ok(())
    }

    /// Takes frames out of bytes of a device that is logged in.
    ///
    /// # Errors
    /// Why to close it.
    pub(in super::super) fn received_frames(&mut self, slot: u32, bytes: &[u8]) -> Result<(), CloseReason> {
        let (now, rates) = (self.time.now(), self.options.inbound);
        let Some(connection) = self.slab.at(slot) else { return Ok(()) };
        connection.rate.bytes(now, bytes.len(), &rates);
        if let Conversation::AwaitingRights(waiting) = &mut connection.conversation {
            waiting.held.extend_from_slice(bytes);
            return Ok(());
        }
        self.go_through(slot, bytes)
    }

    /// The same for bytes that were counted already.
    pub(super) fn go_through(&mut self, slot: u32, bytes: &[u8]) -> Result<(), CloseReason> {
        let mut out = std::mem::take(&mut self.scratch.reply);
        out.clear();
        let taken = self.take_frames(slot, bytes, &mut out);
        self.scratch.reply = out;
        if let Some(session) = self.slab.at(slot).and_then(Connection::live) {
            session.release();
        }
        self.reply(slot);
        self.pull(slot);
        taken
    }

    /// Frames were gone through: what follows for the connection.
    pub(in super::super) fn frames_taken(&mut self, slot: u32, outcome: Result<(), CloseReason>) {
        match outcome {
            Ok(()) => {
                self.watch_frame(slot);
                self.brake(slot);
            }
            Err(reason @ (CloseReason::InboundRate | CloseReason::PingRate)) => {
                self.close(slot, reason, RETRY_AFTER_RATE_S);
            }
            Err(reason) => self.close(slot, reason, 0),
        }
    }

    fn take_frames(&mut self, slot: u32, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), CloseReason> {
        let own = handle(self.id, slot, &self.slab);
        let (now, limits) = (self.time.now(), self.options.inbound);
        let body_bytes_max = self.options.frame_body_bytes_max;
        let (mut rest, mut heartbeats) = (bytes, 0);
        loop {
            let Some(connection) = self.slab.at(slot) else { return Ok(()) };
            let app = connection.app;
            let Connection { conversation, rate, .. } = connection;
            let has_rights = matches!(conversation, Conversation::Topics(_));
            let Some(session) = conversation.native() else { return Ok(()) };
            let client = session.client();
            let Some(from) = session.receive(&mut rest, body_bytes_max, out)? else { break };
            if charge(rate, &from, now, &limits)? == Ping::Early {
                ShardStats::count(&self.stats.own().heartbeats_early, 1);
            }
            match from {
                FromDevice::Heartbeat => heartbeats += 1,
                FromDevice::Answered => {}
                FromDevice::HeartbeatChanged => {
                    let due_s = connection.deadline(&self.limits).0;
                    self.wheel.pull_in(&mut self.slab, slot, due_s);
                }
                FromDevice::Upstream(message) if self.stats.0.pressure.level() >= Level::Overloaded => {
                    let (client_message, outcome) = (message.client_message, ResultCode::Busy);
                    let answer = UpAck { client_message, outcome };
                    ServerFrame::UpAck(answer).encode(client, out);
                    ShardStats::count(&self.stats.own().upstream_shed, 1);
                }
                FromDevice::Upstream(message) => {
                    let event = Event::Upstream(Box::new(copied(message, own, client, app)));
                    self.outlet.tell(event);
                }
                FromDevice::Acked(ack) => {
                    self.scratch.ids.clear();
                    self.scratch.ids.extend(ack.ids());
                    let kind = ack.kind;
                    self.acked(slot, kind);
                }
                FromDevice::Own { request, what } => {
                    let from = topics::From { handle: own, client, app };
                    self.outlet.tell(own_asked(from, request, &what));
                }
                about_topics if has_rights => {
                    let asked = Asked::of(&about_topics, (app, client), (self.wall)())?;
                    self.topic_asked(slot, asked, out);
                }
                about_topics => {
                    let mut held = Vec::new();
                    frame_of(&about_topics).encode(client, &mut held);
                    held.extend_from_slice(rest);
                    self.await_rights(slot, held);
                    break;
                }
            }
        }
        if heartbeats > 0 {
            self.record_heartbeats(heartbeats);
        }
        Ok(())
    }

    /// The ids in the scratch were acked.
    fn acked(&mut self, slot: u32, kind: AckKind) {
        let from = handle(self.id, slot, &self.slab);
        let (now_s, now) = (self.time.now_s(), (self.wall)());
        let Some(connection) = self.slab.at(slot) else { return };
        let (app, shared) = (connection.app, connection.flags.shared);
        let Some(session) = connection.conversation.native() else { return };
        let client = session.client();
        for message in self.scratch.ids.drain(..) {
            if kind != AckKind::Received {
                self.outlet.tell(Event::Feedback { client, app, message, kind });
                continue;
            }
            let oldest = session.deliveries().unacked().next();
            let message = match oldest {
                Some(oldest) if planted(Planted::AckEndsOldest) => oldest.message,
                _ => message,
            };
            let Some(settled) = session.deliveries().settle(message) else {
                ShardStats::count(&self.stats.own().stray_acks, 1);
                continue;
            };
            ShardStats::count(&self.stats.own().acked, 1);
            self.outlet.tell(Event::Settled {
                from,
                client,
                app,
                source: settled.source,
                position: settled.position,
                message,
                end: end_of_delivery(&settled),
                shared,
                sent: sent_at(now, &settled),
            });
        }
        let others: Vec<Settled> = match planted(Planted::AckEndsAll) {
            true => session.deliveries().unacked().collect(),
            false => Vec::new(),
        };
        for other in others {
            session.deliveries().settle(other.message);
            let end = end_of_delivery(&other);
            let Settled { source, position, message, .. } = other;
            self.outlet.tell(Event::Settled {
                from,
                client,
                app,
                source,
                position,
                message,
                end,
                shared,
                sent: WallMs(0),
            });
        }
        connection.window_s = now_s;
        connection.flags.waits_for_ack =
            connection.live().is_some_and(|session| session.deliveries().has_unacked());
    }
}

/// What came is counted against what the device may send: acks of receipt cost their bytes only, for they answer us.
fn charge(
    rate: &mut InboundRate,
    from: &FromDevice<'_>,
    now: Millis,
    limits: &InboundLimits,
) -> Result<Ping, CloseReason> {
    match from {
        FromDevice::Heartbeat => {
            let ping = rate.ping(now, limits);
            return if ping == Ping::Flood { Err(CloseReason::PingRate) } else { Ok(ping) };
        }
        FromDevice::Acked(ack) if ack.kind == AckKind::Received => {}
        FromDevice::Upstream(message) => rate.message(message.payload.len(), limits),
        FromDevice::Publish(message) => rate.message(message.payload.len(), limits),
        FromDevice::HeartbeatChanged
        | FromDevice::Answered
        | FromDevice::Subscribe { .. }
        | FromDevice::Unsubscribe { .. }
        | FromDevice::Own { .. }
        | FromDevice::Acked(_) => rate.message(0, limits),
    }
    if rate.pace(now, limits) == Pace::FarAhead { Err(CloseReason::InboundRate) } else { Ok(Ping::Due) }
}

/// A message for the business, out of the bytes that were read; the session has bounded it.
fn copied(message: wire::Upstream<'_>, from: Handle, client: ClientId, app: AppId) -> Upstream {
    Upstream {
        from,
        client,
        app,
        client_message: message.client_message,
        durable: message.mode == 1,
        kind: message.kind.into(),
        to_device: !message.to.is_empty(),
        payload: Bytes::copy_from_slice(message.payload),
    }
}
