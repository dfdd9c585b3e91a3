//! Filters and what is kept for each, found by topic.
//!
//! A filter without wildcards costs one entry of a table, whatever its levels, and a publish finds it by one hash. Filters
//! with wildcards form a trie, whose edges are one table as well: a node is found by its parent and its level, so that a
//! node with a million children costs no more to descend than one with two (THREATS, wildcard explosion).

use hashbrown::HashTable;
use std::hash::{BuildHasher, RandomState};

/// Names one filter as long as anything is kept for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FilterId(u32);

/// A match would have to visit more of the trie than it may.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the topic meets too many wildcard filters")]
pub struct TooWide;

/// No filter ends here.
const NONE: u32 = u32::MAX;
/// The root's number.
const ROOT: u32 = 0;

/// Filters, with an `S` kept for each. The caller bounds how many there are (subscriptions per session × sessions).
#[derive(Debug)]
pub struct Filters<S> {
    hasher: RandomState,
    entries: Vec<Option<Entry<S>>>,
    free: Vec<u32>,
    /// Filters without wildcards by their text.
    exact: HashTable<u32>,
    nodes: Vec<Node>,
    free_nodes: Vec<u32>,
    /// Nodes by parent and level.
    edges: HashTable<u32>,
}

#[derive(Debug)]
struct Entry<S> {
    text: Box<str>,
    kept: S,
}

/// A level of filters with wildcards. `level` and `parent` are its key.
#[derive(Debug)]
struct Node {
    level: Box<str>,
    parent: u32,
    /// Nodes below it.
    children: u32,
    /// The child for `+`, which every descent looks at.
    plus: u32,
    /// The filter that ends here.
    ends: u32,
    /// The filter that ends in `#` below here.
    all_below: u32,
}

impl Node {
    fn new(level: &str, parent: u32) -> Node {
        Node { level: level.into(), parent, children: 0, plus: NONE, ends: NONE, all_below: NONE }
    }

    fn is_unused(&self) -> bool {
        self.children == 0 && self.ends == NONE && self.all_below == NONE
    }
}

impl<S> Default for Filters<S> {
    fn default() -> Filters<S> {
        Filters {
            hasher: RandomState::new(),
            entries: Vec::new(),
            free: Vec::new(),
            exact: HashTable::new(),
            nodes: vec![Node::new("", NONE)],
            free_nodes: Vec::new(),
            edges: HashTable::new(),
        }
    }
}

impl<S: Default> Filters<S> {
    /// The filter's entry, made if there is none. Undone by [`Filters::release`].
    pub fn enter(&mut self, filter: &str) -> FilterId {
        if is_wild(filter) {
            let node = self.descend_or_grow(filter);
            let is_all = filter.ends_with('#');
            let at = &self.nodes[node as usize];
            let found = if is_all { at.all_below } else { at.ends };
            if found != NONE {
                return FilterId(found);
            }
            let id = self.add(filter);
            let at = &mut self.nodes[node as usize];
            if is_all {
                at.all_below = id;
            } else {
                at.ends = id;
            }
            return FilterId(id);
        }
        if let Some(id) = self.find_exact(filter) {
            return FilterId(id);
        }
        let id = self.add(filter);
        let Filters { hasher, entries, exact, .. } = self;
        exact.insert_unique(hasher.hash_one(filter), id, |id| hasher.hash_one(text(entries, *id)));
        FilterId(id)
    }

    fn add(&mut self, filter: &str) -> u32 {
        let entry = Entry { text: filter.into(), kept: S::default() };
        match self.free.pop() {
            Some(id) => {
                self.entries[id as usize] = Some(entry);
                id
            }
            None => {
                self.entries.push(Some(entry));
                (self.entries.len() - 1) as u32
            }
        }
    }
}

impl<S> Filters<S> {
    /// The filter's entry, if there is one.
    #[must_use]
    pub fn find(&self, filter: &str) -> Option<FilterId> {
        if !is_wild(filter) {
            return self.find_exact(filter).map(FilterId);
        }
        let mut node = ROOT;
        for level in levels(filter) {
            node = self.child(node, level)?;
        }
        let node = &self.nodes[node as usize];
        let id = if filter.ends_with('#') { node.all_below } else { node.ends };
        (id != NONE).then_some(FilterId(id))
    }

    /// What is kept for a filter; `None` after its release.
    #[must_use]
    pub fn at(&self, id: FilterId) -> Option<&S> {
        self.entries.get(id.0 as usize)?.as_ref().map(|entry| &entry.kept)
    }

    /// The same, to change it.
    pub fn at_mut(&mut self, id: FilterId) -> Option<&mut S> {
        self.entries.get_mut(id.0 as usize)?.as_mut().map(|entry| &mut entry.kept)
    }

    /// The filter's text; empty after its release.
    #[must_use]
    pub fn text(&self, id: FilterId) -> &str {
        text(&self.entries, id.0)
    }

    /// Forgets a filter for which nothing is kept any more.
    pub fn release(&mut self, id: FilterId) {
        let Some(entry) = self.entries.get_mut(id.0 as usize).and_then(Option::take) else { return };
        if is_wild(&entry.text) {
            self.prune(&entry.text);
        } else {
            let hash = self.hasher.hash_one(&*entry.text);
            if let Ok(found) = self.exact.find_entry(hash, |other| *other == id.0) {
                found.remove();
            }
        }
        self.free.push(id.0);
        self.give_memory_back();
    }

    /// Appends the filters that match `topic` to `found`, each once. A topic that begins with `$` is matched by no filter
    /// that begins with a wildcard (MQTT-4.7.2-1).
    ///
    /// # Errors
    /// The match would visit more than `visits_max` nodes; then only the filter that is the topic itself is appended: whoever names a
    /// topic gets it, whatever wildcards others have.
    pub fn matching(&self, topic: &str, visits_max: usize, found: &mut Vec<FilterId>) -> Result<(), TooWide> {
        found.extend(self.find_exact(topic).map(FilterId));
        if self.nodes[ROOT as usize].is_unused() {
            return Ok(());
        }
        let (mut visits, exact) = (visits_max, found.len());
        let walked = self.walk(ROOT, Some(topic), topic.starts_with('$'), &mut visits, found);
        if walked.is_err() {
            found.truncate(exact);
        }
        walked
    }

    /// Filters with anything kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `rest`: what is left of the topic below `node`; `None`: it is at its end. As deep as a topic has levels, which its
    /// limit bounds.
    fn walk(
        &self,
        node: u32,
        rest: Option<&str>,
        is_reserved: bool,
        visits: &mut usize,
        found: &mut Vec<FilterId>,
    ) -> Result<(), TooWide> {
        *visits = visits.checked_sub(1).ok_or(TooWide)?;
        let at = &self.nodes[node as usize];
        // `sport/#` matches `sport` too, so this does not ask for a rest (MQTT 4.7.1.2).
        if at.all_below != NONE && !is_reserved {
            found.push(FilterId(at.all_below));
        }
        let Some(rest) = rest else {
            if at.ends != NONE {
                found.push(FilterId(at.ends));
            }
            return Ok(());
        };
        if at.children == 0 {
            return Ok(());
        }
        let (level, below) = match rest.split_once('/') {
            Some((level, below)) => (level, Some(below)),
            None => (rest, None),
        };
        if at.plus != NONE && !is_reserved {
            self.walk(at.plus, below, false, visits, found)?;
        }
        match self.child(node, level) {
            // A topic has no `+`, so this is never the child that was walked already.
            Some(child) => self.walk(child, below, false, visits, found),
            None => Ok(()),
        }
    }

    fn find_exact(&self, filter: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(filter);
        self.exact.find(hash, |id| text(&self.entries, *id) == filter).copied()
    }

    fn child(&self, parent: u32, level: &str) -> Option<u32> {
        let hash = edge(&self.hasher, parent, level);
        let is_it = |at: &u32| {
            let node = &self.nodes[*at as usize];
            node.parent == parent && &*node.level == level
        };
        self.edges.find(hash, is_it).copied()
    }

    fn descend_or_grow(&mut self, filter: &str) -> u32 {
        let mut node = ROOT;
        for level in levels(filter) {
            node = match self.child(node, level) {
                Some(child) => child,
                None => self.grow(node, level),
            };
        }
        node
    }

    fn grow(&mut self, parent: u32, level: &str) -> u32 {
        let node = Node::new(level, parent);
        let at = match self.free_nodes.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        let above = &mut self.nodes[parent as usize];
        above.children += 1;
        if level == "+" {
            above.plus = at;
        }
        let Filters { hasher, nodes, edges, .. } = self;
        edges.insert_unique(edge(hasher, parent, level), at, |at| {
            let node = &nodes[*at as usize];
            edge(hasher, node.parent, &node.level)
        });
        at
    }

    /// Takes a filter out of the trie, and the nodes that nothing else needs.
    fn prune(&mut self, filter: &str) {
        let mut node = ROOT;
        for level in levels(filter) {
            let Some(child) = self.child(node, level) else { return };
            node = child;
        }
        let at = &mut self.nodes[node as usize];
        if filter.ends_with('#') {
            at.all_below = NONE;
        } else {
            at.ends = NONE;
        }
        while node != ROOT && self.nodes[node as usize].is_unused() {
            let Node { level, parent, .. } =
                std::mem::replace(&mut self.nodes[node as usize], Node::new("", NONE));
            let hash = edge(&self.hasher, parent, &level);
            if let Ok(found) = self.edges.find_entry(hash, |other| *other == node) {
                found.remove();
            }
            self.free_nodes.push(node);
            let above = &mut self.nodes[parent as usize];
            above.children -= 1;
            if above.plus == node {
                above.plus = NONE;
            }
            node = parent;
        }
    }

    /// When all have left, their memory goes too: a crowd may have been here.
    fn give_memory_back(&mut self) {
        if self.is_empty() && self.entries.len() > 1024 {
            (self.entries, self.free, self.free_nodes) = (Vec::new(), Vec::new(), Vec::new());
            (self.exact, self.edges) = (HashTable::new(), HashTable::new());
            self.nodes.truncate(1);
            self.nodes.shrink_to_fit();
        }
    }
}

/// Whether a filter holds a wildcard: a level of its own, so a look at the bytes suffices.
fn is_wild(filter: &str) -> bool {
    filter.bytes().any(|byte| matches!(byte, b'+' | b'#'))
}

/// The levels of a filter with wildcards, without a `#` at its end.
fn levels(filter: &str) -> impl Iterator<Item = &str> {
    let without = filter.strip_suffix("/#").or_else(|| filter.strip_suffix('#')).unwrap_or(filter);
    // `#` alone has no level before it, while the empty level of `/#` is one.
    let is_root = filter == "#";
    without.split('/').filter(move |_| !is_root)
}

fn edge(hasher: &RandomState, parent: u32, level: &str) -> u64 {
    hasher.hash_one((parent, level))
}

fn text<S>(entries: &[Option<Entry<S>>], id: u32) -> &str {
    entries.get(id as usize).and_then(Option::as_ref).map_or("", |entry| &entry.text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matched(filters: &Filters<u32>, topic: &str) -> Vec<String> {
        let mut found = Vec::new();
        filters.matching(topic, 1000, &mut found).expect("few nodes");
        let mut texts: Vec<String> = found.iter().map(|id| filters.text(*id).to_owned()).collect();
        texts.sort();
        texts
    }

    /// Section 4.7 of MQTT 5.0, told level by level.
    fn naive(filter: &[&str], topic: &[&str]) -> bool {
        match (filter.first(), topic.first()) {
            (Some(&"#"), _) => true,
            (Some(&"+"), Some(_)) => naive(&filter[1..], &topic[1..]),
            (Some(level), Some(other)) => level == other && naive(&filter[1..], &topic[1..]),
            (None, None) => true,
            _ => false,
        }
    }

    fn naive_match(filter: &str, topic: &str) -> bool {
        let levels: (Vec<&str>, Vec<&str>) = (filter.split('/').collect(), topic.split('/').collect());
        let hidden = topic.starts_with('$') && filter.starts_with(['+', '#']);
        !hidden && naive(&levels.0, &levels.1)
    }

    #[test]
    fn the_examples_of_the_specification_hold() {
        let mut filters = Filters::default();
        for filter in
            ["sport/tennis/player1/#", "sport/#", "#", "sport/tennis/+", "sport/+", "+/+", "/+", "+"]
        {
            filters.enter(filter);
        }
        for (topic, expected) in [
            ("sport/tennis/player1", vec!["#", "sport/#", "sport/tennis/+", "sport/tennis/player1/#"]),
            ("sport", vec!["#", "+", "sport/#"]),
            ("sport/", vec!["#", "+/+", "sport/#", "sport/+"]),
            ("/finance", vec!["#", "+/+", "/+"]),
            ("$SYS/x", vec![]),
        ] {
            assert_eq!(matched(&filters, topic), expected, "{topic}");
        }
        filters.enter("$SYS/#");
        filters.enter("$SYS/monitor/+");
        assert_eq!(matched(&filters, "$SYS/monitor/x"), ["$SYS/#", "$SYS/monitor/+"]);
    }

    #[test]
    fn a_match_that_would_visit_too_much_is_refused() {
        let mut filters: Filters<u32> = Filters::default();
        // Each level may be `+` or `a`: a topic of a's meets every one of them.
        for number in 0..256_u32 {
            let levels: Vec<&str> =
                (0..8).map(|bit| if number >> bit & 1 == 1 { "a" } else { "+" }).collect();
            filters.enter(&levels.join("/"));
        }
        let mut found = Vec::new();
        assert_eq!(
            filters.matching("a/a/a/a/a/a/a/+", 100, &mut found),
            Err(TooWide),
            "no topic, but as wide"
        );
        found.clear();
        assert_eq!(filters.matching("a/a/a/a/a/a/a/a", 100, &mut found), Err(TooWide));
        assert_eq!(found, filters.find("a/a/a/a/a/a/a/a").as_slice(), "who names it gets it");
        found.clear();
        assert_eq!(filters.matching("a/a/a/a/a/a/a/a", 4096, &mut found), Ok(()));
        assert_eq!(found.len(), 256);
    }

    fn filter() -> impl Strategy<Value = String> {
        let level = prop_oneof![Just("+"), Just("a"), Just("b"), Just(""), Just("$x")];
        (prop::collection::vec(level, 1..5), any::<bool>()).prop_map(|(levels, all)| {
            let mut filter = levels.join("/");
            if all {
                filter.push_str("/#");
            }
            if filter.is_empty() { "#".to_owned() } else { filter }
        })
    }

    fn topic() -> impl Strategy<Value = String> {
        let level = prop_oneof![Just("a"), Just("b"), Just(""), Just("c"), Just("$x")];
        prop::collection::vec(level, 1..6)
            .prop_map(|levels| levels.join("/"))
            .prop_filter("a topic has at least one character", |topic| !topic.is_empty())
    }

    proptest! {
        /// Whatever was entered and released, a topic meets exactly the filters that the specification says.
        #[test]
        fn a_topic_meets_whom_it_should(
            steps in prop::collection::vec((filter(), any::<bool>()), 1..40),
            topics in prop::collection::vec(topic(), 1..10),
        ) {
            let mut filters: Filters<u32> = Filters::default();
            let mut there = std::collections::BTreeSet::new();
            for (filter, stays) in steps {
                let id = filters.enter(&filter);
                prop_assert_eq!(filters.find(&filter), Some(id));
                prop_assert_eq!(filters.text(id), &filter);
                if stays {
                    there.insert(filter);
                } else {
                    filters.release(id);
                    there.remove(&filter);
                    prop_assert_eq!(filters.find(&filter), None);
                }
            }
            prop_assert_eq!(filters.len(), there.len());
            for topic in topics {
                let expected: Vec<String> =
                    there.iter().filter(|filter| naive_match(filter, &topic)).cloned().collect();
                prop_assert_eq!(matched(&filters, &topic), expected, "{}", topic);
            }
        }
    }
}
