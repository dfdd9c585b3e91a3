//! Retained messages, in memory as the store has them.

use crate::delivery::border::topics::TopicMessage;
use crate::domain::{AppId, ClientId, WallMs};
use crate::store::sessions::{Change, Retained};
use bytes::Bytes;
use longwire_proto::wire::TopicBody;
use longwire_proto::wire::mqtt::{SharedPublish, topic};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

/// Topics with a retained message in one app; another is refused (LIMITS).
pub(in crate::delivery::topics) const TOPICS_MAX: usize = 10_000;
/// Bytes of an app's retained messages with their topics and properties; beyond it a message is refused (LIMITS).
pub(in crate::delivery::topics) const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of all apps' retained messages; beyond it a message is refused.
pub(in crate::delivery::topics) const NODE_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Retained messages that one subscription gets; the rest is left out (LIMITS).
pub(in crate::delivery::topics) const PER_SUBSCRIPTION_MAX: usize = 100;

/// A bound is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::delivery::topics) struct Full;

#[derive(Default)]
struct Topics {
    by_name: BTreeMap<Box<str>, Arc<TopicMessage>>,
    bytes: u64,
}

/// What every app retains. All in memory, since a new subscriber with a wildcard looks at all topics of the app.
#[derive(Default)]
pub(in crate::delivery::topics) struct RetainedTopics {
    apps: HashMap<AppId, Topics>,
    topics: u64,
    bytes: u64,
}

impl RetainedTopics {
    /// Takes in a message as the store has it; one that does not decode, or was stored under other bounds, is left out.
    pub(in crate::delivery::topics) fn load(&mut self, stored: &Retained) -> Result<(), Full> {
        let message = restored(stored).ok_or(Full)?;
        self.hold(Arc::new(message))
    }

    /// Keeps a message for its topic, or clears the topic if it has no content (MQTT-3.3.1-6, -7). What is to be written;
    /// `None`: nothing changed.
    pub(in crate::delivery::topics) fn put(
        &mut self,
        message: &Arc<TopicMessage>,
    ) -> Result<Option<Change>, Full> {
        let topic = message.shared.topic();
        if message.shared.payload().is_empty() {
            let was_there = self.clear(message.app, topic);
            return Ok(was_there.then(|| Change::Clear(message.app, topic.into())));
        }
        let body = message.body().ok_or(Full)?;
        self.hold(message.clone())?;
        Ok(Some(Change::Retain(Retained {
            app: message.app,
            topic: topic.into(),
            publisher: message.publisher,
            deadline: message.deadline,
            body: Bytes::from(body),
        })))
    }

    fn hold(&mut self, message: Arc<TopicMessage>) -> Result<(), Full> {
        let app = self.apps.entry(message.app).or_default();
        let topic = message.shared.topic();
        let before = app.by_name.get(topic).map_or(0, |old| cost(old));
        let added = cost(&message);
        let room = app.bytes - before + added <= BYTES_MAX && self.bytes - before + added <= NODE_BYTES_MAX;
        if !room || (before == 0 && app.by_name.len() >= TOPICS_MAX) {
            return Err(Full);
        }
        app.bytes = app.bytes - before + added;
        self.bytes = self.bytes - before + added;
        self.topics += u64::from(before == 0);
        app.by_name.insert(topic.into(), message);
        Ok(())
    }

    /// Forgets the message of a topic. False: there was none.
    pub(in crate::delivery::topics) fn clear(&mut self, app: AppId, topic: &str) -> bool {
        let Some(topics) = self.apps.get_mut(&app) else { return false };
        let Some(old) = topics.by_name.remove(topic) else { return false };
        topics.bytes -= cost(&old);
        self.bytes -= cost(&old);
        self.topics -= 1;
        if topics.by_name.is_empty() {
            self.apps.remove(&app);
        }
        true
    }

    /// The messages that a filter means, by topic, at most [`PER_SUBSCRIPTION_MAX`]; true: some are left out. `but`: whose
    /// own are not wanted. Looks at the topics that begin like the filter, at most [`TOPICS_MAX`].
    pub(in crate::delivery::topics) fn matching(
        &self,
        app: AppId,
        filter: &str,
        but: Option<ClientId>,
        now: WallMs,
    ) -> (Vec<Arc<TopicMessage>>, bool) {
        let Some(topics) = self.apps.get(&app) else { return (Vec::new(), false) };
        let prefix = literal(filter);
        let mut found = Vec::new();
        let from = (Bound::Included(prefix), Bound::Unbounded);
        for (name, message) in topics.by_name.range::<str, _>(from) {
            if !name.starts_with(prefix) {
                break;
            }
            let wanted = !expired(message, now) && but.is_none_or(|client| message.publisher != client);
            if !wanted || !topic::matches(filter, name) {
                continue;
            }
            if found.len() >= PER_SUBSCRIPTION_MAX {
                return (found, true);
            }
            found.push(message.clone());
        }
        (found, false)
    }

    /// An app's messages after a topic, in order, at most `max`, that a filter means.
    pub(in crate::delivery::topics) fn page(
        &self,
        app: AppId,
        filter: &str,
        after: Option<&str>,
        max: usize,
        now: WallMs,
    ) -> Vec<Arc<TopicMessage>> {
        let Some(topics) = self.apps.get(&app) else { return Vec::new() };
        let from = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let there = topics.by_name.range::<str, _>(from);
        let wanted = there.filter(|(name, message)| !expired(message, now) && topic::matches(filter, name));
        wanted.take(max).map(|(_, message)| message.clone()).collect()
    }

    /// Forgets what has expired, at most `max`, looking at no more than so many of each app's topics; what to write.
    pub(in crate::delivery::topics) fn clear_expired(&mut self, now: WallMs, max: usize) -> Vec<Change> {
        let mut over: Vec<(AppId, Box<str>)> = Vec::new();
        for (app, topics) in &self.apps {
            let expired = topics.by_name.iter().filter(|(_, message)| expired(message, now));
            over.extend(expired.take(max - over.len()).map(|(name, _)| (*app, name.clone())));
            if over.len() >= max {
                break;
            }
        }
        over.iter().for_each(|(app, name)| {
            self.clear(*app, name);
        });
        over.into_iter().map(|(app, name)| Change::Clear(app, name)).collect()
    }

    /// Topics of all apps, and their bytes.
    pub(in crate::delivery::topics) fn census(&self) -> (u64, u64) {
        (self.topics, self.bytes)
    }
}

fn expired(message: &TopicMessage, now: WallMs) -> bool {
    message.deadline.0 != 0 && message.deadline <= now
}

fn cost(message: &TopicMessage) -> u64 {
    message.shared.held_bytes() as u64
}

/// What every topic that a filter means begins with. `a/#` means `a` too, so what stands before `/#` is all.
fn literal(filter: &str) -> &str {
    let end = filter.find(['+', '#']).unwrap_or(filter.len());
    let front = &filter[..end];
    if filter[end..].starts_with('#') { front.strip_suffix('/').unwrap_or(front) } else { front }
}

fn restored(stored: &Retained) -> Option<TopicMessage> {
    let body = TopicBody::decode(&stored.body)?;
    let shared = SharedPublish::stored(body.topic, body.properties, body.content).ok()?;
    let (qos, deadline) = ((body.qos, true), stored.deadline);
    Some(TopicMessage::new(stored.app, stored.publisher, shared.map(Bytes::from), qos, deadline))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const APP: AppId = AppId(4);
    const NOW: WallMs = WallMs(1000);

    fn message(topic: &str, content: &[u8], deadline: u64) -> Arc<TopicMessage> {
        let shared = SharedPublish::stored(topic, &[], content).unwrap().map(Bytes::from);
        Arc::new(TopicMessage::new(APP, ClientId(3), shared, (1, true), WallMs(deadline)))
    }

    fn names(retained: &RetainedTopics, filter: &str) -> Vec<String> {
        let (found, _) = retained.matching(APP, filter, None, NOW);
        found.iter().map(|message| message.shared.topic().to_owned()).collect()
    }

    #[test]
    fn a_filter_finds_what_it_means() {
        let mut retained = RetainedTopics::default();
        for topic in ["a", "a/b", "a/b/c", "ab", "/", "$x/a", "a/", "ü/b"] {
            retained.put(&message(topic, b"1", 0)).unwrap();
        }
        for (filter, expected) in [
            ("a/#", &["a", "a/", "a/b", "a/b/c"][..]),
            ("a/b", &["a/b"]),
            ("a/+", &["a/", "a/b"]),
            ("+/b", &["a/b", "ü/b"]),
            ("#", &["/", "a", "a/", "a/b", "a/b/c", "ab", "ü/b"]),
            ("$x/#", &["$x/a"]),
            ("b", &[]),
        ] {
            assert_eq!(names(&retained, filter), expected, "{filter}");
        }
        let (none, _) = retained.matching(APP, "#", Some(ClientId(3)), NOW);
        assert!(none.is_empty(), "its own are not wanted");
        assert_eq!(retained.page(APP, "#", Some("a/b"), 2, NOW).len(), 2);
    }

    #[test]
    fn a_message_goes_when_it_is_cleared_replaced_or_expired() {
        let mut retained = RetainedTopics::default();
        let put = |retained: &mut RetainedTopics, topic, content, deadline| {
            retained.put(&message(topic, content, deadline)).unwrap()
        };
        assert!(matches!(put(&mut retained, "a", b"1", 0), Some(Change::Retain(_))));
        assert!(matches!(put(&mut retained, "a", b"22", 0), Some(Change::Retain(_))));
        assert!(matches!(put(&mut retained, "b", b"1", 1000), Some(Change::Retain(_))));
        assert_eq!(retained.census().0, 2);
        assert_eq!(names(&retained, "#"), ["a"], "b is over");
        assert_eq!(retained.clear_expired(NOW, 10).len(), 1);
        assert!(matches!(put(&mut retained, "a", b"", 0), Some(Change::Clear(..))));
        assert!(put(&mut retained, "a", b"", 0).is_none());
        assert_eq!(retained.census(), (0, 0));
        assert!(retained.apps.is_empty());
    }

    #[test]
    fn an_app_is_full_at_its_bound_of_topics_or_bytes_and_may_still_replace() {
        let mut retained = RetainedTopics::default();
        for number in 0..TOPICS_MAX {
            retained.put(&message(&format!("t/{number}"), b"1", 0)).unwrap();
        }
        assert_eq!(retained.put(&message("more", b"1", 0)).unwrap_err(), Full);
        assert!(retained.put(&message("t/1", b"2", 0)).unwrap().is_some());
        let (found, truncated) = retained.matching(APP, "t/+", None, NOW);
        assert!(truncated && found.len() == PER_SUBSCRIPTION_MAX);
        let mut retained = RetainedTopics::default();
        let megabyte = vec![0; 1024 * 1024];
        for number in 0..63 {
            retained.put(&message(&number.to_string(), &megabyte, 0)).unwrap();
        }
        assert_eq!(retained.put(&message("more", &[megabyte, vec![0]].concat(), 0)).unwrap_err(), Full);
        assert_eq!(retained.census().0, 63);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut retained = RetainedTopics::default();
        let Some(Change::Retain(stored)) = retained.put(&message("a/b", b"text", 5)).unwrap() else {
            panic!()
        };
        let again = restored(&stored).unwrap();
        assert_eq!((again.shared.topic(), again.shared.payload(), again.qos), ("a/b", &b"text"[..], 1));
        let torn = Retained { body: Bytes::from_static(b"\0\x09a"), ..stored };
        assert_eq!(retained.load(&torn), Err(Full));
    }
}
