//! Wills that wait: for their delay, or for their turn.

use crate::delivery::border::topics::{TopicMessage, Will};
use crate::domain::{AppId, ClientId, WallMs};
use crate::store::sessions::KeptWill;
use bytes::Bytes;
use longwire_proto::wire::TopicBody;
use longwire_proto::wire::mqtt::SharedPublish;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Wills that may wait; another is dropped and counted.
pub(in crate::delivery::topics) const WAITING_MAX: usize = 100_000;

/// The wills that are to be published. A device has one that is delayed at most; a newer one sends the older on its way.
#[derive(Default)]
pub(in crate::delivery::topics) struct Wills {
    /// By when they are due, and in the order in which they came.
    due: BTreeMap<(WallMs, u64), (ClientId, Arc<TopicMessage>)>,
    /// Those that a session can still call back.
    delayed: HashMap<ClientId, (WallMs, u64)>,
    next: u64,
}

impl Wills {
    /// Takes a will over. False: too many wait, it is dropped.
    pub(in crate::delivery::topics) fn add(
        &mut self,
        client: ClientId,
        will: Will,
        delay_s: u32,
        now: WallMs,
    ) -> bool {
        self.hasten(client, now);
        let due = WallMs(now.0.saturating_add(u64::from(delay_s) * 1000));
        self.take_up(client, will.message, due, delay_s > 0)
    }

    /// Takes in a will that the process before has left, due at `due`. False: too many wait.
    pub(in crate::delivery::topics) fn take_up(
        &mut self,
        client: ClientId,
        message: Arc<TopicMessage>,
        due: WallMs,
        delayed: bool,
    ) -> bool {
        if self.due.len() >= WAITING_MAX {
            return false;
        }
        let at = (due, self.next);
        self.next += 1;
        self.due.insert(at, (client, message));
        if delayed {
            self.delayed.insert(client, at);
        }
        true
    }

    /// The session goes on: its will is not published (MQTT-3.1.3-9). True: there was one.
    pub(in crate::delivery::topics) fn call_back(&mut self, client: ClientId) -> bool {
        self.delayed.remove(&client).is_some_and(|at| self.due.remove(&at).is_some())
    }

    /// The session is over: its will waits no longer (MQTT-3.1.2-8).
    pub(in crate::delivery::topics) fn hasten(&mut self, client: ClientId, now: WallMs) {
        let Some(at) = self.delayed.remove(&client) else { return };
        if let Some(will) = self.due.remove(&at) {
            self.due.insert((now.min(at.0), at.1), will);
        }
    }

    /// At most `max` whose time has come.
    pub(in crate::delivery::topics) fn take_due(
        &mut self,
        now: WallMs,
        max: usize,
    ) -> Vec<(ClientId, Arc<TopicMessage>)> {
        let mut taken = Vec::new();
        while taken.len() < max {
            let Some(first) = self.due.first_entry() else { break };
            let at = *first.key();
            if at.0 > now {
                break;
            }
            let (client, message) = first.remove();
            if self.delayed.get(&client) == Some(&at) {
                self.delayed.remove(&client);
            }
            taken.push((client, message));
        }
        taken
    }

    /// Wills that wait.
    pub(in crate::delivery::topics) fn len(&self) -> usize {
        self.due.len()
    }
}

/// A stored will that goes out at `due`; `None`: it does not decode.
pub(in crate::delivery::topics) fn message_of(
    will: &KeptWill,
    app: AppId,
    client: ClientId,
    due: WallMs,
) -> Option<Arc<TopicMessage>> {
    let body = TopicBody::decode(&will.body)?;
    let shared = SharedPublish::stored(body.topic, body.properties, body.content).ok()?;
    let deadline =
        will.expiry_s.map_or(WallMs(0), |seconds| WallMs((due.0 + u64::from(seconds) * 1000).max(1)));
    let flags = (body.qos, body.retain);
    Some(Arc::new(TopicMessage::new(app, client, shared.map(Bytes::from), flags, deadline)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn will(topic: &str) -> Will {
        let shared = SharedPublish::stored(topic, &[], b"").unwrap().map(Bytes::from);
        let message = TopicMessage::new(AppId(1), ClientId(1), shared, (0, false), WallMs(0));
        Will { message: Arc::new(message), delay_s: 0 }
    }

    fn taken(wills: &mut Wills, now: u64, max: usize) -> Vec<String> {
        let taken = wills.take_due(WallMs(now), max);
        taken.iter().map(|(_, message)| message.shared.topic().to_owned()).collect()
    }

    #[test]
    fn a_will_waits_for_its_delay_unless_it_is_called_back_or_hastened() {
        let mut wills = Wills::default();
        let now = WallMs(10_000);
        for (client, topic, delay_s) in [(1, "now", 0), (2, "back", 5), (3, "hastened", 5), (4, "later", 5)] {
            assert!(wills.add(ClientId(client), will(topic), delay_s, now));
        }
        assert!(
            wills.call_back(ClientId(2)) && !wills.call_back(ClientId(2)) && !wills.call_back(ClientId(1))
        );
        wills.hasten(ClientId(3), now);
        assert_eq!(taken(&mut wills, 10_000, 1), ["now"]);
        assert_eq!(taken(&mut wills, 10_000, 9), ["hastened"]);
        assert!(taken(&mut wills, 14_999, 9).is_empty());
        assert!(wills.add(ClientId(4), will("newer"), 5, WallMs(14_000)));
        assert_eq!(taken(&mut wills, 14_000, 9), ["later"]);
        assert_eq!(taken(&mut wills, 19_000, 9), ["newer"]);
        assert!(wills.len() == 0 && wills.delayed.is_empty());
    }

    #[test]
    fn beyond_the_bound_a_will_is_dropped() {
        let mut wills = Wills::default();
        for client in 0..WAITING_MAX as u64 {
            assert!(wills.add(ClientId(client), will("x"), 1, WallMs(0)));
        }
        assert!(!wills.add(ClientId(u64::MAX), will("x"), 1, WallMs(0)));
        assert_eq!(wills.take_due(WallMs(1000), 7).len(), 7);
        assert!(wills.add(ClientId(u64::MAX), will("x"), 1, WallMs(0)));
    }
}
