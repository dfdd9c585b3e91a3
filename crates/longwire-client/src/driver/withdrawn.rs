//! Messages that are recalled or replaced while the application has not taken them: it is not shown them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use longwire_proto::id::MessageId;

/// Ids that are remembered, as many as a queue between driver and application may hold and more; the oldest makes room.
const WITHDRAWN_MAX: usize = 1024;

/// Shared by the driver, which adds, and the device, which asks before it shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Withdrawn(Arc<Mutex<VecDeque<MessageId>>>);

impl Withdrawn {
    /// This message is not to be shown any more.
    pub(crate) fn add(&self, message: MessageId) {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ids.contains(&message) {
            return;
        }
        if ids.len() >= WITHDRAWN_MAX {
            ids.pop_front();
        }
        ids.push_back(message);
    }

    /// Whether it is not to be shown.
    pub(crate) fn holds(&self, message: MessageId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&message)
    }
}
