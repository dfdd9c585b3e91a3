//! Topics and filters as the business writes them.

use super::super::Invalid;
use longwire_proto::wire::mqtt::Limits;
use longwire_proto::wire::mqtt::topic::{self, Filter};

/// A topic that the business may publish to: a valid name (MQTT-4.7.3) within the limits of devices, not one of the server's,
/// which begin with `$`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicName(Box<str>);

impl TopicName {
    /// # Errors
    /// Names the field, and what is wrong.
    pub fn parse(field: &str, text: &str) -> Result<TopicName, Invalid> {
        if text.starts_with('$') {
            return Err(Invalid::new(field, "topics that begin with $ are the server's"));
        }
        match topic::name(text.as_bytes(), &Limits::default()) {
            Ok(name) => Ok(TopicName(name.into())),
            Err(fault) => Err(Invalid::new(field, format!("is not a topic name: {fault}"))),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A filter of topics, not shared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicFilter(Box<str>);

impl TopicFilter {
    /// # Errors
    /// Names the field, and what is wrong.
    pub fn parse(field: &str, text: &str) -> Result<TopicFilter, Invalid> {
        match Filter::parse(text.as_bytes(), &Limits::default()) {
            Ok(filter) if filter.group().is_some() => Err(Invalid::new(field, "must not be shared")),
            Ok(filter) => Ok(TopicFilter(filter.as_str().into())),
            Err(fault) => Err(Invalid::new(field, format!("is not a topic filter: {fault}"))),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_topic_is_refused() {
        for text in ["a", "a/b", "/", "a//b", "ü", "a b"] {
            assert!(TopicName::parse("topic", text).is_ok(), "{text}");
            assert!(TopicFilter::parse("filter", text).is_ok(), "{text}");
        }
        for text in ["", "a/+", "#", "a\0", "a\u{1}", "$up/x", "$SYS", &"x".repeat(65), &"a/".repeat(20)] {
            assert!(TopicName::parse("topic", text).is_err(), "{text}");
        }
        for text in ["", "a/#/b", "a+", "$share/g/a", "$share/g", "a\0"] {
            assert!(TopicFilter::parse("filter", text).is_err(), "{text}");
        }
        assert!(TopicFilter::parse("filter", "+/a/#").is_ok());
    }
}
