//! What the publishers of a fleet send: flat out, by the clock, or as fast as this fleet's subscribers receive.

use std::time::{Duration, Instant};

use longwire_proto::wire::mqtt::QoS;

use crate::clock;
use crate::latency::{STAMP_BYTES, stamp};
use crate::order::Publish;

/// Messages of one turn at most, so that reading goes on.
const MESSAGES_PER_TURN_MAX: u64 = 4096;
/// Messages that were due and could not be sent are forgotten beyond so many seconds of the rate.
const OWED_MAX_S: f64 = 1.0;
/// A closed window that nothing has arrived in for so long holds messages that are lost.
const LOST_TIME: Duration = Duration::from_millis(500);

/// Publishing under way.
#[derive(Debug)]
pub(in crate::fleet) struct Publishing {
    order: Publish,
    /// Peers that publish.
    pub(in crate::fleet) publishers: Vec<usize>,
    /// The peer that is next.
    pub(in crate::fleet) cursor: usize,
    next_topic: usize,
    topic: String,
    content: Vec<u8>,
    published: u64,
    written_off: u64,
    ends: Instant,
    clocked: Instant,
    /// Due by the clock and not sent.
    owed: f64,
    /// Received when publishing began.
    received_before: u64,
    received: u64,
    arrived: Instant,
}

impl Publishing {
    /// Publishing by `publishers`, when so many messages have been received before.
    pub(in crate::fleet) fn begin(
        order: Publish,
        publishers: Vec<usize>,
        received_before: u64,
    ) -> Publishing {
        let now = Instant::now();
        Publishing {
            publishers,
            cursor: 0,
            next_topic: 0,
            topic: String::new(),
            content: vec![b'.'; order.bytes.max(STAMP_BYTES)],
            published: 0,
            written_off: 0,
            ends: now + Duration::from_millis(order.within_ms),
            clocked: now,
            owed: 0.0,
            received_before,
            received: 0,
            arrived: now,
            order,
        }
    }

    /// Whether there is nothing more to publish.
    pub(in crate::fleet) fn is_over(&self, now: Instant) -> bool {
        now >= self.ends || self.published >= self.order.messages_max
    }

    /// How many messages may go now, when so many were received in all.
    pub(in crate::fleet) fn due(&mut self, received: u64, now: Instant) -> u64 {
        let mut due = MESSAGES_PER_TURN_MAX.min(self.order.messages_max - self.published);
        if self.order.per_s > 0.0 {
            self.owed += now.duration_since(self.clocked).as_secs_f64() * self.order.per_s;
            self.owed = self.owed.min((self.order.per_s * OWED_MAX_S).max(1.0));
            due = due.min(self.owed as u64);
        }
        self.clocked = now;
        if self.order.window > 0 {
            due = due.min(self.room(received - self.received_before, now));
        }
        due
    }

    /// Room in the window of messages that were published and not received.
    fn room(&mut self, received: u64, now: Instant) -> u64 {
        if received != self.received {
            (self.received, self.arrived) = (received, now);
        }
        let arrived = received / self.order.fan.max(1) + self.written_off;
        let under_way = self.published.saturating_sub(arrived);
        if under_way >= self.order.window && now.duration_since(self.arrived) > LOST_TIME {
            self.written_off += under_way;
            self.arrived = now;
            return self.order.window;
        }
        self.order.window.saturating_sub(under_way)
    }

    /// The next message, stamped now.
    pub(in crate::fleet) fn next(&mut self) -> (&str, &[u8], QoS) {
        use std::fmt::Write;
        if self.topic.is_empty() || self.order.topics > 0 {
            self.topic.clear();
            self.topic.push_str(&self.order.topic);
            if self.order.topics > 0 {
                let number = self.order.first + self.next_topic;
                // A text takes whatever is written.
                let _ = write!(self.topic, "/{number}");
            }
        }
        let at = self.content.len() - STAMP_BYTES;
        self.content[at..].copy_from_slice(stamp(clock::now_ns()).as_bytes());
        let qos = QoS::from_bits(self.order.qos).unwrap_or(QoS::AtMostOnce);
        (&self.topic, &self.content, qos)
    }

    /// The message went out.
    pub(in crate::fleet) fn went(&mut self) {
        self.published += 1;
        self.next_topic = (self.next_topic + 1) % self.order.topics.max(1);
        if self.order.per_s > 0.0 {
            self.owed -= 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Publish {
        Publish {
            topic: "t".into(),
            topics: 0,
            first: 0,
            bytes: 64,
            qos: 0,
            per_s: 0.0,
            window: 4,
            fan: 10,
            messages_max: 1_000,
            within_ms: 60_000,
        }
    }

    fn send(publishing: &mut Publishing, count: u64) {
        for _ in 0..count {
            publishing.next();
            publishing.went();
        }
    }

    #[test]
    fn a_window_opens_as_messages_arrive_everywhere_and_when_they_are_lost() {
        let begin = Instant::now();
        let mut publishing = Publishing::begin(order(), vec![0], 7);
        assert_eq!(publishing.due(7, begin), 4);
        send(&mut publishing, 4);
        assert_eq!(publishing.due(7 + 9, begin), 0, "one of ten has not come yet");
        assert_eq!(publishing.due(7 + 20, begin), 2);
        send(&mut publishing, 2);
        assert_eq!(publishing.due(7 + 20, begin + LOST_TIME), 0);
        assert_eq!(publishing.due(7 + 20, begin + LOST_TIME * 2), 4);
    }

    #[test]
    fn a_rate_is_kept_and_what_was_missed_is_not_made_up_for() {
        let order = Publish { per_s: 100.0, window: 0, ..order() };
        let mut publishing = Publishing::begin(order, vec![0], 0);
        let begin = publishing.clocked;
        assert_eq!(publishing.due(0, begin + Duration::from_millis(55)), 5);
        send(&mut publishing, 5);
        assert_eq!(publishing.due(0, begin + Duration::from_millis(65)), 1);
        assert_eq!(publishing.due(0, begin + Duration::from_secs(50)), 100);
    }

    #[test]
    fn topics_go_round_and_the_bound_holds() {
        let order = Publish { topics: 2, first: 5, window: 0, messages_max: 3, ..order() };
        let mut publishing = Publishing::begin(order, vec![0], 0);
        let mut topics = Vec::new();
        while publishing.due(0, publishing.clocked) > 0 {
            topics.push(publishing.next().0.to_owned());
            publishing.went();
        }
        assert_eq!(topics, ["t/5", "t/6", "t/5"]);
        assert!(publishing.is_over(publishing.clocked));
    }
}
