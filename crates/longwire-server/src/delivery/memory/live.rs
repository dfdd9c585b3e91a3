//! What became of recent messages on live connections, since this process started.

use crate::delivery::stats::HubStats;
use crate::domain::{AppId, Kind, MessageId, TraceId, WallMs};
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Messages of which counts are kept (about 120 bytes each); beyond it the oldest is forgotten and counted.
pub(crate) const MESSAGES_MAX: usize = 65_536;

/// What is kept of a message that no store has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct OnlineOnly {
    pub(crate) app: AppId,
    pub(crate) kind: Kind,
    pub(crate) trace: TraceId,
    pub(crate) accepted_at: WallMs,
}

/// The counts of one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LiveCounts {
    /// Given to sockets or outboxes.
    pub(crate) sent: u64,
    /// Sent and neither acked nor gone with their connection. Below zero for a moment when an ack is told before the
    /// sending that it answers.
    pub(crate) in_flight: i64,
    /// Online-only deliveries dropped at a full outbox.
    pub(crate) dropped: u64,
    /// Set for a message that was never stored.
    pub(crate) online_only: Option<Box<OnlineOnly>>,
}

#[derive(Default)]
struct Inner {
    counts: HashMap<MessageId, LiveCounts>,
    age: VecDeque<MessageId>,
}

/// The counts.
pub(crate) struct Live {
    inner: Mutex<Inner>,
    max: usize,
    stats: Arc<HubStats>,
}

/// A change that a shard told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// Deliveries went out or were dropped.
    Sent { message: MessageId, sent: u32, dropped: u32 },
    /// A delivery is no longer in the window of a live connection.
    Landed(MessageId),
}

impl Live {
    pub(crate) fn new(max: usize, stats: Arc<HubStats>) -> Live {
        Live { inner: Mutex::default(), max, stats }
    }

    /// Keeps what is known of an online-only message; before it is handed to a shard.
    pub(crate) fn begin(&self, message: MessageId, kept: OnlineOnly) {
        let mut inner = self.inner.lock();
        self.entry(&mut inner, message).online_only = Some(Box::new(kept));
    }

    /// Takes over the changes of one batch of events, under one lock.
    pub(crate) fn apply(&self, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        for change in changes {
            match *change {
                Change::Sent { message, sent, dropped } => {
                    let counts = self.entry(&mut inner, message);
                    counts.sent += u64::from(sent);
                    counts.dropped += u64::from(dropped);
                    // An online-only delivery is never acked, so it is over when it is sent.
                    if counts.online_only.is_none() {
                        counts.in_flight += i64::from(sent);
                    }
                }
                Change::Landed(message) => self.entry(&mut inner, message).in_flight -= 1,
            }
        }
    }

    /// The counts of a message.
    pub(crate) fn of(&self, message: MessageId) -> LiveCounts {
        self.inner.lock().counts.get(&message).cloned().unwrap_or_default()
    }

    /// Messages with deliveries in live windows, and how many each has.
    pub(crate) fn in_flight(&self) -> Vec<(MessageId, u64)> {
        let inner = self.inner.lock();
        let moving = inner.counts.iter().filter(|(_, counts)| counts.in_flight > 0);
        moving.map(|(message, counts)| (*message, counts.in_flight.unsigned_abs())).collect()
    }

    /// Messages of which counts are kept, and deliveries in flight of all.
    pub(crate) fn census(&self) -> (u64, u64) {
        let inner = self.inner.lock();
        let in_flight: i64 = inner.counts.values().map(|counts| counts.in_flight).sum();
        (inner.counts.len() as u64, u64::try_from(in_flight).unwrap_or(0))
    }

    fn entry<'a>(&self, inner: &'a mut Inner, message: MessageId) -> &'a mut LiveCounts {
        let Inner { counts, age } = inner;
        if !counts.contains_key(&message) {
            if age.len() >= self.max
                && let Some(oldest) = age.pop_front()
            {
                counts.remove(&oldest);
                self.stats.live_forgotten.fetch_add(1, Relaxed);
            }
            age.push_back(message);
        }
        counts.entry(message).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: MessageId = MessageId(1);

    #[test]
    fn an_ack_told_before_its_sending_leaves_nothing_in_flight() {
        let live = Live::new(8, Arc::default());
        live.apply(&[Change::Landed(M), Change::Sent { message: M, sent: 2, dropped: 0 }]);
        assert_eq!((live.of(M).sent, live.of(M).in_flight), (2, 1));
        live.apply(&[Change::Landed(M)]);
        assert_eq!(live.of(M).in_flight, 0);
    }

    #[test]
    fn an_online_only_message_is_never_in_flight() {
        let live = Live::new(8, Arc::default());
        let kept = OnlineOnly { app: AppId(1), kind: Kind::Text, trace: TraceId(0), accepted_at: WallMs(3) };
        live.begin(M, kept);
        live.apply(&[Change::Sent { message: M, sent: 5, dropped: 2 }]);
        let counts = live.of(M);
        assert_eq!((counts.sent, counts.in_flight, counts.dropped), (5, 0, 2));
        assert_eq!(counts.online_only.as_deref(), Some(&kept));
    }

    #[test]
    fn the_oldest_message_is_forgotten_at_the_bound_and_counted() {
        let stats: Arc<HubStats> = Arc::default();
        let live = Live::new(2, stats.clone());
        for id in 1..=3 {
            live.apply(&[Change::Sent { message: MessageId(id), sent: 1, dropped: 0 }]);
        }
        assert_eq!(live.of(MessageId(1)), LiveCounts::default());
        assert_eq!(live.of(MessageId(3)).sent, 1);
        assert_eq!(stats.live_forgotten.load(Relaxed), 1);
    }
}
