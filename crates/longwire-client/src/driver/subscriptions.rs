//! What the device is subscribed to: asked for on each connection anew, until the application ends it or the server refuses it.
//! Pure: time is an argument.

use std::time::Duration;

use longwire_proto::session::Millis;
use longwire_proto::wire::{BackOff, ResultCode, SelfService, Subscribe};

use crate::back_off::delay;
use crate::incoming::Incoming;
use crate::topic::Subscription;

/// Subscriptions of a device; one more is answered with [`ResultCode::Quota`] at once. What a server takes too.
const SUBSCRIPTIONS_MAX: usize = 100;
/// Requests that wait for their answer; the rest waits for its turn. Fewer than a server lets wait.
const UNANSWERED_MAX: usize = 16;
/// A server that lives and does not answer a request for so long is asked again.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Entry {
    subscription: Subscription,
    /// The application wants it no more; it stays until the server knows.
    ends: bool,
    /// The server was told on this connection.
    settled: bool,
    /// Under which number it was asked, and when.
    asked: Option<(u32, Millis)>,
    /// The application waits for the outcome.
    awaited: bool,
}

/// The subscriptions, in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Subscriptions {
    entries: Vec<Entry>,
    last_request: u32,
    /// The server was busy: nothing is asked before.
    hold: Option<Millis>,
    busy: u32,
}

impl Subscriptions {
    /// The application wants a subscription, or another with the same filter. What it is told at once.
    pub(crate) fn want(&mut self, subscription: Subscription) -> Option<Incoming> {
        let at = self.entries.iter().position(|entry| entry.subscription.filter == subscription.filter);
        if at.is_none() && self.entries.len() >= SUBSCRIPTIONS_MAX {
            return Some(Incoming::Subscribed { filter: subscription.filter, outcome: ResultCode::Quota });
        }
        let entry = Entry { subscription, ends: false, settled: false, asked: None, awaited: true };
        match at {
            Some(at) => self.entries[at] = entry,
            None => self.entries.push(entry),
        }
        None
    }

    /// The application wants a subscription no more. One that is not known is ended all the same: an earlier process may have made
    /// it.
    pub(crate) fn end(&mut self, filter: String) -> Option<Incoming> {
        let at = self.entries.iter().position(|entry| entry.subscription.filter == filter);
        if at.is_none() && self.entries.len() >= SUBSCRIPTIONS_MAX {
            return Some(Incoming::Unsubscribed { filter, outcome: ResultCode::Quota });
        }
        let subscription = Subscription::new(filter);
        let entry = Entry { subscription, ends: true, settled: false, asked: None, awaited: true };
        match at {
            Some(at) => self.entries[at] = entry,
            None => self.entries.push(entry),
        }
        None
    }

    /// A new connection: nothing was asked on it.
    pub(crate) fn reconnected(&mut self) {
        self.hold = None;
        for entry in &mut self.entries {
            (entry.settled, entry.asked) = (false, None);
        }
    }

    /// The next request to send now.
    pub(crate) fn next(&mut self, now: Millis) -> Option<(u32, SelfService<'_>)> {
        if self.hold.is_some_and(|hold| now < hold) {
            return None;
        }
        self.hold = None;
        let unanswered = self.entries.iter().filter(|entry| entry.asked.is_some()).count();
        if unanswered >= UNANSWERED_MAX {
            return None;
        }
        let entry = self.entries.iter_mut().find(|entry| !entry.settled && entry.asked.is_none())?;
        self.last_request = self.last_request.wrapping_add(1);
        entry.asked = Some((self.last_request, now));
        let subscription = &entry.subscription;
        let what = if entry.ends {
            SelfService::Unsubscribe(&subscription.filter)
        } else {
            SelfService::Subscribe(Subscribe {
                filter: &subscription.filter,
                kept: subscription.kept,
                no_local: subscription.no_local,
                retained: subscription.retain_handling(),
            })
        };
        Some((self.last_request, what))
    }

    /// The server answered. What the application is told: the first outcome of what it asked for, and a refusal at any time.
    pub(crate) fn answered(
        &mut self,
        request: u32,
        code: ResultCode,
        now: Millis,
        random: u64,
    ) -> Option<Incoming> {
        let is_meant = |entry: &Entry| entry.asked.is_some_and(|(asked, _)| asked == request);
        let at = self.entries.iter().position(is_meant)?;
        let entry = &mut self.entries[at];
        entry.asked = None;
        if code == ResultCode::Busy {
            // One wait for all that was refused together.
            if self.hold.is_none() {
                let wait = delay(&BackOff::default(), self.busy, random);
                self.busy = self.busy.saturating_add(1);
                self.hold = Some(Millis(now.0 + wait.as_millis() as u64));
            }
            return None;
        }
        self.busy = 0;
        entry.settled = true;
        let tells = std::mem::take(&mut entry.awaited) || code != ResultCode::Done;
        let (filter, ends) = (entry.subscription.filter.clone(), entry.ends);
        if ends || code != ResultCode::Done {
            self.entries.remove(at);
        }
        tells.then_some(match ends {
            true => Incoming::Unsubscribed { filter, outcome: code },
            false => Incoming::Subscribed { filter, outcome: code },
        })
    }

    /// When [`Subscriptions::tick`] and [`Subscriptions::next`] should be asked again, if nothing else happens before.
    pub(crate) fn due(&self) -> Option<Millis> {
        let oldest = self.entries.iter().filter_map(|entry| entry.asked).map(|(_, asked)| asked).min();
        let answer_due = oldest.map(|asked| Millis(asked.0 + ANSWER_WAIT.as_millis() as u64));
        [self.hold, answer_due].into_iter().flatten().min()
    }

    /// Forgets that something was asked which nobody answered.
    pub(crate) fn tick(&mut self, now: Millis) {
        for entry in &mut self.entries {
            if entry.asked.is_some_and(|(_, asked)| now.0 >= asked.0 + ANSWER_WAIT.as_millis() as u64) {
                entry.asked = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Millis = Millis(1_000);

    fn asked(subscriptions: &mut Subscriptions, now: Millis) -> Vec<(u32, String)> {
        let mut asked = Vec::new();
        while let Some((request, what)) = subscriptions.next(now) {
            let filter = match what {
                SelfService::Subscribe(subscribe) => subscribe.filter.to_owned(),
                SelfService::Unsubscribe(filter) => format!("-{filter}"),
                other => panic!("{other:?}"),
            };
            asked.push((request, filter));
        }
        asked
    }

    fn wanting(filters: impl IntoIterator<Item = &'static str>) -> Subscriptions {
        let mut subscriptions = Subscriptions::default();
        for filter in filters {
            assert!(subscriptions.want(Subscription::new(filter)).is_none());
        }
        subscriptions
    }

    #[test]
    fn each_connection_is_asked_anew_and_the_application_told_once() {
        let mut subscriptions = wanting(["a", "b"]);
        assert_eq!(asked(&mut subscriptions, T0), [(1, "a".into()), (2, "b".into())]);
        let told = subscriptions.answered(1, ResultCode::Done, T0, 0);
        assert!(
            matches!(told, Some(Incoming::Subscribed { filter, outcome: ResultCode::Done }) if filter == "a")
        );
        assert!(subscriptions.answered(1, ResultCode::Done, T0, 0).is_none(), "answered already");
        subscriptions.reconnected();
        assert_eq!(asked(&mut subscriptions, T0), [(3, "a".into()), (4, "b".into())]);
        assert!(subscriptions.answered(3, ResultCode::Done, T0, 0).is_none(), "it knows");
        let told = subscriptions.answered(4, ResultCode::NotAllowed, T0, 0);
        assert!(matches!(told, Some(Incoming::Subscribed { outcome: ResultCode::NotAllowed, .. })));
        subscriptions.reconnected();
        assert_eq!(
            asked(&mut subscriptions, T0),
            [(5, "a".into())],
            "what was refused is not asked for again"
        );
        let told = subscriptions.answered(5, ResultCode::NotAllowed, T0, 0);
        assert!(matches!(told, Some(Incoming::Subscribed { .. })), "a right may be taken away later");
    }

    #[test]
    fn what_is_ended_while_nobody_can_be_told_is_ended_on_the_next_connection() {
        let mut subscriptions = wanting(["a"]);
        asked(&mut subscriptions, T0);
        subscriptions.answered(1, ResultCode::Done, T0, 0);
        assert!(subscriptions.end("a".into()).is_none());
        assert!(subscriptions.end("never/made/here".into()).is_none());
        subscriptions.reconnected();
        assert_eq!(asked(&mut subscriptions, T0), [(2, "-a".into()), (3, "-never/made/here".into())]);
        let told = subscriptions.answered(2, ResultCode::Done, T0, 0);
        assert!(matches!(told, Some(Incoming::Unsubscribed { filter, .. }) if filter == "a"));
        subscriptions.answered(3, ResultCode::Done, T0, 0);
        subscriptions.reconnected();
        assert!(asked(&mut subscriptions, T0).is_empty());
    }

    #[test]
    fn a_busy_server_is_left_alone_and_a_silent_one_asked_again() {
        let mut subscriptions = wanting(["a", "b"]);
        asked(&mut subscriptions, T0);
        assert!(subscriptions.answered(1, ResultCode::Busy, T0, 0).is_none());
        assert!(subscriptions.next(Millis(T0.0 + 999)).is_none());
        assert_eq!(asked(&mut subscriptions, Millis(T0.0 + 1_000)), [(3, "a".into())]);
        subscriptions.tick(Millis(T0.0 + 30_000));
        assert_eq!(asked(&mut subscriptions, Millis(T0.0 + 30_000)), [(4, "b".into())]);
    }

    #[test]
    fn there_are_bounds() {
        let mut subscriptions = Subscriptions::default();
        for number in 0..SUBSCRIPTIONS_MAX {
            assert!(subscriptions.want(Subscription::new(number.to_string())).is_none());
        }
        let told = subscriptions.want(Subscription::new("one more"));
        assert!(matches!(told, Some(Incoming::Subscribed { outcome: ResultCode::Quota, .. })));
        assert!(subscriptions.want(Subscription::new("7").kept()).is_none(), "a change is no new one");
        let told = subscriptions.end("unknown".into());
        assert!(matches!(told, Some(Incoming::Unsubscribed { outcome: ResultCode::Quota, .. })));
        assert_eq!(asked(&mut subscriptions, T0).len(), UNANSWERED_MAX);
        subscriptions.answered(1, ResultCode::Done, T0, 0);
        assert_eq!(asked(&mut subscriptions, T0).len(), 1);
    }
}
