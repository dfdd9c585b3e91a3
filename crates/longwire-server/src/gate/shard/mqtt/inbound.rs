//! Packets of clients that are logged in.

use super::super::Shard;
use super::super::inbound::{end_of_delivery, sent_at};
use super::super::own::own_of;
use super::feedback;
use super::publish::taken;
use super::subscribe::{Wanted, filters_of, wanted_of};
use crate::delivery::border::Event;
use crate::delivery::border::own::OwnTopic;
use crate::delivery::border::topics::{From, TopicEvent, TopicMessage};
use crate::domain::topic::Act;
use crate::gate::connection::{Connection, Conversation, MqttLive};
use crate::gate::stats::{ShardStats, TopicDrop};
use bytes::Bytes;
use longwire_proto::close::CloseReason;
use longwire_proto::session::mqtt::{Ending, FromClient};
use longwire_proto::session::{InboundLimits, InboundRate, Millis, Pace, Ping, Settled};
use longwire_proto::wire::mqtt::{Limits, Packet, Reason};
use std::sync::Arc;

/// What a packet asks of others than its session, in a form that borrows nothing.
enum Step {
    /// The input is used up.
    End,
    Nothing,
    Ping,
    Publish {
        message: Arc<TopicMessage>,
        packet_id: u16,
    },
    /// A rule refuses it.
    Refused {
        packet_id: u16,
    },
    /// It changes the device itself, or is no way to do that.
    Own {
        asked: Result<(OwnTopic, Bytes), Reason>,
        packet_id: u16,
    },
    /// A word about a push.
    Feedback {
        packet_id: u16,
        word: feedback::Word,
    },
    Subscribe {
        packet_id: u16,
        wanted: Vec<Wanted>,
    },
    Unsubscribe {
        packet_id: u16,
        filters: Vec<Box<str>>,
    },
    Settled(Settled),
    Finished {
        number: u64,
    },
    Tell(TopicEvent),
    Stray,
    Disconnect {
        with_will: bool,
        expiry_s: Option<u32>,
    },
}

impl Shard {
    /// Takes packets out of bytes of a client that is logged in.
    ///
    /// # Errors
    /// What to end its connection with.
    pub(in super::super) fn received_packets(&mut self, slot: u32, bytes: &[u8]) -> Result<(), Ending> {
        let mut out = std::mem::take(&mut self.scratch.reply);
        out.clear();
        let taken = self.take_packets(slot, bytes, &mut out);
        self.scratch.reply = out;
        self.reply(slot);
        if let Some(live) = self.slab.at(slot).and_then(Connection::mqtt) {
            live.assembler.release();
        }
        if taken.is_ok() {
            self.pull(slot);
        }
        taken
    }

    fn take_packets(&mut self, slot: u32, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Ending> {
        let (now, rates) = (self.time.now(), self.options.inbound);
        let limits = self.packet_limits();
        if let Some(connection) = self.slab.at(slot) {
            connection.rate.bytes(now, bytes.len(), &rates);
        }
        let (mut input, mut heartbeats) = (bytes, 0);
        loop {
            let Some(from) = self.from(slot) else { return Ok(()) };
            match self.next_step(slot, &mut input, &limits, (now, &rates), from, out)? {
                Step::End => break,
                Step::Nothing => {}
                Step::Ping => heartbeats += 1,
                Step::Publish { message, packet_id } => self.publish(slot, from, message, packet_id, out)?,
                Step::Own { asked: Ok((topic, json)), packet_id } => {
                    self.own_published(slot, topic, json, packet_id);
                }
                Step::Own { asked: Err(reason), packet_id } => {
                    self.drop_topic(TopicDrop::NotAllowed, 1);
                    self.answer_publish(slot, packet_id, reason, out)?;
                }
                Step::Feedback { packet_id, word } => self.feedback(slot, from, packet_id, word, out)?,
                Step::Refused { packet_id } => self.refuse_publish(slot, packet_id, out)?,
                Step::Subscribe { packet_id, wanted } => self.subscribe(slot, from, packet_id, wanted, out),
                Step::Unsubscribe { packet_id, filters } => {
                    self.unsubscribe(slot, from, packet_id, &filters, out);
                }
                Step::Settled(settled) => self.settled(slot, from, settled),
                Step::Finished { number } => self.finished(slot, from, number),
                Step::Tell(event) => {
                    if let Some(connection) = self.slab.at(slot) {
                        // PUBREC is progress, too.
                        connection.window_s = (now.0 / 1000) as u32;
                    }
                    self.tell_topic(from, event);
                }
                Step::Stray => ShardStats::count(&self.stats.own().stray_acks, 1),
                Step::Disconnect { with_will, expiry_s } => {
                    self.disconnected(slot, from, with_will, expiry_s);
                    return Err(Ending { reason: Reason::Success, close: CloseReason::PeerClosed });
                }
            }
        }
        if heartbeats > 0 {
            self.record_heartbeats(heartbeats);
        }
        Ok(())
    }

    fn next_step(
        &mut self,
        slot: u32,
        input: &mut &[u8],
        limits: &Limits,
        (now, rates): (Millis, &InboundLimits),
        from: From,
        out: &mut Vec<u8>,
    ) -> Result<Step, Ending> {
        let Some(connection) = self.slab.at(slot) else { return Ok(Step::End) };
        let Connection { conversation: Conversation::Mqtt(live), rate, .. } = connection else {
            return Ok(Step::End);
        };
        let decoder = live.session.decoder(limits);
        let MqttLive { assembler, session, .. } = &mut **live;
        let Some(packet) = assembler.next(input, &decoder, false)? else { return Ok(Step::End) };
        if charge(rate, &packet, now, rates)? == Ping::Early {
            ShardStats::count(&self.stats.own().heartbeats_early, 1);
        }
        Ok(match session.receive(packet, out)? {
            FromClient::Ping => Step::Ping,
            FromClient::Publish(incoming) => {
                let packet_id = incoming.packet_id;
                if let Some(asked) = own_of(&incoming) {
                    return Ok(Step::Own { asked, packet_id });
                }
                if let Some(word) = feedback::word(incoming.topic, incoming.content) {
                    return Ok(Step::Feedback { packet_id, word });
                }
                let wall = (self.wall)();
                let message = taken(&incoming, (from.app, from.client), wall, &mut self.scratch.properties)?;
                if live.topical.may(Act::Publish, message.shared.topic()) {
                    Step::Publish { message: Arc::new(message), packet_id }
                } else {
                    Step::Refused { packet_id }
                }
            }
            FromClient::Subscribe(subscribe) => {
                Step::Subscribe { packet_id: subscribe.packet_id, wanted: wanted_of(&subscribe) }
            }
            FromClient::Unsubscribe(unsubscribe) => {
                Step::Unsubscribe { packet_id: unsubscribe.packet_id, filters: filters_of(&unsubscribe) }
            }
            FromClient::Settled(settled) | FromClient::Completed(settled) => Step::Settled(settled),
            FromClient::Received { source, position, message } => {
                Step::Tell(TopicEvent::Received { source, position, message })
            }
            FromClient::Release { packet_id } => Step::Tell(TopicEvent::Release { packet_id }),
            FromClient::Answered => Step::Nothing,
            FromClient::Unstored { number } => Step::Finished { number },
            FromClient::Disconnect { with_will, expiry_s } => Step::Disconnect { with_will, expiry_s },
            FromClient::Stray => Step::Stray,
        })
    }

    /// A stored delivery of this session ended.
    fn settled(&mut self, slot: u32, from: From, settled: Settled) {
        ShardStats::count(&self.stats.own().acked, 1);
        let shared = self.slab.at(slot).is_some_and(|connection| connection.flags.shared);
        let now = (self.wall)();
        self.outlet.tell(Event::Settled {
            from: from.handle,
            client: from.client,
            app: from.app,
            source: settled.source,
            position: settled.position,
            message: settled.message,
            end: end_of_delivery(&settled),
            shared,
            sent: sent_at(now, &settled),
        });
        self.window_moved(slot);
    }

    /// A message that no store holds ended; 0: nobody asks.
    fn finished(&mut self, slot: u32, from: From, number: u64) {
        if number != 0 {
            self.tell_topic(from, TopicEvent::Shared { number, acked: true });
        }
        self.window_moved(slot);
    }

    /// Something left the window: the ack deadline of the rest begins anew.
    fn window_moved(&mut self, slot: u32) {
        let now_s = self.time.now_s();
        if let Some(connection) = self.slab.at(slot) {
            connection.window_s = now_s;
            connection.flags.waits_for_ack = connection
                .mqtt()
                .is_some_and(|live| live.session.deliveries().has_unacked() || live.session.has_unstored());
        }
    }

    /// DISCONNECT: the will stays here, unless it is wanted all the same.
    fn disconnected(&mut self, slot: u32, from: From, with_will: bool, expiry_s: Option<u32>) {
        let Some(live) = self.slab.at(slot).and_then(Connection::mqtt) else { return };
        if !with_will {
            live.will = None;
        }
        if let Some(seconds) = expiry_s.filter(|seconds| *seconds != live.expiry_s) {
            self.tell_topic(from, TopicEvent::Expiry { seconds });
        }
    }
}

/// What came is counted against what the device may send: acks cost their bytes only, for they answer us.
fn charge(
    rate: &mut InboundRate,
    packet: &Packet<'_>,
    now: Millis,
    limits: &InboundLimits,
) -> Result<Ping, Ending> {
    match packet {
        Packet::PingReq => {
            let ping = rate.ping(now, limits);
            return match ping {
                Ping::Flood => Err(too_fast(CloseReason::PingRate)),
                _ => Ok(ping),
            };
        }
        Packet::PubAck(_) | Packet::PubRec(_) | Packet::PubRel(_) | Packet::PubComp(_) => {}
        Packet::Publish(publish) => rate.message(publish.payload.len(), limits),
        _ => rate.message(0, limits),
    }
    match rate.pace(now, limits) {
        Pace::FarAhead => Err(too_fast(CloseReason::InboundRate)),
        _ => Ok(Ping::Due),
    }
}

fn too_fast(close: CloseReason) -> Ending {
    Ending { reason: Reason::MessageRateTooHigh, close }
}
