//! The last part of the checker: how every message ended, the books, and what was replaced or recalled.

use crate::checker::{Checker, Outcome};
use crate::history::{Audience, Counts, Why};
use longwire_proto::id::MessageId;
use std::collections::HashMap;

/// Requests with one collapse key for one audience: when asked, when answered, their message.
type Keyed = HashMap<(Audience, u32), Vec<(u64, u64, Outcome, Option<MessageId>)>>;

impl Checker<'_> {
    /// What became of every accepted message.
    pub(super) fn judge_ends(&mut self) {
        for push in std::mem::take(&mut self.planned) {
            self.breach("I1", format!("push {push} was accepted for later, and is no message"));
        }
        let accepted: Vec<(MessageId, Audience)> = self
            .attempts
            .values()
            .filter(|attempt| attempt.outcome == Outcome::Accepted)
            .filter_map(|attempt| Some((attempt.message?, attempt.audience)))
            .collect();
        for (message, audience) in accepted {
            match self.counted.get(&message).copied() {
                Some(counts) => self.judge_end(message, audience, counts),
                None => {
                    self.breach("I1", format!("{message} was accepted, and the server has no record of it"))
                }
            }
        }
    }

    fn judge_end(&mut self, message: MessageId, audience: Audience, counts: Counts) {
        let (mut missing, mut gaps, mut acked, mut unnamed) = (0, 0, 0, 0);
        for device in self.fleet.members(audience) {
            let known = &self.devices[device as usize];
            acked += u64::from(known.acked.contains(&message));
            gaps += u64::from(known.gaps.contains(&message));
            if !known.received.contains_key(&message) && !known.gaps.contains(&message) {
                missing += 1;
                unnamed += known.unnamed_gaps.min(1);
            }
        }
        let Counts { created, delivered, pending, .. } = counts;
        let excused = pending + counts.ended_without().saturating_sub(gaps) + unnamed;
        if missing > excused {
            self.breach(
                "I1",
                format!("{message} is lost for {missing} devices; records excuse {excused}: {counts:?}"),
            );
        }
        if delivered > acked {
            self.breach("I8", format!("{message}: {delivered} delivered, {acked} acked"));
        }
        let unsettled = acked.saturating_sub(delivered) > pending + counts.ended_without();
        let members = self.fleet.members(audience).count() as u64;
        let addressed = matches!(audience, Audience::Device(_));
        if addressed && acked == members && pending > 0 {
            self.breach("I13", format!("{message} was acked by its device and is still pending: {counts:?}"));
        }
        let too_many = if addressed { created != members } else { created > members };
        if !counts.balance() || unsettled || too_many {
            self.breach("I12", format!("{message}: the books do not balance: {counts:?}, {acked} acked"));
        }
    }

    /// The app's books are the sum of its messages', and hold by themselves.
    pub(super) fn judge_books(&mut self) {
        let Some((books, gap)) = self.books else { return };
        if gap != 0 || !books.balance() {
            self.breach("I12", format!("the books of the app do not balance: {books:?}, gap {gap}"));
        }
        let mut sum = Counts::default();
        self.counted.values().for_each(|counts| sum.add(counts));
        // A push without an answer may be stored and wait for its device: then nobody here knows its message.
        let unanswered = self.attempts.values().filter(|attempt| {
            attempt.message.is_none() && attempt.certainly() == Outcome::Open && attempt.is_addressed()
        });
        let unknown = books.pending.saturating_sub(sum.pending).min(unanswered.count() as u64);
        (sum.created, sum.pending) = (sum.created + unknown, sum.pending + unknown);
        if sum != books {
            self.breach("I12", format!("the books say {books:?}, the messages {sum:?}"));
        }
    }

    /// What was replaced or recalled stays away, and nothing ends so without a cause.
    pub(super) fn judge_life(&mut self) {
        let keyed = self.keyed();
        let mut found = Vec::new();
        for (device, message, began) in &self.receipts {
            if self.recalled.get(message).is_some_and(|answered| answered < began) {
                found.push(("recall", format!("device {device} got {message} after it was recalled")));
            }
            if self.replaced_before(&keyed, *message, *began) {
                found.push((
                    "collapse",
                    format!("device {device} got {message} after a newer one of its key"),
                ));
            }
        }
        let counted = self.counted.iter().flat_map(|(message, counts)| {
            let ends = [(counts.collapsed, Why::Collapsed), (counts.recalled, Why::Recalled)];
            ends.into_iter().filter(|(count, _)| *count > 0).map(|(_, why)| (*message, why))
        });
        for (message, why) in self.announced.iter().copied().chain(counted) {
            let caused = match why {
                Why::Collapsed => self.may_be_replaced(&keyed, message),
                Why::Recalled => self.recalling.contains_key(&message),
                Why::Expired | Why::Other => true,
            };
            if !caused {
                let word = if why == Why::Recalled { "recall" } else { "collapse" };
                found.push((word, format!("{message} ended so, and nobody asked for it")));
            }
        }
        for (word, what) in found {
            self.breach(word, what);
        }
    }

    fn keyed(&self) -> Keyed {
        let mut keyed = Keyed::new();
        for attempt in self.attempts.values() {
            if let Some(key) = attempt.asked.key {
                let asked = (attempt.invoked, attempt.done, attempt.certainly(), attempt.message);
                keyed.entry((attempt.audience, key)).or_default().push(asked);
            }
        }
        keyed
    }

    /// Whether one with the key of `message`, asked for when it had been accepted, was accepted before `moment`.
    fn replaced_before(&self, keyed: &Keyed, message: MessageId, moment: u64) -> bool {
        let Some(attempt) = self.by_message.get(&message).and_then(|push| self.attempts.get(push)) else {
            return false;
        };
        let Some(key) = attempt.asked.key else { return false };
        keyed.get(&(attempt.audience, key)).is_some_and(|all| {
            all.iter().any(|(invoked, done, outcome, _)| {
                *outcome == Outcome::Accepted && *invoked > attempt.done && *done < moment
            })
        })
    }

    fn may_be_replaced(&self, keyed: &Keyed, message: MessageId) -> bool {
        let attempt = self.by_message.get(&message).and_then(|push| self.attempts.get(push));
        // Which request made it is not known: it cannot be judged.
        let Some(attempt) = attempt else { return true };
        let Some(key) = attempt.asked.key else { return false };
        keyed.get(&(attempt.audience, key)).is_some_and(|all| {
            let other = |made: &Option<MessageId>| *made != Some(message);
            all.iter().any(|(_, _, outcome, made)| *outcome != Outcome::Refused && other(made))
        })
    }
}
