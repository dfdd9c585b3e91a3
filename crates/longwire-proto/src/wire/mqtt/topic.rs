//! Topic names and filters (4.7, 4.8): what is valid, and what matches what. Bytes are compared as they are; nothing is
//! normalized.

use super::{Fault, Limits, text};

/// What a shared subscription begins with (4.8.2).
const SHARE: &str = "$share/";

const CONTROL: u8 = 1;
const WILDCARD: u8 = 2;
const SLASH: u8 = 4;
const WIDE: u8 = 8;

/// What a byte of a topic is, so that one pass over the bytes finds all that matters.
const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte as u8 {
            0..=0x1F | 0x7F => CONTROL,
            b'+' | b'#' => WILDCARD,
            b'/' => SLASH,
            0x80.. => WIDE,
            _ => 0,
        };
        byte += 1;
    }
    class
};

/// Reads text, sees what is in it, and holds its levels against the limits; the classes that were met.
#[inline]
fn survey<'a>(bytes: &'a [u8], limits: &Limits, fault: Fault) -> Result<(&'a str, u8), Fault> {
    let text = std::str::from_utf8(bytes).map_err(|_| Fault::Utf8)?;
    // MQTT-4.7.3-1; the upper bound of MQTT-4.7.3-3 is the length field itself.
    if bytes.is_empty() || bytes.len() > usize::from(limits.topic_bytes_max) {
        return Err(fault);
    }
    let (mut met, mut levels, mut level_bytes, mut longest) = (0u8, 1u32, 0u32, 0u32);
    for &byte in bytes {
        let class = CLASS[usize::from(byte)];
        met |= class;
        if class == SLASH {
            longest = longest.max(level_bytes);
            level_bytes = 0;
            levels += 1;
        } else {
            level_bytes += 1;
        }
    }
    if met & CONTROL != 0 {
        return Err(if bytes.contains(&0) { Fault::Null } else { Fault::Control });
    }
    if met & WIDE != 0 && text::has_oddities(text) {
        return Err(Fault::Control);
    }
    let within = levels <= u32::from(limits.topic_levels_max)
        && longest.max(level_bytes) <= u32::from(limits.level_bytes_max);
    if within { Ok((text, met)) } else { Err(fault) }
}

/// A topic name: not empty, no wildcard (MQTT-3.3.2-2, -4.7.0-1), within the limits.
///
/// # Errors
/// [`Fault::Utf8`], [`Fault::Null`], [`Fault::Control`], [`Fault::TopicName`].
#[inline]
pub fn name<'a>(bytes: &'a [u8], limits: &Limits) -> Result<&'a str, Fault> {
    let (text, met) = survey(bytes, limits, Fault::TopicName)?;
    if met & WILDCARD == 0 { Ok(text) } else { Err(Fault::TopicName) }
}

/// A valid topic filter, of an ordinary or a shared subscription.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Filter<'a> {
    whole: &'a str,
    /// Bytes of the group's name; 0 if the subscription is not shared.
    group_bytes: u16,
}

impl<'a> Filter<'a> {
    /// Judges a filter. The length limit holds for the whole, `$share/{group}/` included; so does that of levels.
    ///
    /// # Errors
    /// [`Fault::Utf8`], [`Fault::Null`], [`Fault::Control`], [`Fault::TopicFilter`], [`Fault::SharedFilter`].
    pub fn parse(bytes: &'a [u8], limits: &Limits) -> Result<Filter<'a>, Fault> {
        let (text, met) = survey(bytes, limits, Fault::TopicFilter)?;
        let filter = Filter::split(text)?;
        if met & WILDCARD != 0 && !wildcards_fit(filter.pattern()) {
            return Err(Fault::TopicFilter);
        }
        Ok(filter)
    }

    /// Finds the group of a shared subscription (MQTT-4.8.2-1, -2).
    pub(super) fn split(whole: &'a str) -> Result<Filter<'a>, Fault> {
        let Some(rest) = whole.strip_prefix(SHARE) else { return Ok(Filter { whole, group_bytes: 0 }) };
        let (group, pattern) = rest.split_once('/').ok_or(Fault::SharedFilter)?;
        if group.is_empty() || pattern.is_empty() || group.contains(['+', '#']) {
            return Err(Fault::SharedFilter);
        }
        Ok(Filter { whole, group_bytes: group.len() as u16 })
    }

    /// The filter as it was sent.
    #[must_use]
    pub const fn as_str(&self) -> &'a str {
        self.whole
    }

    /// The group of a shared subscription.
    #[must_use]
    pub fn group(&self) -> Option<&'a str> {
        let end = SHARE.len() + usize::from(self.group_bytes);
        if self.group_bytes == 0 { None } else { self.whole.get(SHARE.len()..end) }
    }

    /// What topics are matched against: the filter without `$share/{group}/`.
    #[must_use]
    pub fn pattern(&self) -> &'a str {
        match self.group_bytes {
            0 => self.whole,
            bytes => self.whole.get(SHARE.len() + usize::from(bytes) + 1..).unwrap_or(self.whole),
        }
    }

    /// Whether the pattern has a wildcard.
    #[must_use]
    pub fn has_wildcard(&self) -> bool {
        self.pattern().bytes().any(|byte| CLASS[usize::from(byte)] == WILDCARD)
    }

    /// Whether a topic name is meant.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        matches(self.pattern(), name)
    }
}

/// `#` is the whole last level (MQTT-4.7.1-1), `+` the whole of its level (MQTT-4.7.1-2).
fn wildcards_fit(pattern: &str) -> bool {
    let mut rest = levels(pattern).peekable();
    while let Some(level) = rest.next() {
        let fits = match level {
            "+" => true,
            "#" => rest.peek().is_none(),
            other => !other.contains(['+', '#']),
        };
        if !fits {
            return false;
        }
    }
    true
}

/// The levels of a name or pattern; an empty level is a level (4.7.1.1). Allocates nothing.
pub fn levels(text: &str) -> std::str::Split<'_, char> {
    text.split('/')
}

/// Whether a valid pattern (without `$share/{group}/`) means a valid topic name. `#` means its parent too (4.7.1.2), and a
/// leading wildcard no name that begins with `$` (MQTT-4.7.2-1).
#[must_use]
pub fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('$') && pattern.starts_with(['+', '#']) {
        return false;
    }
    let mut wanted = levels(pattern);
    let mut given = levels(name);
    loop {
        match (wanted.next(), given.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return false,
        }
    }
}
