//! Which message goes up next: in order, a window of unanswered ones, everything unanswered again on the next connection.
//! Pure: time is an argument.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use longwire_proto::session::Millis;
use longwire_proto::wire::{BackOff, ResultCode};

use crate::back_off::delay;
use crate::storage::outbox::Pending;
use crate::upstream::Outward;

/// Unanswered messages on a connection; the rest waits.
const WINDOW_MESSAGES: usize = 16;
/// Unanswered bytes on a connection; one message always goes.
const WINDOW_BYTES: usize = 64 * 1024;
/// A server that lives and does not answer a message for so long is sent it again.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// How long nothing goes when too much of the app waits for its business: that does not pass in seconds.
const QUOTA_WAIT: Duration = Duration::from_secs(120);
/// Random addition to it, milliseconds, so that the devices of an app do not come back together.
const QUOTA_JITTER_MS: u64 = 60_000;

/// What an answer means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// The end of the message, good or bad: the application is told and the outbox forgets it.
    Final(ResultCode),
    /// It will be sent again later.
    Later,
    /// Nobody waits for it: answered already.
    Unknown,
}

#[derive(Debug)]
struct Entry {
    pending: Arc<Pending>,
    /// Sent on this connection and not answered, since when.
    sent: Option<Millis>,
}

/// The messages of the outbox as the driver sees them, oldest first. As many as the outbox's bound. What was sent is
/// always among the first [`WINDOW_MESSAGES`], for the first that was not is the next to go; so nothing here looks further.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    entries: VecDeque<Entry>,
    /// The server was busy: nothing goes before.
    hold: Option<Millis>,
    /// Times in a row that the server was busy.
    busy: u32,
}

impl Outgoing {
    pub(crate) fn put(&mut self, pending: Arc<Pending>) {
        self.entries.push_back(Entry { pending, sent: None });
    }

    /// A new connection: nothing was sent on it.
    pub(crate) fn reconnected(&mut self) {
        self.hold = None;
        self.window().for_each(|entry| entry.sent = None);
    }

    /// The next message to send now. It counts as sent.
    pub(crate) fn next(&mut self, now: Millis) -> Option<Arc<Pending>> {
        if self.hold.is_some_and(|hold| now < hold) {
            return None;
        }
        self.hold = None;
        let (mut messages, mut bytes) = (0, 0);
        for entry in self.entries.iter_mut().take(WINDOW_MESSAGES) {
            if entry.sent.is_none() {
                if messages > 0 && bytes + entry.pending.message.bytes() > WINDOW_BYTES {
                    return None;
                }
                entry.sent = Some(now);
                return Some(Arc::clone(&entry.pending));
            }
            messages += 1;
            bytes += entry.pending.message.bytes();
        }
        None
    }

    /// The server answered.
    pub(crate) fn answered(&mut self, id: u64, outcome: ResultCode, now: Millis, random: u64) -> Answer {
        let awaited = |entry: &Entry| entry.sent.is_some() && entry.pending.id == id;
        let Some(at) = self.entries.iter().take(WINDOW_MESSAGES).position(awaited) else {
            return Answer::Unknown;
        };
        // A quota of the app passes; what a topic's subscribers have no room for is the publisher's to decide, and holds up nothing.
        let is_publication = matches!(self.entries[at].pending.message, Outward::Publication(_));
        if outcome == ResultCode::Busy || (outcome == ResultCode::Quota && !is_publication) {
            self.entries[at].sent = None;
            // One wait for all of a window that was refused together.
            if self.hold.is_none() {
                self.hold = Some(Millis(now.0 + self.wait_ms(outcome, random)));
            }
            return Answer::Later;
        }
        self.entries.remove(at);
        self.busy = 0;
        Answer::Final(outcome)
    }

    fn window(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut().take(WINDOW_MESSAGES)
    }

    fn wait_ms(&mut self, outcome: ResultCode, random: u64) -> u64 {
        if outcome == ResultCode::Quota {
            return QUOTA_WAIT.as_millis() as u64 + random % QUOTA_JITTER_MS;
        }
        let wait = delay(&BackOff::default(), self.busy, random);
        self.busy = self.busy.saturating_add(1);
        wait.as_millis() as u64
    }

    /// When [`Outgoing::tick`] and [`Outgoing::next`] should be asked again, if nothing else happens before.
    pub(crate) fn due(&self) -> Option<Millis> {
        let oldest = self.entries.iter().take(WINDOW_MESSAGES).filter_map(|entry| entry.sent).min();
        let answer_due = oldest.map(|sent| Millis(sent.0 + ANSWER_WAIT.as_millis() as u64));
        [self.hold, answer_due].into_iter().flatten().min()
    }

    /// Forgets that messages were sent which nobody answered.
    pub(crate) fn tick(&mut self, now: Millis) {
        for entry in self.window() {
            if entry.sent.is_some_and(|sent| now.0 >= sent.0 + ANSWER_WAIT.as_millis() as u64) {
                entry.sent = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::Publication;
    use crate::upstream::UpstreamMessage;

    const T0: Millis = Millis(1_000);

    fn outgoing(count: u64, payload_bytes: usize) -> Outgoing {
        let mut outgoing = Outgoing::default();
        for id in 1..=count {
            let message = UpstreamMessage::new("text", vec![0; payload_bytes]);
            outgoing.put(Arc::new(Pending { id, message: Outward::Upstream(message) }));
        }
        outgoing
    }

    fn all(outgoing: &mut Outgoing, now: Millis) -> Vec<u64> {
        std::iter::from_fn(|| outgoing.next(now)).map(|pending| pending.id).collect()
    }

    #[test]
    fn messages_go_in_order_as_the_window_has_room() {
        let mut outgoing = outgoing(20, 10);
        assert_eq!(all(&mut outgoing, T0), (1..=16).collect::<Vec<_>>());
        assert_eq!(outgoing.answered(2, ResultCode::Done, T0, 0), Answer::Final(ResultCode::Done));
        assert_eq!(outgoing.answered(2, ResultCode::Done, T0, 0), Answer::Unknown);
        assert_eq!(all(&mut outgoing, T0), [17]);
    }

    #[test]
    fn large_messages_fill_the_window_sooner() {
        let mut outgoing = outgoing(12, 10 * 1024);
        assert_eq!(all(&mut outgoing, T0), [1, 2, 3, 4, 5, 6]);
        outgoing.answered(1, ResultCode::Done, T0, 0);
        assert_eq!(all(&mut outgoing, T0), [7]);
    }

    #[test]
    fn the_next_connection_gets_all_that_was_not_answered_in_order() {
        let mut outgoing = outgoing(5, 10);
        all(&mut outgoing, T0);
        outgoing.answered(1, ResultCode::Done, T0, 0);
        outgoing.answered(3, ResultCode::NotAllowed, T0, 0);
        outgoing.reconnected();
        assert_eq!(all(&mut outgoing, T0), [2, 4, 5]);
    }

    #[test]
    fn a_busy_server_is_left_alone_longer_each_time() {
        let mut outgoing = outgoing(3, 10);
        let mut now = T0;
        assert_eq!(all(&mut outgoing, now), [1, 2, 3]);
        for wait_ms in [1_000, 2_000, 3_000, 5_000] {
            for id in 1..=3 {
                assert_eq!(outgoing.answered(id, ResultCode::Busy, now, 0), Answer::Later);
            }
            assert_eq!(outgoing.due(), Some(Millis(now.0 + wait_ms)));
            assert_eq!(outgoing.next(Millis(now.0 + wait_ms - 1)), None);
            now = Millis(now.0 + wait_ms);
            assert_eq!(all(&mut outgoing, now), [1, 2, 3]);
        }
        outgoing.answered(1, ResultCode::Done, now, 0);
        outgoing.answered(2, ResultCode::Busy, now, 0);
        assert_eq!(outgoing.due(), Some(Millis(now.0 + 1_000)), "an answer ends the row");
    }

    #[test]
    fn what_meets_a_quota_is_kept_and_comes_again_after_minutes() {
        let mut outgoing = outgoing(1, 10);
        all(&mut outgoing, T0);
        assert_eq!(outgoing.answered(1, ResultCode::Quota, T0, 500), Answer::Later);
        assert_eq!(outgoing.due(), Some(Millis(T0.0 + 120_500)));
        assert_eq!(all(&mut outgoing, Millis(T0.0 + 120_500)), [1]);
    }

    #[test]
    fn a_publication_that_meets_a_quota_is_told_and_holds_up_nothing() {
        let mut outgoing = Outgoing::default();
        for id in 1..=2 {
            let message = Outward::Publication(Publication::new("a", "x"));
            outgoing.put(Arc::new(Pending { id, message }));
        }
        all(&mut outgoing, T0);
        let answer = outgoing.answered(1, ResultCode::Quota, T0, 0);
        assert_eq!(answer, Answer::Final(ResultCode::Quota));
        assert_eq!(outgoing.answered(2, ResultCode::Busy, T0, 0), Answer::Later);
        assert_eq!(all(&mut outgoing, Millis(T0.0 + 1_000)), [2]);
    }

    #[test]
    fn what_is_never_answered_is_sent_again() {
        let mut outgoing = outgoing(2, 10);
        all(&mut outgoing, T0);
        assert_eq!(outgoing.due(), Some(Millis(T0.0 + 30_000)));
        outgoing.tick(Millis(T0.0 + 29_999));
        assert_eq!(outgoing.next(Millis(T0.0 + 29_999)), None);
        outgoing.tick(Millis(T0.0 + 30_000));
        assert_eq!(all(&mut outgoing, Millis(T0.0 + 30_000)), [1, 2]);
    }
}
