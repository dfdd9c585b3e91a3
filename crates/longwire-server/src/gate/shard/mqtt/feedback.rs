//! What a client says of a push that it has: a publish to `$ack/{displayed|clicked|dismissed}` with the message's id, 32
//! hexadecimal digits, as its content. It goes to nobody else.

use super::super::Shard;
use crate::delivery::border::Event;
use crate::delivery::border::topics::From;
use crate::domain::MessageId;
use crate::gate::connection::Connection;
use crate::gate::stats::ShardStats;
use longwire_proto::session::mqtt::Ending;
use longwire_proto::wire::AckKind;
use longwire_proto::wire::mqtt::{Reason, Version};

/// Topics under this are words about pushes.
const FEEDBACK: &str = "$ack/";

/// A word, or what is wrong with it.
pub(super) type Word = Result<(AckKind, MessageId), Reason>;

/// What a publish says of a push; `None`: it is another publish.
pub(super) fn word(topic: &str, content: &[u8]) -> Option<Word> {
    let kind = match topic.strip_prefix(FEEDBACK)? {
        "displayed" => AckKind::Displayed,
        "clicked" => AckKind::Clicked,
        "dismissed" => AckKind::Dismissed,
        _ => return Some(Err(Reason::TopicNameInvalid)),
    };
    let message = std::str::from_utf8(content).ok().and_then(MessageId::parse);
    Some(message.map(|message| (kind, message)).ok_or(Reason::PayloadFormatInvalid))
}

impl Shard {
    /// Passes a word on. One that says nothing is counted, and refused where the client's protocol can say so without closing.
    pub(super) fn feedback(
        &mut self,
        slot: u32,
        from: From,
        packet_id: u16,
        word: Word,
        out: &mut Vec<u8>,
    ) -> Result<(), Ending> {
        let reason = match word {
            Ok((kind, message)) => {
                let From { client, app, .. } = from;
                self.outlet.tell(Event::Feedback { client, app, message, kind });
                Reason::Success
            }
            Err(reason) => {
                ShardStats::count(&self.stats.own().feedback_bad, 1);
                let connection = self.slab.at(slot).and_then(Connection::mqtt);
                let can_say = connection.is_some_and(|live| live.session.terms().version == Version::V5);
                if can_say { reason } else { Reason::Success }
            }
        };
        self.answer_publish(slot, packet_id, reason, out)
    }
}
