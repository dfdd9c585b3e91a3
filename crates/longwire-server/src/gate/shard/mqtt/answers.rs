//! What the hub says about topics. A command for a connection that is gone is counted and forgotten.

use super::super::Shard;
use crate::delivery::border::topics::{
    PublishOutcome, RetainedCopy, SubscribeOutcome, TopicCommand, TopicMessage,
};
use crate::gate::connection::{Connection, Queued, Unanswered};
use longwire_proto::session::mqtt::Ending;
use longwire_proto::wire::mqtt::{QoS, Reason};
use std::sync::Arc;

impl Shard {
    pub(in super::super) fn topic_command(&mut self, command: TopicCommand) {
        let slot = match command.to() {
            Some(to) => match self.find(to) {
                Some(slot) => slot,
                None => return,
            },
            None => 0,
        };
        let mut out = std::mem::take(&mut self.scratch.reply);
        out.clear();
        let mut retained = Vec::new();
        let done = match command {
            TopicCommand::Publish(message) => {
                self.topic_published(&message);
                Ok(())
            }
            TopicCommand::Published { packet_id, outcome, .. } => {
                let answered = self.answer_publish(slot, packet_id, reason_of(outcome), &mut out);
                self.read_on(slot);
                answered
            }
            TopicCommand::Answered { packet_id, subscribed, outcomes, retained: copies, .. } => {
                retained = self.answered(slot, (packet_id, subscribed), &outcomes, copies, &mut out);
                Ok(())
            }
            TopicCommand::Released { packet_id, .. } => {
                if let Some(live) = self.slab.at(slot).and_then(Connection::mqtt) {
                    live.session.released(packet_id, &mut out);
                }
                Ok(())
            }
            TopicCommand::Recorded { source, position, .. } => {
                if let Some(live) = self.slab.at(slot).and_then(Connection::mqtt) {
                    live.session.recorded(source, position, &mut out);
                }
                Ok(())
            }
            TopicCommand::Rights { rights, .. } => {
                self.scratch.reply = out;
                return self.rights_came(slot, rights);
            }
            TopicCommand::Deliver { message, qos, identifier, number, .. } => {
                self.give(slot, queued(message, qos, identifier, number));
                Ok(())
            }
        };
        self.scratch.reply = out;
        self.reply(slot);
        for RetainedCopy { message, qos, identifier } in retained {
            self.give(slot, Queued { retain: true, ..queued(message, qos, identifier, 0) });
        }
        if let Err(Ending { reason, close }) = done {
            self.end(slot, close, 0, Some(reason));
        }
    }

    /// A message of the client was decided: it may be read again.
    pub(in super::super) fn read_on(&mut self, slot: u32) {
        let Some(connection) = self.slab.at(slot).filter(|connection| connection.flags.unread) else {
            return;
        };
        if connection.mqtt().is_some_and(|live| !live.session.is_full()) {
            self.list(slot);
        }
    }

    /// SUBACK or UNSUBACK, now that the hub has decided what it decides. What is left to be sent of what is retained: not what
    /// the hub found before a newer message on its topic passed here, for the older one would come last (MQTT-4.6.0-5).
    fn answered(
        &mut self,
        slot: u32,
        (packet_id, subscribed): (u16, bool),
        outcomes: &[SubscribeOutcome],
        mut retained: Vec<RetainedCopy>,
        out: &mut Vec<u8>,
    ) -> Vec<RetainedCopy> {
        let Some(unanswered) = self.take_unanswered(slot, packet_id, subscribed) else { return vec![] };
        let Unanswered { mut reasons, asked, passed, .. } = unanswered;
        retained.retain(|copy| !passed.has(copy.message.shared.topic()));
        for ((index, filter), outcome) in asked.iter().zip(outcomes) {
            let failed = match outcome {
                SubscribeOutcome::Done if subscribed => {
                    self.stored_from_now(slot, filter);
                    continue;
                }
                SubscribeOutcome::Done => continue,
                SubscribeOutcome::NotThere => Reason::NoSubscriptionExisted,
                SubscribeOutcome::Quota => Reason::QuotaExceeded,
                SubscribeOutcome::Unavailable => Reason::ImplementationSpecific,
            };
            if let Some(reason) = reasons.get_mut(usize::from(*index)) {
                *reason = failed;
            }
            if subscribed {
                self.unsubscribe_one(slot, filter);
            }
        }
        self.say_subscribed(slot, packet_id, subscribed, &reasons, out);
        retained
    }

    fn take_unanswered(&mut self, slot: u32, packet_id: u16, subscribed: bool) -> Option<Unanswered> {
        let live = self.slab.at(slot)?.topical()?;
        let waiting = &mut live.burden.as_mut()?.unanswered;
        let is_meant = |one: &Unanswered| one.packet_id == packet_id && one.subscribed == subscribed;
        let answered = waiting.remove(waiting.iter().position(is_meant)?);
        // Most sessions subscribe once and are idle from then on.
        if waiting.is_empty() {
            waiting.shrink_to_fit();
            live.unburden();
        }
        Some(answered)
    }
}

fn queued(message: Arc<TopicMessage>, qos: u8, identifier: u32, number: u64) -> Queued {
    let qos = QoS::from_bits(qos.min(message.qos)).unwrap_or(QoS::AtMostOnce);
    let identifiers = [identifier].into_iter().filter(|identifier| *identifier != 0).collect();
    Queued { message, qos, retain: false, identifiers, number }
}

fn reason_of(outcome: PublishOutcome) -> Reason {
    match outcome {
        PublishOutcome::Taken => Reason::Success,
        PublishOutcome::Nobody => Reason::NoMatchingSubscribers,
        PublishOutcome::Quota => Reason::QuotaExceeded,
        PublishOutcome::Unavailable => Reason::ImplementationSpecific,
        PublishOutcome::NotAllowed => Reason::NotAuthorized,
    }
}
