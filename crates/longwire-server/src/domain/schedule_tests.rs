#![allow(clippy::unwrap_used)]
use super::*;

fn at(text: &str) -> WallMs {
    instant(text).unwrap_or_else(|| panic!("{text}"))
}

fn trigger(
    start: &str,
    end: &str,
    time: &str,
    unit: Unit,
    frequency: u16,
    zone: &str,
) -> Result<Trigger, Invalid> {
    let parts: Vec<u32> = time.split(':').map(|part| part.parse().unwrap()).collect();
    let second = parts[0] * 3600 + parts[1] * 60 + parts[2];
    let parts = PeriodicalParts { start: at(start), end: at(end), second, unit, frequency, zone };
    Ok(Trigger::Periodical(Box::new(Periodical::new(&parts)?)))
}

/// All occurrences, in UTC to the second.
fn all(trigger: &Trigger) -> Vec<String> {
    let mut found = Vec::new();
    let mut after = WallMs(0);
    while let Some(next) = trigger.next_after(after) {
        let ms = i64::try_from(next.0).unwrap();
        found.push(Timestamp::from_millisecond(ms).unwrap().to_string());
        after = next;
    }
    found
}

#[test]
fn a_time_that_does_not_exist_is_the_end_of_the_gap_and_one_that_exists_twice_fires_once() {
    let daily = |zone, time, start, end| all(&trigger(start, end, time, Unit::Day, 1, zone).unwrap());
    // Spring in Berlin: 02:00 becomes 03:00 at 01:00 UTC.
    assert_eq!(
        daily("Europe/Berlin", "02:30:00", "2026-03-28T00:00:00+01:00", "2026-03-31T00:00:00+02:00"),
        ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]
    );
    // The first local time that is missing, and the first that is there again.
    for time in ["02:00:00", "02:59:59", "03:00:00"] {
        let found = daily("Europe/Berlin", time, "2026-03-29T00:00:00+01:00", "2026-03-29T12:00:00+02:00");
        assert_eq!(found, ["2026-03-29T01:00:00Z"], "{time}");
    }
    // Autumn in Berlin: 02:00 to 03:00 comes twice; the first time is summer time.
    assert_eq!(
        daily("Europe/Berlin", "02:30:00", "2026-10-24T00:00:00+02:00", "2026-10-26T12:00:00+01:00"),
        ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
    );
    // Half an hour on Lord Howe.
    assert_eq!(
        daily("Australia/Lord_Howe", "02:15:00", "2026-10-04T00:00:00+10:30", "2026-10-04T23:00:00+11:00"),
        ["2026-10-03T15:30:00Z"]
    );
    // Midnight itself is missing in Beirut's spring.
    assert_eq!(
        daily("Asia/Beirut", "00:00:00", "2026-03-28T12:00:00+02:00", "2026-03-30T12:00:00+03:00"),
        ["2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z"]
    );
    // Samoa skipped the whole 30th: it fires as the 31st begins.
    assert_eq!(
        daily("Pacific/Apia", "09:00:00", "2011-12-29T00:00:00-10:00", "2011-12-31T23:00:00+14:00"),
        ["2011-12-29T19:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T19:00:00Z"]
    );
}

#[test]
fn days_weeks_and_months_are_counted_from_the_start() {
    let found =
        |unit, frequency, start, end| all(&trigger(start, end, "08:00:00", unit, frequency, "UTC").unwrap());
    assert_eq!(
        found(Unit::Day, 3, "2026-01-01T09:00:00Z", "2026-01-10T08:00:00Z"),
        ["2026-01-04T08:00:00Z", "2026-01-07T08:00:00Z", "2026-01-10T08:00:00Z"]
    );
    // From Wednesday 2026-01-07, Mondays and Fridays of every second week.
    assert_eq!(
        found(Unit::Week(0b1_0001), 2, "2026-01-07T00:00:00Z", "2026-02-06T08:00:00Z"),
        [
            "2026-01-09T08:00:00Z",
            "2026-01-19T08:00:00Z",
            "2026-01-23T08:00:00Z",
            "2026-02-02T08:00:00Z",
            "2026-02-06T08:00:00Z"
        ]
    );
    assert_eq!(
        found(Unit::Month(1 << 30 | 1 << 28), 1, "2028-01-30T00:00:00Z", "2028-04-30T00:00:00Z"),
        [
            "2028-01-31T08:00:00Z",
            "2028-02-29T08:00:00Z",
            "2028-03-29T08:00:00Z",
            "2028-03-31T08:00:00Z",
            "2028-04-29T08:00:00Z"
        ]
    );
    assert_eq!(
        found(Unit::Month(1), 5, "2026-11-15T00:00:00Z", "2027-10-01T00:00:00Z"),
        ["2027-04-01T08:00:00Z", "2027-09-01T08:00:00Z"]
    );
}

#[test]
fn of_what_was_missed_the_last_one_counts() {
    let daily =
        trigger("2026-01-01T00:00:00Z", "2026-12-31T00:00:00Z", "08:00:00", Unit::Day, 1, "UTC").unwrap();
    let due = at("2026-01-01T08:00:00Z");
    for (now, last) in [
        ("2026-01-01T08:00:00Z", "2026-01-01T08:00:00Z"),
        ("2026-01-02T07:59:59Z", "2026-01-01T08:00:00Z"),
        ("2026-06-05T08:00:00Z", "2026-06-05T08:00:00Z"),
        ("2030-01-01T00:00:00Z", "2026-12-30T08:00:00Z"),
    ] {
        assert_eq!(daily.last_missed(due, at(now)), at(last), "{now}");
    }
    assert_eq!(Trigger::Single(due).last_missed(due, at("2027-01-01T00:00:00Z")), due);
    assert_eq!(Trigger::Single(due).next_after(due), None);
}

#[test]
fn what_can_never_fire_or_is_out_of_bounds_is_refused() {
    let (start, end) = ("2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z");
    let bad = |start, end, time, unit, frequency, zone| {
        trigger(start, end, time, unit, frequency, zone).unwrap_err()
    };
    for (field, fault) in [
        ("end", bad(end, start, "08:00:00", Unit::Day, 1, "UTC")),
        ("end", bad(start, "2036-03-01T00:00:00Z", "08:00:00", Unit::Day, 1, "UTC")),
        ("time", bad(start, end, "24:00:00", Unit::Day, 1, "UTC")),
        ("frequency", bad(start, end, "08:00:00", Unit::Day, 0, "UTC")),
        ("frequency", bad(start, end, "08:00:00", Unit::Day, 101, "UTC")),
        ("points", bad(start, end, "08:00:00", Unit::Week(0), 1, "UTC")),
        ("points", bad(start, end, "08:00:00", Unit::Month(1 << 31), 1, "UTC")),
        ("tz", bad(start, end, "08:00:00", Unit::Day, 1, "Mars/Olympus")),
        ("tz", bad(start, end, "08:00:00", Unit::Day, 1, "")),
    ] {
        assert_eq!(fault.field, format!("trigger.periodical.{field}"), "{fault}");
    }
    // February has no 30th.
    assert_eq!(bad(start, end, "08:00:00", Unit::Month(1 << 29), 1, "UTC").field, "trigger.periodical");
}

#[test]
fn times_are_rfc_3339_with_an_offset() {
    assert_eq!(instant("2026-11-21T10:30:00+08:00"), instant("2026-11-21T02:30:00Z"));
    assert_eq!(instant("1970-01-01T00:00:00.123Z"), Some(WallMs(123)));
    for bad in [
        "",
        "tomorrow",
        "2026-11-21",
        "2026-11-21T10:30:00",
        "2026-11-21 10:30:00Z",
        "2026-11-21T10:30Z",
        "2026-11-21T10:30:00+08",
        "2026-11-21T10:30:00+08:00[Asia/Shanghai]",
        "2026-13-21T10:30:00Z",
        "2026-11-21T25:30:00Z",
        "1969-12-31T23:59:59Z",
        "+002026-11-21T10:30:00Z",
        "1799999999",
    ] {
        assert_eq!(instant(bad), None, "{bad}");
    }
}
