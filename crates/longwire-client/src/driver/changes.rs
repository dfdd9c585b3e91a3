//! What the application wants changed of the device: asked for one after the other, each until it is answered for good. Pure:
//! time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use longwire_proto::session::Millis;
use longwire_proto::wire::{BackOff, ResultCode, SelfService};

use crate::back_off::delay;
use crate::incoming::Incoming;
use crate::own::OwnChange;

/// Changes that may wait; one more is answered with [`ResultCode::Busy`] at once.
const WAITING_MAX: usize = 256;
/// A server that lives and does not answer for so long is asked again.
const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// The numbers of these requests have this bit, those of subscriptions have not.
const MARK: u32 = 1 << 31;

/// The changes, in the order in which they were asked for. One is under way at a time, so that a busy server changes no order.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    waiting: VecDeque<OwnChange>,
    /// Under which number the first one was asked for, and when.
    asked: Option<(u32, Millis)>,
    last_request: u32,
    /// The server was busy: nothing is asked before.
    hold: Option<Millis>,
    busy: u32,
}

impl Changes {
    /// Whether a request's number is of these.
    pub(crate) fn has(request: u32) -> bool {
        request & MARK != 0
    }

    /// The application wants a change. What it is told at once.
    pub(crate) fn want(&mut self, change: OwnChange) -> Option<Incoming> {
        if self.waiting.len() >= WAITING_MAX {
            return Some(Incoming::Changed { change, outcome: ResultCode::Busy });
        }
        self.waiting.push_back(change);
        None
    }

    /// A new connection: nothing was asked on it. What was under way may have been made; asking again does no harm.
    pub(crate) fn reconnected(&mut self) {
        (self.asked, self.hold) = (None, None);
    }

    /// The request to send now.
    pub(crate) fn next(&mut self, now: Millis) -> Option<(u32, SelfService<'_>)> {
        if self.asked.is_some() || self.hold.is_some_and(|hold| now < hold) {
            return None;
        }
        self.hold = None;
        let change = self.waiting.front()?;
        self.last_request = self.last_request.wrapping_add(1);
        let request = self.last_request | MARK;
        self.asked = Some((request, now));
        Some((request, change.frame()))
    }

    /// The server answered. What the application is told.
    pub(crate) fn answered(
        &mut self,
        request: u32,
        code: ResultCode,
        now: Millis,
        random: u64,
    ) -> Option<Incoming> {
        self.asked.take_if(|(asked, _)| *asked == request)?;
        if code == ResultCode::Busy {
            let wait = delay(&BackOff::default(), self.busy, random);
            self.busy = self.busy.saturating_add(1);
            self.hold = Some(Millis(now.0 + wait.as_millis() as u64));
            return None;
        }
        self.busy = 0;
        let change = self.waiting.pop_front()?;
        Some(Incoming::Changed { change, outcome: code })
    }

    /// When [`Changes::tick`] and [`Changes::next`] should be asked again, if nothing else happens before.
    pub(crate) fn due(&self) -> Option<Millis> {
        let answer_due = self.asked.map(|(_, asked)| Millis(asked.0 + ANSWER_WAIT.as_millis() as u64));
        self.hold.or(answer_due)
    }

    /// Forgets that something was asked which nobody answered.
    pub(crate) fn tick(&mut self, now: Millis) {
        self.asked.take_if(|(_, asked)| now.0 >= asked.0 + ANSWER_WAIT.as_millis() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: Millis = Millis(1_000);

    fn tag(number: usize) -> OwnChange {
        OwnChange::AddTag(number.to_string())
    }

    fn asked(changes: &mut Changes, now: Millis) -> Option<(u32, String)> {
        changes.next(now).map(|(request, what)| match what {
            SelfService::TagAdd(tag) => (request & !MARK, tag.to_owned()),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn one_after_the_other_and_a_new_connection_asks_again() {
        let mut changes = Changes::default();
        assert!(changes.want(tag(1)).is_none() && changes.want(tag(2)).is_none());
        assert_eq!(asked(&mut changes, T0), Some((1, "1".into())));
        assert_eq!(asked(&mut changes, T0), None);
        changes.reconnected();
        assert_eq!(asked(&mut changes, T0), Some((2, "1".into())));
        assert!(changes.answered(MARK | 1, ResultCode::Done, T0, 0).is_none(), "of the older connection");
        let told = changes.answered(MARK | 2, ResultCode::NotAllowed, T0, 0);
        assert!(
            matches!(told, Some(Incoming::Changed { change, outcome: ResultCode::NotAllowed }) if change == tag(1))
        );
        assert_eq!(asked(&mut changes, T0), Some((3, "2".into())));
    }

    #[test]
    fn a_busy_server_is_left_alone_and_a_silent_one_asked_again() {
        let mut changes = Changes::default();
        changes.want(tag(1));
        asked(&mut changes, T0);
        assert!(changes.answered(MARK | 1, ResultCode::Busy, T0, 0).is_none());
        assert_eq!(changes.due(), Some(Millis(T0.0 + 1_000)));
        assert_eq!(asked(&mut changes, Millis(T0.0 + 999)), None);
        assert_eq!(asked(&mut changes, Millis(T0.0 + 1_000)), Some((2, "1".into())));
        changes.tick(Millis(T0.0 + 31_000));
        assert_eq!(asked(&mut changes, Millis(T0.0 + 31_000)), Some((3, "1".into())));
    }

    #[test]
    fn there_is_a_bound() {
        let mut changes = Changes::default();
        for number in 0..WAITING_MAX {
            assert!(changes.want(tag(number)).is_none());
        }
        let told = changes.want(tag(7));
        assert!(matches!(told, Some(Incoming::Changed { outcome: ResultCode::Busy, .. })));
    }
}
