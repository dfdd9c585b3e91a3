//! A slow look at every connection: a part of the slots each second, all of them in a minute. It finds how many are zombies:
//! logged in, silent for more than two heartbeats and 20 s, and not yet closed (004-29).

use super::Shard;
use crate::gate::connection::Conversation;
use std::sync::atomic::Ordering::Relaxed;

/// Seconds in which every slot is looked at once.
const ROUND_S: u32 = 60;

#[derive(Clone, Copy, Default)]
pub(super) struct Scan {
    next: u32,
    zombies: u64,
}

impl Shard {
    /// Looks at the next part; once a second.
    pub(super) fn scan_some(&mut self) {
        let (end, now_s) = (self.slab.end(), self.time.now_s());
        // A small shard is looked at whole each second.
        let part = (end / ROUND_S).max(1024);
        for slot in self.scan.next..(self.scan.next + part).min(end) {
            let Some(connection) = self.slab.at(slot) else { continue };
            if let Conversation::Live(session) = &connection.conversation {
                let silent_s = now_s - connection.read_s;
                self.scan.zombies += u64::from(silent_s > 2 * u32::from(session.heartbeat_s()) + 20);
            }
        }
        self.scan.next += part;
        if self.scan.next >= end {
            self.stats.own().zombies.store(self.scan.zombies, Relaxed);
            self.scan = Scan::default();
        }
    }
}
