//! When a push is to be made: once, or again and again by the calendar of a time zone.

use super::{Invalid, WallMs};
use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::{AmbiguousOffset, TimeZone};
use std::fmt;

/// How far ahead a schedule may reach, milliseconds: ten years.
pub const AHEAD_MS_MAX: u64 = 3660 * 86_400_000;
/// Days, weeks or months between two occurrences at most.
pub const FREQUENCY_MAX: u16 = 100;
/// A schedule's name, bytes.
pub const SCHEDULE_NAME_BYTES_MAX: usize = 128;
/// A time zone's name, bytes.
const ZONE_BYTES_MAX: usize = 64;
const DAY_S: u32 = 86_400;

/// A schedule's number; rises with time, and so orders them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ScheduleId(pub u128);

impl fmt::Display for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl ScheduleId {
    /// Reads what `Display` writes; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<ScheduleId> {
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        digits.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(ScheduleId)
    }
}

/// When a schedule fires.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// Once, then.
    Single(WallMs),
    /// Again and again.
    Periodical(Box<Periodical>),
}

/// The days of a periodical trigger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Every day.
    Day,
    /// Some days of a week: bit 0 is Monday, bit 6 Sunday.
    Week(u8),
    /// Some days of a month: bit 0 is the first. A month without such a day has none then.
    Month(u32),
}

/// A time of day on some days of the calendar of a zone, from `start` to `end`. Weeks begin on Monday; days, weeks and months are
/// counted from the one that `start` lies in.
#[derive(Clone, Debug)]
pub struct Periodical {
    start: WallMs,
    end: WallMs,
    second: u32,
    unit: Unit,
    frequency: u16,
    zone: TimeZone,
    zone_name: Box<str>,
}

impl PartialEq for Periodical {
    fn eq(&self, other: &Periodical) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for Periodical {}

/// What a [`Periodical`] is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeriodicalParts<'a> {
    /// No occurrence is before this.
    pub start: WallMs,
    /// None is after this.
    pub end: WallMs,
    /// The local time of day, seconds after midnight.
    pub second: u32,
    /// On which days.
    pub unit: Unit,
    /// Of which days, weeks or months: 1 = every one.
    pub frequency: u16,
    /// IANA name of the zone.
    pub zone: &'a str,
}

impl Periodical {
    /// A trigger of these parts.
    ///
    /// # Errors
    /// A part is out of its bounds, the zone is not known, or it would never fire.
    pub fn new(parts: &PeriodicalParts<'_>) -> Result<Periodical, Invalid> {
        let invalid =
            |field: &str, problem: &str| Invalid::new(format!("trigger.periodical.{field}"), problem);
        if parts.end <= parts.start {
            return Err(invalid("end", "must be after start"));
        }
        if parts.end.0 - parts.start.0 > AHEAD_MS_MAX {
            return Err(invalid("end", "at most ten years after start"));
        }
        if parts.second >= DAY_S {
            return Err(invalid("time", "must be a time of day, 00:00:00 to 23:59:59"));
        }
        if !(1..=FREQUENCY_MAX).contains(&parts.frequency) {
            return Err(invalid("frequency", "must be 1 to 100"));
        }
        let some_day = match parts.unit {
            Unit::Day => true,
            Unit::Week(days) => days != 0 && days < 1 << 7,
            Unit::Month(days) => days != 0 && days < 1 << 31,
        };
        if !some_day {
            return Err(invalid("points", "at least one day is needed"));
        }
        let unknown = || invalid("tz", "must be the IANA name of a time zone, as Europe/Berlin");
        if parts.zone.len() > ZONE_BYTES_MAX {
            return Err(unknown());
        }
        let zone = TimeZone::get(parts.zone).map_err(|_| unknown())?;
        let made = Periodical {
            start: parts.start,
            end: parts.end,
            second: parts.second,
            unit: parts.unit,
            frequency: parts.frequency,
            zone,
            zone_name: parts.zone.into(),
        };
        if made.next_after(WallMs(0)).is_none() {
            return Err(Invalid::new("trigger.periodical", "has no day between start and end"));
        }
        Ok(made)
    }

    /// What it was made of.
    #[must_use]
    pub fn parts(&self) -> PeriodicalParts<'_> {
        PeriodicalParts {
            start: self.start,
            end: self.end,
            second: self.second,
            unit: self.unit,
            frequency: self.frequency,
            zone: &self.zone_name,
        }
    }

    fn next_after(&self, after: WallMs) -> Option<WallMs> {
        let first = self.date_of(self.start)?;
        // An instant may belong to the day before: where a zone skipped a whole day, its occurrence is the next one's start.
        let mut date = self.date_of(after.max(self.start))?.yesterday().ok()?.max(first);
        let last = self.date_of(self.end)?;
        while date <= last {
            if self.has(first, date)
                && let Some(at) = self.instant(date)
                && at > after
                && at >= self.start
            {
                return (at <= self.end).then_some(at);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn date_of(&self, at: WallMs) -> Option<Date> {
        let at = Timestamp::from_millisecond(i64::try_from(at.0).ok()?).ok()?;
        Some(self.zone.to_datetime(at).date())
    }

    /// Whether it has an occurrence on a day.
    fn has(&self, first: Date, date: Date) -> bool {
        let days = |from: Date, to: Date| from.duration_until(to).as_hours() / 24;
        let monday = |date: Date| i64::from(date.weekday().to_monday_zero_offset());
        let month = |date: Date| i64::from(date.year()) * 12 + i64::from(date.month());
        let (number, is_point) = match self.unit {
            Unit::Day => (days(first, date), true),
            Unit::Week(points) => {
                let weeks = (days(first, date) + monday(first) - monday(date)) / 7;
                (weeks, points & (1 << monday(date)) != 0)
            }
            Unit::Month(points) => (month(date) - month(first), points & (1 << (date.day() - 1)) != 0),
        };
        is_point && number % i64::from(self.frequency) == 0
    }

    /// The instant of its time on a day. A local time that does not exist is the next instant that does, the end of the gap; of
    /// one that exists twice it is the first.
    fn instant(&self, date: Date) -> Option<WallMs> {
        let unit = |seconds: u32| i8::try_from(seconds).ok();
        let (h, m, s) = (unit(self.second / 3600)?, unit(self.second / 60 % 60)?, unit(self.second % 60)?);
        let local = date.to_datetime(Time::new(h, m, s, 0).ok()?);
        let at = match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok()?,
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).ok()?,
            AmbiguousOffset::Gap { after, .. } => {
                // As the later offset has it, the time lies before the gap: the next change of the zone is its end.
                let before_gap = after.to_timestamp(local).ok()?;
                self.zone.following(before_gap).next()?.timestamp()
            }
        };
        u64::try_from(at.as_millisecond()).ok().map(WallMs)
    }
}

impl Trigger {
    /// Its first occurrence after `after`.
    #[must_use]
    pub fn next_after(&self, after: WallMs) -> Option<WallMs> {
        match self {
            Trigger::Single(at) => (*at > after).then_some(*at),
            Trigger::Periodical(periodical) => periodical.next_after(after),
        }
    }

    /// Of the occurrences from `due` to `now`, the last: what fires of all that was missed.
    #[must_use]
    pub fn last_missed(&self, due: WallMs, now: WallMs) -> WallMs {
        let mut last = due;
        while let Some(next) = self.next_after(last).filter(|next| *next <= now) {
            last = next;
        }
        last
    }
}

/// A time as callers write it, RFC 3339 with an offset; `None` for anything else, and for times before 1970.
#[must_use]
pub fn instant(text: &str) -> Option<WallMs> {
    // The library reads more than RFC 3339: a space for the T, no seconds, a zone in brackets.
    let bytes = text.as_bytes();
    let shaped = (20..=40).contains(&bytes.len())
        && matches!(bytes[10], b'T' | b't')
        && bytes[16] == b':'
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && (matches!(bytes.last(), Some(b'Z' | b'z')) || bytes[bytes.len() - 3] == b':');
    let at: Timestamp = shaped.then(|| text.parse().ok()).flatten()?;
    u64::try_from(at.as_millisecond()).ok().map(WallMs)
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
