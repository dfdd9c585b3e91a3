//! The W3C trace of a request (Trace Context, section 3.2): taken if valid, else made.

use crate::delivery::hub::new_trace;
use crate::domain::TraceId;
use axum::http::{HeaderMap, HeaderValue};

/// The header's name.
pub const TRACEPARENT: &str = "traceparent";

/// A request's place in a trace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trace {
    /// The trace.
    pub id: TraceId,
    /// Our span in it.
    pub span: u64,
    /// The caller's flags.
    pub flags: u8,
}

impl Trace {
    /// The caller's trace with a span of ours, or a new one where the header is missing, repeated or not valid.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Trace {
        let fresh = new_trace();
        // Half of a new trace id is random enough for a span, which only has to differ within its trace.
        let span = (fresh.0 >> 64) as u64 | 1;
        let mut given = headers.get_all(TRACEPARENT).iter();
        match (given.next().and_then(|value| parse(value.as_bytes())), given.next()) {
            (Some((id, flags)), None) => Trace { id, span, flags },
            _ => Trace { id: fresh, span, flags: 1 },
        }
    }

    /// The header that answers it.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        HeaderValue::try_from(format!("00-{}-{:016x}-{:02x}", self.id, self.span, self.flags))
            .expect("hexadecimal digits and dashes are header text")
    }
}

/// Trace id and flags of a valid header.
fn parse(text: &[u8]) -> Option<(TraceId, u8)> {
    let text = std::str::from_utf8(text).ok()?;
    let mut parts = text.split('-');
    let (version, id, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let lower_hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let shaped = lower_hex(version, 2)
        && lower_hex(id, 32)
        && lower_hex(span, 16)
        && lower_hex(flags, 2)
        && version != "ff";
    // A later version may add parts; version 00 has exactly four.
    if !shaped || (version == "00" && parts.next().is_some()) || span.bytes().all(|b| b == b'0') {
        return None;
    }
    let id = TraceId::parse(id).filter(|id| *id != TraceId(0))?;
    Some((id, u8::from_str_radix(flags, 16).ok()? & 1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GIVEN: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn trace(values: &[&str]) -> Trace {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(TRACEPARENT, HeaderValue::from_str(value).unwrap());
        }
        Trace::of(&headers)
    }

    #[test]
    fn a_valid_trace_is_taken_and_answered_with_another_span() {
        let taken = trace(&[GIVEN]);
        assert_eq!(taken.id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let header = taken.header();
        let header = header.to_str().unwrap();
        assert!(header.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && header.ends_with("-01"));
        assert_ne!(header, GIVEN);
        assert_eq!(trace(&["01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"]).id, taken.id);
    }

    #[test]
    fn anything_else_is_replaced_by_a_new_trace() {
        let bad = [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473+-00f067aa0ba902b7-01",
        ];
        for text in bad {
            let made = trace(&[text]);
            assert_ne!(made.id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736", "{text}");
            assert_ne!(made.id, TraceId(0), "{text}");
        }
        assert_ne!(trace(&[GIVEN, GIVEN]).id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
    }
}
