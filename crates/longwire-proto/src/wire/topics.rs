//! Frames about topics: SUBSCRIBE and PUBLISH. UNSUBSCRIBE is a filter only; what is published comes as a PUSH of kind
//! [`Topic`](crate::id::Kind::Topic).

use super::encode::put_text;
use super::mqtt::RetainHandling;
use super::read::Reader;
use crate::limit::{TOPIC_BYTES_MAX, TOPIC_FILTER_BYTES_MAX};

/// A subscription as a device asks for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscribe<'a> {
    /// The topic filter, `$share/{group}/` included.
    pub filter: &'a str,
    /// What is published with QoS 1 or 2 is kept in the mailbox, and acked; the subscription outlives the connection. Otherwise it is
    /// sent online-only, and the subscription ends with the connection.
    pub kept: bool,
    /// Not what this device publishes itself.
    pub no_local: bool,
    /// Whether what is retained already is sent.
    pub retained: RetainHandling,
}

/// A message that a device publishes to a topic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Publish<'a> {
    /// The device's own id for the message, unique per device; comes back in the UPACK of one that is to arrive at least once.
    pub client_message: u64,
    /// Published with QoS 1: answered with UPACK when it is safe with all who are to get it. Otherwise with QoS 0: not answered.
    pub at_least_once: bool,
    /// It is kept for later subscribers; without content it takes away what was kept.
    pub retain: bool,
    /// Seconds that it lives; 0 = not said.
    pub ttl_s: u32,
    /// The topic.
    pub topic: &'a str,
    /// The content.
    pub payload: &'a [u8],
}

const KEPT: u8 = 1;
const NO_LOCAL: u8 = 1 << 1;
const RETAINED_SHIFT: u8 = 2;

const AT_LEAST_ONCE: u8 = 1;
const RETAIN: u8 = 1 << 1;

impl<'a> Subscribe<'a> {
    /// Behind the number of the request.
    pub(super) fn decode(body: &mut Reader<'a>) -> Option<Subscribe<'a>> {
        let options = body.u8().filter(|options| *options < 1 << 4)?;
        let retained = match options >> RETAINED_SHIFT {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return None,
        };
        Some(Subscribe {
            filter: body.word(TOPIC_FILTER_BYTES_MAX).filter(|filter| !filter.is_empty())?,
            kept: options & KEPT != 0,
            no_local: options & NO_LOCAL != 0,
            retained,
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let retained = (self.retained as u8) << RETAINED_SHIFT;
        out.push(flag(self.kept, KEPT) | flag(self.no_local, NO_LOCAL) | retained);
        put_text(out, self.filter, TOPIC_FILTER_BYTES_MAX);
    }
}

impl<'a> Publish<'a> {
    pub(super) fn decode(body: &mut Reader<'a>) -> Option<Publish<'a>> {
        let client_message = body.u64()?;
        let options = body.u8().filter(|options| *options < 1 << 2)?;
        Some(Publish {
            client_message,
            at_least_once: options & AT_LEAST_ONCE != 0,
            retain: options & RETAIN != 0,
            ttl_s: body.u32()?,
            topic: body.word(TOPIC_BYTES_MAX).filter(|topic| !topic.is_empty())?,
            payload: body.rest(),
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.client_message.to_be_bytes());
        out.push(flag(self.at_least_once, AT_LEAST_ONCE) | flag(self.retain, RETAIN));
        out.extend_from_slice(&self.ttl_s.to_be_bytes());
        put_text(out, self.topic, TOPIC_BYTES_MAX);
        out.extend_from_slice(self.payload);
    }
}

fn flag(is: bool, bit: u8) -> u8 {
    if is { bit } else { 0 }
}
