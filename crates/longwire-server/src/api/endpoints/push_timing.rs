//! The fields of a push that speak of time.

use crate::api::exchange::fault::Fault;
use crate::domain::message::{Spread, TTL_S_DEFAULT, TTL_S_MAX};
use crate::domain::{Audience, Invalid, WallMs, schedule};

/// Devices a second at most.
pub(super) const SPEED_MAX: u32 = 1_000_000;
/// Minutes of a spread push at most: a day.
pub(super) const DURATION_MIN_MAX: u32 = 1440;

/// A time in RFC 3339.
pub(super) fn instant(field: &str, text: &str) -> Result<WallMs, Fault> {
    let problem = "must be a time in RFC 3339 with an offset, as 2026-11-21T10:30:00+08:00";
    schedule::instant(text).ok_or_else(|| Invalid::new(field, problem).into())
}

/// Seconds to live from `now` on. A message lives whole seconds: one that is to expire within a second lives a second.
pub(super) fn ttl_s(ttl: Option<u64>, expire_at: Option<&str>, now: WallMs) -> Result<u32, Fault> {
    let ttl = match (ttl, expire_at) {
        (Some(_), Some(_)) => {
            return Err(Fault::invalid(
                "options.time_to_live, options.expire_at: only one of them may be given",
            ));
        }
        (ttl, None) => ttl.unwrap_or(u64::from(TTL_S_DEFAULT)).min(u64::from(TTL_S_MAX)),
        (None, Some(text)) => {
            let at = instant("options.expire_at", text)?;
            if at <= now {
                return Err(Invalid::new("options.expire_at", "has passed").into());
            }
            let left = (at.0 - now.0).div_ceil(1000);
            if left > u64::from(TTL_S_MAX) {
                return Err(Invalid::new("options.expire_at", "is more than 30 days ahead").into());
            }
            left
        }
    };
    Ok(ttl as u32)
}

/// How it is spread, if it is.
pub(super) fn spread(speed: Option<u32>, minutes: Option<u32>) -> Result<Option<Spread>, Fault> {
    match (speed, minutes) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(Fault::invalid("speed, big_push_duration: only one of them may be given")),
        (Some(speed), None) if (1..=SPEED_MAX).contains(&speed) => Ok(Some(Spread::Speed(speed))),
        (None, Some(minutes)) if (1..=DURATION_MIN_MAX).contains(&minutes) => {
            Ok(Some(Spread::Duration(minutes * 60)))
        }
        (Some(_), None) => Err(Fault::invalid(format!("speed: must be 1 to {SPEED_MAX} devices a second"))),
        (None, Some(_)) => {
            Err(Fault::invalid(format!("big_push_duration: must be 1 to {DURATION_MIN_MAX} minutes")))
        }
    }
}

/// Whether a push can be spread: it goes to the log, and is stored.
pub(super) fn can_be_spread(audience: &Audience, ttl_s: u32) -> Result<(), Fault> {
    let names_devices = audience.is_addressed() || audience.topic.is_some();
    if names_devices || audience.online_only || ttl_s == 0 {
        let problem = "only for all, tags and conditions, with a ttl above 0";
        return Err(Invalid::new("options.speed, options.big_push_duration", problem).into());
    }
    Ok(())
}
