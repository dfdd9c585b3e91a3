//! What devices change of themselves: to the hub, and its answer back.

use super::Shard;
use crate::delivery::border::own::{
    OWN_JSON_BYTES_MAX, OwnAnswer, OwnChange, OwnOutcome, OwnRequest, OwnTopic, OwnWanted, change_of,
};
use crate::delivery::border::topics::From;
use crate::delivery::border::{Event, Handle, Inspected};
use crate::gate::connection::Connection;
use bytes::Bytes;
use longwire_proto::session::mqtt::{Ending, Incoming};
use longwire_proto::wire::mqtt::Reason;
use longwire_proto::wire::{ResultCode, SelfService, ServerFrame};
use tokio::sync::oneshot;

impl Shard {
    /// An MQTT client asks for a change.
    pub(super) fn own_published(&mut self, slot: u32, topic: OwnTopic, json: Bytes, packet_id: u16) {
        let Some(from) = self.from(slot) else { return };
        let wanted = OwnWanted::Json(topic, json);
        let asked = OwnChange { from, wanted, request: OwnRequest::Mqtt(packet_id) };
        self.outlet.tell(Event::Own(Box::new(asked)));
    }

    /// What became of it.
    pub(super) fn own_answered(&mut self, answer: OwnAnswer) {
        let Some(slot) = self.find(answer.to) else { return };
        let mut out = std::mem::take(&mut self.scratch.reply);
        out.clear();
        let done = match answer.request {
            OwnRequest::Native(request) => {
                if let Some(session) = self.slab.at(slot).and_then(Connection::live) {
                    let code = result_of(answer.outcome);
                    ServerFrame::Result { request, code }.encode(session.client(), &mut out);
                }
                Ok(())
            }
            OwnRequest::Mqtt(packet_id) => {
                self.answer_publish(slot, packet_id, reason_of(answer.outcome), &mut out)
            }
        };
        self.scratch.reply = out;
        self.reply(slot);
        match done {
            Ok(()) => self.read_on(slot),
            Err(Ending { reason, close }) => self.end(slot, close, 0, Some(reason)),
        }
    }

    /// What is to be known of connections.
    pub(super) fn inspect(&mut self, of: Vec<Handle>, reply: oneshot::Sender<Vec<(Handle, Inspected)>>) {
        let now_s = self.time.now_s();
        let mut said = Vec::with_capacity(of.len());
        for handle in of {
            let found = self.slab.find(handle).and_then(|slot| self.slab.at(slot));
            let Some(connection) = found else { continue };
            let inspected = Inspected {
                age_s: now_s.saturating_sub(connection.accepted_s),
                silent_s: now_s.saturating_sub(connection.read_s),
                network: connection.flags.network,
                class: connection.flags.class,
            };
            said.push((handle, inspected));
        }
        // Whoever asked may have stopped waiting.
        let _ = reply.send(said);
    }
}

/// A native device asks for a change.
pub(super) fn own_asked(from: From, request: u32, what: &SelfService<'_>) -> Event {
    let wanted = OwnWanted::Change(change_of(what));
    Event::Own(Box::new(OwnChange { from, wanted, request: OwnRequest::Native(request) }))
}

/// A publish about the client itself. `None`: it is about something else.
///
/// # Errors
/// Why it is refused.
pub(super) fn own_of(incoming: &Incoming<'_>) -> Option<Result<(OwnTopic, Bytes), Reason>> {
    if !incoming.topic.starts_with(OwnTopic::FRONT) {
        return None;
    }
    Some(match OwnTopic::of(incoming.topic) {
        Some(_) if incoming.content.len() > OWN_JSON_BYTES_MAX => Err(Reason::PayloadFormatInvalid),
        Some(topic) => Ok((topic, Bytes::copy_from_slice(incoming.content))),
        None => Err(Reason::NotAuthorized),
    })
}

fn result_of(outcome: OwnOutcome) -> ResultCode {
    match outcome {
        OwnOutcome::Done => ResultCode::Done,
        OwnOutcome::NotAllowed | OwnOutcome::Invalid => ResultCode::NotAllowed,
        OwnOutcome::Quota => ResultCode::Quota,
        OwnOutcome::Busy => ResultCode::Busy,
    }
}

fn reason_of(outcome: OwnOutcome) -> Reason {
    match outcome {
        OwnOutcome::Done => Reason::Success,
        OwnOutcome::NotAllowed => Reason::NotAuthorized,
        OwnOutcome::Invalid => Reason::PayloadFormatInvalid,
        OwnOutcome::Quota => Reason::QuotaExceeded,
        OwnOutcome::Busy => Reason::ImplementationSpecific,
    }
}
