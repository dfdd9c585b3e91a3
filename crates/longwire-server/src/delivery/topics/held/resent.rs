//! Messages for the business that are sent again: known by the packet identifier that they came with.

use crate::domain::ClientId;
use std::collections::{HashMap, VecDeque};

/// Messages that are remembered; of an older one that comes again, the business gets two (QoS 1).
const REMEMBERED_MAX: usize = 65_536;

/// The last publishes to `$up/…` of QoS 1 and 2, by device and packet identifier.
#[derive(Default)]
pub(in crate::delivery::topics) struct Resent {
    /// What was sent under an identifier, as a hash, and the id that it was stored with.
    known: HashMap<(ClientId, u16), (u64, u64)>,
    /// In the order in which they came.
    order: VecDeque<(ClientId, u16)>,
}

impl Resent {
    /// The id to store a message with: the earlier one if this is the same message marked as a resend, else `fresh`.
    pub(in crate::delivery::topics) fn id(
        &mut self,
        client: ClientId,
        packet_id: u16,
        (dup, hash): (bool, u64),
        fresh: u64,
    ) -> u64 {
        let key = (client, packet_id);
        match self.known.get_mut(&key) {
            Some((known, id)) if dup && *known == hash => *id,
            Some(entry) => {
                *entry = (hash, fresh);
                fresh
            }
            None => {
                if self.order.len() >= REMEMBERED_MAX
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.known.remove(&oldest);
                }
                self.known.insert(key, (hash, fresh));
                self.order.push_back(key);
                fresh
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_message_marked_as_a_resend_is_the_same() {
        let mut resent = Resent::default();
        let client = ClientId(1);
        assert_eq!(resent.id(client, 7, (true, 5), 100), 100, "never seen");
        assert_eq!(resent.id(client, 7, (true, 5), 101), 100);
        assert_eq!(resent.id(client, 7, (true, 6), 102), 102, "another content");
        assert_eq!(resent.id(client, 7, (false, 6), 103), 103, "the identifier is used anew");
        assert_eq!(resent.id(client, 7, (true, 6), 104), 103);
        assert_eq!(resent.id(ClientId(2), 7, (true, 6), 105), 105);
        for number in 10..10 + REMEMBERED_MAX as u64 {
            resent.id(ClientId(number), 1, (false, 0), number);
        }
        assert_eq!(resent.id(client, 7, (true, 6), 106), 106, "forgotten");
        assert_eq!((resent.known.len(), resent.order.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
    }
}
