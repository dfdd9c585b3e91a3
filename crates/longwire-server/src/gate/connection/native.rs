//! What a connection of the native protocol holds that has to do with topics. Most have not, and hold nothing.

use super::topical::{Identity, Topical};
use longwire_proto::session::Established;

/// Answers of the hub that one native session may await; a SUBSCRIBE or PUBLISH beyond them is answered *busy*.
const OWED_MAX: usize = 32;

/// A session whose first frame about topics waits for what its device may do.
#[derive(Debug)]
pub(in crate::gate) struct AwaitingRights {
    pub(in crate::gate) session: Established,
    /// That frame, and what was read behind it: at most the rest of one read, for the connection is not read meanwhile.
    pub(in crate::gate) held: Vec<u8>,
}

/// A session that has to do with topics.
#[derive(Debug)]
pub(in crate::gate) struct NativeTopics {
    pub(in crate::gate) session: Established,
    pub(in crate::gate) topical: Topical,
    /// What waits for the hub, by the identifier under which it was asked.
    owed: Vec<(u16, Owed)>,
    last_id: u16,
    /// Its session had subscriptions when it logged in. Those of an MQTT client of QoS 0 are served from here, so that only the hub
    /// knows that they are kept.
    pub(in crate::gate) resumed: bool,
}

// What a native connection that has to do with topics costs beside the record of its slot (docs/mqtt-core.md).
const _: () = assert!(size_of::<NativeTopics>() <= 136);

/// What a device waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::gate) enum Owed {
    /// RESULT of this request.
    Result(u32),
    /// UPACK of this message.
    UpAck(u64),
}

impl NativeTopics {
    pub(in crate::gate) fn new(session: Established, identity: Identity<'_>) -> NativeTopics {
        let topical = Topical::new(identity);
        NativeTopics { session, topical, owed: Vec::new(), last_id: 0, resumed: false }
    }

    /// Notes what is owed, under an identifier that is in use for nothing else. `None`: too much is.
    pub(in crate::gate) fn owe(&mut self, owed: Owed) -> Option<u16> {
        if self.owed.len() >= OWED_MAX {
            return None;
        }
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.owed.iter().any(|(id, _)| *id == self.last_id) {
                break;
            }
        }
        self.owed.push((self.last_id, owed));
        Some(self.last_id)
    }

    /// What was owed under an identifier; it is forgotten.
    pub(in crate::gate) fn pay(&mut self, id: u16) -> Option<Owed> {
        let at = self.owed.iter().position(|(known, _)| *known == id)?;
        let (_, owed) = self.owed.swap_remove(at);
        if self.owed.is_empty() {
            self.owed = Vec::new();
        }
        Some(owed)
    }
}
