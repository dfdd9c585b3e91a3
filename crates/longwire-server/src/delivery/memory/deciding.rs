//! Logins of one shard between their event and the shard's knowing of the answer.
//!
//! A connection may end while its login is decided. Its `Closed` then names no device, so the hub remembers which device
//! the handle asked for. After the decision it remembers for a while more: the connection may have ended just before the
//! answer reached the shard.

use crate::delivery::border::Handle;
use crate::domain::{AppId, ClientId};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};

/// Decided logins remembered per shard (24 bytes each). One that is forgotten too early leaves an entry in the session
/// table that names nothing: deliveries to it stay in the store, and the device's next login replaces it.
const DECIDED_MAX: usize = 8192;

/// A device and its app.
type Asked = (ClientId, AppId);

#[derive(Default)]
struct Inner {
    undecided: HashMap<Handle, Asked>,
    decided: VecDeque<(Handle, Asked)>,
}

/// See the module. `undecided` is bounded by the queue of reads.
#[derive(Default)]
pub(crate) struct Deciding {
    inner: Mutex<Inner>,
}

impl Deciding {
    /// The login is about to be decided.
    pub(crate) fn begin(&self, handle: Handle, asked: Asked) {
        self.inner.lock().undecided.insert(handle, asked);
    }

    /// The device of a login under way is known now. False: its connection is gone already.
    pub(crate) fn named(&self, handle: Handle, asked: Asked) -> bool {
        match self.inner.lock().undecided.get_mut(&handle) {
            Some(entry) => {
                *entry = asked;
                true
            }
            None => false,
        }
    }

    /// The login is decided. False: its connection is gone already.
    pub(crate) fn decide(&self, handle: Handle) -> bool {
        let mut inner = self.inner.lock();
        let Some(asked) = inner.undecided.remove(&handle) else { return false };
        if inner.decided.len() == DECIDED_MAX {
            inner.decided.pop_front();
        }
        inner.decided.push_back((handle, asked));
        true
    }

    /// The connection ended without having been attached; returns the device that it asked for.
    pub(crate) fn ended(&self, handle: Handle) -> Option<Asked> {
        let mut inner = self.inner.lock();
        if let Some(asked) = inner.undecided.remove(&handle) {
            return Some(asked);
        }
        inner.decided.iter().rev().find(|(decided, _)| *decided == handle).map(|(_, asked)| *asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::border::ShardId;

    #[test]
    fn a_connection_that_ends_before_or_just_after_its_decision_is_known() {
        let deciding = Deciding::default();
        let handle = |slot| Handle::new(ShardId(0), slot, 1);
        deciding.begin(handle(1), (ClientId(11), AppId(1)));
        deciding.begin(handle(2), (ClientId(22), AppId(2)));
        assert_eq!(deciding.ended(handle(1)), Some((ClientId(11), AppId(1))));
        assert!(!deciding.decide(handle(1)));
        assert!(deciding.decide(handle(2)));
        assert_eq!(deciding.ended(handle(2)), Some((ClientId(22), AppId(2))));
        assert_eq!(deciding.ended(handle(3)), None);
        deciding.begin(handle(4), (ClientId(0), AppId(1)));
        assert!(deciding.named(handle(4), (ClientId(44), AppId(1))));
        assert_eq!(deciding.ended(handle(4)), Some((ClientId(44), AppId(1))));
        assert!(!deciding.named(handle(4), (ClientId(44), AppId(1))));
    }

    #[test]
    fn what_is_remembered_of_decided_logins_is_bounded() {
        let deciding = Deciding::default();
        for slot in 0..(DECIDED_MAX as u32 + 10) {
            let handle = Handle::new(ShardId(0), slot, 1);
            deciding.begin(handle, (ClientId(u64::from(slot)), AppId(1)));
            deciding.decide(handle);
        }
        let inner = deciding.inner.lock();
        assert_eq!((inner.undecided.len(), inner.decided.len()), (0, DECIDED_MAX));
    }
}
