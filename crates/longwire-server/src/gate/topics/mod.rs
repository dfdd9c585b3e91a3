//! What the connections of one shard subscribed to, by app.

mod subscribers;

pub(super) use subscribers::{Subscribers, Wish};

use crate::domain::AppId;
use crate::domain::topic::{FilterId, Filters, Interest, TooWide};
use std::collections::HashMap;
use std::sync::Arc;

/// Nodes of the trie that one publish may visit in one shard (THREATS, wildcard explosion).
pub(super) const MATCH_VISITS_MAX: usize = 4096;

/// What went with a subscription.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// Others subscribed to the filter.
    Subscription,
    /// It was the last: the filter's id may name another one from now on.
    Filter,
}

/// The subscriptions of one shard.
pub(super) struct Topics {
    apps: HashMap<AppId, Filters<Subscribers>>,
    /// Read by every publisher, to know whether this shard has to be asked.
    interest: Arc<Interest>,
    subscriptions: u64,
    /// Counts changes.
    revision: u64,
}

impl Topics {
    pub(super) fn new(interest: Arc<Interest>) -> Topics {
        Topics { apps: HashMap::new(), interest, subscriptions: 0, revision: 0 }
    }

    /// Makes or changes a subscription. Returns its filter, and what it was before.
    pub(super) fn subscribe(
        &mut self,
        app: AppId,
        slot: u32,
        filter: &str,
        wish: Wish,
    ) -> (FilterId, Option<Wish>) {
        self.revision += 1;
        let filters = self.apps.entry(app).or_default();
        let id = filters.enter(filter);
        let before = filters.at_mut(id).and_then(|subscribers| subscribers.set(slot, wish));
        if before.is_none() {
            self.interest.add(app, filter);
            self.subscriptions += 1;
        }
        (id, before)
    }

    /// Ends a subscription; `None`: there was none.
    pub(super) fn unsubscribe(&mut self, app: AppId, slot: u32, id: FilterId) -> Option<Ended> {
        let filters = self.apps.get_mut(&app)?;
        let subscribers = filters.at_mut(id)?;
        subscribers.unset(slot)?;
        self.revision += 1;
        let is_last = subscribers.is_empty();
        self.interest.remove(app, filters.text(id));
        self.subscriptions -= 1;
        if is_last {
            filters.release(id);
            if filters.is_empty() {
                self.apps.remove(&app);
            }
        }
        Some(if is_last { Ended::Filter } else { Ended::Subscription })
    }

    /// The filter of a text, if anybody here subscribed to it.
    pub(super) fn find(&self, app: AppId, filter: &str) -> Option<FilterId> {
        self.apps.get(&app)?.find(filter)
    }

    /// A filter's text.
    pub(super) fn text(&self, app: AppId, id: FilterId) -> &str {
        self.apps.get(&app).map_or("", |filters| filters.text(id))
    }

    /// Who subscribed to a filter.
    pub(super) fn of(&self, app: AppId, id: FilterId) -> Option<&Subscribers> {
        self.apps.get(&app)?.at(id)
    }

    /// Appends the filters that match a topic.
    ///
    /// # Errors
    /// Too many nodes would have to be visited; the filter that is the topic itself is appended all the same.
    pub(super) fn matching(&self, app: AppId, topic: &str, found: &mut Vec<FilterId>) -> Result<(), TooWide> {
        match self.apps.get(&app) {
            Some(filters) => filters.matching(topic, MATCH_VISITS_MAX, found),
            None => Ok(()),
        }
    }

    /// Another one when any subscription was made, changed or ended.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Subscriptions of all connections.
    pub(super) fn len(&self) -> u64 {
        self.subscriptions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::topic::InterestHash;

    const APP: AppId = AppId(7);

    #[test]
    fn what_ends_leaves_nothing_behind() {
        let interest = Arc::new(Interest::new(InterestHash::default()));
        let mut topics = Topics::new(interest.clone());
        let wish = Wish::default();
        let (exact, _) = topics.subscribe(APP, 3, "a/b", wish);
        let (wild, _) = topics.subscribe(APP, 3, "a/+", wish);
        assert_eq!(topics.subscribe(APP, 3, "a/+", wish), (wild, Some(wish)), "again: changed, not doubled");
        assert_eq!(topics.len(), 2);
        let mut found = Vec::new();
        topics.matching(APP, "a/b", &mut found).expect("few nodes");
        assert_eq!(found, [exact, wild]);
        topics.matching(AppId(8), "a/b", &mut found).expect("few nodes");
        assert_eq!(found.len(), 2, "another app's topics are another world");
        assert_eq!(topics.unsubscribe(APP, 3, exact), Some(Ended::Filter));
        assert_eq!(topics.unsubscribe(APP, 3, wild), Some(Ended::Filter));
        assert_eq!(topics.unsubscribe(APP, 3, wild), None);
        assert!(topics.apps.is_empty() && topics.len() == 0);
        assert!(!interest.may_match(APP, "a/b"));
    }
}
