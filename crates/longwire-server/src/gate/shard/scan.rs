//! Looks at every connection. A slow one, a part of the slots each second, finds how many are zombies: logged in, silent for
//! more than two heartbeats and 20 s, and not yet closed (004-29). A quick one, only while the node is overloaded, finds who
//! holds most outbound bytes.

use super::Shard;
use crate::gate::admission::Rejection;
use crate::gate::connection::Conversation;
use crate::gate::pressure::Level;
use longwire_proto::close::CloseReason;
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

    /// While the node is overloaded, once a second: closes the hundredth part of the connections that have an outbox, those
    /// that hold most.
    pub(super) fn shed_heaviest(&mut self) {
        if self.stats.0.pressure.level() < Level::Overloaded {
            return;
        }
        let mut holders: Vec<(usize, u32)> = (0..self.slab.end())
            .filter_map(|slot| {
                let bytes = self.slab.at(slot)?.outbox_bytes();
                (bytes > 0).then_some((bytes, slot))
            })
            .collect();
        holders.sort_unstable_by(|one, other| other.cmp(one));
        holders.truncate(holders.len().div_ceil(100));
        for (_, slot) in holders {
            let retry_after_s = self.door.admission.retry_after_s(Rejection::Pressure);
            self.close(slot, CloseReason::Shed, retry_after_s);
        }
    }
}
