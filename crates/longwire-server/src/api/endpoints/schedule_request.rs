//! A schedule as callers write it, and how its parts become those of the domain.

use super::push_request::PushRequest;
use super::push_timing::instant;
use crate::api::exchange::body::parse;
use crate::api::exchange::fault::Fault;
use crate::api::exchange::object::object_if_any;
use crate::api::exchange::rfc3339::rfc3339;
use crate::domain::schedule::{Periodical, PeriodicalParts, SCHEDULE_NAME_BYTES_MAX, Unit};
use crate::domain::{Invalid, Push, TraceId, Trigger, WallMs};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A scheduled push as it is written, bytes: 10 KiB of content in base64 or escapes, and a thousand names of 128 bytes.
pub(super) const SCHEDULED_PUSH_BYTES_MAX: usize = 192 * 1024;
/// Points of a trigger: the days of a month.
const POINTS_MAX: usize = 31;
const WEEKDAYS: [&str; 7] = ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"];

/// When a schedule fires: exactly one of the two.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct TriggerField {
    /// Once.
    #[serde(default, deserialize_with = "object_if_any", skip_serializing_if = "Option::is_none")]
    single: Option<SingleField>,
    /// Again and again.
    #[serde(default, deserialize_with = "object_if_any", skip_serializing_if = "Option::is_none")]
    periodical: Option<PeriodicalField>,
}

/// Once.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SingleField {
    /// When, RFC 3339 with an offset; in the future, within ten years.
    #[schema(format = DateTime, example = "2026-11-21T12:00:00+08:00")]
    at: String,
}

/// A time of day on some days. A local time that does not exist, because the clock goes forward, fires when the gap ends; of one that
/// exists twice the first fires.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PeriodicalField {
    /// Nothing fires before; days, weeks and months are counted from the one that it lies in. RFC 3339 with an offset.
    #[schema(format = DateTime, example = "2026-12-01T00:00:00+01:00")]
    start: String,
    /// Nothing fires after; at most ten years after `start`.
    #[schema(format = DateTime, example = "2027-12-01T00:00:00+01:00")]
    end: String,
    /// The local time of day, `HH:MM:SS`.
    #[schema(example = "08:30:00")]
    time: String,
    /// What `frequency` counts.
    unit: UnitWord,
    /// Every so many days, weeks (they begin on Monday) or months.
    #[serde(default = "every")]
    #[schema(minimum = 1, maximum = 100, default = 1)]
    frequency: u16,
    /// On which days: `MON` to `SUN` of a week, 1 to 31 of a month; not with `day`. A month without such a day has none then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 31)]
    points: Vec<Point>,
    /// The IANA name of the time zone.
    #[serde(default = "utc")]
    #[schema(default = "UTC", example = "Europe/Berlin", max_length = 64)]
    tz: String,
}

fn every() -> u16 {
    1
}

fn utc() -> String {
    "UTC".to_owned()
}

/// A span of the calendar.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum UnitWord {
    /// Days.
    Day,
    /// Weeks.
    Week,
    /// Months.
    Month,
}

/// A day of a week or a month.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
enum Point {
    /// 1 to 31.
    Day(u32),
    /// `MON`, `TUE`, `WED`, `THU`, `FRI`, `SAT`, `SUN`.
    Weekday(String),
}

impl TriggerField {
    /// The trigger that was meant.
    ///
    /// # Errors
    /// 400 naming the field.
    pub(super) fn into_trigger(self) -> Result<Trigger, Fault> {
        match (self.single, self.periodical) {
            (Some(single), None) => instant("trigger.single.at", &single.at).map(Trigger::Single),
            (None, Some(periodical)) => periodical.into_trigger(),
            _ => Err(Fault::invalid("trigger: exactly one of single and periodical is needed")),
        }
    }

    /// A trigger as it is written.
    pub(super) fn of(trigger: &Trigger) -> TriggerField {
        match trigger {
            Trigger::Single(at) => {
                TriggerField { single: Some(SingleField { at: rfc3339(*at) }), periodical: None }
            }
            Trigger::Periodical(periodical) => {
                let periodical = Some(PeriodicalField::of(&periodical.parts()));
                TriggerField { single: None, periodical }
            }
        }
    }
}

impl PeriodicalField {
    fn into_trigger(self) -> Result<Trigger, Fault> {
        if self.points.len() > POINTS_MAX {
            return Err(Fault::too_large(format!("trigger.periodical.points: at most {POINTS_MAX}")));
        }
        let parts = PeriodicalParts {
            start: instant("trigger.periodical.start", &self.start)?,
            end: instant("trigger.periodical.end", &self.end)?,
            second: time_of_day(&self.time)?,
            unit: self.unit()?,
            frequency: self.frequency,
            zone: &self.tz,
        };
        Ok(Trigger::Periodical(Box::new(Periodical::new(&parts)?)))
    }

    fn unit(&self) -> Result<Unit, Invalid> {
        let wrong = |problem: &str| Invalid::new("trigger.periodical.points", problem);
        let points = self.points.iter();
        match self.unit {
            UnitWord::Day if self.points.is_empty() => Ok(Unit::Day),
            UnitWord::Day => Err(wrong("not with unit day")),
            UnitWord::Week => points
                .map(|point| match point {
                    Point::Weekday(word) => WEEKDAYS.iter().position(|day| day == word),
                    Point::Day(_) => None,
                })
                .try_fold(0, |days, day| day.map(|day| days | 1 << day))
                .map(Unit::Week)
                .ok_or_else(|| wrong("must be MON, TUE, WED, THU, FRI, SAT or SUN")),
            UnitWord::Month => points
                .map(|point| match point {
                    Point::Day(day @ 1..=31) => Some(day - 1),
                    _ => None,
                })
                .try_fold(0, |days, day| day.map(|day| days | 1 << day))
                .map(Unit::Month)
                .ok_or_else(|| wrong("must be 1 to 31")),
        }
    }

    fn of(parts: &PeriodicalParts<'_>) -> PeriodicalField {
        let (unit, points) = match parts.unit {
            Unit::Day => (UnitWord::Day, Vec::new()),
            Unit::Week(days) => {
                let some = WEEKDAYS.iter().enumerate().filter(|(bit, _)| days & (1 << bit) != 0);
                (UnitWord::Week, some.map(|(_, word)| Point::Weekday((*word).to_owned())).collect())
            }
            Unit::Month(days) => {
                let some = (1..=31).filter(|day| days & (1 << (day - 1)) != 0);
                (UnitWord::Month, some.map(Point::Day).collect())
            }
        };
        let (hours, minutes, seconds) = (parts.second / 3600, parts.second / 60 % 60, parts.second % 60);
        PeriodicalField {
            start: rfc3339(parts.start),
            end: rfc3339(parts.end),
            time: format!("{hours:02}:{minutes:02}:{seconds:02}"),
            unit,
            frequency: parts.frequency,
            points,
            tz: parts.zone.to_owned(),
        }
    }
}

/// Seconds after midnight of `HH:MM:SS`.
fn time_of_day(text: &str) -> Result<u32, Invalid> {
    let part = |at: usize, below: u32| -> Option<u32> {
        let digits = text.get(at..at + 2).filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))?;
        digits.parse().ok().filter(|number| *number < below)
    };
    let shaped = text.len() == 8 && text.as_bytes()[2] == b':' && text.as_bytes()[5] == b':';
    let read = || Some(part(0, 24)? * 3600 + part(3, 60)? * 60 + part(6, 60)?);
    let problem = "must be a time of day, 00:00:00 to 23:59:59";
    shaped.then(read).flatten().ok_or_else(|| Invalid::new("trigger.periodical.time", problem))
}

/// A name that people call a schedule by.
pub(super) fn name(text: &str) -> Result<Box<str>, Invalid> {
    if text.is_empty() || text.len() > SCHEDULE_NAME_BYTES_MAX || text.contains(char::is_control) {
        let problem = format!("must be 1 to {SCHEDULE_NAME_BYTES_MAX} bytes without control characters");
        return Err(Invalid::new("name", problem));
    }
    Ok(text.into())
}

/// A push that can be pushed at `at`, to be stored as it was written.
///
/// # Errors
/// 400 naming the field, 413 for what is too long.
pub(super) fn stored(request: PushRequest, text: &RawValue, at: WallMs) -> Result<Bytes, Fault> {
    request.into_push(TraceId(0), at)?;
    bounded(Bytes::copy_from_slice(text.get().as_bytes()))
}

/// A push as it was written, if that is not too long.
pub(super) fn bounded(text: Bytes) -> Result<Bytes, Fault> {
    let bytes = text.len();
    if bytes > SCHEDULED_PUSH_BYTES_MAX {
        let text = format!("at most {SCHEDULED_PUSH_BYTES_MAX} bytes as sent for a push later, are {bytes}");
        return Err(Fault::too_large(text));
    }
    Ok(text)
}

/// Reads a stored push as it was read when it came; what it says of `send_at` is over.
///
/// # Errors
/// What a run says of it: `expired`, or `invalid` where this version does not take what an older one took.
pub(in crate::api) fn read(json: &[u8], trace: TraceId, now: WallMs) -> Result<Push, &'static str> {
    let refused = |fault: Fault| {
        tracing::warn!(?fault, %trace, "the push of a schedule cannot be pushed");
        "invalid"
    };
    let request: PushRequest = parse(json).map_err(refused)?;
    if request.has_expired(now) {
        return Err("expired");
    }
    request.into_push(trace, now).map_err(refused)
}
