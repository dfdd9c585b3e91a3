//! Looks at every connection. A slow one, a part of the slots each second, finds how many are zombies: logged in, silent for
//! more than two heartbeats and 20 s, and not yet closed (004-29). Another goes over those whose sockets are full, and tells what each
//! app holds; while the node is overloaded it also finds who holds most.

use super::Shard;
use crate::domain::AppId;
use crate::gate::admission::Rejection;
use crate::gate::pressure::Level;
use crate::gate::stats::AppOutboxes;
use longwire_proto::close::CloseReason;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Seconds in which every slot is looked at once.
const ROUND_S: u32 = 30;
/// Holders of outbound bytes counted in a second.
const HOLDERS_PER_S: usize = 4096;

#[derive(Clone, Copy, Default)]
pub(super) struct Scan {
    next: u32,
    zombies: u64,
}

/// A count of who holds outbound bytes, under way.
#[derive(Default)]
pub(super) struct Census {
    next: u32,
    apps: HashMap<AppId, AppOutboxes>,
    /// What was told last is that nobody holds anything.
    is_told_empty: bool,
}

impl Shard {
    /// Looks at the next part; once a second.
    pub(super) fn scan_some(&mut self) {
        let (end, now_s) = (self.slab.end(), self.time.now_s());
        // A small shard is looked at whole each second.
        let part = (end / ROUND_S).max(1024);
        for slot in self.scan.next..(self.scan.next + part).min(end) {
            let Some(connection) = self.slab.at(slot) else { continue };
            if let Some(heartbeat_s) = connection.heartbeat_s() {
                let silent_s = now_s - connection.read_s;
                self.scan.zombies += u64::from(silent_s > 2 * heartbeat_s + 20);
            }
        }
        self.scan.next += part;
        if self.scan.next >= end {
            self.stats.own().zombies.store(self.scan.zombies, Relaxed);
            self.scan = Scan::default();
        }
    }

    /// Counts what each app's connections hold whose sockets are full; once a second, the next part of them.
    pub(super) fn count_holders(&mut self) {
        let now_s = self.time.now_s();
        if self.holders.is_empty() && self.census.is_told_empty {
            return;
        }
        let mut slots = self.holders.iter();
        slots.advance_to(self.census.next);
        for _ in 0..HOLDERS_PER_S {
            let Some(slot) = slots.next() else {
                let held: Vec<AppOutboxes> = self.census.apps.drain().map(|(_, held)| held).collect();
                self.census.is_told_empty = held.is_empty();
                self.census.next = 0;
                self.stats.own().outboxes.store(Arc::new(held));
                return;
            };
            self.census.next = slot + 1;
            let Some(connection) = self.slab.at(slot) else { continue };
            let (app, drained_s) = (connection.app, connection.drained_s);
            let Some(outbox) = &connection.outbox else { continue };
            let since_s = outbox.standing.map_or(now_s, |standing| standing.since_s);
            let (bytes, oldest_s, stalled_s) = (outbox.bytes() as u64, now_s - since_s, now_s - drained_s);
            let held = AppOutboxes { app, connections: 1, bytes, oldest_s, stalled_s };
            self.census.apps.entry(app).or_insert_with(|| AppOutboxes::none(app)).add(&held);
        }
    }

    /// While the node is overloaded, once a second: closes the hundredth part of the connections that have an outbox, those
    /// that hold most.
    pub(super) fn shed_heaviest(&mut self) {
        if self.stats.0.pressure.level() < Level::Overloaded {
            return;
        }
        let slab = &mut self.slab;
        let mut holders: Vec<(usize, u32)> = self
            .holders
            .iter()
            .filter_map(|slot| {
                let bytes = slab.at(slot)?.outbox_bytes();
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]
mod tests {
    use super::super::{Shard, ShardParts};
    use crate::delivery::border::ShardId;
    use crate::domain::WallMs;
    use crate::domain::topic::Interests;
    use crate::gate::admission::{Admission, Meeting};
    use crate::gate::connection::{Connection, Conversation};
    use crate::gate::judge::Judge;
    use crate::gate::queue::ShardQueue;
    use crate::gate::stats::GateStats;
    use crate::gate::{GateOptions, Queues};
    use longwire_proto::close::CloseReason;
    use longwire_proto::id::{ClientId, Position};
    use longwire_proto::session::{AwaitingConnect, FeedStart};
    use std::sync::Arc;
    use std::sync::atomic::Ordering::Relaxed;

    fn shard(stats: &Arc<GateStats>) -> Shard {
        let poll = mio::Poll::new().unwrap();
        let (queue, _events) = ShardQueue::new(&poll, 64, 64).unwrap();
        let parts = ShardParts {
            id: ShardId(0),
            queues: Arc::new(Queues { shards: vec![queue], interests: Arc::new(Interests::new(1)) }),
            stats: stats.clone(),
            clock: Arc::new(|| WallMs(0)),
            admission: Arc::new(Admission::new(&GateOptions::default())),
            options: GateOptions::default(),
            judge: Arc::new(Judge::new()),
        };
        Shard::new(parts, poll)
    }

    /// Logged in with a heartbeat of 60 s; the peer's end.
    fn login(shard: &mut Shard, listener: &std::net::TcpListener, client: u64) -> (u32, std::net::TcpStream) {
        let peer = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        let now_s = shard.time.now_s();
        let address = shard.door.admission.address(listener.local_addr().unwrap().ip());
        let meeting = Meeting { pressed: false, awaiting_crowd: false, now_us: 0 };
        assert!(shard.door.admission.enter(address, meeting).is_ok());
        shard.door.admission.awaits_no_more(address);
        let mut connection = Connection::new(mio::net::TcpStream::from_std(socket), address, now_s);
        let feed = FeedStart { last: Position::START, waiting: false };
        let deciding = AwaitingConnect::default().decide(60);
        connection.conversation = Conversation::Live(deciding.accept(ClientId(client), feed, feed));
        let due_s = connection.deadline(&shard.limits).0;
        let slot = shard.slab.insert(connection).unwrap();
        shard.wheel.insert(&mut shard.slab, slot, due_s);
        shard.stats.own().sessions.fetch_add(1, Relaxed);
        (slot, peer)
    }

    /// Requirement 004-29: a silent peer is a zombie after two heartbeats and 20 s, and none any more when the idle limit has ended it.
    #[tokio::test]
    async fn silent_peers_raise_the_zombie_ratio_and_their_end_lowers_it_to_0() {
        let stats = Arc::new(GateStats::new(1));
        let mut shard = shard(&stats);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let peers: Vec<_> = (1..=4).map(|client| login(&mut shard, &listener, client)).collect();
        let ratio_after = |shard: &mut Shard, seconds: u64| {
            shard.time.counted_ms += seconds * 1000;
            shard.tick();
            stats.zombie_ratio()
        };
        assert_eq!(ratio_after(&mut shard, 140), 0.0, "a late heartbeat is no zombie");
        for (slot, _) in &peers[..3] {
            shard.slab.at(*slot).unwrap().read_s = shard.time.now_s();
        }
        assert_eq!(ratio_after(&mut shard, 1), 0.25);
        assert_eq!(ratio_after(&mut shard, 58), 0.25);
        assert_eq!(ratio_after(&mut shard, 2), 0.0, "closed at three heartbeats and 20 s");
        assert_eq!(stats.shards[0].closed[CloseReason::Idle].load(Relaxed), 1);
        assert_eq!(ratio_after(&mut shard, 80), 1.0, "the other three are silent too");
        assert_eq!(ratio_after(&mut shard, 60), 0.0);
        assert_eq!(stats.shards[0].connections.load(Relaxed), 0);
    }
}
