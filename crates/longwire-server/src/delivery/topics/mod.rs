//! Topics as the hub serves them: kept sessions, shared groups, retained messages, wills. Live subscribers are the shards'.
//!
//! - `publish`: a message from its topic to mailboxes, groups and what is retained.
//! - `session`: sessions from login to end.
//! - `rights`: what native devices may do.
//! - `turn`: what sessions of a shard want, planned in memory, made durable together, answered in order.
//! - `asked`: what the API, logins and telemetry ask.
//! - `clock`: what time does: expiry, wills, ends to be written.
//! - `held`: what is in memory.
//!
//! Memory changes first, under a lock held for no wait; the work that makes it durable is queued in the same order
//! (`order`), and the answer leaves when it is durable.

mod asked;
mod clock;
mod held;
mod publish;
mod rights;
mod session;
mod turn;

pub use asked::Publication;
pub(super) use clock::{run as run_clock, write_last_ends};
pub use publish::Sent;
pub use session::{SessionStart, SessionWish};
pub(super) use turn::serve;

use crate::domain::WallMs;
use crate::domain::topic::Interests;
use crate::store::messages::MessageStore;
use crate::store::port::StoreError;
use held::groups::Groups;
use held::kept::Kept;
use held::resent::Resent;
use held::retained::RetainedTopics;
use held::wills::Wills;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// Rows read at once when the hub starts.
const LOADED_AT_ONCE: usize = 1024;

/// The labels of [`TopicStats::published`], in order.
pub const PUBLISH_LABELS: [&str; 5] = ["taken", "nobody", "quota", "unavailable", "not_allowed"];

/// What is counted of topics.
#[derive(Debug, Default)]
pub struct TopicStats {
    /// Publishes that came to the hub, by [`PUBLISH_LABELS`].
    pub published: [AtomicU64; 5],
    /// Publishes refused because too many filters or kept sessions met their topic.
    pub too_wide: AtomicU64,
    /// Retained messages that were refused at a bound.
    pub retain_refused: AtomicU64,
    /// Subscriptions that got only the first of the retained messages that they mean.
    pub retained_truncated: AtomicU64,
    /// Wishes of sessions that got no answer because the queue, or their shard's, was full.
    pub unanswered: AtomicU64,
    /// Sessions that were resumed.
    pub sessions_resumed: AtomicU64,
    /// Kept sessions that ended: by their expiry, or because they were not wanted any more.
    pub sessions_ended: AtomicU64,
    /// Wills published.
    pub wills_published: AtomicU64,
    /// Wills that were not published because the session went on.
    pub wills_called_back: AtomicU64,
    /// Wills dropped because too many waited.
    pub wills_dropped: AtomicU64,
    /// Deliveries of shared groups.
    pub shared_sent: AtomicU64,
}

/// What topics hold now.
#[derive(Clone, Copy, Debug, Default)]
pub struct TopicCensus {
    /// Kept sessions, with those that are connected.
    pub sessions: u64,
    /// Their subscriptions.
    pub subscriptions: u64,
    /// Topics with a retained message.
    pub retained: u64,
    /// Bytes of retained messages.
    pub retained_bytes: u64,
    /// Wills that wait.
    pub wills: u64,
    /// Shared groups.
    pub groups: u64,
    /// Their members.
    pub members: u64,
    /// Messages that wait for room with a member.
    pub shared_waiting: u64,
    /// Messages that shared groups dropped so far.
    pub shared_dropped: u64,
}

/// What the hub knows of topics.
pub(super) struct Topics {
    kept: Mutex<Kept>,
    groups: Mutex<Groups>,
    /// Deliveries of shared groups in mailboxes: 0, and nobody needs to look for one.
    mailed: Arc<AtomicU64>,
    retained: Mutex<RetainedTopics>,
    wills: Mutex<Wills>,
    resent: Mutex<Resent>,
    interests: Arc<Interests>,
    /// Held from the change in memory until its work is in the store's queue, so that both have one order.
    order: tokio::sync::Mutex<()>,
    closed: AtomicBool,
    pub(super) stats: TopicStats,
}

impl Topics {
    /// Reads kept sessions and retained messages; before any port opens, so that no publish misses them.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn load(
        store: &MessageStore,
        interests: Arc<Interests>,
        now: WallMs,
        seed: u64,
    ) -> Result<Topics, StoreError> {
        let mut kept = Kept::new(interests.hub.clone());
        let mut after = None;
        loop {
            let read = store.sessions_after(after, LOADED_AT_ONCE).await?;
            let Some(last) = read.last() else { break };
            after = Some(last.client);
            read.into_iter().for_each(|session| kept.load(session, now.0));
        }
        let mut retained = RetainedTopics::default();
        let mut after = None;
        loop {
            let read = store.retained_after(after, LOADED_AT_ONCE).await?;
            let Some(last) = read.last() else { break };
            after = Some((last.app, last.topic.clone()));
            for message in &read {
                if retained.load(message).is_err() {
                    tracing::warn!(
                        app = message.app.0,
                        "a retained message was left out: beyond a bound, or damaged"
                    );
                }
            }
        }
        let groups = Groups::new(interests.hub.clone(), seed);
        Ok(Topics {
            kept: Mutex::new(kept),
            mailed: groups.mailed_count(),
            groups: Mutex::new(groups),
            retained: Mutex::new(retained),
            wills: Mutex::default(),
            resent: Mutex::default(),
            interests,
            order: tokio::sync::Mutex::default(),
            closed: AtomicBool::new(false),
            stats: TopicStats::default(),
        })
    }

    /// From now on time does nothing more here: the store is about to close.
    pub(super) fn close(&self) {
        self.closed.store(true, Relaxed);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    /// What is held now.
    pub(super) fn census(&self) -> TopicCensus {
        let (sessions, subscriptions) = self.kept.lock().census();
        let (retained, retained_bytes) = self.retained.lock().census();
        let (groups, members, shared_waiting, shared_dropped) = self.groups.lock().census();
        let wills = self.wills.lock().len() as u64;
        TopicCensus {
            sessions,
            subscriptions,
            retained,
            retained_bytes,
            wills,
            groups,
            members,
            shared_waiting,
            shared_dropped,
        }
    }
}
