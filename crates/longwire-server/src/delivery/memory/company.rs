//! What is kept of a device with more than one connection: the connections beside the first, and which messages are in
//! their windows, so that a delivery is in flight once however many of them hold it.
//!
//! Shards count each sending. Of a message that several windows of one device hold, or that one of them has ended, every
//! sending but one is taken off again as *landed*: what a delivery adds to what is in flight is one while at least one
//! window holds it and none has ended it, else nothing.

use super::sessions::Seat;
use crate::domain::MessageId;
use std::collections::{HashMap, VecDeque};

/// Ended messages that are remembered per device, while it has several connections: as many as eight windows hold. A
/// sending of one that was forgotten is in flight until it is acked or its connection ends.
const ENDED_MAX: usize = 256;

/// See the module. As large as what the windows of the device's connections hold.
#[derive(Default)]
pub(super) struct Company {
    /// The connections beside the one in the table, oldest first.
    pub(super) others: Vec<Seat>,
    /// In how many windows each message is.
    held: HashMap<MessageId, u32>,
    ended: VecDeque<MessageId>,
}

/// What an ack came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Settling {
    /// The connection is one of the device's; else its ack counts for nothing.
    pub(crate) current: bool,
    /// Nobody had ended this delivery.
    pub(crate) first: bool,
    /// By so many the deliveries in flight become fewer.
    pub(crate) landed: u32,
}

impl Company {
    /// A message went into a window. True: that sending adds nothing to what is in flight.
    pub(super) fn hold(&mut self, message: MessageId) -> bool {
        let windows = self.held.entry(message).or_default();
        *windows += 1;
        *windows > 1 || self.ended.contains(&message)
    }

    /// A message left a window without an end. True: it is in flight no more.
    pub(super) fn let_go(&mut self, message: MessageId) -> bool {
        let Some(windows) = self.held.get_mut(&message) else { return false };
        *windows -= 1;
        if *windows > 0 {
            return false;
        }
        self.held.remove(&message);
        !self.ended.contains(&message)
    }

    /// A connection ended a delivery. Returns whether it was the first, and whether it was in flight until now.
    pub(super) fn end(&mut self, message: MessageId, was_held: bool) -> (bool, bool) {
        let first = !self.ended.contains(&message);
        let in_flight = first && self.held.contains_key(&message);
        if was_held {
            self.let_go(message);
        }
        if first && !self.others.is_empty() {
            if self.ended.len() == ENDED_MAX {
                self.ended.pop_front();
            }
            self.ended.push_back(message);
        }
        (first, in_flight)
    }

    /// Whether nothing is left to be known.
    pub(super) fn is_over(&self) -> bool {
        self.others.is_empty() && self.held.is_empty()
    }

    /// About what it takes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Company>()
            + self.others.capacity() * size_of::<Seat>()
            + self.held.capacity() * size_of::<(MessageId, u32)>()
            + self.ended.capacity() * size_of::<MessageId>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::border::{Handle, ShardId};
    use longwire_proto::wire::Class;

    const M: MessageId = MessageId(5);

    fn pair() -> Company {
        let other = Seat::new(Handle::new(ShardId(0), 1, 1), Class::Pc);
        Company { others: vec![other], ..Company::default() }
    }

    #[test]
    fn of_two_windows_with_one_message_one_counts_until_one_of_them_ends_it() {
        let mut company = pair();
        assert!(!company.hold(M));
        assert!(company.hold(M), "the second sending is the same delivery");
        assert_eq!(company.end(M, true), (true, true));
        assert_eq!(company.end(M, true), (false, false));
        assert!(company.held.is_empty());
        assert!(company.hold(M), "a page that was read before the end adds nothing");
        assert!(!company.let_go(M));
    }

    #[test]
    fn a_message_that_the_last_window_lets_go_of_is_in_flight_no_more() {
        let mut company = pair();
        company.hold(M);
        company.hold(M);
        assert!(!company.let_go(M));
        assert!(company.let_go(M));
        assert!(!company.let_go(M), "nobody held it");
        assert!(!company.hold(M), "it comes again to the next connection");
    }

    #[test]
    fn what_is_remembered_as_ended_is_bounded_and_needs_company() {
        let mut company = pair();
        for id in 0..1000 {
            company.end(MessageId(id), false);
        }
        assert_eq!(company.ended.len(), ENDED_MAX);
        assert_eq!(company.end(MessageId(999), false), (false, false));
        let mut alone = Company::default();
        alone.hold(M);
        assert_eq!(alone.end(M, true), (true, true));
        assert!(alone.is_over() && alone.ended.is_empty());
    }
}
