//! Whether anybody may want a topic, told by a few counters that every publisher reads without a lock.
//!
//! Filters are counted by the hash of their text, those with wildcards by the hash of what stands before the first one. So
//! the answer may be yes in vain, never no in vain.

use super::super::AppId;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Counters of exact filters, 4 bytes each; a power of two. With as many filters as counters, a topic that nobody wants
/// is taken for wanted in 63 of 100 cases, with a tenth of them in 10.
const EXACT: usize = 1 << 16;
/// Counters of filters with wildcards, by their first level.
const WILD: usize = 1 << 12;

/// The hash that the tables of one process share.
#[derive(Clone, Default, Debug)]
pub struct InterestHash(Arc<RandomState>);

/// One table: what the subscribers of one shard, or of the hub, want. 272 KiB.
#[derive(Debug)]
pub struct Interest {
    hash: InterestHash,
    exact: Box<[AtomicU32]>,
    wild: Box<[AtomicU32]>,
}

/// The tables of a process. Publishers read them, each owner writes its own.
#[derive(Debug)]
pub struct Interests {
    /// One for each shard: live subscriptions of its connections.
    pub shards: Box<[Arc<Interest>]>,
    /// Whom the hub serves: subscriptions of kept sessions, shared groups.
    pub hub: Arc<Interest>,
}

/// The counters of one topic.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    exact: usize,
    first: usize,
    any: usize,
}

impl Interests {
    /// Empty tables.
    #[must_use]
    pub fn new(shards: usize) -> Interests {
        let hash = InterestHash::default();
        let table = |_| Arc::new(Interest::new(hash.clone()));
        Interests { shards: (0..shards).map(table).collect(), hub: table(0) }
    }
}

impl Interest {
    /// An empty table.
    #[must_use]
    pub fn new(hash: InterestHash) -> Interest {
        let counters = |count| (0..count).map(|_| AtomicU32::new(0)).collect();
        Interest { hash, exact: counters(EXACT), wild: counters(WILD) }
    }

    /// Counts a filter in. What is published from now on finds it.
    pub fn add(&self, app: AppId, filter: &str) {
        self.counter(app, filter).fetch_add(1, SeqCst);
    }

    /// Counts a filter out that was counted in.
    pub fn remove(&self, app: AppId, filter: &str) {
        self.counter(app, filter).fetch_sub(1, SeqCst);
    }

    /// Whether a filter that was counted in may match `topic`.
    #[must_use]
    pub fn may_match(&self, app: AppId, topic: &str) -> bool {
        self.may_match_at(&self.places(app, topic))
    }

    /// Where a topic is counted; the same in every table of the process, so that one publish hashes once.
    #[must_use]
    pub fn places(&self, app: AppId, topic: &str) -> Places {
        let first = topic.split('/').next().unwrap_or(topic);
        Places {
            exact: self.place(app, topic, EXACT),
            first: self.place(app, first, WILD),
            any: self.place(app, "+", WILD),
        }
    }

    /// [`may_match`](Self::may_match) of a topic whose places are known.
    #[must_use]
    pub fn may_match_at(&self, places: &Places) -> bool {
        self.exact[places.exact].load(SeqCst) > 0
            || self.wild[places.first].load(SeqCst) > 0
            || self.wild[places.any].load(SeqCst) > 0
    }

    fn counter(&self, app: AppId, filter: &str) -> &AtomicU32 {
        let mut levels = filter.split('/');
        let is_wild = filter.bytes().any(|byte| matches!(byte, b'+' | b'#'));
        if !is_wild {
            return &self.exact[self.place(app, filter, EXACT)];
        }
        // A filter that begins with a wildcard is under the one key that every topic looks at.
        let first = levels.next().filter(|first| !matches!(*first, "+" | "#")).unwrap_or("+");
        &self.wild[self.place(app, first, WILD)]
    }

    fn place(&self, app: AppId, text: &str, counters: usize) -> usize {
        self.hash.0.hash_one((app.0, text)) as usize % counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_in_is_found_until_it_is_counted_out() {
        let interest = Interest::new(InterestHash::default());
        let (app, other) = (AppId(1), AppId(2));
        for (filter, topic) in [("a/b", "a/b"), ("a/+/c", "a/x/c"), ("#", "q"), ("+/x", "y/x"), ("/#", "/")] {
            assert!(!interest.may_match(app, topic), "{topic}");
            interest.add(app, filter);
            assert!(interest.may_match(app, topic), "{filter} {topic}");
            assert!(!interest.may_match(other, topic), "{filter} {topic}");
            interest.remove(app, filter);
            assert!(!interest.may_match(app, topic), "{topic}");
        }
    }
}
